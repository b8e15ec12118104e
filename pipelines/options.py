"""Options that several commands have, and what they need."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Columns",
    "ContextLength",
    "Contigs",
    "GroupsColumn",
    "LabelColumn",
    "Labels",
    "MaxEpochs",
    "PadInvalid",
    "Quiet",
    "Rename",
    "Seed",
    "SequenceColumn",
    "Threads",
    "TimeColumn",
    "check_matplotlib",
    "column_list",
    "contig_names",
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
Contigs = Annotated[
    list[str] | None,
    typer.Option(metavar="CONTIG", help="A contig to read; may be repeated.  [default: all]"),
]
PadInvalid = Annotated[
    bool,
    typer.Option(
        "--pad-invalid", help="Read letters outside IUPAC as absent instead of raising an error."
    ),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FROM=TO",
        help="The genome's name (TO) of a contig in the other file, such as 1=chr1, or of all: '*=chr*'; "
        "may be repeated, and the first that fits counts.",
    ),
]
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


def contig_names(renames: list[str] | None) -> Callable[[str], str] | None:
    """What the option --rename gives: a function of a contig's name, or None.

    Examples
    --------
    >>> name = contig_names(["MT=chrM", "*=chr*"])
    >>> name("MT"), name("1")
    ('chrM', 'chr1')
    """
    pairs: list[tuple[str, str]] = []
    for rename in renames or []:
        old, _, new = rename.partition("=")
        if not (old and new) or max(old.count("*"), new.count("*")) > 1:
            raise ValueError(f"rename is {rename!r}; give FROM=TO, such as '1=chr1' or '*=chr*'")
        if old in [other for other, _ in pairs]:
            raise ValueError(f"rename is {rename!r}, but {old!r} was renamed before; give one name")
        pairs.append((old, new))

    def name(contig: str) -> str:
        for old, new in pairs:
            found = re.fullmatch(re.escape(old).replace(r"\*", "(.*)"), contig)
            if found:
                return new.replace("*", found[1]) if found.groups() else new
        return contig

    return name if pairs else None


def check_matplotlib(what: str) -> None:
    """Raise ModuleNotFoundError, before there is anything to lose, if there can be no such picture."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(f"the {what} needs matplotlib: pip install 'titans-ts[plots]'")
