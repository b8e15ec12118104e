"""Figures of forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_ts.reporting.plots.common import BLUE, INK, RED, check_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["plot_backtest", "plot_forecast"]


def plot_forecast(
    history: pd.DataFrame,
    forecast: pd.DataFrame,
    quantiles: pd.DataFrame | None = None,
    backcast: pd.DataFrame | None = None,
    n_history: int = 168,
    max_variates: int = 8,
) -> Figure:
    """Draw history, forecast and its interval, one panel per variate.

    Parameters
    ----------
    history, forecast : DataFrame
        The observed values, and the mean forecast of the steps after them.
    quantiles : DataFrame, optional
        Quantile forecasts with columns (variate, quantile); the area between the outermost two is shaded.
    backcast : DataFrame, optional
        An earlier forecast of the last rows of the history, for comparison.
    n_history : int
        Number of rows of the history to show (default 168).
    max_variates : int
        Maximum number of panels (default 8); the title says how many variates are left out.

    Returns
    -------
    Figure
        The figure, neither shown nor saved.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    shown = list(forecast.columns[:max_variates])
    figure, panels = _panels(shown)
    recent = history.iloc[-n_history:]
    for axes, name in zip(panels, shown, strict=True):
        _observe(axes, recent[name])
        if backcast is not None:
            label = f"forecast of the last {len(backcast)} steps, not trained on"
            axes.plot(_x(backcast), backcast[name], color=BLUE, lw=1.4, ls="--", label=label)
        _draw(axes, forecast[name], None if quantiles is None else quantiles[name])
        axes.axvline(_x(recent)[-1], color=INK, lw=0.6, ls=":")
    _finish(figure, panels, history.index, forecast.shape[1] - len(shown))
    return figure


def plot_backtest(
    observed: pd.DataFrame,
    forecasts: Sequence[tuple[pd.DataFrame, pd.DataFrame | None]],
    max_variates: int = 8,
) -> Figure:
    """Draw forecasts of a backtest over what was observed, one panel per variate.

    Parameters
    ----------
    observed : DataFrame
        The observed values.
    forecasts : sequence
        Mean forecasts, each with its quantiles or None, as for :func:`plot_forecast`.
    max_variates : int
        Maximum number of panels (default 8); the title says how many variates are left out.

    Returns
    -------
    Figure
        The figure, neither shown nor saved.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    shown = list(observed.columns[:max_variates])
    figure, panels = _panels(shown)
    for axes, name in zip(panels, shown, strict=True):
        _observe(axes, observed[name])
        for mean, quantiles in forecasts:
            _draw(axes, mean[name], None if quantiles is None else quantiles[name])
            axes.axvline(_x(mean)[0], color=INK, lw=0.6, ls=":")
    _finish(figure, panels, observed.index, observed.shape[1] - len(shown))
    return figure


def _panels(shown: list[Any]) -> tuple[Figure, NDArray[Any]]:
    """Return a figure with a panel for each name, one below the other."""
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.2 + 2.1 * len(shown)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(shown), 1, sharex=True))
    for axes, name in zip(panels, shown, strict=True):
        title = axes.set_title(str(name), loc="left", fontsize=10, fontweight="bold", color=INK)
        title.set_parse_math(False)  # a name may hold a dollar sign
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25, lw=0.6)
        axes.margins(x=0.01)
    return figure, panels


def _observe(axes: Axes, values: pd.Series) -> None:
    """Draw observed values; a point shows those between missing ones."""
    axes.plot(_x(values), values, color=INK, lw=1.2, marker=".", ms=2, label="observed")


def _draw(axes: Axes, forecast: pd.Series, band: pd.DataFrame | None) -> None:
    """Draw a forecast, and the area between its outermost quantiles."""
    if band is not None and band.shape[1] >= 2:
        low, high = band.columns[0], band.columns[-1]
        label = f"{100 * low:g} % to {100 * high:g} % quantile"
        if len(band) == 1:  # an area needs two points
            axes.vlines(_x(band), band[low], band[high], color=RED, alpha=0.2, lw=8, label=label)
        else:
            axes.fill_between(
                _x(band), band[low], band[high], color=RED, alpha=0.2, lw=0, label=label
            )
    marker = "o" if len(forecast) == 1 else None
    axes.plot(_x(forecast), forecast, color=RED, lw=1.6, marker=marker, ms=4, label="forecast")


def _finish(figure: Figure, panels: NDArray[Any], index: pd.Index, left_out: int) -> None:
    """Add the dates, the legend, and how many variates are not shown."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)):
        zone = getattr(index, "tz", None)
        locator = AutoDateLocator(tz=zone)
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
    handles, labels = panels[0].get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))  # each label once
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    if left_out:
        figure.suptitle(f"{left_out} more variates are not shown", fontsize=9)


def _x(frame: pd.DataFrame | pd.Series) -> NDArray[Any]:
    index = frame.index
    return np.asarray(index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index)
