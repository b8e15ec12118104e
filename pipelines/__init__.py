"""End-to-end jobs and the `titans-ts` command."""

from titans_ts.pipelines.forecast import ForecastJob, run_forecast, write_forecast
from titans_ts.pipelines.ingest import read_frame

__all__ = ["ForecastJob", "read_frame", "run_forecast", "write_forecast"]
