"""Batches cut by index: a data set is asked for many samples at once."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

__all__ = ["BatchedDataset", "batches"]


class BatchedDataset(Protocol):
    """A data set that returns a whole batch for a list of indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: list[int]) -> Any: ...


def batches(
    dataset: BatchedDataset,
    batch_size: int,
    generator: torch.Generator | None = None,
    *,
    share: float = 1.0,
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
    share : float
        Share of the samples that a pass in random order takes, others every time.
    """
    source: Any = dataset
    order = (
        SequentialSampler(source)
        if generator is None
        else RandomSampler(
            source, num_samples=max(1, int(share * len(dataset))), generator=generator
        )
    )
    sampler = BatchSampler(order, batch_size, drop_last=False)
    return DataLoader(source, sampler=sampler, batch_size=None)
