"""Accuracy of DNA classification, compared with the project's baselines in the same run.

    python benchmarks/dna.py --task mouse_3 --seeds 3
    python benchmarks/dna.py --table            # show the files in benchmarks/results as a table

Every model is trained on the official training part and evaluated once on the official test part.
Settings were chosen on the development part (benchmarks/README.md). Deep models stop early on the
development part, or on a fifth of the training part if a task has none. "default" is
`TitansClassifier()` without parameters; "titans" has the settings of the task. The controls of Titans
("write off", "attention alone", "no backbone"; "default, write off", ...) run if `--models` names them.
The data are in `$TITANS_TS_DATA`, except GenomicBenchmarks' `human_nontata_promoters`. That task is cut
from your genome with the official intervals, which are also there (or in `--intervals`, a folder of its
repository):

    python benchmarks/dna.py --task human_nontata_promoters --genome hg38.fa
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from controls import ABLATION, CONTROLS, DEPTHS, PLAIN_DNA, parameters
from record import RESULTS, data_file, record
from sklearn.base import clone
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)
from sklearn.model_selection import StratifiedKFold

from titans_ts import (
    ConvTokenizer,
    KmerModel,
    KmerTokenizer,
    NucleotideTokenizer,
    TitansClassifier,
)
from titans_ts.datasets import FastaRegions, Genome, build_genomic_benchmark, read_sequences
from titans_ts.genomics.baselines import cnn_classifier, kmer_classifier

QUIET = {"progress_bar": False}
DEFAULT = {f"default, {name}": options for name, options in CONTROLS.items()}
"""Parameters of the controls of a default fit, by name; they run if `--models` names them."""
MODELS = ("default", "titans", "cnn", "words", "gapped words", "gapped words, svm")
PARTS = {name: parameters(part) for name, part in (DEPTHS | ABLATION).items()}
"""Parameters of the models whose layer lacks a part, by name; they run if `--models` names them."""
TOGETHER = ("seeds together", "titans + words", "seeds together + words")
"""Titans with its k-mer model, and the mean of the seeds' probabilities."""


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


def gue(name: str) -> Callable[[argparse.Namespace], pd.DataFrame]:
    return lambda _: read_sequences(data_file(f"genomics/gue/{name}.csv.gz"))


def table(path: str) -> Callable[[argparse.Namespace], pd.DataFrame]:
    return lambda _: read_sequences(data_file(f"genomics/{path}"))


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

TASKS = {
    "mouse_3": Task(gue("mouse_3"), BEGUN | FEW, 0.82),
    "mouse_4": Task(gue("mouse_4"), BEGUN, 0.49),
    "prom_300_tata": Task(
        gue("prom_300_tata"),
        BEGUN | {"rc": "none", "pooling": "flatten"},
        0.80,
        cnn={"pooling": "flatten"},
    ),
    "prom_core_tata": Task(gue("prom_core_tata"), PLACES | {"max_epochs": 15}, 0.76),
    "tf_0": Task(gue("tf_0"), KMERS, 0.68),
    "tf_1": Task(gue("tf_1"), BEGUN | {"max_epochs": 5}, 0.72),
    "tf_2": Task(gue("tf_2"), MOTIFS, 0.70),
    "tf_4": Task(gue("tf_4"), BEGUN | {"max_epochs": 8}, 0.79),
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
    "mouse_0": Task(gue("mouse_0"), BEGUN),
    "mouse_2": Task(gue("mouse_2"), BEGUN | FEW),
    "hbv": Task(
        table("longctx/hbv_genotype_6class.csv.gz"),
        LONG | {"stride": 3, "max_length": 3_072},
        metric="accuracy",
        words={"k": 6},
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


def settings(task: Task) -> dict[str, Any]:
    """Return the parameters of the Titans model of a task, including its k-mer model."""
    words = KmerModel(task.words["k"], task.words.get("gaps", 0))
    return PLAIN_DNA | {"kmer_model": words} | task.titans


def contenders(task: Task, seed: int) -> dict[str, Any]:
    """Return the models by name."""
    titans = TitansClassifier(**(QUIET | settings(task)), random_state=seed)
    sizes = {k: v for k, v in task.titans.items() if k in ("rc", "stride", "max_length")}
    cnn = cnn_classifier(
        **(QUIET | sizes | {"max_epochs": 20, "training_options": {"patience": 10}} | task.cnn)
    )
    found: dict[str, Any] = {"titans": titans, "cnn": cnn.set_params(random_state=seed)}
    for name, options in (CONTROLS | PARTS).items():
        found[name] = clone(titans).set_params(**options, kmer_model=None)
    for name, options in {"default": {}, **DEFAULT}.items():
        found[name] = TitansClassifier(**QUIET, random_state=seed).set_params(**options)
    found["words"] = kmer_classifier(**{k: v for k, v in task.words.items() if k != "gaps"})
    if task.words.get("gaps"):
        found["gapped words"] = kmer_classifier(**task.words)
        found["gapped words, svm"] = kmer_classifier(**task.words, model="svm")
    return found


def scores(wanted: Any, predicted: Any) -> dict[str, float]:
    return {
        "mcc": round(matthews_corrcoef(wanted, predicted), 4),
        "accuracy": round(accuracy_score(wanted, predicted), 4),
        "f1": round(f1_score(wanted, predicted, average="macro"), 4),
    }


class Run:
    """The models of a task on one split, one seed after the other."""

    def __init__(self, frame: pd.DataFrame, task: Task, only: set[str]) -> None:
        self._task, self._only = task, only
        self._part = {
            name: (rows["sequence"].to_numpy(), rows["label"].to_numpy())
            for name, rows in frame.groupby("split")
        }
        self._shares: dict[str, list[dict[str, Any]]] = {}
        """Probabilities of every fitted model on "test" and "dev", one entry per seed."""

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Yield a row per model, one for Titans without its k-mer model, and rows averaged over seeds."""
        X, y = self._part["train"]
        for name, model in contenders(self._task, seed).items():
            linear = not isinstance(model, TitansClassifier)
            if name not in (self._only or MODELS) or (linear and name in self._shares):
                continue
            start = time.process_time()
            model.fit(X, y) if linear else model.fit(X, y, validation=self._part.get("dev"))
            more = {} if linear else {"epochs": len(model.history_)}
            if name in ("default", *DEFAULT):
                yield from self._parts(model, name, seed, start)
                continue
            if getattr(model, "kmer_model_", None) is not None:
                alone = copy(model)
                alone.kmer_model_ = None
                yield self._asked(alone, name, seed) | more
                name, more["mixing_weights"] = (
                    f"{name} + words",
                    model.kmer_model_.mixing_weights.round(2).tolist(),
                )
            row = self._asked(model, name, seed) | more
            yield row | {"seconds": round(time.process_time() - start, 1)}
        for name in ("titans", "titans + words"):
            parts = self._shares.get(name, [])
            if len(parts) > 1:  # folds are not averaged
                mean = {part: sum(s[part] for s in parts) / len(parts) for part in parts[0]}
                predicted = {part: self._classes[some.argmax(1)] for part, some in mean.items()}
                yield self._row(name.replace("titans", "seeds together"), 0, predicted, mean)

    def _parts(self, model: Any, name: str, seed: int, start: float) -> Iterator[dict[str, Any]]:
        """Yield rows of a fit by default: whole, its network alone, and its k-mer model alone."""
        seconds = round(time.process_time() - start, 1)
        chosen = {k: repr(v) for k, v in model.chosen_.items()}
        row = self._asked(model, name, seed)
        yield row | {"epochs": len(model.history_), "seconds": seconds, "chosen": chosen}
        if model.kmer_model_ is None:
            return
        mixing = model.kmer_model_.mixing_weights
        for part, weights in (("network alone", [[1.0], [0.0]]), ("k-mers alone", [[0.0], [1.0]])):
            alone = copy(model)
            alone.kmer_model_ = replace(
                model.kmer_model_, mixing_weights=weights * np.ones_like(mixing)
            )
            yield self._asked(alone, f"{name}, {part}", seed)

    def _asked(self, model: Any, name: str, seed: int) -> dict[str, Any]:
        asked = {part: self._part[part][0] for part in ("test", "dev") if part in self._part}
        if hasattr(model, "predict_proba"):
            shares = {part: model.predict_proba(some) for part, some in asked.items()}
            predicted = {part: model.classes_[some.argmax(1)] for part, some in shares.items()}
            self._classes = model.classes_
        else:
            shares, predicted = {}, {part: model.predict(some) for part, some in asked.items()}
        self._shares.setdefault(name, []).append(shares)
        return self._row(name, seed, predicted, shares)

    def _row(
        self, name: str, seed: int, predicted: dict[str, Any], shares: dict[str, Any]
    ) -> dict[str, Any]:
        asked, wanted = self._part["test"]
        row = {"model": name, "seed": seed} | scores(wanted, predicted["test"])
        if shares:
            missed = log_loss(wanted, shares["test"], labels=self._classes)
            row["log_loss"] = round(float(missed), 4)
            one_against_others = np.asarray(wanted)[:, None] == self._classes
            row["auc"] = round(float(roc_auc_score(one_against_others, shares["test"])), 4)
        if "dev" in predicted:
            row["dev_mcc"] = scores(self._part["dev"][1], predicted["dev"])["mcc"]
        if self._task.folds:  # exclude sequences that are also in the training folds
            fresh = ~np.isin(asked, self._part["train"][0])
            row["accuracy_without_duplicates"] = scores(wanted[fresh], predicted["test"][fresh])[
                "accuracy"
            ]
        return row


def show() -> None:
    """Print the results in the folder as a table: the mean over seeds, and their number."""
    models = MODELS + TOGETHER
    print(f"| task | metric | target | {' | '.join(models)} | seeds | seconds |")
    print("|---" * (len(models) + 5) + "|")
    for name, task in TASKS.items():
        path = RESULTS / f"dna-{name}.json"
        if not path.is_file():
            continue
        rows = pd.DataFrame(json.loads(path.read_text())["rows"])
        by = rows.groupby("model")[task.metric]
        cells = [f"{by.mean()[m]:.3f}" if m in by.groups else "" for m in models]
        ours = rows[rows["model"].isin(["titans", "titans + words"])]
        target = "" if task.target is None else f"{task.target:.2f}"
        print(
            f"| {name} | {task.metric} | {target} | {' | '.join(cells)} | {ours['seed'].nunique()} "
            f"| {ours['seconds'].median():.0f} |"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=[*TASKS, "all"], default="mouse_3")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (uci_splice: folds)")
    parser.add_argument(
        "--models", default="", help="only these, separated by ;, controls included"
    )
    parser.add_argument("--genome", help="FASTA, for human_nontata_promoters")
    parser.add_argument("--intervals", help="for human_nontata_promoters; default: official ones")
    parser.add_argument("--table", action="store_true", help="show the saved results")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    if args.table:
        show()
        return
    only = {name.strip() for name in args.models.split(";") if name.strip()}
    models = (*MODELS, *CONTROLS, *PARTS, *DEFAULT)
    if unknown := only - set(models):
        parser.error(f"--models has {min(unknown)!r}; choose of {'; '.join(models)}")
    names = [n for n in TASKS if n != "human_nontata_promoters"]
    for name in names if args.task == "all" else [args.task]:
        task = TASKS[name]
        frame = task.read(args)
        path = RESULTS / f"dna-{name}.json"
        rows = json.loads(path.read_text())["rows"] if only and path.is_file() else []
        anew = only.union(TOGETHER) if "titans" in only else only
        parts = ("", ", network alone", ", k-mers alone")
        anew |= {name + part for name in only & {"default", *DEFAULT} for part in parts}
        rows = [row for row in rows if row["model"] not in anew]
        run = None
        for seed, split in splits(frame, task, args.seeds):
            if run is None or task.folds:
                run = Run(split, task, only)
            for row in run.rows(seed):
                key = row["model"], row["seed"]
                rows = [old for old in rows if (old["model"], old["seed"]) != key] + [row]
                print(name, json.dumps(row), flush=True)
                command = f"python benchmarks/dna.py --task {name} --seeds {args.seeds}"
                command += f" --models '{args.models}'" if only else ""
                record(f"dna-{name}", command, rows, settings=settings(task))


if __name__ == "__main__":
    main()
