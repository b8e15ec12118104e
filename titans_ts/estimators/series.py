"""Reading what a user calls a series, and answering in the same form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.frequency import guess_frequency

__all__ = ["Series", "read_series", "read_windows"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A series `[T, C]` with what is needed to answer in the form it came in."""

    values: Array
    """`[T, C]` float64, NaN is missing."""
    kind: str
    """"frame", "series" (pandas) or "array"; "vector" for a 1-D array."""
    columns: tuple[Any, ...] | None = None
    index: pd.Index | None = None

    def future_index(self, steps: int) -> pd.Index:
        """The index of the next `steps` rows, at the index's own frequency."""
        index = self.index
        assert index is not None
        if isinstance(index, pd.PeriodIndex):
            return pd.period_range(index[-1] + 1, periods=steps, freq=index.freq, name=index.name)
        if isinstance(index, pd.DatetimeIndex):
            future = pd.date_range(index[-1], periods=steps + 1, freq=index.freq)[1:]
            return future.rename(index.name)
        assert isinstance(index, pd.RangeIndex)
        start = index[-1] + index.step
        return pd.RangeIndex(start, start + steps * index.step, index.step, name=index.name)

    def answer(self, values: Array) -> Any:
        """A forecast `[H, C]` in the form of the series."""
        if self.kind == "array":
            return values
        if self.kind == "vector":
            return values[:, 0]
        index = self.future_index(len(values))
        if self.kind == "series":
            name = None if self.columns is None else self.columns[0]
            return pd.Series(values[:, 0], index, name=name)
        return pd.DataFrame(values, index, pd.Index(self.columns))

    def answer_quantiles(self, values: Array, levels: tuple[float, ...]) -> Any:
        """Quantiles `[H, C, Q]` as an array, or a frame with columns (variate, level)."""
        if self.kind in ("array", "vector"):
            return values if self.kind == "array" else values[:, 0]
        columns = pd.MultiIndex.from_product([self.columns, levels], names=["variate", "quantile"])
        return pd.DataFrame(
            values.reshape(len(values), -1), self.future_index(len(values)), columns
        )


def read_series(X: Any, *, min_rows: int = 2, like: Series | None = None) -> Series:
    """Read a series from an array `[T]` or `[T, C]`, a pandas Series or a wide DataFrame.

    Parameters
    ----------
    X : array, Series or DataFrame
        Rows in time order; NaN is missing.
    min_rows : int
        Rows needed.
    like : Series, optional
        The series that was fitted: a frame must have its columns, and is put in their order; an index
        too short to tell its frequency has that one's.

    Raises
    ------
    TypeError, ValueError
        If X is of another kind, not numeric, infinite, too short, or its index is not a regular,
        increasing one; the message names what was found and how to mend it.
    """
    if isinstance(X, (pd.DataFrame, pd.Series)):
        frame = X.to_frame() if isinstance(X, pd.Series) else X
        kind = "series" if isinstance(X, pd.Series) else "frame"
        known = like.columns if like is not None and like.kind == kind == "frame" else None
        frame = _select(frame, known)
        if frame.shape[1] == 0:
            raise ValueError("X has no column; give at least one variate")
        values = np.column_stack([_numeric(frame.iloc[:, i]) for i in range(frame.shape[1])])
        columns = (X.name,) if isinstance(X, pd.Series) else tuple(frame.columns)
        series = Series(np.ascontiguousarray(values), kind, columns, frame.index)
    else:
        values = _array(X)
        if values.ndim not in (1, 2):
            raise ValueError(f"X has shape {values.shape}; give a series [T] or [T, C]")
        kind = "vector" if values.ndim == 1 else "array"
        if values.size == 0:
            raise ValueError(f"X has shape {values.shape}; give at least one row and one variate")
        series = Series(values.reshape(len(values), -1), kind)
    _check_values(series.values, series.columns)
    if len(series.values) < min_rows:
        raise ValueError(
            f"X has {len(series.values)} rows; at least {min_rows} are needed "
            "(give more history, or shorten context_length or prediction_length)"
        )
    if series.index is not None:
        fitted = None if like is None else like.index
        series = Series(series.values, series.kind, series.columns, _regular(series.index, fitted))
    return series


def read_windows(X: Any, context_length: int, n_variates: int) -> Array:
    """Read a batch of windows `[N, context_length, C]`."""
    values = _array(X)
    if values.shape[1:] != (context_length, n_variates) or len(values) == 0:
        raise ValueError(
            f"X has shape {values.shape}; a batch of windows is [N, {context_length}, {n_variates}]"
        )
    _check_values(values.reshape(-1, n_variates), None)
    return values


def _array(X: Any) -> Array:
    if isinstance(X, (str, bytes)) or X is None:
        raise TypeError(f"X is {X!r}; give an array [T, C], a Series or a wide DataFrame")
    try:
        values = np.ma.filled(X.astype(float), np.nan) if np.ma.isMaskedArray(X) else np.asarray(X)
        if values.dtype.kind not in "fiub":
            raise TypeError(f"dtype {values.dtype}")
        return np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"X is a {type(X).__name__} that is not numeric ({error}); "
            "give an array [T, C], a Series or a wide DataFrame of numbers"
        ) from error


def _select(frame: pd.DataFrame, columns: tuple[Any, ...] | None) -> pd.DataFrame:
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError("X has columns of several levels; flatten them to one name a variate")
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"X has the column {repeated[0]!r} more than once; rename or drop one")
    if columns is None:
        return frame
    for what, names in (
        ("lacks the column", [c for c in columns if c not in frame.columns]),
        ("has the unknown column", [c for c in frame.columns if c not in columns]),
    ):
        if names:
            raise ValueError(f"X {what} {names[0]!r}; fit saw {list(columns)}")
    return frame[list(columns)]


def _numeric(column: pd.Series) -> Array:
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    raise TypeError(
        f"column {column.name!r} has dtype {column.dtype}; convert it to numbers, "
        "set it as the index if it holds the time, or drop it"
    )


def _check_values(values: Array, columns: tuple[Any, ...] | None) -> None:
    bad = np.argwhere(np.isinf(values))
    if len(bad):
        row, column = bad[0]
        name = column if columns is None else columns[column]
        raise ValueError(
            f"X is infinite in row {row}, column {name!r}; replace it, or set NaN for missing"
        )


def _regular(index: pd.Index, known: pd.Index | None) -> pd.Index:
    """The index with its frequency, or an error that says where it is not regular."""
    stamps: pd.Index = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
    if isinstance(stamps, pd.MultiIndex) or stamps.dtype.kind not in "Miu":
        raise TypeError(
            f"the index of X has dtype {index.dtype}; "
            "give a DatetimeIndex (pd.to_datetime), a PeriodIndex or whole numbers"
        )
    if stamps.hasnans:
        raise ValueError("the index of X has NaT; drop those rows")
    for i in np.flatnonzero(stamps[1:] <= stamps[:-1])[:1]:
        found = "twice" if index[i] == index[i + 1] else f"before {index[i + 1]}"
        raise ValueError(
            f"the index of X has {index[i]} {found}; sort it and drop duplicates "
            "(X[~X.index.duplicated()].sort_index())"
        )
    known_step = getattr(known, "step", 1)
    if isinstance(index, pd.DatetimeIndex):
        return _with_frequency(index, getattr(known, "freq", None))
    if isinstance(index, pd.PeriodIndex):
        steps = np.array([step.n for step in index[1:] - index[:-1]], dtype=np.int64)
    else:
        steps = np.diff(index.to_numpy())
    if not len(steps):
        return index if isinstance(index, pd.PeriodIndex) else _numbers(index, known_step)
    kinds, counts = np.unique(steps, return_counts=True)
    odd = np.flatnonzero(steps != kinds[counts.argmax()])
    if len(odd):
        raise ValueError(
            f"the index of X has a gap: {index[odd[0] + 1]} follows {index[odd[0]]}; "
            "reindex it so that the rows between are NaN, which is missing data"
        )
    return index if isinstance(index, pd.PeriodIndex) else _numbers(index, int(steps[0]))


def _numbers(index: pd.Index, step: int) -> pd.RangeIndex:
    return pd.RangeIndex(int(index[0]), int(index[-1]) + step, step, name=index.name)


def _with_frequency(index: pd.DatetimeIndex, freq: Any) -> pd.DatetimeIndex:
    """The index with its frequency; one too short to tell has the frequency given."""
    if index.freq is not None:
        return index
    if len(index) < 3 and freq is None:
        return pd.DatetimeIndex(index, freq=index[1] - index[0]) if len(index) == 2 else index
    guess = freq if len(index) < 3 else guess_frequency(index)
    if guess is None:
        raise ValueError(
            f"the index of X has no regular frequency ({index[0]}, {index[1]}, {index[2]}, ...); "
            "resample it (X.resample(...).mean())"
        )
    expected = pd.date_range(index[0], index[-1], freq=guess, name=index.name)
    missing, extra = expected.difference(index), index.difference(expected)
    if len(missing) or len(extra):
        what = f"lacks {missing[0]}" if len(missing) else f"has {extra[0]} between two steps"
        raise ValueError(
            f"the index of X {what} at frequency {guess!r}; make it regular "
            f"(X.asfreq({guess!r}) sets the rows between to NaN, which is missing data)"
        )
    return expected
