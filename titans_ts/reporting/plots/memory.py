"""The figure of a memory's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from titans_ts.reporting.plots.common import BLUE, GREY, INK, RED, check_matplotlib, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from titans_ts.reporting.memory import MemoryReport

__all__ = ["plot_memory"]


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
    check_matplotlib()
    from matplotlib.figure import Figure

    if report.blocks.empty:
        raise ValueError(
            "report has no block with a memory to draw; fit a model with n_layers of at least 1 and a "
            "variant other than 'swa'"
        )
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    shares, scores, lives, strengths, *_ = axes = figure.subplots(2, 3).T.ravel()
    _draw_shares(shares, report)
    _draw_scores(scores, report)
    _draw_heads(lives, report, "half_life", f"half-life [{report.unit or 'tokens'}]")
    lives.set_yscale("log")
    if report.longest:
        longest = report.longest * (report.per_token if report.unit else 1)
        lives.axhline(longest, color=GREY, ls=":", lw=1, label="longest stream")
        lives.legend(frameon=False, fontsize=8)
    _draw_heads(strengths, report, "strength", "write strength [share of its bound]")
    strengths.set_ylim(0, 1.02)
    _draw_distance(axes[4], report)
    _draw_heads(axes[5], report, "momentum", "momentum")
    axes[5].set_ylim(0, 1.02)
    figure.suptitle(report.verdict, fontsize=10, color=INK, wrap=True).set_parse_math(False)
    return figure


def _draw_shares(axes: Axes, report: MemoryReport) -> None:
    place = np.arange(len(report.blocks))
    for i, (name, colour) in enumerate((("share", GREY), ("written", BLUE))):
        label = {"share": "without the memory", "written": "with its write off"}[name]
        axes.bar(place + 0.4 * i - 0.2, 100 * report.blocks[name], 0.38, color=colour, label=label)
    axes.set_xticks(place, [str(block) for block in report.blocks.index])
    axes.set_xlabel("block", fontsize=8)
    axes.set_ylim(0, 125 * max(0.01, *report.blocks.max()))
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    style_axes(axes, "change of a block's output [%]")


def _draw_scores(axes: Axes, report: MemoryReport) -> None:
    score = next((name for name in report.scores if report.scores[name].notna().all()), None)
    if score is None:
        values = [100 * report.change, 100 * report.change_without]
        axes.bar(["write off", "no memory"], values, 0.6, color=[BLUE, GREY])
        style_axes(axes, "change of the outputs [standard deviations, %]")
        return
    column = report.scores[score]
    axes.bar(list(column.index), column, 0.6, color=[RED, BLUE, GREY])
    style_axes(axes, f"{score} on these data")


def _draw_heads(axes: Axes, report: MemoryReport, quantity: str, title: str) -> None:
    """Draw the mean of every head, and a line from the 10 % to the 90 % quantile."""
    table = report.half_lives() if quantity == "half_life" else report.heads[quantity]
    table = table.where(np.isfinite(table))  # without forgetting there is no half-life to draw
    place = np.arange(len(table))
    axes.vlines(place, table["q10"], table["q90"], color=BLUE, alpha=0.5, lw=4)
    axes.plot(place, table["mean"], "o", color=INK, ms=5)
    axes.set_xticks(place, [f"{block}.{head}" for block, head in table.index])
    axes.set_xlabel("block.head", fontsize=8)
    style_axes(axes, title)


def _draw_distance(axes: Axes, report: MemoryReport) -> None:
    for i, block in enumerate(report.blocks.index):
        curve = report.stream.loc[block].mean(axis=1)
        axes.plot(curve.index, curve, marker=".", color=(BLUE, RED, INK, GREY)[i % 4], label=block)
    axes.set_xlabel("tokens since the beginning", fontsize=8)
    axes.legend(title="block", frameon=False, fontsize=8, title_fontsize=8)
    style_axes(axes, "distance from the first state [norms]")
