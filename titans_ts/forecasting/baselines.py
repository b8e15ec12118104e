"""Baseline forecasts without a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["drift", "seasonal_naive"]


def drift(past: ArrayLike, prediction_length: int) -> NDArray[np.float64]:
    """Extend the line through the first and the last observed value.

    Parameters
    ----------
    past : array
        `[..., T, C]`; NaN is missing.
    prediction_length : int
        H, number of steps to forecast.

    Returns
    -------
    ndarray
        `[..., H, C]`; constant where one value was observed, NaN where none was.

    Examples
    --------
    >>> drift([[1.0], [np.nan], [3.0]], prediction_length=2)[:, 0]
    array([4., 5.])
    """
    values = np.asarray(past, dtype=np.float64)
    seen, rows = ~np.isnan(values), values.shape[-2]
    first = seen.argmax(-2, keepdims=True)
    last = rows - 1 - seen[..., ::-1, :].argmax(-2, keepdims=True)
    start, end = (np.take_along_axis(values, place, -2) for place in (first, last))
    slope = (end - start) / np.maximum(last - first, 1)
    ahead = rows - last + np.arange(prediction_length)[:, None]
    return end + slope * ahead


def seasonal_naive(
    past: ArrayLike, prediction_length: int, season_length: int
) -> NDArray[np.float64]:
    """Repeat the last season.

    If a value of it is missing, the value a season earlier replaces it, and so on.

    Parameters
    ----------
    past : array
        `[..., T, C]`, at least one season long.
    prediction_length, season_length : int
        H, number of steps to forecast, and number of steps in a season; 1 repeats the last value.

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
