"""Baselines for DNA: linear models of k-mers, and a small convolutional network."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from titans_ts.genomics.classifier import TitansClassifier
from titans_ts.genomics.kmer_model import STRENGTHS, KmerRegression
from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.genomics.options import ConvTokenizer
from titans_ts.genomics.splitting import ClassKeepingSplit

__all__ = ["cnn_classifier", "kmer_classifier"]


def kmer_classifier(
    k: int = 6,
    gaps: int = 0,
    both_strands: bool = True,
    C: float | None = None,
    model: str = "logistic",
) -> Pipeline:
    """Return a scikit-learn pipeline: a linear model of k-mer counts, for sequences of any length.

    Parameters
    ----------
    k, gaps, both_strands
        As for :class:`titans_ts.genomics.kmers.KmerVectorizer`.
    C : float, optional
        Inverse strength of the regularisation. By default, the best of 1, 3, 10, ..., 3000 (for "svm" of
        0.1 to 10) on a random fifth of the sequences, which is held out; the search stops at the first
        that is worse than the one before. Many weak k-mers need strong regularisation, a clear motif or
        long sequences little.
    model : {"logistic", "svm"}
        Logistic regression (default), or a linear support-vector machine, which has no probabilities.

    Raises
    ------
    ValueError
        If the model is unknown.

    Examples
    --------
    >>> sequences = ["ACGTTGCA", "TTTTTTTT", "ACGTTGCAAC", "TTTTTT"] * 3
    >>> kmer_classifier(k=3).fit(sequences, [0, 1] * 6).predict(["TTTTTTT", "CGTTGC"]).tolist()
    [1, 0]
    """
    models = {
        "logistic": (KmerRegression(), 1.0, _likelihood),
        "svm": (LinearSVC(), 0.1, "accuracy"),
    }
    if model not in models:
        raise ValueError(f"model is {model!r}; choose one of {list(models)}")
    linear, least, score = models[model]
    if C is None:
        strengths = STRENGTHS[:5] if model == "svm" else STRENGTHS
        choices = {"C": [least * strength for strength in strengths]}
        held_out = ClassKeepingSplit(1, test_size=0.2, random_state=0)
        linear = _BestHeldOut(linear, choices, scoring=score, cv=held_out)
    else:
        linear.set_params(C=C)
    return make_pipeline(KmerVectorizer(k, gaps, both_strands, merged=True), Normalizer(), linear)


class _BestHeldOut(GridSearchCV):
    """The model that scores best on the held-out part; its `score` is always the accuracy.

    The most regularised is tried first, and none after one that is worse: less regularisation only
    overfits, and takes the longest.
    """

    def _run_search(self, evaluate_candidates: Any) -> None:
        best = -np.inf
        for candidate in ParameterGrid(self.param_grid):
            score = evaluate_candidates([candidate])["mean_test_score"][-1]
            if score < best:
                break
            best = score

    def score(self, X: Any, y: Any = None, **params: Any) -> float:
        """Return the accuracy, as every classifier does."""
        return float(self.best_estimator_.score(X, y, **params))


def _likelihood(model: KmerRegression, X: Any, y: Any) -> float:
    """Mean log-likelihood; scikit-learn's "neg_log_loss" needs every class in the held-out part."""
    return -float(log_loss(y, model.predict_proba(X), labels=model.classes_))


def cnn_classifier(
    n_filters: int = ConvTokenizer.n_filters, kernel_size: int | None = None, **params: Any
) -> TitansClassifier:
    """Return a small convolutional network: motif filters, linear map, maximum pooling, linear head.

    It is a :class:`titans_ts.TitansClassifier` without a backbone (similar to Alipanahi et al.,
    "DeepBind", Nature Biotechnology 2015), a baseline that shows what memory and attention add.

    Parameters
    ----------
    n_filters, kernel_size
        As for :class:`titans_ts.ConvTokenizer`.
    **params
        As for :class:`titans_ts.TitansClassifier`, for instance `max_epochs`.

    Examples
    --------
    >>> sequences = ["ACGTTGCA", "TTTTTTTT", "ACGTTGCAAC", "TTTTTT"] * 8
    >>> cnn = cnn_classifier(n_filters=16, max_epochs=8, random_state=0, progress_bar=False)
    >>> cnn.fit(sequences, [0, 1] * 16).predict(["TTTTTTT", "CGTTGCA"]).tolist()
    [1, 0]
    """
    plain: dict[str, Any] = {
        "tokenizer": ConvTokenizer(n_filters=n_filters, kernel_size=kernel_size),
        "stride": 1,
        "position": True,
        "rc": "none",
        "kmer_model": None,
        "n_layers": 0,
        "pooling": "max",
        "learning_rate": 0.01,
    }
    return TitansClassifier(**(plain | params))
