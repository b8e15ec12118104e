"""A cheap measure after training of whether a model uses its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from titans_ts.nn.memory_use import has_memory, head_outputs, relative_change, write_off

__all__ = ["memory_change"]

_SAMPLES = 32


def memory_change(
    model: Any,
    loss: Callable[[Any, Any], tuple[Tensor, int]],
    validation: DataLoader[Any] | None,
) -> dict[str, float]:
    """Return how much the outputs for a validation batch change without the memory's writing.

    Parameters
    ----------
    model : nn.Module
        A trained model with a head, in evaluation mode.
    loss : callable
        `loss(model, batch)` reads the batch.
    validation : DataLoader, optional
        Of its batch in the middle at most 32 samples are read, twice.

    Returns
    -------
    dict of str to float
        `memory_change`, see :func:`titans_ts.nn.memory_use.relative_change`; empty without a memory or
        without validation.
    """
    if validation is None or not has_memory(model):
        return {}
    batches: Any = list(validation.sampler)
    batch = validation.dataset[batches[len(batches) // 2][:_SAMPLES]]
    with torch.inference_mode():
        with head_outputs(model) as before:
            loss(model, batch)
        with write_off(model), head_outputs(model) as after:
            loss(model, batch)
    return {"memory_change": relative_change(before, after)}
