"""Reading what a user calls a series, and answering in the same form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.estimators.index import continued, regular

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

    def answer(self, values: Array) -> Any:
        """A forecast `[H, C]` in the form of the series."""
        if self.kind == "array":
            return values
        if self.kind == "vector":
            return values[:, 0]
        index = continued(self.index, len(values))
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
            values.reshape(len(values), -1), continued(self.index, len(values)), columns
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
        series = Series(series.values, series.kind, series.columns, regular(series.index, fitted))
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
