"""Baselines for DNA: linear models of words, and a small convolutional network. Beat these first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from titans_ts.estimators import TitansClassifier
from titans_ts.nn.nucleotides import encode_nucleotides

__all__ = ["KmerCounts", "cnn_classifier", "kmer_classifier"]


class KmerCounts(TransformerMixin, BaseEstimator):
    """How often each word of k letters occurs in a sequence, a few letters perhaps left out.

    With gaps, words of `k + gaps` letters are read, of which every choice of k letters, the first among
    them, counts (gapped k-mers: Ghandi et al., PLOS Computational Biology 2014).

    Parameters
    ----------
    k : int
        Letters of a word, at most 10.
    gaps : int
        Letters left out.
    both_strands : bool
        Whether the reverse complement's words are counted, too.

    Examples
    --------
    >>> KmerCounts(k=2, both_strands=False).fit_transform(["ACAC", "TTN"]).toarray().sum(1).tolist()
    [3.0, 1.0]
    """

    def __init__(self, k: int = 6, gaps: int = 0, both_strands: bool = True) -> None:
        self.k = k
        self.gaps = gaps
        self.both_strands = both_strands

    def fit(self, X: Any, y: Any = None) -> KmerCounts:
        """Nothing is learned.

        Raises
        ------
        ValueError
            If `k` or `gaps` cannot be used.
        """
        if not 1 <= self.k <= 10:
            raise ValueError(f"k is {self.k!r}; it must lie between 1 and 10")
        if self.gaps < 0:
            raise ValueError(f"gaps is {self.gaps!r}; it must not be negative")
        self.n_features_ = len(self._choices()) * 4**self.k
        return self

    def transform(self, X: Sequence[str]) -> csr_matrix:
        """Counts `[N, n_features_]` of N sequences; words with other letters than ACGT do not count."""
        columns, starts = [], [0]
        for sequence in X:
            codes = encode_nucleotides(sequence)
            found = self._words(codes)
            if self.both_strands:
                back = np.where(codes < 4, 3 - codes.astype(np.int64), 4)[::-1]
                found = np.concatenate([found, self._words(back)])
            columns.append(found)
            starts.append(starts[-1] + len(found))
        indices = np.concatenate(columns) if columns else np.empty(0, np.int64)
        shape = (len(starts) - 1, len(self._choices()) * 4**self.k)
        counts = csr_matrix((np.ones(len(indices), np.float32), indices, starts), shape=shape)
        counts.sum_duplicates()
        return counts

    def _choices(self) -> list[tuple[int, ...]]:
        rest = combinations(range(1, self.k + self.gaps), self.k - 1)
        return [(0, *places) for places in rest]

    def _words(self, codes: NDArray[Any]) -> NDArray[np.int64]:
        codes = codes.astype(np.int64)
        found = []
        for i, places in enumerate(self._choices()):
            n = len(codes) - places[-1]
            if n < 1:
                continue
            letters = np.stack([codes[p : p + n] for p in places])
            word = (letters * 4 ** np.arange(self.k)[:, None]).sum(0)
            found.append(word[(letters < 4).all(0)] + i * 4**self.k)
        return np.concatenate(found) if found else np.empty(0, np.int64)


def kmer_classifier(
    k: int = 6,
    gaps: int = 0,
    both_strands: bool = True,
    C: float | None = None,
    model: str = "logistic",
) -> Pipeline:
    """A linear model of the words of a sequence, whatever its length: scikit-learn's pipeline.

    Parameters
    ----------
    k, gaps, both_strands
        As for :class:`KmerCounts`.
    C : float, optional
        Inverse strength of the regularisation; default: 10, for "svm" 1.
    model : {"logistic", "svm"}
        Logistic regression, or a linear support-vector machine, which has no probabilities.

    Raises
    ------
    ValueError
        If the model is another.

    Examples
    --------
    >>> sequences = ["ACGTTGCA", "TTTTTTTT", "ACGTTGCAAC", "TTTTTT"] * 3
    >>> kmer_classifier(k=3).fit(sequences, [0, 1] * 6).predict(["TTTTTTT", "CGTTGC"]).tolist()
    [1, 0]
    """
    models = {
        "logistic": LogisticRegression(C=10.0 if C is None else C, max_iter=1000),
        "svm": LinearSVC(C=1.0 if C is None else C),
    }
    if model not in models:
        raise ValueError(f"model is {model!r}; choose one of {list(models)}")
    return make_pipeline(KmerCounts(k, gaps, both_strands), Normalizer(), models[model])


def cnn_classifier(**params: Any) -> TitansClassifier:
    """A small convolutional network: motif filters, the best match of each, a linear map.

    It is what :class:`titans_ts.TitansClassifier` is without its backbone (after Alipanahi et al.,
    "DeepBind", Nature Biotechnology 2015): what memory and attention add shows beside it.

    Parameters
    ----------
    **params
        Of :class:`titans_ts.TitansClassifier`, for instance `kernel_size`, `n_filters`, `max_epochs`.

    Examples
    --------
    >>> sequences = ["ACGTTGCA", "TTTTTTTT", "ACGTTGCAAC", "TTTTTT"] * 8
    >>> cnn = cnn_classifier(n_filters=16, max_epochs=8, random_state=0, progress_bar=False)
    >>> cnn.fit(sequences, [0, 1] * 16).predict(["TTTTTTT", "CGTTGCA"]).tolist()
    [1, 0]
    """
    plain: dict[str, Any] = {
        "tokenizer": "conv",
        "n_layers": 0,
        "read_out": "max",
        "learning_rate": 0.01,
    }
    return TitansClassifier(**(plain | params))
