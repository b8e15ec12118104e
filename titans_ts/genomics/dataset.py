"""Sequences and their targets as batches for training and validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from titans_ts.genomics.inference import BATCH_TOKENS
from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.genomics.parse import Codes
from titans_ts.nn.dna.nucleotides import pad_codes
from titans_ts.training import cut_by_length

__all__ = ["MAX_COUNTS", "SequenceDataset"]

MAX_COUNTS = 200_000_000
"""Approximate largest number of k-mers that a k-mer model counts. If the sequences have more, a random
part of them is counted."""


class SequenceDataset:
    """Sequences and their targets; indexing returns a padded batch.

    Parameters
    ----------
    sequences : list of ndarray
        Codes `[T]` of N sequences.
    target : ndarray
        `[N, ...]`; NaN is missing.
    max_length : int, optional
        Maximum number of letters (default: no limit). Only a part of a longer sequence is read.
    generator : torch.Generator, optional
        Draws the start of that part for each batch; default: the middle part is read.
    """

    def __init__(
        self,
        sequences: list[Codes],
        target: NDArray[Any],
        max_length: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.sequences, self.target = sequences, target
        self._max_length, self._generator = max_length, generator
        self.lengths = [min(len(s), max_length or len(s)) for s in sequences]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        codes, lengths = pad_codes([self._part(self.sequences[i]) for i in indices])
        return codes, lengths, torch.from_numpy(self.target[indices])

    def take(self, chosen: NDArray[np.int64]) -> SequenceDataset:
        """Return the sequences with these indices."""
        return SequenceDataset([self.sequences[i] for i in chosen], self.target[chosen])

    def has_target(self) -> NDArray[np.bool_]:
        """Return a mask `[N]` of the sequences with a target that is not missing."""
        known: NDArray[np.bool_] = ~np.isnan(self.target.reshape(len(self), -1)).all(1)
        return known

    def subsample(self, most: int, seed: int) -> SequenceDataset:
        """Return the whole data set, or `most` sequences drawn at random."""
        if len(self) <= most:
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:most]))

    def subsample_for_counts(
        self, counter: KmerVectorizer, classes: bool, seed: int
    ) -> SequenceDataset:
        """Return random sequences that together have at most `MAX_COUNTS` k-mers.

        With classes, one sequence of each class is drawn first.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        first = np.unique(self.target[order], return_index=True)[1] if classes else np.array([0])
        order = np.concatenate([order[first], np.delete(order, first)])
        lengths = np.array([len(s) for s in self.sequences])
        counts = np.minimum(lengths, 4**counter.k) * counter.per_letter
        last = max(
            len(first), int(np.searchsorted(counts[order].cumsum(), MAX_COUNTS, side="right"))
        )
        return self.take(np.sort(order[:last]))

    def cropped(
        self, max_length: int | None, generator: torch.Generator | None = None
    ) -> SequenceDataset:
        """Return the data set with sequences of at most `max_length` letters."""
        return SequenceDataset(self.sequences, self.target, max_length, generator)

    def sorted_loader(self, batch_size: int, stride: int) -> Any:
        """Return a loader of batches, from the shortest sequences to the longest."""
        order = np.argsort(self.lengths, kind="stable")
        lengths = [-(-self.lengths[i] // stride) for i in order]
        chosen = [
            [int(order[j]) for j in cut] for cut in cut_by_length(lengths, batch_size, BATCH_TOKENS)
        ]
        dataset: Any = self
        return torch.utils.data.DataLoader(dataset, sampler=chosen, batch_size=None)

    def _part(self, codes: Codes) -> Codes:
        if self._max_length is None or len(codes) <= self._max_length:
            return codes
        start = (len(codes) - self._max_length) // 2
        if self._generator is not None:
            start = int(
                torch.randint(len(codes) - self._max_length + 1, (), generator=self._generator)
            )
        return codes[start : start + self._max_length]
