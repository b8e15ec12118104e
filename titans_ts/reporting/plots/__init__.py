"""Figures of forecasts, scores, memories and searches (the extra `plots` installs matplotlib)."""

from titans_ts.reporting.plots.common import figure_png
from titans_ts.reporting.plots.forecast import plot_backtest, plot_forecast
from titans_ts.reporting.plots.logo import plot_logo
from titans_ts.reporting.plots.memory import plot_memory
from titans_ts.reporting.plots.search import plot_search

__all__ = [
    "figure_png",
    "plot_backtest",
    "plot_forecast",
    "plot_logo",
    "plot_memory",
    "plot_search",
]
