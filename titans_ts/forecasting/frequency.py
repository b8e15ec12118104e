"""The frequency of a series, its usual seasons, and the position of times in cycles."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

__all__ = [
    "CYCLES",
    "calendar_features",
    "cycle_phase",
    "guess_frequency",
    "usual_season",
    "usual_seasons",
]

_DAY = pd.Timedelta(days=1)
_PER_YEAR = {"W": 52, "M": 12, "Q": 4, "B": 5}


def guess_frequency(index: pd.DatetimeIndex) -> str | None:
    """Return the frequency of an index; of an irregular one, the commonest among its runs of ten rows.

    Parameters
    ----------
    index : DatetimeIndex
        The times, in increasing order.

    Returns
    -------
    str or None
        A pandas frequency. None if no run has one, or if most rows would be missing at that frequency.

    Examples
    --------
    >>> months = pd.date_range("2024-01-01", periods=30, freq="MS")
    >>> guess_frequency(months.delete(20))
    'MS'
    """
    if len(index) < 3:
        return None
    whole = _infer(index)
    if whole is not None or len(index) < 10:
        return whole
    stretch = max(1, len(index) // 50)
    inferred = (_infer(index[i : i + 10]) for i in range(0, len(index) - 9, stretch))
    guesses = Counter(guess for guess in inferred if guess is not None)
    if not guesses:
        return None
    guess = guesses.most_common(1)[0][0]
    first = pd.date_range(index[0].tz_localize(None), periods=2, freq=guess, unit=index.unit)
    too_fine = (index[-1] - index[0]) / (first[1] - first[0]) > 10 * len(index)
    return None if too_fine else guess  # filling nine rows in ten would invent a series


def _infer(index: pd.DatetimeIndex) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 3 announces that a later one returns an offset
        freq = pd.infer_freq(index)
    name = freq if freq is None or isinstance(freq, str) else freq.freqstr
    if name is not None and name.lower() == "bh" and not _in_business_hours(index):
        return "h"  # pandas takes any gap of 17 hours for a night
    return name


def _in_business_hours(index: pd.DatetimeIndex) -> bool:
    """Return whether all times lie between 9:00 and 17:00 from Monday to Friday."""
    return bool(((index.dayofweek < 5) & (index.hour >= 9) & (index.hour < 17)).all())


def usual_season(freq: str | pd.offsets.BaseOffset | None) -> int:
    """Return the number of steps in the shortest usual season of a frequency (a day, a week or a year).

    It is 1 if the frequency has no usual season.

    Examples
    --------
    >>> usual_season("h"), usual_season("15min"), usual_season("D"), usual_season("MS")
    (24, 96, 7, 12)
    """
    return usual_seasons(freq)[0]


def usual_seasons(freq: str | pd.offsets.BaseOffset | None) -> tuple[int, ...]:
    """Return the number of steps in each usual season of a frequency, in increasing order.

    Steps of less than a day have a season of a day and one of a week. It is ``(1,)`` if the frequency
    has no usual season.

    Examples
    --------
    >>> usual_seasons("h"), usual_seasons("D"), usual_seasons("MS"), usual_seasons("YS")
    ((24, 168), (7,), (12,), (1,))
    """
    if freq is None:
        return (1,)
    offset = to_offset(freq)
    name = _rule(offset)
    name = name if name in ("s", "h") else re.sub("^C?B(?=[MQY][SE])|[SE]$", "", name)
    if name in _PER_YEAR:
        return (max(1, _PER_YEAR[name] // offset.n),)
    if name == "D":
        return (7,) if offset.n == 1 else (1,)
    try:
        step = pd.Timedelta(offset)
    except ValueError:
        return (1,)
    if step >= _DAY or _DAY % step != pd.Timedelta(0):
        return (1,)
    return int(_DAY / step), int(7 * _DAY / step)


def _rule(offset: pd.offsets.BaseOffset) -> str:
    """Return the name of an offset without its anchor, for instance "W"; empty if pandas has none."""
    try:
        return str(offset.rule_code).split("-")[0]
    except NotImplementedError:  # raised by pandas for an offset such as DateOffset(days=2)
        return ""


CYCLES = {
    "hour": pd.Timedelta(hours=1),
    "day": _DAY,
    "week": 7 * _DAY,
    "month": 28 * _DAY,
    "year": 365 * _DAY,
}
"""Cycles of the calendar, and their shortest duration."""


def calendar_features(
    index: pd.Index, freq: str | pd.offsets.BaseOffset | None, cycles: Sequence[str] = tuple(CYCLES)
) -> NDArray[np.float64]:
    """Return the position of times in the hour, day, week, month and year, for cycles longer than a step.

    Parameters
    ----------
    index : DatetimeIndex or PeriodIndex
        T times.
    freq : str, offset or None
        Their frequency. Cycles that are not longer than one step of it are left out; None keeps all.
    cycles : sequence of str
        Keys of :data:`CYCLES` (default: all of them).

    Returns
    -------
    ndarray
        `[T, 2 n]`, sine and cosine of each of the n cycles. For yearly times n is 0.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=3, freq="D")
    >>> calendar_features(days, "D").shape  # week, month, year
    (3, 6)
    """
    times = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
    step = pd.Timedelta(0)
    if freq is not None:
        first = pd.Timestamp(2001, 1, 1) + to_offset(freq)
        step = (first + to_offset(freq)) - first
    day = (times.hour + (times.minute + times.second / 60) / 60) / 24
    places = {
        "hour": (times.minute + times.second / 60) / 60,
        "day": day,
        "week": (times.dayofweek + day) / 7,
        "month": (times.day - 1) / 31,
        "year": (times.dayofyear - 1) / 365.25,
    }
    angles = [2 * np.pi * np.asarray(places[c]) for c in cycles if CYCLES[c] > step]
    features = [f(angle) for angle in angles for f in (np.sin, np.cos)]
    return np.stack(features, -1) if features else np.empty((len(times), 0))


def cycle_phase(
    index: pd.Index, freq: str | int | pd.offsets.BaseOffset, length: int
) -> NDArray[np.int64]:
    """Return the position of times in a season of `length` steps.

    A time has the same position in all series. Steps are counted from the beginning of 1970 in local
    time, and whole numbers from 0. A month, quarter or year counts as one step, whether its time is its
    first day or its last.

    Parameters
    ----------
    index : DatetimeIndex, PeriodIndex or Index of whole numbers
        The T times of a regular series.
    freq : str, offset or int
        Their frequency.
    length : int
        Number of steps in a season.

    Returns
    -------
    ndarray
        `[T]`, 0 to `length - 1`.

    Examples
    --------
    >>> hours = pd.date_range("2024-01-01 22:00", periods=4, freq="h")
    >>> cycle_phase(hours, "h", 24)
    array([22, 23,  0,  1])
    """
    if not isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)):
        return index.to_numpy() // int(freq) % length
    offset = to_offset(freq)
    rule = _rule(offset)
    even = isinstance(offset, pd.offsets.Tick) or rule == "D"
    if isinstance(index, pd.PeriodIndex):
        times = index.to_timestamp() if even else index.to_timestamp(how="end")
    else:
        times = index.tz_localize(None)
    days = times.to_numpy().astype("M8[D]")
    if even:
        step = _DAY * offset.n if rule == "D" else pd.Timedelta(offset)
        return times.as_unit("ns").asi8 // step.as_unit("ns")._value % length
    if rule == "B":
        steps = np.busday_count("1970-01-01", days)
    elif rule == "W":
        steps = days.astype(np.int64) // 7
    elif match := re.fullmatch("C?B?([MQY])([SE]?)", rule):
        size = {"M": 1, "Q": 3, "Y": 12}[match[1]]
        ends = isinstance(index, pd.PeriodIndex) or match[2] != "S"
        steps = (days.astype("M8[M]").astype(np.int64) - (size - 1) * ends) // size
    else:
        raise ValueError(
            f"season_length is {length}, but steps of frequency {offset.freqstr!r} cannot be counted; "
            "bring the series to another one (freq=), or set season_length=0"
        )
    return steps // offset.n % length
