"""A linear model of k-mer counts, ensembled with a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, issparse, vstack
from scipy.special import logit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import normalize
from torch import Tensor

from titans_ts.blas import one_blas_thread
from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.training import target_loss

__all__ = [
    "STRENGTHS",
    "FittedKmerModel",
    "KmerRegression",
    "LinearFit",
    "cross_validated_loss",
    "fit_kmer_model",
    "fit_linear",
    "mix",
]

Labelled = tuple[Sequence[NDArray[np.uint8]], NDArray[Any]]
"""Codes of sequences, and their targets `[N, ...]`."""
Counted = tuple[csr_matrix, NDArray[Any]]
"""Counts `[N, n_features]` of sequences, and their targets `[N, ...]`."""

_TENSORS = ("weight", "bias", "mixing_weights")
_FEW = 200
"""Up to this many sequences, the eigenvectors of their products take less time than they save: eight fits
of 60 sequences take .2 s instead of 1.2, and those of 300 as long as without."""
_ZERO = 1e-6
"""Smaller roots of eigenvalues, relative to the largest, are rounding errors."""
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Inverse regularisation strengths to try: C of a logistic regression, 10 / alpha of a ridge."""


@dataclass(frozen=True)
class FittedKmerModel:
    """A linear model of k-mer counts, and how it is combined with a network.

    Parameters
    ----------
    vectorizer : KmerVectorizer
        Counts the k-mers; the counts of a sequence are scaled to an l2-norm of 1.
    weight, bias : ndarray
        `[n, n_features]` and `[n]`, for each of the network's n outputs.
    mixing_weights : ndarray
        `[2, n]`: weights of the network's outputs, and of the k-mer model's.
    """

    vectorizer: KmerVectorizer
    weight: NDArray[np.float32]
    bias: NDArray[np.float64]
    mixing_weights: NDArray[np.float64]

    def logits(self, sequences: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return logits or values `[N, n]` of the k-mer model alone, for the codes of N sequences."""
        blocks = self.vectorizer.iter_transform(sequences)
        parts = (normalize(counts, copy=False) for counts in blocks)
        return np.concatenate([_linear_logits(counts, self.weight, self.bias) for counts in parts])

    def combine(
        self, network: NDArray[np.float64], sequences: Sequence[NDArray[np.uint8]]
    ) -> NDArray[np.float64]:
        """Combine the network's logits `[N, n]` with those of the k-mer model."""
        return self.mixing_weights[0] * network + self.mixing_weights[1] * self.logits(sequences)

    def unmerged(self) -> FittedKmerModel:
        """Return the same model with a weight for every k-mer, as without `merged`."""
        vectorizer = KmerVectorizer(**self.vectorizer.get_params() | {"merged": False})
        return replace(self, vectorizer=vectorizer, weight=self.vectorizer.unmerged(self.weight))

    def to_tensors(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the vectorizer's parameters, and the tensors, for :meth:`from_tensors`."""
        tensors = {f"kmer_model.{n}": torch.from_numpy(getattr(self, n)) for n in _TENSORS}
        return self.vectorizer.get_params(), tensors

    @classmethod
    def from_tensors(cls, params: dict[str, Any], tensors: dict[str, Tensor]) -> FittedKmerModel:
        """Undo :meth:`to_tensors`."""
        arrays = {n: tensors[f"kmer_model.{n}"].numpy() for n in _TENSORS}
        return cls(KmerVectorizer(**params), **arrays)


class LinearFit(NamedTuple):
    """A linear model of k-mer counts before it is combined with a network."""

    vectorizer: KmerVectorizer
    """Counts the k-mers."""
    weight: NDArray[np.float32]
    """`[n, n_features]` for n outputs; refitted on all sequences, if so wanted."""
    bias: NDArray[np.float64]
    """`[n]`."""
    held_out: NDArray[np.float64]
    """Outputs `[N, n]` for the held-out sequences, of the fit without them."""
    loss: float
    """Their loss, with the best regularisation; the mean over labels or values."""


def fit_linear(
    vectorizer: KmerVectorizer,
    data: Labelled,
    held_out: Labelled,
    output: str,
    n_outputs: int,
    weight: NDArray[np.float64] | None = None,
    *,
    refit: bool = True,
) -> LinearFit:
    """Fit a linear k-mer model, and choose its regularisation on the held-out set.

    Each label or value has a separate fit.

    Parameters
    ----------
    vectorizer : KmerVectorizer
        Counts the k-mers.
    data, held_out : tuple
        Codes of sequences, and their targets, as in :func:`titans_ts.training.sequence_loss`.
    output : str
        Kind of the outputs: "classes", "labels" or "values".
    n_outputs : int
        Number of classes, labels or values.
    weight : ndarray, optional
        `[n]`, as for :func:`titans_ts.training.sequence_loss`.
    refit : bool
        Whether to refit on all sequences after the regularisation is chosen (default True).
    """
    vectorizer.fit(data[0])
    parts = _scaled_counts(vectorizer, data), _scaled_counts(vectorizer, held_out)
    return LinearFit(vectorizer, *_fit_counts(*parts, output, n_outputs, weight, refit))


def cross_validated_loss(
    vectorizer: KmerVectorizer,
    data: Labelled,
    held_out: Labelled,
    output: str,
    n_outputs: int,
    weight: NDArray[np.float64] | None = None,
    *,
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]] = (),
) -> float:
    """Return the mean loss of sequences that a linear k-mer model did not read.

    These are the held-out ones and, if there are folds, those of `data` that each of them holds out.

    Parameters
    ----------
    vectorizer, data, held_out, output, n_outputs, weight
        As for :func:`fit_linear`.
    folds : sequence of tuple
        Indices of `data` to fit and to hold out.
    """
    vectorizer.fit(data[0])
    counts, target = _scaled_counts(vectorizer, data)
    parts = [((counts, target), _scaled_counts(vectorizer, held_out))]
    parts += [((counts[a], target[a]), (counts[b], target[b])) for a, b in folds]
    losses = [_fit_counts(*part, output, n_outputs, weight, False)[-1] for part in parts]
    return float(np.average(losses, weights=[len(held) for _, (_, held) in parts]))


def mix(
    linear: LinearFit,
    network: NDArray[np.float64],
    target: NDArray[Any],
    output: str,
    weight: NDArray[np.float64] | None = None,
) -> FittedKmerModel:
    """Fit the mixing weights of a linear model and a network on the held-out set.

    Parameters
    ----------
    linear : LinearFit
        The linear model.
    network : ndarray
        The network's logits `[N, n]` for the held-out sequences, which it was not trained on.
    target : ndarray
        Their targets `[N, ...]`.
    output, weight
        As for :func:`fit_linear`.
    """
    mixing = np.empty((2, network.shape[1]))
    for column, own in _outputs(output, network.shape[1], weight, target):
        chosen = slice(None) if output == "classes" else column[1]
        both = np.stack([network[:, chosen], linear.held_out[:, chosen]])
        mixing[:, chosen] = _mixing_weights(both, target[column], output, own)[:, None]
    return FittedKmerModel(linear.vectorizer, linear.weight, linear.bias, mixing)


def fit_kmer_model(
    vectorizer: KmerVectorizer,
    data: Labelled,
    held_out: Labelled,
    network: NDArray[np.float64],
    output: str,
    weight: NDArray[np.float64] | None = None,
    *,
    refit: bool = True,
) -> FittedKmerModel:
    """Fit a linear k-mer model and its mixing weights, as :func:`fit_linear` and :func:`mix` do."""
    n_outputs = network.shape[1]
    linear = fit_linear(vectorizer, data, held_out, output, n_outputs, weight, refit=refit)
    return mix(linear, network, held_out[1], output, weight)


def _scaled_counts(vectorizer: KmerVectorizer, data: Labelled) -> Counted:
    """Return the k-mer counts of sequences, scaled to an l2-norm of 1, and their targets."""
    return normalize(vectorizer.transform(data[0]), copy=False), data[1]


def _fit_counts(
    data: Counted,
    held_out: Counted,
    output: str,
    n_outputs: int,
    weight: NDArray[np.float64] | None,
    refit: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], float]:
    """Return what follows the vectorizer in a :class:`LinearFit`."""
    fits = []
    for column, own in _outputs(output, n_outputs, weight, data[1]):
        parts = (data[0], data[1][column]), (held_out[0], held_out[1][column])
        fits.append(_fitted(*parts, n_outputs if output == "classes" else 1, output, own, refit))
    weights, biases, logits, losses = zip(*fits, strict=True)
    return (
        np.concatenate(weights),
        np.concatenate(biases),
        np.concatenate(logits, 1),
        float(np.mean(losses)),
    )


def _outputs(
    output: str, n: int, weight: NDArray[np.float64] | None, target: NDArray[Any]
) -> Iterator[tuple[Any, Any]]:
    """Yield an index of the targets of every fit, and its weight."""
    if output == "classes":
        # a mean of 1 keeps the meaning of the strengths
        yield ..., None if weight is None else weight / weight[target].mean()
    else:
        for i in range(n):
            column = (slice(None), slice(i, i + 1))
            yield column, None if weight is None else weight[column[1]]


def _fitted(
    data: Counted,
    held_out: Counted,
    n: int,
    output: str,
    weight: NDArray[np.float64] | None,
    refit: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], float]:
    """Return weights `[n, n_features]`, biases `[n]`, held-out logits `[N, n]` and their loss."""
    target = torch.from_numpy(held_out[1])
    weights = None if weight is None else torch.from_numpy(weight)
    lowest, chosen = np.inf, 0.0
    model = None
    for strength in STRENGTHS:
        model = _linear(*data, n, output, weight, strength, model)
        logits = _linear_logits(held_out[0], *model)
        loss = float(target_loss(torch.from_numpy(logits), target, output, weights)[0])
        if loss >= lowest:
            break  # less regularisation only overfits
        best, best_logits, lowest, chosen = model, logits, loss, strength
    if refit:
        everything = (vstack([data[0], held_out[0]], "csr"), np.concatenate([data[1], held_out[1]]))
        best = _linear(*everything, n, output, weight, chosen, best)
    return *best, best_logits, lowest


def _mixing_weights(
    outputs: NDArray[np.float64],
    target: NDArray[Any],
    output: str,
    weight: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return the weights `[2]` of outputs `[2, N, n]` that have the lowest loss together."""
    both, wanted = torch.from_numpy(outputs), torch.from_numpy(target)
    weights = None if weight is None else torch.from_numpy(weight)

    def loss(mixing: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = torch.tensor(mixing, requires_grad=True)
        total = target_loss(torch.einsum("m,mnc->nc", x, both), wanted, output, weights)[0]
        # a prior of 0.5 for both, which matters if few sequences are held out
        total = total + (x - 0.5).square().sum() / len(wanted)
        total.backward()
        assert x.grad is not None
        return float(total.detach()), x.grad.numpy()

    options: dict[str, Any] = {"jac": True, "method": "L-BFGS-B", "bounds": [(0, None)] * 2}
    mixing: NDArray[np.float64] = minimize(loss, [0.5, 0.5], **options).x
    return mixing


class KmerRegression(LogisticRegression):
    """A logistic regression for k-mer counts; small counts need a small tolerance.

    For at most 200 sequences with four times as many k-mers, a smaller problem with the same solution
    is solved: the weights are a sum of the sequences' counts X, so with `X X^T = Z Z^T`, a model of the
    rows of Z has the same outputs and the same penalty.

    Parameters
    ----------
    C, tol, max_iter
        As for :class:`sklearn.linear_model.LogisticRegression`.
    """

    def __init__(self, C: float = 1.0, tol: float = 1e-6, max_iter: int = 1000) -> None:
        super().__init__(C=C, tol=tol, max_iter=max_iter)

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        start: tuple[NDArray[Any], NDArray[Any]] | None = None,
    ) -> KmerRegression:
        """Fit with one thread: more would share out sums over the k-mers, and wait for one another.

        `start` has weights `[n, n_features]` and biases `[n]` to begin with, such as those of another C.
        It is ignored for few sequences, whose problem is smaller.
        """
        self.warm_start = False
        with one_blas_thread():
            if not issparse(X) or X.shape[0] > min(_FEW, X.shape[1] / 4):
                if start is not None:
                    self.warm_start, (self.coef_, self.intercept_) = True, start
                super().fit(X, y, sample_weight)
                return self
            X = X.astype(np.float64)
            values, vectors = np.linalg.eigh((X @ X.T).toarray())
            root = np.sqrt(np.maximum(values, 0))
            super().fit(vectors * root, y, sample_weight)
            inverse = np.divide(1, root, where=root > _ZERO * root.max(), out=np.zeros_like(root))
            self.coef_ = (self.coef_ * inverse) @ vectors.T @ X
            self.n_features_in_ = X.shape[1]
        return self


def _linear(
    counts: csr_matrix,
    target: NDArray[Any],
    n: int,
    output: str,
    weight: NDArray[np.float64] | None,
    strength: float,
    start: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return weights `[n, n_features]` and biases `[n]`; n is 1 except for classes.

    A fit that starts at those of another, less or more regularised, takes half as many steps.
    """
    coefficients, bias = np.zeros((n, counts.shape[1]), np.float32), np.zeros(n)
    rows = slice(
        1 if output == "classes" and n == 2 else 0, n
    )  # two classes: only the second has weights
    values, known = target.ravel(), ~np.isnan(target.ravel())
    if not known.any():
        return coefficients, bias
    if output == "labels" and values.min() == values.max():
        bias[:] = logit((values.sum() + 0.5) / (len(values) + 1))
        return coefficients, bias
    if output == "values":
        counts = counts if known.all() else counts[known]
        with one_blas_thread():
            model = Ridge(alpha=10 / strength).fit(counts, values[known])
    else:
        sample_weight = None
        if weight is not None:
            by_class = output == "classes"
            sample_weight = weight[values] if by_class else np.where(values > 0, weight, 1.0)
        begin = None if start is None else (start[0][rows], start[1][rows])
        model = KmerRegression(strength).fit(counts, values, sample_weight, begin)
    coefficients[rows], bias[rows] = model.coef_, model.intercept_
    return coefficients, bias


def _linear_logits(
    counts: csr_matrix, weight: NDArray[np.float32], bias: NDArray[np.float64]
) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = (counts @ weight.T).astype(np.float64) + bias
    return logits
