"""The command `scan`."""

from __future__ import annotations

from typing import Annotated

import typer

from titans_ts.pipelines.dna.options import (
    GenomeFile,
    Label,
    Model,
    Track,
    Window,
    class_of_name,
    load_estimator,
)
from titans_ts.pipelines.options import (
    Contigs,
    Json,
    PadInvalid,
    Quiet,
    Report,
    Threads,
    echo_json,
    given_files,
    show_progress,
)

__all__ = ["scan"]


def scan(
    genome: GenomeFile,
    model: Model,
    out: Track,
    window: Window,
    stride: Annotated[
        int | None,
        typer.Option(help="Letters between the starts of two windows.  [default: a window]", min=1),
    ] = None,
    strand: Annotated[str, typer.Option(help="Strand of the windows: +, - or both.")] = "+",
    contigs: Contigs = None,
    pad_invalid: PadInvalid = False,
    label: Label = None,
    json: Json = False,
    report: Report = None,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Slide a window along a genome, and write the score of every window.

    The score is the probability of a class, or a regressor's value. After an interruption, the same
    command resumes.
    """
    from titans_ts.datasets import Genome

    estimator = load_estimator(model, threads, quiet)
    frame = estimator.scan(
        Genome(genome, pad_invalid=pad_invalid),
        window=window,
        stride=stride,
        strand=strand,
        contigs=contigs or None,
        label=class_of_name(estimator, label),
        out=out,
        progress_bar=show_progress(quiet),
    )
    if report is not None:
        from titans_ts.datasets.atomic import replace_file
        from titans_ts.pipelines.dna.report import track_page

        settings = {"model": str(model), "label": label or "default", "window": window}
        settings |= {"stride": stride, "strand": strand}
        page = track_page(frame, "score", f"Windows of {genome.name}", settings)
        replace_file(report, page.encode())
    best = frame.nlargest(5, "score")
    if json:
        from titans_ts.pipelines.outcome import plain_records

        content = {
            "windows": len(frame),
            "best": plain_records(best),
            "files": given_files(out, report),
        }
        echo_json(content)
        return
    typer.echo(f"{len(frame)} windows of {genome.name}")
    typer.echo(best.to_string(index=False, float_format="{:.4g}".format))
