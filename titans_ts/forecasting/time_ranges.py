"""Ranges of times, also where the clocks change at the time of a step.

In a time zone, steps of a day or more follow the local clock. In some zones the clocks change at
midnight: a day then has no midnight, or two. Such a step begins at the first time that exists, or at the
first of the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

__all__ = ["check_span", "in_zone", "local_clock", "time_range", "within_unit"]

_MOST_STEPS = 10_000_000
"""Number of steps that a series may have at any number of rows."""
_MOST_EMPTY = 1000
"""Largest number of steps to a row of a longer series."""


def time_range(
    start: pd.Timestamp,
    freq: Any,
    *,
    zone: Any = None,
    periods: int | None = None,
    end: pd.Timestamp | None = None,
    name: Any = None,
) -> pd.DatetimeIndex:
    """Return the times of a frequency from `start` on, in its unit.

    Parameters
    ----------
    start : Timestamp
        The first time, in a time zone or not.
    freq : str or offset
        The distance of two times.
    zone : tzinfo or str, optional
        The zone of a `start` that is a time of the local clock, as :func:`local_clock` returns it.
    periods : int, optional
        Number of times.
    end : Timestamp, optional
        The end of the range, in the zone if there is one. Give it or `periods`.
    name : optional
        The name of the index.

    Raises
    ------
    ValueError
        If a time is beyond those of its unit (for nanoseconds, the years 1678 to 2261).

    Examples
    --------
    >>> start = pd.Timestamp("2024-09-07", tz="America/Santiago")
    >>> [str(time) for time in time_range(start, "D", periods=3)]
    ['2024-09-07 00:00:00-04:00', '2024-09-08 01:00:00-03:00', '2024-09-09 00:00:00-03:00']
    """
    options: dict[str, Any] = {"periods": periods, "freq": freq, "unit": start.unit, "name": name}
    with within_unit(start):
        return _time_range(start, end, start.tz if zone is None else zone, options)


def _time_range(
    start: pd.Timestamp, end: pd.Timestamp | None, zone: Any, options: dict[str, Any]
) -> pd.DatetimeIndex:
    freq, name = options["freq"], options["name"]
    if zone is None or not _by_clock(freq):
        return pd.date_range(start, end, **options)
    stop = None if end is None else end.tz_convert(zone).tz_localize(None)
    clock = pd.date_range(start.tz_localize(None), stop, **options)
    times = clock.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    if not times.hasnans:
        return pd.DatetimeIndex(times, freq=freq, name=name) if len(times) else times
    return in_zone(clock, zone)


def in_zone(clock: pd.DatetimeIndex, zone: Any) -> pd.DatetimeIndex:
    """Return the times of a local clock in its zone, also where it has none of them, or two."""
    first = np.ones(len(clock), bool)  # of two times, the one before the clocks go back
    return clock.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")


def check_span(times: pd.DatetimeIndex, freq: Any) -> None:
    """Raise a ValueError if times, in any order, span more steps than memory can hold."""
    offset, first, last = to_offset(freq), times.min(), times.max()
    begin = pd.Timestamp(2001, 1, 1)
    step = (begin + 10 * offset - begin) / 10
    steps = (last.as_unit("s") - first.as_unit("s")) / step
    if steps > max(_MOST_STEPS, _MOST_EMPTY * len(times)):
        raise ValueError(
            f"X has {len(times)} rows from {first} to {last}, which are {steps:.0f} steps of frequency "
            f"{offset.freqstr!r}; give a longer step as freq, or drop rows that are far from the others"
        )


@contextmanager
def within_unit(first: pd.Timestamp) -> Iterator[None]:
    """Raise a ValueError that names the unit of a time if times that follow from it are beyond it."""
    try:
        yield
    except (pd.errors.OutOfBoundsDatetime, OverflowError) as error:
        raise ValueError(
            f"steps from {first} on reach beyond the times of unit {first.unit!r} ({error}); give a "
            "shorter series, or times of unit 's' (X.index.as_unit('s'))"
        ) from error


def local_clock(index: pd.DatetimeIndex, row: int, freq: Any) -> tuple[pd.Timestamp, Any]:
    """Return where :func:`time_range` begins for it to continue a row: `start` and `zone`.

    A row that stands right after the clocks went forward may stand for the missing time before it; it
    gets the usual time of day of the index. Steps of less than a day continue the time itself.
    """
    time = index[row]
    if time.tz is None or not _by_clock(freq):
        return time, None
    clock, second = time.tz_localize(None), pd.Timedelta(1, "s")
    if clock - (time - second).tz_localize(None) > second:
        local = index.tz_localize(None)
        usual = (local - local.normalize()).min()
        clock = min(clock, (clock.normalize() + usual).as_unit(index.unit))
    return clock, index.tz


def _by_clock(freq: Any) -> bool:
    """Return whether steps of a frequency follow the local clock, and not the time that passes."""
    offset = to_offset(freq)
    return isinstance(offset, pd.offsets.Day) or not isinstance(offset, pd.offsets.Tick)
