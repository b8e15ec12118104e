"""The figure of contributions to a score: letters as high as their contributions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from titans_ts.reporting.logos import NUCLEOTIDES, Letters, letters_of, stacked
from titans_ts.reporting.plots.common import GREY, INK, check_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path
    from numpy.typing import ArrayLike

__all__ = ["plot_logo"]

_LETTER_WIDTH = 0.94
"""Width of a letter as a share of its position's width."""

_SINGLE_ROW, _ROW, _MAX_ROWS = 150, 100, 20
"""Positions of a figure with one row, positions of a row otherwise, and the maximum number of rows."""


def plot_logo(
    scores: ArrayLike,
    sequence: str | None = None,
    *,
    start: int = 0,
    title: str = "",
) -> Figure:
    """Draw contributions of nucleotides as letters, as high as their scores.

    Letters above the line raise the score; letters below it, upside down, lower it. If a position has
    several letters, the largest is farthest from the line. More than 150 positions are split into rows of
    100 with one scale.

    Parameters
    ----------
    scores : array-like
        Contributions `[T, 4]` of A, C, G and T at each position, or `[T]` of the letters of `sequence`.
    sequence : str, optional
        T letters, for scores `[T]`. Letters other than A, C, G, T and U are grey; gaps are not drawn.
    start : int
        Coordinate of the first position on the axis (default 0).
    title : str
        Title of the figure (default: none).

    Returns
    -------
    Figure
        The figure, neither shown nor saved.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    ValueError
        If scores have another shape or are not finite, the sequence has another length, or there are
        more than 2000 positions.

    Examples
    --------
    >>> figure = plot_logo([0.5, -0.2, 0.0, 1.0], "TATA", start=100, title="TATA box")
    >>> len(figure.axes[0].collections[0].get_paths())  # no letter for a score of 0
    3
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    values = np.asarray(scores, dtype=np.float64)
    if values.ndim and not 0 < len(values) <= _ROW * _MAX_ROWS:
        raise ValueError(
            f"scores has {len(values)} positions; a figure has 1 to {_ROW * _MAX_ROWS}. Draw a part of "
            "them (scores[a:b], start=a)"
        )
    positions = letters_of(values, sequence)
    width = len(positions) if len(positions) <= _SINGLE_ROW else _ROW
    firsts = range(0, len(positions), width)
    size = max(3.0, min(10.0, 0.2 * width)), 0.6 + 1.5 * len(firsts)
    figure = Figure(figsize=size, layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(firsts), 1, sharey=True))
    ends = [0.0]
    for axes, first in zip(panels, firsts, strict=True):
        ends += _draw_letters(axes, positions[first : first + width], start + first, width)
    low, high = min(ends), max(ends)
    room = 0.04 * (high - low) or 1.0
    panels[0].set_ylim(low - room, high + room)
    figure.supylabel("contribution", fontsize=9, color=INK)
    heading = panels[0].set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    heading.set_parse_math(False)
    return figure


def _draw_letters(axes: Axes, positions: Letters, first: int, width: int) -> list[float]:
    """Draw a row of positions and its axis; return the ends of the letters at each position."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path
    from matplotlib.ticker import MaxNLocator

    glyphs, colours, ends = [], [], []
    for x, position in enumerate(positions, first):
        for letter, foot, score in stacked(position):
            outline = _outline(letter)
            corners = np.asarray(outline.vertices) * [_LETTER_WIDTH, score] + [x, foot]
            glyphs.append(Path(corners, outline.codes))
            colours.append(NUCLEOTIDES.get(letter, GREY))
            ends.append(foot + score)
    axes.add_collection(PathCollection(glyphs, facecolors=colours, linewidths=0), autolim=False)
    last = first + len(positions) - 1
    axes.hlines(0, first - 0.6, last + 0.6, color=INK, lw=0.6)
    axes.spines["bottom"].set_bounds(first - 0.6, last + 0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(first - 0.6, first + width - 0.4)
    locator = MaxNLocator(min(9, 2 + width // 8), integer=True, steps=[1, 2, 5, 10])
    ticks = np.asarray(locator.tick_values(first, first + width - 1)).round().astype(int)
    axes.set_xticks(ticks[(first <= ticks) & (ticks <= last)])
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.tick_params(labelsize=8, color=INK, labelcolor=INK)
    return ends


@cache
def _outline(letter: str) -> Path:
    """Return the outline of a letter, from -0.5 to 0.5 and from 0 to 1."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    bold = FontProperties(family="DejaVu Sans", weight="bold")  # a part of matplotlib
    outline = TextPath((0, 0), letter, size=1, prop=bold)
    box = outline.get_extents()
    fit = Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height)
    return outline.transformed(fit.translate(-0.5, 0))
