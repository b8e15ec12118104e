"""The state of a neural memory: everything it needs to continue a stream.

A memory of depth L_M is a tuple of L_M weight matrices. The learned initial memory M_0 is shared by
the batch, `[H, d_in, d_out]` a layer; every running quantity belongs to one sample and is
`[B, H, d_in, d_out]`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["MemoryOutput", "MemoryState", "Weights", "initial_state"]

Weights = tuple[Tensor, ...]
"""One tensor for every layer of the memory's MLP, `[..., d_in, d_out]` each."""


class MemoryState(NamedTuple):
    """The state of a memory between two tokens; its size does not depend on the tokens seen.

    Attributes
    ----------
    weights : Weights
        M_t, the current memory, `[B, H, d_in, d_out]` a layer.
    momentum : Weights
        S_t, the running surprise; same shapes.
    anchor : Weights
        M_{t'}, the memory at the last chunk boundary, where gradients are taken; same shapes.
    position : Tensor
        `[B]` int64 on the CPU: tokens written since that boundary, in `0 .. chunk_size - 1`.
    """

    weights: Weights
    momentum: Weights
    anchor: Weights
    position: Tensor


class MemoryOutput(NamedTuple):
    """The result of a call.

    Attributes
    ----------
    y : Tensor or None
        `[B, T, H, V]`, M_t(q_t); zero where masked; None without queries.
    state : MemoryState
        The state after the last token.
    surprise : Tensor
        `[B, T, H]`, the Frobenius norm of the gradient of the loss; zero where masked.
    """

    y: Tensor | None
    state: MemoryState
    surprise: Tensor


def initial_state(initial: Weights, batch_size: int) -> MemoryState:
    """Return the state before the first token: M_0 for every sample, no momentum.

    Parameters
    ----------
    initial : Weights
        M_0, `[H, d_in, d_out]` a layer.
    batch_size : int
        Number of samples B.
    """
    weights = tuple(w.expand(batch_size, *w.shape) for w in initial)
    momentum = tuple(torch.zeros_like(w).expand(batch_size, *w.shape) for w in initial)
    return MemoryState(weights, momentum, weights, torch.zeros(batch_size, dtype=torch.long))
