"""Which rows a model was fitted to, and which forecasts begin among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.time_index import whole_numbers

__all__ = ["FittedRows", "fitted_rows", "n_fitted"]

_ROWS = 32
"""Rows at the end of a single series that are kept to find it in another one."""
_UNIT = "us"
"""The unit of dates: nanoseconds do not hold years before 1678."""
_FEWEST = 8
"""The last ones of them that are enough where the other series begins there."""


class FittedRows(NamedTuple):
    """The rows that a model was fitted to: their times, and the last values of a single series."""

    times: NDArray[np.int64]
    """Time of every item's first and last row, `[2, I]`; `[2, 0]` for an array."""
    values: NDArray[np.float64]
    """The last rows `[n, C]` of a single series; `[0, C]` of a long frame."""
    n_rows: int
    """Number of rows of a single series."""
    kind: str
    """What the times are: "date" (in microseconds), the frequency of periods, or "" for numbers."""


def fitted_rows(panel: Panel) -> FittedRows:
    """Return what is kept of the rows of a panel."""
    kept = _ROWS if panel.items is None else 0
    values = panel.values[max(0, len(panel.values) - kept) :, : panel.n_targets].copy()
    return FittedRows(panel.end_times(_UNIT), values, len(panel.values), _kind(panel.index))


def n_fitted(
    fitted: FittedRows, items: pd.Index | None, panel: Panel, cuts: NDArray[np.int64]
) -> int:
    """Return how many forecasts of a panel begin within the fitted rows.

    Rows are compared by their dates or periods, and those of a long frame by any times. The rows of a
    single series without dates are known by the values of the last fitted ones; if these are not in the
    panel, or more than once, no row is taken for a fitted one.

    Parameters
    ----------
    fitted : FittedRows
        What was kept of the fitted rows.
    items : Index, optional
        The names of the items that were fitted; None for a single series.
    panel : Panel
        The series.
    cuts : ndarray
        The first row that every forecast is of, `[W, I]`; -1 for none.
    """
    if (items is None) != (panel.items is None):
        return 0
    kind = _kind(panel.index)
    if items is None and not (kind and fitted.kind == kind):
        end = _end_of(fitted.values, panel.values)
        return int(np.sum((cuts >= max(0, end - fitted.n_rows)) & (cuts < end)))
    if panel.index is None or fitted.kind != kind:
        return 0
    place = np.zeros(1, int) if items is None else items.get_indexer(panel.items)
    begins = whole_numbers(panel.index[np.maximum(cuts, 0).ravel()], _UNIT).reshape(cuts.shape)
    first, last = fitted.times[:, place]
    return int(np.sum((cuts >= 0) & (place >= 0) & (first <= begins) & (begins <= last)))


def _kind(index: pd.Index | None) -> str:
    if isinstance(index, pd.PeriodIndex):
        return str(index.freqstr)
    return "date" if isinstance(index, pd.DatetimeIndex) else ""


def _end_of(block: NDArray[np.float64], values: NDArray[np.float64]) -> int:
    """Return the row after the one place of a block `[n, C]` in values `[N, F]`; 0 if there is none."""
    gap = np.isnan(block)
    high, low = np.where(gap, -np.inf, block).max(0), np.where(gap, np.inf, block).min(0)
    if not (high > low).any():  # what does not move is nothing to be known by
        return 0
    rows = values[:, : block.shape[1]]
    found = np.arange(1, len(rows) + 1)
    for back in range(1, len(block) + 1):  # the last row first: few places are left after it
        some, wanted = rows[np.maximum(found - back, 0)], block[-back]
        same = ((some == wanted) | (np.isnan(some) & np.isnan(wanted))).all(1)
        found = found[np.where(found >= back, same, back > _FEWEST)]
    return int(found[0]) if len(found) == 1 else 0
