"""Options that several commands have, and what they need."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Columns",
    "ContextLength",
    "GroupsColumn",
    "LabelColumn",
    "Labels",
    "MaxEpochs",
    "Quiet",
    "Seed",
    "SequenceColumn",
    "Threads",
    "TimeColumn",
    "check_matplotlib",
    "column_list",
]

ContextLength = Annotated[
    int | None,
    typer.Option(help="Steps of history a forecast reads.  [default: 4 x prediction length]"),
]
TimeColumn = Annotated[
    str | None, typer.Option(help="Column with the time.  [default: the first of dates]")
]
Columns = Annotated[
    str | None, typer.Option(help="Columns to forecast, comma-separated.  [default: all]")
]
SequenceColumn = Annotated[str, typer.Option(help="Column of a table with the sequences.")]
LabelColumn = Annotated[str, typer.Option(help="Column with the labels.")]
Labels = Annotated[Path | None, typer.Option(help="Of FASTA: a table with columns id and label.")]
GroupsColumn = Annotated[
    str | None, typer.Option(help="Column whose groups (chromosomes) are held out whole.")
]
MaxEpochs = Annotated[
    int | None,
    typer.Option(help="Passes over the data at most.  [default: by the size]", min=1),
]

Threads = Annotated[
    int, typer.Option(help="Processor threads; more than the free cores is much slower.", min=1)
]
Seed = Annotated[int, typer.Option(help="Seed: the same seed gives the same result.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


def column_list(columns: str | None) -> list[str] | None:
    """The names that an option gives, comma-separated."""
    return None if columns is None else [c.strip() for c in columns.split(",")]


def check_matplotlib(what: str) -> None:
    """Raise ModuleNotFoundError, before there is anything to lose, if there can be no such picture."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(f"the {what} needs matplotlib: pip install 'titans-ts[plots]'")
