"""A panel: one series, many series or a batch of windows, and forecasts in the form of the input.

A panel holds I items one after the other: rows `[N, F]`, whose F columns are the C targets, then the
past-only, then the known covariates, of which those computed from the time come last. A single series
is a panel of one item; each window of a batch is an item.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.datasets import gather_rows
from titans_ts.forecasting.time_index import (
    continued,
    extended,
    item_at,
    time_gaps,
    whole_numbers,
)
from titans_ts.forecasting.time_ranges import local_clock, time_range

__all__ = [
    "Panel",
    "Roles",
    "category",
    "holds_numbers",
    "rows_within",
]

Array = NDArray[np.float64]
_ARRAYS = ("array", "vector", "windows")


def category(value: Any) -> str:
    """Return a category as text; a whole number has the same text whatever its type."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def holds_numbers(column: pd.Series) -> bool:
    """Return whether a static column has numbers, rather than categories or truth values."""
    return bool(pd.api.types.is_numeric_dtype(column.dtype)) and column.dtype.kind != "b"


def rows_within(first: NDArray[np.int64], end: NDArray[np.int64], n_rows: int) -> NDArray[np.bool_]:
    """Return a mask of `n_rows` rows: those in one of the spans from `first` `[I]` to before `end` `[I]`.

    The spans do not overlap. Temporary arrays have at most one byte per row.

    Examples
    --------
    >>> rows_within(np.array([0, 3]), np.array([2, 4]), 5)
    array([ True,  True, False,  True, False])
    """
    change = np.zeros(n_rows + 1, np.int8)
    np.add.at(change, first, 1)
    np.subtract.at(change, end, 1)
    return np.cumsum(change[:-1], dtype=np.int8).astype(bool)


@dataclass(frozen=True)
class Roles:
    """The roles of the columns of a frame, which are given by name, or of an array, given by number."""

    target: tuple[Any, ...] | None = None
    """The variates to forecast. None (default): every column without another role."""
    past_covariates: tuple[Any, ...] = ()
    """Covariates known up to the present."""
    known_covariates: tuple[Any, ...] = ()
    """Covariates that are also known for the steps to forecast."""
    static_covariates: tuple[Any, ...] = ()
    """Covariates that are constant for an item."""
    item_id: Any = "item_id"
    timestamp: Any = "timestamp"
    freq: str | None = None
    """The frequency that rows are resampled to. None (default): rows keep their own times, which must be
    regular. "irregular": rows keep their times, and the time since the previous row is the first
    covariate."""
    calendar: tuple[str, ...] = ()
    """Calendar cycles; the position in each is a known covariate. They are keys of
    :data:`titans_ts.forecasting.frequency.CYCLES`."""
    season_length: int = 0
    """Number of steps in a season, whose position is the last known covariate. 0 (default): no season."""

    @property
    def irregular(self) -> bool:
        """Whether rows may come at any time."""
        return self.freq == "irregular"

    @property
    def n_past(self) -> int:
        """Number of covariates known up to the present, including the time since the previous row."""
        return len(self.past_covariates) + self.irregular

    @property
    def timed(self) -> str | None:
        """The parameter that needs times, if any."""
        parameters = {
            "calendar": self.calendar,
            "season_length": self.season_length,
            "freq": self.irregular,
        }
        return next((name for name, value in parameters.items() if value), None)

    @property
    def covariates(self) -> tuple[Any, ...]:
        """All covariates that change with time."""
        return (*self.past_covariates, *self.known_covariates)


@dataclass(frozen=True)
class Panel:
    """I items, and the information that is needed to return a result in the form of the input."""

    values: Array
    """`[N, F]` float64; NaN is missing."""
    n_targets: int
    """C."""
    kind: str
    """"panel" (a long frame), "frame", "series" (pandas), "array", "vector" (a 1-D array), or "windows"
    (an array of windows of equal length)."""
    columns: tuple[Any, ...] | None = None
    """Names of the targets; None for an array."""
    index: pd.Index | None = None
    """Times of the rows, with a frequency if there is one item; None for an array."""
    offsets: NDArray[np.int64] | None = None
    """`[I + 1]`, the first row of every item of a long frame, and the number of rows."""
    items: pd.Index | None = None
    """Their names `[I]`."""
    freq: Any = None
    """Frequency of the times, an offset or a whole number; of irregular times, their usual distance. None
    for an array."""
    static: pd.DataFrame | None = None
    """The static covariates, one row per item."""
    irregular: bool = False
    """Whether times are irregular; the first covariate is then :func:`time_gaps`."""
    roles: Roles = field(default_factory=Roles)
    """The roles of the columns, and the names of a long frame's columns of items and times."""

    @property
    def spans(self) -> NDArray[np.int64]:
        """First row of every item and the row after its last, `[I, 2]`."""
        return np.stack([self.starts[:-1], self.starts[1:]], 1)

    @property
    def starts(self) -> NDArray[np.int64]:
        """First row of every item, and the number of rows, `[I + 1]`."""
        return np.array([0, len(self.values)]) if self.offsets is None else self.offsets

    def end_times(self, unit: str = "ns") -> NDArray[np.int64]:
        """Times of the items' first and last rows `[2, I]`, dates in a unit; `[2, 0]` for an array."""
        if self.index is None:
            return np.zeros((2, 0), np.int64)
        ends = self.index[np.stack([self.starts[:-1], self.starts[1:] - 1]).ravel()]
        return whole_numbers(ends, unit).reshape(2, -1)

    @property
    def timed(self) -> bool:
        """Whether rows have times of one frequency."""
        return isinstance(self.freq, pd.offsets.BaseOffset) and not self.irregular

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.spans)

    @property
    def feature_names(self) -> NDArray[np.object_] | None:
        """Names `[C]` of the targets of a frame, or None if one of them is no str."""
        columns = self.columns if self.kind in ("frame", "panel") else None
        if columns is None or not all(isinstance(c, str) for c in columns):
            return None
        return np.array(columns, dtype=object)

    def tail(self, length: int | NDArray[np.int64]) -> Panel:
        """Return the last `length` rows of every item; `length` is a number, or one per item `[I]`."""
        first, end = self.spans.T
        first = np.maximum(first, end - length)
        counts = end - first
        ends = np.cumsum(counts)
        rows = np.arange(ends[-1]) + np.repeat(end - ends, counts)
        index = self.index
        if index is not None:  # a slice keeps the frequency
            index = index[rows] if self.offsets is not None else index[-counts[0] :]
        offsets = None if self.offsets is None else np.concatenate([[0], ends])
        return replace(self, values=self.values[rows], index=index, offsets=offsets)

    def head(self, ends: NDArray[np.int64]) -> Panel:
        """Return the rows of every item before `ends` `[I]`; an item without such rows is left out."""
        first, end = self.spans.T
        if (ends >= end).all():
            return self
        counts = np.maximum(ends - first, 0)
        if self.items is None:
            index = None if self.index is None else self.index[: counts[0]]
            return replace(self, values=self.values[: counts[0]], index=index)
        assert self.index is not None
        kept = counts > 0
        rows = rows_within(first, first + counts, len(self.values))
        return replace(
            self,
            values=self.values[rows],
            index=self.index[rows],
            offsets=np.concatenate([[0], np.cumsum(counts[kept])]),
            items=self.items[kept],
            static=None if self.static is None else self.static[kept].reset_index(drop=True),
        )

    def before(self, rows: NDArray[np.int64]) -> Panel:
        """Return all rows that are earlier in time than each of `rows` `[I]` (-1: none)."""
        known = rows >= 0
        if self.items is None:
            return self.head(rows)
        assert self.index is not None
        earlier = np.asarray(self.index < self.index[rows[known]].min())
        return self.head(
            self.starts[:-1] + np.add.reduceat(earlier, self.starts[:-1], dtype=np.int64)
        )

    def check_kind(self, new: Panel) -> None:
        """Raise a ValueError unless a new panel is of the same kind as this one, which was fitted."""
        if new.kind != self.kind:
            raise ValueError(f"X is a {new.kind}, but a {self.kind} was fitted; give the same")

    def followed_by(self, new: Panel) -> Panel:
        """Return these rows, followed by new rows of some or all items.

        Raises
        ------
        ValueError
            If an item is not in this panel, or its rows do not follow its last row.
        """
        self.check_kind(new)
        if self.items is None or new.items is None:
            index, values = self.index, np.concatenate([self.values, new.values])
            if index is not None and new.index is not None:
                if self.irregular:
                    _check_later(new.index[:1], index[-1:], ["the series"])
                    index = index.append(new.index)
                    return replace(self, values=values, index=index)._with_gap_at(len(self.values))
                expected = continued(index, len(new.values), self.freq)
                _check_next(new.index, expected, "the series")
                index = extended(index, len(new.values), self.freq)
            return replace(self, values=values, index=index)
        assert self.index is not None
        assert new.index is not None
        place = self.items.get_indexer(new.items)
        if (place < 0).any():
            unknown = new.items.tolist()[int((place < 0).argmax())]
            raise ValueError(
                f"item {unknown!r} is not one of the series; fit it, or set_history with it"
            )
        counts = np.diff(new.starts)
        if self.irregular:
            last = self.index[self.starts[1:] - 1][place]
            names = [f"item {name!r}" for name in new.items.tolist()]
            _check_later(new.index[new.starts[:-1]], last, names)
        else:
            steps = int(counts.max())
            expected = self.future(steps)
            assert expected is not None
            within = np.arange(len(new.values)) - np.repeat(new.starts[:-1], counts)
            expected = expected[np.repeat(place, counts) * steps + within]
            for row in np.flatnonzero(new.index != expected)[:1]:
                name = new.items.tolist()[item_at(new.starts, row)]
                _check_next(new.index[row:], expected[row:], f"item {name!r}")
        old = np.repeat(np.arange(self.n_items), np.diff(self.starts))
        item = np.concatenate([old, np.repeat(place, counts)])
        order = np.argsort(item, kind="stable")
        counts = np.bincount(item, minlength=self.n_items)
        joined = replace(
            self,
            values=np.concatenate([self.values, new.values])[order],
            index=self.index.append(new.index)[order],
            offsets=np.concatenate([[0], np.cumsum(counts)]),
        )
        if not self.irregular:
            return joined
        return joined._with_gap_at((joined.starts[:-1] + np.diff(self.starts))[place])

    def _with_gap_at(self, rows: Any) -> Panel:
        """Write the time since the previous row into the first covariate of `rows`."""
        assert self.index is not None
        self.values[rows, self.n_targets] = time_gaps(self.index, self.freq)[rows]
        return self

    def windows(self, length: int) -> Array:
        """Return the last `length` rows of every item, `[I, length, F]`; NaN precedes a shorter item."""
        first, end = self.spans.T
        return gather_rows(self.values, end[:, None] + np.arange(-length, 0), first, end)

    def future(self, steps: int) -> pd.Index | None:
        """Return the next `steps` times of every item, one item after the other; None for an array."""
        if self.index is None or (self.offsets is None and not self.irregular):
            return None if self.index is None else continued(self.index, steps, self.freq)
        last = self.index[self.starts[1:] - 1]
        ahead = np.arange(1, steps + 1)
        if not isinstance(last, pd.DatetimeIndex):
            places = (last.to_numpy()[:, None] + self.freq * ahead).ravel()
            return pd.Index(places, name=self.index.name)
        ends = last.unique()
        place = ends.get_indexer(last)
        rows = self.starts[1:][np.unique(place, return_index=True)[1]] - 1
        after = []
        for row in rows:
            start, zone = local_clock(self.index, row, self.freq)
            after.append(time_range(start, self.freq, zone=zone, periods=steps + 1)[1:])
        places = place[:, None] * steps + ahead - 1
        return after[0].append(after[1:])[places.ravel()].rename(self.index.name)

    def format_forecast(self, values: Array) -> Any:
        """A forecast `[I, H, C]` in the form of the panel."""
        if self.kind in _ARRAYS:
            return self._as_array(values)
        steps = values.shape[1]
        return self._formed(values.reshape(-1, values.shape[2]), self.future(steps), steps)

    def format_rows(self, values: Array) -> Any:
        """Values `[N, C]` of the rows in the form of the panel."""
        if self.kind in _ARRAYS:
            return values[:, 0] if self.kind == "vector" else values
        return self._formed(values, self.index, np.diff(self.starts))

    def _as_array(self, values: Array) -> Array:
        """Return forecasts `[I, ..., H, C, ...]` without the axis I and, for a vector, without C."""
        if self.kind == "windows":
            return values
        return values[0] if self.kind == "array" else values[0, :, 0]

    def _formed(self, values: Array, index: pd.Index | None, counts: Any) -> Any:
        """Return values `[n, C]` at the times `index` as a pandas object; `counts` are rows per item."""
        assert self.columns is not None
        if self.kind == "series":
            return pd.Series(values[:, 0], index, name=self.columns[0])
        if self.kind == "frame":
            # None stays None beside numbers
            names = pd.Index(self.columns, dtype=object if None in self.columns else None)
            return pd.DataFrame(values, index, names)
        assert self.items is not None
        names = self.roles.item_id, self.roles.timestamp
        frame = pd.DataFrame({names[0]: self.items.repeat(counts), names[1]: index})
        for i, column in enumerate(self.columns):
            frame[column] = values[:, i]
        return frame

    def format_levels(self, values: Array, labels: tuple[Any, ...], level: str = "quantile") -> Any:
        """Values `[I, H, C, Q]` as an array, or a frame with columns (variate, label)."""
        if self.kind in _ARRAYS:
            return self._as_array(values)
        columns = pd.MultiIndex.from_product([self.columns, labels], names=["variate", level])
        index = self.future(values.shape[1])
        if self.items is not None:
            names = [self.roles.item_id, self.roles.timestamp]
            index = pd.MultiIndex.from_arrays(
                [self.items.repeat(values.shape[1]), index], names=names
            )
        return pd.DataFrame(
            values.reshape(len(values) * values.shape[1], len(columns)), index, columns
        )

    def format_samples(self, values: Array) -> Any:
        """Sample paths `[I, S, H, C]` as an array, or a frame with columns (variate, sample)."""
        paths = self.format_levels(
            np.moveaxis(values, 1, -1), tuple(range(values.shape[1])), "sample"
        )
        if isinstance(paths, np.ndarray):
            return np.moveaxis(paths, -1, 1 if self.kind == "windows" else 0)
        return paths


def _check_next(index: pd.Index, expected: pd.Index, what: str) -> None:
    odd = np.flatnonzero(np.asarray(index != expected))
    if len(odd):
        raise ValueError(
            f"the new rows of {what} have {index[odd[0]]} where {expected[odd[0]]} is expected; give the "
            "rows that follow (NaN where they are missing)"
        )


def _check_later(first: pd.Index, last: pd.Index, names: list[str]) -> None:
    for i in np.flatnonzero(first <= last)[:1]:
        raise ValueError(
            f"the new rows of {names[i]} begin at {first[i]}, which does not come after {last[i]}; give "
            "the rows that follow"
        )
