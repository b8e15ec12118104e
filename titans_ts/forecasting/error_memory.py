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

from titans_ts.forecasting.frequency import cycle_phase
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.pretrained import two_seasons

__all__ = [
    "NAMES",
    "WINDOW",
    "ErrorMemory",
    "begin",
    "corrected",
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
"""Number of rows that are forgotten by at once."""
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
    seasons: NDArray[np.int64]
    """`[2]`, numbers of steps in two seasons; 1 for none."""
    place: NDArray[np.int64]
    """Places of the next row in the two seasons, and number of forecasts so far, `[3]`."""

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

    def read(self, past: Array, forecast: Array, scale: Array) -> Array:
        """Learn from what has become known, and return the :meth:`correction` of a forecast.

        Parameters
        ----------
        past : ndarray
            `[max(H, WINDOW), C]`, the values before the forecast; NaN is missing.
        forecast : ndarray
            `[H, C]`.
        scale : ndarray
            `[C]`, deviations of the fitted rows.
        """
        H, _ = self.shape
        slot = self.place[2] % H
        if self.place[2] >= H:
            self._write(slot, past[-H:], scale)
        key, unit = self._key(past[-WINDOW:], forecast, scale)
        self.keys[slot], self.units[slot], self.forecasts[slot] = key, unit, forecast
        self.corrections[slot] = np.clip(self._recall(key), -_LARGEST, _LARGEST)
        self.place += 1
        self.place[:2] %= self.seasons
        return self.correction()

    def _recall(self, key: Array) -> Array:
        """Read both memories with keys `[C, D]`, `[2, C, H]`."""
        own = key[:, None] @ self.weights[1:]
        return np.stack([key @ self.weights[0], own[:, 0]])

    def _write(self, slot: int, actual: Array, scale: Array) -> None:
        """Learn the errors of the forecast in a slot of the values `[H, C]`."""
        error = ((actual - self.forecasts[slot]) / self.units[slot]).T  # [C, H]
        known: NDArray[np.bool_] = ~np.isnan(error)
        if not known.any():
            return
        error = np.where(known, np.clip(error, -_LARGEST, _LARGEST), 0)
        size = np.minimum(self.units[slot] / scale, _LARGEST)  # as in a sum of squared errors
        parts = np.stack([*self.corrections[slot], error]) * (known * size[:, None])
        parts = parts.reshape(3, -1)
        self.evidence[:] = _TRUST * self.evidence + parts[:2] @ parts.T
        key = np.where(known.any(1, keepdims=True), self.keys[slot], 0)
        surprise = np.where(known, error - self._recall(key), 0)  # [2, C, H]
        self._learn(slice(1), key[None], surprise[:1], _RETENTION[0])
        self._learn(slice(1, None), key[:, None], surprise[1][:, None], _RETENTION[1])

    def _learn(self, which: slice, keys: Array, surprise: Array, retention: float) -> None:
        """Write n pairs of keys `[m, n, D]` and surprise `[m, n, H]` into m of the memories."""
        covariance = self.covariance[which]
        if self.place[2] % _EVERY == 0:
            certain = np.trace(covariance, axis1=1, axis2=2) < covariance.shape[1] / _PRIOR
            kept = np.where(certain, retention**_EVERY, 1)  # never less certain than at first
            covariance /= kept[:, None, None]
        spread = keys @ covariance  # [m, n, D]
        root = np.linalg.cholesky(np.eye(keys.shape[1]) + spread @ keys.swapaxes(1, 2))
        parts = np.linalg.solve(root, np.concatenate([spread, surprise], 2))
        spread, surprise = np.split(parts, [keys.shape[2]], 2)
        back = spread.swapaxes(1, 2)
        self.weights[which] += back @ surprise
        covariance -= back @ spread

    def _key(self, window: Array, forecast: Array, scale: Array) -> tuple[Array, Array]:
        """Return the key `[C, D]` of a forecast, and the deviations `[C]` of the windows."""
        H, C = self.shape
        usable: NDArray[np.bool_] = np.asarray(
            np.isfinite(window).any(0) & np.isfinite(forecast).all(0)
        )
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


def start_memory(prediction_length: int, n_variates: int, season_length: int) -> ErrorMemory:
    """Return an empty memory of forecasts of H steps and C variates with a season of some steps."""
    H, C = prediction_length, n_variates
    seasons = np.array(two_seasons(season_length))
    waves = sum(_n_harmonics(s, most) for s, most in zip(seasons, _HARMONICS, strict=True))
    D = WINDOW + 2 * len(_steps(H)) + 2 * waves
    return ErrorMemory(
        np.zeros((1 + C, D, H)),
        np.repeat(np.eye(D)[None] / _PRIOR, 1 + C, 0),
        np.zeros((2, 3)),
        np.zeros((H, C, D)),
        np.full((H, H, C), np.nan),
        np.zeros((H, 2, C, H)),
        np.ones((H, C)),
        seasons,
        np.zeros(3, np.int64),
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
    _, scale = predictor.scales.of(panel)
    length = max(H, WINDOW)
    values = panel.values[:, :C]
    padded = np.concatenate([np.full((length, C), np.nan), values])
    ahead = predictor.continued(panel)
    size = max(1, _NUMBERS // (H * C * (1 + n_levels)))
    for start in range(first + 1, len(values) + 1, size):
        cuts = np.arange(start, min(start + size, len(values) + 1))
        point, quantiles = (part[:, 0] for part in predictor.rolling(ahead, cuts[:, None]))
        added = np.stack(
            [
                memory.read(padded[cut : cut + length], forecast, scale[0])
                for cut, forecast in zip(cuts, point, strict=True)
            ]
        )
        kept = np.isin(cuts, wanted)
        if kept.any():
            parts.append([point[kept], quantiles[kept], added[kept]])
    point, quantiles, added = (np.concatenate(part) for part in zip(*parts, strict=True))
    return point, quantiles, added


def learned(
    predictor: PanelPredictor,
    panel: Panel,
    first: int,
    season_length: int,
    wanted: NDArray[np.int64] | None = None,
) -> tuple[ErrorMemory, tuple[Array, Array]]:
    """Return a new memory that has read the rows of a series from row `first` on.

    Also return corrected means `[n, 1, H, C]` and quantiles `[n, 1, H, C, Q]` of the `wanted` forecasts,
    see :func:`read_rows`.
    """
    config = predictor.config
    memory = start_memory(config.prediction_length, config.n_variates, season_length)
    memory = begin(memory, panel, first)
    return memory, corrected(*read_rows(memory, predictor, panel, first, wanted))


def corrected(point: Array, quantiles: Array, added: Array) -> tuple[Array, Array]:
    """Return what :func:`read_rows` does as means and quantiles of one item, with the corrections."""
    return (point + added)[:, None], (quantiles + added[..., None])[:, None]


def begin(memory: ErrorMemory, panel: Panel, row: int) -> ErrorMemory:
    """Return a copy without waiting forecasts, for a series that is read from a row on."""
    memory = deepcopy(memory)
    memory.keys[:], memory.corrections[:], memory.forecasts[:] = 0, 0, np.nan
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
