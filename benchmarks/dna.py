"""Accuracy of DNA classification.

    python benchmarks/dna.py --task uci_splice

uci_splice: 3 190 sequences of 60 nucleotides, three classes (EI, IE, N), no official split; ten
stratified folds with a fixed seed. The sequences lie in `$TITANS_TS_DATA/genomics/splice`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from record import record
from sklearn.metrics import accuracy_score, matthews_corrcoef
from sklearn.model_selection import StratifiedKFold

from titans_ts import TitansClassifier

FILES = {"uci_splice": "genomics/splice/uci_splice_60bp.csv.gz"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", default="uci_splice", choices=sorted(FILES))
    parser.add_argument("--variant", default="mag")
    parser.add_argument("--max-epochs", type=int, default=12)
    parser.add_argument("--folds", type=int, default=10, help="how many of the ten to run")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    path = Path(os.environ.get("TITANS_TS_DATA", ".")) / FILES[args.task]
    frame = pd.read_csv(path, keep_default_na=False)
    sequences, labels = frame["sequence"].to_numpy(), frame["label"].to_numpy()
    command = (
        f"python benchmarks/dna.py --task {args.task} --variant {args.variant} "
        f"--max-epochs {args.max_epochs} --folds {args.folds}"
    )
    rows = []
    folds = StratifiedKFold(10, shuffle=True, random_state=0).split(sequences, labels)
    for fold, (train, test) in enumerate(folds):
        if fold == args.folds:
            break
        start = time.perf_counter()
        classifier = TitansClassifier(
            variant=args.variant, max_epochs=args.max_epochs, random_state=fold, progress_bar=False
        )
        classifier.fit(sequences[train], labels[train])
        predicted = classifier.predict(sequences[test])
        # 185 sequences occur more than once; those also in the training folds do not count here
        fresh = ~np.isin(sequences[test], sequences[train])
        rows.append(
            {
                "fold": fold,
                "accuracy": round(accuracy_score(labels[test], predicted), 4),
                "accuracy_without_duplicates": round(
                    accuracy_score(labels[test][fresh], predicted[fresh]), 4
                ),
                "mcc": round(matthews_corrcoef(labels[test], predicted), 4),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
        print(rows[-1], flush=True)
        written = record(f"dna-{args.task}-{args.variant}", command, rows)  # kept if interrupted
    for key in ("accuracy", "accuracy_without_duplicates", "mcc"):
        values = [row[key] for row in rows]
        print(f"{key} {np.mean(values):.4f} +- {np.std(values):.4f} over {len(values)} folds")
    print(written)


if __name__ == "__main__":
    main()
