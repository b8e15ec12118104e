"""What the pretrained model of DNA is worth, from 100 labels to 1000.

    python benchmarks/pretraining.py --task promoters_ecoli
    python benchmarks/pretraining.py --task promoters_ecoli --controls build
    python benchmarks/pretraining.py --table        # from the result files

The training part of a task of dna.py is cut to some labels, the same for all models; tests are the
official ones or folds, whole. "frozen" is a logistic regression of the embeddings of "dna-small".
"fine-tuned" and "from scratch" are the same network without k-mers, which begins with its weights
or with random ones, each with the learning rate that suits it. "default" chooses its own network,
beside k-mers. `--controls` is a folder with models of `pretrain_dna.py`, whose frozen embeddings
are tested: "none" (no backbone), "nowrite" (a memory that never writes) and "swa" (attention
alone), and a random one beside them, which is made here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from controls import PRETRAINED_CONTROLS
from dna_tasks import TASKS, splits
from record import RESULTS, record, recorded, replaced
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import matthews_corrcoef, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from titans_ts import NucleotideTokenizer, SequenceEmbedding, TitansClassifier
from titans_ts.genomics.baselines import kmer_classifier
from titans_ts.genomics.pretraining import load_body
from titans_ts.nn.checkpoint import save_model
from titans_ts.nn.dna.language_model import LanguageModel

LABELS = (100, 300, 1000)
SCRATCH = {
    "variant": "lmm",
    "n_layers": 2,
    "bidirectional": "shared",
    "position": False,
    "stride": 1,
}
"""The network of "dna-small" as parameters; the fit chooses its pooling and learning rate."""
QUIET = {"progress_bar": False, "random_state": 0}


def random_model(path: Path) -> Path:
    """Write a language model like "dna-small" that has learned nothing."""
    config = load_body("dna-small").config
    torch.manual_seed(0)
    save_model(path, LanguageModel(config))
    return path


def linear(model: Any) -> Any:
    """Return a logistic regression of a model's embeddings; its strength is chosen on five folds."""
    strengths = {"C": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]}
    folds = KFold(5, shuffle=True, random_state=0)  # also of classes with fewer than five
    regression = LogisticRegression(max_iter=1000)
    regression = GridSearchCV(regression, strengths, scoring="matthews_corrcoef", cv=folds)
    return make_pipeline(SequenceEmbedding(model), StandardScaler(), regression)


def models(random: Path, controls: Path | None) -> dict[str, Any]:
    """Return the models to fit, by name; with `controls`, only the embeddings of controls."""
    if controls is not None:
        found = {name: controls / there for name, there in PRETRAINED_CONTROLS.items() if there}
        return {f"frozen, {n}": linear(m) for n, m in (found | {"random": random}).items()}
    alone = {"kmer_model": None, **QUIET}
    return {
        "frozen": linear("dna-small"),
        "k-mers": kmer_classifier(),
        "fine-tuned": TitansClassifier(pretrained="dna-small", **alone),
        "from scratch": TitansClassifier(pretrained=random, learning_rate=1e-3, **alone),
        "from scratch, own settings": TitansClassifier(
            NucleotideTokenizer(kernel_size=11), **SCRATCH, **alone
        ),
        "default, fine-tuned": TitansClassifier(pretrained="dna-small", **QUIET),
        "default": TitansClassifier(**QUIET),
    }


def measure(args: argparse.Namespace, random: Path) -> Iterator[dict[str, Any]]:
    task = TASKS[args.task]
    frame = task.read(argparse.Namespace(genome=None, intervals=None))
    parts = [(seed, part, part["split"]) for seed, part in splits(frame, task, args.seeds)]
    for n, (seed, part, split) in itertools.product(args.labels, parts):
        train, test = part[split == "train"], part[split == "test"]
        if n >= len(train):
            continue
        train, _ = train_test_split(train, train_size=n, random_state=seed, stratify=train["label"])
        for name, model in models(random, args.controls).items():
            if args.models and name not in args.models.split(";"):
                continue
            start = time.process_time()
            model.fit(train["sequence"].to_numpy(), train["label"].to_numpy())
            seconds = round(time.process_time() - start, 1)
            shares = model.predict_proba(test["sequence"].to_numpy())
            predicted = model.classes_[shares.argmax(1)]
            row = {"labels": n, "seed": seed, "model": name, "cpu_seconds": seconds}
            row["mcc"] = round(matthews_corrcoef(test["label"], predicted), 4)
            if len(model.classes_) == 2:
                wanted = test["label"] == model.classes_[1]
                row["auc"] = round(roc_auc_score(wanted, shares[:, 1]), 4)
            yield row


def table() -> None:
    """Print the mean Matthews' correlations of every task, by the number of labels."""
    for path in sorted(RESULTS.glob("pretraining-*.json")):
        content = json.loads(path.read_text())
        frame = pd.DataFrame(content["rows"])
        means = frame.pivot_table("mcc", ["labels"], "model", "mean").round(3)
        print(f"\n{path.stem.removeprefix('pretraining-')}\n{means.to_string()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=list(TASKS))
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", help="only these, separated by ';'")
    parser.add_argument("--controls", type=Path, help="folder of the controls, which are tested")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.table:
        return table()
    if args.task is None:
        parser.error("give --task, or --table")
    torch.set_num_threads(args.threads)
    command, name = (
        f"python benchmarks/pretraining.py --task {args.task}",
        f"pretraining-{args.task}",
    )
    rows = recorded(name)
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(args, random_model(Path(folder) / "random")):
            rows = replaced(rows, row, ("labels", "seed", "model"))
            print(json.dumps(row), flush=True)
            record(name, command, rows)


if __name__ == "__main__":
    main()
