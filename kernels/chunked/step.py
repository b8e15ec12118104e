"""One token: the step of a stream, without a layout and without gradients."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.autograd import requires_gradient
from titans_ts.kernels.call import MemoryCall
from titans_ts.kernels.state import MemoryOutput, MemoryState

__all__ = ["compute", "uncovered"]


def uncovered(call: MemoryCall) -> str | None:
    """Return why this does not cover a call, or None if it does."""
    length = call.k.shape[1]
    if length != 1:
        return f"the call has {length} tokens, not one"
    if call.state is None:
        return "the call has no state to continue from"
    if call.mask is not None:
        return "the call has a mask"
    if torch.compiler.is_compiling():
        return "torch.compile cannot follow what the positions of a state decide"
    if requires_gradient(*call.tokens, *call.initial, *chain(*call.state[:3])):
        return "the call needs a gradient"
    return None


def compute(call: MemoryCall) -> MemoryOutput:
    """Write one token and read the memory after it, without gradients."""
    call = call.in_full_precision()
    q, k, v, forget, momentum, lr, initial, state, _, chunk_size, forget_to, _ = call
    assert state is not None
    batch, _, heads, _ = k.shape
    n = batch * heads

    def token(x: Tensor) -> Tensor:
        """Reshape `[B, 1, H, ..]` to `[n, 1, d]`."""
        return x.reshape(n, 1, -1)

    def fold(layers: Iterable[Tensor]) -> list[Tensor]:
        """Reshape `[B, H, ..]` to `[n, ..]`."""
        return [w.reshape(n, *w.shape[2:]) for w in layers]

    anchor = fold(state.anchor)
    inputs, before = [token(k)], []
    for a in anchor[:-1]:
        before.append(torch.bmm(inputs[-1], a))
        inputs.append(F.silu(before[-1]))
    last = fold(state.weights[-1:])[0] if call.online else anchor[-1]
    errors = [torch.baddbmm(token(v), inputs[-1], last, beta=-2, alpha=2)]  # 2 (M(k) - v)
    for a, z in zip(reversed(anchor[1:]), reversed(before), strict=True):
        errors.insert(0, torch.ops.aten.silu_backward(torch.bmm(errors[0], a.mT), z))

    def gate(x: Tensor) -> Tensor:
        """Reshape `[B, 1, H]` to `[B, H, 1, 1]`."""
        return x.view(batch, heads, 1, 1)

    written = inputs
    if call.online and before:
        squares = [e.square().sum(-1, keepdim=True) for e in errors]
        length = squares[-1].clamp_min(torch.finfo(k.dtype).tiny)
        gains = [(square / length).clamp_min_(1) for square in squares[:-1]]
        written = [x / (gain * chunk_size) for x, gain in zip(inputs[:-1], gains, strict=True)]
        written.append(inputs[-1] / inputs[-1].square().sum(-1, keepdim=True).clamp_min_(1))
    after, kept = [], []
    for x, e, w, s, w0 in zip(written, errors, state.weights, state.momentum, initial, strict=True):
        row, column = ((e * -token(lr)).view(batch, heads, 1, -1), x.view(batch, heads, -1, 1))
        added = row * column if momentum is None else torch.addcmul(s * gate(momentum), row, column)
        if forget is not None:
            w = torch.lerp(w, w0, gate(forget)) if forget_to == "init" else w * gate(1 - forget)
        after.append(w + added)
        kept.append(added)

    y = None
    if q is not None:
        y = token(q)
        for layer, w in enumerate(fold(after)):
            y = torch.bmm(y if layer == 0 else F.silu(y), w)
        y = y.view(batch, 1, heads, -1)

    weights, position = tuple(after), state.position + 1
    full = position == chunk_size
    position = position.masked_fill_(full, 0)
    anchor_after = state.anchor
    if full.all():
        anchor_after = weights
    elif full.any():
        here = full.to(k.device)[:, None, None, None]
        anchor_after = tuple(
            torch.where(here, w, a) for w, a in zip(weights, state.anchor, strict=True)
        )
    squares = [x.square().sum(-1) * e.square().sum(-1) for x, e in zip(inputs, errors, strict=True)]
    norm = sum(squares[1:], squares[0]).sqrt_().view(batch, 1, heads)
    surprise = state.momentum if momentum is None else tuple(kept)
    return MemoryOutput(y, MemoryState(weights, surprise, anchor_after, position), norm)
