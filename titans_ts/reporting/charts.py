"""Charts as data, which :mod:`titans_ts.reporting.plots` and :mod:`titans_ts.reporting.html` draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

__all__ = ["COLOURS", "KINDS", "Chart", "Mark", "band_mark", "line_marks", "thinned"]

Array = NDArray[np.float64]

COLOURS = {
    "observed": ("#2b2d42", "#e6e7ee"),
    "forecast": ("#d1495b", "#ff8391"),
    "past": ("#00798c", "#4fc3d5"),
    "quiet": ("#6b7489", "#9aa3b8"),
    "alarm": ("#c2410c", "#ffb454"),
    "a": ("#1d5fa8", "#7db4f0"),
    "b": ("#1b7f5c", "#5fd0a5"),
    "c": ("#a06000", "#f0b955"),
    "d": ("#7a4fb5", "#c4a1f5"),
}
"""The colour of every role on a light and on a dark background; both have a contrast of 4 or more."""

KINDS = ("line", "steps", "points", "bars", "band", "range")
"""What a mark may be."""

_MOST = 2000
"""Number of points of a line at most."""


@dataclass(frozen=True, eq=False)
class Mark:
    """Values that are drawn in one way."""

    kind: str
    """"line", "steps", "points", "bars", "band" or "range" (vertical lines)."""
    name: str
    """What the legend says."""
    x: pd.Index
    """Times, numbers or names `[n]`."""
    y: Array
    """Heights `[n]`; the upper ends of a band or range; NaN is a gap."""
    low: Array | None = None
    """The lower ends of a band or range."""
    role: str = "observed"
    """A key of :data:`COLOURS`."""
    dash: str = "solid"
    """"solid", "dash", "dot" or "dashdot"."""


@dataclass(frozen=True, eq=False)
class Chart:
    """Marks on one pair of axes, and what is said about them."""

    title: str
    marks: tuple[Mark, ...]
    x_title: str = ""
    y_title: str = ""
    words: str = ""
    """A sentence or two on what the chart shows."""
    rules: tuple[Any, ...] = ()
    """Places on the x-axis with a vertical line."""
    log: str = ""
    """Axes with a logarithmic scale: "", "x", "y" or "xy"."""
    y_range: tuple[float, float] | None = None
    window: tuple[Any, Any] | None = None
    """The part of the x-axis that is shown first (default: all)."""

    def __post_init__(self) -> None:
        """Refuse an unknown role or kind: a renderer would fail later, without the place."""
        for mark in self.marks:
            if mark.role not in COLOURS:
                raise ValueError(f"role is {mark.role!r}; choose one of {list(COLOURS)}")
            if mark.kind not in KINDS:
                raise ValueError(f"kind is {mark.kind!r}; choose one of {KINDS}")

    @property
    def names(self) -> bool:
        """Whether the x-axis has names."""
        return any(mark.x.dtype.kind in "OUS" for mark in self.marks)

    def description(self) -> str:
        """Return what a reader who does not see the chart needs to know, in sentences."""
        parts = [self.words] if self.words else []
        for mark in self.marks:
            seen = np.isfinite(mark.y)
            if not seen.any():
                parts.append(f"{mark.name}: no values.")
                continue
            ends = f"{_short(mark.x[0])} to {_short(mark.x[-1])}" if len(mark.x) > 1 else ""
            low = mark.y if mark.low is None else mark.low
            values = f"{np.nanmin(low):.4g} to {np.nanmax(mark.y):.4g}"
            last = "" if mark.low is not None else f", the last {mark.y[seen][-1]:.4g}"
            where = f" from {ends}" if ends else ""
            parts.append(f"{mark.name}: {len(mark.x):,} values{where}, between {values}{last}.")
        return " ".join(parts)

    def thinned(self, most: int = _MOST) -> Chart:
        """Return the chart with at most `most` points of a line, and the words to say so.

        The points in the part that is shown first are all kept.
        """
        marks = tuple(
            thinned(m, most, 0 if self.window is None else int((m.x >= self.window[0]).sum()))
            for m in self.marks
        )
        before = max((len(mark.x) for mark in self.marks), default=0)
        after = max((len(mark.x) for mark in marks), default=0)
        if after == before:
            return self
        words = (
            f"{after:,} of {before:,} values are drawn: the lowest and the highest of every stretch"
            + (" before the part that is shown first." if self.window else ".")
        )
        return replace(self, marks=marks, words=f"{self.words} {words}".strip())


def band_mark(
    x: pd.Index, low: ArrayLike, high: ArrayLike, levels: tuple[float, float], role: str
) -> Mark:
    """Return the band between two quantiles `[n]` of these levels; a single step has a range."""
    kind = "band" if len(x) > 1 else "range"
    name = f"{100 * levels[0]:g} % to {100 * levels[1]:g} % quantile"
    return Mark(kind, name, x, np.asarray(high, float), np.asarray(low, float), role)


def thinned(mark: Mark, most: int = _MOST, last: int = 0) -> Mark:
    """Return a mark with at most `most` values: the lowest and the highest of every stretch.

    Parameters
    ----------
    mark : Mark
        Any; bars and names are not thinned.
    most : int
        An even number of values (default 2000).
    last : int
        Number of values at the end that are kept besides (default 0).

    Examples
    --------
    >>> y = np.sin(np.arange(10_000))
    >>> y[7_777] = 5
    >>> few = thinned(Mark("line", "x", pd.RangeIndex(10_000), y), 100)
    >>> len(few.x), int(few.x[few.y.argmax()])
    (100, 7777)
    """
    n = len(mark.x) - last
    if n <= most or mark.kind == "bars" or mark.x.dtype.kind in "OUS":
        return mark
    edges = np.linspace(0, n, most // 2 + 1).astype(int)
    low = np.where(np.isnan(mark.y), np.inf, mark.y if mark.low is None else mark.low)
    high = np.where(np.isnan(mark.y), -np.inf, mark.y)
    rows: set[int] = set()
    for first, end in pairwise(edges.tolist()):
        rows |= {first + int(low[first:end].argmin()), first + int(high[first:end].argmax())}
    kept = np.array([*sorted(rows), *range(n, n + last)])
    return replace(
        mark, x=mark.x[kept], y=mark.y[kept], low=None if mark.low is None else mark.low[kept]
    )


def _short(x: Any) -> str:
    """Return a place on the x-axis as text, without a time of midnight."""
    if isinstance(x, (float, np.floating)):
        return f"{x:.4g}"
    return str(x).removesuffix(" 00:00:00")


def line_marks(
    lines: dict[str, tuple[pd.Index, Array]],
    roles: Sequence[str] = ("forecast", "a", "b", "c", "d"),
) -> tuple[Mark, ...]:
    """Return lines of different roles and dashes, in the order of a dictionary."""
    dashes = ("solid", "dash", "dot", "dashdot")
    return tuple(
        Mark("line", name, x, y, role=roles[i % len(roles)], dash=dashes[i % len(dashes)])
        for i, (name, (x, y)) in enumerate(lines.items())
    )
