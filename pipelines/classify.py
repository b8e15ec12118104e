"""The classification job: fit, compare with words and with guessing on what was held out, predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype, is_numeric_dtype
from sklearn.metrics import accuracy_score, matthews_corrcoef
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from titans_ts.datasets import check_splits
from titans_ts.datasets.atomic import replace_file
from titans_ts.genomics import TitansClassifier
from titans_ts.genomics.baselines import kmer_classifier

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
    groups: str | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    save: str | Path | None = None,
) -> ClassifyJob:
    """Fit on labelled sequences, and answer for others.

    Parameters
    ----------
    train, test : DataFrame
        As :func:`titans_ts.datasets.read_sequences` gives them. Without a test part, one is held out; if
        it has labels, the answers are compared with them.
    classifier : TitansClassifier
        Not yet fitted.
    groups : str, optional
        A column whose groups are not torn when a part is held out, to stop early by or to test.
    test_fraction : float
        Share that is held out, where there is no test part.
    seed : int
        Of what is held out.
    save : str or Path, optional
        Where to save the classifier, as soon as it is fitted.

    Raises
    ------
    ValueError
        If `train` has no labels, or too few sequences or groups, or `test` has labels of another kind.
    """
    if "label" not in train:
        raise ValueError(
            f"the training part has no column 'label'; it has {list(train.columns)} (see label_column)"
        )
    for name, part in (("training", train), ("test", test)):
        if part is not None and "label" in part and part["label"].isna().any():
            row = part.index[part["label"].isna()][0]
            raise ValueError(f"row {row} of the {name} part has no label; drop it or label it")
    held_out = test is None
    if groups is not None:
        fraction = classifier.options("training_options").validation_fraction
        _check_groups(train, groups, 1 + held_out + (fraction > 0))
    if test is None:
        train, test = _held_out(train, groups, test_fraction, seed)
    elif "label" in test:
        train, test = _of_one_kind(train, test)
    X, y = train["sequence"].to_numpy(), train["label"].to_numpy()
    classifier.fit(X, y, groups=None if groups is None else train[groups])
    if save is not None:
        classifier.save(save)
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


def _check_groups(frame: pd.DataFrame, groups: str, needed: int) -> None:
    """Raise ValueError unless every row has a group, and there are enough."""
    if groups not in frame:
        raise ValueError(f"groups are to be in column {groups!r}; there are {list(frame.columns)}")
    if frame[groups].isna().any():
        row = frame.index[frame[groups].isna()][0]
        raise ValueError(f"row {row} of the training part has no group in {groups!r}; give it one")
    if frame[groups].nunique() < needed:
        raise ValueError(
            f"column {groups!r} has {frame[groups].nunique()} groups, and it takes {needed}: to learn "
            "from, to stop early by, and to test with where there is no test part; give more, or none"
        )


def _of_one_kind(train: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same, with labels of text in both parts where one of them has text."""
    numbers = [is_numeric_dtype(part["label"]) for part in (train, test)]
    if numbers[0] == numbers[1]:
        return train, test
    parts = []
    for part in (train, test):
        labels = part["label"]
        if is_float_dtype(labels) and (labels % 1 == 0).all():
            labels = labels.astype(np.int64)  # "1", and not "1.0"
        parts.append(part.assign(label=labels.astype(str)))
    some, others = (part["label"].unique().tolist() for part in parts)
    if not set(some) & set(others):
        raise ValueError(
            f"the training part has the labels {some[:5]} and the test part {others[:5]}, numbers in one "
            "and text in the other; write them alike"
        )
    return parts[0], parts[1]


def _held_out(
    frame: pd.DataFrame, groups: str | None, fraction: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A part to learn from and one to test with."""
    if groups is not None:
        split = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        kept, held_out = next(split.split(frame, groups=frame[groups]))
        return frame.iloc[kept], frame.iloc[held_out]
    counts = frame["label"].value_counts()
    enough = counts.min() >= 2 and int(fraction * len(frame)) >= len(counts)
    kept, held_out = train_test_split(
        frame,
        test_size=fraction,
        random_state=seed,
        stratify=frame["label"] if enough else None,
    )
    return kept, held_out


def write_classify(job: ClassifyJob, folder: str | Path) -> Path:
    """Write `predictions.csv`, and return where it is."""
    path = Path(folder) / "predictions.csv"
    content = job.predictions.to_csv(index_label="row", float_format="%.6g")
    replace_file(path, content.encode())
    return path
