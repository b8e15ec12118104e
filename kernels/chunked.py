"""The neural memory as matrix products: exact, any depth, no per-token weights.

Inside a chunk all gradients are taken at one point, so the weights after token t are a linear
combination of what stood at the chunk's start and of the tokens' gradients, and each gradient is an
outer product of a layer's input and its error. Reading therefore needs only `[L, L]` and `[L, d]`
matrices; `README.md` beside this file derives the coefficients. Only the loop over chunks is
sequential. Differentiable by autograd; cost per chunk and layer O(L d^2 + L^2 d).

Inside this module tokens run along the last axis but one: q, k, v are `[B, H, T, d]`, gates `[B, H, T]`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.ragged import Slots
from titans_ts.kernels.state import MemoryOutput, MemoryState, Weights, initial_state

__all__ = ["chunked_memory"]


def chunked_memory(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    forget: Tensor | None,
    momentum: Tensor | None,
    lr: Tensor,
    initial: Weights,
    state: MemoryState | None = None,
    *,
    mask: Tensor | None = None,
    chunk_size: int = 16,
    forget_to: str = "init",
) -> MemoryOutput:
    """Write every token into the memory and read the memory after it, a chunk at a time.

    Parameters are those of :func:`titans_ts.kernels.neural_memory`.
    """
    state = state or initial_state(initial, k.shape[0])
    target = initial if forget_to == "init" else None
    slots = Slots.build(state.position, mask, k.shape[1], chunk_size)
    everything = _Tokens(q, k, v, forget, momentum, lr).map(
        lambda x: slots.place(x).transpose(1, 2)
    )

    weights, momenta, anchor = (_shared(w) for w in (state.weights, state.momentum, state.anchor))
    reads, norms = [], []
    for start, stop in slots.chunks:
        tokens = everything.map(partial(_cut, start, stop))
        chunk = _Chunk.prepare(tokens, slots.present_in(start, stop), anchor)
        norms.append(chunk.surprise())
        if tokens.q is not None:
            reads.append(chunk.read(tokens.q, weights, momenta, target))
        weights, momenta = chunk.write(weights, momenta, target)
        anchor = slots.at_boundary(stop, weights, anchor)

    weights, momenta, anchor = (_batched(w, len(k)) for w in (weights, momenta, anchor))
    final = MemoryState(weights, momenta, anchor, slots.final_position)
    y = None
    if q is not None:
        y = slots.pick(torch.cat(reads, 2).transpose(1, 2)) if reads else torch.zeros_like(v)
    total = slots.pick(torch.cat(norms, 2).transpose(1, 2)) if norms else torch.zeros_like(lr)
    return MemoryOutput(y, final, total)


class _Tokens(NamedTuple):
    """A chunk's queries, keys and values `[B, H, L, d]` and gates `[B, H, L]`."""

    q: Tensor | None
    k: Tensor
    v: Tensor
    forget: Tensor | None
    momentum: Tensor | None
    lr: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> _Tokens:
        """Apply a function to each of them."""
        return _Tokens(*(None if x is None else function(x) for x in self))  # type: ignore[arg-type]


class _Coefficients(NamedTuple):
    """M_t = beta M + (1 - beta) M_0 + carry S - sum_i C[t, i] grad_i; S_L = decay S - sum_i D[i] grad_i.

    The last three serve the momentum, and are None without it.
    """

    beta: Tensor  # [B, H, L, 1]
    C: Tensor  # [B, H, L, L], lower triangular
    carry: Tensor | None = None  # [B, H, L, 1]
    D: Tensor | None = None  # [B, H, L, 1]
    decay: Tensor | None = None  # [B, H, 1, 1]


class _Chunk(NamedTuple):
    """What a chunk's tokens do to a memory: layer inputs and errors, and their shares."""

    inputs: list[Tensor]
    errors: list[Tensor]
    shares: _Coefficients

    @classmethod
    def prepare(cls, tokens: _Tokens, present: Tensor | None, anchor: Weights) -> _Chunk:
        inputs, errors = _backpropagate(anchor, tokens.k, tokens.v)
        return cls(inputs, errors, _coefficients(tokens, present))

    def surprise(self) -> Tensor:
        """Norm of each token's gradient over all layers, `[B, H, L]`: |X (x) E| = |X| |E|."""
        square = torch.zeros_like(self.inputs[0][..., 0])
        for x, e in zip(self.inputs, self.errors, strict=True):
            square = square + x.square().sum(-1) * e.square().sum(-1)
        return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()

    def read(
        self, q: Tensor, weights: Weights, momentum: Weights, target: Weights | None
    ) -> Tensor:
        """M_t(q_t) for every t, `[B, H, L, V]`."""
        beta, C, carry, *_ = self.shares
        y = q
        for layer, (x, e) in enumerate(zip(self.inputs, self.errors, strict=True)):
            y = y if layer == 0 else F.silu(y)
            z = beta * _apply(y, weights[layer]) - ((y @ x.mT) * C) @ e
            if carry is not None:
                z = z + carry * _apply(y, momentum[layer])
            if target is not None:
                z = z + (1 - beta) * _apply(y, target[layer])
            y = z
        return y

    def write(
        self, weights: Weights, momentum: Weights, target: Weights | None
    ) -> tuple[Weights, Weights]:
        """The weights and the momentum after the chunk."""
        beta, C, carry, D, decay = self.shares
        beta, C = beta[..., -1:, :], C[..., -1:, :].mT
        new_weights, new_momentum = [], []
        for layer, (x, e) in enumerate(zip(self.inputs, self.errors, strict=True)):
            w, s = beta * weights[layer] - x.mT @ (C * e), momentum[layer]
            if carry is not None and D is not None and decay is not None:
                w = w + carry[..., -1:, :] * s
                s = decay * s - x.mT @ (D * e)
            if target is not None:
                w = w + (1 - beta) * target[layer]
            new_weights.append(w)
            new_momentum.append(s)
        return tuple(new_weights), tuple(new_momentum)


def _backpropagate(weights: Weights, k: Tensor, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs X^l and errors E^l of every layer, `[B, H, L, d]`: grad_i of layer l is X^l_i (x) E^l_i."""
    inputs, before = [k], []
    for w in weights:
        before.append(_apply(inputs[-1], w))
        inputs.append(F.silu(before[-1]))
    error = 2 * (before[-1] - v)
    errors = [error]
    for w, z in zip(reversed(weights[1:]), reversed(before[:-1]), strict=True):
        sigma = torch.sigmoid(z)
        error = _apply(error, w.mT) * (sigma * (1 + z * (1 - sigma)))  # SiLU'(z)
        errors.append(error)
    return inputs[:-1], errors[::-1]


def _coefficients(tokens: _Tokens, present: Tensor | None) -> _Coefficients:
    """The shares with which a chunk's gradients and starting point enter each M_t and S_L."""
    lr = tokens.lr if present is None else tokens.lr * present
    A, LA = _decays(None if tokens.forget is None else 1 - tokens.forget, lr, present)
    if present is not None:
        LA = LA * present[..., None, :]  # M takes its share of S only where a token is present
    if tokens.momentum is None:
        return _Coefficients(A.exp()[..., None], LA * lr[..., None, :])
    H, LH = _decays(tokens.momentum, lr, present)
    return _Coefficients(
        beta=A.exp()[..., None],
        C=(LA @ LH) * lr[..., None, :],
        carry=LA @ H.exp()[..., None],
        D=(LH[..., -1, :] * lr)[..., None],
        decay=H[..., -1, None, None].exp(),
    )


def _decays(retain: Tensor | None, like: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Cumulative log of what is retained, `[B, H, L]`, and exp(A_t - A_s) for t >= s, `[B, H, L, L]`.

    The difference of two long sums is taken in float64: in float32 a gate near 0 (log -87) leaves
    64 * 87 * 6e-8 = 3e-4 of relative error in every later entry of its chunk.
    """
    length = like.shape[-1]
    lower = torch.ones(length, length, dtype=torch.bool, device=like.device).tril()
    if retain is None:
        return torch.zeros_like(like), lower.to(like.dtype).expand(*like.shape, length)
    log = retain.clamp_min(torch.finfo(like.dtype).tiny).log()
    if present is not None:
        log = log * present
    total = (log if log.device.type == "mps" else log.double()).cumsum(-1)  # MPS has no float64
    difference = total[..., :, None] - total[..., None, :]
    return total.to(like.dtype), difference.masked_fill(~lower, -torch.inf).to(like.dtype).exp()


def _cut(start: int, stop: int, x: Tensor) -> Tensor:
    return x[:, :, start:stop]


def _shared(weights: Weights) -> Weights:
    """Weights `[B, H, d_in, d_out]`, as `[H, d_in, d_out]` where one tensor serves the whole batch.

    So it is at a stream's beginning; training on windows of a chunk or two is that first chunk.
    """
    return tuple(w[0] if len(w) > 1 and w.stride(0) == 0 else w for w in weights)


def _batched(weights: Weights, batch_size: int) -> Weights:
    """Undo :func:`_shared`."""
    return tuple(w.expand(batch_size, *w.shape[-3:]) for w in weights)


def _apply(x: Tensor, w: Tensor) -> Tensor:
    """x `[B, H, L, d_in]` times a layer, `[B, H, d_in, d_out]` or the same for all `[H, ...]`."""
    if w.ndim == 4:
        return x @ w
    return (x.transpose(0, 1).flatten(1, 2) @ w).unflatten(1, (len(x), -1)).transpose(0, 1)
