"""Pictures of forecasts, contributions to a score and searches (needs matplotlib: the `plots` extra)."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path
    from numpy.typing import ArrayLike

__all__ = ["figure_png", "plot_forecast", "plot_logo", "plot_search"]

INK, FORECAST, BACKCAST = "#2b2d42", "#d1495b", "#00798c"
# The usual colours of nucleotides, in shades that colour-blind readers tell apart, too: two of them are
# 23 or more apart in CIELAB as protanopes, deuteranopes and tritanopes see them (Machado et al. 2009).
NUCLEOTIDES = {"A": "#009E73", "C": "#1D5FA8", "G": "#F0A202", "T": "#B3202C", "U": "#B3202C"}
OTHER = "#8d99ae"
LETTER = 0.94  # of the width of a place
ONE_ROW, ROW, ROWS = 150, 100, 20  # places that stand in one row, in each of several; rows at most


def figure_png(figure: Figure) -> bytes:
    """A picture as a PNG file holds it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


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


def plot_search(
    trials: pd.DataFrame,
    params: pd.DataFrame,
    importances: pd.Series,
    front: pd.DataFrame | None = None,
) -> Figure:
    """Draw a search: its history, what mattered, and which parameters went with which score.

    Parameters
    ----------
    trials : DataFrame
        A row a trial: columns `trial`, `state` and `score`, NaN where there is none.
    params : DataFrame
        The parameters of the same rows; those of trials with a score are drawn.
    importances : Series
        Importance by parameter, the most important first; at most eight are drawn.
    front : DataFrame, optional
        With several objectives: the trials that none beats in all of them, a column an objective.

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
    from matplotlib.figure import Figure

    two = front is not None and front.shape[1] > 1
    names = [name for name in importances.index if name in params][:8]
    figure = Figure(figsize=(10, 11 if two else 8), layout="constrained")
    rows: Any = figure.subfigures(3 if two else 2, 1)
    history, bars = rows[0].subplots(1, 2, width_ratios=(3, 2))
    _draw_history(history, trials)
    shown = importances[names][::-1]
    bars.barh([str(n) for n in shown.index], shown, color=BACKCAST)
    _titled(bars, "importance")
    lines = rows[1].subplots(1, 1)
    scored = trials["score"].notna().to_numpy()
    _draw_parallel(lines, params.loc[scored, names], trials["score"].to_numpy()[scored])
    if two:
        assert front is not None
        for axes, name in zip(
            np.atleast_1d(rows[2].subplots(1, front.shape[1] - 1)), front.columns[1:], strict=True
        ):
            axes.plot(front[name], front[front.columns[0]], "o", color=FORECAST, ms=4)
            axes.set_xlabel(name, fontsize=9, color=INK)
            axes.set_xscale("log" if (front[name] > 0).all() else "linear")
            _titled(axes, f"{front.columns[0]} and {name}: Pareto front")
    return figure


def _titled(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, color=INK, labelcolor=INK)


def _draw_history(axes: Axes, trials: pd.DataFrame) -> None:
    """Scores by trial and the best so far; trials without one stand at the foot."""
    trials = trials.sort_values("trial")
    done = trials[trials["score"].notna()]
    axes.plot(done["trial"], done["score"], "o", color=BACKCAST, ms=4, label="score")
    axes.step(
        done["trial"], done["score"].cummax(), color=FORECAST, where="post", label="best so far"
    )
    for state, marker in (("PRUNED", "|"), ("FAIL", "x")):
        some = trials.loc[trials["state"] == state, "trial"]
        if len(some):
            foot = np.full(len(some), 0.02)
            axes.plot(
                *(some, foot, marker),
                color=OTHER,
                ms=6,
                transform=axes.get_xaxis_transform(),
                label={"PRUNED": "pruned", "FAIL": "failed"}[state],
            )
    axes.set_xlabel("trial", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=8)
    _titled(axes, "score by trial")


def _draw_parallel(axes: Axes, params: pd.DataFrame, scores: np.ndarray) -> None:
    """A line a trial through its parameters to its score, the better, the redder."""
    from matplotlib.colors import LinearSegmentedColormap

    rank = pd.Series(scores).rank(pct=True).to_numpy()
    colours = LinearSegmentedColormap.from_list("score", ["#d8dae3", BACKCAST, FORECAST])
    columns = [(str(name), params[name].to_numpy(dtype=object)) for name in params]
    columns.append(("score", scores.astype(object)))
    heights = []
    for x, (_, values) in enumerate(columns):
        height, ticks = _placed(values)
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
    _titled(axes, "parameters and score")
    axes.tick_params(axis="x", length=0)


def _placed(values: np.ndarray) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Heights from 0 to 1 of a parameter's values, and what stands beside the axis."""
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
