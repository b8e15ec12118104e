"""Classify regions of a genome from FASTA and BED, with whole chromosomes held out.

The regions of a BED file are sequences of a genome, on their strand. Here the regions named "island"
are rich in CG; the others are taken between them. One chromosome is for the test. Groups keep every
other chromosome on one side of the split when a part is held out for early stopping.

    python examples/10_fasta_and_bed.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from titans_ts import TitansClassifier
from titans_ts.datasets import FastaRegions, read_regions

LENGTH, REGIONS = 100, 80
"""Letters of a region, and number of regions of a chromosome."""


def write_genome(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Write a genome of four chromosomes and the regions in it."""
    rng = np.random.default_rng(seed)
    fasta, bed = folder / "genome.fa", folder / "regions.bed"
    with fasta.open("w") as letters, bed.open("w") as places:
        for chrom in ("chr1", "chr2", "chr3", "chr4"):
            letters.write(f">{chrom}\n")
            for i in range(REGIONS):
                island = i % 2 == 1
                shares = [0.2, 0.3, 0.3, 0.2] if island else [0.25, 0.25, 0.25, 0.25]
                letters.write("".join(rng.choice(list("ACGT"), LENGTH, p=shares)) + "\n")
                name, strand = ("island", "background")[not island], "+-"[rng.integers(2)]
                places.write(f"{chrom}\t{i * LENGTH}\t{(i + 1) * LENGTH}\t{name}\t0\t{strand}\n")
    return fasta, bed


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    with tempfile.TemporaryDirectory() as folder:
        fasta, bed = write_genome(Path(folder))
        frame = read_regions(bed)  # chrom, start, end, name, score, strand
        test = frame["chrom"] == "chr4"
        train_regions = FastaRegions(fasta, frame[~test])  # read lazily from the genome
        test_regions = FastaRegions(fasta, frame[test])

        classifier = TitansClassifier(max_epochs=4, random_state=0, progress_bar=False)
        classifier.fit(train_regions, frame["name"][~test], groups=frame["chrom"][~test])
        accuracy = classifier.score(test_regions, frame["name"][test])
        print(f"{len(train_regions)} regions to learn from, {len(test_regions)} on chr4")
        print(f"accuracy on chr4, which was not read before: {accuracy:.1%} (chance 50.0%)")
        print(f"the classifier has chosen: {classifier.chosen_}")

        # A region that reaches beyond its chromosome is refused, padded or dropped.
        over = frame.tail(1).assign(end=frame["end"].max() + 20)
        padded = FastaRegions(fasta, over, outside="pad")
        chance = classifier.predict_proba(padded)[0].max()
        print(f"20 letters beyond the end of chr4, padded: {chance:.2f}")


if __name__ == "__main__":
    main()
