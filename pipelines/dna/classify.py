"""The command `classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from titans_ts.config import SequenceConfig
from titans_ts.pipelines.dna.options import SoftMasked
from titans_ts.pipelines.memory import echo_idle_memory
from titans_ts.pipelines.options import (
    GroupsColumn,
    Json,
    LabelColumn,
    Labels,
    MaxEpochs,
    Quiet,
    Rename,
    Report,
    Seed,
    SequenceColumn,
    SequencePreset,
    Threads,
    TimeLimit,
    contig_names,
    echo_json,
    note,
    show_progress,
)

__all__ = ["classify"]


def classify(
    train: Annotated[
        Path,
        typer.Argument(
            metavar="TRAIN",
            help="A .csv, .tsv, .parquet or FASTA file; or a .bed, .gff or .gtf file with --genome.",
        ),
    ],
    test: Annotated[
        Path | None,
        typer.Argument(metavar="[TEST]", help="A file to predict.  [default: a part of TRAIN]"),
    ] = None,
    sequence_column: SequenceColumn = "sequence",
    label_column: LabelColumn = "label",
    labels: Labels = None,
    test_labels: Annotated[Path | None, typer.Option(help="The labels of a TEST in FASTA.")] = None,
    genome: Annotated[
        Path | None,
        typer.Option(metavar="FASTA", help="The genome of the regions (.bed, .gff, .gtf)."),
    ] = None,
    outside: Annotated[
        str,
        typer.Option(help="Regions beyond their contig: error, pad (with absent letters) or drop."),
    ] = "error",
    rename: Rename = None,
    invalid: Annotated[
        str,
        typer.Option(help="Letters outside IUPAC: error, pad (as absent) or drop the sequence."),
    ] = "error",
    tokenizer: Annotated[
        str | None,
        typer.Option(help="nucleotide, conv, kmer or bpe.  [default: chosen for the sequences]"),
    ] = None,
    preset: SequencePreset = "default",
    stride: Annotated[
        int | None,
        typer.Option(
            help="Letters for each token; more for long sequences.  [default: chosen]", min=1
        ),
    ] = None,
    rc: Annotated[
        str | None,
        typer.Option(
            help="The other strand: none, augment, average, equivariant or auto.  [default: chosen]"
        ),
    ] = None,
    bidirectional: Annotated[
        str, typer.Option(help="Also read backwards: none, shared or separate.")
    ] = SequenceConfig.bidirectional,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="Tokens to one vector: attention, max, mean, last or flatten.  [default: chosen]"
        ),
    ] = None,
    kmer_model: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Letters of the linear k-mer model that is also fitted; 0: no such model.  [default: "
            "chosen]",
            min=0,
        ),
    ] = None,
    kmer_gaps: Annotated[
        int, typer.Option(help="Letters that these k-mers may skip, 2 for instance.", min=0)
    ] = 0,
    soft_masked: SoftMasked = SequenceConfig.soft_masked,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Largest length in training; longer sequences are cropped at random.  [default: none]",
            min=1,
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Initialise from this model: of `pretrain`, of --save, or dna-small of the package."
        ),
    ] = None,
    freeze: Annotated[
        str, typer.Option(help="Pretrained parts to freeze: none, tokenizer or backbone.")
    ] = "none",
    groups_column: GroupsColumn = None,
    max_epochs: MaxEpochs = None,
    time_limit: TimeLimit = None,
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv.")] = Path("."),
    report: Report = None,
    save: Annotated[Path | None, typer.Option(help="Save the model to this folder.")] = None,
    json: Json = False,
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Train a classifier of DNA sequences and compare it with a k-mer baseline.

    The predictions for TEST, or for a fifth of TRAIN that is held out, are compared with their labels.
    Possible data leakage (duplicates, near-duplicates, lengths) is reported.

    The letters of regions (BED, GFF) are read from --genome, on their strand. Their labels are in the
    column --label-column (name or score of BED, feature of GFF), and --groups-column chrom holds out
    whole chromosomes.
    """
    import torch

    from titans_ts.datasets import read_sequences
    from titans_ts.genomics import KmerModel, TitansClassifier
    from titans_ts.nn.checkpoint import check_replaceable
    from titans_ts.pipelines.classify import run_classify, write_classify

    if save is not None:
        check_replaceable(save)
    files = [(train, labels)] if test is None else [(train, labels), (test, test_labels)]
    if test is None and test_labels is not None:
        raise ValueError(f"test-labels is {str(test_labels)!r}, but there is no TEST; give one")
    names = contig_names(rename)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    parts = [
        read_sequences(
            path,
            sequence_column=sequence_column,
            label_column=label_column,
            labels=table,
            invalid=invalid,
            genome=genome,
            outside=outside,
            rename=names,
        )
        for path, table in files
    ]
    lengths = parts[0]["sequence"].str.len()
    note(f"{len(parts[0])} training sequences of {lengths.min()} to {lengths.max()} letters")
    params: dict[str, Any] = {
        "preset": preset,
        "stride": stride,
        "rc": rc,
        "bidirectional": bidirectional,
        "pooling": pooling,
        "soft_masked": soft_masked,
        "max_length": max_length,
        "pretrained": pretrained,
        "freeze": freeze,
        "max_epochs": max_epochs,
        "time_limit": time_limit,
        "random_state": seed,
        "progress_bar": show_progress(quiet),
    }
    classifier = TitansClassifier(**params)
    if tokenizer is not None:
        classifier.set_params(tokenizer=tokenizer)
    if kmer_model is not None:
        model = KmerModel(kmer_model, kmer_gaps) if kmer_model else None
        classifier.set_params(kmer_model=model)
    other = parts[1] if test else None
    if test is not None and "label" not in parts[1]:
        note(
            f"{test.name} has no labels (see --label-column, or --test-labels for FASTA), so its "
            "sequences are predicted, but not scored"
        )
    job = run_classify(parts[0], other, classifier, groups=groups_column, seed=seed, save=save)
    if json:
        from titans_ts.pipelines.outcome import plain_records

        written = [*write_classify(job, out, report), *([] if save is None else [save])]
        scores = [] if job.scores is None else plain_records(job.scores.reset_index(names="model"))
        content = {
            "sequences": len(job.predictions),
            "held_out": job.held_out,
            "scores": scores,
            "problems": [] if job.findings is None else plain_records(job.findings),
            "files": [str(path) for path in written],
        }
        echo_json(content)
        return
    if job.findings is not None and len(job.findings):
        typer.echo("\npossible data-leakage problems (interpret the scores with care):\n")
        shown = job.findings[["kind", "part", "count", "share", "detail"]]
        typer.echo(shown.to_string(index=False, float_format="{:.1%}".format))
    if job.scores is not None:
        where = "held-out" if job.held_out else "test"
        typer.echo(f"\non {len(job.predictions)} {where} sequences:\n")
        typer.echo(job.scores.to_string(float_format="{:.3f}".format))
    echo_idle_memory(classifier)
    typer.echo("")
    for path in write_classify(job, out, report):
        typer.echo(f"wrote {path}")
    if save is not None:
        typer.echo(f"wrote {save}/")
