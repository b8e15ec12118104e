"""Where the rows end that a model was fitted to, and which forecasts are of such rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.time_index import whole_numbers

__all__ = ["FittedEnd", "fitted_end", "n_fitted"]

_ROWS = 32
"""Rows of an array that are kept to find its end in another one."""


class FittedEnd(NamedTuple):
    """The end of the fitted rows."""

    times: NDArray[np.int64]
    """Time of every item's last row `[I]`, in nanoseconds if it is a date; empty for an array."""
    values: NDArray[np.float64]
    """The last rows `[n, C]` of an array; empty for rows with times."""


def fitted_end(panel: Panel) -> FittedEnd:
    """Return the end of a panel."""
    C = panel.n_targets
    if panel.index is None:
        return FittedEnd(np.zeros(0, np.int64), panel.values[-_ROWS:, :C].copy())
    return FittedEnd(whole_numbers(panel.index[panel.starts[1:] - 1]), np.zeros((0, C)))


def n_fitted(end: FittedEnd, items: pd.Index | None, panel: Panel, cuts: NDArray[np.int64]) -> int:
    """Return how many forecasts of a panel begin within the fitted rows.

    Rows of an array are known by the values of the last fitted ones; if these are not in the panel, or
    more than once, no row is taken for a fitted one.

    Parameters
    ----------
    end : FittedEnd
        The end of the fitted rows.
    items : Index, optional
        The names of the items that were fitted; None for a single series.
    panel : Panel
        The series.
    cuts : ndarray
        The first row that every forecast is of, `[W, I]`; -1 for none.
    """
    if panel.index is None:
        return int(np.sum((cuts >= 0) & (cuts < _end_of(end.values, panel.values))))
    place = np.zeros(1, int) if items is None else items.get_indexer(panel.items)
    begins = whole_numbers(panel.index[np.maximum(cuts, 0).ravel()]).reshape(cuts.shape)
    return int(np.sum((cuts >= 0) & (place >= 0) & (begins <= end.times[place])))


def _end_of(block: NDArray[np.float64], values: NDArray[np.float64]) -> int:
    """Return the row after the place of a block `[n, C]` in values `[N, F]`; 0 if there is not one."""
    rows = values[:, : block.shape[1]]
    found = np.arange(1, len(rows) + 1)
    for back in range(1, len(block) + 1):  # the last row first: few places are left after it
        found = found[found >= back]
        some, wanted = rows[found - back], block[-back]
        found = found[((some == wanted) | (np.isnan(some) & np.isnan(wanted))).all(1)]
    return int(found[0]) if len(block) and len(found) == 1 else 0
