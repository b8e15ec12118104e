"""The surprise of a memory that reads a series as it is: no network, no forecast, no training.

A linear memory, written by the rule of :mod:`titans_ts.kernels`, predicts every value of a stream from
the values before it. Its surprise is the error of the prediction, in usual errors of this stream so far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch import Tensor

from titans_ts.kernels import MemoryState, neural_memory

__all__ = ["SeriesState", "horizons", "series_surprise", "start_series"]

Array = NDArray[np.float64]

KEY = 32
"""Changes in each half of a key: the last ones, and those one context earlier."""
STEP = 0.1
"""Share of an error that is written, of at most 1."""
HALF_LIFE = 1000
"""Values after which one counts half in what is usual."""
BOUND = 8.0
"""Bound of what is written and of the numbers in a key, in usual changes."""
_DECAY = 0.5 ** (1 / HALF_LIFE)
_PIECE = 2**14
"""Values read at a time; their keys take 40 MB."""


class SeriesState(NamedTuple):
    """What is kept of S streams; its size does not depend on the number of values read."""

    values: Tensor
    """`[S, L]`, the last values."""
    changes: Tensor
    """`[S, L + KEY]`, the last changes, in usual changes and bounded."""
    usual: Tensor
    """`[S, 1 + 2 M]`, exponential means of the absolute change, of the absolute difference at every
    horizon, and of the absolute error at every horizon."""
    weights: Tensor
    """`[S, M, 2 KEY, 1]`, the linear memory of every horizon."""
    n_read: Tensor
    """`[S]` int64, the number of values read."""


def horizons(context_length: int) -> tuple[int, ...]:
    """Return from how many steps back a value is predicted: from one to L, in up to M = 5 equal ratios.

    A spike stands out one step ahead; a shift is still visible after some time only from further back.

    Examples
    --------
    >>> horizons(96), horizons(2)
    ((1, 3, 10, 31, 96), (1, 2))
    """
    return tuple(sorted({round(context_length ** (i / 4)) for i in range(5)}))


def start_series(n_streams: int, context_length: int) -> SeriesState:
    """Return the state before the first value of S streams."""
    L, M = context_length, len(horizons(context_length))

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(n_streams, *shape, dtype=torch.float64)

    n_read = torch.zeros(n_streams, dtype=torch.int64)
    return SeriesState(zeros(L), zeros(L + KEY), zeros(1 + 2 * M), zeros(M, 2 * KEY, 1), n_read)


def series_surprise(values: Array, state: SeriesState) -> tuple[Array, SeriesState]:
    """Return the surprise at every value of S streams, and the state after them.

    For each horizon m, a linear memory predicts the difference x_t - x_{t-m}. Its key, of length one,
    has the `KEY` changes up to t - m and as many around t - L (not later than t - m). Changes and
    differences are written in units of their usual size and are bounded, so that an outlier costs the
    memory little. Every mean of absolute values that is called usual is exponential, with a half-life of
    `HALF_LIFE` values, and includes the present one.

    Parameters
    ----------
    values : ndarray
        `[S, T]`; NaN is missing. A missing value is absent: the result is that of the others alone.
    state : SeriesState
        The state before them, with the context length L; it is not changed.

    Returns
    -------
    tuple
        The surprise `[S, T]`, NaN where a value is missing, and the next state. The unit is the usual
        error: the mean over the horizons of the absolute error of the prediction, divided by the mean of
        this error so far. 1 is usual; a multiple of the series has the same surprise. Any split of a
        stream gives the same result, up to rounding.
    """
    observed = ~np.isnan(values)
    lengths = observed.sum(1)
    order = np.argsort(~observed, axis=1, kind="stable")  # the observed values first
    packed = np.nan_to_num(np.take_along_axis(values, order, 1)[:, : lengths.max(initial=0)])
    size = max(1, _PIECE // max(1, len(values)))
    found = np.zeros(values.shape)
    for start in range(0, packed.shape[1], size):
        piece = packed[:, start : start + size]
        n = np.clip(lengths - start, 0, piece.shape[1])
        found[:, start : start + size][:, : piece.shape[1]], state = _read(piece, n, state)
    surprise = np.empty_like(found)
    np.put_along_axis(surprise, order, found, 1)
    return np.where(observed, surprise, np.nan), state


def _read(x: Array, n: NDArray[np.int64], state: SeriesState) -> tuple[Array, SeriesState]:
    """Read the first `n` `[S]` of the values x `[S, T]`."""
    past, changes, usual, weights, count = (part.numpy() for part in state)
    S, T = x.shape
    L, ahead = past.shape[1], np.array(horizons(past.shape[1]))
    M = len(ahead)
    # before its first value, a stream had this value all the time
    x = np.concatenate([np.where(count[:, None] > 0, past, x[:, :1]), x], 1)  # [S, L + T]
    differences = np.stack([x[:, L:] - x[:, L - m : L - m + T] for m in (1, *ahead)], -1)
    after = _means(np.abs(differences), usual[:, : 1 + M])
    sizes = _corrected(after, count)
    u = _bounded(_ratio(differences, sizes))
    changes = np.concatenate([changes, u[..., 0]], 1)  # [S, L + KEY + T]
    keys = np.stack([_keys(changes, L, m, T) for m in ahead], 2)  # [S, T, M, 2 KEY]
    keys = _ratio(keys, np.sqrt(np.square(keys).sum(-1, keepdims=True)))
    k, v = torch.from_numpy(keys), torch.from_numpy(u[..., 1:, None])
    before = (torch.from_numpy(weights),)
    y, memory, _ = neural_memory(
        k,
        k,
        v,
        None,
        None,
        k.new_full((S, T, M), STEP / 2),
        (k.new_zeros(M, 2 * KEY, 1),),
        MemoryState(before, (torch.zeros_like(before[0]),), before, torch.zeros_like(state.n_read)),
        mask=torch.from_numpy(np.arange(T) < n[:, None]),
        error_at="token",
    )
    assert y is not None
    # the memory is read after each write, which brought it closer to the value by the share STEP
    written = STEP * (keys.any(-1))
    predicted = (y[..., 0].numpy() - written * u[..., 1:]) / (1 - written)
    errors = np.abs(differences[..., 1:] - predicted * sizes[..., 1:])
    error_means = _means(errors, usual[:, 1 + M :])
    surprise = _ratio(errors, _corrected(error_means, count)).mean(-1)
    means = np.concatenate([after, error_means], -1)
    means = np.concatenate([usual[:, None], means], 1)[np.arange(S), n]
    at = n[:, None] + np.arange(L + KEY)
    kept = np.where(count[:, None] + n[:, None] > 0, np.take_along_axis(x, at[:, :L], 1), 0)
    return surprise, SeriesState(
        torch.from_numpy(kept),
        torch.from_numpy(np.take_along_axis(changes, at, 1)),
        torch.from_numpy(means),
        memory.weights[0].contiguous(),
        state.n_read + torch.from_numpy(n),
    )


def _keys(changes: Array, context_length: int, horizon: int, length: int) -> Array:
    """Return the changes `[S, T, 2 KEY]` that a prediction from `horizon` steps back may use."""
    windows = np.lib.stride_tricks.sliding_window_view(changes, KEY, axis=1)
    ends = horizon, max(context_length - KEY // 2, horizon)
    # windows[:, i] ends at change i + KEY - 1, and the change at t is L + KEY + t
    first = [context_length - end + 1 for end in ends]
    return np.concatenate([windows[:, i : i + length] for i in first], -1)


def _means(sizes: Array, before: Array) -> Array:
    """Return the exponential means `[S, T, F]` of sizes, from those before them `[S, F]`."""
    a = _DECAY
    means: Array = lfilter([1 - a], [1, -a], sizes, axis=1, zi=a * before[:, None])[0]
    return means


def _corrected(means: Array, count: NDArray[np.int64]) -> Array:
    """Return exponential means `[S, T, F]` without the bias of a start at 0, `count` `[S]` values ago."""
    seen = count[:, None, None] + np.arange(1, means.shape[1] + 1)[:, None]
    return means / (1 - _DECAY**seen)


def _ratio(x: Array, size: Array) -> Array:
    """Return x / size, and 0 where the size is 0."""
    return np.divide(
        x, size, out=np.zeros(np.broadcast_shapes(x.shape, size.shape)), where=size > 0
    )


def _bounded(x: Array) -> Array:
    return x / np.sqrt(1 + np.square(x / BOUND))
