"""Results as self-contained HTML pages with interactive charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from titans_ts.reporting.charts import COLOURS, Chart
from titans_ts.reporting.interactive import packed_script, plotly_chart
from titans_ts.reporting.logos import Logo, logo_svg

__all__ = ["ROWS", "Page", "Section", "Table", "cell_text", "render"]

ROWS = 200
"""Number of rows of a table on a page at most."""
_LONG = 32
"""Letters of the longest text that stays in one line."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a page."""

    caption: str
    frame: pd.DataFrame
    """Its columns are shown, and not its index."""
    formats: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    """How the values of a column are written (default: numbers with four digits)."""
    rest: str = "not shown"
    """Where the rows are that a page has no room for: it shows the first 200."""

    def rows(self) -> list[list[tuple[str, str]]]:
        """Return the rows as texts, each with its kind: "number", "long" or ""."""
        shown = self.frame.iloc[:ROWS]
        columns = []
        for name, values in shown.items():
            form = self.formats.get(str(name), cell_text)
            texts = [cell_text(value) if _missing(value) else form(value) for value in values]
            columns.append([(text, _kind(v, text)) for v, text in zip(values, texts, strict=True)])
        return [list(row) for row in zip(*columns, strict=True)]

    @property
    def left_out(self) -> int:
        """Number of rows that are not shown."""
        return max(0, len(self.frame) - ROWS)


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a page: texts, then charts, tables, logos and code."""

    title: str
    text: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    picker: str = ""
    """What a reader picks one chart by, such as "Series" (default: all charts are shown)."""
    tables: tuple[Table, ...] = ()
    logos: tuple[Logo, ...] = ()
    code: str = ""


@dataclass(frozen=True, eq=False)
class Page:
    """A page."""

    title: str
    subtitle: str
    verdict: tuple[tuple[str, str], ...]
    """Sentences, each with a kind: "good", "bad" or ""."""
    sections: tuple[Section, ...]


def render(page: Page) -> str:
    """Return a page as HTML: one file, which loads nothing from elsewhere.

    The script of plotly.js is inside, compressed to 2 MB. All texts are escaped.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("titans_ts.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures: dict[str, list[dict[str, Any]]] = {}
    sections = []
    for number, section in enumerate(page.sections):
        drawn = [plotly_chart(chart) for chart in section.charts]
        parts = ([drawn] if drawn else []) if section.picker else [[chart] for chart in drawn]
        names = [f"figure-{number}-{i}" for i in range(len(parts))]
        figures |= dict(zip(names, parts, strict=True))
        sections.append((section, list(zip(names, parts, strict=True))))
    return environment.get_template("page.html").render(
        page=page,
        sections=sections,
        figures=figures,
        colours=COLOURS,
        script=packed_script() if figures else "",
        svg=logo_svg,
    )


def _missing(value: Any) -> bool:
    return value is None or (np.ndim(value) == 0 and pd.isna(value) is True)


def _kind(value: Any, text: str) -> str:
    if isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_)):
        return "number"
    return "long" if len(text) > _LONG else ""


def cell_text(value: Any) -> str:
    """Return a value as it is written in a table."""
    if _missing(value):
        return "-"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return str(value)
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value).removesuffix(" 00:00:00")
