"""Figures of charts, memories, searches and logos (the extra `plots` installs matplotlib)."""

from titans_ts.reporting.plots.common import figure_png
from titans_ts.reporting.plots.draw import draw_charts, draw_series
from titans_ts.reporting.plots.logo import plot_logo
from titans_ts.reporting.plots.memory import memory_charts, plot_memory
from titans_ts.reporting.plots.search import plot_search, search_charts

__all__ = [
    "draw_charts",
    "draw_series",
    "figure_png",
    "memory_charts",
    "plot_logo",
    "plot_memory",
    "plot_search",
    "search_charts",
]
