"""A memory of forecast errors that learns at test time, from every row as it arrives.

It is an associative memory, as in arXiv 2501.00663, with two differences: what it associates is not seen
inside a network, and its write is not a step along the gradient of `|M k - v|^2` but goes to the minimum
of the forgetting sum of them (recursive least squares). A key k describes a variate when a forecast is
made: its last values, the forecast, the latest errors, and the place in the day and the week. The value v
is the error of that forecast, once all its steps were observed. What is read, `M k`, is added to the next
forecast, as far as it has improved the last ones.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from titans_ts.forecasting.frequency import cycle_phase
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.pretrained import two_seasons

__all__ = ["NAMES", "WINDOW", "ErrorMemory", "begin", "learned", "read_rows", "start_memory"]

Array = NDArray[np.float64]

WINDOW = 96
"""Number of values before a forecast that a key has."""
_STEPS = 12
"""Number of steps whose forecasts and errors a key has."""
_HARMONICS = 4, 6
"""Harmonics of the shorter and the longer season in a key."""
_RETENTION = 0.9998
"""What remains of older errors after a row."""
_PRIOR = 0.1
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
    """M, `[D, H]`, shared by the variates."""
    covariance: Array
    """`[D, D]`, the inverse of the forgetting sum of the products of keys."""
    evidence: Array
    """Forgetting sums of products of errors and corrections, and of squares of corrections, `[2]`."""
    keys: Array
    """`[H, C, D]`, of the waiting forecasts; zero where nothing can be learned."""
    forecasts: Array
    """`[H, H, C]`, before their correction; NaN where none was made."""
    corrections: Array
    """`[H, C, H]`, what was read from the memory."""
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
    def share(self) -> float:
        """The share of what is read that is added to forecasts, 0 to 1."""
        return float(np.clip(self.evidence[0] / max(self.evidence[1], 1e-12), 0, 1))

    def correction(self) -> Array:
        """Return what is added to the forecast after the last row, `[H, C]`."""
        slot = (self.place[2] - 1) % self.shape[0]
        found: Array = self.share * (self.corrections[slot] * self.units[slot][:, None]).T
        return found

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
            self._write(slot, past[-H:])
        key, unit = self._key(past[-WINDOW:], forecast, scale)
        self.keys[slot], self.units[slot], self.forecasts[slot] = key, unit, forecast
        self.corrections[slot] = np.clip(key @ self.weights, -_LARGEST, _LARGEST)
        self.place += 1
        self.place[:2] %= self.seasons
        return self.correction()

    def _write(self, slot: int, actual: Array) -> None:
        """Learn the errors of the forecast in a slot of the values `[H, C]`."""
        key = self.keys[slot]
        error = ((actual - self.forecasts[slot]) / self.units[slot]).T  # [C, H]
        known: NDArray[np.bool_] = ~np.isnan(error)
        read = self.corrections[slot]
        used = known.any(1)
        if not used.any():
            return
        error = np.where(known, np.clip(error, -_LARGEST, _LARGEST), 0)
        new = np.array([(error * read).sum(), np.square(read, where=known, out=0 * read).sum()])
        self.evidence[:] = _TRUST * self.evidence + new
        k, surprise = key[used], error[used] - key[used] @ self.weights
        surprise[~known[used]] = 0
        if np.trace(self.covariance) < len(self.covariance) / _PRIOR:  # never less than at first
            self.covariance /= _RETENTION
        spread = self.covariance @ k.T  # [D, n]
        gain = np.linalg.solve(np.eye(len(k)) + k @ spread, spread.T).T
        self.weights += gain @ surprise
        self.covariance -= gain @ spread.T
        self.covariance[:] = (self.covariance + self.covariance.T) / 2  # rounding must not add up

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
        angles = [
            2 * np.pi * k * place / season
            for season, place, most in zip(self.seasons, self.place[:2], _HARMONICS, strict=True)
            for k in range(1, _n_harmonics(season, most) + 1)
        ]
        return np.concatenate([np.sin(angles), np.cos(angles)])


def start_memory(prediction_length: int, n_variates: int, season_length: int) -> ErrorMemory:
    """Return an empty memory of forecasts of H steps and C variates with a season of some steps."""
    H, C = prediction_length, n_variates
    seasons = np.array(two_seasons(season_length))
    waves = sum(_n_harmonics(s, most) for s, most in zip(seasons, _HARMONICS, strict=True))
    D = WINDOW + 2 * len(_steps(H)) + 2 * waves
    return ErrorMemory(
        np.zeros((D, H)),
        np.eye(D) / _PRIOR,
        np.array([0.0, 1e-3]),
        np.zeros((H, C, D)),
        np.full((H, H, C), np.nan),
        np.zeros((H, C, H)),
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


def learned(predictor: PanelPredictor, panel: Panel, first: int, season_length: int) -> ErrorMemory:
    """Return a new memory that has read the rows of a series from row `first` on."""
    config = predictor.config
    memory = start_memory(config.prediction_length, config.n_variates, season_length)
    memory = begin(memory, panel, first)
    read_rows(memory, predictor, panel, first)
    return memory


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


def _steps(horizon: int) -> NDArray[np.int64]:
    """Return the steps whose forecasts a key has."""
    steps: Any = np.unique(np.linspace(0, horizon - 1, _STEPS).round())
    return np.asarray(steps, np.int64)


def _n_harmonics(season: int, most: int) -> int:
    return min(most, season // 2) if season > 1 else 0


NAMES = tuple(field.name for field in fields(ErrorMemory))
"""Names of the arrays of a memory, for a file."""
