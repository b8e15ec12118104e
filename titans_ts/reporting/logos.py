"""Letters as high as their scores: the data of a logo, and its picture as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["NUCLEOTIDES", "Letters", "Logo", "letters_of", "logo_svg", "stacked"]

Letters = list[list[tuple[str, float]]]
"""The letters of every position with their scores."""

# The usual colours of nucleotides, in shades that colour-blind readers can distinguish: any two are 23 or
# more apart in CIELAB as protanopes, deuteranopes and tritanopes see them (Machado et al. 2009).
NUCLEOTIDES = {"A": "#009E73", "C": "#1D5FA8", "G": "#F0A202", "T": "#B3202C", "U": "#B3202C"}
"""Colours of the letters; all others are grey."""

_WIDTH, _HEIGHT = 14, 90
"""Size of a position in an SVG picture, and of the highest stack of letters."""
_CAPITAL = 0.72
"""Height of a capital letter as a share of the size of the font."""


@dataclass(frozen=True, eq=False)
class Logo:
    """A logo of a page."""

    title: str
    letters: Letters
    start: int = 0
    """Coordinate of the first position."""


def stacked(position: list[tuple[str, float]]) -> list[tuple[str, float, float]]:
    """Return the letters of a position with their foot and score; the largest is farthest from the line.

    Examples
    --------
    >>> stacked([("A", 2.0), ("C", -1.0), ("G", 0.5)])
    [('G', 0.0, 0.5), ('C', 0.0, -1.0), ('A', 0.5, 2.0)]
    """
    end = [0.0, 0.0]  # of the letters below and above the line so far
    placed = []
    for letter, score in sorted(position, key=lambda pair: abs(pair[1])):
        placed.append((letter, end[score > 0], score))
        end[score > 0] += score
    return placed


def logo_svg(logo: Logo) -> str:
    """Return a logo as an SVG element; its letters and title are escaped."""
    columns = [stacked(position) for position in logo.letters]
    ends = [0.0] + [foot + score for column in columns for _, foot, score in column]
    span = max(ends) - min(ends) or 1.0
    scale, top = _HEIGHT / span, max(ends) * _HEIGHT / span + 4
    width = _WIDTH * len(columns) + 8
    parts = []
    for i, column in enumerate(columns):
        for letter, foot, score in column:
            if not score:
                continue
            y, stretch = top - foot * scale, score * scale / (_CAPITAL * _WIDTH)
            colour = NUCLEOTIDES.get(letter, "#8d99ae")
            parts.append(
                f'<text transform="translate({4 + _WIDTH * i} {y:.2f}) scale(1 {stretch:.3f})" '
                f'fill="{colour}">{escape(letter)}</text>'
            )
        if (logo.start + i) % 10 == 0:
            parts.append(
                f'<text class="tick" x="{4 + _WIDTH * i}" y="{_HEIGHT + 24}">{logo.start + i:,}</text>'
            )
    letters = np.array([max(column, key=_size)[0] if column else "-" for column in columns])
    label = escape(f"{logo.title}: the largest letters are {''.join(letters)}")
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {_HEIGHT + 28}" width="{width}" '
        f'height="{_HEIGHT + 28}" font-size="{_WIDTH}">'
        f'<line x1="0" x2="{width}" y1="{top:.2f}" y2="{top:.2f}" />{"".join(parts)}</svg>'
    )


def _size(placed: tuple[str, float, float]) -> float:
    return abs(placed[2])


def letters_of(scores: NDArray[np.float64], sequence: str | None) -> Letters:
    """Return the letters of scores `[T, 4]`, or of `sequence` with scores `[T]`; those of 0 are left out.

    Raises
    ------
    ValueError
        If scores have another shape or are not finite, or the sequence has another length.
    """
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
