"""Charts for plotly.js, whose script pages carry inside, and for notebooks."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.reporting.charts import COLOURS, Chart, Mark

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["axis_values", "packed_script", "plotly_chart", "plotly_figure"]

_DIGITS = 7
"""Significant digits of the numbers in a page."""
_FEW = 12
"""A line of at most this number of values has points, too."""

_NAME = 24
"""Letters of a name below an axis at most."""
_ROW = 210
"""Pixels of a chart among several."""


@cache
def packed_script() -> str:
    """Return the script of plotly.js, compressed by gzip and as base64: 2 MB instead of 4.8 MB."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def plotly_chart(chart: Chart) -> dict[str, Any]:
    """Return what the page's script needs to draw a chart.

    Parameters
    ----------
    chart : Chart
        Any; its lines are thinned.

    Returns
    -------
    dict
        `title`, `words`, `description`, `x_title`, and the `data` and `layout` of plotly.js. A trace has
        no colour: `meta` has the role that the page's script finds the colour of, and the number of the
        mark.

    Examples
    --------
    >>> mark = Mark("line", "a < b", pd.RangeIndex(2), np.array([1.0, np.nan]))
    >>> plotly_chart(Chart("x", (mark,)))["data"][0]["y"]
    [1.0, None]
    """
    chart = chart.thinned()
    traces = [
        trace | {"meta": {"role": mark.role, "mark": i, "band": mark.low is not None}}
        for i, mark in enumerate(chart.marks)
        for trace in _traces(mark)
    ]
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": _plain(chart.x_title)}, "automargin": True},
        "yaxis": {"title": {"text": _plain(chart.y_title)}, "automargin": True},
        "shapes": [
            {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": place, "x1": place}
            for place in axis_values(pd.Index(chart.rules))
        ],
        "hovermode": "closest" if any(m.kind == "points" for m in chart.marks) else "x unified",
        "barmode": "group",
    }
    if chart.names:
        names = list(dict.fromkeys(str(name) for mark in chart.marks for name in mark.x))
        short = [n if len(n) <= _NAME else f"{n[: _NAME - 3]}..." for n in names]
        texts = {"tickvals": [*map(_plain, names)], "ticktext": [*map(_plain, short)]}
        layout["xaxis"] |= {"type": "category", "tickmode": "array", **texts}
    elif all(m.x.dtype.kind in "iu" and len(m.x) <= _FEW for m in chart.marks):
        layout["xaxis"]["dtick"] = 1
    for name in chart.log:
        layout[f"{name}axis"]["type"] = "log"
    if chart.y_range is not None:
        layout["yaxis"]["range"] = list(chart.y_range)
    if chart.window is not None:
        layout["xaxis"]["range"] = axis_values(pd.Index(chart.window))
    return {
        "title": chart.title,
        "words": chart.words,
        "description": f"{chart.title}. {chart.description()}",
        "x_title": chart.x_title or "place",
        "data": traces,
        "layout": layout,
    }


def plotly_figure(charts: Sequence[Chart], title: str = "") -> Figure:
    """Draw charts one below the other, on a common x-axis, as a figure of plotly for notebooks.

    Parameters
    ----------
    charts : sequence of Chart
        At least one, whose x-axes have times or numbers.
    title : str
        The title of the figure (default: none).
    """
    from plotly.subplots import make_subplots

    n = len(charts)
    figure = make_subplots(
        rows=n,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.25 / n,
        subplot_titles=[_plain(chart.title) for chart in charts],
    )
    named: set[str] = set()
    for row, chart in enumerate(charts, 1):
        drawn = plotly_chart(chart)
        for trace in drawn["data"]:
            mark = chart.marks[trace.pop("meta")["mark"]]
            figure.add_trace(_coloured(trace, mark, named), row, 1)
        for shape in drawn["layout"]["shapes"]:
            figure.add_vline(shape["x0"], row=row, col=1, line={"dash": "dot", "width": 1})
        figure.update_xaxes(drawn["layout"]["xaxis"], row=row, col=1)
        figure.update_yaxes(drawn["layout"]["yaxis"], row=row, col=1)
    figure.update_layout(
        title={"text": _plain(title)},
        height=_ROW * n + 120,
        template="plotly_white",
        hovermode="x unified",
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        margin={"l": 60, "r": 20, "t": 70 if title else 40, "b": 80},
    )
    figure.update_annotations(x=0, xanchor="left")  # the charts' titles
    return figure


def _coloured(trace: dict[str, Any], mark: Mark, named: set[str]) -> dict[str, Any]:
    """Return a trace with its colour; it is in the legend if its name is not among those `named`."""
    name, colour = _plain(mark.name), COLOURS[mark.role][0]
    lower_end = mark.kind == "band" and "fill" not in trace
    shown = not lower_end and name not in named
    style: dict[str, Any] = {"legendgroup": name, "showlegend": shown}
    style["marker"] = trace.get("marker", {}) | {"color": colour}
    if "mode" in trace:
        style["line"] = trace.get("line", {}) | {"color": colour}
    if "fill" in trace:
        red, green, blue = bytes.fromhex(colour[1:])
        style |= {"name": name, "fillcolor": f"rgba({red}, {green}, {blue}, 0.2)"}
    if mark.kind == "range":
        style["opacity"] = 0.3
    if shown:
        named.add(name)
    return trace | style


def axis_values(index: pd.Index) -> list[Any]:
    """Return places on an axis as numbers, names, or local times in the form of ISO 8601."""
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    if isinstance(index, pd.DatetimeIndex):
        return [str(t).replace(" ", "T") for t in index.tz_localize(None)]
    if index.dtype.kind in "iu":
        return [int(value) for value in index]
    if index.dtype.kind == "f":
        return _numbers(index.to_numpy())
    return [_plain(str(value)) for value in index]


def _traces(mark: Mark) -> list[dict[str, Any]]:
    """Return the traces of a mark: two for a band, one for any other."""
    x, name = axis_values(mark.x), _plain(mark.name)
    base: dict[str, Any] = {"type": "scatter", "x": x, "name": name, "showlegend": False}
    y = _numbers(mark.y)
    if mark.kind == "bars":
        return [base | {"type": "bar", "y": y}]
    if mark.low is not None:
        low = _numbers(mark.low)
        if mark.kind == "range":
            gaps = [value for place in x for value in (place, place, None)]
            ends = [value for pair in zip(low, y, strict=True) for value in (*pair, None)]
            return [base | {"x": gaps, "y": ends, "mode": "lines", "line": {"width": 7}}]
        edge = {"mode": "lines", "line": {"width": 0}}
        lower = base | edge | {"y": low, "name": f"{name}, lower end"}
        upper = base | edge | {"y": y, "name": f"{name}, upper end", "fill": "tonexty"}
        return [lower, upper]
    if mark.kind == "points":
        return [base | {"y": y, "mode": "markers", "marker": {"size": 7}}]
    line = {"dash": mark.dash, "width": 1.4 if mark.role == "observed" else 2}
    if mark.kind == "steps":
        line["shape"] = "hv"
    mode = "lines+markers" if len(y) <= _FEW or _alone(mark.y) else "lines"
    return [base | {"y": y, "mode": mode, "line": line, "marker": {"size": 4}}]


def _alone(values: NDArray[np.float64]) -> bool:
    """Return whether a value stands between two gaps, so that a line would not show it."""
    gap = np.concatenate([[True], ~np.isfinite(values), [True]])
    return bool((gap[:-2] & ~gap[1:-1] & gap[2:]).any())


def _numbers(values: Any) -> list[float | None]:
    """Return numbers of a few digits; what is not finite becomes None, a gap."""
    return [
        float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
        for value in np.asarray(values, dtype=float).tolist()
    ]


def _plain(text: str) -> str:
    """Return a text that plotly.js shows as it is: it reads tags such as `<b>`, `<a>` and entities."""
    return re.sub(r"[\x00-\x1f]", " ", escape(text, quote=False))
