"""Colours and helpers of all figures. Matplotlib is imported when a figure is drawn."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GREY", "INK", "check_matplotlib", "figure_png"]

INK, GREY = "#2b2d42", "#8d99ae"


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
