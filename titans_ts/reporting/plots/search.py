"""Charts of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_ts.reporting.charts import Chart, Mark
from titans_ts.reporting.plots.draw import draw_charts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_search", "search_charts"]

_MOST = 8
"""Number of parameters that are drawn at most."""


def plot_search(
    trials: pd.DataFrame,
    params: pd.DataFrame,
    importances: pd.Series,
    front: pd.DataFrame | None = None,
) -> Figure:
    """Draw the history of a search, the importances, and the score by every parameter.

    Parameters
    ----------
    trials : DataFrame
        One row per trial: columns `trial`, `state` and `score` (NaN for a trial without a score).
    params : DataFrame
        The parameters of the same rows; trials with a score are drawn.
    importances : Series
        Importance by parameter in descending order; at most eight are drawn.
    front : DataFrame, optional
        With several objectives: the Pareto front, one column per objective.

    Returns
    -------
    Figure
        The figure, neither shown nor saved.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    charts = search_charts(trials, params, importances, front)
    return draw_charts(charts, columns=2, legend="each")


def search_charts(
    trials: pd.DataFrame,
    params: pd.DataFrame,
    importances: pd.Series,
    front: pd.DataFrame | None = None,
) -> list[Chart]:
    """Return the charts of :func:`plot_search`: history, importances, Pareto front, parameters."""
    names = [name for name in importances.index if name in params][:_MOST]
    labels = pd.Index([str(name) for name in names], dtype=object)
    importance = Mark("bars", "importance", labels, importances[names].to_numpy(float), role="past")
    charts = [_history(trials), Chart("importance of the parameters", (importance,))]
    if front is not None:
        first = front.columns[0]
        for name in front.columns[1:]:
            x, y = pd.Index(front[name].to_numpy(float)), front[first].to_numpy(float)
            points = Mark("points", "trials that no other beats", x, y, role="forecast")
            log = "x" if (front[name] > 0).all() else ""
            charts.append(
                Chart(
                    f"{first} and {name}: Pareto front", (points,), str(name), str(first), log=log
                )
            )
    scored = trials["score"].notna().to_numpy()
    scores = trials["score"].to_numpy(float)[scored]
    return charts + [_parameter(name, params.loc[scored, name], scores) for name in names]


def _history(trials: pd.DataFrame) -> Chart:
    """Return the scores by trial and the best so far; trials without a score are at the bottom."""
    trials = trials.sort_values("trial")
    done = trials[trials["score"].notna()]
    number, score = pd.Index(done["trial"]), done["score"].to_numpy(float)
    marks = [
        Mark("points", "score", number, score, role="past"),
        Mark("steps", "best so far", number, np.maximum.accumulate(score), role="forecast"),
    ]
    foot = score.min() if len(score) else 0.0
    for state, name, role in (("PRUNED", "pruned", "quiet"), ("FAIL", "failed", "alarm")):
        unscored = pd.Index(trials.loc[trials["state"] == state, "trial"])
        if len(unscored):
            marks.append(Mark("points", name, unscored, np.full(len(unscored), foot), role=role))
    words = "Higher scores are better. Pruned and failed trials have none and stand at the bottom."
    return Chart("score by trial", tuple(marks), "trial", "score", words)


def _parameter(name: Any, values: pd.Series, scores: Any) -> Chart:
    numbers = all(isinstance(v, (int, float, np.number)) and v == v for v in values)
    numbers = numbers and not any(isinstance(v, (bool, np.bool_)) for v in values)
    log = ""
    if numbers:
        x = pd.Index(values.to_numpy(float))
        log = "x" if len(x) and x.min() > 0 and x.max() / x.min() > 20 else ""
    else:
        x = pd.Index([str(v) for v in values], dtype=object)
    points = Mark("points", "trials", x, scores, role="past")
    return Chart(f"score by {name}", (points,), str(name), "score", log=log)
