"""The forecasting job: fit, compare with simple forecasts on a held-out tail, forecast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_ts.datasets.atomic import replace_file
from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.backtest import Backtest
from titans_ts.forecasting.covariates import read_known
from titans_ts.forecasting.frequency import usual_season
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.parse import read_panel
from titans_ts.pipelines.heldout import HeldOut, held_out, with_simple
from titans_ts.pipelines.ingest import Series
from titans_ts.pipelines.outcome import Outcome, forecast_outcome

__all__ = ["ForecastJob", "run_forecast", "write_forecast"]

_MOST_FORECASTS = 1000
"""Number of forecasts of the held-out tail, over all items, at most."""
_DRAWN = 8
"""Number of series in `forecast.png` at most."""


@dataclass(frozen=True)
class ForecastJob:
    """The results of a forecast."""

    history: pd.DataFrame
    """The series: a wide frame `[T, C]`, or a long one."""
    outcome: Outcome
    """The forecast of the steps after the end of the series."""
    panel: Panel
    """The same series as arrays."""
    backtest: Backtest
    """The forecasts of the held-out tail, which was not used for training, beside simple ones."""
    held_out: HeldOut
    """Errors on the held-out tail."""
    forecaster: TitansForecaster
    """The fitted model."""
    summary: str
    """The size of the history in a line."""


def run_forecast(
    frame: pd.DataFrame,
    forecaster: TitansForecaster,
    *,
    season_length: int | None = None,
    test_fraction: float = 0.1,
    coverage: float | None = None,
    future: pd.DataFrame | None = None,
) -> ForecastJob:
    """Fit on all rows but a tail, measure the forecasts of the tail, and forecast the next steps.

    The point forecast is the median.

    Parameters
    ----------
    frame : DataFrame
        A wide frame with a regular index, or a long frame.
    forecaster : TitansForecaster
        The forecaster to fit; its parameters name the columns. The level 0.5 is added to its
        `quantile_levels`.
    season_length : int, optional
        Steps in a season; default: the usual season of the index's frequency, or 1 if that is longer
        than the training rows.
    test_fraction : float
        Share of the rows in the tail (default 0.1; at least one forecast).
    coverage : float, optional
        The share of future values that calibrated intervals contain (default: no such intervals).
    future : DataFrame, optional
        The known covariates of the steps after the end, if the forecaster has any.

    Raises
    ------
    ValueError
        If the series is too short, or the plan of known covariates is missing.
    """
    levels = {round(float(q), 12) for q in forecaster.quantile_levels}
    forecaster.set_params(quantile_levels=tuple(sorted(levels | {0.5})))
    roles = forecaster.roles
    if roles.known_covariates and future is None:
        raise ValueError(
            f"the known covariates {list(roles.known_covariates)} of the next "
            f"{forecaster.prediction_length} steps are missing; give them in a file (--future)"
        )
    long = roles.item_id in frame
    if long:
        frame = frame.sort_values([roles.item_id, roles.timestamp], ignore_index=True)
    panel = read_panel(frame, roles)
    read_known(future, panel, forecaster.prediction_length)  # what is wrong is found before the fit
    n_test, compared = _split(panel, forecaster, test_fraction)
    after = np.concatenate([np.arange(n)[::-1] for n in np.diff(panel.starts)])
    in_tail = (after < n_test) & np.repeat(compared, np.diff(panel.starts))
    n_train = int(np.median(np.diff(panel.starts)[compared])) - n_test
    season_length = _season(panel, season_length, n_train)

    forecaster.fit(frame[~in_tail])
    forecaster.set_history(frame)
    horizon = forecaster.prediction_length
    n_windows = n_test - horizon + 1
    stride = min(horizon, math.ceil(n_windows * int(compared.sum()) / _MOST_FORECASTS))
    backtest = forecaster.backtest(
        frame[np.repeat(compared, np.diff(panel.starts))],
        stride=stride,
        n_windows=(n_windows - 1) // stride + 1,
        season_length=season_length,
        progress_bar=False,
    )
    backtest = with_simple(backtest, season_length)
    margins = None if coverage is None else _margins(forecaster, coverage)[compared]
    return ForecastJob(
        history=frame,
        outcome=forecast_outcome(forecaster, coverage=coverage, future=future),
        panel=panel,
        backtest=backtest,
        held_out=held_out(
            backtest,
            season_length=season_length,
            n_rows=n_test,
            margins=margins,
            coverage_level=coverage,
        ),
        forecaster=forecaster,
        summary=Series(frame, {"target": panel.columns, **_names(panel)}).summary(),
    )


def _names(panel: Panel) -> dict[str, str]:
    return {"item_id": panel.roles.item_id, "timestamp": panel.roles.timestamp}


def _margins(forecaster: TitansForecaster, coverage: float) -> Any:
    try:
        return forecaster.interval_margins(coverage)
    except ValueError as error:
        raise ValueError(
            f"--coverage is {coverage:g}, but an interval cannot be calibrated: the series is too "
            "short; leave --coverage out, or give more rows"
        ) from error


def _split(
    panel: Panel, forecaster: TitansForecaster, test_fraction: float
) -> tuple[int, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return the number of rows to hold out, and which items `[I]` are long enough for that."""
    horizon = forecaster.prediction_length
    rows = np.diff(panel.starts)
    n_test = max(int(test_fraction * np.median(rows)), horizon)
    needed = horizon
    if panel.items is None:
        # a context that is None is chosen by the fit; without a fit any history is enough
        shortest = forecaster.network_config().context_length if forecaster.candidates() else 1
        needed = shortest + (horizon if forecaster.candidates() else 0)
    compared = rows - n_test >= needed
    if not compared.any():
        longest = int(rows.max())
        raise ValueError(
            f"the series has {longest} rows; holding out {n_test} leaves {longest - n_test}, and "
            f"{needed} are needed (shorten --prediction-length or --context-length, or try "
            "--preset zero-shot)"
        )
    return n_test, compared


def _season(panel: Panel, season_length: int | None, n_train: int) -> int:
    if season_length is None:
        season_length = usual_season(panel.freq if panel.timed else None)
        return season_length if season_length <= n_train else 1
    if season_length > n_train:
        raise ValueError(
            f"--season-length is {season_length}, but only {n_train} rows come before the held-out "
            "tail; give a shorter one"
        )
    return season_length


def write_forecast(
    job: ForecastJob,
    folder: str | Path,
    report: str | Path | None = None,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write `forecast.csv`, `errors.csv`, `forecast.png` and, with `report`, an HTML report.

    Without matplotlib, there is no `forecast.png`.

    Parameters
    ----------
    job : ForecastJob
        The result of :func:`run_forecast`.
    folder : str or Path
        Where the files are written.
    report : str or Path, optional
        The file of the report (default: none).
    notes : sequence of str
        What was said while the file was read, for the report (default: nothing).

    Returns
    -------
    list of Path
        The files written.
    """
    from titans_ts.pipelines.report import forecast_page, job_charts

    contents = {
        Path(folder) / "forecast.csv": job.outcome.table().to_csv(
            index=False, float_format="%.10g"
        ),
        Path(folder) / "errors.csv": job.held_out.errors.to_csv(float_format="%.10g"),
    }
    files = {path: text.encode() for path, text in contents.items()}
    if find_spec("matplotlib") is not None:
        from titans_ts.reporting.plots import draw_charts, figure_png

        charts, left_out = job_charts(job, _DRAWN, whole=False)
        title = f"{left_out} more series are not shown" * (left_out > 0)
        files[Path(folder) / "forecast.png"] = figure_png(draw_charts(charts, title=title))
    if report is not None:
        files[Path(report)] = forecast_page(job, notes).encode()
    for path, content in files.items():
        replace_file(path, content)
    return list(files)
