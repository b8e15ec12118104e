"""Batches cut by index: a data set is asked for many samples at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

__all__ = [
    "BatchedDataset",
    "StreamedDataset",
    "batches",
    "cut_by_length",
    "length_batches",
    "stream_batches",
]


class BatchedDataset(Protocol):
    """A data set that returns a whole batch for a list of indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: list[int]) -> Any: ...


class StreamedDataset(BatchedDataset, Protocol):
    """A data set that knows which sample follows another."""

    def following(self, indices: Tensor, skipped: Tensor) -> Tensor:
        """The sample that begins so many rows after each one's past, `[B]`; -1 where there is none."""


def batches(
    dataset: BatchedDataset,
    batch_size: int,
    generator: torch.Generator | None = None,
    *,
    most: int | None = None,
) -> DataLoader[Any]:
    """Iterate a data set in batches; in random order when a generator is given.

    Parameters
    ----------
    dataset : BatchedDataset
        `len(dataset)` samples, `dataset[list of int]` a batch of them.
    batch_size : int
        Samples in a batch; the last one may be smaller.
    generator : torch.Generator, optional
        Source of the random order; default: in order.
    most : int, optional
        Samples in a pass at most: of more, every pass has others drawn at random; without a generator,
        always the same at even distances.
    """
    source: Any = dataset
    sampler = _sampler(dataset, batch_size, generator, most)
    return DataLoader(source, sampler=sampler, batch_size=None)


def _sampler(
    dataset: BatchedDataset, batch_size: int, generator: torch.Generator | None, most: int | None
) -> BatchSampler:
    source: Any = dataset
    order: Any
    most = len(dataset) if most is None else most
    if generator is None:
        order = range(0, len(dataset), max(1, -(-len(dataset) // most)))
    elif len(dataset) <= most:
        order = RandomSampler(source, generator=generator)
    else:  # with replacement: an order of all would take memory of its own
        order = RandomSampler(source, replacement=True, num_samples=most, generator=generator)
    return BatchSampler(order, batch_size, drop_last=False)


def length_batches(
    dataset: BatchedDataset,
    lengths: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
    *,
    most: int | None = None,
    most_tokens: int | None = None,
) -> DataLoader[Any]:
    """Iterate a data set of sequences in random batches of about one length, to be padded little.

    Parameters
    ----------
    dataset, batch_size, generator, most
        As for :func:`batches`.
    lengths : sequence of int
        Of every sample. The samples of some batches (an eighth of a pass, fifty at most) are drawn at
        random, sorted by them and cut into batches, whose order is random again.
    most_tokens : int, optional
        Of a batch, padding included: long sequences come in smaller batches, and a pass has as many as
        all samples make, but no more than `most` would make of short ones.
    """
    drawn = _sampler(dataset, batch_size, generator, most)
    source: Any = dataset
    most_batches = None if most is None else -(-most // batch_size)
    sampler: Any = _OfOneLength(drawn, lengths, batch_size, most_tokens, most_batches, generator)
    return DataLoader(source, sampler=sampler, batch_size=None)


def cut_by_length(
    lengths: Sequence[int], batch_size: int, most_tokens: int | None = None
) -> list[range]:
    """Cut samples in ascending order of length into batches.

    Parameters
    ----------
    lengths : sequence of int
        Ascending.
    batch_size : int
        Samples of a batch at most.
    most_tokens : int, optional
        Of a batch, padded to its longest sample, at most; a longer sample makes a batch alone.

    Examples
    --------
    >>> cut_by_length([1, 2, 5, 5, 9], 3, 10)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    cut, start = [], 0
    for stop in range(1, len(lengths) + 1):
        last = stop == len(lengths)
        full = most_tokens is not None and not last
        full = full and (stop - start + 1) * lengths[stop] > (most_tokens or 0)
        if full or stop - start == batch_size or last:
            cut.append(range(start, stop))
            start = stop
    return cut


class _OfOneLength:
    """Batches of about one length, from random batches."""

    def __init__(
        self,
        drawn: Any,
        lengths: Sequence[int],
        batch_size: int,
        most_tokens: int | None,
        most_batches: int | None,
        generator: torch.Generator,
    ) -> None:
        self._drawn, self._lengths, self._generator = drawn, lengths, generator
        self._limits = batch_size, most_tokens
        self._n_batches = len(drawn)
        if most_tokens is not None:
            n_all = len(cut_by_length(sorted(lengths), *self._limits))
            self._n_batches = min(n_all, most_batches or n_all)

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[int]]:
        # exactly as many batches as were announced, whatever lengths are drawn
        return islice(self._endless(), self._n_batches)

    def _endless(self) -> Iterator[list[int]]:
        at_once = max(1, min(50, len(self._drawn) // 8))
        while True:
            rest = iter(self._drawn)
            while some := list(islice(rest, at_once)):
                samples = sorted((i for b in some for i in b), key=self._lengths.__getitem__)
                cut = cut_by_length([self._lengths[i] for i in samples], *self._limits)
                for i in torch.randperm(len(cut), generator=self._generator).tolist():
                    yield [samples[j] for j in cut[i]]


def stream_batches(
    dataset: StreamedDataset,
    batch_size: int,
    generator: torch.Generator,
    n_batches: int,
    *,
    skip: int = 0,
) -> DataLoader[Any]:
    """Iterate a data set as streams side by side: every batch follows the one before.

    Streams begin at random samples. One whose data end begins anew at another, so that later samples are
    met more often than early ones, as befits a series that changes.

    Parameters
    ----------
    dataset : StreamedDataset
        Whose samples know which one follows.
    batch_size : int
        Streams.
    generator : torch.Generator
        Source of the random beginnings.
    n_batches : int
        Batches in a pass.
    skip : int
        Rows left out between two batches, at random fewer than so many.

    Returns
    -------
    DataLoader
        Batches with one more entry, `[batch_size]` bool: which streams begin anew.
    """
    source: Any = _Streamed(dataset)
    sampler: Any = _Streams(dataset, batch_size, generator, n_batches, max(1, skip))
    return DataLoader(source, sampler=sampler, batch_size=None)


class _Streamed:
    def __init__(self, dataset: StreamedDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, streams: tuple[Tensor, Tensor]) -> Any:
        indices, fresh = streams
        return *self._dataset[indices.tolist()], fresh


class _Streams:
    """Which samples make the batches, and which of them begin anew."""

    def __init__(
        self,
        dataset: StreamedDataset,
        batch_size: int,
        generator: torch.Generator,
        n_batches: int,
        skip: int,
    ) -> None:
        self._dataset, self._batch_size = dataset, batch_size
        self._generator, self._n_batches, self._skip = generator, n_batches, skip

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        indices = self._random(len(self._dataset))
        fresh = torch.ones_like(indices, dtype=torch.bool)
        for _ in range(self._n_batches):
            yield indices, fresh
            following = self._dataset.following(indices, self._random(self._skip))
            fresh = following < 0
            indices = torch.where(fresh, self._random(len(self._dataset)), following)

    def _random(self, below: int) -> Tensor:
        return torch.randint(below, (self._batch_size,), generator=self._generator)
