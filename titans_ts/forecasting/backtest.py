"""What a forecaster would have forecast, window after window, beside forecasts that need no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting.baselines import drift, seasonal_naive
from titans_ts.forecasting.intervals import conformity, rolling_margins
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
from titans_ts.forecasting.panel import Panel, Roles

__all__ = ["METRICS", "Backtest", "baselines", "cutoffs", "seasonal_errors", "targets"]

Array = NDArray[np.float64]
_AXES = ("window", "item", "step", "variate")

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


@dataclass(frozen=True)
class Backtest:
    """Forecasts of W windows of I items, and what came.

    Attributes
    ----------
    actual : ndarray
        `[W, I, H, C]`; NaN is missing.
    forecasts : dict of str to ndarray
        Of every model (`titans`, then the baselines) the point forecasts `[W, I, H, C]`.
    quantiles : ndarray
        Of `titans`, `[W, I, H, C, Q]`.
    levels : tuple of float
        Their levels.
    scale : ndarray
        `[I, C]`, mean absolute seasonal difference before the first window, for the MASE.
    panel, cutoffs, roles
        The series, the row that every window forecasts first `[W, I]` (-1: none), and its columns.
    stride : int
        Rows between two windows.
    """

    actual: Array
    forecasts: dict[str, Array]
    quantiles: Array
    levels: tuple[float, ...]
    scale: Array
    panel: Panel = field(repr=False)
    cutoffs: NDArray[np.int64] = field(repr=False)
    roles: Roles = field(repr=False)
    stride: int = 1

    @property
    def n_windows(self) -> int:
        """W."""
        return len(self.actual)

    def metrics(self, by: str | tuple[str, ...] | list[str] = ()) -> pd.DataFrame:
        """Errors of every model.

        Parameters
        ----------
        by : str or sequence of str
            Any of "window", "item", "step" (of the horizon) and "variate": a row for each of them.

        Returns
        -------
        DataFrame
            Rows (`model`, *by), columns :data:`METRICS`: MAE, MSE, RMSE, MASE, sMAPE (0 to 2), weighted
            quantile loss, CRPS, coverage and mean width of the interval between the outermost quantiles.
            A baseline has its point for every quantile, and no interval.
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
        """Intervals that adapt: each is calibrated on the forecasts whose values were known by then.

        Separate for every step, item and variate, as :meth:`TitansForecaster.predict_interval` after a
        :meth:`TitansForecaster.calibrate` at every window. The first `calibration_windows` windows only
        calibrate.

        Parameters
        ----------
        coverage : float
            Between 0 and 1 (default 0.9).
        calibration_windows : int
            Number of latest windows to calibrate on (default 500); fewer than there are windows.
        recalibrate_every : int
            Windows between two calibrations (default 1).

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
        if len(self.levels) < 2:
            raise ValueError(
                "an interval needs two quantiles; fit with two or more quantile_levels"
            )
        low, high = self.quantiles[..., 0], self.quantiles[..., -1]
        scores = conformity(self.actual, low, high).swapaxes(1, 2)  # [W, H, I, C]
        added = rolling_margins(scores[n:], scores[:n], coverage, self.stride, recalibrate_every)
        added = added.swapaxes(1, 2)
        low, high = low[n:], high[n:]
        added = np.maximum(added, (low - high) / 2)  # the ends do not cross
        return low - added, high + added

    def frame(self) -> pd.DataFrame:
        """Every forecast as a row: item, variate, window, step, place, actual, models, quantiles."""
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
        frame.insert(3, self.roles.timestamp, places)
        known = (self.cutoffs >= 0).repeat(frame.shape[0] // self.cutoffs.size)
        frame = frame[known].reset_index(drop=True)
        if self.panel.items is None:
            return frame.drop(columns="item")
        return frame.rename(columns={"item": self.roles.item_id})

    def _labels(self) -> dict[str, Any]:
        windows, items, steps, variates = self.actual.shape
        columns = self.panel.columns
        return {
            "window": range(windows),
            "item": range(items) if self.panel.items is None else self.panel.items,
            "step": range(1, steps + 1),
            "variate": range(variates) if columns is None else columns,
        }


def cutoffs(
    panel: Panel, least: int, horizon: int, stride: int, n_windows: int | None = None
) -> NDArray[np.int64]:
    """The row that every window forecasts first, `[W, I]`; -1 where an item has no such window.

    The last window ends with the item's last row. Before each are at least `least` rows; an item of a
    long frame that is too short for one such window has its last alone, if a row is before it. As many
    windows as there are, or `n_windows` of them, the last.

    Raises
    ------
    ValueError
        If no item has room for a window.
    """
    first, end = panel.spans.T
    rows = end - first - horizon  # before the last window
    count = np.maximum((rows - least) // stride + 1, 0)
    if panel.items is not None:
        count = np.where((count == 0) & (rows >= 1), 1, count)
    most = int(count.max())
    if most < 1:
        raise ValueError(
            f"X has {int((end - first).max())} rows; a window needs {least} rows and {horizon} to "
            "compare with; give more"
        )
    windows = most if n_windows is None else min(n_windows, most)
    number = np.arange(windows)[::-1, None]  # from the end
    return np.where(number < count, end - horizon - number * stride, -1)


def targets(panel: Panel, rows: NDArray[np.int64], horizon: int) -> Array:
    """What came from `rows` `[W, I]` on, `[W, I, H, C]`; NaN where there is no window."""
    ahead = np.clip(rows[..., None] + np.arange(horizon), 0, len(panel.values) - 1)
    actual: Array = panel.values[ahead][..., : panel.n_targets]
    actual[rows < 0] = np.nan
    return actual


def baselines(panel: Panel, rows: NDArray[np.int64], horizon: int, season: int) -> dict[str, Array]:
    """Forecasts without a model, `[W, I, H, C]` each, that begin at `rows` `[W, I]`."""
    C = panel.n_targets
    shape = (*rows.shape, horizon, C)
    found = {name: np.full(shape, np.nan) for name in ("naive", "seasonal_naive", "drift")}
    starts = panel.starts[:-1]
    for item in range(rows.shape[1]):
        first = starts[item]
        for window in np.flatnonzero(rows[:, item] >= 0):
            cut = rows[window, item]
            past = panel.values[first:cut, :C]
            found["naive"][window, item] = seasonal_naive(_latest(past, 1), horizon, 1)
            # a history shorter than a season repeats what it has
            length = min(season, len(past))
            found["seasonal_naive"][window, item] = seasonal_naive(
                _latest(past, length), horizon, length
            )
            found["drift"][window, item] = drift(past, horizon)
    return found


def _latest(past: Array, season: int) -> Array:
    """The last seasons `[.., C]`, as many as hold a value for every place of one, if any do."""
    rows = season
    while rows < len(past):
        part = past[-rows:]
        seen = ~np.isnan(part[len(part) % season :]).reshape(-1, season, part.shape[1])
        if seen.any(0).all():
            break
        rows *= 2
    return past[-rows:]


def seasonal_errors(panel: Panel, rows: NDArray[np.int64], season: int) -> Array:
    """Mean absolute seasonal difference of every item before its first window, `[I, C]`."""
    C = panel.n_targets
    scale = np.full((panel.n_items, C), np.nan)
    for item, first in enumerate(panel.starts[:-1]):
        cuts = rows[rows[:, item] >= 0, item]
        if len(cuts):
            past = panel.values[first : cuts.min(), :C]
            scale[item] = seasonal_error(past, season if len(past) > season else 1)
    return scale
