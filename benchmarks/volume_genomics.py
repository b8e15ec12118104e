"""Microseconds per window of a genome scan without the network, which is replaced by a stub.

    python benchmarks/volume_genomics.py [--windows 100000] [--length 200]

On one of two shared cores (median of 5 runs, 100 000 windows of 200 letters) it takes 1.0 us from the
file, 1.0 us from memory, and 1.1 us for each window and strand with both strands; the target is at most
5 us. It took 10 us before the windows stayed one array up to the scores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from controls import PLAIN_DNA

from titans_ts import TitansClassifier
from titans_ts.datasets import Genome

SMALL = {"d_model": 16, "n_heads": 2, "n_layers": 1, "random_state": 0, "progress_bar": False}


def stub_classifier():
    """Make a classifier whose network returns zeros without computation."""
    sequences = ["ACGTTGCA", "TTTTTTTT"] * 8
    classifier = TitansClassifier(max_epochs=1, **(PLAIN_DNA | SMALL)).fit(sequences, [0, 1] * 8)
    classifier.model_.forward = lambda codes, lengths: torch.zeros(len(codes), 2)
    return classifier


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--length", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    classifier, length = stub_classifier(), arguments.length
    letters = np.random.default_rng(0).choice(list("ACGT"), arguments.windows * 50 + length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genome.fa"
        path.write_text(">one\n" + "".join(letters) + "\n")
        for name, options in (
            ("from the file", {}),
            ("from memory", {"in_memory": True}),
            ("both strands", {"in_memory": True}),
        ):
            genome = Genome(path, **options)
            strand = "both" if name == "both strands" else "+"
            times = []
            for _ in range(5):
                start = time.perf_counter()
                n = len(classifier.scan(genome, window=length, stride=50, strand=strand))
                times.append(time.perf_counter() - start)
            print(
                f"scan {name}: {1e6 * statistics.median(times) / n:.2f} us a window ({n} windows)"
            )


if __name__ == "__main__":
    main()
