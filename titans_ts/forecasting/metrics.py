"""Errors of forecasts. A NaN, in the actual values or the forecasts, is missing and is ignored.

All functions take arrays of any shape. They average over all values (default), or over the given axes:
`axis=0` of `[N, C]` gives an error for every variate. Where there is nothing to compare, the result is
NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from titans_ts.config import check_integer

__all__ = [
    "continuous_ranked_probability_score",
    "coverage",
    "interval_width",
    "mean_absolute_error",
    "mean_absolute_scaled_error",
    "mean_squared_error",
    "observed_mean",
    "quantile_loss",
    "seasonal_error",
    "symmetric_mean_absolute_percentage_error",
    "weighted_quantile_loss",
]

Array = NDArray[np.float64]
Axis = int | tuple[int, ...] | None


def mean_absolute_error(actual: ArrayLike, forecast: ArrayLike, axis: Axis = None) -> Any:
    """Mean of |actual - forecast|.

    Examples
    --------
    >>> mean_absolute_error([[1.0, 2.0], [3.0, np.nan]], [[2.0, 2.0], [5.0, 4.0]], axis=0)
    array([1.5, 0. ])
    """
    return observed_mean(np.abs(_difference(actual, forecast)), axis)


def mean_squared_error(actual: ArrayLike, forecast: ArrayLike, axis: Axis = None) -> Any:
    """Mean of (actual - forecast)^2; its root is the RMSE."""
    return observed_mean(_difference(actual, forecast) ** 2, axis)


def mean_absolute_scaled_error(
    actual: ArrayLike, forecast: ArrayLike, scale: ArrayLike, axis: Axis = None
) -> Any:
    """Mean of |actual - forecast| / scale (Hyndman and Koehler, 2006).

    Parameters
    ----------
    actual, forecast : array
        Arrays of one shape.
    scale : array
        The :func:`seasonal_error` of the history, of a shape that broadcasts. Values whose scale is 0 or
        NaN are ignored.
    axis : int or tuple of int, optional
        Axes to average over (default: all).
    """
    size = np.asarray(scale, dtype=np.float64)
    size = np.where(size > 0, size, np.nan)
    return observed_mean(np.abs(_difference(actual, forecast)) / size, axis)


def seasonal_error(past: ArrayLike, season_length: int = 1, axis: int = 0) -> Any:
    """Mean absolute difference between the values of a history and those a season before.

    NaN for a history that is not longer than a season.

    Raises
    ------
    ValueError
        If `season_length` is not a positive whole number.

    Examples
    --------
    >>> float(seasonal_error([1.0, 2.0, 3.0, 5.0], season_length=2))
    2.5
    """
    length = season_length.item() if isinstance(season_length, np.generic) else season_length
    check_integer("season_length", length, 1)
    values = np.moveaxis(np.asarray(past, dtype=np.float64), axis, 0)
    earlier = values[: max(0, len(values) - season_length)]
    return observed_mean(np.abs(values[season_length:] - earlier), 0)


def symmetric_mean_absolute_percentage_error(
    actual: ArrayLike, forecast: ArrayLike, axis: Axis = None
) -> Any:
    """Mean of 2 |actual - forecast| / (|actual| + |forecast|), between 0 and 2; 0 / 0 is 0."""
    difference = np.abs(_difference(actual, forecast))
    size = np.abs(np.asarray(actual, float)) + np.abs(np.asarray(forecast, float))
    with np.errstate(invalid="ignore", divide="ignore"):
        return observed_mean(np.where(difference == 0, 0, 2 * difference / size), axis)


def quantile_loss(actual: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Array:
    """Twice the pinball loss of quantiles `[..., Q]`, for every value and level `[..., Q]`."""
    y = np.asarray(actual, dtype=np.float64)[..., None]
    error = y - np.asarray(quantiles, dtype=np.float64)
    q = np.asarray(levels, dtype=np.float64)
    return 2 * np.maximum(q * error, (q - 1) * error)


def weighted_quantile_loss(
    actual: ArrayLike, quantiles: ArrayLike, levels: ArrayLike, axis: Axis = None
) -> Any:
    """Sum of the quantile loss divided by the sum of |actual|, averaged over the levels.

    It is defined as `mean_wQuantileLoss` in GluonTS.

    Parameters
    ----------
    actual : array
        `[...]`.
    quantiles : array
        `[..., Q]`.
    levels : array
        `[Q]`.
    axis : int or tuple of int, optional
        Axes of `actual` to sum over (default: all).
    """
    loss = quantile_loss(actual, quantiles, levels).mean(-1)
    size = np.where(np.isnan(loss), np.nan, np.abs(np.asarray(actual, dtype=np.float64)))
    known = (~np.isnan(loss)).any(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, np.nansum(loss, axis) / np.nansum(size, axis), np.nan)[()]


def continuous_ranked_probability_score(
    actual: ArrayLike, quantiles: ArrayLike, levels: ArrayLike, axis: Axis = None
) -> Any:
    """CRPS, approximated by the mean quantile loss over the levels; more levels are more accurate."""
    return observed_mean(quantile_loss(actual, quantiles, levels).mean(-1), axis)


def coverage(actual: ArrayLike, lower: ArrayLike, upper: ArrayLike, axis: Axis = None) -> Any:
    """Share of the actual values that lie inside an interval or on its ends."""
    y, low, high = (np.asarray(a, dtype=np.float64) for a in (actual, lower, upper))
    inside = ((low <= y) & (y <= high)).astype(np.float64)
    return observed_mean(np.where(np.isnan(y + low + high), np.nan, inside), axis)


def interval_width(lower: ArrayLike, upper: ArrayLike, axis: Axis = None) -> Any:
    """Mean width of an interval."""
    return observed_mean(
        np.asarray(upper, dtype=np.float64) - np.asarray(lower, dtype=np.float64), axis
    )


def _difference(actual: ArrayLike, forecast: ArrayLike) -> Array:
    a, f = np.asarray(actual, dtype=np.float64), np.asarray(forecast, dtype=np.float64)
    if a.shape != f.shape:
        raise ValueError(f"actual has shape {a.shape} and forecast {f.shape}; they must agree")
    difference: Array = a - f
    return difference


def observed_mean(values: Array, axis: Axis) -> Any:
    """Return the means of the observed values over `axis`; NaN without any."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[()]
