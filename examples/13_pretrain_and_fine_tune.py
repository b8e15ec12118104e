"""Pretrain a language model on a genome, and fine-tune it on a few labels.

The genome has many copies of an element that no file describes. A model reads it without labels and
learns to predict the next letters. With its weights, which are kept (`freeze`), a classifier learns much
more from 60 labelled sequences than the same classifier without them.

    python examples/13_pretrain_and_fine_tune.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from titans_ts import TitansClassifier

ELEMENT = "GATTACAGGCATGCGCCACC"
LENGTH = 60


def random_letters(rng: np.random.Generator, n: int) -> str:
    """N letters."""
    return "".join(rng.choice(list("ACGT"), n))


def copy_of(element: str, rng: np.random.Generator) -> str:
    """An element of which some letters have changed."""
    letters = [str(rng.choice(list("ACGT"))) if rng.random() < 0.2 else c for c in element]
    return "".join(letters)


def make_sequences(n: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Sequences, half of them with a copy of the element."""
    sequences = []
    for i in range(n):
        letters = random_letters(rng, LENGTH)
        place = rng.integers(LENGTH - len(ELEMENT))
        if i % 2:
            copy = copy_of(ELEMENT, rng)
            letters = letters[:place] + copy + letters[place + len(copy) :]
        sequences.append(letters)
    return sequences, [i % 2 for i in range(n)]


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    rng = np.random.default_rng(0)
    parts = [random_letters(rng, 20) + copy_of(ELEMENT, rng) for _ in range(1500)]
    few, few_labels = make_sequences(60, rng)
    test, truth = make_sequences(400, rng)
    settings = {
        "variant": "lmm",
        "d_model": 32,
        "n_layers": 1,
        "n_heads": 2,
        "tokenizer": "nucleotide",
        "stride": 1,
        "position": False,
        "rc": "none",
        "kmer_model": None,
        "batch_size": 8,
        "random_state": 0,
        "progress_bar": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        genome, model = Path(folder) / "genome.fa", Path(folder) / "language_model"
        genome.write_text(">chr1\n" + "".join(parts) + "\n")
        learner = TitansClassifier(max_epochs=8, learning_rate=5e-3, **settings)
        history = learner.pretrain(genome, model, window=120)
        loss = history[-1]["validation_loss"]
        print(f"pretrained: {loss:.3f} nats per letter (random letters: 1.386)")

        scores = {}
        for name, start in (
            ("pretrained", {"pretrained": model, "freeze": "backbone"}),
            ("from scratch", {}),
        ):
            classifier = TitansClassifier(
                pooling="attention", max_epochs=20, learning_rate=1e-2, **start, **settings
            )
            scores[name] = classifier.fit(few, few_labels).score(test, truth)
            print(f"accuracy after {len(few)} labels, {name}: {scores[name]:.1%}")
    gain = 100 * (scores["pretrained"] - scores["from scratch"])
    print(f"pretraining adds {gain:.1f} points")


if __name__ == "__main__":
    main()
