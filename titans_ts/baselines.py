"""Forecasts that need no model, to compare a model with."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.tseries.frequencies import to_offset

__all__ = ["seasonal_naive", "usual_season"]

_DAY = pd.Timedelta(days=1)
_PER_YEAR = {"W": 52, "M": 12, "Q": 4, "B": 5}


def seasonal_naive(past: ArrayLike, prediction_length: int, season_length: int) -> NDArray:
    """Repeat the last season: what was observed a whole number of seasons before.

    Where that value is missing, the one a season earlier is taken, and so on.

    Parameters
    ----------
    past : array
        `[..., T, C]`, at least one season long.
    prediction_length, season_length : int
        H steps to forecast, and m steps in a season; 1 repeats the last value.

    Returns
    -------
    ndarray
        `[..., H, C]`.

    Examples
    --------
    >>> seasonal_naive([[1.0], [2.0], [3.0]], prediction_length=4, season_length=2)[:, 0]
    array([2., 3., 2., 3.])
    """
    values = np.asarray(past, dtype=np.float64)
    rows = values.shape[-2]
    if not 1 <= season_length <= rows:
        raise ValueError(
            f"season_length is {season_length}; it must lie between 1 and the {rows} rows of past"
        )
    season = values[..., rows - season_length :, :].copy()
    for end in range(rows - season_length, 0, -season_length):
        earlier = values[..., max(0, end - season_length) : end, :]
        place = season[..., season_length - earlier.shape[-2] :, :]
        np.copyto(place, earlier, where=np.isnan(place))
    steps = np.arange(prediction_length) % season_length
    return season[..., steps, :]


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
