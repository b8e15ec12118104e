"""Accuracy of DNA classification, compared with the project's baselines in the same run.

    python benchmarks/dna.py --task mouse_3 --seeds 3
    python benchmarks/dna.py --table            # show the files in benchmarks/results as a table
    python benchmarks/dna.py --table default    # the same for the default, its parts and controls

Every model is trained on the official training part and evaluated once on the official test part;
without one, on folds, or as the task's note in the table says. Settings were chosen on the
development part (benchmarks/README.md). Deep models stop early on the development part, or on a fifth
of the training part if a task has none. "default" is `TitansClassifier()` without parameters; "titans"
has the settings of the task. The controls of Titans ("write off", "attention alone", "no backbone";
"default, write off", ...) run if `--models` names them.
The data are in `$TITANS_TS_DATA`, except GenomicBenchmarks' `human_nontata_promoters`. That task is cut
from your genome with the official intervals, which are also there (or in `--intervals`, a folder of its
repository):

    python benchmarks/dna.py --task human_nontata_promoters --genome hg38.fa
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from controls import ABLATION, CONTROLS, DEPTHS, PLAIN_DNA, alone, parameters
from dna_tasks import TASKS, Task, splits
from record import RESULTS, record
from sklearn.base import clone
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)

from titans_ts import KmerModel, TitansClassifier
from titans_ts.datasets import check_splits
from titans_ts.genomics.baselines import cnn_classifier, kmer_classifier

QUIET = {"progress_bar": False}
DEFAULT = {f"default, {name}": options for name, options in CONTROLS.items()}
"""Parameters of the controls of a default fit, by name; they run if `--models` names them."""
MODELS = ("default", "titans", "cnn", "words", "gapped words", "gapped words, svm")
PARTS = {name: parameters(part) for name, part in (DEPTHS | ABLATION).items()}
"""Parameters of the models whose layer lacks a part, by name; they run if `--models` names them."""
TOGETHER = {
    "titans": "seeds together",
    "titans + words": "seeds together + words",
    "default": "default, seeds together",
}
"""Names of the mean of the seeds' probabilities, by that of the model."""
TABLES = {
    "titans": (*MODELS[1:], "seeds together", "titans + words", "seeds together + words"),
    "default": (
        *("default", "default, seeds together"),
        *("default, k-mers alone", "default, network alone", *DEFAULT),
        *("titans + words", "words", "gapped words", "cnn"),
    ),
}
"""Columns of the tables of the recipes and of the default."""


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
            if parts := dict(alone(model)):
                yield self._asked(parts["network alone"], name, seed) | more
                name, more["mixing_weights"] = (
                    f"{name} + words",
                    model.kmer_model_.mixing_weights.round(2).tolist(),
                )
            row = self._asked(model, name, seed) | more
            yield row | {"seconds": round(time.process_time() - start, 1)}
        for name, together in TOGETHER.items():
            parts = self._shares.get(name, [])
            if len(parts) > 1:  # folds are not averaged
                mean = {part: sum(s[part] for s in parts) / len(parts) for part in parts[0]}
                predicted = {part: self._classes[some.argmax(1)] for part, some in mean.items()}
                yield self._row(together, 0, predicted, mean)

    def _parts(self, model: Any, name: str, seed: int, start: float) -> Iterator[dict[str, Any]]:
        """Yield rows of a fit by default: whole, its network alone, and its k-mer model alone."""
        seconds = round(time.process_time() - start, 1)
        chosen = {k: repr(v) for k, v in model.chosen_.items()}
        row = self._asked(model, name, seed)
        yield row | {"epochs": len(model.history_), "seconds": seconds, "chosen": chosen}
        for part, other in alone(model):
            yield self._asked(other, f"{name}, {part}", seed)

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


def leakage(frame: pd.DataFrame) -> dict[str, float]:
    """Shares of the test part that are in the training part, too, or resemble a sequence of it.

    A training sequence much shorter than those of the test part cannot resemble one.
    """
    train, test = (frame[frame["split"] == part] for part in ("train", "test"))
    found = check_splits(
        train["sequence"].tolist(), train["label"], test["sequence"].tolist(), test["label"]
    )
    shares = dict(zip(found["kind"], found["share"], strict=True))
    return {kind: round(float(shares.get(kind, 0)), 4) for kind in ("in both", "near-duplicate")}


def show(which: str) -> None:
    """Print the results of the recipes or of the default as a table of means over the seeds."""
    columns = TABLES[which]
    print(
        f"| task | metric | target | {' | '.join(columns)} | AUC | published | leaks | seeds | seconds |"
    )
    print("|---" * (len(columns) + 8) + "|")
    for name, task in TASKS.items():
        path = RESULTS / f"dna-{name}.json"
        if not path.is_file():
            continue
        content = json.loads(path.read_text())
        rows = pd.DataFrame(content["rows"])
        ours = rows[rows["model"].isin([which, f"{which} + words"])]
        if ours.empty:
            continue
        score = rows.groupby("model")[task.metric].mean()
        cells = [f"{score[m]:.3f}" if m in score else "" for m in columns]
        auc = float("nan")
        if "auc" in ours:
            whole = f"{which} + words"
            one = ours[ours["model"] == (whole if whole in set(ours["model"]) else which)]
            auc = one["auc"].mean()
        leaks = sum(content["leakage"].values()) if "leakage" in content else float("nan")
        more = [task.target, auc, task.published_auc, leaks]
        target, *more = ("" if n is None or np.isnan(n) else f"{n:.3f}" for n in more)
        cells += [*more, str(ours["seed"].nunique()), f"{ours['seconds'].median():.0f}"]
        named = name + (f" ({task.note})" if task.note else " (folds)" * bool(task.folds))
        print(f"| {named} | {task.metric} | {target} | {' | '.join(cells)} |")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=[*TASKS, "all"], default="mouse_3")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, or of folds")
    parser.add_argument(
        "--models", default="", help="only these, separated by ;, controls included"
    )
    parser.add_argument("--genome", help="FASTA, for human_nontata_promoters")
    parser.add_argument("--intervals", help="for human_nontata_promoters; default: official ones")
    parser.add_argument(
        "--table",
        nargs="?",
        const="titans",
        choices=TABLES,
        help="show the saved results: of the recipes (titans), or of the default",
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    if args.table:
        show(args.table)
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
        anew = only | ({"titans + words"} if "titans" in only else set())
        anew |= {TOGETHER[name] for name in anew & TOGETHER.keys()}
        parts = ("", ", network alone", ", k-mers alone")
        anew |= {name + part for name in only & {"default", *DEFAULT} for part in parts}
        rows = [row for row in rows if row["model"] not in anew]
        run, leaks = None, {}
        for seed, split in splits(frame, task, args.seeds):
            if run is None or task.folds:
                run = Run(split, task, only)
            leaks = leaks or leakage(split)
            for row in run.rows(seed):
                key = row["model"], row["seed"]
                rows = [old for old in rows if (old["model"], old["seed"]) != key] + [row]
                print(name, json.dumps(row), flush=True)
                command = f"python benchmarks/dna.py --task {name} --seeds {args.seeds}"
                command += f" --models '{args.models}'" if only else ""
                record(f"dna-{name}", command, rows, settings=settings(task), leakage=leaks)


if __name__ == "__main__":
    main()
