"""Loaders of batches; a data set returns a whole batch for a list of indices.

The batch size is that of all training processes together: each reads its share of every training batch,
and all of the validation batches.
"""

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
    "bucketed_batches",
    "cut_by_length",
    "stream_batches",
]


class BatchedDataset(Protocol):
    """A data set that returns a whole batch for a list of indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: list[int]) -> Any: ...


class StreamedDataset(BatchedDataset, Protocol):
    """A data set that knows which sample follows which."""

    def following(self, indices: Tensor, skipped: Tensor) -> Tensor:
        """Return the sample `skipped` rows `[B]` after each one's past; -1 where there is none."""


def batches(
    dataset: BatchedDataset,
    batch_size: int,
    generator: torch.Generator | None = None,
    *,
    max_samples: int | None = None,
) -> DataLoader[Any]:
    """Iterate a data set in batches, in random order with a generator.

    Parameters
    ----------
    dataset : BatchedDataset
        `len(dataset)` samples; `dataset[list of int]` is a batch of them.
    batch_size : int
        Number of samples in a batch; the last batch may be smaller.
    generator : torch.Generator, optional
        Draws the random order (default: the order of the data set).
    max_samples : int, optional
        Maximum number of samples per epoch (default: all). A larger data set is subsampled: randomly in
        each epoch, or at even distances without a generator.
    """
    source: Any = dataset
    sampler: Any = _sampler(dataset, batch_size, generator, max_samples)
    if generator is not None:
        sampler = _Shared(sampler)
    return DataLoader(source, sampler=sampler, batch_size=None)


class _Shared:
    """The batches of a sampler, of which each of several training processes reads its own samples.

    All processes draw the same batches; a batch with fewer samples than processes is read by all of them.
    """

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, size = 0, 1
        if several:
            rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for batch in self._batches:
            own = slice(rank, None, size)
            if isinstance(batch, tuple):  # of streams
                few = len(batch[0]) < size
                yield batch if few else tuple(part[own] for part in batch)
            else:
                yield batch if len(batch) < size else batch[own]


def _sampler(
    dataset: BatchedDataset,
    batch_size: int,
    generator: torch.Generator | None,
    max_samples: int | None,
) -> BatchSampler:
    source: Any = dataset
    order: Any
    max_samples = len(dataset) if max_samples is None else max_samples
    if generator is None:
        order = range(0, len(dataset), max(1, -(-len(dataset) // max_samples)))
    elif len(dataset) <= max_samples:
        order = RandomSampler(source, generator=generator)
    else:  # with replacement: a permutation of all samples would need as much memory again
        order = RandomSampler(
            source, replacement=True, num_samples=max_samples, generator=generator
        )
    return BatchSampler(order, batch_size, drop_last=False)


def bucketed_batches(
    dataset: BatchedDataset,
    lengths: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
    *,
    max_samples: int | None = None,
    max_tokens: int | None = None,
) -> DataLoader[Any]:
    """Iterate a data set of sequences in random batches of similar lengths, which need little padding.

    Parameters
    ----------
    dataset, batch_size, generator, max_samples
        As for :func:`batches`.
    lengths : sequence of int
        The length of every sample. The samples of several batches (an eighth of an epoch, at most fifty
        batches) are drawn at random, sorted by length and cut into batches, in random order.
    max_tokens : int, optional
        Maximum number of tokens in a batch, including padding, so long sequences come in smaller
        batches (default: no limit). An epoch has as many batches as all samples make, and at most
        `ceil(max_samples / batch_size)`.
    """
    drawn = _sampler(dataset, batch_size, generator, max_samples)
    source: Any = dataset
    max_batches = None if max_samples is None else -(-max_samples // batch_size)
    sampler: Any = _BucketSampler(drawn, lengths, batch_size, max_tokens, max_batches, generator)
    sampler = _Shared(sampler)
    return DataLoader(source, sampler=sampler, batch_size=None)


def cut_by_length(
    lengths: Sequence[int], batch_size: int, max_tokens: int | None = None
) -> list[range]:
    """Cut samples that are sorted by length into batches.

    Parameters
    ----------
    lengths : sequence of int
        Lengths in ascending order.
    batch_size : int
        Maximum number of samples in a batch.
    max_tokens : int, optional
        Maximum number of tokens in a batch, including padding (default: no limit); a longer sample is
        a separate batch.

    Examples
    --------
    >>> cut_by_length([1, 2, 5, 5, 9], 3, 10)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    cut, start = [], 0
    for stop in range(1, len(lengths) + 1):
        last = stop == len(lengths)
        full = max_tokens is not None and not last
        full = full and (stop - start + 1) * lengths[stop] > (max_tokens or 0)
        if full or stop - start == batch_size or last:
            cut.append(range(start, stop))
            start = stop
    return cut


class _BucketSampler:
    """Batches of similar lengths, made from random batches."""

    def __init__(
        self,
        drawn: Any,
        lengths: Sequence[int],
        batch_size: int,
        max_tokens: int | None,
        max_batches: int | None,
        generator: torch.Generator,
    ) -> None:
        self._drawn, self._lengths, self._generator = drawn, lengths, generator
        self._limits = batch_size, max_tokens
        self._n_batches = len(drawn)
        if max_tokens is not None:
            n_all = len(cut_by_length(sorted(lengths), *self._limits))
            self._n_batches = min(n_all, max_batches or n_all)

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[int]]:
        # the number of batches must not depend on the lengths that are drawn
        return islice(self._endless(), self._n_batches)

    def _endless(self) -> Iterator[list[int]]:
        n_mixed = max(1, min(50, len(self._drawn) // 8))
        while True:
            remaining = iter(self._drawn)
            while drawn := list(islice(remaining, n_mixed)):
                samples = sorted((i for b in drawn for i in b), key=self._lengths.__getitem__)
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
    """Iterate a data set as parallel streams: every batch continues the batch before.

    Streams start at random samples. A stream that reaches the end of its data starts again at another
    random sample, so late samples are drawn more often than early ones, which suits a series that
    changes.

    Parameters
    ----------
    dataset : StreamedDataset
        A data set that knows which sample follows which.
    batch_size : int
        Number of streams.
    generator : torch.Generator
        Draws where streams start.
    n_batches : int
        Number of batches per epoch.
    skip : int
        A random number of rows below this is left out between two batches (default 0).

    Returns
    -------
    DataLoader
        Batches with one more entry, `[batch_size]` bool, which marks the streams that start again.
    """
    source: Any = _StreamDataset(dataset)
    sampler: Any = _StreamSampler(dataset, batch_size, generator, n_batches, max(1, skip))
    sampler = _Shared(sampler)
    return DataLoader(source, sampler=sampler, batch_size=None)


class _StreamDataset:
    def __init__(self, dataset: StreamedDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, streams: tuple[Tensor, Tensor]) -> Any:
        indices, fresh = streams
        return *self._dataset[indices.tolist()], fresh


class _StreamSampler:
    """The samples of every batch, and which of them start a stream."""

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
