"""Thresholds for anomaly scores, and the frame of the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from titans_ts.config import check_integer
from titans_ts.estimator import plain
from titans_ts.forecasting.drawing import place_among
from titans_ts.forecasting.panel import Panel
from titans_ts.reporting.charts import Chart, Mark

__all__ = [
    "Anomalies",
    "anomaly_charts",
    "anomaly_frame",
    "peaks_over_threshold",
    "rarity",
    "score_threshold",
]

_FEWEST_PEAKS = 20
"""Smallest number of scores above a threshold that a distribution is fitted to."""
_TAIL = 0.98
"""Quantile where a tail begins."""


class Anomalies(pd.DataFrame):
    """The values of a series with their scores, a row per value; a part of it is a plain DataFrame.

    Its columns are `item_id` (of a long frame), `timestamp`, `variate`, `value`, `score`, `threshold` and
    `anomaly`; the first two have the names that the forecaster was given.
    """

    _metadata: ClassVar[list[str]] = ["_names"]
    _names: tuple[Any, Any] = (None, "timestamp")
    """The columns of the items (None for a single series) and of the times."""

    def copy(self, deep: bool = True) -> Anomalies:
        """Return a copy."""
        return _anomalies(super().copy(deep=deep), self._names)

    def plot(self, *, item: Any = None, max_variates: int = 4, interactive: bool = False) -> Any:
        """Draw the values and the scores, and mark the anomalies.

        Parameters
        ----------
        item : optional
            Which item of a long frame (default: the one with the most anomalies).
        max_variates : int
            Number of variates at most, two charts for each (default 4).
        interactive : bool
            Whether to return a figure of plotly, to hover over and to zoom (default False).

        Returns
        -------
        Figure
            The figure of matplotlib or plotly, neither shown nor saved.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is needed and not installed.
        ValueError
            If there is no such item.
        """
        check_integer("max_variates", plain(max_variates), 1)
        from titans_ts.reporting.plots import draw_series

        part, (item_id, time), shown = pd.DataFrame(self), self._names, []
        if item_id is not None:
            found = part["anomaly"].groupby(part[item_id], sort=False, observed=True).sum()
            known = found.index.tolist()
            place = int(found.argmax()) if item is None else place_among(item, known)
            part, shown = part[part[item_id] == known[place]], [known[place]]
        variate = part["variate"].where(part["variate"].notna(), "value")  # a series without a name
        groups = list(part.groupby(variate, sort=False))
        charts = [
            chart
            for name, rows in groups[:max_variates]
            for chart in anomaly_charts([*shown, name], rows, time)
        ]
        return draw_series(charts, len(groups) - len(charts) // 2, interactive=interactive)


def anomaly_charts(names: Sequence[Any], rows: pd.DataFrame, time: Any) -> list[Chart]:
    """Return the charts of the values and of the scores of one variate.

    Parameters
    ----------
    names : sequence
        What the title consists of: the item, if there is one, and the variate.
    rows : DataFrame
        The variate's rows of :class:`Anomalies`.
    time : column
        The column of the times.
    """
    name = " ".join(map(str, names))
    x = pd.Index(rows[time])
    value, score = rows["value"].to_numpy(float), rows["score"].to_numpy(float)
    found = rows["anomaly"].to_numpy(bool)
    values = (
        Mark("line", "value", x, value),
        Mark("points", "anomaly", x[found], value[found], role="alarm"),
    )
    limit = np.full(2, float(rows["threshold"].iloc[0]))
    scores = (
        Mark("line", "score", x, score, role="past"),
        Mark("line", "threshold", x[[0, -1]], limit, role="quiet", dash="dash"),
        Mark("points", "anomaly", x[found], score[found], role="alarm"),
    )
    words = f"{int(found.sum())} of {int(np.isfinite(score).sum())} values are anomalies."
    return [Chart(name, values, words=words), Chart(name, scores, y_title="score")]


def anomaly_frame(panel: Panel, scores: NDArray[np.float64], thresholds: list[float]) -> Anomalies:
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
    items = None if panel.items is None else panel.roles.item_id
    return _anomalies(frame, (items, panel.roles.timestamp))


def _anomalies(frame: pd.DataFrame, names: tuple[Any, Any]) -> Anomalies:
    table = Anomalies(frame)
    table._names = names
    return table


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


def peaks_over_threshold(scores: NDArray[np.float64], risk: float, level: float = _TAIL) -> float:
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


def rarity(scores: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how rare scores are among usual ones: 3 is one in a thousand.

    Parameters
    ----------
    scores : ndarray
        `[N, C]`.
    usual : ndarray
        `[M, C]`, of which NaN does not count.

    Returns
    -------
    ndarray
        `[N, C]`, minus the decimal logarithm of the share of usual scores that are at least as large; in
        the uppermost 2 % (at least 20 of them) of a generalised Pareto tail through them, which may not
        end. NaN where a score is NaN or no usual score is known.

    Examples
    --------
    >>> usual = np.random.default_rng(0).exponential(size=(10_000, 1))
    >>> rarity(np.log([[10.0], [1e6]]), usual).round()
    array([[1.],
           [6.]])
    """
    columns = [_rarity(s, u[~np.isnan(u)]) for s, u in zip(scores.T, usual.T, strict=True)]
    return np.stack(columns, 1)


def _rarity(scores: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import genpareto  # takes a second to import

    n = len(usual)
    if n == 0:
        return np.full(len(scores), np.nan)
    usual = np.sort(usual)
    known = np.where(np.isnan(scores), usual[0], scores)
    share = (n - np.searchsorted(usual, known) + 1) / (n + 1)
    n_peaks = max(round((1 - _TAIL) * n), _FEWEST_PEAKS)
    if n > 2 * n_peaks and usual[-1] > (start := usual[-n_peaks - 1]):
        peaks = usual[-n_peaks:] - start
        shape, _, scale = genpareto.fit(peaks, floc=0)
        if shape <= 0:
            shape, scale = 0.0, peaks.mean()
        beyond = known > start
        share[beyond] = genpareto.sf(known[beyond] - start, shape, scale=scale) * n_peaks / n
    return np.where(np.isnan(scores), np.nan, -np.log10(np.maximum(share, 1e-300)))
