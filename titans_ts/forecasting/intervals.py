"""Split-conformal calibration of intervals between forecast quantiles.

A model's interval between two quantiles is widened (or narrowed) by a margin, the quantile of how far
outside it past values fell (Romano, Patterson and Candes, "Conformalized Quantile Regression", 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from titans_ts.config import ForecasterConfig

__all__ = [
    "check_distribution",
    "check_interval",
    "conformity",
    "dependent_levels",
    "margin",
    "rolling_margins",
    "widen",
]

Array = NDArray[np.float64]


def conformity(actual: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Array:
    """Return how far a value lies outside an interval; negative if it lies inside. NaN is missing."""
    y = np.asarray(actual, dtype=np.float64)
    scores: Array = np.maximum(np.asarray(lower) - y, y - np.asarray(upper))
    return scores


def check_interval(quantile_levels: Sequence[float]) -> None:
    """Raise a ValueError unless a model has the two quantiles that an interval needs."""
    if len(quantile_levels) < 2:
        raise ValueError("an interval needs two quantiles; fit with two or more quantile_levels")


def check_distribution(config: ForecasterConfig) -> None:
    """Raise a ValueError unless a model forecasts a distribution to draw from."""
    if config.output == "quantiles" and len(config.quantile_levels) < 2:
        raise ValueError("a distribution needs two quantiles; fit with two or more quantile_levels")


def widen(
    quantiles: Array, added: Array, point: Array, least: float = -np.inf
) -> tuple[Array, Array]:
    """Return the ends `[...]` of an interval: the outermost of quantiles `[..., Q]`, moved by a margin.

    The lower end moves down and the upper end up by `added`, but the lower end not below `least`, the
    smallest possible value. A negative margin narrows the interval, but not further than until its ends
    meet. The interval contains the point forecast `[...]`: a mean may lie beyond the quantiles.
    """
    low, high = quantiles[..., 0], quantiles[..., -1]
    added = np.maximum(added, (low - high) / 2)
    low, high = np.maximum(low - added, np.minimum(low, least)), high + added
    return np.minimum(low, point), np.maximum(high, point)


def margin(scores: ArrayLike, coverage: float) -> Array:
    """Return the margin to add to both ends of an interval so that it contains a share of new values.

    Parameters
    ----------
    scores : array
        :func:`conformity` of N calibration values, `[N, ...]`; NaN is missing.
    coverage : float
        The share, between 0 and 1.

    Returns
    -------
    ndarray
        `[...]`, the score of rank ceil((N + 1) coverage). If new values are exchangeable with these, the
        interval contains at least that share of them. The result is 0 if there is no score, and the
        largest score if there are too few for that rank.

    Examples
    --------
    >>> float(margin([3.0, 1.0, 2.0, np.nan, 4.0], 0.5))
    3.0
    """
    if not isinstance(coverage, (int, float, np.number)) or not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage!r}; it must lie between 0 and 1")
    ordered = np.sort(np.asarray(scores, dtype=np.float64), 0)  # NaN last
    n = (~np.isnan(ordered)).sum(0)
    rank = np.clip(np.ceil((n + 1) * coverage).astype(int), 1, np.maximum(n, 1)) - 1
    chosen = np.take_along_axis(ordered, rank[None], 0)[0]
    margins: Array = np.where(n > 0, chosen, 0.0)
    return margins


def dependent_levels(
    errors: ArrayLike, n_samples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw quantile levels of a forecast's distribution, with the dependence of past errors.

    A sample has the ranks that the errors of one past forecast have over its steps and variates (Clark et
    al., "The Schaake Shuffle", Journal of Hydrometeorology, 2004). Each level by itself is uniform.

    Parameters
    ----------
    errors : array
        The errors of N past forecasts, `[N, ...]`. NaN is missing, and gets a random rank.
    n_samples : int
        S, number of samples.
    generator : numpy Generator
        Draws which of the N forecasts a sample follows, and the level within a rank.

    Returns
    -------
    ndarray
        `[S, ...]`, strictly between 0 and 1.
    """
    past = np.asarray(errors, dtype=np.float64)
    # Observed errors keep their order among themselves; missing ones take any place between them.
    missing = np.isnan(past)
    seen = (~missing).sum(0)
    rank = np.where(missing, 0, past.argsort(0).argsort(0) + 0.5) / np.maximum(seen, 1)
    order = np.where(missing, generator.random(past.shape), rank)
    ranks = order.argsort(0).argsort(0)
    # every past forecast equally often, or once more than another
    rounds = [generator.permutation(len(past)) for _ in range(-(-n_samples // len(past)))]
    chosen = np.concatenate(rounds)[:n_samples]
    within = generator.uniform(1e-6, 1 - 1e-6, (n_samples, *past.shape[1:]))
    levels: NDArray[np.float64] = (ranks[chosen] + within) / len(past)
    return levels


def rolling_margins(
    scores: Array, before: Array, coverage: float, stride: int = 1, every: int = 1
) -> Array:
    """Return margins of W forecasts, each from the latest scores that were known when it was made.

    Parameters
    ----------
    scores : ndarray
        :func:`conformity` of the W forecasts, `[W, H, ...]`, in order.
    before : ndarray
        The scores of the N forecasts before them, `[N, H, ...]`, in order. A margin follows from at most
        the latest N scores.
    coverage : float
        Between 0 and 1.
    stride : int
        Number of steps between two forecasts (default 1). The value of a forecast's step h is known h
        steps after the forecast.
    every : int
        Number of forecasts between two new margins (default 1).

    Returns
    -------
    ndarray
        `[W, H, ...]`.
    """
    n, horizon = before.shape[:2]
    everything = np.concatenate([before, scores])
    margins = np.empty_like(scores)
    for start in range(0, len(scores), every):
        known = np.empty_like(before)
        for step in range(horizon):
            end = max(0, n + start - -(-(step + 1) // stride) + 1)  # forecasts whose step has come
            latest = everything[max(0, end - n) : end, step]
            known[: len(latest), step], known[len(latest) :, step] = latest, np.nan
        margins[start : start + every] = margin(known, coverage)
    return margins
