"""Charts as figures of matplotlib (the extra `plots` installs it)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_ts.reporting.charts import COLOURS, Chart, Mark
from titans_ts.reporting.interactive import plotly_figure
from titans_ts.reporting.plots.common import INK, check_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["draw_charts", "draw_series"]

_TURNED = 50
"""Names below an axis with more letters than this are turned."""
_STYLES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def draw_charts(
    charts: Sequence[Chart], *, columns: int = 1, legend: str = "shared", title: str = ""
) -> Figure:
    """Draw charts, row by row.

    Parameters
    ----------
    charts : sequence of Chart
        At least one.
    columns : int
        Number of charts in a row (default 1).
    legend : {"shared", "each"}
        One legend for all charts, below them (default), or one for each chart with several marks.
    title : str
        The title of the figure (default: none).

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

    rows = -(-len(charts) // columns)
    height = 1.2 + 2.1 * rows if columns == 1 else 3.2 * rows
    figure = Figure(figsize=(10, height), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, sharex=legend == "shared")).ravel()
    for axes, chart in zip(panels, charts, strict=False):
        _draw(axes, chart)
        if legend == "each" and len(chart.marks) > 1:
            axes.legend(frameon=False, fontsize=8)
    for axes in panels[len(charts) :]:
        axes.remove()
    if legend == "shared":
        entries: dict[str, Any] = {}  # each label once
        for axes in panels[: len(charts)]:
            handles, labels = axes.get_legend_handles_labels()
            entries = dict(zip(labels, handles, strict=True)) | entries
        figure.legend(
            *(list(entries.values()), list(entries)),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=9,
        )
    if title:
        figure.suptitle(title, fontsize=10, color=INK, wrap=True).set_parse_math(False)
    return figure


def draw_series(charts: Sequence[Chart], left_out: int, *, interactive: bool = False) -> Any:
    """Draw the charts of several variates, and say how many others are left out.

    The figure is one of matplotlib, or if it is `interactive` one of plotly.
    """
    title = f"{left_out} more variates are not shown" if left_out else ""
    return plotly_figure(charts, title) if interactive else draw_charts(charts, title=title)


def _draw(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import MaxNLocator

    title = axes.set_title(chart.title, loc="left", fontsize=10, fontweight="bold", color=INK)
    title.set_parse_math(False)  # a name may hold a dollar sign
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, color=INK, labelcolor=INK)
    axes.grid(axis="y", alpha=0.25, lw=0.6)
    apart = chart.names or all(mark.kind == "points" for mark in chart.marks)
    axes.margins(x=0.06 if apart else 0.01)
    axes.set_xlabel(chart.x_title, fontsize=8, color=INK).set_parse_math(False)
    axes.set_ylabel(chart.y_title, fontsize=8, color=INK).set_parse_math(False)
    for name in chart.log:
        axes.set(**{f"{name}scale": "log"})
    bars = [mark for mark in chart.marks if mark.kind == "bars"]
    for mark in chart.marks:
        _draw_mark(axes, mark, bars, chart.names)
    if all(mark.x.dtype.kind in "iu" for mark in chart.marks):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for rule in chart.rules:
        axes.axvline(_x(pd.Index([rule]))[0], color=INK, lw=0.6, ls=":")
    if "y" in chart.log:  # the ends of ranges, which matplotlib leaves out
        ends = [values for m in chart.marks for values in (m.y, m.low) if values is not None]
        shown = np.concatenate(ends)
        shown = shown[np.isfinite(shown) & (shown > 0)]
        if len(shown):
            axes.set_ylim(shown.min() / 1.3, shown.max() * 1.3)
    if chart.y_range is not None:
        axes.set_ylim(chart.y_range)
    for mark in chart.marks[:1]:
        if isinstance(mark.x, (pd.DatetimeIndex, pd.PeriodIndex)):
            _dates(axes, mark.x)


def _draw_mark(axes: Axes, mark: Mark, bars: list[Mark], names: bool) -> None:
    low = mark.y if mark.low is None else mark.low
    colour, x, y = COLOURS[mark.role][0], _x(mark.x), mark.y
    style: dict[str, Any] = {"color": colour, "label": mark.name}
    dash = _STYLES[mark.dash]
    if mark.kind == "range":
        axes.vlines(np.arange(len(y)) if names else x, low, y, alpha=0.3, lw=6, **style)
    elif mark.kind == "band":
        axes.fill_between(x, low, y, alpha=0.2, lw=0, **style)
    elif mark.kind == "bars":
        place = np.arange(len(y)) if names else x
        step = 1.0 if names or len(y) < 2 else float(np.min(np.diff(place)))
        width = 0.76 * step / len(bars)
        shift = ([id(other) for other in bars].index(id(mark)) - (len(bars) - 1) / 2) * width
        axes.bar(place + shift, y, width, **style)
        if names:
            labels = [str(name) for name in mark.x]
            turned = sum(map(len, labels)) > _TURNED
            axes.set_xticks(place, labels, rotation=30 * turned, ha="right" if turned else "center")
    elif mark.kind == "points":
        axes.plot(x, y, "o", ms=4, **style)
    elif mark.kind == "steps":
        axes.step(x, y, where="post", ls=dash, **style)
    elif mark.role == "observed":  # a point shows values between missing ones
        axes.plot(x, y, lw=1.2, marker=".", ms=2, ls=dash, **style)
    else:
        axes.plot(x, y, lw=1.5, marker="o" if len(y) == 1 else None, ms=4, ls=dash, **style)


def _dates(axes: Axes, index: pd.Index) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    zone = getattr(index, "tz", None)
    locator = AutoDateLocator(tz=zone)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))


def _x(index: pd.Index) -> NDArray[Any]:
    return np.asarray(index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index)
