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
    if report is not None:
        _write_report(frame, "surprise", genome, model, bin, report)
    if json:
        echo_json(
            {"bins": len(frame), "files": [str(path) for path in (out, report) if path is not None]}
        )
        return
    typer.echo(f"{len(frame)} bins of {genome.name}\nwrote {out}")


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
    if report is not None:
        _write_report(frame, "surprisal [nats]", genome, model, bin, report)
    if json:
        echo_json(
            {"bins": len(frame), "files": [str(path) for path in (out, report) if path is not None]}
        )
        return
    typer.echo(f"{len(frame)} bins of {genome.name}\nwrote {out}")


def _write_report(frame: Any, what: str, genome: Path, model: Path, bin: int, report: Path) -> None:
    from titans_ts.datasets.atomic import replace_file
    from titans_ts.pipelines.dna.report import track_page

    text = (
        "High surprise: the memory learns much there. It also depends on composition and position."
    )
    if what != "surprise":
        text = "The mean negative log-likelihood of the letters of a bin; 1.386 for random letters."
    settings = {"model": str(model), "bin": bin}
    page = track_page(frame, what, f"Bins of {genome.name}", settings, text)
    replace_file(report, page.encode())
