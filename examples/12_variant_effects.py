"""Score the effects of variants, and see which letters matter.

A classifier learns a motif. A VCF file has variants of a genome: half of them within a site of the
motif, half beside it. The effect of a variant is the change of the score when its letters replace those
of the genome. The map of all substitutions of a sequence shows the motif itself.

    python examples/12_variant_effects.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from titans_ts import NucleotideTokenizer, TitansClassifier
from titans_ts.datasets import read_variants

MOTIF = "GCCACGTGGC"
WINDOW = 40


def random_letters(rng: np.random.Generator, n: int) -> str:
    """N letters."""
    return "".join(rng.choice(list("ACGT"), n))


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    rng = np.random.default_rng(0)
    sequences = [random_letters(rng, WINDOW) for _ in range(600)]
    for i in range(0, len(sequences), 2):
        place = rng.integers(WINDOW - len(MOTIF) + 1)
        letters = sequences[i]
        sequences[i] = letters[:place] + MOTIF + letters[place + len(MOTIF) :]
    labels = [1, 0] * (len(sequences) // 2)
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
    classifier.fit(sequences, labels)

    # A genome with a site every 200 letters; a variant in each site, and another one 60 letters on.
    genome = list(random_letters(rng, 8_000))
    lines, within = ["#CHROM\tPOS\tID\tREF\tALT"], []
    for start in range(100, len(genome) - 100, 200):
        genome[start : start + len(MOTIF)] = MOTIF
        for name, place in (("within", start + 4), ("beside", start + 60)):
            ref = genome[place]
            alt = "ACGT"[("ACGT".index(ref) + rng.integers(1, 4)) % 4]
            lines.append(f"chr1\t{place + 1}\t{name}\t{ref}\t{alt}")
            within.append(name == "within")
    with tempfile.TemporaryDirectory() as folder:
        fasta, vcf = Path(folder) / "genome.fa", Path(folder) / "variants.vcf"
        fasta.write_text(">chr1\n" + "".join(genome) + "\n")
        vcf.write_text("\n".join(lines) + "\n")
        variants = read_variants(vcf)
        effects = classifier.variant_effect(fasta, variants, window=WINDOW, label=1)
    print(effects.head(4).round(2).to_string(index=False))
    size, within = effects["effect"].abs(), np.array(within)
    print(f"\nmedian effect within a site: {size[within].median():.2f}")
    print(f"median effect beside one: {size[~within].median():.2f}")
    pairs = (size[within].to_numpy()[:, None] > size[~within].to_numpy()).mean()
    print(f"a variant within a site has the greater effect in {pairs:.0%} of all pairs")

    # All substitutions of one sequence: the letters that matter are those of the motif.
    sequence = random_letters(rng, 15) + MOTIF + random_letters(rng, 15)
    matters = np.abs(classifier.mutagenesis(sequence, label=1)).max(1)  # [T]
    print(sequence)
    print("".join("^" if value > matters.max() / 2 else " " for value in matters))


if __name__ == "__main__":
    main()
