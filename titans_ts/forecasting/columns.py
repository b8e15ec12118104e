"""Columns of frames and arrays: their names, and their values as numbers."""

from __future__ import annotations

import difflib
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch import Tensor

__all__ = [
    "check_columns",
    "check_counts",
    "check_finite",
    "check_no_repeated",
    "column_names",
    "is_windows",
    "numeric_array",
    "numeric_column",
    "to_pandas",
]

Array = NDArray[np.float64]
_LARGEST = 1e100
"""Largest absolute value: the sum of squares of any number of such values is finite."""


def column_names(columns: Any) -> tuple[Any, ...]:
    """Return the names of one or several columns as a tuple."""
    if isinstance(columns, (list, tuple, pd.Index, np.ndarray)):
        return tuple(c.item() if isinstance(c, np.generic) else c for c in columns)
    return (columns.item() if isinstance(columns, np.generic) else columns,)


def check_columns(
    frame: pd.DataFrame, names: list[Any], what: str, fitted: tuple[Any, ...] | None = None
) -> None:
    """Raise a ValueError if a frame, called `what` in the message, lacks one of the columns."""
    for name in names:
        if name not in frame.columns:
            near = difflib.get_close_matches(str(name), list(map(str, frame.columns)), 1, 0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            has = (
                f"fit saw {list(fitted)}; give the same"
                if fitted
                else f"it has {list(frame.columns)}; choose one of them{hint}, or add it"
            )
            raise ValueError(f"{what} lacks the column {name!r}; {has}")


def check_no_repeated(frame: pd.DataFrame) -> None:
    """Raise a ValueError if two columns of a frame have one name."""
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"X has the column {repeated[0]!r} more than once; rename or drop one")


def to_pandas(X: Any, name: str) -> Any:
    """Return a frame of polars or pyarrow as one of pandas, and anything else unchanged.

    Raises
    ------
    TypeError
        If it is a lazy frame of polars.
    """
    if hasattr(X, "collect") and hasattr(X, "lazy"):
        raise TypeError(
            f"{name} is a {type(X).__name__}, which has no values yet; give {name}.collect()"
        )
    return X.to_pandas() if hasattr(X, "to_pandas") else X


def is_windows(X: Any) -> bool:
    """Return whether X is an array with three axes: a batch of windows."""
    if isinstance(X, (pd.DataFrame, pd.Series)):
        return False
    try:
        return bool(np.ndim(X) == 3)
    except ValueError:  # lists of unequal lengths, which numeric_array refuses
        return False


def numeric_array(X: Any, name: str = "X") -> Array:
    """Convert an array, a list or a masked array (masked values become NaN) to float64.

    Raises
    ------
    TypeError, ValueError
        If it is sparse, complex or not numeric.
    """
    if isinstance(X, (str, bytes)) or X is None:
        raise TypeError(f"{name} is {X!r}; give an array [T, C], a Series or a wide DataFrame")
    if isinstance(X, Tensor):
        X = (
            X.detach().cpu().numpy()
            if X.dtype != torch.bfloat16
            else X.detach().cpu().float().numpy()
        )
    if issparse(X):
        raise TypeError(f"{name} is sparse; give {name}.toarray()")
    try:
        values = np.ma.filled(X.astype(float), np.nan) if np.ma.isMaskedArray(X) else np.asarray(X)
        if values.dtype.kind == "O":  # numbers that were stored together with text
            values = values.astype(float)
        if values.dtype.kind not in "fiubc":
            raise TypeError(f"dtype {values.dtype}")
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            f"{name} is a {type(X).__name__} that is not numeric ({error}); "
            "give an array [T, C], a Series or a wide DataFrame of numbers"
        ) from error
    if values.dtype.kind == "c":
        raise ValueError(
            f"{name} is complex. Complex data not supported; give its parts as variates"
        )
    return np.ascontiguousarray(values, dtype=np.float64)


def numeric_column(column: pd.Series) -> Array:
    """Return a numeric column as float64; raise a TypeError for any other column."""
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    known = column.dropna()
    if column.dtype == object and len(known) and all(isinstance(v, Decimal) for v in known):
        return column.map(lambda v: np.nan if pd.isna(v) else float(v)).to_numpy(np.float64)
    name = column.name
    if _holds_times(column):
        raise TypeError(
            f"column {name!r} holds times (dtype {column.dtype}); give timestamp={name!r}, or set it as "
            "the index as dates"
        )
    raise TypeError(
        f"column {name!r} has dtype {column.dtype}; convert it to numbers, set it as the index if it "
        "holds the time, name it in static_covariates or as item_id if it names the series, or drop it"
    )


def _holds_times(column: pd.Series) -> bool:
    """Return whether a column has times, or text that begins with a date in ISO 8601."""
    if column.dtype.kind == "M":
        return True
    first = column.dropna().head(1)
    return bool(len(first) and re.match(r"\d{4}-\d{2}(-\d{2})?\b", str(first.iloc[0])))


def check_finite(values: Array, columns: tuple[Any, ...] | None, what: str) -> None:
    """Raise a ValueError that names the first value `[N, F]` that cannot be used; NaN is allowed.

    These are infinite values, and those beyond 1e100, whose products overflow.
    """
    wrong = np.abs(values) > _LARGEST
    if wrong.any():
        row, column = np.unravel_index(int(wrong.argmax()), values.shape)
        name = int(column) if columns is None or columns[column] is None else columns[column]
        if np.isinf(values[row, column]):
            raise ValueError(
                f"{what} is infinite in row {row}, column {name!r}; replace it, or set NaN for missing"
            )
        raise ValueError(
            f"{what} has {values[row, column]:g} in row {row}, column {name!r}; values lie between "
            f"-{_LARGEST:g} and {_LARGEST:g}: give it in a larger unit"
        )


def check_counts(values: Array) -> None:
    """Raise a ValueError that names the first value `[N, C]` that is no count; NaN is allowed."""
    wrong = ~np.isnan(values) & ((values < 0) | (values != np.round(values)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"output is 'negative_binomial', but X has {values[row, column]:g} in row {row}; "
            "counts are whole numbers of at least 0"
        )
