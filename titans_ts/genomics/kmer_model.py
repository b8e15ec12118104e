"""Words that are counted beside a network: a linear model of them, and how much either is believed."""

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

from titans_ts.genomics.kmers import KmerCounts
from titans_ts.training import target_loss

__all__ = ["STRENGTHS", "CountedWords", "learn_words", "word_regression"]

_TENSORS = ("weight", "bias", "shares")
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""How little the linear model is held back: C of a logistic regression, 10 / alpha of a ridge."""


@dataclass(frozen=True)
class CountedWords:
    """A linear model of how often every word occurs, beside a network.

    Parameters
    ----------
    counter : KmerCounts
        Which words are counted; counts of a sequence are scaled to a length of 1.
    weight, bias : ndarray
        `[n, n_features]` and `[n]`, for each of the network's n outputs.
    shares : ndarray
        `[2, n]`: how much of each output is the network's, and the words'.
    """

    counter: KmerCounts
    weight: NDArray[np.float32]
    bias: NDArray[np.float64]
    shares: NDArray[np.float64]

    def answers(self, sequences: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Logits or values `[N, n]` by the words alone, of N sequences of codes."""
        blocks = (normalize(counts, copy=False) for counts in self.counter.blocks(sequences))
        return np.concatenate([_answers(counts, self.weight, self.bias) for counts in blocks])

    def beside(
        self, network: NDArray[np.float64], sequences: Sequence[NDArray[np.uint8]]
    ) -> NDArray[np.float64]:
        """The answers `[N, n]` of both together."""
        return self.shares[0] * network + self.shares[1] * self.answers(sequences)

    def saved(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What :meth:`restored` makes it of again: which words, and tensors."""
        tensors = {f"words.{n}": torch.from_numpy(getattr(self, n)) for n in _TENSORS}
        return self.counter.get_params(), tensors

    @classmethod
    def restored(cls, counter: dict[str, Any], tensors: dict[str, Tensor]) -> CountedWords:
        """Undo :meth:`saved`."""
        return cls(KmerCounts(**counter), **{n: tensors[f"words.{n}"].numpy() for n in _TENSORS})


def learn_words(
    counter: KmerCounts,
    data: tuple[Sequence[NDArray[np.uint8]], NDArray[Any]],
    held_out: tuple[Sequence[NDArray[np.uint8]], NDArray[Any]],
    network: NDArray[np.float64],
    output: str,
    weight: NDArray[np.float64] | None = None,
    *,
    refit: bool = True,
) -> CountedWords:
    """Learn a linear model of words, as strong as what is held out wants it, and what either is worth.

    Labels and values are learned one by one.

    Parameters
    ----------
    counter : KmerCounts
        Which words are counted.
    data, held_out : tuple
        Codes of sequences, and what is wanted of them, as in :func:`titans_ts.training.sequence_loss`.
    network : ndarray
        The network's answers `[N, n]` for those held out, which it did not learn from.
    output : str
        What answers are: "classes", "labels" or "values".
    weight : ndarray, optional
        `[n]`, as for :func:`titans_ts.training.sequence_loss`.
    refit : bool
        Whether those held out are learned from, too, once they have told this.
    """
    counter.fit(data[0])
    counts, asked = (
        normalize(counter.transform(some), copy=False) for some in (data[0], held_out[0])
    )
    if output == "classes":
        if weight is not None:  # 1 in the mean, so that strengths and shares stay what they are
            weight = weight / weight[data[1]].mean()
        found = [_learned((counts, data[1]), (asked, held_out[1]), network, output, weight, refit)]
    else:
        found = [
            _learned(
                (counts, data[1][:, column]),
                (asked, held_out[1][:, column]),
                network[:, column],
                output,
                None if weight is None else weight[column],
                refit,
            )
            for column in (slice(i, i + 1) for i in range(network.shape[1]))
        ]
    weights, biases, shares = (np.concatenate(parts, -1) for parts in zip(*found, strict=True))
    return CountedWords(counter, np.ascontiguousarray(weights.T), biases, shares)


def _learned(
    data: tuple[csr_matrix, NDArray[Any]],
    held_out: tuple[csr_matrix, NDArray[Any]],
    network: NDArray[np.float64],
    output: str,
    weight: NDArray[np.float64] | None,
    refit: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Weights `[n_features, n]`, biases `[n]` and shares `[2, n]`."""
    asked, wanted = held_out[0], torch.from_numpy(held_out[1])
    weights = None if weight is None else torch.from_numpy(weight)

    def loss(answers: Tensor) -> Tensor:
        return target_loss(answers, wanted, output, weights)[0]

    n, least, chosen = network.shape[1], np.inf, 0.0
    for strength in STRENGTHS:
        model = _linear(*data, n, output, weight, strength)
        answers = _answers(asked, *model)
        missed = float(loss(torch.from_numpy(answers)))
        if missed >= least:
            break  # what is held back less only learns by heart
        best, told, least, chosen = model, answers, missed, strength
    both = torch.from_numpy(np.stack([network, told]))

    def missed_by(shares: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = torch.tensor(shares, requires_grad=True)
        # where few are held out, a half of each is as likely as what they say
        total = loss(torch.einsum("m,mnc->nc", x, both)) + (x - 0.5).square().sum() / len(wanted)
        total.backward()
        assert x.grad is not None
        return float(total.detach()), x.grad.numpy()

    shares = minimize(missed_by, [0.5, 0.5], jac=True, method="L-BFGS-B", bounds=[(0, None)] * 2).x
    if refit:
        everything = (vstack([data[0], asked], "csr"), np.concatenate([data[1], held_out[1]]))
        best = _linear(*everything, n, output, weight, chosen)
    return best[0].T, best[1], np.tile(shares[:, None], n)


def word_regression(C: float = 1.0) -> LogisticRegression:
    """A logistic regression on counts of words, which are small, and so are its gradients."""
    return LogisticRegression(C=C, tol=1e-6, max_iter=1000)


def _linear(
    counts: csr_matrix,
    wanted: NDArray[Any],
    n: int,
    output: str,
    weight: NDArray[np.float64] | None,
    strength: float,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Weights `[n, n_features]` and biases `[n]`, of one column but for classes."""
    coefficients, bias = np.zeros((n, counts.shape[1]), np.float32), np.zeros(n)
    rows = slice(1 if output == "classes" and n == 2 else 0, n)  # the odds of the second of two
    values, known = wanted.ravel(), ~np.isnan(wanted.ravel())
    if not known.any():
        return coefficients, bias
    if output == "labels" and values.min() == values.max():
        bias[:] = logit((values.sum() + 0.5) / (len(values) + 1))
        return coefficients, bias
    if output == "values":
        counts = counts if known.all() else counts[known]
        model = Ridge(alpha=10 / strength).fit(counts, values[known])
    else:
        each = None
        if weight is not None:
            each = weight[values] if output == "classes" else np.where(values > 0, weight, 1.0)
        model = word_regression(strength).fit(counts, values, sample_weight=each)
    coefficients[rows], bias[rows] = model.coef_, model.intercept_
    return coefficients, bias


def _answers(
    counts: csr_matrix, weight: NDArray[np.float32], bias: NDArray[np.float64]
) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (counts @ weight.T).astype(np.float64) + bias
    return found
