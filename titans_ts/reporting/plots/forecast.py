"""The figure of a forecast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_ts.reporting.plots.common import BLUE, INK, RED, check_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["plot_forecast"]


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
    check_matplotlib()
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
            axes.plot(_x(backcast), backcast[name], color=BLUE, lw=1.4, ls="--", label=label)
        if quantiles is not None and quantiles[name].shape[1] >= 2:
            band = quantiles[name]
            low, high = band.columns[0], band.columns[-1]
            axes.fill_between(
                _x(band),
                band[low],
                band[high],
                color=RED,
                alpha=0.2,
                lw=0,
                label=f"{low:.0%} to {high:.0%} quantile",
            )
        axes.plot(_x(forecast), forecast[name], color=RED, lw=1.6, label="forecast")
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


def _x(frame: pd.DataFrame) -> NDArray[Any]:
    index = frame.index
    return np.asarray(index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index)
