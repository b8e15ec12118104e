"""The classification job: fit, predict, and compare with k-mers and the most common class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_float_dtype, is_numeric_dtype
from sklearn.metrics import accuracy_score, matthews_corrcoef

from titans_ts.datasets import check_splits
from titans_ts.datasets.atomic import replace_file
from titans_ts.genomics import TitansClassifier
from titans_ts.genomics.baselines import kmer_classifier
from titans_ts.genomics.splitting import hold_out_fraction

__all__ = ["ClassifyJob", "run_classify", "write_classify"]


@dataclass(frozen=True)
class ClassifyJob:
    """The results of a classification."""

    predictions: pd.DataFrame
    """One row for each test sequence: its other columns, `predicted`, and a probability of each class."""
    scores: pd.DataFrame | None
    """Rows titans, k-mers (a linear k-mer model) and commonest class, columns accuracy and mcc; None
    without test labels."""
    findings: pd.DataFrame | None
    """The result of :func:`titans_ts.datasets.check_splits`, or None without test labels."""
    held_out: bool
    """Whether the test part was taken from the training part."""
    classifier: TitansClassifier
    """The fitted model."""
    sequences: NDArray[np.object_]
    """The test sequences."""


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
    """Fit a classifier on labelled sequences, and predict a test part.

    Parameters
    ----------
    train, test : DataFrame
        Sequences as :func:`titans_ts.datasets.read_sequences` returns them. If `test` is None, a part of
        `train` is held out. If the test part has labels, the predictions are compared with them.
    classifier : TitansClassifier
        The classifier to fit.
    groups : str, optional
        A column of groups (default: none); a group is never split between training, validation and
        test.
    test_fraction : float
        Share of `train` to hold out if `test` is None (default 0.2).
    seed : int
        Seed of this random draw (default 0).
    save : str or Path, optional
        Directory to save the fitted classifier to (default: it is not saved).

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
        rows, others = hold_out_fraction(
            train["label"], test_fraction, seed, None if groups is None else train[groups]
        )
        train, test = train.iloc[rows], train.iloc[others]
    elif "label" in test:
        train, test = _of_one_kind(train, test)
    X, y = train["sequence"].to_numpy(), train["label"].to_numpy()
    classifier.fit(X, y, groups=None if groups is None else train[groups])
    if save is not None:
        classifier.save(save)
    sequences = test["sequence"].to_numpy()
    probabilities = classifier.predict_proba(sequences)
    predicted = classifier.classes_[probabilities.argmax(1)]
    table = test.drop(columns="sequence").assign(predicted=predicted)
    for i, label in enumerate(classifier.classes_):
        table[f"p_{label}"] = probabilities[:, i]
    scores = findings = None
    if "label" in test:
        labels = test["label"].to_numpy()
        gaps = (
            2 if train["sequence"].str.len().mean() < 2000 else 0
        )  # each gap takes time and memory
        kmers = kmer_classifier(k=6, gaps=gaps).fit(X, y).predict(sequences)
        commonest = np.full(len(labels), train["label"].mode()[0])
        predictions = {"titans": predicted, "k-mers": kmers, "commonest class": commonest}
        scores = pd.DataFrame(
            {
                name: {
                    "accuracy": accuracy_score(labels, p),
                    "mcc": matthews_corrcoef(labels, p),
                }
                for name, p in predictions.items()
            }
        ).T
        findings = check_splits(list(X), y, list(sequences), labels)
    return ClassifyJob(table, scores, findings, held_out, classifier, sequences)


def _check_groups(frame: pd.DataFrame, groups: str, needed: int) -> None:
    """Raise ValueError unless every row has a group, and there are enough groups."""
    if groups not in frame:
        raise ValueError(
            f"groups is {groups!r}, which is not a column; choose one of {list(frame.columns)}"
        )
    if frame[groups].isna().any():
        row = frame.index[frame[groups].isna()][0]
        raise ValueError(f"row {row} of the training part has no group in {groups!r}; give it one")
    if frame[groups].nunique() < needed:
        raise ValueError(
            f"column {groups!r} has {frame[groups].nunique()} groups, but {needed} are needed: for "
            "training, for early stopping and, without a test part, for testing; give more or no groups"
        )


def _of_one_kind(train: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both parts; if the labels of one part are text, those of both become text."""
    numbers = [is_numeric_dtype(part["label"]) for part in (train, test)]
    if numbers[0] == numbers[1]:
        return train, test
    parts = []
    for part in (train, test):
        labels = part["label"]
        if is_float_dtype(labels) and (labels % 1 == 0).all():
            labels = labels.astype(np.int64)  # "1", and not "1.0"
        parts.append(part.assign(label=labels.astype(str)))
    first, second = (part["label"].unique().tolist() for part in parts)
    if not set(first) & set(second):
        raise ValueError(
            f"the training part has the labels {first[:5]} and the test part {second[:5]}, numbers in "
            "one and text in the other; use the same kind in both"
        )
    return parts[0], parts[1]


def write_classify(
    job: ClassifyJob, folder: str | Path, report: str | Path | None = None
) -> list[Path]:
    """Write `predictions.csv` and, with `report`, an HTML report, and return their paths."""
    files = {
        Path(folder) / "predictions.csv": job.predictions.to_csv(
            index_label="row", float_format="%.6g"
        )
    }
    if report is not None:
        from titans_ts.pipelines.dna.report import classify_page

        files[Path(report)] = classify_page(job)
    for path, content in files.items():
        replace_file(path, content.encode())
    return list(files)
