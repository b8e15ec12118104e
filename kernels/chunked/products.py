"""Products of tokens, weights and coefficients that a chunk's forward and backward pass share.

Tokens are `[n, L, d]`, a layer is `[n, d_in, d_out]`, or `[H, d_in, d_out]` if the batch shares it: n is
H * B memories, heads outermost. Coefficients are `[n, L, P]`. A stack is a layer of M above one of S,
`[n, P * d_in, d_out]`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from titans_ts.kernels.chunked.coefficients import CoefficientValues

__all__ = [
    "add_dots",
    "add_outer",
    "add_row_sums",
    "add_sums",
    "add_times",
    "add_unscaled",
    "carry",
    "carry_backward",
    "doubled_error",
    "inverse_square",
    "put_outer",
    "scale_tokens",
    "silu_backward",
    "square_norm",
    "times",
]

silu_backward = torch.ops.aten.silu_backward
"""(gradient, x): gradient o SiLU'(x) in one pass."""


def _flat(x: Tensor, w: Tensor) -> Tensor:
    """Return tokens `[n, L, d]` unchanged, or as `[H, B L, d]` for weights that the batch shares."""
    return x if w.shape[0] == x.shape[0] else x.view(w.shape[0], -1, x.shape[-1])


def times(x: Tensor, w: Tensor) -> Tensor:
    """x w."""
    return torch.bmm(_flat(x, w), w).view(*x.shape[:-1], -1)


def add_times(y: Tensor, x: Tensor, w: Tensor) -> None:
    """y += x w, in place."""
    _flat(y, w).baddbmm_(_flat(x, w), w)


def doubled_error(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """2 (x w - v)."""
    return torch.baddbmm(_flat(v, w), _flat(x, w), w, beta=-2, alpha=2).view_as(v)


def add_outer(w: Tensor, x: Tensor, e: Tensor) -> None:
    """w += x^T e, in place; summed over the batch if it shares w."""
    w.baddbmm_(_flat(x, w).mT, _flat(e, w))


def put_outer(w: Tensor, x: Tensor, e: Tensor) -> None:
    """w = x^T e, in place; summed over the batch if it shares w."""
    torch.bmm(_flat(x, w).mT, _flat(e, w), out=w)


def add_sums(w: Tensor, y: Tensor, share: Tensor | None = None) -> None:
    """w += share y, in place; summed over the batch if it shares w."""
    if w.shape[0] == y.shape[0]:
        w.add_(y) if share is None else w.addcmul_(y, share)
    else:
        y = y if share is None else y * share
        w.add_(y.view(w.shape[0], -1, *y.shape[1:]).sum(1))


def scale_tokens(x: Tensor, shares: Tensor) -> Tensor:
    """Tokens `[n, L, d]` times their P coefficients `[n, L, P]`, side by side: `[n, L, P * d]`."""
    if shares.shape[-1] == 1:
        return x * shares
    scaled = x.new_empty(*x.shape[:2], shares.shape[-1], x.shape[-1])
    for p, part in enumerate(scaled.unbind(2)):
        torch.mul(x, shares[..., p, None], out=part)
    return scaled.flatten(2)


def add_unscaled(y: Tensor, x: Tensor, shares: Tensor) -> None:
    """Tokens y `[n, L, d]` += x `[n, L, P * d]` times its coefficients: the backward of scale_tokens."""
    for p, part in enumerate(x.unflatten(2, (-1, y.shape[-1])).unbind(2)):
        y.addcmul_(part, shares[..., p, None])


def add_row_sums(shares: Tensor, x: Tensor, y: Tensor) -> None:
    """Coefficients `[n, L, P]` += inner products of x `[n, L, P * d]` and y `[n, L, d]`; overwrites x."""
    x = x.unflatten(2, (-1, y.shape[-1]))
    for p, part in enumerate(x.unbind(2)):
        shares[..., p].add_(part.mul_(y).sum(-1))


def carry(new: Tensor, old: Tensor, shares: CoefficientValues) -> None:
    """Add the remainder of old stacks to new ones: of both to the memory, of S to the momentum."""
    n, P = old.shape[0], shares.parts.shape[-1]
    new = new.view(n, -1, P, old.shape[1] // P, old.shape[2])
    old = old.view(n, 1, *new.shape[2:])
    last = shares.parts[:, -1].reshape(n, -1, P, 1, 1)
    for p in range(P):
        new[:, :, 0].addcmul_(old[:, :, p], last[:, :, p])
    if P == 2:
        new[:, :, 1].addcmul_(old[:, :, 1], shares.decay.reshape(n, -1, 1, 1))


def carry_backward(d_old: Tensor, d_new: Tensor, shares: CoefficientValues) -> None:
    """Add the contribution of :func:`carry` to the gradient of old stacks."""
    P = shares.parts.shape[-1]
    d_new = d_new.unflatten(1, (P, -1))  # [n, P, d_in, d_out]
    d_parts = d_old.unflatten(1, (P, -1)).unbind(1)
    for p, d_part in enumerate(d_parts):
        add_sums(d_part, d_new[:, 0], shares.parts[:, -1:, p, None])
    if P == 2:
        add_sums(d_parts[1], d_new[:, 1], shares.decay)


def add_dots(shares: CoefficientValues, d_new: Tensor, old: Tensor) -> None:
    """Add the contribution of :func:`carry` to the gradient of the coefficients."""
    n, P = old.shape[0], shares.parts.shape[-1]
    m = d_new.shape[0]
    d_new = d_new.view(min(n, m), -1, P, old.shape[1] // P, old.shape[2])
    old = old[: min(n, m)].view(min(n, m), 1, *d_new.shape[2:])
    for p in range(P):
        shares.parts[:, -1, p] += (d_new[:, :, 0] * old[:, :, p]).sum((-1, -2)).view(-1)
    if P == 2:
        shares.decay[:, 0, 0] += (d_new[:, :, 1] * old[:, :, 1]).sum((-1, -2)).view(-1)


def square_norm(x: Tensor) -> Tensor:
    """|x|^2 over the last axis, `[n, L, 1]`."""
    return x.square().sum(-1, keepdim=True)


def inverse_square(x: Tensor) -> Tensor:
    """1 / max(1, |x|^2) over the last axis, `[n, L, 1]`."""
    return square_norm(x).clamp_min_(1).reciprocal_()
