"""Colours and helpers of all figures. Matplotlib is imported when a figure is drawn."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREY", "INK", "RED", "check_matplotlib", "figure_png", "style_axes"]

INK, RED, BLUE, GREY = "#2b2d42", "#d1495b", "#00798c", "#8d99ae"


def figure_png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def check_matplotlib() -> None:
    """Raise ModuleNotFoundError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install 'titans-ts[plots]'"
        ) from error


def style_axes(axes: Axes, title: str) -> None:
    """Set the title and remove the upper and the right spine."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, color=INK, labelcolor=INK)
