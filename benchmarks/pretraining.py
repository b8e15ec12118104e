"""The effect of pretraining on genomes: E. coli's promoters and sigma factors.

    python benchmarks/pretraining.py --seeds 3
    python benchmarks/pretraining.py --seeds 3 --letters FOLDER   # with the model of an earlier run

A language model is trained on E. coli K-12 and Salmonella LT2 (9.6 million letters, either strand, the
next letter; once, with seed 0). Classifiers of the same size and settings then start from it, or from
scratch. Their tasks are promoter or not (sigma 70, 3 839 sequences of 81 letters), and the sigma factor
or none (7 classes, 5 720 sequences). There are no official splits: every seed holds out another
stratified fifth for the test, the same for all models. The pretraining genome contains the test
sequences, too, but not their labels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from controls import PLAIN_DNA
from record import data_file, record
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from sklearn.model_selection import train_test_split

from titans_ts import NucleotideTokenizer, TitansClassifier
from titans_ts.datasets import read_sequences
from titans_ts.genomics.baselines import kmer_classifier

GENOMES = (
    "genomics/genomes/ecoli_k12_mg1655.fa.gz",
    "genomics/genomes/salmonella_enterica_LT2.fa.gz",
)
TASKS = {
    "promoter": "genomics/promoters/cnnprom_ecoli_sigma70.csv.gz",
    "sigma": "genomics/promoters/ecoli_sigma_81bp.csv.gz",
}
SIZES = {"tokenizer": NucleotideTokenizer(kernel_size=11), "n_layers": 2, "progress_bar": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=[*TASKS, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="number of pretraining steps")
    parser.add_argument("--max-epochs", type=int, default=6, help="epochs of a classifier")
    parser.add_argument("--letters", type=Path, help="folder of the language model")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    command = f"python benchmarks/pretraining.py --seeds {args.seeds} --steps {args.steps} "
    command += f"--max-epochs {args.max_epochs} --task {args.task}"

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)
        record("pretraining" if args.task == "all" else f"pretraining-{args.task}", command, rows)

    with tempfile.TemporaryDirectory() as folder:
        letters = args.letters or Path(folder) / "letters"
        if not letters.is_dir():
            note(learn_letters(letters, args.steps))
        for task in TASKS if args.task == "all" else [args.task]:
            frame = read_sequences(data_file(TASKS[task]))
            if "split" in frame:  # later promoters, without a class of their own
                frame = frame[frame["split"] == "train"]
            for seed in range(args.seeds):
                parts = train_test_split(
                    frame["sequence"].to_numpy(),
                    frame["label"].to_numpy(),
                    test_size=0.2,
                    stratify=frame["label"],
                    random_state=seed,
                )
                for row in compare(parts, letters, seed, args.max_epochs):
                    note({"task": task, "seed": seed} | row)


def learn_letters(path: Path, steps: int) -> dict[str, Any]:
    start = time.perf_counter()
    options = {
        "rc": "augment",
        "max_epochs": 5,
        "training_options": {"max_steps_per_epoch": steps // 5},
    }
    options |= {
        "batch_size": 16,
        "learning_rate": 3e-3,
        "model_options": {"dropout": 0.0},
        "random_state": 0,
    }
    model = TitansClassifier(**(PLAIN_DNA | SIZES | options))
    history = model.pretrain([data_file(g) for g in GENOMES], path, window=512)
    loss = round(history[-1]["validation_loss"], 4)
    seconds = round(time.perf_counter() - start, 1)
    return {"task": "letters", "nats_a_letter": loss, "seconds": seconds}


def compare(parts: list[np.ndarray], letters: Path, seed: int, max_epochs: int) -> Any:
    X, asked, y, wanted = parts
    # promoter sequences are aligned at the transcription start
    options = {"pooling": "flatten", "max_epochs": max_epochs, "random_state": seed}
    plain = PLAIN_DNA | SIZES | options
    models = {
        "pretrained": TitansClassifier(**plain, pretrained=letters),
        "from scratch": TitansClassifier(**plain),
        "gapped words": kmer_classifier(k=6, gaps=2, both_strands=False),
    }
    for name, model in models.items():
        start = time.perf_counter()
        predicted = model.fit(X, y).predict(asked)
        yield {
            "model": name,
            "mcc": round(matthews_corrcoef(wanted, predicted), 4),
            "accuracy": round(accuracy_score(wanted, predicted), 4),
            "f1": round(f1_score(wanted, predicted, average="macro"), 4),
            "seconds": round(time.perf_counter() - start, 1),
        }


if __name__ == "__main__":
    main()
