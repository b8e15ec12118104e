"""The series memories of a panel's variates, and what is kept of them between two readings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from titans_ts.datasets import gather_rows
from titans_ts.forecasting.panel import Panel
from titans_ts.nn.series.memory import SeriesState, series_surprise, start_series
from titans_ts.nn.state import map_state

__all__ = ["Watched", "watch"]

_STREAMS = 1024
"""Streams read at a time."""


@dataclass(frozen=True)
class Watched:
    """The memories of I items of C variates after their last rows; the size is constant."""

    items: pd.Index | None
    """The items' names `[I]`; None for a single series."""
    last: NDArray[np.int64]
    """Time of every item's last row `[I]`, in nanoseconds if it is a date; empty for an array."""
    state: SeriesState
    """Of I C streams, item by item."""


def watch(
    panel: Panel, context_length: int, watched: Watched | None = None
) -> tuple[NDArray[np.float64], Watched]:
    """Return the surprise `[N, C]` at the rows of a panel, and what is kept after them.

    Parameters
    ----------
    panel : Panel
        The rows to read; for the items in `watched`, those that follow.
    context_length : int
        L, see :func:`series_surprise`.
    watched : Watched, optional
        What was kept before these rows (default: nothing, all items begin). Further items begin.

    Raises
    ------
    ValueError
        If an item's first row does not come after the last one that was read.
    """
    C = panel.n_targets
    first, end = panel.spans.T
    items, last, place = _joined(panel, watched)
    new = start_series(C * (len(last) if len(last) else panel.n_items), context_length)
    state = new if watched is None else _extended(watched.state, new)
    surprise = np.full((len(panel.values), C), np.nan)
    at_once = max(1, _STREAMS // C)
    for start in range(0, panel.n_items, at_once):
        own = slice(start, start + at_once)
        rows = first[own, None] + np.arange((end - first)[own].max())
        inside = rows < end[own, None]
        values = gather_rows(panel.values[:, :C], rows, first[own], end[own])  # [i, T, C]
        streams = torch.from_numpy((place[own, None] * C + np.arange(C)).ravel())
        part = map_state(lambda x, s=streams: x[s], state)  # type: ignore[misc]
        found, part = series_surprise(values.swapaxes(1, 2).reshape(len(streams), -1), part)
        surprise[rows[inside]] = found.reshape(-1, C, rows.shape[1]).swapaxes(1, 2)[inside]
        for whole, some in zip(state, part, strict=True):
            whole[streams] = some
    return surprise, Watched(items, last, state)


def _joined(
    panel: Panel, watched: Watched | None
) -> tuple[pd.Index | None, NDArray[np.int64], NDArray[np.int64]]:
    """Return all items, the times of their last rows, and the places of the panel's items among them."""
    begins, ends = panel.end_times()
    place = np.arange(panel.n_items)
    if watched is None:
        return panel.items, ends, place
    items, last = watched.items, watched.last
    if items is not None:
        assert panel.items is not None
        items = items.append(panel.items.difference(items, sort=False))
        place = items.get_indexer(panel.items)
        unread = np.iinfo(np.int64).min
        last = np.concatenate([last, np.full(len(items) - len(last), unread)])
    for i in np.flatnonzero(begins <= last[place] if len(last) else []):
        name = "X" if items is None else f"item {items[place[i]]!r}"
        row = panel.index[panel.starts[i]]  # type: ignore[index]
        raise ValueError(
            f"{name} begins at {row}, which was watched before; give the rows that follow"
        )
    last = last.copy()
    last[place[: len(ends)]] = ends
    return items, last, place


def _extended(state: SeriesState, new: SeriesState) -> SeriesState:
    """Return a state with the further streams of a new one."""
    return SeriesState(
        *(torch.cat([old, x[len(old) :]]) for old, x in zip(state, new, strict=True))
    )
