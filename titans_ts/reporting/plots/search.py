"""The figure of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_ts.reporting.plots.common import BLUE, GREY, INK, RED, check_matplotlib, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["plot_search"]


def plot_search(
    trials: pd.DataFrame,
    params: pd.DataFrame,
    importances: pd.Series,
    front: pd.DataFrame | None = None,
) -> Figure:
    """Draw the history of a search, the importances, and the parameters with their scores.

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
    check_matplotlib()
    from matplotlib.figure import Figure

    two = front is not None and front.shape[1] > 1
    names = [name for name in importances.index if name in params][:8]
    figure = Figure(figsize=(10, 11 if two else 8), layout="constrained")
    rows: Any = figure.subfigures(3 if two else 2, 1)
    history, bars = rows[0].subplots(1, 2, width_ratios=(3, 2))
    _draw_history(history, trials)
    shown = importances[names][::-1]
    bars.barh([str(n) for n in shown.index], shown, color=BLUE)
    style_axes(bars, "importance")
    lines = rows[1].subplots(1, 1)
    scored = trials["score"].notna().to_numpy()
    _draw_parallel(lines, params.loc[scored, names], trials["score"].to_numpy()[scored])
    if two:
        assert front is not None
        for axes, name in zip(
            np.atleast_1d(rows[2].subplots(1, front.shape[1] - 1)), front.columns[1:], strict=True
        ):
            axes.plot(front[name], front[front.columns[0]], "o", color=RED, ms=4)
            axes.set_xlabel(name, fontsize=9, color=INK)
            axes.set_xscale("log" if (front[name] > 0).all() else "linear")
            style_axes(axes, f"{front.columns[0]} and {name}: Pareto front")
    return figure


def _draw_history(axes: Axes, trials: pd.DataFrame) -> None:
    """Draw the scores by trial and the best so far; trials without a score are at the bottom."""
    trials = trials.sort_values("trial")
    done = trials[trials["score"].notna()]
    axes.plot(done["trial"], done["score"], "o", color=BLUE, ms=4, label="score")
    axes.step(done["trial"], done["score"].cummax(), color=RED, where="post", label="best so far")
    for state, marker in (("PRUNED", "|"), ("FAIL", "x")):
        unscored = trials.loc[trials["state"] == state, "trial"]
        if len(unscored):
            foot = np.full(len(unscored), 0.02)
            axes.plot(
                *(unscored, foot, marker),
                color=GREY,
                ms=6,
                transform=axes.get_xaxis_transform(),
                label={"PRUNED": "pruned", "FAIL": "failed"}[state],
            )
    axes.set_xlabel("trial", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=8)
    style_axes(axes, "score by trial")


def _draw_parallel(axes: Axes, params: pd.DataFrame, scores: NDArray[Any]) -> None:
    """Draw a line per trial through its parameters to its score; better trials are redder."""
    from matplotlib.colors import LinearSegmentedColormap

    rank = pd.Series(scores).rank(pct=True).to_numpy()
    colours = LinearSegmentedColormap.from_list("score", ["#d8dae3", BLUE, RED])
    columns = [(str(name), params[name].to_numpy(dtype=object)) for name in params]
    columns.append(("score", scores.astype(object)))
    heights = []
    for x, (_, values) in enumerate(columns):
        height, ticks = _heights(values)
        heights.append(height)
        axes.axvline(x, color=INK, lw=0.6)
        for place, label in ticks:
            axes.text(x + 0.02, place, label, fontsize=7, color=INK, va="center")
    for i in np.argsort(rank):
        line = [height[i] for height in heights]
        axes.plot(range(len(columns)), line, color=colours(rank[i]), lw=1.2, alpha=0.8)
    axes.set_xticks(range(len(columns)), [name for name, _ in columns])
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) - 0.6)
    axes.spines[:].set_visible(False)
    style_axes(axes, "parameters and score")
    axes.tick_params(axis="x", length=0)


def _heights(values: NDArray[Any]) -> tuple[NDArray[Any], list[tuple[float, str]]]:
    """Return heights from 0 to 1 of a parameter's values, and the labels of its axis."""
    numbers = all(isinstance(v, (int, float, np.number)) and v == v for v in values)
    if not numbers or len(set(values)) <= 4:
        labels = [
            str(v) for v in (sorted(set(values)) if numbers else sorted(set(values), key=str))
        ]
        place = {label: (i + 0.5) / len(labels) for i, label in enumerate(labels)}
        return np.array([place[str(v)] for v in values]), [(p, n) for n, p in place.items()]
    x = values.astype(float)
    log = x.min() > 0 and x.max() / x.min() > 20
    x = np.log(x) if log else x
    height = (x - x.min()) / (x.max() - x.min())
    ends = [(0.0, x.min()), (0.5, (x.min() + x.max()) / 2), (1.0, x.max())]
    return height, [(p, f"{np.exp(v) if log else v:.3g}") for p, v in ends]
