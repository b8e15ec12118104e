"""The command `memory`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from titans_ts.pipelines.dna.options import load_estimator
from titans_ts.pipelines.options import (
    Json,
    LabelColumn,
    Labels,
    Report,
    SequenceColumn,
    Threads,
    TimeColumn,
    check_matplotlib,
    echo_json,
    given_files,
    note,
)
from titans_ts.pipelines.series.options import (
    DateFormat,
    ItemColumn,
    Missing,
    TimeZone,
    columns_of,
    load_forecaster,
)

if TYPE_CHECKING:
    from titans_ts.reporting.memory import MemoryReport

__all__ = ["echo_idle_memory", "memory"]


def echo_idle_memory(estimator: Any) -> None:
    """Print a line if the memory of a fitted estimator is idle, unless its progress bar has said so."""
    from titans_ts.reporting.memory import idle_memory

    line = idle_memory(estimator.history_)
    if line is not None and not estimator.progress_bar:
        note(f"\n{line} See `titans-ts memory`.")


def memory(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A series as for `forecast`, or sequences as for `classify`."
        ),
    ],
    model: Annotated[
        Path, typer.Option("--model", help="A saved forecaster, classifier or regressor.")
    ],
    plot: Annotated[Path | None, typer.Option(help="Write the picture to this .png file.")] = None,
    report: Report = None,
    time_column: TimeColumn = None,
    item_column: ItemColumn = None,
    date_format: DateFormat = None,
    timezone: TimeZone = None,
    missing: Missing = None,
    sequence_column: SequenceColumn = "sequence",
    label_column: LabelColumn = "label",
    labels: Labels = None,
    json: Json = False,
    threads: Threads = 1,
) -> None:
    """Report whether a saved model uses its memory.

    The model reads DATA as it is, with the memory's write off, and without a memory. The report has what
    the memory adds to each block, its gates and half-lives, and the scores (of sequences: if there are
    labels). Use data that the model was not trained on.
    """
    import torch

    from titans_ts.datasets.atomic import replace_file
    from titans_ts.nn.checkpoint import load_directory

    torch.set_num_threads(threads)
    if plot is not None:
        check_matplotlib("picture")
    estimator: Any
    if load_directory(model)[0].get("estimator") == "TitansForecaster":
        from titans_ts.pipelines.continuation import read_for_model

        estimator, y = load_forecaster(model), None
        given = columns_of(
            time_column=time_column,
            item_column=item_column,
            date_format=date_format,
            missing=missing,
            timezone=timezone,
        )
        X: Any = read_for_model(data, estimator, given, note)[0].frame
    else:
        from titans_ts.datasets import read_sequences

        estimator = load_estimator(model, threads, quiet=True)
        table = read_sequences(
            data, sequence_column=sequence_column, label_column=label_column, labels=labels
        )
        X, y = table["sequence"].to_numpy(), table.get("label")
        classes = getattr(estimator, "classes_", None)
        if y is not None and classes is not None and classes.dtype.kind in "UO":
            y = y.astype(str)
    found = estimator.memory_report(X, y)
    if plot is not None:
        from titans_ts.reporting.plots import figure_png

        replace_file(plot, figure_png(found.plot()))
    if report is not None:
        from titans_ts.reporting.pages import memory_page

        replace_file(report, memory_page(found, {"model": str(model), "data": str(data)}).encode())
    files = given_files(plot, report)
    if json:
        echo_json(_record(found, files))
        return
    typer.echo(found)
    for path in files:
        typer.echo(f"\nwrote {path}")


def _record(report: MemoryReport, files: list[str]) -> dict[str, Any]:
    from titans_ts.pipelines.outcome import plain_records

    heads = report.heads.copy()
    heads.columns = [" ".join(map(str, column)) for column in heads.columns]
    return {
        "verdict": report.verdict,
        "idle": report.idle,
        "change": None if report.blocks.empty else report.change,
        "tokens": report.n_tokens,
        "blocks": plain_records(report.blocks.reset_index()),
        "heads": plain_records(heads.reset_index()),
        "scores": plain_records(report.scores.rename_axis("memory").reset_index()),
        "files": files,
    }
