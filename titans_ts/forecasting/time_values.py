"""Bring times of any type to times, periods or whole numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from titans_ts.forecasting.dates import read_dates

__all__ = ["as_times"]


def as_times(values: pd.Series, what: str) -> pd.Series:
    """Return times, periods or whole numbers from a column or an index.

    Parameters
    ----------
    values : Series
        Times of numpy or pyarrow, periods, dates, text, or whole numbers of any type.
    what : str
        Its name in messages, such as "column 'timestamp'".

    Returns
    -------
    Series
        Of dtype datetime64, period or int. A time that is missing is NaT.

    Raises
    ------
    TypeError, ValueError
        If they are something else, or text whose day and month cannot be distinguished.
    """
    if isinstance(values.dtype, pd.PeriodDtype):
        return values
    if values.dtype.kind == "M":  # pyarrow's have another class
        times = values.array if hasattr(values.array, "freq") else pd.DatetimeIndex(values)
        return pd.Series(times, values.index, name=values.name)
    if values.dtype.kind == "O":
        known = values.dropna()
        if len(known) and all(_is_number(value) for value in known):
            values = pd.Series(pd.to_numeric(values), values.index, name=values.name)
    if pd.api.types.is_numeric_dtype(values.dtype):
        return _whole(values, what)
    if not pd.api.types.is_string_dtype(values.dtype) or _of_dates(values):
        return _converted(values, what)
    text = values.astype("string")
    offsets = text.str.extract(r":\d{2}(?:\.\d+)? ?([+-]\d{2}:?\d{2})$")[0].dropna().unique()
    if len(offsets) > 1:
        raise ValueError(
            f"{what} holds times of several offsets from UTC ({offsets[0]}, {offsets[1]}); convert it, "
            "for instance pd.to_datetime(X[...], utc=True).dt.tz_convert('Europe/Berlin')"
        )
    dates = read_dates(values, lambda message: None)
    if dates is None:
        return _converted(values, what)
    wrong = dates.isna() & values.notna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise ValueError(
            f"{what} holds no times ({values.iloc[row]!r} in row {row}); convert it by pd.to_datetime"
        )
    return dates


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _of_dates(values: pd.Series) -> bool:
    """Return whether a column of objects holds something else than text."""
    known = values.dropna()
    return len(known) == 0 or not all(isinstance(value, str) for value in known.iloc[:10])


def _whole(values: pd.Series, what: str) -> pd.Series:
    """Return numbers as int64; they count steps, and are no nanoseconds since 1970."""
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~(np.abs(numbers) < 2**53) | (numbers != np.round(numbers))
    if wrong.any() or values.dtype.kind == "b":
        row = int(wrong.argmax())
        raise TypeError(
            f"{what} holds {values.iloc[row]} in row {row}, which is neither a time nor a whole number; "
            "convert it by pd.to_datetime, or drop the row"
        )
    if values.dtype.kind == "f":
        return pd.Series(numbers.astype(np.int64), values.index, name=values.name)
    return pd.Series(values.to_numpy(dtype=np.int64), values.index, name=values.name)


def _converted(values: pd.Series, what: str) -> pd.Series:
    """Return what pandas can convert to times."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of several zones, refused below
            times = pd.to_datetime(values.astype(object))
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: of mixed types
        raise ValueError(
            f"{what} holds no times ({str(error).splitlines()[0]}); convert it by pd.to_datetime"
        ) from error
    if times.dtype.kind != "M":
        raise ValueError(
            f"{what} holds times of several zones; convert it by pd.to_datetime(X[...], utc=True)"
        )
    return times
