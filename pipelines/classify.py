"""The classification job: fit, compare with words and with guessing on what was held out, predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, matthews_corrcoef
from sklearn.model_selection import train_test_split

from titans_ts.datasets import check_splits
from titans_ts.dna_baselines import kmer_classifier
from titans_ts.estimators import TitansClassifier
from titans_ts.files import replace_file

__all__ = ["ClassifyJob", "run_classify", "write_classify"]


@dataclass(frozen=True)
class ClassifyJob:
    """What a classification came to."""

    predictions: pd.DataFrame
    """Of every test sequence: its other columns, `predicted`, and a probability for every class."""
    scores: pd.DataFrame | None
    """Rows titans, k-mers (a linear model of words) and commonest class, columns accuracy and mcc; None
    without test labels."""
    findings: pd.DataFrame | None
    """What :func:`titans_ts.datasets.check_splits` found, or None without test labels."""
    held_out: bool
    """Whether the test part was taken from the training part."""
    classifier: TitansClassifier
    """The fitted model."""


def run_classify(
    train: pd.DataFrame,
    test: pd.DataFrame | None,
    classifier: TitansClassifier,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> ClassifyJob:
    """Fit on labelled sequences, and answer for others.

    Parameters
    ----------
    train, test : DataFrame
        As :func:`titans_ts.datasets.read_sequences` gives them. Without a test part, one is held out; if
        it has labels, the answers are compared with them.
    classifier : TitansClassifier
        Not yet fitted.
    test_fraction : float
        Share that is held out, where there is no test part.
    seed : int
        Of what is held out.

    Raises
    ------
    ValueError
        If `train` has no labels, or too few sequences.
    """
    if "label" not in train:
        raise ValueError(
            f"the training part has no column 'label'; it has {list(train.columns)} (see label_column)"
        )
    held_out = test is None
    if test is None:
        counts = train["label"].value_counts()
        train, test = train_test_split(
            train,
            test_size=test_fraction,
            random_state=seed,
            stratify=train["label"] if counts.min() >= 2 else None,
        )
    X, y = train["sequence"].to_numpy(), train["label"].to_numpy()
    classifier.fit(X, y)
    asked = test["sequence"].to_numpy()
    probabilities = classifier.predict_proba(asked)
    predicted = classifier.classes_[probabilities.argmax(1)]
    answers = test.drop(columns="sequence").assign(predicted=predicted)
    for i, label in enumerate(classifier.classes_):
        answers[f"p_{label}"] = probabilities[:, i]
    scores = findings = None
    if "label" in test:
        wanted = test["label"].to_numpy()
        gaps = (
            2 if train["sequence"].str.len().mean() < 2000 else 0
        )  # each gap takes time and memory
        words = kmer_classifier(k=6, gaps=gaps).fit(X, y).predict(asked)
        commonest = np.full(len(wanted), train["label"].mode()[0])
        told = {"titans": predicted, "k-mers": words, "commonest class": commonest}
        scores = pd.DataFrame(
            {
                name: {
                    "accuracy": accuracy_score(wanted, p),
                    "mcc": matthews_corrcoef(wanted, p),
                }
                for name, p in told.items()
            }
        ).T
        findings = check_splits(list(X), y, list(asked), wanted)
    return ClassifyJob(answers, scores, findings, held_out, classifier)


def write_classify(job: ClassifyJob, folder: str | Path) -> Path:
    """Write `predictions.csv`, and return where it is."""
    path = Path(folder) / "predictions.csv"
    content = job.predictions.to_csv(index_label="row", float_format="%.6g")
    replace_file(path, content.encode())
    return path
