"""The commands `surprise` (of a memory) and `surprisal` (of nucleotides): two different quantities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from titans_ts.pipelines.dna.options import Bin, GenomeFile, Model, Track, load_estimator
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

__all__ = ["surprisal", "surprise"]


def surprise(
    genome: GenomeFile,
    model: Model,
    out: Track,
    bin: Bin = 1000,
    contigs: Contigs = None,
    pad_invalid: PadInvalid = False,
    json: Json = False,
    report: Report = None,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Write the surprise of a model's memory along a genome: the gradient norm of its loss.

    It is high where the memory learns much, and it also depends on composition and position. To find
    regions that differ from the rest of a genome, use `surprisal`.
    """
    from titans_ts.datasets import Genome

    estimator = load_estimator(model, threads, quiet)
    frame = estimator.surprise(
        Genome(genome, pad_invalid=pad_invalid), bin=bin, contigs=contigs or None, out=out
    )
    text = (
        "High surprise: the memory learns much there. It also depends on composition and position."
    )
    settings = {"model": str(model), "bin": bin}
    _show(frame, "surprise", text, genome, settings, out, report, json)


def surprisal(
    genome: GenomeFile,
    model: Annotated[
        Path, typer.Option("--model", help="A model that `pretrain --no-position` saved.")
    ],
    out: Track,
    bin: Bin = 1000,
    contigs: Contigs = None,
    pad_invalid: PadInvalid = False,
    json: Json = False,
    report: Report = None,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Write the surprisal of the nucleotides of a genome: their negative log-likelihood, in nats.

    It is high in regions from another genome (a phage, an island). For random letters it is 1.386.
    """
    import torch

    from titans_ts.datasets import Genome
    from titans_ts.genomics import nucleotide_surprisal
    from titans_ts.nn.checkpoint import load_directory

    estimator = load_directory(model)[0].get("estimator")
    if estimator is not None:
        raise ValueError(
            f"model {str(model)!r} is a {estimator}; give a model that `titans-ts pretrain` saved "
            "(for a classifier or regressor, use `titans-ts surprise`)"
        )
    torch.set_num_threads(threads)
    frame = nucleotide_surprisal(
        model,
        Genome(genome, pad_invalid=pad_invalid),
        bin=bin,
        contigs=contigs or None,
        out=out,
        progress_bar=show_progress(quiet),
    )
    text = "The mean negative log-likelihood of the letters of a bin; 1.386 for random letters."
    settings = {"model": str(model), "bin": bin}
    _show(frame, "surprisal [nats]", text, genome, settings, out, report, json)


def _show(
    frame: Any,
    what: str,
    text: str,
    genome: Path,
    settings: dict[str, Any],
    out: Path,
    report: Path | None,
    json: bool,
) -> None:
    """Write the report of a track, with a text on the score, and print what was written."""
    if report is not None:
        from titans_ts.datasets.atomic import replace_file
        from titans_ts.pipelines.dna.report import track_page

        page = track_page(frame, what, f"Bins of {genome.name}", settings, text)
        replace_file(report, page.encode())
    if json:
        echo_json({"bins": len(frame), "files": given_files(out, report)})
        return
    typer.echo(f"{len(frame)} bins of {genome.name}\nwrote {out}")
