"""Rolling forecasts of a forecaster and of baselines, and their errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.config import ForecasterConfig, check_integer
from titans_ts.estimator import plain
from titans_ts.forecasting.baselines import seasonal_naive
from titans_ts.forecasting.cutoffs import cutoffs, targets
from titans_ts.forecasting.drawing import backtest_charts, quantile_bands
from titans_ts.forecasting.intervals import check_interval, conformity, rolling_margins, widen
from titans_ts.forecasting.metrics import (
    continuous_ranked_probability_score,
    coverage,
    interval_width,
    mean_absolute_error,
    mean_absolute_scaled_error,
    mean_squared_error,
    seasonal_error,
    symmetric_mean_absolute_percentage_error,
    weighted_quantile_loss,
)
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.stateful import STREAMS

if TYPE_CHECKING:
    from titans_ts.reporting.charts import Chart

__all__ = [
    "FEWEST",
    "METRICS",
    "Backtest",
    "baselines",
    "rolling_backtest",
    "rolling_r2",
    "seasonal_errors",
]

Array = NDArray[np.float64]
_AXES = ("window", "item", "step", "variate")
_BLOCK = 2**20
"""Number of values of the histories that :func:`seasonal_errors` reads at a time."""

METRICS = (
    "mae",
    "mse",
    "rmse",
    "mase",
    "smape",
    "wql",
    "crps",
    "coverage",
    "width",
)
"""Columns of :meth:`Backtest.metrics`."""


FEWEST = 10
"""Fewest forecasts without overlap from which a comparison is drawn."""


@dataclass(frozen=True, repr=False)
class Backtest:
    """Forecasts of W windows of I items, and the observed values; shown as a table of the errors.

    Attributes
    ----------
    actual : ndarray
        The observed values `[W, I, H, C]`; NaN is missing.
    forecasts : dict of str to ndarray
        The point forecasts `[W, I, H, C]` of every model: `titans`, then the baselines.
    quantiles : ndarray
        The quantiles `[W, I, H, C, Q]` that `titans` forecasts.
    levels : tuple of float
        The levels of these Q quantiles.
    scale : ndarray
        `[I, C]`, the mean absolute seasonal difference before the first window, which the MASE divides
        by.
    panel, cutoffs
        The series, and the first row that every window forecasts, `[W, I]`; -1 where an item has no
        window.
    stride : int
        Number of rows between the starts of two windows (default 1).
    least : float
        The smallest possible value: 0 for counts (default: none).
    n_fitted : int
        Number of forecasts, over all items, that begin within rows that the model was fitted to
        (default 0).
    """

    actual: Array
    forecasts: dict[str, Array]
    quantiles: Array
    levels: tuple[float, ...]
    scale: Array
    panel: Panel = field(repr=False)
    cutoffs: NDArray[np.int64] = field(repr=False)
    stride: int = 1
    least: float = -np.inf
    n_fitted: int = 0

    @property
    def n_windows(self) -> int:
        """W."""
        return len(self.actual)

    def __repr__(self) -> str:
        table = self.metrics().to_string(float_format="{:.4g}".format)
        return "\n".join([self._head(), table, *self._notes()])

    def _repr_html_(self) -> str:
        table = self.metrics().to_html(border=0, float_format="{:.4g}".format)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self._notes())
        return f"<p>{escape(self._head())}</p>{table}{notes}"

    @property
    def n_independent(self) -> int:
        """Number of forecasts that do not overlap, over all items."""
        H = self.actual.shape[2]
        rows = (np.sum(self.cutoffs >= 0, 0) - 1) * min(self.stride, H) + H
        return int(np.sum(np.where((self.cutoffs >= 0).any(0), rows // H, 0)))

    def fitted_note(self) -> str:
        """Return how many forecasts are of fitted rows, and what to do about it."""
        n = int((self.cutoffs >= 0).sum())
        return (
            f"{self.n_fitted} of {n} forecasts begin within the rows that the model was fitted to, and "
            "look too good; give later rows, or fit again on the way (refit)"
        )

    def _notes(self) -> list[str]:
        """What has to be known to read the table of errors."""
        notes = [self.fitted_note()] if self.n_fitted else []
        if self.n_independent < FEWEST:
            notes.append(
                f"too few to tell: {self.n_independent} of the forecasts do not overlap, and {FEWEST} "
                "are needed"
            )
        errors = self.metrics(by=("item", "variate")).loc["titans"]
        left_out = errors.index[errors["mae"].notna() & errors["mase"].isna()]
        if len(left_out):
            long = self.panel.items is not None
            names = [" ".join(map(str, label if long else label[1:])) for label in left_out[:5]]
            names += ["..."] * (len(left_out) > 5)
            notes.append(
                "not in the mean MASE, because a seasonal naive forecast of their past makes no error: "
                + ", ".join(names)
            )
        return notes

    def _head(self) -> str:
        W, n_items, H, C = self.actual.shape
        counts = {
            "windows": W,
            "items": n_items if self.panel.items is not None else 0,
            "steps": H,
            "variates": C,
        }
        parts = [f"{n:,} {name[: None if n > 1 else -1]}" for name, n in counts.items() if n]
        return f"Backtest: {', '.join(parts)}; errors of the forecasts and of baselines"

    def plot(
        self,
        *,
        item: Any = None,
        n_windows: int = 8,
        max_variates: int = 8,
        interactive: bool = False,
    ) -> Any:
        """Draw the last forecasts that do not overlap, with their outermost quantiles.

        Parameters
        ----------
        item : optional
            Which item of a long frame (default: the first one that has a forecast).
        n_windows : int
            Number of forecasts at most (default 8).
        max_variates : int
            Number of panels at most, one per variate (default 8).
        interactive : bool
            Whether to return a figure of plotly, to hover over and to zoom (default False).

        Returns
        -------
        Figure
            The figure of matplotlib or plotly, neither shown nor saved.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is needed and not installed.
        ValueError
            If there is no such item, or it has no forecast.
        """
        check_integer("n_windows", plain(n_windows), 1)
        check_integer("max_variates", plain(max_variates), 1)
        from titans_ts.reporting.plots import draw_series

        charts = self.charts(item=item, n_windows=n_windows, max_variates=max_variates)
        return draw_series(charts, self.panel.n_targets - len(charts), interactive=interactive)

    def charts(self, *, item: Any = None, n_windows: int = 8, max_variates: int = 8) -> list[Chart]:
        """Return the charts that :meth:`plot` draws, as data; the parameters are the same."""
        point = self.forecasts["titans"]
        bands = quantile_bands(self.quantiles, self.levels, point)
        return backtest_charts(
            self.panel, self.cutoffs, point, bands, item, n_windows, max_variates
        )

    def metrics(self, by: str | tuple[str, ...] | list[str] = ()) -> pd.DataFrame:
        """Return the errors of every model.

        Parameters
        ----------
        by : str or sequence of str
            Any of "window", "item", "step" (of the horizon) and "variate": the frame has a row for each
            of their values. Default: one row per model.

        Returns
        -------
        DataFrame
            Rows (`model`, *by), columns :data:`METRICS`: MAE, MSE, RMSE, MASE, sMAPE (0 to 2), weighted
            quantile loss, CRPS, coverage and mean width of the interval between the outermost quantiles.
            A baseline's quantiles are all equal to its point forecast, and it has no interval.
        """
        by = (by,) if isinstance(by, str) else tuple(by)
        for name in by:
            if name not in _AXES:
                raise ValueError(f"by is {by!r}; give any of {list(_AXES)}")
        axes = tuple(i for i, name in enumerate(_AXES) if name not in by)
        kept = [name for name in _AXES if name in by]
        labels = self._labels()
        scale = np.broadcast_to(self.scale[None, :, None], self.actual.shape)
        # all models on the same values: those that every one of them forecasts
        known = ~np.isnan(np.sum(list(self.forecasts.values()), 0))
        actual = np.where(known, self.actual, np.nan)
        parts = {}
        for model, point in self.forecasts.items():
            ours = model == "titans" and self.levels
            quantiles = self.quantiles if ours else point[..., None]
            levels = self.levels if ours else (0.5,)
            mse = mean_squared_error(actual, point, axes)
            smape = symmetric_mean_absolute_percentage_error(actual, point, axes)
            columns = {
                "mae": mean_absolute_error(actual, point, axes),
                "mse": mse,
                "rmse": np.sqrt(mse),
                "mase": mean_absolute_scaled_error(actual, point, scale, axes),
                "smape": smape,
                "wql": weighted_quantile_loss(actual, quantiles, levels, axes),
                "crps": continuous_ranked_probability_score(actual, quantiles, levels, axes),
                "coverage": np.full_like(mse, np.nan),
                "width": np.full_like(mse, np.nan),
            }
            if ours and len(levels) > 1:
                low, high = self.quantiles[..., 0], self.quantiles[..., -1]
                columns["coverage"] = coverage(actual, low, high, axes)
                columns["width"] = interval_width(low, high, axes)
            frame = pd.DataFrame({k: np.ravel(v) for k, v in columns.items()})
            if kept:
                frame.index = pd.MultiIndex.from_product([labels[k] for k in kept], names=kept)
            parts[model] = frame
        frame = pd.concat(parts, names=["model"])
        return frame if kept else frame.droplevel(1)

    def adaptive_interval(
        self, coverage: float = 0.9, *, calibration_windows: int = 500, recalibrate_every: int = 1
    ) -> tuple[Array, Array]:
        """Return intervals that are calibrated, each on the forecasts whose values were known by then.

        Every step, item and variate is calibrated separately. The result is what
        :meth:`TitansForecaster.predict_interval` returns if :meth:`TitansForecaster.calibrate` is
        called at every window. The first `calibration_windows` windows are used for calibration only.

        Parameters
        ----------
        coverage : float
            Between 0 and 1 (default 0.9).
        calibration_windows : int
            Number of latest windows to calibrate on (default 500). It must be less than the number of
            windows.
        recalibrate_every : int
            Number of windows between two calibrations (default 1).

        Returns
        -------
        tuple of ndarray
            Lower and upper ends, `[W - calibration_windows, I, H, C]` each.

        Raises
        ------
        ValueError
            If `calibration_windows` is too large, or the model has fewer than two quantiles.
        """
        n = calibration_windows
        if not 0 < n < self.n_windows:
            raise ValueError(
                f"calibration_windows is {n!r}; give a number between 1 and {self.n_windows - 1}, one "
                "less than the windows of the backtest"
            )
        check_interval(self.levels)
        low, high = self.quantiles[..., 0], self.quantiles[..., -1]
        scores = conformity(self.actual, low, high).swapaxes(1, 2)  # [W, H, I, C]
        added = rolling_margins(scores[n:], scores[:n], coverage, self.stride, recalibrate_every)
        point = self.forecasts["titans"][n:]
        return widen(self.quantiles[n:], added.swapaxes(1, 2), point, self.least)

    def frame(self) -> pd.DataFrame:
        """Return a frame with a row per forecast value.

        Its columns are window, item (of a long frame), step, variate, the time, the actual value, the
        forecasts of every model, and the quantiles.
        """
        labels = self._labels()
        index = pd.MultiIndex.from_product([labels[k] for k in _AXES], names=_AXES)
        columns: dict[Any, Any] = {"actual": self.actual.ravel()}
        columns |= {model: point.ravel() for model, point in self.forecasts.items()}
        for i, level in enumerate(self.levels):
            columns[f"q{level:g}"] = self.quantiles[..., i].ravel()
        frame = pd.DataFrame(columns, index).reset_index()
        rows = self.cutoffs[:, :, None] + np.arange(self.actual.shape[2])  # [W, I, H]
        n_variates = self.actual.shape[3]
        if self.panel.index is None:
            places: Any = np.where(rows < 0, -1, rows).repeat(n_variates)
        else:
            places = self.panel.index[np.clip(rows, 0, len(self.panel.index) - 1).ravel()]
            places = places.repeat(n_variates)
        frame.insert(3, self.panel.roles.timestamp, places)
        known = (self.cutoffs >= 0).repeat(frame.shape[0] // self.cutoffs.size)
        frame = frame[known].reset_index(drop=True)
        if self.panel.items is None:
            return frame.drop(columns="item")
        return frame.rename(columns={"item": self.panel.roles.item_id})

    def _labels(self) -> dict[str, Any]:
        windows, items, steps, variates = self.actual.shape
        columns = self.panel.columns
        return {
            "window": range(windows),
            "item": range(items) if self.panel.items is None else self.panel.items,
            "step": range(1, steps + 1),
            "variate": range(variates) if columns is None else columns,
        }


def rolling_backtest(
    panel: Panel,
    cuts: NDArray[np.int64],
    config: ForecasterConfig,
    forecast: Callable[[NDArray[np.int64]], tuple[Array, Array]],
    *,
    season: int,
    stride: int,
    refit: int | None = None,
    n_fitted: int = 0,
) -> Backtest:
    """Compare forecasts, and those of the baselines, with the observed values.

    Parameters
    ----------
    panel : Panel
        The series.
    cuts : ndarray
        First rows to forecast, `[W, I]`.
    config : ForecasterConfig
        The configuration of the forecaster.
    forecast : callable
        Returns means `[w, I, H, C]` and quantiles `[w, I, H, C, Q]` from cutoffs `[w, I]`.
    season, stride : int
        Number of steps in a season, and of rows between the starts of two windows.
    refit : int, optional
        Number of windows in a call of `forecast` (default: all).
    n_fitted : int
        Number of forecasts that begin within fitted rows (default 0).
    """
    size = len(cuts) if refit is None else refit
    parts = [forecast(cuts[start : start + size]) for start in range(0, len(cuts), size)]
    points, quantiles = zip(*parts, strict=True)
    H = config.prediction_length
    return Backtest(
        targets(panel, cuts, H),
        {"titans": np.concatenate(points), **baselines(panel, cuts, H, season)},
        np.concatenate(quantiles),
        config.quantile_levels,
        seasonal_errors(panel, cuts, season),
        panel,
        cuts,
        stride,
        0.0 if config.output == "negative_binomial" else -np.inf,
        n_fitted,
    )


def rolling_r2(predictor: PanelPredictor, panel: Panel) -> float:
    """Return R^2 of the forecasts of every window of a panel, averaged over variates and items.

    Raises
    ------
    ValueError
        If no value was observed.
    """
    config = predictor.config
    L, H = config.context_length, config.prediction_length
    cuts = cutoffs(panel, L, H, 1)
    size = len(cuts) if config.stateful_windows else STREAMS
    shape = (panel.n_items, config.n_variates)
    count, total, squares, residual = (np.zeros(shape) for _ in range(4))
    for start in range(0, len(cuts), size):
        batch = cuts[start : start + size]
        point, _ = predictor.rolling(panel, batch)
        future = targets(panel, batch, H)
        error = future - point  # [W, I, H, C]
        seen = ~np.isnan(error)
        actual = np.where(seen, future, 0)
        count += seen.sum((0, 2))
        total += actual.sum((0, 2))
        squares += (actual**2).sum((0, 2))
        residual += np.where(seen, error**2, 0).sum((0, 2))
    if not count.any():
        raise ValueError("X has no observed value to compare forecasts with; give rows with values")
    seen = count > 0
    variance = squares[seen] - total[seen] ** 2 / count[seen]
    # a constant variate: 1 for exact forecasts, otherwise 0, as scikit-learn's r2_score
    flat = variance <= 1e-12 * np.maximum(squares[seen], 1)
    r2 = 1 - residual[seen] / np.where(flat, 1, variance)
    return float(np.where(flat, residual[seen] == 0, r2).mean())


def baselines(panel: Panel, cuts: NDArray[np.int64], horizon: int, season: int) -> dict[str, Array]:
    """Return naive, seasonal naive and drift forecasts from `cuts` `[W, I]`, `[W, I, H, C]` each.

    They are defined as in :mod:`titans_ts.forecasting.baselines`, and computed for all windows at once.
    If a history is shorter than a season, the seasonal naive forecast repeats the whole history.
    """
    C = panel.n_targets
    starts, known = panel.starts[:-1], cuts >= 0
    values = panel.values[:, :C]
    row = np.arange(len(values))
    item = np.repeat(np.arange(panel.n_items), np.diff(panel.starts))
    last = np.clip(cuts - 1, 0, None)  # the last row of every history
    latest = _carried(values, item)
    forecasts = {"naive": np.repeat(latest[last][:, :, None], horizon, 2)}
    place = item * season + (row - starts[item]) % season
    steps = np.clip(cuts[..., None] - season + np.arange(horizon) % season, 0, None)
    repeated = _carried(values, place)[np.minimum(steps, len(values) - 1)]
    short = known & (cuts - starts < season)
    for window, i in np.argwhere(short):
        past = values[starts[i] : cuts[window, i]]
        repeated[window, i] = seasonal_naive(past, horizon, len(past))
    forecasts["seasonal_naive"] = repeated
    # the line through the first and the last observed value
    seen = ~np.isnan(values)
    at = np.where(seen, row[:, None], np.nan)
    end = _carried(at, item)[last]  # [W, I, C], NaN where nothing was observed
    begin = np.minimum.reduceat(np.where(seen, row[:, None], len(values) - 1), starts)  # [I, C]
    rise = latest[last] - np.take_along_axis(values, begin, 0)
    slope = rise / np.maximum(end - begin, 1)
    ahead = (cuts[..., None] - end)[:, :, None] + np.arange(horizon)[:, None]
    forecasts["drift"] = latest[last][:, :, None] + slope[:, :, None] * ahead
    for forecast in forecasts.values():
        forecast[~known] = np.nan
    return forecasts


def _carried(values: Array, group: NDArray[np.int64]) -> Array:
    """Return the latest observed value up to every row `[N, C]`, among the rows of its group."""
    return pd.DataFrame(values).groupby(group, sort=False).ffill().to_numpy()


def seasonal_errors(panel: Panel, cuts: NDArray[np.int64], season: int) -> Array:
    """Return the mean absolute seasonal difference of every item before its first window, `[I, C]`.

    For a history that is not longer than a season, it is the mean difference of neighbouring rows. It is
    NaN for an item without a window.
    """
    scale = np.full((panel.n_items, panel.n_targets), np.nan)
    first = panel.starts[:-1]
    rows = np.where(cuts >= 0, cuts, len(panel.values) + 1).min(0) - first
    rows[(cuts < 0).all(0)] = 0
    for length in np.unique(rows[rows > 0]):  # items of one length together
        items = np.flatnonzero(rows == length)
        size = max(1, _BLOCK // (int(length) * panel.n_targets))
        for start in range(0, len(items), size):
            block = items[start : start + size]
            past = panel.values[first[block, None] + np.arange(length), : panel.n_targets]
            scale[block] = seasonal_error(past, season if length > season else 1, axis=1)
    return scale
