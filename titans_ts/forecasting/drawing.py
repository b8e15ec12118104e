"""Charts of the forecasts of one item, for `plot` and for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting.panel import Panel
from titans_ts.reporting.charts import Chart, Mark, band_mark

__all__ = [
    "Band",
    "backtest_charts",
    "forecast_charts",
    "item_place",
    "place_among",
    "quantile_bands",
]

Array = NDArray[np.float64]
Band = tuple[tuple[float, float], Array, Array]
"""Two levels, and the values at the lower and the upper one."""


def forecast_charts(
    panel: Panel,
    point: Array,
    bands: Sequence[Band],
    place: int,
    *,
    n_history: int = 168,
    max_variates: int = 8,
    earlier: tuple[Array, Sequence[Band]] | None = None,
    times: pd.Index | None = None,
) -> list[Chart]:
    """Return a chart for each variate of an item: its last rows, and the forecast after them.

    Parameters
    ----------
    panel : Panel
        The history.
    point : ndarray
        The point forecasts `[I, H, C]`.
    bands : sequence of Band
        Intervals whose ends are `[I, H, C]`, the widest first.
    place, n_history, max_variates : int
        Which item, and how many rows and variates at most (default 168 and 8).
    earlier : tuple, optional
        The point and the bands of a forecast of the last H rows of the item (default: none).
    times : Index, optional
        The times of the steps of all items, `panel.future(H)` (default: they are computed).
    """
    first, end = (int(row) for row in panel.spans[place])
    first = max(first, end - n_history)
    H = point.shape[1]
    times = panel.future(H) if times is None else times
    if times is None or panel.index is None:
        before, after = pd.RangeIndex(first - end, 0), pd.RangeIndex(H)
    else:
        before, after = panel.index[first:end], times[place * H : (place + 1) * H]
    charts = []
    for variate, name in enumerate(_names(panel)[:max_variates]):
        marks = [_observed(before, panel.values[first:end, variate])]
        if earlier is not None and end - first >= H:
            known, (old, old_bands) = before[-H:], earlier
            label = f"forecast of the last {H} steps, not trained on"
            point_then = old[place, :, variate]
            marks.append(Mark("line", label, known, point_then, role="past", dash="dash"))
            for band in _bands(known, old_bands, place, variate, "past"):
                marks.append(replace(band, name=f"{band.name} of that forecast"))
        marks += _bands(after, bands, place, variate, "forecast")
        marks.append(Mark("line", "forecast", after, point[place, :, variate], role="forecast"))
        charts.append(Chart(name, tuple(marks), rules=tuple(before[-1:])))
    return charts


def backtest_charts(
    panel: Panel,
    cutoffs: NDArray[np.int64],
    point: Array,
    bands: Sequence[Band],
    item: Any,
    n_windows: int,
    max_variates: int,
) -> list[Chart]:
    """Return a chart for each variate: the last forecasts of a backtest that do not overlap.

    Parameters
    ----------
    panel : Panel
        The series.
    cutoffs : ndarray
        `[W, I]`, the first row of every forecast; -1 for none.
    point : ndarray
        The point forecasts `[W, I, H, C]`.
    bands : sequence of Band
        Intervals whose ends are `[W, I, H, C]`, the widest first.
    item, n_windows, max_variates
        Which item, and how many forecasts and variates at most.
    """
    known: NDArray[np.bool_] = np.asarray((cutoffs >= 0).any(0))
    i = int(known.argmax()) if item is None else item_place(panel, item)
    if not known[i]:
        raise ValueError(f"item is {item!r}, which is too short for a forecast; choose another one")
    H = point.shape[2]
    chosen: list[int] = []
    for window in np.flatnonzero(cutoffs[:, i] >= 0)[::-1].tolist():
        if len(chosen) < n_windows and (
            not chosen or cutoffs[window, i] + H <= cutoffs[chosen[-1], i]
        ):
            chosen.append(window)
    chosen = chosen[::-1]
    starts = cutoffs[chosen, i].tolist()
    first, end = max(int(panel.starts[i]), starts[0] - 2 * H), starts[-1] + H
    rows = pd.RangeIndex(len(panel.values)) if panel.index is None else panel.index
    charts = []
    for variate, name in enumerate(_names(panel)[:max_variates]):
        marks = [_observed(rows[first:end], panel.values[first:end, variate])]
        for window, start in zip(chosen, starts, strict=True):
            times = rows[start : start + H]
            ends = [(levels, low[window], high[window]) for levels, low, high in bands]
            marks += _bands(times, ends, i, variate, "forecast")
            mean = point[window, i, :, variate]
            marks.append(Mark("line", "forecast", times, mean, role="forecast"))
        charts.append(Chart(name, tuple(marks), rules=tuple(rows[starts])))
    return charts


def quantile_bands(
    quantiles: Array, levels: Sequence[float], point: Array | None = None
) -> list[Band]:
    """Return the bands between the quantiles `[..., Q]` of these levels, the outermost first.

    The outermost one contains the point forecast `[...]`, if it is given: a mean may lie beyond the
    quantiles.
    """
    bands: list[Band] = [
        ((levels[i], levels[-1 - i]), quantiles[..., i], quantiles[..., -1 - i])
        for i in range(len(levels) // 2)
    ]
    if bands and point is not None:
        ends, low, high = bands[0]
        bands[0] = (ends, np.minimum(low, point), np.maximum(high, point))
    return bands


def item_place(panel: Panel, item: Any) -> int:
    """Return the place of an item among those of a panel; that of the first one if it is None.

    Raises
    ------
    ValueError
        If there is no such item.
    """
    known = list(range(panel.n_items)) if panel.items is None else panel.items.tolist()
    return 0 if item is None else place_among(item, known)


def place_among(item: Any, known: list[Any]) -> int:
    """Return the place of an item among the known ones.

    Raises
    ------
    ValueError
        If it is not among them.
    """
    if item not in known:
        some = ", ".join(repr(name) for name in known[:3]) + (", .." if len(known) > 3 else "")
        raise ValueError(f"item is {item!r}, which is not among the items {some}; choose one")
    return known.index(item)


def _observed(times: pd.Index, values: Array) -> Mark:
    return Mark("line", "observed", times, values)


def _bands(
    times: pd.Index, bands: Sequence[Band], place: int, variate: int, role: str
) -> list[Mark]:
    return [
        band_mark(times, low[place, :, variate], high[place, :, variate], levels, role)
        for levels, low, high in bands
    ]


def _names(panel: Panel) -> list[str]:
    columns = list(range(panel.n_targets) if panel.columns is None else panel.columns)
    names = [str(column) for column in columns]
    return names if len(set(names)) == len(names) else [repr(column) for column in columns]
