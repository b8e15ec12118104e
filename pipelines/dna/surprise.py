"""The commands `surprise` (of a memory) and `surprisal` (of nucleotides): two different quantities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from titans_ts.pipelines.dna.options import Bin, GenomeFile, Model, Track, load_estimator
from titans_ts.pipelines.options import (
    Contigs,
    Json,
    PadInvalid,
    Quiet,
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
    if json:
        echo_json({"bins": len(frame), "files": [str(out)]})
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
    if json:
        echo_json({"bins": len(frame), "files": [str(out)]})
        return
    typer.echo(f"{len(frame)} bins of {genome.name}\nwrote {out}")
