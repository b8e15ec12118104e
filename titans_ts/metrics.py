"""Errors of forecasts; NaN in either is missing and does not count."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["mean_absolute_error", "mean_squared_error"]

Array = NDArray[np.float64]


def mean_absolute_error(actual: ArrayLike, forecast: ArrayLike) -> Array:
    """Mean absolute error of every variate.

    Parameters
    ----------
    actual, forecast : array
        `[..., C]`, same shape.

    Returns
    -------
    ndarray
        `[C]`; NaN for a variate with nothing to compare.

    Examples
    --------
    >>> mean_absolute_error([[1.0, 2.0], [3.0, np.nan]], [[2.0, 2.0], [5.0, 4.0]])
    array([1.5, 0. ])
    """
    return _mean(np.abs(_difference(actual, forecast)))


def mean_squared_error(actual: ArrayLike, forecast: ArrayLike) -> Array:
    """Mean squared error of every variate; as :func:`mean_absolute_error`."""
    return _mean(_difference(actual, forecast) ** 2)


def _difference(actual: ArrayLike, forecast: ArrayLike) -> Array:
    a, f = np.asarray(actual, dtype=np.float64), np.asarray(forecast, dtype=np.float64)
    if a.shape != f.shape:
        raise ValueError(f"actual has shape {a.shape} and forecast {f.shape}; they must agree")
    difference: Array = a - f
    return difference.reshape(-1, a.shape[-1])


def _mean(error: Array) -> Array:
    count = (~np.isnan(error)).sum(0)
    total: Array = np.where(count > 0, np.nansum(error, 0) / np.maximum(count, 1), np.nan)
    return total
