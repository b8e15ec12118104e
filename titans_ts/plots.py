"""Pictures of forecasts (needs matplotlib: the `plots` extra)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_forecast"]

INK, FORECAST, BACKCAST = "#2b2d42", "#d1495b", "#00798c"


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
    try:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install 'titans-ts[plots]'"
        ) from error

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


def _x(frame: pd.DataFrame) -> np.ndarray:
    index = frame.index
    return np.asarray(index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index)
