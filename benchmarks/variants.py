"""Whether a prediction notices a single letter: substitutions in a site against those beside it.

    python benchmarks/variants.py                      # both tasks, one seed
    python benchmarks/variants.py --tasks splice --models default "default, no backbone"
    python benchmarks/variants.py --markdown           # the table of the last run; measures nothing

Every substitution of held-out sequences is scored by the change of the log-odds of their class. It
should fall where a letter of the site changes. Reported is the area under the ROC curve between
substitutions in the site and those elsewhere, over all sequences; 0.5 is chance.

"planted": random sequences of 100 letters, half of which hold TGACGTCA in a random place; the others
hold it with one other letter, so that only whoever reads single letters can tell. "splice": UCI splice
junctions of 60 letters; the site are GT after a donor and AG before an acceptor.

"default" is `TitansClassifier()`, also without its k-mer model ("network alone") and without its network
("k-mers alone"); its controls are named in `controls.py`. "gapped words" is `kmer_classifier`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from controls import CONTROLS, alone
from dna_tasks import TASKS, splits
from numpy.typing import NDArray
from record import RESULTS, record
from sklearn.metrics import accuracy_score, roc_auc_score

from titans_ts import TitansClassifier
from titans_ts.genomics.baselines import kmer_classifier

MOTIF = "TGACGTCA"
MODELS = ("default", *(f"default, {name}" for name in CONTROLS), "gapped words")
ASKED = 200
"""Number of held-out sequences whose letters are substituted."""


class Data(NamedTuple):
    """Training sequences, and held-out ones with the place of their site; all of one length."""

    train: list[str]
    labels: NDArray[Any]
    test: list[str]
    wanted: NDArray[Any]
    sites: list[slice]
    """Of every held-out sequence; an empty one has no site."""


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
    return Data(rows[:n_train], labels[:n_train], rows[n_train:], labels[n_train:], sites[n_train:])


def splice(seed: int) -> Data:
    """Return one fold of UCI's splice junctions; the site are the two letters next to the junction.

    Sequences that are in the training part, too, are left out.
    """
    task = TASKS["uci_splice"]
    frame = task.read(argparse.Namespace())
    *_, (_, split) = splits(frame, task, seed + 1)
    train, test = (split[split["split"] == part] for part in ("train", "test"))
    test = test[~test["sequence"].isin(train["sequence"])]
    sites = {"EI": ("GT", slice(30, 32)), "IE": ("AG", slice(28, 30))}
    found = []
    for sequence, label in zip(test["sequence"], test["label"], strict=True):
        letters, site = sites.get(label, ("", slice(0)))
        found.append(site if label in sites and sequence[site] == letters else slice(0))
    return Data(
        train["sequence"].tolist(), train["label"].to_numpy(),
        test["sequence"].tolist(), test["label"].to_numpy(), found,
    )  # fmt: skip


DATA = {"planted": planted, "splice": splice}


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
    asked = [i for i, site in enumerate(data.sites) if site.stop > 0][:ASKED]
    changed, owner, inside = [], [], []
    for i in asked:
        sequence, site = data.test[i], data.sites[i]
        for place, letter in enumerate(sequence):
            for other in "ACGT".replace(letter, ""):
                changed.append(f"{sequence[:place]}{other}{sequence[place + 1 :]}")
                owner.append(i)
                inside.append(site.start <= place < site.stop)
    before = log_odds(model, data.test, data.wanted)[owner]
    fall = before - log_odds(model, changed, data.wanted[owner])
    truth = np.array(inside)
    return {
        "accuracy": round(float(accuracy_score(data.wanted, predicted)), 4),
        "auc": round(float(roc_auc_score(truth, fall)), 4),
        "fall_in_site": round(float(np.median(fall[truth])), 3),
        "fall_elsewhere": round(float(np.median(np.abs(fall[~truth]))), 3),
        "substitutions": len(fall),
    }


def show() -> None:
    """Print the table of the page."""
    print("| task | model | accuracy | AUC | fall in the site | change elsewhere | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for row in json.loads((RESULTS / "variants.json").read_text())["rows"]:
        numbers = (f"{row[name]:.3f}" for name in ("accuracy", "auc"))
        changes = (f"{row[name]:.2f}" for name in ("fall_in_site", "fall_elsewhere"))
        cells = [row["task"], row["model"], *numbers, *changes, f"{row['seconds']:.0f}"]
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
