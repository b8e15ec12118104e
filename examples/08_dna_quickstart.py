"""Learn to recognise a motif in DNA sequences of unequal lengths.

Makes its own data, so it needs no network: random sequences of 30 to 100 nucleotides, half of them
with the motif TGACGTCA (the binding site of the CREB family) at a random place. A small model learns to
distinguish them, and is tested on sequences it has not seen, against the share of the commoner class.

    python examples/08_dna_quickstart.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from titans_ts import NucleotideTokenizer, TitansClassifier

MOTIF = "TGACGTCA"


def make_sequences(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Random sequences, and "site" or "background" for each."""
    rng = np.random.default_rng(seed)
    sequences, labels = [], []
    for i in range(n):
        letters = rng.choice(list("ACGT"), size=rng.integers(30, 101))
        if i % 2:
            place = rng.integers(len(letters) - len(MOTIF) + 1)
            letters[place : place + len(MOTIF)] = list(MOTIF)
        sequences.append("".join(letters))
        labels.append("site" if i % 2 else "background")
    return sequences, labels


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    sequences, labels = make_sequences(600, seed=0)
    unseen, truth = make_sequences(200, seed=1)

    classifier = TitansClassifier(
        variant="mag",
        d_model=16,
        n_layers=1,
        n_heads=2,
        tokenizer=NucleotideTokenizer(kernel_size=len(MOTIF)),
        max_epochs=20,
        batch_size=32,
        learning_rate=1e-2,
        random_state=0,
        progress_bar=False,
    )
    classifier.fit(sequences, labels)

    chance = max(truth.count(label) for label in set(truth)) / len(truth)
    accuracy = classifier.score(unseen, truth)
    print(f"accuracy on {len(unseen)} unseen sequences: {accuracy:.1%} (chance {chance:.1%})")

    # One column a class, in the order of `classes_`; case does not matter, N is any nucleotide.
    probes = ["ACCATTAGCA" + MOTIF + "CATTGCAGGT", "accattagcannnnnnnncattgcaggt"]
    for probe, row in zip(probes, classifier.predict_proba(probes), strict=True):
        chances = ", ".join(
            f"{name} {p:.2f}" for name, p in zip(classifier.classes_, row, strict=True)
        )
        print(f"  {probe}: {chances}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "motif"
        classifier.save(path)
        again = TitansClassifier.load(path)
        same = np.array_equal(again.predict_proba(unseen), classifier.predict_proba(unseen))
    print(f"saved and loaded, it predicts the same: {same}")


if __name__ == "__main__":
    main()
