"""Charts of a memory's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from titans_ts.reporting.charts import Chart, Mark, line_marks
from titans_ts.reporting.plots.draw import draw_charts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from titans_ts.reporting.memory import MemoryReport

__all__ = ["memory_charts", "plot_memory"]


def plot_memory(report: MemoryReport) -> Figure:
    """Draw what a memory adds, its half-lives and write strengths, and its distance over the stream.

    Parameters
    ----------
    report : MemoryReport
        As `memory_report` of an estimator returns it.

    Returns
    -------
    Figure
        The figure, neither shown nor saved.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    ValueError
        If the model has no memory.
    """
    charts = memory_charts(report)
    return draw_charts(charts, columns=3, legend="each", title=report.verdict)


def memory_charts(report: MemoryReport) -> list[Chart]:
    """Return six charts of a report, as :func:`plot_memory` draws them.

    Raises
    ------
    ValueError
        If the model has no memory.
    """
    if report.blocks.empty:
        raise ValueError(
            "report has no block with a memory to draw; fit a model with n_layers of at least 1 and a "
            "variant other than 'swa'"
        )
    return [
        _shares(report),
        _heads(report, "half_life", f"half-life [{report.unit or 'tokens'}]"),
        _distance(report),
        _scores(report),
        _heads(report, "strength", "write strength [share of its bound]"),
        _heads(report, "momentum", "momentum"),
    ]


def _shares(report: MemoryReport) -> Chart:
    blocks = pd.Index([str(block) for block in report.blocks.index], dtype=object)
    marks = (
        _bars("without the memory", blocks, 100 * report.blocks["share"], "quiet"),
        _bars("with its write off", blocks, 100 * report.blocks["written"], "past"),
    )
    return Chart("change of a block's output [%]", marks, "block")


def _scores(report: MemoryReport) -> Chart:
    score = next((name for name in report.scores if report.scores[name].notna().all()), None)
    if score is None:
        changes = pd.Series({"write off": report.change, "no memory": report.change_without})
        bars = _bars("change", changes.index, 100 * changes, "past")
        return Chart("change of the outputs [standard deviations, %]", (bars,))
    column = report.scores[score]
    return Chart(f"{score} on these data", (_bars(score, column.index, column, "past"),))


def _bars(name: str, x: pd.Index, y: pd.Series, role: str) -> Mark:
    return Mark("bars", name, x.astype(object), y.to_numpy(float), role=role)


def _heads(report: MemoryReport, quantity: str, title: str) -> Chart:
    """Return the mean of every head, and a line from the 10 % to the 90 % quantile."""
    table = report.half_lives() if quantity == "half_life" else report.heads[quantity]
    table = table.where(np.isfinite(table))  # without forgetting there is no half-life to draw
    heads = pd.Index([f"{block}.{head}" for block, head in table.index], dtype=object)
    columns = {name: table[name].to_numpy(float) for name in table}
    spread = Mark("range", "10 % to 90 % of the tokens", heads, columns["q90"], columns["q10"])
    marks = [spread, Mark("points", "mean", heads, columns["mean"], role="past")]
    if quantity != "half_life":
        return Chart(title, tuple(marks), "block.head", y_range=(0, 1.02))
    if report.longest:
        longest = report.longest * (report.per_token if report.unit else 1)
        ends = np.full(len(heads), float(longest))
        marks.append(Mark("line", "longest stream", heads, ends, role="quiet", dash="dot"))
    return Chart(title, tuple(marks), "block.head", log="y")


def _distance(report: MemoryReport) -> Chart:
    curves = {
        f"block {block}": (curve.index, curve.mean(axis=1).to_numpy())
        for block, curve in ((b, report.stream.loc[b]) for b in report.blocks.index)
    }
    marks = line_marks(curves, ("past", "forecast", "observed", "quiet"))
    return Chart("distance from the first state [norms]", marks, "tokens since the beginning")
