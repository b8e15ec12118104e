"""A linear forecast of a window, by ridge regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from titans_ts.datasets import gather_rows
from titans_ts.forecasting.panel import Panel

__all__ = ["FURTHEST", "fit_linear", "linear_forecast"]

Array = NDArray[np.float64]

_WINDOWS = 20_000
"""Number of windows that the map is fitted to at most."""
_STRENGTHS = np.geomspace(1e-4, 10, 11)
"""Ridge penalties, relative to the number of windows."""
FURTHEST = 10.0
"""Values further than this number of deviations from a window's mean are cut to it."""


def linear_forecast(past: Array, weights: Array) -> Array:
    """Forecast series `[N, T]` by weights `[L + 1, H]`: `[N, H]`.

    The last L values, of which at least one was observed, are normalised by their mean and deviation;
    missing ones become 0.
    """
    x, mean, spread = _normalised(past, len(weights) - 1)
    return x @ weights * spread + mean


def fit_linear(
    panel: Panel,
    border: NDArray[np.int64],
    context_length: int,
    held_out: tuple[Array, Array],
) -> Array | None:
    """Fit one map for all series of a panel, from the rows before `border` `[I]`.

    Parameters
    ----------
    panel : Panel
        The series.
    border : ndarray
        The row after the last row to learn from, of every item.
    context_length : int
        L, number of steps that the map reads.
    held_out : tuple of ndarray
        Histories `[N, T]` and the H steps after them, `[N, H]`; they decide the strength of the penalty.

    Returns
    -------
    ndarray or None
        `[L + 1, H]`: weights of the steps, and of a constant. None without a window, or without an
        observed value in the last L steps of `held_out`.
    """
    histories, target = held_out
    x, y = _windows(panel, border, context_length, target.shape[1])
    unit = _normalised(histories, context_length)[2]
    if len(x) == 0 or np.isnan(unit).all():
        return None
    inputs, mean, spread = _normalised(x, context_length)
    outputs = np.clip((y - mean) / spread, -FURTHEST, FURTHEST)
    values, vectors = np.linalg.eigh(inputs.T @ inputs / len(inputs))
    projected = vectors.T @ (inputs.T @ outputs) / len(inputs)
    tried = (
        vectors @ (projected / (np.maximum(values, 0) + strength)[:, None])
        for strength in _STRENGTHS
    )

    def error(weights: Array) -> float:
        return float(np.nanmean(np.abs(linear_forecast(histories, weights) - target) / unit))

    return min(tried, key=error)


def _windows(
    panel: Panel, border: NDArray[np.int64], context_length: int, horizon: int
) -> tuple[Array, Array]:
    """Return windows `[n, L]` of the targets and what follows them, `[n, H]`, without a missing value.

    At least half of a window lies within the item.
    """
    first = panel.spans[:, 0]
    start = first + -(-context_length // 2)
    counts = np.maximum(border - horizon - start + 1, 0)
    ends = np.cumsum(counts)
    stride = max(1, -(-int(ends[-1]) * panel.n_targets // _WINDOWS))
    chosen = np.arange(0, ends[-1], stride)
    item = np.searchsorted(ends, chosen, side="right")
    rows = start[item] + chosen - (ends - counts)[item]
    at = rows[:, None] + np.arange(-context_length, horizon)
    targets = panel.values[:, : panel.n_targets]
    both = gather_rows(targets, at, first[item], border[item])
    both = np.moveaxis(both, 2, 1).reshape(-1, context_length + horizon)
    past, future = both[:, :context_length], both[:, context_length:]
    known = ~np.isnan(future).any(1) & ~np.isnan(past).all(1)
    return past[known], future[known]


def _normalised(past: Array, length: int) -> tuple[Array, Array, Array]:
    """Return the last values `[N, L + 1]` with a constant, and their mean and deviation `[N, 1]`."""
    front = max(0, length - past.shape[1])
    x = np.pad(past[:, -length:], ((0, 0), (front, 0)), constant_values=np.nan)
    seen = ~np.isnan(x)
    count = np.maximum(seen.sum(1, keepdims=True), 1)
    mean = np.where(seen, x, 0).sum(1, keepdims=True) / count
    distance = np.where(seen, x - mean, 0)
    spread = np.sqrt(np.square(distance).sum(1, keepdims=True) / count)
    mean = np.where(seen.any(1, keepdims=True), mean, np.nan)
    spread = np.where(spread > 1e-9 * np.abs(mean), spread, np.maximum(np.abs(mean) / 100, 1e-9))
    scaled = np.clip(distance / spread, -FURTHEST, FURTHEST)
    return np.concatenate([scaled, np.ones((len(x), 1))], 1), mean, spread
