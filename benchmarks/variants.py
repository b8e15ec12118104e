"""Whether a prediction notices a single letter: substitutions in a site against those beside it.

    python benchmarks/variants.py                      # all tasks, one seed
    python benchmarks/variants.py --tasks splice --models default "default, no backbone"
    python benchmarks/variants.py --markdown           # the table of the last run; measures nothing

A substitution in a held-out sequence is scored by the change of the log-odds of its class. It should
fall where a letter of the site changes. Reported is the area under the ROC curve between substitutions
in the site and those elsewhere, over all sequences; 0.5 is chance.

"planted": random sequences of 100 letters, half of which hold TGACGTCA in a random place; the others
hold it with one other letter, so that only whoever reads single letters can tell. "splice": UCI splice
junctions of 60 letters; the site are GT after a donor and AG before an acceptor. In both, every
substitution is made. "worm": the splice junctions of the first percent of every chromosome of C. elegans
(60 letters each, and four times as many others with GT or AG), and the variants that were found in
worms. One half of the chromosomes is trained on, and the variants in junctions of the other half are
scored: those in the site break it, those elsewhere seldom do. Even seeds hold out one half, odd seeds
the other.

"default" is `TitansClassifier()`, also without its k-mer model ("network alone") and without its network
("k-mers alone"); its controls are named in `controls.py`. "gapped words" is `kmer_classifier`.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from controls import CONTROLS, alone
from dna_tasks import TASKS, splits
from numpy.typing import NDArray
from record import RESULTS, data_file, record
from sklearn.metrics import accuracy_score, roc_auc_score

from titans_ts import TitansClassifier
from titans_ts.datasets import Genome, read_regions, read_variants, reverse_complement
from titans_ts.genomics.baselines import kmer_classifier

MOTIF = "TGACGTCA"
MODELS = ("default", *(f"default, {name}" for name in CONTROLS), "gapped words")
ASKED = 200
"""Number of held-out sequences whose letters are substituted."""
HALF = 30
"""Letters before and after a junction."""
SITES = {"donor": ("GT", slice(HALF, HALF + 2)), "acceptor": ("AG", slice(HALF - 2, HALF))}
"""Letters of a site, and where they are in a sequence."""


class Change(NamedTuple):
    """A held-out sequence with another letter."""

    owner: int
    """Number of the held-out sequence."""
    sequence: str
    inside: bool
    """Whether the letter is one of the site."""


class Data(NamedTuple):
    """Training sequences, held-out ones, and changes of these; all of one length."""

    train: list[str]
    labels: NDArray[Any]
    test: list[str]
    wanted: NDArray[Any]
    changes: list[Change]


def substitutions(sequences: list[str], sites: list[slice]) -> list[Change]:
    """Return every substitution of the first sequences with a site; an empty slice is none."""
    asked = [i for i, site in enumerate(sites) if site.stop > 0][:ASKED]
    return [
        Change(i, substituted(sequences[i], place, other), sites[i].start <= place < sites[i].stop)
        for i in asked
        for place, letter in enumerate(sequences[i])
        for other in "ACGT".replace(letter, "")
    ]


def substituted(sequence: str, place: int, letter: str) -> str:
    return f"{sequence[:place]}{letter}{sequence[place + 1 :]}"


def planted(seed: int, n_train: int = 2000, n_test: int = 600) -> Data:
    """Return sequences with a motif, and with one that has another letter."""
    rng = np.random.default_rng(seed)
    n, length = n_train + n_test, 100
    rows, labels, sites = [], np.arange(n) % 2, []
    for label in labels:
        letters, place = (
            rng.choice(list("ACGT"), length),
            int(rng.integers(length - len(MOTIF) + 1)),
        )
        motif = list(MOTIF)
        if not label:
            at = int(rng.integers(len(MOTIF)))
            motif[at] = rng.choice([c for c in "ACGT" if c != MOTIF[at]])
        letters[place : place + len(MOTIF)] = motif
        rows.append("".join(letters))
        sites.append(slice(place, place + len(MOTIF)) if label else slice(0))
    changes = substitutions(rows[n_train:], sites[n_train:])
    return Data(rows[:n_train], labels[:n_train], rows[n_train:], labels[n_train:], changes)


def splice(seed: int) -> Data:
    """Return one fold of UCI's splice junctions; the site are the two letters next to the junction.

    Sequences that are in the training part, too, are left out.
    """
    task = TASKS["uci_splice"]
    frame = task.read(argparse.Namespace())
    *_, (_, split) = splits(frame, task, seed + 1)
    train, test = (split[split["split"] == part] for part in ("train", "test"))
    test = test[~test["sequence"].isin(train["sequence"])]
    sites = {"EI": SITES["donor"], "IE": SITES["acceptor"]}
    found = []
    for sequence, label in zip(test["sequence"], test["label"], strict=True):
        letters, site = sites.get(label, ("", slice(0)))
        found.append(site if label in sites and sequence[site] == letters else slice(0))
    return Data(
        train["sequence"].tolist(), train["label"].to_numpy(),
        test["sequence"].tolist(), test["label"].to_numpy(),
        substitutions(test["sequence"].tolist(), found),
    )  # fmt: skip


def worm(seed: int) -> Data:
    """Return splice junctions of half of the worm's chromosomes, and variants in those of the other."""
    folder = "genomics/genomes/C_elegans_1pct"
    genome = Genome(data_file(f"{folder}.fa.gz"))
    known = read_regions(data_file(f"{folder}.gff.gz"))
    known = known[known["feature"] == "intron"]
    taken = {site for intron in known.itertuples() for site in junctions(intron)}
    introns = known[known["source"] == "WormBase"]
    sites = sorted({site for intron in introns.itertuples() for site in junctions(intron)})
    names = [name for name in genome.lengths if name in set(introns["chrom"])]
    letters = {name: genome.fetch(name, 0, genome.lengths[name]).upper() for name in names}
    decoys = [site for site in lookalikes(letters) if site not in taken]
    chosen = np.random.default_rng(seed).permutation(len(decoys))[: 4 * len(sites)]
    found: dict[tuple[str, int], set[str]] = {}
    for variant in read_variants(data_file(f"{folder}_variants.vcf.gz")).itertuples():
        own = letters.get(variant.chrom, "")[variant.start : variant.start + 1]
        if own == variant.ref:
            found.setdefault((variant.chrom, variant.start), set()).add(variant.alt)
    rows: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
    changes = []
    for site in [*sites, *(decoys[i] for i in chosen)]:
        name, *_, kind = site
        sequence = window(letters, site)
        if len(sequence) < 2 * HALF:
            continue
        held_out = names.index(name) % 2 == seed % 2
        if held_out and site in taken:
            part = SITES[kind][1]
            changes += [
                Change(
                    len(rows[True]),
                    substituted(sequence, place, letter),
                    part.start <= place < part.stop,
                )
                for place, letter in near(found, site)
            ]
        rows[held_out].append((sequence, kind if site in taken else "none"))
    (train, labels), (test, wanted) = (zip(*rows[part], strict=True) for part in (False, True))
    return Data(list(train), np.array(labels), list(test), np.array(wanted), changes)


def junctions(intron: Any) -> list[tuple[str, int, str, str]]:
    """Return chromosome, middle, strand and kind of the two ends of an intron."""
    kinds = ("donor", "acceptor") if intron.strand == "+" else ("acceptor", "donor")
    ends = zip((intron.start, intron.end), kinds, strict=True)
    return [(intron.chrom, end, intron.strand, kind) for end, kind in ends]


def lookalikes(letters: dict[str, str]) -> list[tuple[str, int, str, str]]:
    """Return every place, on either strand, that has the letters of a site."""
    return [
        (name, match.start() + (0 if (kind == "donor") == (strand == "+") else 2), strand, kind)
        for name, text in letters.items()
        for strand in "+-"
        for kind, (pair, _) in SITES.items()
        for match in re.finditer(pair if strand == "+" else reverse_complement(pair), text)
    ]


def window(letters: dict[str, str], site: tuple[str, int, str, str]) -> str:
    """Return the letters around a site, on its strand; fewer at the end of a chromosome."""
    name, middle, strand, _ = site
    sequence = letters[name][max(0, middle - HALF) : middle + HALF]
    return reverse_complement(sequence) if strand == "-" else sequence


def near(
    found: dict[tuple[str, int], set[str]], site: tuple[str, int, str, str]
) -> Iterator[tuple[int, str]]:
    """Yield the place in the window of a site, and the letter there, of every variant."""
    name, middle, strand, _ = site
    for i in range(2 * HALF):
        for letter in sorted(found.get((name, middle - HALF + i), ())):
            yield (i, letter) if strand == "+" else (2 * HALF - 1 - i, reverse_complement(letter))


DATA = {"planted": planted, "splice": splice, "worm": worm}


def contenders(seed: int, only: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the models by name, not yet fitted."""
    for name in only:
        if name == "gapped words":
            yield name, kmer_classifier(6, gaps=2)
            continue
        options = CONTROLS.get(name.removeprefix("default, "), {})
        yield name, TitansClassifier(random_state=seed, progress_bar=False).set_params(**options)


def fitted(data: Data, seed: int, only: list[str]) -> Iterator[tuple[str, Any, float]]:
    """Yield every fitted model with its CPU seconds, and the parts of one that has two."""
    for name, model in contenders(seed, only):
        start = time.process_time()
        model.fit(data.train, data.labels)
        yield name, model, time.process_time() - start
        for part, other in alone(model):
            yield f"{name}, {part}", other, 0.0


def log_odds(model: Any, sequences: list[str], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the log-odds of every sequence's class."""
    shares = model.predict_proba(sequences)
    own = shares[np.arange(len(labels)), np.searchsorted(model.classes_, labels)]
    own = np.clip(own, 1e-12, 1 - 1e-12)
    return np.log(own / (1 - own))


def sensitivity(model: Any, data: Data) -> dict[str, float]:
    """Return the accuracy, and how far substitutions in sites and elsewhere lower the log-odds."""
    predicted = model.predict(data.test)
    owners, changed, inside = map(list, zip(*data.changes, strict=True))
    before = log_odds(model, data.test, data.wanted)[owners]
    fall = before - log_odds(model, changed, data.wanted[owners])
    truth = np.array(inside)
    return {
        "accuracy": round(float(accuracy_score(data.wanted, predicted)), 4),
        "auc": round(float(roc_auc_score(truth, fall)), 4),
        "fall_in_site": round(float(np.median(fall[truth])), 3),
        "fall_elsewhere": round(float(np.median(np.abs(fall[~truth]))), 3),
        "substitutions": len(fall),
        "in_site": int(truth.sum()),
    }


def show() -> None:
    """Print the table of the page, means over the seeds."""
    print("| task | model | accuracy | AUC | fall in the site | change elsewhere | CPU s |")
    print("|---|---|---|---|---|---|---|")
    rows = pd.DataFrame(json.loads((RESULTS / "variants.json").read_text())["rows"])
    means = rows.groupby(["task", "model"], sort=False).mean()
    for (task, model), row in means.iterrows():
        numbers = (f"{row[name]:.3f}" for name in ("accuracy", "auc"))
        changes = (f"{row[name]:.2f}" for name in ("fall_in_site", "fall_elsewhere"))
        cells = [task, model, *numbers, *changes, f"{row['seconds']:.0f}"]
        print(f"| {' | '.join(cells)} |")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", action="store_true", help="show the saved results")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.markdown:
        show()
        return
    path = RESULTS / "variants.json"
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    for task in args.tasks:
        data = DATA[task](args.seed)
        for name, model, seconds in fitted(data, args.seed, args.models):
            row = {"task": task, "model": name, "seed": args.seed, **sensitivity(model, data)}
            row["seconds"] = round(seconds, 1)
            key = ("task", "model", "seed")
            rows = [old for old in rows if any(old[k] != row[k] for k in key)] + [row]
            print(json.dumps(row), flush=True)
            record("variants", "python benchmarks/variants.py", rows)


if __name__ == "__main__":
    main()
