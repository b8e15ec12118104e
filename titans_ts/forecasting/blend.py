"""A blend of the network's forecasts with simple and pretrained ones, weighted by held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from titans_ts.datasets import gather_rows
from titans_ts.forecasting.baselines import drift, seasonal_naive
from titans_ts.forecasting.linear import fit_linear, linear_forecast
from titans_ts.forecasting.metrics import observed_mean, quantile_loss, seasonal_error
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.pretrained import PRETRAINED, at_levels, pretrained_quantiles
from titans_ts.forecasting.smoothing import exponential_smoothing
from titans_ts.forecasting.theta import theta

__all__ = [
    "FORECASTERS",
    "LINEAR",
    "NETWORK",
    "SIMPLE",
    "ZERO_SHOT",
    "Blend",
    "Errors",
    "fit_blend",
    "histories",
    "n_rows",
    "n_windows",
    "season_of",
    "simple_forecast",
]

Array = NDArray[np.float64]

NETWORK, LINEAR, ZERO_SHOT = "titans", "linear", "pretrained"
"""Names of the network's forecast, of a linear map's of the network's context, and of that of the model
in the package, which was never fitted to the series."""

_ROWS, _SEASONS = 300, 8
"""The simple forecasters read this number of rows, or this number of seasons if that is more."""
_VALUES = 2**17
"""Number of values that all histories of the validation windows have together at most."""
_LONGEST, _LONGEST_USUAL = 400, 2048
"""Number of steps in the longest season that is looked for, and in the longest one that is read.

The second is a week of steps of five minutes. Smoothing a series takes 0.2 s then, 1.2 s for a week of
minutes, and 1 GB for one of seconds.
"""
_DEEP = 0.8
"""A season's naive error, relative to those at the distances around it, is at most this."""
_LEAST = 0.03
"""Weights below this one are set to zero."""
_PRIOR = 4.0
"""Weight of the pretrained model before any evidence, where every other forecaster has 1."""
_STRENGTH = 0.05
"""How strongly weights are drawn towards these at least: items of a panel share what happens to them."""
_GRID = np.linspace(0.01, 0.99, 99)
"""Levels at which the distribution of a simple forecaster's errors is kept."""
_FURTHEST = 50.0
"""Errors beyond this number of usual differences are cut to it."""
_POSITIONS = 2**15
"""Number of validation values that the weights are computed from at most."""


def _last_value(past: Array, prediction_length: int, season_length: int) -> Array:
    return seasonal_naive(past[..., None], prediction_length, 1)[..., 0]


def _drift(past: Array, prediction_length: int, season_length: int) -> Array:
    return drift(past[..., None], prediction_length)[..., 0]


def _seasonal_naive(past: Array, prediction_length: int, season_length: int) -> Array:
    front = max(0, season_length - past.shape[1])
    whole = np.pad(past, ((0, 0), (front, 0)), constant_values=np.nan)
    return seasonal_naive(whole[..., None], prediction_length, season_length)[..., 0]


def _smoothing(past: Array, prediction_length: int, season_length: int) -> Array:
    return exponential_smoothing(past, prediction_length)


def _multiplicative(past: Array, prediction_length: int, season_length: int) -> Array:
    """Smooth the logarithms of series that are positive, at most e times beyond their range."""
    forecast = np.full((len(past), prediction_length), np.nan)
    low, high = np.nanmin(past, 1), np.nanmax(past, 1)
    chosen = low > 0
    if chosen.any():
        log = exponential_smoothing(np.log(past[chosen]), prediction_length, season_length)
        ends = (np.log(end[chosen, None]) for end in (low, high))
        forecast[chosen] = np.exp(np.clip(log, next(ends) - 1, next(ends) + 1))
    return forecast


SIMPLE: dict[str, Callable[[Array, int, int], Array]] = {
    "last value": _last_value,
    "drift": _drift,
    "seasonal naive": _seasonal_naive,
    "theta": theta,
    "smoothing": _smoothing,
    "seasonal smoothing": exponential_smoothing,
    "multiplicative smoothing": _multiplicative,
}
"""Simple forecasters by name: functions of the past `[N, T]`, H and the season's length that return
`[N, H]`. Every series has an observed value; a forecast that a series does not allow is NaN."""


FORECASTERS = (ZERO_SHOT, LINEAR, *SIMPLE)
"""Names of all forecasters that the network can be blended with."""


class Errors(NamedTuple):
    """The distribution of a simple forecaster's errors, in usual differences of a series."""

    size: Array
    """`[H]`, mean absolute errors."""
    shape: Array
    """`[99]`, quantiles of the errors divided by their size."""

    @classmethod
    def of(cls, errors: Array) -> Errors:
        """Measure errors `[N, H]`; NaN is missing."""
        size = observed_mean(np.abs(errors), 0)
        size = np.maximum(np.where(np.isnan(size), np.nanmean(np.abs(errors)), size), 1e-9)
        if len(size) > 2:  # of few errors, the sizes follow a power of the step
            steps = np.log(np.arange(1, len(size) + 1))
            line = np.exp(np.polyval(np.polyfit(steps, np.log(size), 1), steps))
            share = len(errors) / (len(errors) + 50)
            size = share * size + (1 - share) * line
        return cls(size, np.nanquantile(errors / size, _GRID))

    def at(self, levels: Any) -> Array:
        """Return the errors `[..., H, C, Q]` at quantile levels `[Q]` or `[..., H, C, Q]`."""
        return np.asarray(self.size[:, None, None] * np.interp(levels, _GRID, self.shape))

    @property
    def mean(self) -> Array:
        """The mean error, `[H]`."""
        return np.asarray(self.size * self.shape.mean())


class _Part(Protocol):
    """A forecast of n items, which is NaN where there is none."""

    def mean(self) -> Array:
        """Return the means, `[n, H, C]`."""

    def quantiles(self, levels: Any) -> Array:
        """Return quantiles `[n, H, C, Q]` at levels `[Q]` or `[n, H, C, Q]`."""


class _SimplePart(NamedTuple):
    """A simple forecast with the errors that it usually has."""

    forecast: Array
    """`[n, H, C]`."""
    usual: Array
    """The usual difference of every series, `[n, 1, C]`."""
    errors: Errors

    def mean(self) -> Array:
        return self.forecast + self.usual * self.errors.mean[:, None]

    def quantiles(self, levels: Any) -> Array:
        return self.forecast[..., None] + self.usual[..., None] * self.errors.at(levels)


class _PretrainedPart(NamedTuple):
    """A forecast of the pretrained model, which has its own quantiles."""

    own: Array
    """`[n, H, C, 9]`."""
    name: str
    """Which model."""

    def mean(self) -> Array:
        return np.asarray(self.own.mean(-1))

    def quantiles(self, levels: Any) -> Array:
        return at_levels(self.own, levels, self.name)


@dataclass(frozen=True)
class _Parts:
    """The forecasts of a blend beside the network's."""

    share: float
    """The network's weight."""
    parts: list[tuple[float, _Part]]
    """The others, each with its weight."""
    fitted: bool
    """Whether the network was trained, so that it takes the place of one that has no forecast."""

    def mean(self, point: Array) -> Array:
        """Blend the network's means `[n, H, C]` with those of the other forecasts."""
        total = self.share * point
        for weight, part in self.parts:
            mean = part.mean()
            total += weight * np.where(np.isnan(mean) & self.fitted, point, mean)
        return total

    def quantiles(self, values: Array, levels: Any) -> Array:
        """Blend the network's quantiles `[n, H, C, Q]` with those of the other forecasts.

        `levels` are those of the quantiles, `[Q]` or `[n, H, C, Q]`.
        """
        total = self.share * values
        for weight, part in self.parts:
            quantiles = part.quantiles(levels)
            total += weight * np.where(np.isnan(quantiles) & self.fitted, values, quantiles)
        return total


@dataclass(frozen=True)
class Blend:
    """Weights of the network and of other forecasters, and the errors of the simple ones.

    A quantile of the blend is the weighted mean of the quantiles of its parts.
    """

    weights: dict[str, float]
    """The weight of every part, :data:`NETWORK`, :data:`ZERO_SHOT`, :data:`LINEAR` or a key of
    :data:`SIMPLE`; their sum is 1."""
    losses: dict[str, float]
    """The quantile loss of every forecast on the validation windows, divided by the blend's."""
    errors: dict[str, Errors]
    """The errors of every simple part."""
    season_length: int
    n_rows: int
    """Number of rows that the forecasters beside the network read; 0 if there are none."""
    linear: Array | None = None
    """The weights of the linear map, `[L + 1, H]`, if it is a part."""
    pretrained: str = PRETRAINED
    """The model that :data:`ZERO_SHOT` is."""

    @property
    def fitted(self) -> bool:
        """Whether a network was trained; otherwise the pretrained model forecasts alone."""
        return self.losses != {} or NETWORK in self.weights

    @classmethod
    def of_pretrained(cls, season_length: int, n_rows: int, network: bool = False) -> Blend:
        """Return the pretrained model's forecasts from a number of rows, alone or with the network's.

        The weights are those before any evidence, and the losses are not known.
        """
        names = [NETWORK, ZERO_SHOT] if network else [ZERO_SHOT]
        weights = dict(zip(names, _prior(names), strict=True))
        return cls(weights, {}, {}, season_length, n_rows)

    def forecast(self, past: Array, prediction_length: int) -> _Parts:
        """Compute the forecasts beside the network's of histories `[n, T, C]`; NaN is missing."""
        series = _by_series(past)
        n, _, C = past.shape
        parts: list[tuple[float, _Part]] = []
        usual = _usual_difference(series, self.season_length).reshape(n, 1, C)
        for name, errors in self.errors.items():
            found = simple_forecast(
                name, series, prediction_length, self.season_length, self.linear
            )
            found = np.moveaxis(found.reshape(n, C, -1), 2, 1)
            parts.append((self.weights[name], _SimplePart(found, usual, errors)))
        if ZERO_SHOT in self.weights:
            found = pretrained_quantiles(
                series, prediction_length, self.season_length, self.pretrained
            )
            found = found.reshape(n, C, prediction_length, -1).swapaxes(1, 2)
            parts.append((self.weights[ZERO_SHOT], _PretrainedPart(found, self.pretrained)))
        return _Parts(self.weights.get(NETWORK, 0.0), parts, self.fitted)

    def summary(self) -> str:
        """Tell the weights in a line."""
        parts = sorted(self.weights.items(), key=lambda part: -part[1])
        return "blend: " + ", ".join(f"{name} {weight:.2f}" for name, weight in parts)


def histories(panel: Panel, rows: NDArray[np.int64], length: int) -> Array:
    """Return the targets of the `length` rows before `rows` `[..., I]`, `[..., I, T, C]`.

    Rows before the first observed value of all items are left out, so that T may be less than `length`.
    """
    first, end = panel.spans.T
    length = min(length, int((end - first).max()))
    at = rows[..., None] + np.arange(-length, 0)
    past = gather_rows(panel.values[:, : panel.n_targets], at, first, end)
    seen = ~np.isnan(past).all((*range(past.ndim - 2), -1))  # [T]
    return past[..., min(seen.argmax(), length - 1) :, :]


def _by_series(values: Array) -> Array:
    """Turn values `[..., T, C]` into those of every series, `[N, T]`."""
    return values.swapaxes(-1, -2).reshape(-1, values.shape[-2])


def simple_forecast(
    name: str, past: Array, prediction_length: int, season_length: int, linear: Array | None = None
) -> Array:
    """Compute a simple forecast `[N, H]` of series `[N, T]`; NaN for one without an observed value."""
    forecast = np.full((len(past), prediction_length), np.nan)
    seen = ~np.isnan(past).all(1)
    if seen.any() and name == LINEAR:
        assert linear is not None
        forecast[seen] = linear_forecast(past[seen], linear)
    elif seen.any():
        forecast[seen] = SIMPLE[name](past[seen], prediction_length, season_length)
    return forecast


def _usual_difference(past: Array, season_length: int) -> Array:
    """Return the mean absolute seasonal difference of series `[N, T]`.

    For a series that is too short for one it is the mean absolute difference of two steps, and for one
    that never changed a hundredth of its mean size. For one of zeros it is NaN: their unit is unknown.
    """
    size = observed_mean(np.abs(past), 1)
    usual = np.zeros(len(past))
    for step in (season_length, 1):
        difference = seasonal_error(past, step, axis=1)
        usual = np.where(usual > 1e-9 * size, usual, difference)
    usual = np.where(usual > 1e-9 * size, usual, size / 100)
    return np.where(usual > 0, usual, np.nan)


def season_of(panel: Panel, candidates: tuple[int, ...] | None) -> int:
    """Return the season whose naive forecast has the smallest error on a panel.

    Parameters
    ----------
    panel : Panel
        The series.
    candidates : tuple of int or None
        Numbers of steps. None: a number from 2 to 400 is looked for at which values are much closer to
        each other than at the distances around it.

    Returns
    -------
    int
        1 if no candidate has two seasons of rows in the longest item. Candidates of more than 2048 steps
        are passed over.
    """
    first, end = panel.spans.T
    rows = int((end - first).max())
    longest = min(rows // 2, _LONGEST_USUAL)
    seasons = [s for s in candidates or range(1, _LONGEST + 1) if s <= longest]
    if len(seasons) < 2:
        return seasons[0] if seasons else 1
    past = histories(panel, end, _ROWS + _SEASONS * max(seasons))
    series = _by_series(past)
    unit = _usual_difference(series, 1)
    difference = [seasonal_error(series, s, axis=1) / unit for s in seasons]  # [K, N]
    comparable = ~np.isnan(difference).any(0)  # long enough for every season
    if not comparable.any():
        return seasons[0]
    errors = np.mean(difference, 1, where=comparable)
    return seasons[int(np.argmin(errors))] if candidates else _dip(errors)


def _dip(errors: Array) -> int:
    """Return the first of the deepest dips of errors at distances of 1, 2, .. steps; 1 if none is deep.

    The depth is relative to the mean error at half to one and a half times the distance.
    """
    steps = range(2, len(errors))
    inner = errors[1:-1]
    around = np.array([errors[s // 2 : 3 * s // 2].mean() for s in steps])
    depth = np.divide(inner, around, out=np.full_like(inner, np.inf), where=around > 0)
    depth[(inner > errors[:-2]) | (inner > errors[2:])] = np.inf
    near = depth <= min(1.1 * depth.min(initial=np.inf), _DEEP)
    return steps[int(near.argmax())] if near.any() else 1


def n_rows(season_length: int) -> int:
    """Return the number of rows that simple forecasters read."""
    return max(_ROWS, _SEASONS * season_length)


def n_windows(panel: Panel, season_length: int) -> int:
    """Return the number of validation windows of all items that a blend is fitted to at most."""
    first, end = panel.spans.T
    rows = np.minimum(end - first, n_rows(season_length))
    return max(1, int(_VALUES // (rows.mean() * panel.n_targets)))


def fit_blend(
    panel: Panel,
    cuts: NDArray[np.int64],
    actual: Array,
    quantiles: Array,
    levels: tuple[float, ...],
    season_length: int,
    n_blocks: int,
    learned: tuple[Panel, NDArray[np.int64], int],
    forecasters: Collection[str] = FORECASTERS,
) -> Blend | None:
    """Compute the weights from forecasts of held-out rows.

    Parameters
    ----------
    panel : Panel
        The series.
    cuts : ndarray
        `[W, I]`, the first row of every forecast; -1 for none.
    actual : ndarray
        What was observed, `[W, I, H, C]`; NaN is missing.
    quantiles : ndarray
        The network's quantiles, `[W, I, H, C, Q]`.
    levels : tuple of float
        The levels of these Q quantiles.
    season_length : int
        Number of steps in a season; 1 for none.
    n_blocks : int
        Number of forecasts that do not overlap. The fewer they are, the closer the weights are to those
        before any evidence.
    learned : tuple
        The panel that a linear map is fitted to, the row after the last one of every item that it
        learns from, and the number of steps that it reads.
    forecasters : collection of str
        Which ones may be a part, of :data:`FORECASTERS` (default: all).

    Returns
    -------
    Blend or None
        None if no value was observed, or only zeros before the forecasts.
    """
    *_, context_length = learned
    length, horizon = max(n_rows(season_length), context_length), actual.shape[2]
    past = histories(panel, cuts, length)  # [W, I, T, C]
    series = _by_series(past)
    target = _by_series(actual)
    network = np.moveaxis(quantiles, 3, 2).reshape(*target.shape, -1)
    unit = _usual_difference(series, season_length)
    known = ~np.isnan(unit) & ~np.isnan(target).all(1)
    if not known.any():
        return None
    series, target, network, unit = series[known], target[known], network[known], unit[known, None]
    parts, errors, linear = {NETWORK: network}, {}, None
    if ZERO_SHOT in forecasters:
        own = at_levels(pretrained_quantiles(series, horizon, season_length), levels)
        parts[ZERO_SHOT] = np.where(np.isnan(own), network, own)
    if LINEAR in forecasters:
        linear = fit_linear(*learned, (series, target))
    for name in (LINEAR, *SIMPLE):
        if season_length == 1 and name.startswith("seasonal"):
            continue  # the same as another one
        if name not in forecasters or (name == LINEAR and linear is None):
            continue
        forecast = simple_forecast(name, series, horizon, season_length, linear)
        if np.isnan(target - forecast).all():
            continue
        errors[name] = Errors.of(np.clip((target - forecast) / unit, -_FURTHEST, _FURTHEST))
        forecast = forecast[..., None] + unit[..., None] * errors[name].at(levels)[:, 0]
        parts[name] = np.where(np.isnan(forecast), network, forecast)
    scaled = np.stack(list(parts.values()), -1) - target[..., None, None]
    scaled = np.clip(scaled / unit[..., None, None], -_FURTHEST, _FURTHEST)  # [N, H, Q, K]
    position = scaled[~np.isnan(target)]  # [n, Q, K]
    position = position[:: -(-len(position) // _POSITIONS)]
    strength = max(1 / n_blocks, _STRENGTH)
    weights = _weights(position, levels, strength, _prior(parts))
    weights[weights < _LEAST] = 0
    weights /= weights.sum()
    least = max(_loss(position @ weights, levels), 1e-9)  # 0 for a series that stopped changing
    losses = {name: _loss(position[..., k], levels) / least for k, name in enumerate(parts)}
    chosen = {name: float(w) for name, w in zip(parts, weights, strict=True) if w > 0}
    kept = {name: errors[name] for name in chosen if name in errors}
    return Blend(
        chosen,
        losses,
        kept,
        season_length,
        length if chosen.keys() - {NETWORK} else 0,
        linear if LINEAR in kept else None,
    )


def _loss(distance: Array, levels: tuple[float, ...]) -> float:
    """Return the mean quantile loss of quantiles less targets, `[n, Q]`."""
    return float(quantile_loss(np.zeros(len(distance)), distance, levels).mean() / 2)


def _prior(names: Iterable[str]) -> Array:
    """Return the weights of forecasters before any evidence."""
    weights = np.array([_PRIOR if name == ZERO_SHOT else 1.0 for name in names])
    return np.asarray(weights / weights.sum())


def _weights(distance: Array, levels: tuple[float, ...], strength: float, prior: Array) -> Array:
    """Return the weights `[K]` of least quantile loss, drawn towards `prior` `[K]` by `strength`.

    `distance` `[n, Q, K]` are the quantiles of K forecasts less the targets. The loss is relative to that
    of the best forecast, and `strength` times the weights' divergence from the prior is added.
    """
    q = np.array(levels)
    best = min(_loss(distance[..., k], levels) for k in range(len(prior))) or 1.0

    def objective(logits: Array) -> tuple[float, Array]:
        weights = softmax(logits)
        blended = distance @ weights  # [n, Q]
        divergence = np.log(np.maximum(weights / prior, 1e-12))
        value = _loss(blended, levels) / best + strength * (weights * divergence).sum()
        slope = np.where(blended > 0, 1 - q, -q) / blended.size / best
        gradient = np.tensordot(slope, distance, 2) + strength * (divergence + 1)
        return value, weights * (gradient - weights @ gradient)

    found = minimize(objective, np.log(prior), jac=True, method="L-BFGS-B")
    return np.asarray(softmax(found.x))
