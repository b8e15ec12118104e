"""Pictures of forecasts and of contributions to a score (needs matplotlib: the `plots` extra)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path
    from numpy.typing import ArrayLike

__all__ = ["plot_forecast", "plot_logo"]

INK, FORECAST, BACKCAST = "#2b2d42", "#d1495b", "#00798c"
# The usual colours of nucleotides, in shades that colour-blind readers tell apart, too: two of them are
# 23 or more apart in CIELAB as protanopes, deuteranopes and tritanopes see them (Machado et al. 2009).
NUCLEOTIDES = {"A": "#009E73", "C": "#1D5FA8", "G": "#F0A202", "T": "#B3202C", "U": "#B3202C"}
OTHER = "#8d99ae"
LETTER = 0.94  # of the width of a place
ONE_ROW, ROW, ROWS = 150, 100, 20  # places that stand in one row, in each of several; rows at most


def plot_forecast(
    history: pd.DataFrame,
    forecast: pd.DataFrame,
    quantiles: pd.DataFrame | None = None,
    backcast: pd.DataFrame | None = None,
    n_history: int = 168,
    max_variates: int = 8,
) -> Figure:
    """Draw history, forecast and its interval, one panel a variate.

    Parameters
    ----------
    history, forecast : DataFrame
        What was observed, and the mean forecast after it.
    quantiles : DataFrame, optional
        Columns (variate, quantile); the outermost two are shaded.
    backcast : DataFrame, optional
        An earlier forecast of the last rows of history, to compare with them.
    n_history : int
        Rows of history to show.
    max_variates : int
        Panels at most; the title says how many are left out.

    Returns
    -------
    Figure
        Not shown and not saved.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    _need_matplotlib()
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    shown = list(forecast.columns[:max_variates])
    figure = Figure(figsize=(10, 1.2 + 2.1 * len(shown)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(shown), 1, sharex=True))
    recent = history.iloc[-n_history:]
    for axes, name in zip(panels, shown, strict=True):
        axes.plot(_x(recent), recent[name], color=INK, lw=1.2, label="observed")
        if backcast is not None:
            label = f"forecast of the last {len(backcast)} steps, not trained on"
            axes.plot(_x(backcast), backcast[name], color=BACKCAST, lw=1.4, ls="--", label=label)
        if quantiles is not None and quantiles[name].shape[1] >= 2:
            band = quantiles[name]
            low, high = band.columns[0], band.columns[-1]
            axes.fill_between(
                _x(band),
                band[low],
                band[high],
                color=FORECAST,
                alpha=0.2,
                lw=0,
                label=f"{low:.0%} to {high:.0%} quantile",
            )
        axes.plot(_x(forecast), forecast[name], color=FORECAST, lw=1.6, label="forecast")
        axes.axvline(_x(recent)[-1], color=INK, lw=0.6, ls=":")
        title = axes.set_title(str(name), loc="left", fontsize=10, fontweight="bold", color=INK)
        title.set_parse_math(False)  # a name may hold a dollar sign
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25, lw=0.6)
        axes.margins(x=0.01)
    if isinstance(history.index, (pd.DatetimeIndex, pd.PeriodIndex)):
        locator = AutoDateLocator()
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    left_out = forecast.shape[1] - len(shown)
    if left_out:
        figure.suptitle(f"{left_out} more variates are not shown", fontsize=9)
    return figure


def plot_logo(
    scores: ArrayLike,
    sequence: str | None = None,
    *,
    start: int = 0,
    title: str = "",
) -> Figure:
    """Draw contributions of nucleotides as letters, as high as their scores.

    Letters above the line speak for the score, those below it, upside down, against it. Where a place
    has several, the largest stands farthest from the line. More than 150 places are parted into rows of
    100, of one scale.

    Parameters
    ----------
    scores : array-like
        `[T, 4]`, of A, C, G and T at each place; or `[T]`, of the nucleotides of `sequence`.
    sequence : str, optional
        T letters, for scores `[T]`; others than A, C, G, T and U are grey, gaps are not drawn.
    start : int
        Position of the first place, for the axis.
    title : str
        What stands above.

    Returns
    -------
    Figure
        Not shown and not saved.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    ValueError
        If scores have another shape or are not finite, the sequence has another length, or there are
        more than 2000 places.

    Examples
    --------
    >>> figure = plot_logo([0.5, -0.2, 0.0, 1.0], "TATA", start=100, title="TATA box")
    >>> len(figure.axes[0].collections[0].get_paths())  # no letter for a score of 0
    3
    """
    _need_matplotlib()
    from matplotlib.figure import Figure

    places = _letters(np.asarray(scores, dtype=np.float64), sequence)
    width = len(places) if len(places) <= ONE_ROW else ROW
    firsts = range(0, len(places), width)
    size = max(3.0, min(10.0, 0.2 * width)), 0.6 + 1.5 * len(firsts)
    figure = Figure(figsize=size, layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(firsts), 1, sharey=True))
    ends = [0.0]
    for axes, first in zip(panels, firsts, strict=True):
        ends += _draw_letters(axes, places[first : first + width], start + first, width)
    low, high = min(ends), max(ends)
    room = 0.04 * (high - low) or 1.0
    panels[0].set_ylim(low - room, high + room)
    figure.supylabel("contribution", fontsize=9, color=INK)
    heading = panels[0].set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    heading.set_parse_math(False)
    return figure


def _draw_letters(
    axes: Axes, places: list[list[tuple[str, float]]], first: int, width: int
) -> list[float]:
    """Draw a row, perhaps not as full as it is wide, and its axis; return how far its letters reach."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path
    from matplotlib.ticker import MaxNLocator

    glyphs, colours, ends = [], [], []
    for x, place in enumerate(places, first):
        end = [0.0, 0.0]  # of what stands below and above the line so far
        for letter, score in sorted(place, key=lambda pair: abs(pair[1])):
            outline = _outline(letter)
            corners = np.asarray(outline.vertices) * [LETTER, score] + [x, end[score > 0]]
            glyphs.append(Path(corners, outline.codes))
            colours.append(NUCLEOTIDES.get(letter, OTHER))
            end[score > 0] += score
        ends += end
    axes.add_collection(PathCollection(glyphs, facecolors=colours, linewidths=0), autolim=False)
    last = first + len(places) - 1
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


def _letters(scores: np.ndarray, sequence: str | None) -> list[list[tuple[str, float]]]:
    """The letters of each place with their scores, without those of no height."""
    if sequence is None and (scores.ndim != 2 or scores.shape[1] != 4):
        raise ValueError(
            f"scores has shape {scores.shape}; it must be [T, 4], of A, C, G and T, or [T] with a "
            "sequence"
        )
    if sequence is not None and scores.shape != (len(sequence),):
        raise ValueError(
            f"scores has shape {scores.shape} and sequence {len(sequence)} letters; with a sequence, "
            "scores must be [T], one a letter"
        )
    if not 0 < len(scores) <= ROW * ROWS:
        raise ValueError(
            f"scores has {len(scores)} places, and a picture 1 to {ROW * ROWS}; cut the part to look "
            "at (scores[a:b], start=a)"
        )
    if not np.isfinite(scores).all():
        place = int(np.argmin(np.isfinite(scores.reshape(len(scores), -1)).all(1)))
        raise ValueError(
            f"scores has NaN or infinite values, the first at place {place}; fill them, with 0 for no "
            "letter"
        )
    letters = ["ACGT"] * len(scores) if sequence is None else sequence.upper()
    heights = scores.reshape(len(scores), -1).tolist()
    return [
        [
            (letter, score)
            for letter, score in zip(*place, strict=True)
            if score and letter.isalpha()
        ]
        for place in zip(letters, heights, strict=True)
    ]


@cache
def _outline(letter: str) -> Path:
    """The outline of a letter, from -0.5 to 0.5 and from 0 to 1."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    bold = FontProperties(family="DejaVu Sans", weight="bold")  # matplotlib brings it along
    outline = TextPath((0, 0), letter, size=1, prop=bold)
    box = outline.get_extents()
    fit = Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height)
    return outline.transformed(fit.translate(-0.5, 0))


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install 'titans-ts[plots]'"
        ) from error


def _x(frame: pd.DataFrame) -> np.ndarray:
    index = frame.index
    return np.asarray(index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index)
