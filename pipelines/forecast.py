"""The forecasting job: fit, compare with a seasonal-naive forecast on a held-out tail, forecast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from titans_ts.datasets.atomic import replace_file
from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.frequency import usual_season

__all__ = ["ForecastJob", "run_forecast", "write_forecast"]


@dataclass(frozen=True)
class ForecastJob:
    """The results of a forecast."""

    history: pd.DataFrame
    """The series `[T, C]`."""
    forecast: pd.DataFrame
    """Mean forecast `[H, C]` after the end of the series."""
    quantiles: pd.DataFrame
    """Quantile forecasts, with columns (variate, quantile)."""
    backcast: pd.DataFrame
    """Mean forecast `[H, C]` of the last rows of history, which were not used for training."""
    errors: pd.DataFrame
    """Mean absolute errors on the held-out tail: a row per variate, columns titans, seasonal naive."""
    n_windows: int
    """Number of forecasts in these errors."""
    season_length: int
    """Steps in the season of the seasonal-naive forecast."""
    forecaster: TitansForecaster
    """The fitted model."""

    @property
    def improvement(self) -> float:
        """Mean relative reduction of the seasonal-naive error over the variates (0.2 = 20 %).

        Variates with a seasonal-naive error of 0 are ignored; NaN if no other variate is left.
        """
        errors = self.errors[self.errors["seasonal naive"] > 0]
        return float(1 - (errors["titans"] / errors["seasonal naive"]).mean())


def run_forecast(
    frame: pd.DataFrame,
    forecaster: TitansForecaster,
    *,
    season_length: int | None = None,
    test_fraction: float = 0.1,
) -> ForecastJob:
    """Fit on all rows but a tail, measure the forecasts of the tail, and forecast the next steps.

    Parameters
    ----------
    frame : DataFrame
        A wide frame with a regular index.
    forecaster : TitansForecaster
        The forecaster to fit.
    season_length : int, optional
        Steps in a season; default: the usual season of the index's frequency, or 1 if that is longer
        than the training rows.
    test_fraction : float
        Share of the rows in the tail (default 0.1; at least one forecast).

    Raises
    ------
    ValueError
        If the series is too short.
    """
    shortest = forecaster.network_config()  # None is chosen by the fit
    horizon, context = shortest.prediction_length, shortest.context_length
    n_test = max(int(test_fraction * len(frame)), horizon)
    n_train = len(frame) - n_test
    if n_train < context + horizon:
        raise ValueError(
            f"the series has {len(frame)} rows; holding out {n_test} leaves {n_train}, and "
            f"{context + horizon} are needed (shorten prediction_length or context_length)"
        )
    if season_length is None:
        season_length = usual_season(getattr(frame.index, "freq", None))
        season_length = season_length if season_length <= n_train else 1
    if season_length > n_train:
        raise ValueError(
            f"season_length is {season_length}, but only {n_train} rows come before the held-out "
            "tail; give a shorter one"
        )
    forecaster.fit(frame.iloc[:n_train])
    forecaster.set_history(frame)

    rows = forecaster.model_.config.context_length, forecaster.predictor.blend_rows
    before = max(*rows, season_length)
    backtest = forecaster.backtest(
        frame.iloc[max(0, n_train - before) :],
        stride=1,
        n_windows=n_test - horizon + 1,
        season_length=season_length,
        progress_bar=False,
    )
    errors = backtest.metrics(by="variate")["mae"].unstack("model")
    return ForecastJob(
        history=frame,
        forecast=forecaster.predict(),
        quantiles=forecaster.predict_quantiles(),
        backcast=forecaster.predict(frame.iloc[:-horizon]),
        errors=errors.loc[list(frame.columns), ["titans", "seasonal_naive"]]
        .rename(columns={"seasonal_naive": "seasonal naive"})
        .rename_axis(index=None, columns=None),
        n_windows=backtest.n_windows,
        season_length=season_length,
        forecaster=forecaster,
    )


def write_forecast(
    job: ForecastJob, folder: str | Path, report: str | Path | None = None
) -> list[Path]:
    """Write `forecast.csv`, `forecast.png` and, with `--report`, an HTML report.

    Returns
    -------
    list of Path
        The files written.
    """
    from titans_ts.reporting.html import forecast_report
    from titans_ts.reporting.plots import (  # matplotlib takes a second to import
        figure_png,
        plot_forecast,
    )

    folder = Path(folder)
    table, picture = folder / "forecast.csv", folder / "forecast.png"
    replace_file(table, _table(job).to_csv(float_format="%.10g").encode())
    shown = job.forecaster.model_.config.context_length
    if not job.forecaster.history_:  # the pretrained model reads all rows
        shown = 4 * max(job.season_length, len(job.forecast))
    figure = plot_forecast(job.history, job.forecast, job.quantiles, job.backcast, shown)
    drawn = figure_png(figure)
    replace_file(picture, drawn)
    written = [table, picture]
    if report is not None:
        replace_file(report, forecast_report(job, drawn).encode())
        written.append(Path(report))
    return written


def _table(job: ForecastJob) -> pd.DataFrame:
    """Return mean and quantiles side by side: `x`, `x_q0.1`, ..."""
    columns: dict[Any, Any] = {}
    for variate in job.forecast:
        columns[variate] = job.forecast[variate]
        for level, values in job.quantiles[variate].items():
            columns[f"{variate}_q{level:g}"] = values
    return pd.DataFrame(columns).rename_axis(job.history.index.name or "step")
