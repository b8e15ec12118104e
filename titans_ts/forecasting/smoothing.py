"""Exponential smoothing, averaged over a grid of its parameters."""

from __future__ import annotations

import itertools
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["SEASONS_AT_START", "Grid", "exponential_smoothing"]

Array = NDArray[np.float64]

_LEVEL = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.99)
_TREND = ((0.0, 0.0), *itertools.product((0.02, 0.1, 0.3), (0.9, 0.98)))
_SEASON = (0.0, 0.05, 0.2, 0.5)
SEASONS_AT_START = 4
"""Number of seasons at the beginning of a series that its first seasonal pattern is computed from."""
_BLOCK = 2**22
"""Number of seasonal values (of all series and parameters) that are kept at a time: 32 MiB."""


class Grid(NamedTuple):
    """G settings of the parameters, `[G]` each."""

    level: Array
    """Share of an error that the level takes (alpha)."""
    trend: Array
    """Share that the slope takes (beta)."""
    damping: Array
    """Share of the slope that is left after a step (phi)."""
    season: Array
    """Share that the season takes (gamma)."""

    @classmethod
    def of(cls, seasonal: bool) -> Grid:
        """Return all settings, those of the season only if there is one."""
        settings = itertools.product(_LEVEL, _TREND, _SEASON if seasonal else (0.0,))
        rows = [(a, a * b, phi, (1 - a) * g) for a, (b, phi), g in settings]
        return cls(*np.array(rows).T)


def exponential_smoothing(past: Array, prediction_length: int, season_length: int = 1) -> Array:
    """Forecast by exponential smoothing with a damped trend and an additive season.

    The forecast is the mean over a grid of 63 settings of the parameters (252 with a season), weighted by
    the likelihood of a series under each of them, corrected for the number of parameters
    (``exp(-AICc / 2)``). Nothing is optimised, so that N series cost little more than one.

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
    The method in its form with an additive error is that of Hyndman et al., "Forecasting with exponential
    smoothing", 2008. Weights by an information criterion are from Kolassa, "Combining exponential
    smoothing forecasts using Akaike weights", International Journal of Forecasting, 2011.

    Examples
    --------
    >>> past = np.tile([1.0, 2.0, 3.0, 6.0], 6)[None]
    >>> exponential_smoothing(past, prediction_length=4, season_length=4).round(1)
    array([[1., 2., 3., 6.]])
    """
    grid = Grid.of(season_length > 1)
    at_once = max(1, _BLOCK // (season_length * len(grid.level)))
    blocks = np.split(past, range(at_once, len(past), at_once))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of seasons without a value
        parts = [_smooth(block, prediction_length, season_length, grid) for block in blocks]
    return np.concatenate(parts)


def _smooth(past: Array, prediction_length: int, season_length: int, grid: Grid) -> Array:
    middle = np.nanmean(past, 1, keepdims=True)
    unit = np.nanmean(np.abs(past - middle), 1, keepdims=True)
    unit = np.where(unit > 0, unit, 1.0)
    y = (past - middle) / unit
    seen = ~np.isnan(y)
    first, level, slope, pattern = _start(y, season_length)
    shape = len(y), len(grid.level)
    level = np.broadcast_to(level[:, None], shape)
    slope = np.where(grid.trend > 0, slope[:, None], 0.0)
    season = np.repeat(pattern.T[:, :, None], shape[1], 2)  # [S, N, G]
    squares = np.zeros(shape)
    for t in range(y.shape[1]):
        begun = (first <= t)[:, None]
        ahead = level + grid.damping * slope
        place = t % season_length
        error = np.where(seen[:, t, None], y[:, t, None] - ahead - season[place], 0.0)
        squares += error * error
        level = np.where(begun, ahead + grid.level * error, level)
        slope = np.where(begun, grid.damping * slope + grid.trend * error, slope)
        if season_length > 1:
            season[place] += grid.season * error
    weight = _weights(squares, seen.sum(1), season_length, grid)
    steps = np.arange(1, prediction_length + 1)
    damped = np.cumsum(grid.damping ** steps[:, None], 0)  # [H, G]
    season = (season * weight).sum(2)  # [S, N]
    forecast = (level * weight).sum(1, keepdims=True) + (slope * weight) @ damped.T
    forecast += season[(y.shape[1] + steps - 1) % season_length].T
    return forecast * unit + middle


def _start(y: Array, season_length: int) -> tuple[NDArray[np.int64], Array, Array, Array]:
    """Return the first observed column, the level and slope there `[N]`, and the pattern `[N, S]`.

    The pattern is that of the columns 0, S, 2 S, ... on.
    """
    first = (~np.isnan(y)).argmax(1)
    length, columns = max(season_length, 2), y.shape[1]
    at = first[:, None] + np.arange(SEASONS_AT_START * length)
    head = np.take_along_axis(y, np.minimum(at, columns - 1), 1)
    seasons = np.where(at < columns, head, np.nan).reshape(len(y), -1, length)
    means = np.nanmean(seasons, 2)
    slope = np.nan_to_num((means[:, 1] - means[:, 0]) / length)
    if season_length == 1:
        return first, means[:, 0], slope, np.zeros((len(y), 1))
    whole = ~np.isnan(seasons).any(2, keepdims=True)
    pattern = np.nan_to_num(np.nanmean(np.where(whole, seasons - means[..., None], np.nan), 1))
    place = (np.arange(season_length) - first[:, None]) % season_length
    return first, means[:, 0], slope, np.take_along_axis(pattern, place, 1)


def _weights(squares: Array, seen: NDArray[np.int64], season_length: int, grid: Grid) -> Array:
    """Return the weights `[N, G]` of the settings, from their sums of squared errors."""
    n_parameters = 2.0 + 3 * (grid.trend > 0) + (season_length if season_length > 1 else 0)
    n = np.maximum(seen[:, None], n_parameters + 2.5)
    loss = np.log(squares / np.maximum(seen[:, None], 1) + 1e-12)
    correction = n_parameters * (n_parameters + 1) / np.maximum(n - n_parameters - 1, 1)
    criterion = n * loss + 2 * (n_parameters + correction)
    criterion = np.where(np.isfinite(criterion), criterion, np.inf)
    weight = np.exp(-0.5 * (criterion - criterion.min(1, keepdims=True)))
    return np.asarray(weight / weight.sum(1, keepdims=True))
