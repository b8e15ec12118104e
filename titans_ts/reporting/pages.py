"""Parts of pages that several reports share."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from titans_ts.reporting.html import Page, Section, Table, cell_text, render
from titans_ts.reporting.memory import MemoryReport

__all__ = ["changed_settings", "memory_page", "memory_section", "run_section"]

_PACKAGES = ("titans-ts", "torch", "numpy", "pandas", "scikit-learn", "lightning", "plotly")


def changed_settings(estimator: Any) -> dict[str, Any]:
    """Return the seed of an estimator, and its parameters that differ from their defaults."""
    defaults = type(estimator)().get_params(deep=False)
    params = estimator.get_params(deep=False)
    changed = {k: v for k, v in params.items() if repr(v) != repr(defaults[k])}
    return {"random_state": params["random_state"]} | changed


def run_section(settings: Mapping[str, Any], command: list[str] | None = None) -> Section:
    """Return the section on how a result was made.

    Parameters
    ----------
    settings : mapping
        Names and values, such as the seed.
    command : list of str, optional
        The words of the command line (default: those of this process).
    """
    words = sys.argv if command is None else command
    installed = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    rows = pd.DataFrame(
        {"setting": list(settings), "value": [cell_text(v) for v in settings.values()]}
    )
    versions = pd.DataFrame({"package": list(installed), "version": list(installed.values())})
    made = datetime.now().astimezone().isoformat(" ", "minutes")
    return Section(
        "How this was made",
        (f"Made on {made} on {platform.system()} {platform.machine()}. To repeat it, run:",),
        tables=(Table("Settings", rows), Table("Versions", versions)),
        code=shlex.join([Path(words[0]).name, *words[1:]]) if words else "",
    )


def memory_page(report: MemoryReport, settings: Mapping[str, Any]) -> str:
    """Return the report of a memory as HTML; `settings` are those of the last section."""
    section = memory_section(report)
    sections = (*([] if section is None else [section]), run_section(settings))
    return render(Page("Memory", report.title, ((report.verdict, ""),), sections))


def memory_section(report: MemoryReport) -> Section | None:
    """Return the section of a memory; None without one."""
    from titans_ts.reporting.plots import memory_charts

    if report.blocks.empty:
        return None
    return Section("Memory", (report.verdict,), tuple(memory_charts(report)))
