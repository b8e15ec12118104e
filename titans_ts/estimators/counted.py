"""Words that are counted beside a network: a linear model of them, and how much either is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

from titans_ts.training import answer_loss
from titans_ts.words import KmerCounts

__all__ = ["CountedWords", "learn_words"]

_TENSORS = ("weight", "bias", "shares")
_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
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
        `[2]`: how much the network's answer counts, and that of the words.
    """

    counter: KmerCounts
    weight: NDArray[np.float32]
    bias: NDArray[np.float64]
    shares: NDArray[np.float64]

    def answers(self, sequences: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Logits or values `[N, n]` by the words alone, of N sequences of codes."""
        return self._answers(_counted(self.counter, sequences))

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

    def _answers(self, counts: csr_matrix) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (counts @ self.weight.T).astype(np.float64) + self.bias
        return found


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
    counts, wanted = _counted(counter.fit(data[0]), data[0]), data[1]
    asked, told = _counted(counter, held_out[0]), torch.from_numpy(held_out[1])
    weights = None if weight is None else torch.from_numpy(weight)

    def loss(answers: Tensor) -> Tensor:
        return answer_loss(answers, told, output, weights)[0]

    n, halves = network.shape[1], np.array([0.5, 0.5])
    best, least, chosen = None, np.inf, 0.0
    for strength in _STRENGTHS:
        words = CountedWords(
            counter, *_linear(counts, wanted, n, output, weight, strength), shares=halves
        )
        missed = float(loss(torch.from_numpy(words._answers(asked))))
        if best is not None and missed >= least:
            break  # what is held back less only learns by heart
        best, least, chosen = words, missed, strength
    assert best is not None
    both = torch.from_numpy(np.stack([network, best._answers(asked)]))

    def missed_by(shares: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = torch.tensor(shares, requires_grad=True)
        # where few are held out, a half of each is as likely as what they say
        total = loss(torch.einsum("m,mnc->nc", x, both)) + (x - 0.5).square().sum() / len(told)
        total.backward()
        assert x.grad is not None
        return float(total.detach()), x.grad.numpy()

    shares = minimize(missed_by, halves, jac=True, method="L-BFGS-B", bounds=[(0, None)] * 2).x
    if not refit:
        return replace(best, shares=shares)
    everything = vstack([counts, asked], format="csr"), np.concatenate([wanted, held_out[1]])
    return CountedWords(counter, *_linear(*everything, n, output, weight, chosen), shares=shares)


def _counted(counter: KmerCounts, sequences: Sequence[NDArray[np.uint8]]) -> csr_matrix:
    counts: csr_matrix = normalize(counter.transform(list(sequences)), copy=False)
    return counts


def _linear(
    counts: csr_matrix,
    wanted: NDArray[Any],
    n: int,
    output: str,
    weight: NDArray[np.float64] | None,
    strength: float,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Weights `[n, n_features]` and biases `[n]`."""
    coefficients = np.zeros((n, counts.shape[1]), np.float32)
    bias = np.zeros(n)
    if output == "classes":
        model = LogisticRegression(C=strength, max_iter=1000)
        model.fit(counts, wanted, sample_weight=None if weight is None else weight[wanted])
        rows = slice(1, 2) if n == 2 else slice(n)  # of two classes, the odds of the second
        coefficients[rows], bias[rows] = model.coef_, model.intercept_
        return coefficients, bias
    for column, values in enumerate(wanted.T):
        known = ~np.isnan(values)
        if output == "labels" and values.min() == values.max():
            bias[column] = logit((values.sum() + 0.5) / (len(values) + 1))
            continue
        if output == "labels":
            model, some = LogisticRegression(C=strength, max_iter=1000), None
            if weight is not None:
                some = np.where(values > 0, weight[column], 1.0)
        else:
            model, some = Ridge(alpha=10 / strength), None
        model.fit(counts[known], values[known], sample_weight=some)
        coefficients[column], bias[column] = np.ravel(model.coef_), np.ravel(model.intercept_)[0]
    return coefficients, bias
