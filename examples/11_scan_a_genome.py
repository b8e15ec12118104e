"""Scan a genome for a motif, and write a track for a genome browser.

A classifier learns a motif from labelled sequences. Then it slides along a genome, on both strands, and
scores every window; the scores are written as bedGraph. The windows with the highest scores are those
in which the motif was planted.

    python examples/11_scan_a_genome.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from titans_ts import NucleotideTokenizer, TitansClassifier
from titans_ts.datasets import reverse_complement

MOTIF = "TGACTCAGCA"
WINDOW, SITES = 40, 12


def random_letters(rng: np.random.Generator, n: int) -> str:
    """N letters."""
    return "".join(rng.choice(list("ACGT"), n))


def make_sequences(n: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Windows, half of them with the motif at a random place."""
    sequences, labels = [], []
    for i in range(n):
        letters = random_letters(rng, WINDOW)
        if i % 2:
            place = rng.integers(WINDOW - len(MOTIF) + 1)
            letters = letters[:place] + MOTIF + letters[place + len(MOTIF) :]
        sequences.append(letters)
        labels.append(i % 2)
    return sequences, labels


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    rng = np.random.default_rng(0)
    sequences, labels = make_sequences(600, rng)
    classifier = TitansClassifier(
        variant="mag",
        d_model=16,
        n_layers=1,
        n_heads=2,
        tokenizer=NucleotideTokenizer(kernel_size=8),
        rc="average",  # the same score for both strands
        kmer_model=None,
        max_epochs=20,
        batch_size=32,
        learning_rate=1e-2,
        random_state=0,
        progress_bar=False,
    )
    classifier.fit(sequences, labels)

    genome = list(random_letters(rng, 20_000))
    starts = np.sort(rng.choice(np.arange(10, len(genome) // 100), SITES, replace=False)) * 100
    for i, start in enumerate(starts):  # every other site is on the other strand
        genome[start : start + len(MOTIF)] = MOTIF if i % 2 else reverse_complement(MOTIF)

    with tempfile.TemporaryDirectory() as folder:
        fasta, track = Path(folder) / "genome.fa", Path(folder) / "scores.bedgraph"
        fasta.write_text(">chr1\n" + "".join(genome) + "\n")
        scores = classifier.scan(fasta, window=WINDOW, stride=20, label=1, out=track)
        print(f"{len(scores)} windows; the track has {len(track.read_text().splitlines())} lines")

    # A site of 10 letters lies in at least one window of 40, every 20 letters.
    found = set()
    for window in scores.nlargest(2 * SITES, "score").itertuples():
        inside = (starts >= window.start) & (starts + len(MOTIF) <= window.end)
        found.update(starts[inside].tolist())
    print(f"{len(found)} of {SITES} sites lie in the {2 * SITES} best windows")


if __name__ == "__main__":
    main()
