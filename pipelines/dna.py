"""The commands for DNA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from titans_ts.config import SequenceConfig
from titans_ts.pipelines.options import (
    Contigs,
    GroupsColumn,
    LabelColumn,
    Labels,
    MaxEpochs,
    PadInvalid,
    Quiet,
    Rename,
    Seed,
    SequenceColumn,
    Threads,
    contig_names,
)

if TYPE_CHECKING:
    from titans_ts.genomics.sequence_estimator import SequenceEstimator

__all__ = ["classify", "pretrain", "scan", "surprise", "variants"]

Genomes = Annotated[Path, typer.Argument(metavar="FASTA", help="A genome, plain or bgzipped.")]
Model = Annotated[Path, typer.Option("--model", help="A saved classifier or regressor.")]
Label = Annotated[str | None, typer.Option(help="The class to tell.  [default: the second of two]")]
Track = Annotated[Path, typer.Option(help="A .bed, .bedgraph or .bw file (.gz, but for .bw).")]
Window = Annotated[int, typer.Option(help="Letters of a window.", min=1)]

LowerCase = Annotated[str, typer.Option(help="Soft-masked letters: same, marked or absent.")]


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
        typer.Argument(
            metavar="[TEST]", help="The same, to answer for.  [default: a part of TRAIN]"
        ),
    ] = None,
    sequence_column: SequenceColumn = "sequence",
    label_column: LabelColumn = "label",
    labels: Labels = None,
    test_labels: Annotated[Path | None, typer.Option(help="The same, of a TEST of FASTA.")] = None,
    genome: Annotated[
        Path | None,
        typer.Option(metavar="FASTA", help="Of places (.bed, .gff, .gtf): the genome they lie in."),
    ] = None,
    outside: Annotated[
        str, typer.Option(help="Places beyond their contig: error, pad (not seen) or drop.")
    ] = "error",
    rename: Rename = None,
    invalid: Annotated[
        str, typer.Option(help="Letters outside IUPAC: error, pad (not seen) or drop the sequence.")
    ] = "error",
    tokenizer: Annotated[
        str | None, typer.Option(help="nucleotide, conv, kmer or bpe.  [default: nucleotide]")
    ] = None,
    stride: Annotated[
        int, typer.Option(help="Letters a token stands for; more for long sequences.", min=1)
    ] = SequenceConfig.stride,
    rc: Annotated[
        str, typer.Option(help="The other strand: none, augment, average, equivariant or auto.")
    ] = SequenceConfig.rc,
    bidirectional: Annotated[
        str, typer.Option(help="Read backwards, too: none, shared or separate.")
    ] = SequenceConfig.bidirectional,
    read_out: Annotated[
        str, typer.Option(help="Tokens to one answer: attention, max, mean, last or flatten.")
    ] = SequenceConfig.read_out,
    counted_words: Annotated[
        int,
        typer.Option(help="Letters of words to count beside the network, 6 for instance.", min=0),
    ] = 0,
    counted_gaps: Annotated[
        int, typer.Option(help="Letters that these may leave out, 2 for instance.", min=0)
    ] = 0,
    lower_case: LowerCase = SequenceConfig.lower_case,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Letters of a training sequence at most, a random stretch each time.  [default: all]",
            min=1,
        ),
    ] = None,
    pretrained: Annotated[
        Path | None, typer.Option(help="Begin with what `pretrain`, or --save, saved there.")
    ] = None,
    freeze: Annotated[
        str, typer.Option(help="What of that stays as it is: none, tokenizer or backbone.")
    ] = "none",
    groups_column: GroupsColumn = None,
    max_epochs: MaxEpochs = None,
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv.")] = Path("."),
    save: Annotated[Path | None, typer.Option(help="Save the model to this folder.")] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Learn classes of DNA sequences, and say how well beside a linear model of words.

    The answers for TEST, or for a fifth of TRAIN that is held out, are compared with their labels, and
    what makes the comparison say too much (repeats, near relatives, lengths) is reported.

    The letters of places (BED, GFF) are read from --genome, on their strand; their labels are in the
    column --label-column (name or score of BED, feature of GFF), and --groups-column chrom holds out
    whole chromosomes.
    """
    import torch

    from titans_ts.datasets import read_sequences
    from titans_ts.genomics import TitansClassifier
    from titans_ts.nn.checkpoint import check_replaceable
    from titans_ts.pipelines.classify import run_classify, write_classify

    if save is not None:
        check_replaceable(save)
    given = [(train, labels)] if test is None else [(train, labels), (test, test_labels)]
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
        for path, table in given
    ]
    lengths = parts[0]["sequence"].str.len()
    typer.echo(
        f"{len(parts[0])} sequences of {lengths.min()} to {lengths.max()} letters to learn from"
    )
    classifier = TitansClassifier(
        stride=stride,
        rc=rc,
        bidirectional=bidirectional,
        read_out=read_out,
        counted_words=counted_words,
        counted_gaps=counted_gaps,
        lower_case=lower_case,
        max_length=max_length,
        pretrained=pretrained,
        freeze=freeze,
        max_epochs=max_epochs,
        random_state=seed,
        progress_bar=not quiet,
    )
    if tokenizer is not None:
        classifier.set_params(tokenizer=tokenizer)
    other = parts[1] if test else None
    if test is not None and "label" not in parts[1]:
        typer.echo(
            f"{test.name} has no labels (see --label-column, and --test-labels of FASTA): there will be "
            "answers, but no scores"
        )
    job = run_classify(parts[0], other, classifier, groups=groups_column, seed=seed, save=save)
    if job.findings is not None and len(job.findings):
        typer.echo("\nwhat the comparison should not be trusted for without a thought:\n")
        shown = job.findings[["kind", "part", "count", "share", "detail"]]
        typer.echo(shown.to_string(index=False, float_format="{:.1%}".format))
    if job.scores is not None:
        where = "held-out" if job.held_out else "test"
        typer.echo(f"\non {len(job.predictions)} {where} sequences:\n")
        typer.echo(job.scores.to_string(float_format="{:.3f}".format))
    typer.echo(f"\nwrote {write_classify(job, out)}")
    if save is not None:
        typer.echo(f"wrote {save}/")


def pretrain(
    genomes: Annotated[
        list[Path], typer.Argument(metavar="FASTA...", help="Genomes, plain or bgzipped.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for what is learned.")],
    objective: Annotated[
        str, typer.Option(help="causal (the next letters) or masked (hidden ones).")
    ] = "causal",
    window: Window = 1024,
    pad_invalid: PadInvalid = False,
    validation_contigs: Annotated[
        str | None,
        typer.Option(help="Contigs to hold out, comma-separated.  [default: by their size]"),
    ] = None,
    bidirectional: Annotated[
        str, typer.Option(help="Read backwards, too (masked): none, shared or separate.")
    ] = SequenceConfig.bidirectional,
    lower_case: LowerCase = SequenceConfig.lower_case,
    tokenizer: Annotated[
        str | None, typer.Option(help="nucleotide, conv or kmer.  [default: nucleotide]")
    ] = None,
    stride: Annotated[
        int, typer.Option(help="Letters a token stands for.", min=1)
    ] = SequenceConfig.stride,
    position: Annotated[
        bool,
        typer.Option(
            help="Whether tokens know their place in a window; `surprise` needs them not to."
        ),
    ] = SequenceConfig.position,
    d_model: Annotated[
        int | None, typer.Option(help="Width of a token.  [default: 64]", min=2)
    ] = None,
    n_layers: Annotated[
        int | None, typer.Option(help="Number of blocks.  [default: 2]", min=1)
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the genomes at most.  [default: by the size]", min=1),
    ] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Learn to tell the letters of genomes, for `classify --pretrained` and `surprise`.

    Windows of either strand are read. If it is interrupted, the same command goes on after the last full
    pass.
    """
    import torch

    from titans_ts.datasets import Genome
    from titans_ts.genomics import TitansClassifier

    torch.set_num_threads(threads)
    estimator = TitansClassifier(
        stride=stride,
        position=position,
        rc="augment",
        bidirectional=bidirectional,
        lower_case=lower_case,
        max_epochs=max_epochs,
        random_state=seed,
        progress_bar=not quiet,
    )
    given = {"tokenizer": tokenizer, "d_model": d_model, "n_layers": n_layers}
    estimator.set_params(**{k: v for k, v in given.items() if v is not None})
    contigs = None if validation_contigs is None else validation_contigs.split(",")
    opened = [Genome(path, pad_invalid=pad_invalid) for path in genomes]
    history = estimator.pretrain(
        opened, out, objective=objective, window=window, validation_contigs=contigs
    )
    best = min(row.get("validation_loss", row["train_loss"]) for row in history)
    typer.echo(f"{len(history)} passes, {best:.4f} nats a letter (1.3863 at random)")
    typer.echo(f"wrote {out}/")


def scan(
    genome: Genomes,
    model: Model,
    out: Track,
    window: Window,
    stride: Annotated[
        int | None, typer.Option(help="Letters between windows.  [default: a window]", min=1)
    ] = None,
    strand: Annotated[str, typer.Option(help="+, - or both.")] = "+",
    contigs: Contigs = None,
    pad_invalid: PadInvalid = False,
    label: Label = None,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Slide a window along a genome, and write what a model says of each.

    If it is interrupted, the same command goes on where it stopped.
    """
    from titans_ts.datasets import Genome

    estimator = _load(model, threads, quiet)
    found = estimator.scan(
        Genome(genome, pad_invalid=pad_invalid),
        window=window,
        stride=stride,
        strand=strand,
        contigs=contigs or None,
        label=_label(estimator, label),
        out=out,
        progress_bar=not quiet,
    )
    typer.echo(f"{len(found)} windows of {genome.name}")
    best = found.nlargest(5, "score")
    typer.echo(best.to_string(index=False, float_format="{:.4g}".format))


def variants(
    genome: Genomes,
    vcf: Annotated[Path, typer.Argument(metavar="VCF", help="Variants, plain or gzipped.")],
    model: Model,
    out: Annotated[Path, typer.Option(help="A .csv file.")],
    window: Window,
    outside: Annotated[
        str, typer.Option(help="Variants whose contig is not in the genome: error or drop.")
    ] = "error",
    rename: Rename = None,
    pad_invalid: PadInvalid = False,
    label: Label = None,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Say how much each variant of a VCF changes the answer of a model.

    Scores are log-odds of the class (or values of a regressor) for windows with the reference and with
    the alternative; ref_match says whether the genome has the reference there.
    """
    from titans_ts.datasets import Genome, read_variants
    from titans_ts.datasets.atomic import replace_file

    estimator, asked = _load(model, threads, quiet), read_variants(vcf)
    found = estimator.variant_effect(
        Genome(genome, pad_invalid=pad_invalid),
        asked,
        window=window,
        outside=outside,
        label=_label(estimator, label),
        rename=contig_names(rename),
    )
    replace_file(out, found.to_csv(index=False, float_format="%.6g").encode())
    mismatch = int((~found["ref_match"]).sum())
    more = f", {mismatch} of which do not match the genome" if mismatch else ""
    if asked.attrs["left_out"]:
        more += f"; {asked.attrs['left_out']} without letters (such as <DEL>) left out"
    if dropped := len(asked) - len(found):
        more += f"; {dropped} on contigs that {genome.name} lacks left out"
    typer.echo(f"{len(found)} variants{more}\nwrote {out}")


def surprise(
    genome: Genomes,
    model: Model,
    out: Track,
    bin: Annotated[int, typer.Option(help="Letters of a bin.", min=1)] = 1000,
    contigs: Contigs = None,
    pad_invalid: PadInvalid = False,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Write how much each stretch of a genome surprises a model.

    Of a model that `pretrain --no-position` saved: how badly it foresees the letters, in nats a letter,
    which tells what came in from elsewhere (a phage, an island). Of another one: how much its memory
    learns there.
    """
    import torch

    from titans_ts.datasets import Genome
    from titans_ts.genomics import letter_surprise
    from titans_ts.nn.checkpoint import load_directory

    read = Genome(genome, pad_invalid=pad_invalid)
    options: dict[str, Any] = {"bin": bin, "contigs": contigs or None, "out": out}
    if load_directory(model)[0].get("estimator") is None:
        torch.set_num_threads(threads)
        found = letter_surprise(model, read, **options, progress_bar=not quiet)
    else:
        found = _load(model, threads, quiet).surprise(read, **options)
    typer.echo(f"{len(found)} bins of {genome.name}\nwrote {out}")


def _load(path: Path, threads: int, quiet: bool) -> SequenceEstimator:
    import torch

    from titans_ts.genomics import TitansClassifier, TitansRegressor
    from titans_ts.nn.checkpoint import load_directory

    torch.set_num_threads(threads)
    kinds: dict[str, Any] = {c.__name__: c for c in (TitansClassifier, TitansRegressor)}
    name = load_directory(path)[0].get("estimator")
    if name not in kinds:
        raise ValueError(
            f"path {str(path)!r} holds no model of DNA but {name}; give one of {list(kinds)}"
        )
    estimator: SequenceEstimator = kinds[name].load(path)
    return estimator.set_params(progress_bar=not quiet)


def _label(estimator: Any, label: str | None) -> Any:
    """A class by its name."""
    classes = getattr(estimator, "classes_", None)
    if label is None or classes is None:
        return label if label is None else int(label)
    named = {str(c): c for c in classes}
    if label not in named:
        raise ValueError(f"label is {label!r}; the classes are {list(named)}")
    return named[label]
