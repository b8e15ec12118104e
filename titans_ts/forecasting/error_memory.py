"""A memory of forecast errors that learns at test time, from every row as it arrives.

It is an associative memory, as in arXiv 2501.00663, with two differences: what it associates is not seen
inside a network, and its write is not a step along the gradient of `|M k - v|^2` but goes to the minimum
of the forgetting sum of them (recursive least squares). A key k describes a variate when a forecast is
made: its last values, the forecast, the latest errors, and the place in the day and the week. The value v
is the error of that forecast, once all its steps were observed. One M is shared by all variates, which
fills sooner; every variate has another of its own, which forgets faster. What is read from both, `M k`,
is added to the next forecast, each as far as it has improved the last ones.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dger

from titans_ts.blas import one_blas_thread
from titans_ts.config import ForecasterConfig
from titans_ts.forecasting.calibration import Calibration, n_scores
from titans_ts.forecasting.frequency import cycle_phase
from titans_ts.forecasting.intervals import conformity
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.pretrained import two_seasons

__all__ = [
    "NAMES",
    "WINDOW",
    "ErrorMemory",
    "begin",
    "learned",
    "read_rows",
    "start_memory",
]

Array = NDArray[np.float64]

WINDOW = 96
"""Number of values before a forecast that a key has."""
_STEPS = 12
"""Number of steps whose forecasts and errors a key has."""
_HARMONICS = 4, 6
"""Harmonics of the shorter and the longer season in a key."""
_RETENTION = 0.9998, 0.9995
"""What remains of older errors after a row, in the shared memory and in those of the variates."""
_EVERY = 16
"""Older errors lose weight once in this many rows."""
_PRIOR = 1.0
"""Weight of the first M, which is zero, in the sum of squares."""
_TRUST = 0.999
"""What remains of older evidence for the corrections after a row."""
_LARGEST = 5.0
"""Numbers of a key and errors are cut to it; the unit is the deviation of the window."""
_NUMBERS = 2**23
"""Number of forecast values that are kept at a time while rows are read."""
_LEAST = 0.05
"""Least deviation of a window, in deviations of the fitted rows."""
_ENOUGH = 20
"""Number of forecasts whose errors are enough for an interval."""


@dataclass
class ErrorMemory:
    """A memory of the errors of a forecaster of H steps and C variates; its size is constant.

    Keys have D numbers. The last H forecasts wait for what they forecast: slot `n_rows % H` of their
    arrays is that of the forecast after `n_rows` rows.
    """

    weights: Array
    """`[1 + C, D, H]`: the shared M, and one of every variate."""
    covariance: Array
    """`[1 + C, D, D]`, the inverses of the forgetting sums of the products of keys."""
    evidence: Array
    """Forgetting sums of the products of what was read from both memories with each other and with the
    errors, `[2, 3]`, in deviations of the fitted rows."""
    keys: Array
    """`[H, C, D]`, of the waiting forecasts; zero where nothing can be learned."""
    forecasts: Array
    """`[H, H, C]`, before their correction; NaN where none was made."""
    corrections: Array
    """`[H, 2, C, H]`, what was read from the shared memory and from those of the variates."""
    units: Array
    """`[H, C]`, deviations of the windows."""
    issued: Array
    """`[H, 3, H, C]`, mean and outermost quantiles of the waiting forecasts after their correction."""
    scores: NDArray[np.float32]
    """`[N, H, C]`, the :class:`Calibration` of the latest N of such forecasts; NaN is missing."""
    errors: NDArray[np.float32]
    """`[N, H, C]`."""
    seasons: NDArray[np.int64]
    """`[2]`, numbers of steps in two seasons; 1 for none."""
    place: NDArray[np.int64]
    """Places of the next row in the two seasons, number of forecasts so far, and number of those whose
    errors were known, `[4]`."""

    @property
    def shape(self) -> tuple[int, int]:
        """H and C."""
        return self.forecasts.shape[1], self.forecasts.shape[2]

    @property
    def shares(self) -> Array:
        """The shares `[2]` of what is read from both memories that are added to forecasts.

        They would have made the sum of squared errors least. None is negative; their sum is 1 at most.
        """
        (p, q, u), (_, r, v) = self.evidence.tolist()
        p, r = (1e-3 + (1 + 1e-6) * x for x in (p, r))  # more than rounding
        area = p * r - q * q
        inside = (u * r - v * q) / area, (v * p - u * q) / area
        edge = min(max((u - v + r - q) / (p + r - 2 * q), 0.0), 1.0)  # where their sum is 1
        found = [
            (min(max(u / p, 0.0), 1.0), 0.0),
            (0.0, min(max(v / r, 0.0), 1.0)),
            (edge, 1 - edge),
        ]
        if min(inside) >= 0 and sum(inside) <= 1:
            found.append(inside)

        def loss(share: tuple[float, float]) -> float:
            a, b = share
            return a * (p * a / 2 + q * b - u) + b * (r * b / 2 - v)

        return np.array(min(found, key=loss))

    def correction(self) -> Array:
        """Return what is added to the forecast after the last row, `[H, C]`."""
        slot = (self.place[2] - 1) % self.shape[0]
        found = np.tensordot(self.shares, self.corrections[slot], 1)  # [C, H]
        return np.asarray((found * self.units[slot][:, None]).T)

    def calibration(self) -> Calibration | None:
        """Return the errors of the latest corrected forecasts; None if they are too few."""
        known = ~np.isnan(self.errors).all((1, 2))
        if known.sum() < _ENOUGH:
            return None
        return Calibration(self.scores[known], self.errors[known])

    def read(self, past: Array, forecast: Array, ends: Array, scale: Array) -> Array:
        """Learn from what has become known, and return the :meth:`correction` of a forecast.

        Parameters
        ----------
        past : ndarray
            `[max(H, WINDOW), C]`, the values before the forecast; NaN is missing.
        forecast : ndarray
            `[H, C]`.
        ends : ndarray
            `[2, H, C]`, the outermost quantiles of the forecast; NaN if there are none.
        scale : ndarray
            `[C]`, deviations of the fitted rows; NaN for a variate without any, which is not corrected.
        """
        H, _ = self.shape
        slot = self.place[2] % H
        if self.place[2] % _EVERY == 0:
            self._forget()
        if self.place[2] >= H:
            self._write(slot, past[-H:], scale)
        key, unit = self._key(past[-WINDOW:], forecast, scale)
        self.keys[slot], self.units[slot], self.forecasts[slot] = key, unit, forecast
        self.corrections[slot] = np.clip(self._recall(key), -_LARGEST, _LARGEST)
        self.place[:3] += 1
        self.place[:2] %= self.seasons
        added = self.correction()
        self.issued[slot] = np.stack([forecast, *ends]) + added
        return added

    def _recall(self, key: Array) -> Array:
        """Read both memories with keys `[C, D]`, `[2, C, H]`."""
        own = key[:, None] @ self.weights[1:]
        return np.stack([key @ self.weights[0], own[:, 0]])

    def _forget(self) -> None:
        """Let older errors lose weight, but no memory become less certain than at first."""
        shared, own = _RETENTION
        retention = np.array([shared] + (len(self.covariance) - 1) * [own])
        size = np.trace(self.covariance, axis1=1, axis2=2)
        certain = size < self.covariance.shape[1] / _PRIOR
        # on some processors `dger` rounds the two halves differently, and the difference would grow
        symmetric = self.covariance + self.covariance.swapaxes(1, 2)
        self.covariance[:] = symmetric / (
            2 * np.where(certain, retention**_EVERY, 1)[:, None, None]
        )

    def _write(self, slot: int, actual: Array, scale: Array) -> None:
        """Learn the errors of the forecast in a slot of the values `[H, C]`."""
        unit = self.units[slot]
        error = ((actual - self.forecasts[slot]) / unit).T  # [C, H]
        known: NDArray[np.bool_] = ~np.isnan(error)
        if not known.any():
            return
        mean, low, high = self.issued[slot]
        place = self.place[3] % len(self.errors)
        self.scores[place] = conformity(actual, low, high) / scale
        self.errors[place] = (actual - mean) / scale
        self.place[3] += 1
        error = np.where(known, np.clip(error, -_LARGEST, _LARGEST), 0)
        size = np.nan_to_num(np.minimum(unit / scale, _LARGEST))  # as in a sum of squared errors
        parts = np.stack([*self.corrections[slot], error]) * (known * size[:, None])
        parts = parts.reshape(3, -1)
        self.evidence[:] = _TRUST * self.evidence + parts[:2] @ parts.T
        used = np.flatnonzero(known.any(1) & self.keys[slot].any(1))
        if len(used) == 0:
            return
        keys = self.keys[slot][used]
        surprise = np.where(known, error - self._recall(self.keys[slot]), 0)[:, used]
        self._learn(keys, surprise[0])
        for i, key, one in zip((used + 1).tolist(), keys, surprise[1], strict=True):
            self._learn_one(i, key, one)

    def _learn(self, keys: Array, surprise: Array) -> None:
        """Write n pairs of keys `[n, D]` and surprise `[n, H]` into the shared memory."""
        covariance = self.covariance[0]
        spread = keys @ covariance  # [n, D]
        root = np.linalg.cholesky(np.eye(len(keys)) + spread @ keys.T)
        parts = np.linalg.solve(root, np.concatenate([spread, surprise], 1))
        spread, surprise = np.split(parts, [keys.shape[1]], 1)
        self.weights[0] += spread.T @ surprise
        covariance -= spread.T @ spread

    def _learn_one(self, i: int, key: Array, surprise: Array) -> None:
        """Write a key `[D]` and its surprise `[H]` into memory i, in place."""
        spread = self.covariance[i] @ key
        root = np.sqrt(1 + spread @ key)
        spread /= root
        dger(1 / root, surprise, spread, a=self.weights[i].T, overwrite_a=1)
        dger(-1, spread, spread, a=self.covariance[i].T, overwrite_a=1)

    def _key(self, window: Array, forecast: Array, scale: Array) -> tuple[Array, Array]:
        """Return the key `[C, D]` of a forecast, and the deviations `[C]` of the windows."""
        H, C = self.shape
        usable: NDArray[np.bool_] = np.asarray(
            np.isfinite(window).any(0) & np.isfinite(forecast).all(0) & np.isfinite(scale)
        )
        scale = np.where(usable, scale, 1.0)
        window = np.where(usable, window, 0.0)
        seen: NDArray[np.bool_] = np.isfinite(window)
        last = window[len(window) - 1 - seen[::-1].argmax(0), np.arange(C)]
        mean = np.nanmean(window, 0)
        unit = np.sqrt(np.nanmean((window - mean) ** 2, 0)) + _LEAST * scale
        steps = _steps(H)
        made = self.forecasts[(self.place[2] - 1 - steps) % H, steps]  # [S, C], of the latest row
        error = np.nan_to_num(np.where(np.isnan(window[-1]), 0, window[-1] - made) / unit)
        parts = [
            np.nan_to_num((window[:-1] - last) / unit),
            (forecast[steps] - last) / unit,
            error,
            np.repeat(self._phases()[:, None], C, 1),
            np.ones((1, C)),
        ]
        key = np.clip(np.concatenate(parts), -_LARGEST, _LARGEST).T
        return np.where(usable[:, None], key, 0.0), unit

    def _phases(self) -> Array:
        """Return sines and cosines of the next row's place in the seasons."""
        angles, which = _harmonics(tuple(self.seasons.tolist()))
        angles = angles * self.place[which]
        return np.concatenate([np.sin(angles), np.cos(angles)])


def start_memory(config: ForecasterConfig, season_length: int) -> ErrorMemory:
    """Return an empty memory of a forecaster's errors, with a season of some steps."""
    H, C = config.prediction_length, config.n_variates
    seasons = np.array(two_seasons(season_length))
    waves = sum(_n_harmonics(s, most) for s, most in zip(seasons, _HARMONICS, strict=True))
    D = WINDOW + 2 * len(_steps(H)) + 2 * waves
    n = n_scores(config)
    return ErrorMemory(
        np.zeros((1 + C, D, H)),
        np.repeat(np.eye(D)[None] / _PRIOR, 1 + C, 0),
        np.zeros((2, 3)),
        np.zeros((H, C, D)),
        np.full((H, H, C), np.nan),
        np.zeros((H, 2, C, H)),
        np.ones((H, C)),
        np.full((H, 3, H, C), np.nan),
        np.full((n, H, C), np.nan, np.float32),
        np.full((n, H, C), np.nan, np.float32),
        seasons,
        np.zeros(4, np.int64),
    )


def read_rows(
    memory: ErrorMemory,
    predictor: PanelPredictor,
    panel: Panel,
    first: int,
    wanted: NDArray[np.int64] | None = None,
) -> tuple[Array, Array, Array]:
    """Read the rows of one series from row `first` on, and learn from all forecasts after them.

    Parameters
    ----------
    memory : ErrorMemory
        It is changed. Rows that it has read before, if any, precede `first`.
    predictor : PanelPredictor
        Makes the forecasts.
    panel : Panel
        The series. Its rows before `first` are only read as history.
    first : int
        The first row that the memory reads; the first forecast is that after it.
    wanted : ndarray, optional
        `[n]`, the rows that the forecasts to return begin with, increasing (default: none).

    Returns
    -------
    tuple of ndarray
        Means `[n, H, C]` and quantiles `[n, H, C, Q]` of these forecasts, without their corrections, and
        the corrections `[n, H, C]`.
    """
    H, C = memory.shape
    wanted = np.empty(0, np.int64) if wanted is None else wanted
    n_levels = len(predictor.config.quantile_levels)
    found = [np.empty((0, H, C)), np.empty((0, H, C, n_levels)), np.empty((0, H, C))]
    parts = [found]
    scales = predictor.scales
    scale = np.where(np.isnan(scales.mean[0]), np.nan, scales.spread[0])
    length = max(H, WINDOW)
    values = panel.values[:, :C]
    padded = np.concatenate([np.full((length, C), np.nan), values])
    ahead = predictor.continued(panel)
    size = max(1, _NUMBERS // (H * C * (1 + n_levels)))
    for start in range(first + 1, len(values) + 1, size):
        cuts = np.arange(start, min(start + size, len(values) + 1))
        point, quantiles = (part[:, 0] for part in predictor.rolling(ahead, cuts[:, None]))
        ends = np.full((len(cuts), 2, H, C), np.nan)
        if n_levels > 1:
            ends = np.moveaxis(quantiles[..., [0, -1]], -1, 1)
        with one_blas_thread():
            added = np.stack(
                [
                    memory.read(padded[cut : cut + length], forecast, outermost, scale)
                    for cut, forecast, outermost in zip(cuts, point, ends, strict=True)
                ]
            )
        kept = np.isin(cuts, wanted)
        if kept.any():
            parts.append([point[kept], quantiles[kept], added[kept]])
    point, quantiles, added = (np.concatenate(part) for part in zip(*parts, strict=True))
    return point, quantiles, added


def learned(predictor: PanelPredictor, panel: Panel, first: int, season_length: int) -> ErrorMemory:
    """Return a new memory that has read the rows of a series from row `first` on."""
    memory = begin(start_memory(predictor.config, season_length), panel, first)
    read_rows(memory, predictor, panel, first)
    return memory


def begin(memory: ErrorMemory, panel: Panel, row: int) -> ErrorMemory:
    """Return a copy without waiting forecasts, for a series that is read from a row on."""
    memory = deepcopy(memory)
    memory.keys[:], memory.corrections[:] = 0, 0
    memory.forecasts[:], memory.issued[:] = np.nan, np.nan
    for i, season in enumerate(memory.seasons.tolist()):
        place = row + 1  # of the first row that is forecast
        if panel.index is not None and season > 1:
            place += int(cycle_phase(panel.index[:1], panel.freq, season)[0])
        memory.place[i] = place % season
    memory.place[2] = 0
    return memory


@cache
def _steps(horizon: int) -> NDArray[np.int64]:
    """Return the steps whose forecasts a key has."""
    steps: Any = np.unique(np.linspace(0, horizon - 1, _STEPS).round())
    return np.asarray(steps, np.int64)


@cache
def _harmonics(seasons: tuple[int, ...]) -> tuple[Array, NDArray[np.int64]]:
    """Return the angles of a step of every wave in a key, and which season it is of."""
    pairs = [
        (2 * np.pi * k / season, which)
        for which, (season, most) in enumerate(zip(seasons, _HARMONICS, strict=True))
        for k in range(1, _n_harmonics(season, most) + 1)
    ]
    angles, which = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(angles), np.array(which, np.int64)


def _n_harmonics(season: int, most: int) -> int:
    return min(most, season // 2) if season > 1 else 0


NAMES = tuple(field.name for field in fields(ErrorMemory))
"""Names of the arrays of a memory, for a file."""
