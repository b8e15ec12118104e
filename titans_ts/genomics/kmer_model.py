"""A linear model of k-mer counts, ensembled with a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, vstack
from scipy.special import logit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import normalize
from torch import Tensor

from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.training import target_loss

__all__ = ["STRENGTHS", "FittedKmerModel", "fit_kmer_model", "kmer_regression"]

_TENSORS = ("weight", "bias", "mixing_weights")
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
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

    def to_tensors(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the vectorizer's parameters, and the tensors, for :meth:`from_tensors`."""
        tensors = {f"kmer_model.{n}": torch.from_numpy(getattr(self, n)) for n in _TENSORS}
        return self.vectorizer.get_params(), tensors

    @classmethod
    def from_tensors(cls, params: dict[str, Any], tensors: dict[str, Tensor]) -> FittedKmerModel:
        """Undo :meth:`to_tensors`."""
        arrays = {n: tensors[f"kmer_model.{n}"].numpy() for n in _TENSORS}
        return cls(KmerVectorizer(**params), **arrays)


def fit_kmer_model(
    vectorizer: KmerVectorizer,
    data: tuple[Sequence[NDArray[np.uint8]], NDArray[Any]],
    held_out: tuple[Sequence[NDArray[np.uint8]], NDArray[Any]],
    network: NDArray[np.float64],
    output: str,
    weight: NDArray[np.float64] | None = None,
    *,
    refit: bool = True,
) -> FittedKmerModel:
    """Fit a linear k-mer model, choose its regularisation, and fit the mixing weights.

    Both use the held-out set. Each label or value has a separate fit.

    Parameters
    ----------
    vectorizer : KmerVectorizer
        Counts the k-mers.
    data, held_out : tuple
        Codes of sequences, and their targets, as in :func:`titans_ts.training.sequence_loss`.
    network : ndarray
        The network's logits `[N, n]` for the held-out sequences, which it was not trained on.
    output : str
        Kind of the outputs: "classes", "labels" or "values".
    weight : ndarray, optional
        `[n]`, as for :func:`titans_ts.training.sequence_loss`.
    refit : bool
        Whether to refit on all sequences after the regularisation is chosen (default True).
    """
    vectorizer.fit(data[0])
    counts, held_counts = (
        normalize(vectorizer.transform(part), copy=False) for part in (data[0], held_out[0])
    )
    if output == "classes":
        if weight is not None:  # a mean of 1 keeps the meaning of the strengths
            weight = weight / weight[data[1]].mean()
        fits = [
            _fitted((counts, data[1]), (held_counts, held_out[1]), network, output, weight, refit)
        ]
    else:
        fits = [
            _fitted(
                (counts, data[1][:, column]),
                (held_counts, held_out[1][:, column]),
                network[:, column],
                output,
                None if weight is None else weight[column],
                refit,
            )
            for column in (slice(i, i + 1) for i in range(network.shape[1]))
        ]
    weights, biases, mixing = (np.concatenate(parts, -1) for parts in zip(*fits, strict=True))
    return FittedKmerModel(vectorizer, np.ascontiguousarray(weights.T), biases, mixing)


def _fitted(
    data: tuple[csr_matrix, NDArray[Any]],
    held_out: tuple[csr_matrix, NDArray[Any]],
    network: NDArray[np.float64],
    output: str,
    weight: NDArray[np.float64] | None,
    refit: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return weights `[n_features, n]`, biases `[n]` and mixing weights `[2, n]`."""
    held_counts, target = held_out[0], torch.from_numpy(held_out[1])
    weights = None if weight is None else torch.from_numpy(weight)

    def loss(logits: Tensor) -> Tensor:
        return target_loss(logits, target, output, weights)[0]

    n, lowest, chosen = network.shape[1], np.inf, 0.0
    for strength in STRENGTHS:
        model = _linear(*data, n, output, weight, strength)
        logits = _linear_logits(held_counts, *model)
        held_out_loss = float(loss(torch.from_numpy(logits)))
        if held_out_loss >= lowest:
            break  # less regularisation only overfits
        best, best_logits, lowest, chosen = model, logits, held_out_loss, strength
    both = torch.from_numpy(np.stack([network, best_logits]))

    def mixing_loss(mixing: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = torch.tensor(mixing, requires_grad=True)
        # a prior of 0.5 for both, which matters if few sequences are held out
        total = loss(torch.einsum("m,mnc->nc", x, both)) + (x - 0.5).square().sum() / len(target)
        total.backward()
        assert x.grad is not None
        return float(total.detach()), x.grad.numpy()

    options: dict[str, Any] = {"jac": True, "method": "L-BFGS-B", "bounds": [(0, None)] * 2}
    mixing = minimize(mixing_loss, [0.5, 0.5], **options).x
    if refit:
        everything = (vstack([data[0], held_counts], "csr"), np.concatenate([data[1], held_out[1]]))
        best = _linear(*everything, n, output, weight, chosen)
    return best[0].T, best[1], np.tile(mixing[:, None], n)


def kmer_regression(C: float = 1.0) -> LogisticRegression:
    """Return a logistic regression for k-mer counts; small counts need a small tolerance."""
    return LogisticRegression(C=C, tol=1e-6, max_iter=1000)


def _linear(
    counts: csr_matrix,
    target: NDArray[Any],
    n: int,
    output: str,
    weight: NDArray[np.float64] | None,
    strength: float,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return weights `[n, n_features]` and biases `[n]`; n is 1 except for classes."""
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
        model = Ridge(alpha=10 / strength).fit(counts, values[known])
    else:
        sample_weight = None
        if weight is not None:
            by_class = output == "classes"
            sample_weight = weight[values] if by_class else np.where(values > 0, weight, 1.0)
        model = kmer_regression(strength).fit(counts, values, sample_weight=sample_weight)
    coefficients[rows], bias[rows] = model.coef_, model.intercept_
    return coefficients, bias


def _linear_logits(
    counts: csr_matrix, weight: NDArray[np.float32], bias: NDArray[np.float64]
) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = (counts @ weight.T).astype(np.float64) + bias
    return logits
