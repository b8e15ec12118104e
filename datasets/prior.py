"""A prior over time series: random series of many kinds, to pretrain a forecaster on.

The kinds follow published recipes: sums of Gaussian processes (KernelSynth: Ansari et al., "Chronos",
2024), seasonal ARIMA and structural models (SarSim0, arXiv 2601.00970), stochastic differential
equations, events, saw-teeth and steps (TempoPFN, arXiv 2510.25502). No series of a real data set enters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["SERIES_KINDS", "RandomSeries", "random_series"]

Array = NDArray[np.float64]
Seasons = NDArray[np.int64]
Kind = Callable[[Seasons, int, np.random.Generator], Array]

_USUAL = (1, 1, 1, 4, 4, 5, 7, 7, 12, 12, 12, 24, 24, 24, 48, 52, 96, 144, 168)
"""Seasons of usual frequencies, 1 for none; those of years, quarters, months, hours more often."""
_HARMONICS = 8


class RandomSeries(NamedTuple):
    """Random series and their seasons."""

    values: NDArray[np.float32]
    """`[n, T]`; NaN is missing."""
    seasons: Seasons
    """`[n, 2]`, numbers of steps in a season and in a longer one, 1 for none. A tenth are wrong, as those
    of users may be."""


def random_series(n: int, length: int, generator: np.random.Generator) -> RandomSeries:
    """Draw series from the prior.

    Parameters
    ----------
    n, length : int
        Number of series, and T, steps of each.
    generator : numpy.random.Generator
        Source of randomness; the same state gives the same series.

    Returns
    -------
    RandomSeries
        Values `[n, T]` in float32, and seasons `[n, 2]`.

    Raises
    ------
    ValueError
        If `n` or `length` is not positive.

    Examples
    --------
    >>> series = random_series(4, 100, np.random.default_rng(0))
    >>> series.values.shape, series.seasons.shape
    ((4, 100), (4, 2))
    """
    if n < 1 or length < 1:
        raise ValueError(f"n is {n} and length {length}; give positive numbers")
    rng = generator
    seasons = _seasons(n, length, rng)
    shares = np.array([share for _, share in SERIES_KINDS.values()])
    kinds = rng.choice(len(SERIES_KINDS), n, p=shares / shares.sum())
    values = np.zeros((n, length))
    for i, (kind, _) in enumerate(SERIES_KINDS.values()):
        chosen = kinds == i
        if chosen.any():
            values[chosen] = kind(seasons[chosen], length, rng)
    values = _disturbed(values, rng)
    given = seasons.copy()
    wrong = rng.random(n) < 0.1
    given[wrong] = _seasons(int(wrong.sum()), length, rng)
    longer = np.where(rng.random(n) < 0.85, _longer(given), 1)
    return RandomSeries(values.astype(np.float32), np.stack([given, longer], 1))


def _seasons(n: int, length: int, rng: np.random.Generator) -> Seasons:
    """Draw seasons; most are usual ones, and a series has two of them at least."""
    usual = np.array([s for s in _USUAL if 2 * s <= length] or [1])
    other = rng.integers(2, max(3, min(200, length // 2)), n)
    return np.where(rng.random(n) < 0.85, rng.choice(usual, n), other)


def _longer(seasons: Seasons) -> Seasons:
    """The longer season of each: a year of 7 days, a week of 24 steps or more; 1 for none."""
    return np.where(seasons == 7, 365, np.where(seasons >= 24, 7 * seasons, 1))


def _uniform(rng: np.random.Generator, low: float, high: float, n: int) -> Array:
    """Numbers `[n, 1]` between two."""
    return rng.uniform(low, high, (n, 1))


def _sizes(rng: np.random.Generator, low: float, high: float, n: int) -> Array:
    """Numbers `[n, 1]` whose logarithm is uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), (n, 1)))


def _sometimes(rng: np.random.Generator, probability: float, n: int) -> Array:
    """Ones with a probability, else zeros, `[n, 1]`."""
    return np.asarray(rng.random((n, 1)) < probability, float)


def _standardised(values: Array) -> Array:
    """Scale series `[n, T]` to mean 0 and deviation 1; constant ones to 0."""
    centred = values - values.mean(1, keepdims=True)
    deviation = centred.std(1, keepdims=True)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-12)


def _filtered(noise: Array, weight: Array) -> Array:
    """An autoregression of order 1 `[n, T]` of noise `[n, T]`, with its own weight for every series."""
    values = noise.T.copy()
    weight = weight[:, 0]
    for t in range(1, len(values)):
        values[t] += weight * values[t - 1]
    return np.asarray(values.T)


def _noise(n: int, length: int, rng: np.random.Generator) -> Array:
    """Noise of deviation one: white, autocorrelated, heavy-tailed, or of a changing size."""
    noise = rng.standard_normal((n, length))
    heavy = rng.random(n) < 0.2
    noise[heavy] = rng.standard_t(3, (int(heavy.sum()), length)) / 1.7
    changing = rng.random(n) < 0.25
    k = int(changing.sum())
    size = _smooth(k, length, rng) * _uniform(rng, 0.2, 1.0, k)
    noise[changing] *= np.exp(size - size.max(1, keepdims=True, initial=0) / 2)
    red = rng.random(n) < 0.4
    k = int(red.sum())
    weight = _uniform(rng, -0.4, 0.95, k)
    noise[red] = _filtered(noise[red], weight) * np.sqrt(1 - weight**2)
    return noise


def _smooth(n: int, length: int, rng: np.random.Generator, waves: int = 12) -> Array:
    """Smooth random curves: Gaussian processes of one length scale each, by random Fourier features."""
    scale = _sizes(rng, 0.03, 1.5, n) * length
    time = np.arange(length)
    total = np.zeros((n, length))
    for _ in range(waves):
        pace = rng.standard_normal((n, 1)) / scale
        total += np.cos(pace * time + _uniform(rng, 0, 2 * np.pi, n)) * np.sqrt(2 / waves)
    return total


def _season(seasons: Seasons, length: int, rng: np.random.Generator) -> Array:
    """Seasonal patterns of deviation one; 0 without a season.

    They are sums of waves, or numbers without order; they may drift and change in size, and those of days
    may follow a week.
    """
    n = len(seasons)
    time = np.arange(length)
    angle = 2 * np.pi * time / seasons[:, None]
    pattern = np.zeros((n, length))
    fall = _uniform(rng, 0.3, 2.5, n)
    drift = _sometimes(rng, 0.25, n) * _sizes(rng, 0.05, 1.0, n)
    for k in range(1, _HARMONICS + 1):
        exists = seasons[:, None] >= 2 * k
        size = rng.standard_normal((n, 1)) * k**-fall * exists
        shift = _uniform(rng, 0, 2 * np.pi, n) + drift * np.linspace(0, 1, length)
        pattern += size * np.cos(k * angle + shift)
    rough = (rng.random(n) < 0.3) & (seasons > 1)
    if rough.any():
        table = rng.standard_normal((int(rough.sum()), int(seasons.max())))
        table *= np.where(rng.random((len(table), 1)) < 0.3, rng.random(table.shape) < 0.2, 1)
        at = time % seasons[rough][:, None]
        pattern[rough] = np.take_along_axis(table, at, 1)
    pattern = _standardised(pattern)
    longer = _longer(seasons)
    both = (rng.random(n) < 0.6) & (longer > 1) & (longer < 2 * length)
    if both.any():
        pattern[both] = _twice(pattern[both], seasons[both], longer[both], rng)
    growth = np.exp(_sometimes(rng, 0.3, n) * _uniform(rng, 0, 0.6, n) * _smooth(n, length, rng))
    return np.asarray(pattern * growth)


def _twice(pattern: Array, seasons: Seasons, longer: Seasons, rng: np.random.Generator) -> Array:
    """Let seasonal patterns follow a longer season, too: by its days, or by waves."""
    n, length = pattern.shape
    time = np.arange(length)
    level = np.where(rng.random((n, 1)) < 0.5, 1.0, rng.normal(1, 0.5, (n, 7)))
    level[:, 5:] *= _uniform(rng, 0.2, 1.2, n)
    day = time // seasons[:, None] % 7
    factor = np.take_along_axis(level, day, 1)
    by_day = pattern * np.abs(factor) + _uniform(rng, 0, 1.0, n) * (factor - 1)
    waves = np.zeros_like(pattern)
    for k in (1, 2, 3):
        angle = 2 * np.pi * k * time / longer[:, None] + _uniform(rng, 0, 2 * np.pi, n)
        waves += np.cos(angle) * rng.standard_normal((n, 1)) / k
    share = _sizes(rng, 0.2, 4, n)
    days = (seasons[:, None] >= 24) & (rng.random((n, 1)) < 0.7)
    return _standardised(np.where(days, by_day, pattern + share * waves))


def _trend(n: int, length: int, rng: np.random.Generator) -> Array:
    """Trends of about deviation one: lines, bends, walks, walks of the slope, curves, or none."""
    time = np.linspace(-0.5, 0.5, length)
    kind = rng.choice(7, n, p=(0.2, 0.15, 0.2, 0.1, 0.15, 0.05, 0.15))
    trend = np.zeros((n, length))
    line = kind == 0
    trend[line] = time * rng.choice((-1, 1), (int(line.sum()), 1))
    bent = kind == 1
    for _ in range(3):
        k = int(bent.sum())
        bend = np.maximum(time - _uniform(rng, -0.5, 0.5, k), 0)
        trend[bent] += bend * rng.standard_normal((k, 1)) + time * rng.normal(0, 0.3, (k, 1))
    walk = kind == 2
    trend[walk] = rng.standard_normal((int(walk.sum()), length)).cumsum(1)
    slope = kind == 3
    k = int(slope.sum())
    trend[slope] = _filtered(rng.standard_normal((k, length)), _uniform(rng, 0.8, 1, k)).cumsum(1)
    curve = kind == 4
    trend[curve] = _smooth(int(curve.sum()), length, rng)
    bounded = kind == 5
    k = int(bounded.sum())
    trend[bounded] = 1 / (1 + np.exp(-(time - _uniform(rng, -0.5, 0.5, k)) * _sizes(rng, 5, 40, k)))
    return _standardised(trend)


def _structural(seasons: Seasons, length: int, rng: np.random.Generator) -> Array:
    """Level, season and noise, added or multiplied: most business series."""
    n = len(seasons)
    trend = _trend(n, length, rng) * _sizes(rng, 0.1, 5, n)
    season = _season(seasons, length, rng) * _sizes(rng, 0.1, 3, n) * _sometimes(rng, 0.9, n)
    noise = _noise(n, length, rng) * _sizes(rng, 0.03, 1.5, n)
    values = trend + season + noise
    multiplied = rng.random(n) < 0.45
    k = int(multiplied.sum())
    size = _sizes(rng, 0.05, 0.8, k) / np.maximum(values[multiplied].std(1, keepdims=True), 1e-9)
    values[multiplied] = np.exp(np.minimum(values[multiplied] * size, 8))
    offset = np.where(rng.random(n) < 0.6, -values.min(1) + rng.exponential(3, n), 0)
    return np.asarray(np.where(multiplied[:, None], values, values + offset[:, None]))


def _gaussian(seasons: Seasons, length: int, rng: np.random.Generator) -> Array:
    """Sums and products of smooth curves, periodic ones and noise (Gaussian processes)."""
    n = len(seasons)
    values = _smooth(n, length, rng) * _sizes(rng, 0.2, 2, n)
    values += _smooth(n, length, rng) * _sizes(rng, 0.05, 1, n) * _sometimes(rng, 0.5, n)
    season = _season(seasons, length, rng)
    multiplied = _sometimes(rng, 0.3, n)
    values += season * np.where(multiplied, _smooth(n, length, rng), 1) * _sizes(rng, 0.1, 2, n)
    return values + rng.standard_normal((n, length)) * _sizes(rng, 0.005, 0.5, n)


def _walks(seasons: Seasons, length: int, rng: np.random.Generator) -> Array:
    """Prices and physical states: walks, also of logarithms, that return to a mean, or jump."""
    n = len(seasons)
    step = _noise(n, length, rng) + rng.normal(0, 0.15, (n, 1)) * _sometimes(rng, 0.4, n)
    jump = (rng.random((n, length)) < 0.01) & (rng.random((n, 1)) < 0.2)
    step += np.where(jump, rng.normal(0, 6, step.shape), 0)
    back = np.where(rng.random((n, 1)) < 0.35, 1 - _sizes(rng, 0.005, 0.3, n), 1.0)
    values = _filtered(step, back)
    geometric = rng.random(n) < 0.4
    size = _sizes(rng, 0.003, 0.05, int(geometric.sum()))
    values[geometric] = np.exp(np.clip(values[geometric] * size, -8, 8)) / size
    season = _season(seasons, length, rng) * _sizes(rng, 0.3, 8, n)
    return np.asarray(values + season * _sometimes(rng, 0.45, n))


def _arima(seasons: Seasons, length: int, rng: np.random.Generator) -> Array:
    """Seasonal ARIMA: autoregressions of order two, differences of one step and of a season."""
    n = len(seasons)
    most = int(seasons.max())
    total = length + 2 * most + 50
    noise = rng.standard_normal((n, total))
    near, far = _uniform(rng, -0.2, 0.9, n), _uniform(rng, -0.1, 0.9, n)
    noise[:, 1:] -= near * noise[:, :-1] * _sometimes(rng, 0.7, n)
    lag = np.arange(total) - seasons[:, None]
    before = np.take_along_axis(noise, np.maximum(lag, 0), 1) * (lag >= 0)
    noise -= far * before
    radius, angle = _uniform(rng, 0, 0.97, n)[:, 0], rng.uniform(0, np.pi, n)
    first = np.where(rng.random(n) < 0.5, 2 * radius * np.cos(angle), radius)
    second = np.where(first == radius, 0, -(radius**2))
    seasonal = np.where(seasons > 1, np.where(rng.random(n) < 0.6, 1.0, 0.8), 0.0)
    rows, start = np.arange(n), most + 2
    values = np.zeros((total, n))
    inner = np.zeros((total, n))
    noise = noise.T
    for t in range(start, total):
        inner[t] = noise[t] + first * inner[t - 1] + second * inner[t - 2]
        values[t] = inner[t] + seasonal * values[t - seasons, rows]
    result = np.asarray(values.T[:, -length:])
    integrated = rng.random(n) < 0.6
    result[integrated] = result[integrated].cumsum(1)
    return result + rng.normal(0, 2, (n, 1)) * result.std(1, keepdims=True)


def _counts(seasons: Seasons, length: int, rng: np.random.Generator) -> Array:
    """Counts of events whose rate changes, and demand that is mostly zero."""
    n = len(seasons)
    log = 0.5 * _trend(n, length, rng) * _sizes(rng, 0.1, 2, n)
    log += _season(seasons, length, rng) * _sizes(rng, 0.05, 1, n)
    rate = np.exp(np.clip(log, -6, 6)) * _sizes(rng, 0.1, 200, n)
    spread = rng.gamma(2, 0.5, rate.shape)
    rate = np.where(rng.random((n, 1)) < 0.4, rate * spread, rate)
    counts = rng.poisson(np.minimum(rate, 1e6)).astype(float)
    rare = rng.random(n) < 0.4
    k = int(rare.sum())
    happens = rng.random((k, length)) < _uniform(rng, 0.05, 0.7, k)
    counts[rare] = np.where(happens, counts[rare] + rng.integers(0, 2, (k, 1)), 0)
    return counts


def _events(seasons: Seasons, length: int, rng: np.random.Generator) -> Array:
    """Saw-teeth, square waves, pulses, spikes at equal distances, and steps, with noise."""
    n = len(seasons)
    period = np.where(seasons > 2, seasons, rng.integers(4, max(6, length // 4), n))[:, None]
    phase = (np.arange(length) / period + rng.random((n, 1))) % 1
    share = _uniform(rng, 0.05, 0.8, n)
    kind = rng.integers(0, 4, (n, 1))
    wave = np.where(kind == 0, phase, np.where(kind == 1, phase < share, 0.0))
    wave = np.where(kind == 2, np.exp(-phase * _sizes(rng, 3, 60, n)), wave)
    steps = (rng.random((n, length)) < _sizes(rng, 0.005, 0.05, n)) * rng.standard_normal(
        (n, length)
    )
    wave = np.where(kind == 3, steps.cumsum(1), wave)
    wave = wave * np.exp(_sometimes(rng, 0.3, n) * 0.4 * _smooth(n, length, rng))
    return wave + rng.standard_normal((n, length)) * _sizes(rng, 0.002, 0.3, n)


def _waves(seasons: Seasons, length: int, rng: np.random.Generator) -> Array:
    """Oscillations of any period, pure, damped or driven by noise."""
    n = len(seasons)
    time = np.arange(length)
    values = np.zeros((n, length))
    for _ in range(3):
        period = _sizes(rng, 3, max(8, length / 2), n)
        damping = _sometimes(rng, 0.3, n) * _uniform(rng, 0, 4, n) / length
        wave = np.sin(2 * np.pi * time / period + _uniform(rng, 0, 2 * np.pi, n))
        values += wave * np.exp(-damping * time) * rng.exponential(1, (n, 1))
    values += _season(seasons, length, rng) * _sometimes(rng, 0.5, n)
    values += _trend(n, length, rng) * _sometimes(rng, 0.4, n)
    return values + _noise(n, length, rng) * _sizes(rng, 0.005, 0.6, n)


SERIES_KINDS: dict[str, tuple[Kind, float]] = {
    "structural": (_structural, 0.45),
    "gaussian": (_gaussian, 0.12),
    "walks": (_walks, 0.12),
    "arima": (_arima, 0.12),
    "counts": (_counts, 0.08),
    "events": (_events, 0.05),
    "waves": (_waves, 0.06),
}
"""Kinds of series by name, each with its share of the prior."""


def _disturbed(values: Array, rng: np.random.Generator) -> Array:
    """Add what happens to measurements: outliers, shifts, bounds, rounding, flat and missing parts."""
    n, length = values.shape
    spread = values.std(1, keepdims=True) + 1e-9
    time = np.arange(length)
    outlier = (rng.random((n, length)) < 0.01) & (rng.random((n, 1)) < 0.08)
    values = values + np.where(outlier, rng.normal(0, 5, values.shape) * spread, 0)
    shift = _sometimes(rng, 0.06, n) * rng.normal(0, 2, (n, 1)) * spread
    values += shift * (time >= rng.integers(0, length, (n, 1)))
    flip = np.where(rng.random((n, 1)) < 0.08, -1.0, 1.0)
    values = values * flip
    bound = np.quantile(values, 0.2, axis=1, keepdims=True)
    values = np.where(rng.random((n, 1)) < 0.03, np.maximum(values, bound), values)
    grain = spread * _sizes(rng, 0.02, 0.5, n)
    values = np.where(rng.random((n, 1)) < 0.06, np.round(values / grain) * grain, values)
    flat = (rng.random((n, 1)) < 0.02) & _stretch(n, length, rng)
    values = np.where(flat, values[:, :1], values)
    gone = (rng.random((n, 1)) < 0.04) & (rng.random((n, length)) < _uniform(rng, 0, 0.4, n))
    gone |= (rng.random((n, 1)) < 0.06) & _stretch(n, length, rng)
    return np.where(gone, np.nan, values)


def _stretch(n: int, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random stretch of steps in every series, `[n, T]`, up to a third of it."""
    start = rng.integers(0, length, (n, 1))
    end = start + 1 + rng.integers(0, max(1, length // 3), (n, 1))
    time = np.arange(length)
    return np.asarray((time >= start) & (time < end))
