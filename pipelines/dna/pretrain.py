"""The command `pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from titans_ts.config import SequenceConfig
from titans_ts.pipelines.dna.options import SoftMasked, Window
from titans_ts.pipelines.options import (
    Json,
    PadInvalid,
    Quiet,
    Seed,
    Threads,
    echo_json,
    show_progress,
)

__all__ = ["pretrain"]


def pretrain(
    out: Annotated[Path, typer.Option(help="Folder to save the model to.")],
    genomes: Annotated[
        list[Path] | None, typer.Argument(metavar="FASTA...", help="Genomes, plain or bgzipped.")
    ] = None,
    objective: Annotated[
        str,
        typer.Option(help="Letters to predict: causal (the next ones) or masked (hidden ones)."),
    ] = "causal",
    window: Window = 1024,
    pad_invalid: PadInvalid = False,
    validation_contigs: Annotated[
        str | None,
        typer.Option(help="Contigs to hold out, comma-separated.  [default: small ones]"),
    ] = None,
    bidirectional: Annotated[
        str, typer.Option(help="Also read backwards (masked only): none, shared or separate.")
    ] = SequenceConfig.bidirectional,
    soft_masked: SoftMasked = SequenceConfig.soft_masked,
    tokenizer: Annotated[
        str | None, typer.Option(help="nucleotide, conv or kmer.  [default: nucleotide]")
    ] = None,
    stride: Annotated[
        int, typer.Option(help="Letters for each token.", min=1)
    ] = SequenceConfig.stride,
    position: Annotated[
        bool,
        typer.Option(help="Use positional encodings; `surprisal` needs a model without them."),
    ] = SequenceConfig.position,
    d_model: Annotated[
        int | None, typer.Option(help="Width of a token.  [default: 64]", min=2)
    ] = None,
    n_layers: Annotated[
        int | None, typer.Option(help="Number of blocks.  [default: 2]", min=1)
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(help="Maximum number of epochs.  [default: by the size]", min=1),
    ] = None,
    json: Json = False,
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Train a language model on genomes, for `classify --pretrained` and `surprisal`.

    Windows of both strands are read. After an interruption, the same command resumes after the last
    complete epoch.
    """
    import torch

    from titans_ts.datasets import Genome
    from titans_ts.genomics import TitansClassifier

    if not genomes:
        raise ValueError("there is no FASTA to read; give one genome or more")
    torch.set_num_threads(threads)
    params: dict[str, Any] = {
        "stride": stride,
        "position": position,
        "rc": "augment",
        "bidirectional": bidirectional,
        "soft_masked": soft_masked,
        "max_epochs": max_epochs,
        "random_state": seed,
        "progress_bar": show_progress(quiet),
    }
    estimator = TitansClassifier(**params)
    sizes = {"tokenizer": tokenizer, "d_model": d_model, "n_layers": n_layers}
    estimator.set_params(**{k: v for k, v in sizes.items() if v is not None})
    contigs = None if validation_contigs is None else validation_contigs.split(",")
    opened = [Genome(path, pad_invalid=pad_invalid) for path in genomes]
    history = estimator.pretrain(
        opened, out, objective=objective, window=window, validation_contigs=contigs
    )
    best = min(row.get("validation_loss", row["train_loss"]) for row in history)
    if json:
        echo_json({"epochs": len(history), "loss": best, "history": history, "files": [str(out)]})
        return
    typer.echo(f"{len(history)} epochs, {best:.4f} nats per letter (1.3863 at random)")
    typer.echo(f"wrote {out}/")
