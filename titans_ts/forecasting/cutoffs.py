"""The first rows of rolling forecasts, and the observed values for comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from titans_ts.config import ForecasterConfig
from titans_ts.forecasting.panel import Panel

__all__ = ["cutoffs", "targets", "validation_cutoffs"]

Array = NDArray[np.float64]


def cutoffs(
    panel: Panel, least: int, horizon: int, stride: int, n_windows: int | None = None
) -> NDArray[np.int64]:
    """Return the row that every window forecasts first, `[W, I]`; -1 where an item has no such window.

    The last window of an item ends with its last row, and `stride` rows lie between the starts of two
    windows. At least `least` rows precede every window. If an item of a long frame is too short for
    such a window, its last window is used alone, provided that a row precedes it. W is `n_windows`,
    counted from the end (default: all windows).

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
    """Return the observed values `[W, I, H, C]` that begin at `rows` `[W, I]`; NaN without a window."""
    ahead = np.clip(rows[..., None] + np.arange(horizon), 0, len(panel.values) - 1)
    actual: Array = panel.values[ahead][..., : panel.n_targets]
    actual[rows < 0] = np.nan
    return actual


def validation_cutoffs(
    panel: Panel, config: ForecasterConfig, border: NDArray[np.int64], max_windows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose about `max_windows` cutoffs of held-out rows, at even distances.

    Parameters
    ----------
    panel : Panel
        The series.
    config : ForecasterConfig
        The configuration of the forecaster.
    border : ndarray
        `[I]`, the first held-out row of every item; its end if none is held out.
    max_windows : int
        Approximate number of cutoffs over all items.

    Returns
    -------
    tuple of ndarray
        `ends` `[I]`, with which ``panel.head(ends)`` has the J chosen items; and the cutoffs `[W, J]` in
        that panel.
    """
    first, ends = panel.spans.T.copy()
    if panel.items is not None:
        held = np.flatnonzero(border < ends)
        chosen = held[np.linspace(0, len(held) - 1, min(len(held), max_windows)).astype(int)]
        rows = (ends - border)[chosen]
        left_out = np.ones(len(ends), bool)
        left_out[chosen] = False
        ends = np.where(left_out, first, ends)
        panel = panel.head(ends)
        border = panel.spans[:, 1] - rows
    windows = int((panel.spans[:, 1] - border).max(initial=0)) - config.prediction_length + 1
    if windows < 1:
        return ends, np.empty((0, panel.n_items), np.int64)
    cuts = cutoffs(panel, config.context_length, config.prediction_length, 1, windows)
    cuts = np.where(cuts >= border, cuts, -1)
    count = min(len(cuts), max(1, max_windows // panel.n_items))
    return ends, cuts[np.linspace(0, len(cuts) - 1, count).astype(int)]
