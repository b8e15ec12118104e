"""The tasks of dna.py: their sequences, splits and the parameters of their models."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from record import data_file
from sklearn.model_selection import StratifiedKFold

from titans_ts import ConvTokenizer, KmerTokenizer, NucleotideTokenizer
from titans_ts.datasets import (
    FastaRegions,
    Genome,
    build_genomic_benchmark,
    read_sequences,
    reverse_complement,
)

__all__ = ["TASKS", "Task", "splits"]


@dataclass(frozen=True)
class Task:
    """The sequences, the target and the model parameters of a task."""

    read: Callable[[argparse.Namespace], pd.DataFrame]
    titans: dict[str, Any]
    target: float | None = None
    """Target of the test MCC, or of another `metric`; None if there is no target."""
    metric: str = "mcc"
    cnn: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=lambda: {"k": 6, "gaps": 2})
    folds: int = 0
    """Number of stratified folds if there is no official split (a seed is then a fold); 0 is none."""
    published_auc: float | None = None
    """Best published area under the ROC curve of a linear model of frozen embeddings, of DNABERT-2,
    Nucleotide Transformer v2, HyenaDNA, Caduceus-Ph and GROVER."""
    note: str = ""
    """In what the protocol is not the official one."""


def gue(name: str) -> Callable[[argparse.Namespace], pd.DataFrame]:
    return table(f"gue/{name}.csv.gz")


def table(path: str) -> Callable[[argparse.Namespace], pd.DataFrame]:
    return lambda _: read_sequences(data_file(f"genomics/{path}"))


def renamed(path: str, **parts: str) -> Callable[[argparse.Namespace], pd.DataFrame]:
    """Read a table whose parts have other names: `train="dev"` trains on its part "dev"."""
    names = {there: here for here, there in parts.items()}

    def read(_: argparse.Namespace) -> pd.DataFrame:
        frame = read_sequences(data_file(f"genomics/{path}"))
        frame = frame[frame["split"].isin(names)]
        return frame.assign(split=frame["split"].map(names)).reset_index(drop=True)

    return read


def dev_test(name: str) -> Task:
    """Return a task of GUE whose training part is not here: its development part takes its place."""
    read = renamed(f"gue_devtest_only/{name}.csv.gz", train="dev", test="test")
    return Task(read, BEGUN, note="trained on dev")


def enhancers(_: argparse.Namespace) -> pd.DataFrame:
    """Layer 1 of iEnhancer-2L, without the test sequences that are training sequences, too."""
    frame = read_sequences(data_file("genomics/enhancers/ienhancer2l_layer1.csv.gz"))
    train = frame.loc[frame["split"] == "train", "sequence"]
    return frame[(frame["split"] == "train") | ~frame["sequence"].isin(train)].reset_index(
        drop=True
    )


def vista(_: argparse.Namespace) -> pd.DataFrame:
    """Enhancers of VISTA; the chromosomes 5, 10, 15 and 20 are the test part."""
    frame = read_sequences(data_file("genomics/enhancers/vista_human_1500bp.csv.gz"))
    held_out = frame["location"].str.match(r"chr(5|10|15|20):")
    return frame.assign(split=np.where(held_out, "test", "train"))


def foreign(test: str, train: str, last: int | None = None) -> Callable[..., pd.DataFrame]:
    """Read a test part of GenomicBenchmarks, and another table of the same kind to train on.

    `last` is the number of letters at the end of each of the other's sequences to keep. What is in both,
    on either strand, is not trained on.
    """

    def read(_: argparse.Namespace) -> pd.DataFrame:
        asked = read_sequences(data_file(f"genomics/genomicbenchmarks/{test}.testonly.csv.gz"))
        other = read_sequences(data_file(f"genomics/{train}"))
        if last is not None:
            other["sequence"] = other["sequence"].str[-last:]
        known = {*asked["sequence"], *map(reverse_complement, asked["sequence"])}
        other = other[~other["sequence"].isin(known)]
        asked, other = asked.assign(split="test"), other.assign(split="train")
        columns = ["sequence", "label", "split"]
        return pd.concat([other[columns], asked[columns]], ignore_index=True)

    return read


def labelled_fasta(name: str) -> Callable[[argparse.Namespace], pd.DataFrame]:
    def read(_: argparse.Namespace) -> pd.DataFrame:
        path = data_file(f"genomics/longctx/{name}.fa.gz")
        return read_sequences(path, labels=path.with_name(f"{name}.labels.tsv"))

    return read


def yeast(_: argparse.Namespace) -> pd.DataFrame:
    regions = FastaRegions(
        data_file("genomics/genomes/yeast_R64.fa.gz"),
        data_file("genomics/genomes/yeast_tss_vs_random_500bp.bed.gz"),
        rename=lambda contig: contig.removeprefix("chr"),
    )
    frame = regions.frame
    return pd.DataFrame(
        {
            "sequence": list(regions),
            "label": frame["score"].astype(int).to_numpy(),
            "split": frame["column_6"].to_numpy(),
        }
    )


def nontata(args: argparse.Namespace) -> pd.DataFrame:
    if args.genome is None:
        raise SystemExit("human_nontata_promoters needs --genome, the human genome as FASTA")
    genome = Genome(args.genome)
    official = "genomics/genomicbenchmarks/official_intervals_6tasks.parquet"
    return build_genomic_benchmark(
        "human_nontata_promoters",
        genome,
        args.intervals or data_file(official),
        rename=None if "chr1" in genome.lengths else lambda c: c.removeprefix("chr"),
    )


MOTIFS: dict[str, Any] = {
    "tokenizer": "conv",
    "stride": 4,
    "rc": "average",
    "pooling": "max",
    "n_layers": 1,
}
MOTIFS |= {"learning_rate": 0.01, "max_epochs": 10}
FILTERS = ConvTokenizer(n_filters=256, init="kmers")
BEGUN = MOTIFS | {"tokenizer": FILTERS, "learning_rate": 0.005}
FEW = {
    "tokenizer": ConvTokenizer(n_filters=512, init="kmers"),
    "learning_rate": 0.003,
    "max_epochs": 20,
    "training_options": {"patience": 10},
}
KMERS = {"tokenizer": KmerTokenizer(k=6, gaps=2), "rc": "average", "pooling": "mean"}
KMERS |= {"n_layers": 1, "learning_rate": 0.003, "max_epochs": 2}
PLACES = {"n_layers": 1, "learning_rate": 0.003}
PLACES |= {"tokenizer": NucleotideTokenizer(kernel_size=11)}
LONG = {"tokenizer": KmerTokenizer(k=6, all_offsets=True), "stride": 6}
LONG |= {"position": False, "pooling": "mean", "max_length": 12_288}
LONG |= {"n_layers": 1, "learning_rate": 0.01, "max_epochs": 10}

DEV_TEST = ("emp_H3", "emp_H3K4me1", "emp_H3K4me3", "emp_H3K9ac", "emp_H4")
DEV_TEST += ("mouse_1", "prom_300_notata", "splice_reconstructed")
"""Tasks of GUE without a training part; they are trained on the development part."""

TASKS = {
    "mouse_3": Task(gue("mouse_3"), BEGUN | FEW, 0.82, published_auc=0.762),
    "mouse_4": Task(gue("mouse_4"), BEGUN, 0.49, published_auc=0.715),
    "prom_300_tata": Task(
        gue("prom_300_tata"),
        BEGUN | {"rc": "none", "pooling": "flatten"},
        0.80,
        cnn={"pooling": "flatten"},
    ),
    "prom_core_tata": Task(gue("prom_core_tata"), PLACES | {"max_epochs": 15}, 0.76),
    "tf_0": Task(gue("tf_0"), KMERS, 0.68, published_auc=0.88),
    "tf_1": Task(gue("tf_1"), BEGUN | {"max_epochs": 5}, 0.72, published_auc=0.869),
    "tf_2": Task(gue("tf_2"), MOTIFS, 0.70, published_auc=0.825),
    "tf_4": Task(gue("tf_4"), BEGUN | {"max_epochs": 8}, 0.79, published_auc=0.931),
    "yeast_tss": Task(
        yeast,
        MOTIFS | {"rc": "none", "stride": 8, "pooling": "flatten"},
        0.72,
        cnn={"pooling": "flatten"},
    ),
    "uci_splice": Task(
        table("splice/uci_splice_60bp.csv.gz"),
        {"max_epochs": 12},
        0.95,
        metric="accuracy",
        folds=10,
    ),
    "gene_family": Task(
        table("gene_family/gene_family_chimp_dog.csv.gz"),
        LONG | {"stride": 3, "max_length": 3_072, "max_epochs": 15},
        0.85,
        metric="accuracy",
        words={"k": 6, "both_strands": False},  # coding sequences
    ),
    "mtdna": Task(
        labelled_fasta("mtdna_vertebrates_5class"),
        LONG | {"max_length": 6_144, "max_epochs": 8, "rc": "average"},
        metric="f1",
        words={"k": 6},
    ),
    "plasmid": Task(
        labelled_fasta("plasmid_phylum_3class"),
        LONG | {"model_options": {"dropout": 0.0}, "rc": "average"},
        metric="f1",
        words={"k": 6},
    ),
    "organelle": Task(
        labelled_fasta("organelle_kingdom_3class"),
        LONG | {"model_options": {"dropout": 0.0}, "rc": "average"},
        metric="f1",
        words={"k": 6},
    ),
    "mouse_0": Task(gue("mouse_0"), BEGUN, published_auc=0.711),
    "mouse_2": Task(gue("mouse_2"), BEGUN | FEW, published_auc=0.935),
    "hbv": Task(
        table("longctx/hbv_genotype_6class.csv.gz"),
        LONG | {"stride": 3, "max_length": 3_072},
        metric="accuracy",
        words={"k": 6},
    ),
    "prom_core_notata": Task(gue("prom_core_notata"), BEGUN | {"rc": "none"}),
    **{name: dev_test(name) for name in DEV_TEST},
    "ienhancer_1": Task(enhancers, BEGUN),
    "ienhancer_2": Task(
        renamed("enhancers/ienhancer2l_layer2.csv.gz", train="train"), BEGUN, folds=5
    ),
    "vista": Task(vista, BEGUN, note="own split"),
    "ecoli_sigma": Task(
        renamed("promoters/ecoli_sigma_81bp.csv.gz", train="train"), BEGUN, metric="f1", folds=5
    ),
    "promoters_bacillus": Task(table("promoters/cnnprom_bacillus.csv.gz"), BEGUN, folds=5),
    "promoters_ecoli": Task(table("promoters/cnnprom_ecoli_sigma70.csv.gz"), BEGUN, folds=5),
    "promoters_mouse": Task(
        table("promoters/cnnprom_mouse_tata.csv.gz"), BEGUN, metric="f1", folds=5
    ),
    "promoters_arabidopsis": Task(
        table("promoters/cnnprom_arabidopsis_3class.csv.gz"), BEGUN, metric="f1", folds=5
    ),
    "promoters_uci": Task(table("promoters/uci_promoters_57bp.csv.gz"), BEGUN, folds=10),
    "rrna16s": Task(
        table("metagenomics/rrna16s_1000seq.csv.gz"),
        LONG,
        metric="accuracy",
        words={"k": 6, "both_strands": False},
        folds=10,
    ),
    "human_nontata_foreign": Task(
        foreign("human_nontata_promoters", "gue_devtest_only/prom_300_notata.csv.gz", last=251),
        BEGUN,
    ),
    "enhancers_cohn_foreign": Task(
        foreign("human_enhancers_cohn", "enhancers/ienhancer2l_layer1.csv.gz"),
        BEGUN,
        note="trained on iEnhancer",
    ),
    "human_nontata_promoters": Task(nontata, MOTIFS | {"rc": "none"}),
}


def splits(frame: pd.DataFrame, task: Task, seeds: int) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield every seed with its frame, whose column `split` names the part of each row."""
    if not task.folds:
        for seed in range(seeds):
            yield seed, frame
        return
    folds = StratifiedKFold(task.folds, shuffle=True, random_state=0)
    for seed, (_, test) in enumerate(folds.split(frame["sequence"], frame["label"])):
        if seed < seeds:
            split = np.where(np.isin(np.arange(len(frame)), test), "test", "train")
            yield seed, frame.assign(split=split)
