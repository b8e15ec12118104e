"""Pretrain the language model of DNA in the package, "dna-small", on genomes without labels.

    python benchmarks/pretrain_dna.py --out build/dna-small            # start, or go on
    python benchmarks/pretrain_dna.py --out build/none --layers 0      # a control: no backbone
    python benchmarks/pretrain_dna.py --out build/nowrite --no-write   # the memory never writes
    python benchmarks/pretrain_dna.py --out build/swa --variant swa    # attention alone

Half of the letters are genomes, or parts of them, of bacteria, yeast, worm, fly, thale cress and man; the
other half are the training parts of GUE's tasks of man and mouse, without their labels, joined by N.
They are read in windows of 256, of either strand; one letter in seven is hidden, and predicted from
what is before and after it. Training sequences of GUE that share 31 letters with a test sequence of
TESTED are left out (the tasks overlap: a fifth), as are E. coli and the chromosomes XI to XVI of yeast,
the development and the test part of `yeast_tss`. Of its test sequences, one in fifty recurs on another
chromosome.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from dna_tasks import TASKS
from record import data_file

from titans_ts import NucleotideTokenizer, TitansClassifier
from titans_ts.datasets import kmer_hashes

GENOMES = (
    "A_thaliana_1pct",
    "C_elegans_1pct",
    "D_melanogaster_1pct",
    "akkermansia_500kb",
    "hg38_chr22_32.0-32.3Mb",
    "salmonella_enterica_LT2",
    "shewanella_os185_500kb",
    "shewanella_os223_500kb",
    "sourmash_GCF_000783305",
    "yeast_R64",
)
HELD_OUT = ("XI", "XII", "XIII", "XIV", "XV", "XVI", "mammals_held_out")
MAMMALS = ("mouse_0", "mouse_1", "mouse_2", "mouse_3", "mouse_4", "tf_0", "tf_1", "tf_2", "tf_4")
MAMMALS += ("prom_300_tata", "prom_300_notata", "prom_core_notata", "splice_reconstructed")
TESTED = (*MAMMALS, "prom_core_tata", "ienhancer_1", "vista", "uci_splice")
TESTED += ("promoters_mouse", "human_nontata_foreign", "enhancers_cohn_foreign")
WINDOW, BATCH, STEPS_OF_EPOCH, SHARED = 256, 16, 500, 31


def without_labels(path: Path) -> Path:
    """Write the training sequences of tasks of man and mouse, joined, unless the file exists."""
    if not path.is_file():
        frames = {name: TASKS[name].read(argparse.Namespace()) for name in TESTED}
        tested: list[str] = []
        for frame in frames.values():  # without parts, every sequence is tested in some fold
            tests = frame[frame["split"] == "test"] if "split" in frame else frame
            tested += list(tests["sequence"])
        known = np.unique(np.concatenate([kmer_hashes(s, SHARED) for s in tested]))
        found: list[str] = []
        for name in MAMMALS:
            frame = frames[name]
            sequences = list(frame["sequence"][frame["split"] == "train"])
            hashes = [kmer_hashes(s, SHARED) for s in sequences]
            owner = np.repeat(np.arange(len(hashes)), [len(own) for own in hashes])
            leaks = np.zeros(len(sequences), bool)
            leaks[owner[np.isin(np.concatenate(hashes), known)]] = True
            found += [s for s, leak in zip(sequences, leaks, strict=True) if not leak]
            print(
                f"{name}: {leaks.mean():.3f} of the training part shares letters with a test part"
            )
        found = [found[i] for i in np.random.default_rng(0).permutation(len(found))]
        border = len(found) // 40
        parts = {"mammals_held_out": found[:border], "mammals": found[border:]}
        text = "".join(f">{name}\n{('N' * 8).join(part)}\n" for name, part in parts.items())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".tmp").write_text(text)
        path.with_suffix(".tmp").replace(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--epochs", type=int, default=11, help=f"of {STEPS_OF_EPOCH} steps")
    parser.add_argument("--variant", default="lmm")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--objective", default="masked")
    parser.add_argument("--no-write", action="store_true", help="control: the memory never writes")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = TitansClassifier(
        NucleotideTokenizer(kernel_size=11),
        position=False,
        rc="augment",
        bidirectional="none" if args.objective == "causal" else "shared",
        variant=args.variant,
        d_model=args.width,
        n_layers=args.layers,
        batch_size=BATCH,
        max_epochs=args.epochs,
        learning_rate=args.learning_rate,
        model_options={"dropout": 0.0, "memory": {"write": not args.no_write}},
        training_options={"max_steps_per_epoch": STEPS_OF_EPOCH, "patience": args.epochs},
        random_state=args.seed,
        device=args.device,
        progress_bar=False,
    )
    genomes = [data_file(f"genomics/genomes/{name}.fa.gz") for name in GENOMES]
    genomes.append(without_labels(args.out.parent / "mammals.fa"))
    start = time.process_time()
    history = model.pretrain(
        genomes, args.out, objective=args.objective, window=WINDOW, validation_contigs=HELD_OUT
    )
    for epoch in history:
        print(json.dumps(epoch))
    print(json.dumps({"cpu_seconds": round(time.process_time() - start)}))


if __name__ == "__main__":
    main()
