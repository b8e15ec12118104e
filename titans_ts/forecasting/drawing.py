"""Figures of the forecasts of one item (the extra `plots` installs matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting.panel import Panel
from titans_ts.reporting.plots.forecast import plot_backtest, plot_forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_backtest", "draw_forecast", "item_place"]

Array = NDArray[np.float64]


def draw_forecast(
    panel: Panel,
    point: Array,
    quantiles: Array,
    levels: tuple[float, ...],
    place: int,
    n_history: int,
    max_variates: int,
) -> Figure:
    """Draw the forecast of an item after its last rows, see `TitansForecaster.plot`.

    Parameters
    ----------
    panel : Panel
        The history.
    point, quantiles : ndarray
        Means `[I, H, C]` and quantiles `[I, H, C, Q]`.
    levels : tuple of float
        The levels of these Q quantiles.
    place, n_history, max_variates : int
        Which item, and how many rows and variates at most.
    """
    quantiles = _around(quantiles, point)
    first, end = panel.spans[place]
    first = max(first, end - n_history)
    steps = point.shape[1]
    times = panel.future(steps)
    if times is None:
        before, after = pd.RangeIndex(first - end, 0), pd.RangeIndex(steps)
    else:
        assert panel.index is not None
        before, after = panel.index[first:end], times[place * steps : (place + 1) * steps]
    history = pd.DataFrame(panel.values[first:end, : panel.n_targets], before, _names(panel))
    forecast = pd.DataFrame(point[place], after, _names(panel))
    bands = _bands(quantiles[place], levels, after, panel)
    return plot_forecast(history, forecast, bands, None, n_history, max_variates)


def draw_backtest(
    panel: Panel,
    cutoffs: NDArray[np.int64],
    point: Array,
    quantiles: Array,
    levels: tuple[float, ...],
    item: Any,
    n_windows: int,
    max_variates: int,
) -> Figure:
    """Draw the last forecasts of a backtest that do not overlap, see `Backtest.plot`.

    Parameters
    ----------
    panel : Panel
        The series.
    cutoffs : ndarray
        `[W, I]`, the first row of every forecast; -1 for none.
    point, quantiles : ndarray
        Means `[W, I, H, C]` and quantiles `[W, I, H, C, Q]`.
    levels : tuple of float
        The levels of these Q quantiles.
    item, n_windows, max_variates
        Which item, and how many forecasts and variates at most.
    """
    quantiles = _around(quantiles, point)
    known: NDArray[np.bool_] = np.asarray((cutoffs >= 0).any(0))
    i = int(known.argmax()) if item is None else item_place(panel, item)
    if not known[i]:
        raise ValueError(f"item is {item!r}, which is too short for a forecast; choose another one")
    steps = point.shape[2]
    chosen: list[int] = []
    for window in np.flatnonzero(cutoffs[:, i] >= 0)[::-1].tolist():
        if len(chosen) < n_windows and (
            not chosen or cutoffs[window, i] + steps <= cutoffs[chosen[-1], i]
        ):
            chosen.append(window)
    starts = cutoffs[chosen[::-1], i]
    first = max(int(panel.starts[i]), int(starts[0]) - 2 * steps)
    end = int(starts[-1]) + steps
    rows = pd.RangeIndex(len(panel.values)) if panel.index is None else panel.index
    names = _names(panel)
    observed = pd.DataFrame(panel.values[first:end, : panel.n_targets], rows[first:end], names)
    forecasts = []
    for window, start in zip(chosen[::-1], starts.tolist(), strict=True):
        times = rows[start : start + steps]
        mean = pd.DataFrame(point[window, i], times, names)
        forecasts.append((mean, _bands(quantiles[window, i], levels, times, panel)))
    return plot_backtest(observed, forecasts, max_variates)


def item_place(panel: Panel, item: Any) -> int:
    """Return the place of an item among those of a panel; that of the first one if it is None.

    Raises
    ------
    ValueError
        If there is no such item.
    """
    known = list(range(panel.n_items)) if panel.items is None else panel.items.tolist()
    if item is None:
        return 0
    if item not in known:
        some = ", ".join(repr(name) for name in known[:3]) + (", .." if len(known) > 3 else "")
        raise ValueError(f"item is {item!r}, which is not among the items {some}; choose one")
    return known.index(item)


def _names(panel: Panel) -> list[str]:
    columns = list(range(panel.n_targets) if panel.columns is None else panel.columns)
    names = [str(column) for column in columns]
    return names if len(set(names)) == len(names) else [repr(column) for column in columns]


def _bands(
    quantiles: Array, levels: tuple[float, ...], times: pd.Index, panel: Panel
) -> pd.DataFrame:
    """Return quantiles `[H, C, Q]` as a frame with columns (variate, quantile)."""
    columns = pd.MultiIndex.from_product([_names(panel), levels])
    return pd.DataFrame(quantiles.reshape(len(times), -1), times, columns)


def _around(quantiles: Array, point: Array) -> Array:
    """Return quantiles `[..., Q]` whose outermost ones contain the mean, which may lie beyond them."""
    if quantiles.shape[-1] < 2:
        return quantiles
    quantiles = quantiles.copy()
    quantiles[..., 0] = np.minimum(quantiles[..., 0], point)
    quantiles[..., -1] = np.maximum(quantiles[..., -1], point)
    return quantiles
