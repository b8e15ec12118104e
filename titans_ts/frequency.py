"""How often a series is observed, and how long its season usually is."""

from __future__ import annotations

import pandas as pd
from pandas.tseries.frequencies import to_offset

__all__ = ["guess_frequency", "usual_season"]

_DAY = pd.Timedelta(days=1)
_PER_YEAR = {"W": 52, "M": 12, "Q": 4, "B": 5}


def guess_frequency(index: pd.DatetimeIndex) -> str | None:
    """Frequency of an index, from its first clean stretch of ten stamps where one is off somewhere.

    Parameters
    ----------
    index : DatetimeIndex
        Increasing.

    Returns
    -------
    str or None
        A pandas frequency; None if there is no such stretch.

    Examples
    --------
    >>> months = pd.date_range("2024-01-01", periods=30, freq="MS")
    >>> guess_frequency(months.delete(20))
    'MS'
    """
    if len(index) < 3:
        return None
    whole = pd.infer_freq(index)
    if whole is not None or len(index) < 10:
        return whole
    stretch = max(1, len(index) // 50)
    guesses = (pd.infer_freq(index[i : i + 10]) for i in range(0, len(index) - 9, stretch))
    return next((guess for guess in guesses if guess is not None), None)


def usual_season(freq: str | pd.offsets.BaseOffset | None) -> int:
    """Steps in the season a frequency usually has: a day, a week or a year; 1 if unknown.

    Examples
    --------
    >>> usual_season("h"), usual_season("15min"), usual_season("D"), usual_season("MS")
    (24, 96, 7, 12)
    """
    if freq is None:
        return 1
    offset = to_offset(freq)
    name = offset.name.split("-")[0].rstrip("SE") if offset.name not in ("s", "h") else offset.name
    if name in _PER_YEAR:
        return max(1, _PER_YEAR[name] // offset.n)
    if name == "D":
        return 7 if offset.n == 1 else 1
    try:
        step = pd.Timedelta(offset)
    except ValueError:
        return 1
    return int(_DAY / step) if step < _DAY and _DAY % step == pd.Timedelta(0) else 1
