"""Thresholds for anomaly scores, and the frame of the results."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from titans_ts.forecasting.panel import Panel

__all__ = ["anomaly_frame", "peaks_over_threshold", "score_threshold"]

_FEWEST_PEAKS = 20
"""Smallest number of scores above a threshold that a distribution is fitted to."""


def anomaly_frame(
    panel: Panel, scores: NDArray[np.float64], thresholds: list[float]
) -> pd.DataFrame:
    """Return a row per value of a panel with its score `[N, C]` and its variate's threshold `[C]`."""
    C = panel.n_targets
    places = np.arange(len(scores)) if panel.index is None else panel.index
    frame = pd.DataFrame(
        {
            panel.roles.timestamp: places.repeat(C),
            "variate": np.tile(np.array(panel.columns or range(C), dtype=object), len(scores)),
            "value": panel.values[:, :C].ravel(),
            "score": scores.ravel(),
            "threshold": np.tile(thresholds, len(scores)),
        }
    )
    frame["anomaly"] = frame["score"] > frame["threshold"]
    if panel.items is not None:
        frame.insert(0, panel.roles.item_id, panel.items.repeat(np.diff(panel.starts) * C))
    return frame


def score_threshold(scores: ArrayLike, risk: float, method: str = "quantile") -> float:
    """Return the score that a share `risk` of usual steps exceeds.

    Parameters
    ----------
    scores : array
        `[N]`, the scores of usual steps; NaN is ignored.
    risk : float
        Share of usual steps above the result, between 0 and 1.
    method : {"quantile", "evt"}
        "quantile" (default) takes the empirical quantile. "evt" takes extreme value theory, which is for
        risks smaller than one in N (:func:`peaks_over_threshold`).

    Returns
    -------
    float
        The threshold; NaN if all scores are NaN.

    Raises
    ------
    ValueError
        If a parameter is outside its range.
    """
    if not isinstance(risk, (int, float)) or not 0 < risk < 1:
        raise ValueError(f"risk is {risk!r}; it must lie between 0 and 1")
    if method not in ("quantile", "evt"):
        raise ValueError(f"method is {method!r}; choose 'quantile' or 'evt'")
    values = np.asarray(scores, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return float("nan")
    if method == "evt":
        return peaks_over_threshold(values, risk)
    return float(np.quantile(values, 1 - risk))


def peaks_over_threshold(scores: NDArray[np.float64], risk: float, level: float = 0.98) -> float:
    """Return a quantile beyond the largest scores, from a generalised Pareto tail.

    Siffer et al., "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017, equation 1.

    Parameters
    ----------
    scores : ndarray
        `[N]`, without NaN.
    risk : float
        Share of steps whose score exceeds the result.
    level : float
        Quantile where the tail begins (default 0.98). With fewer than twenty scores beyond it, or a
        risk that does not lie in the tail, the empirical quantile is returned.

    Examples
    --------
    >>> scores = np.random.default_rng(0).exponential(size=10_000)
    >>> found = peaks_over_threshold(scores, 1e-5)
    >>> bool(abs(found - np.log(1e5)) < 1.5)
    True
    """
    from scipy.stats import genpareto  # takes a second to import

    start = float(np.quantile(scores, level))
    peaks = scores[scores > start] - start
    if len(peaks) < _FEWEST_PEAKS or risk >= len(peaks) / len(scores):
        return float(np.quantile(scores, 1 - risk))
    shape, _, scale = genpareto.fit(peaks, floc=0)
    share = risk * len(scores) / len(peaks)
    if abs(shape) < 1e-6:
        return start - scale * float(np.log(share))
    return start + scale / shape * (share**-shape - 1)
