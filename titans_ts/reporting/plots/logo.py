"""The figure of contributions to a score: letters as high as their contributions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from titans_ts.reporting.plots.common import GREY, INK, check_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path
    from numpy.typing import ArrayLike, NDArray

__all__ = ["NUCLEOTIDES", "plot_logo"]

# The usual colours of nucleotides, in shades that colour-blind readers can distinguish: any two are 23 or
# more apart in CIELAB as protanopes, deuteranopes and tritanopes see them (Machado et al. 2009).
NUCLEOTIDES = {"A": "#009E73", "C": "#1D5FA8", "G": "#F0A202", "T": "#B3202C", "U": "#B3202C"}
"""Colours of the letters; all others are grey."""

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

    positions = _letters(np.asarray(scores, dtype=np.float64), sequence)
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


def _draw_letters(
    axes: Axes, positions: list[list[tuple[str, float]]], first: int, width: int
) -> list[float]:
    """Draw a row of positions and its axis; return the ends of the letters at each position."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path
    from matplotlib.ticker import MaxNLocator

    glyphs, colours, ends = [], [], []
    for x, position in enumerate(positions, first):
        end = [0.0, 0.0]  # of the letters below and above the line so far
        for letter, score in sorted(position, key=lambda pair: abs(pair[1])):
            outline = _outline(letter)
            corners = np.asarray(outline.vertices) * [_LETTER_WIDTH, score] + [x, end[score > 0]]
            glyphs.append(Path(corners, outline.codes))
            colours.append(NUCLEOTIDES.get(letter, GREY))
            end[score > 0] += score
        ends += end
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


def _letters(scores: NDArray[np.float64], sequence: str | None) -> list[list[tuple[str, float]]]:
    """Return the letters of each position with their scores; letters with a score of 0 are left out."""
    if sequence is None and (scores.ndim != 2 or scores.shape[1] != 4):
        raise ValueError(
            f"scores has shape {scores.shape}; it must be [T, 4], of A, C, G and T, or [T] with a "
            "sequence"
        )
    if sequence is not None and scores.shape != (len(sequence),):
        raise ValueError(
            f"scores has shape {scores.shape} and sequence {len(sequence)} letters; with a sequence, "
            "scores must be [T], one per letter"
        )
    if not 0 < len(scores) <= _ROW * _MAX_ROWS:
        raise ValueError(
            f"scores has {len(scores)} positions; a figure has 1 to {_ROW * _MAX_ROWS}. Draw a part of "
            "them (scores[a:b], start=a)"
        )
    if not np.isfinite(scores).all():
        position = int(np.argmin(np.isfinite(scores.reshape(len(scores), -1)).all(1)))
        raise ValueError(
            f"scores has NaN or infinite values, the first at position {position}; fill them (0: no "
            "letter)"
        )
    letters = ["ACGT"] * len(scores) if sequence is None else sequence.upper()
    heights = scores.reshape(len(scores), -1).tolist()
    return [
        [
            (letter, score)
            for letter, score in zip(*position, strict=True)
            if score and letter.isalpha()
        ]
        for position in zip(letters, heights, strict=True)
    ]


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
