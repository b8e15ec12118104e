"""Classify DNA sequences from a table, and check that the test is fair.

A CSV file has a sequence and a label in every row. Two such files, for training and for the test, are
read, compared for leakage (duplicates and near-duplicates), and classified; a linear model of k-mer
counts does the same. In one class, two short motifs stand in the one order, in the other class in the
other, so that counts of k-mers cannot distinguish them.

    python examples/09_dna_from_csv.py
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from titans_ts import NucleotideTokenizer, TitansClassifier
from titans_ts.datasets import check_splits, read_sequences
from titans_ts.genomics.baselines import kmer_classifier

MOTIFS = ["TGACGTCA", "GGGCGGGG"]


def write_table(path: Path, n: int, seed: int) -> None:
    """Write a CSV file of sequences with both motifs, in an order that is the label."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        first, second = MOTIFS if i % 2 else MOTIFS[::-1]
        parts = ["".join(rng.choice(list("ACGT"), rng.integers(8, 20))) for _ in range(3)]
        sequence = parts[0] + first + parts[1] + second + parts[2]
        rows.append({"sequence": sequence, "label": "one order" if i % 2 else "other order"})
    pd.DataFrame(rows).to_csv(path, index=False)


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "train.csv", 600, seed=0)
        write_table(Path(folder) / "test.csv", 200, seed=1)
        train = read_sequences(Path(folder) / "train.csv")  # columns sequence and label
        test = read_sequences(Path(folder) / "test.csv")

    findings = check_splits(train["sequence"], train["label"], test["sequence"], test["label"])
    print(f"problems of the two files: {len(findings)}")

    classifier = TitansClassifier(
        variant="mag",
        d_model=16,
        n_layers=1,
        n_heads=2,
        tokenizer=NucleotideTokenizer(kernel_size=8),
        kmer_model=None,
        max_epochs=20,
        batch_size=32,
        learning_rate=1e-2,
        random_state=0,
        progress_bar=False,
    )
    classifier.fit(train["sequence"], train["label"])
    counts = kmer_classifier(k=6).fit(train["sequence"], train["label"])
    print(f"accuracy of k-mer counts: {counts.score(test['sequence'], test['label']):.1%}")
    accuracy = classifier.score(test["sequence"], test["label"])
    print(f"accuracy of the classifier: {accuracy:.1%} (chance 50.0%)")


if __name__ == "__main__":
    main()
