"""Read a column of dates in one consistent way; ambiguous dates raise an error."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import pandas as pd

from titans_ts.forecasting.frequency import guess_frequency
from titans_ts.forecasting.time_ranges import time_range

__all__ = ["CLOCK", "read_dates"]

CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
"""A time of day without a date."""

_NUMERIC = re.compile(rf"(\d{{1,4}})([/.-])\d{{1,2}}\2(\d{{1,4}})(?:([ T]){CLOCK})?")


def read_dates(column: pd.Series, say: Callable[[str], None]) -> pd.Series | None:
    """Read a column as dates.

    Parameters
    ----------
    column : Series
        Text, dates, or whole numbers: YYYYMMDD, YYYYMM or YYYY at regular steps, or seconds or
        milliseconds since 1970.
    say : callable
        Receives one line for every assumption.

    Returns
    -------
    Series or None
        The dates, with NaT for cells that are not dates; None if the column has no dates.

    Raises
    ------
    ValueError
        If the day and the month cannot be distinguished.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return column
    if pd.api.types.is_integer_dtype(column):
        return _from_numbers(column, say)
    if pd.api.types.is_numeric_dtype(column):
        return None
    text = column.astype("string").str.strip()
    known = text.dropna()
    if known.empty or known.str.fullmatch(CLOCK).mean() > 0.5:
        return None  # pandas would read a time of day as today's
    match = _NUMERIC.fullmatch(known.iloc[0])
    dates = _from_text(text) if match is None else _from_parts(text, match)
    return dates if dates.notna().mean() > 0.5 else None


def _from_numbers(column: pd.Series, say: Callable[[str], None]) -> pd.Series | None:
    low, high = column.min(), column.max()
    if low >= 19_000_101 and high <= 21_001_231:
        dates = pd.to_datetime(column.astype("string"), format="%Y%m%d", errors="coerce")
        return dates if dates.notna().all() else None
    periods = _from_periods(column)
    if periods is not None:
        say(f"column {column.name!r} is taken as {'years' if high < 10_000 else 'months'}")
        return periods
    for unit, scale in (("s", 1), ("ms", 1000)):
        if 3e8 * scale <= low and high <= 4.2e9 * scale and column.is_monotonic_increasing:
            say(f"column {column.name!r} is taken as {unit} since 1970")
            return pd.to_datetime(column, unit=unit)
    return None


def _from_periods(column: pd.Series) -> pd.Series | None:
    """Read years from 1500 to 2500, or months as YYYYMM, that follow one another at equal steps."""
    number = column.astype("Int64")
    if len(number) < 3 or number.isna().any():
        return None
    months = number * 12
    form = "%Y"
    if number.min() > 10_000:
        year, month, form = number // 100, number % 100, "%Y%m"
        if not month.between(1, 12).all():
            return None
        months = year * 12 + month - 1
    steps = months.diff().dropna()
    if not months.between(1500 * 12, 2500 * 12).all() or (steps != steps.iloc[0]).any():
        return None
    return pd.to_datetime(number.astype("string"), format=form) if steps.iloc[0] > 0 else None


def _from_parts(text: pd.Series, match: re.Match[str]) -> pd.Series:
    """Read dates of three numbers: of all orders that read most cells, take the regular one."""
    first, separator, last = match.group(1, 2, 3)
    if len(first) == 4:
        dates = _from_text(text)  # also if some cells have a time of day, and others none
        if separator == "-" and dates.notna().sum() == text.notna().sum():
            return dates
        orders = ["%Y{}%m{}%d"]
    elif len(last) == 4:
        orders = ["%m{}%d{}%Y", "%d{}%m{}%Y"]
    else:
        orders = ["%m{}%d{}%y", "%d{}%m{}%y", "%y{}%m{}%d"]
    clock = match.group(4)
    ends = [""] if clock is None else [f"{clock}%H:%M", f"{clock}%H:%M:%S", f"{clock}%H:%M:%S.%f"]
    forms = [order.format(separator, separator) + end for order in orders for end in ends]
    ways = [pd.to_datetime(text, format=form, errors="coerce") for form in forms]
    most = max(dates.notna().sum() for dates in ways)
    best = [dates for dates in ways if dates.notna().sum() == most]
    different = [
        dates for i, dates in enumerate(best) if not any(dates.equals(d) for d in best[:i])
    ]
    if len(different) > 1:
        regular = [d for d in different if _is_regular(d)]
        in_order = [d for d in regular if d.is_monotonic_increasing]
        regular = in_order or regular
        if len(regular) != 1:
            example = str(text.dropna().iloc[0])
            raise ValueError(
                f"column {text.name!r} holds {example!r}, whose day, month and year can be read in "
                "more than one order; write dates as YYYY-MM-DD"
            )
        return regular[0]
    return different[0]


def _is_regular(dates: pd.Series) -> bool:
    stamps = pd.DatetimeIndex(dates.dropna().sort_values().unique())
    freq = guess_frequency(stamps)
    if freq is None:
        return False
    return len(time_range(stamps[0], freq, end=stamps[-1]).union(stamps)) < 1.2 * len(stamps)


def _from_text(text: pd.Series) -> pd.Series:
    """Read ISO 8601 dates with a time zone, or dates with names of months."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns about its fallback parser
        for options in ({"format": "ISO8601"}, {}):
            try:
                dates = pd.to_datetime(text, errors="coerce", **options)
            except ValueError:  # the offset from UTC changes within the column
                dates = pd.to_datetime(text, errors="coerce", utc=True, **options)
            if not pd.api.types.is_datetime64_any_dtype(dates):
                dates = pd.to_datetime(text, errors="coerce", utc=True, **options)
            if dates.notna().mean() > 0.5:
                break
    return dates
