"""Options that several commands share, and functions that read them."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "ContextLength",
    "Contigs",
    "GroupsColumn",
    "Json",
    "LabelColumn",
    "Labels",
    "MaxEpochs",
    "Notes",
    "PadInvalid",
    "Preset",
    "Quiet",
    "Rename",
    "Report",
    "Seed",
    "SequenceColumn",
    "SequencePreset",
    "Threads",
    "TimeColumn",
    "TimeLimit",
    "check_matplotlib",
    "column_list",
    "contig_names",
    "echo_json",
    "given_files",
    "note",
    "show_progress",
    "warnings_said",
]

ContextLength = Annotated[
    int | None,
    typer.Option(
        help="Steps of history a forecast reads.  [default: two seasons of the frequency, but at most a "
        "quarter of the rows, unless a season and the forecast are longer]",
        min=1,
    ),
]
TimeColumn = Annotated[
    str | None, typer.Option(help="Column with the time.  [default: the first column of dates]")
]
SequenceColumn = Annotated[str, typer.Option(help="Column of a table with the sequences.")]
LabelColumn = Annotated[str, typer.Option(help="Column with the labels.")]
Labels = Annotated[Path | None, typer.Option(help="For FASTA: a table with columns id and label.")]
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
        help="Rename a contig of the other file to the genome's name, such as 1=chr1, or all: '*=chr*'. "
        "May be repeated; the first match is used.",
    ),
]
GroupsColumn = Annotated[
    str | None, typer.Option(help="Column of groups (chromosomes); whole groups are held out.")
]
MaxEpochs = Annotated[
    int | None,
    typer.Option(help="Maximum number of epochs.  [default: by the size]", min=1),
]

TimeLimit = Annotated[
    float | None,
    typer.Option(help="Seconds of training at most.  [default: no limit]", min=1),
]

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, for a machine to read.")
]

SequencePreset = Annotated[
    str,
    typer.Option(
        "--preset",
        help="Networks to train: fast (one without blocks), default, or best (the better of two).",
    ),
]

Report = Annotated[
    Path | None,
    typer.Option(help="Write a self-contained HTML report with interactive charts to this file."),
]

Preset = Annotated[
    str,
    typer.Option(
        help="Networks to train: zero-shot (none), fast (a tenth of the time), default, or best (the "
        "better of two)."
    ),
]

Threads = Annotated[
    int, typer.Option(help="Processor threads; more than the free cores is much slower.", min=1)
]
Seed = Annotated[int, typer.Option(help="Random seed; the same seed gives the same result.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Show no progress bar, as when it is no terminal.")
]


def column_list(columns: str | None) -> list[str] | None:
    """Split the comma-separated names of an option."""
    return None if columns is None else [c.strip() for c in columns.split(",")]


def echo_json(content: Any) -> None:
    """Print an object as JSON on one line."""
    typer.echo(json.dumps(content, default=str, allow_nan=False))


def given_files(*paths: Path | None) -> list[str]:
    """Return the names of the files that were asked for."""
    return [str(path) for path in paths if path is not None]


def note(line: str) -> None:
    """Print a line about the work to the standard error, so that the standard output has results only."""
    typer.echo(line, err=True)


class Notes(list[str]):
    """Lines about the work, which are printed and kept for a report."""

    def say(self, line: str) -> None:
        """Print a line and keep it."""
        note(line)
        self.append(line)


@contextmanager
def warnings_said(say: Callable[[str], None]) -> Iterator[None]:
    """Say the warnings of a block in plain lines, each once."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for line in dict.fromkeys(str(warning.message) for warning in warned):
                say(line)


def show_progress(quiet: bool) -> bool:
    """Return whether to show a progress bar: on a terminal, unless --quiet is given."""
    return not quiet and sys.stderr.isatty()


def contig_names(renames: list[str] | None) -> Callable[[str], str] | None:
    """Return the function of a contig's name that the option --rename defines, or None.

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
            raise ValueError(f"rename is {rename!r}, but {old!r} is renamed twice; give one name")
        pairs.append((old, new))

    def name(contig: str) -> str:
        for old, new in pairs:
            match = re.fullmatch(re.escape(old).replace(r"\*", "(.*)"), contig)
            if match:
                return new.replace("*", match[1]) if match.groups() else new
        return contig

    return name if pairs else None


def check_matplotlib(what: str) -> None:
    """Raise ModuleNotFoundError if matplotlib is missing; it is called before the computation."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(f"the {what} needs matplotlib: pip install 'titans-ts[plots]'")
