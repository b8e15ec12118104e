"""Read items in consecutive windows, and carry the memory's state from each window to the next."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from titans_ts.datasets import gather_rows
from titans_ts.nn.series.model import ForecastingModel, WindowReading
from titans_ts.nn.state import flatten_state, map_state, unflatten_state

__all__ = ["STREAMS", "advance_state", "iter_readings", "row_surprise"]

Static = tuple[Tensor, Tensor] | None
State = tuple[Any, ...] | None

STREAMS = 1024
"""Number of streams (windows times variates) that are read at a time: about 0.3 GB with the default
model."""


def iter_readings(
    model: ForecastingModel, past: Tensor, static: Static = None, state: State = None
) -> Iterator[tuple[slice, WindowReading]]:
    """Read windows `[n, L, F]`, a bounded number at a time.

    Parameters
    ----------
    model : ForecastingModel
        The model, in evaluation mode.
    past, static, state
        As for :meth:`ForecastingModel.read`. They may be on any device, but `state` is on the model's.

    Yields
    ------
    tuple[slice, WindowReading]
        A slice of the windows, and the result of reading them.
    """
    device = next(model.parameters()).device
    n_variates = model.config.n_variates
    streams = model.config.streams
    at_once = max(1, STREAMS // n_variates)
    for start in range(0, len(past), at_once):
        batch = slice(start, min(start + at_once, len(past)))
        part = state
        if state is not None and batch != slice(0, len(past)):
            own = slice(batch.start * streams, batch.stop * streams)
            part = map_state(itemgetter(own), state)
        constant = (
            None if static is None else (static[0][batch].to(device), static[1][batch].to(device))
        )
        yield batch, model.read(past[batch].to(device), constant, part)


def advance_state(
    model: ForecastingModel,
    rows: NDArray[np.float32],
    spans: NDArray[np.int64],
    static: Static,
    state: State,
) -> tuple[State, NDArray[np.int64]]:
    """Read whole windows of every item, as long as a whole window is left after them.

    Parameters
    ----------
    model : ForecastingModel
        The model, in evaluation mode.
    rows : ndarray
        The scaled rows `[N, F]`.
    spans : ndarray
        `[I, 2]`, the rows of every item that were not read yet.
    static : tuple of Tensor, optional
        The static covariates, as for :meth:`ForecastingModel.read`.
    state : tuple, optional
        The state of every item's streams before these rows (None: the initial state).

    Returns
    -------
    tuple
        The state after the rows that were read, and the number of rows left in every item: from L to
        2 L - 1, or all rows of a shorter item.
    """
    length = model.config.context_length
    place, end = spans.T.copy()
    while (ready := end - place >= 2 * length).any():
        # an item that is not ready has no row to read: all is absent, and its state stays as it is
        windows = gather_rows(
            rows, place[:, None] + np.arange(length), place, np.where(ready, end, place)
        )
        parts = [r.state for _, r in iter_readings(model, torch.from_numpy(windows), static, state)]
        state = _joined(parts)
        place += length * ready
    return state, end - place


def row_surprise(
    model: ForecastingModel,
    rows: NDArray[np.float32],
    spans: NDArray[np.int64],
    static: Static,
) -> NDArray[np.float64]:
    """Return the memory's surprise at every row, `[N, C]`; each item is read from its beginning.

    It is the mean over blocks, heads, and the patches that contain the row, and NaN where no patch was
    present. With "joint" tokens all variates have the same value.
    """
    config = model.config
    length, tokenizer = config.context_length, model.tokenizer
    surprise = np.full((len(rows), config.n_variates), np.nan)
    first, end = spans.T
    windows_of = -(-(end - first) // length)  # the first is filled in front
    state: State = None
    for i in range(int(windows_of.max())):
        chosen = (end - (windows_of - i) * length)[:, None] + np.arange(length)
        inside = (chosen >= first[:, None]) & (chosen < end[:, None])
        windows = gather_rows(rows, chosen, first, end)
        parts = []
        for batch, reading in iter_readings(model, torch.from_numpy(windows), static, state):
            parts.append(reading.state)
            tokens = reading.surprise.mean((2, 3)).double().cpu().numpy()  # [n streams, P]
            steps = tokenizer.spread(tokens)  # [n streams, L, 1 or C]
            values = steps.reshape(-1, config.streams, *steps.shape[1:]).swapaxes(1, 2)
            values = values.reshape(len(values), length, -1)
            at = chosen[batch][inside[batch]]
            surprise[at] = values[inside[batch]]
        state = _joined(parts)
    return surprise


def _joined(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    if len(parts) == 1:
        return parts[0]
    flat = [flatten_state(part) for part in parts]
    return unflatten_state({k: torch.cat([f[k] for f in flat]) for k in flat[0]}, parts[0])
