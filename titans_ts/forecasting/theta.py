"""The Theta method."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.signal import lfilter

__all__ = ["LEVEL", "SIGNIFICANT", "SMALLEST", "TIE", "theta"]

Array = NDArray[np.float64]

LEVEL = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
"""Shares of an error that the level may take (alpha)."""
SIGNIFICANT = 1.645
"""Standard errors that the autocorrelation at a season must have for the season to be removed."""
SMALLEST = 0.01
"""Smallest factor of a multiplicative season."""
TIE = 1e-9
"""Sums of squared errors that differ by this share are equal."""


def theta(past: Array, prediction_length: int, season_length: int = 1) -> Array:
    """Forecast by simple exponential smoothing with half of the linear trend.

    A season that is found by its autocorrelation is removed before and put back after: as factors if all
    values are positive, as differences otherwise.

    Parameters
    ----------
    past : ndarray
        `[N, T]`, N series, each with an observed value; NaN is missing.
    prediction_length : int
        H, number of steps to forecast.
    season_length : int
        Number of steps in a season (default 1: no season).

    Returns
    -------
    ndarray
        `[N, H]`.

    Notes
    -----
    The method is that of Assimakopoulos and Nikolopoulos, "The theta model", International Journal of
    Forecasting, 2000; the test of the season is that of Fiorucci et al., 2016.

    Examples
    --------
    >>> theta(np.arange(20.0)[None], prediction_length=2).round(1)
    array([[19.5, 20. ]])
    """
    y, seen = _filled(past)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        add, multiply = _season(y, seen, season_length)
    columns = np.arange(-y.shape[1], 0) % season_length
    x = (y - add[:, columns]) / multiply[:, columns]
    x = np.where(seen, x, np.take_along_axis(x, seen.argmax(1)[:, None], 1))
    level, share = _smooth(x)
    steps = np.arange(1, prediction_length + 1)
    rows = seen.sum(1, keepdims=True)
    drift = (1 - (1 - share) ** rows) / share
    ahead = level + _slope(x, seen) / 2 * (steps - 1 + drift)
    phase = (steps - 1) % season_length
    return np.asarray(ahead * multiply[:, phase] + add[:, phase])


def _filled(past: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Fill missing values by the last one before, and by the first one after the beginning.

    The mask `[N, T]` tells the columns from the first observed one on.
    """
    known = ~np.isnan(past)
    place = np.maximum.accumulate(np.where(known, np.arange(past.shape[1]), -1), 1)
    first = known.argmax(1)[:, None]
    return np.take_along_axis(past, np.where(place < 0, first, place), 1), place >= 0


def _season(y: Array, seen: NDArray[np.bool_], length: int) -> tuple[Array, Array]:
    """Return the terms and the factors of the season, `[N, S]`, for the steps after the last column."""
    none = np.zeros((len(y), length)), np.ones((len(y), length))
    rows = seen.sum(1)
    if length == 1 or y.shape[1] < 2 * length + 1:
        return none
    mean = np.where(seen, y, 0).sum(1, keepdims=True) / rows[:, None]
    centred = np.where(seen, y - mean, 0)
    products = [(centred[:, k:] * centred[:, :-k]).sum(1) for k in range(1, length + 1)]
    r = np.stack(products, 1) / (centred * centred).sum(1, keepdims=True)
    limit = SIGNIFICANT * np.sqrt((1 + 2 * (r[:, :-1] ** 2).sum(1)) / rows)
    seasonal = (np.abs(r[:, -1]) > limit) & (rows >= 2 * length + 1)
    weights = np.full(length, 1 / length)
    if length % 2 == 0:
        weights = np.full(length + 1, 1 / length)
        weights[[0, -1]] /= 2
    half = len(weights) // 2
    trend = convolve1d(y, weights, axis=1, mode="nearest")
    inside = np.zeros_like(seen)
    inside[:, 2 * half :] = seen[:, : -2 * half]
    inside = np.roll(inside, -half, 1)
    factors = (np.where(seen, y, np.inf).min(1) > 0) & (np.where(inside, trend, np.inf).min(1) > 0)
    terms = _by_phase(np.where(inside, y - trend, np.nan), length)
    terms -= terms.mean(1, keepdims=True)
    ratio = _by_phase(np.where(inside, y / trend, np.nan), length)
    ratio /= ratio.mean(1, keepdims=True)
    multiplied = (seasonal & factors & (ratio.min(1) > SMALLEST))[:, None]
    added = (seasonal & ~factors)[:, None]
    return np.where(added, terms, none[0]), np.where(multiplied, ratio, none[1])


def _by_phase(x: Array, length: int) -> Array:
    """Return the means `[N, S]` of every S-th column, beginning with the column S before the end."""
    front = -x.shape[1] % length
    padded = np.pad(x, ((0, 0), (front, 0)), constant_values=np.nan)
    means: Array = np.nanmean(padded.reshape(len(x), -1, length), 1)
    return means


def _smooth(x: Array) -> tuple[Array, Array]:
    """Return the last level of the best simple exponential smoothing, and its alpha; `[N, 1]` each."""
    squares, ends = np.empty((2, len(x), len(LEVEL)))
    for i, alpha in enumerate(LEVEL):
        levels, _ = lfilter([alpha], [1, alpha - 1], x, axis=1, zi=(1 - alpha) * x[:, :1])
        squares[:, i] = np.square(x[:, 1:] - levels[:, :-1]).sum(1)
        ends[:, i] = levels[:, -1]
    # the smallest alpha of those that do not differ by more than rounding
    best = (squares <= (1 + TIE) * squares.min(1, keepdims=True)).argmax(1)[:, None]
    return np.take_along_axis(ends, best, 1), np.array(LEVEL)[best]


def _slope(x: Array, seen: NDArray[np.bool_]) -> Array:
    """Return the slope of the least-squares line through the columns that `seen` tells, `[N, 1]`."""
    time = np.broadcast_to(np.arange(x.shape[1], dtype=np.float64), x.shape)
    rows = seen.sum(1, keepdims=True)
    centred = np.where(seen, time - np.where(seen, time, 0).sum(1, keepdims=True) / rows, 0)
    spread = np.square(centred).sum(1, keepdims=True)
    return np.asarray((centred * x).sum(1, keepdims=True) / np.where(spread > 0, spread, 1.0))
