"""The operations before and after a memory; for the backward pass they save only their inputs.

As plain torch operations, projection, convolution, SiLU and normalisation save some twenty tensors of
the tokens' size. Here the backward pass computes them again, one piece of the tokens at a time, so the
intermediate results of a piece stay in the cache. Only first derivatives are supported.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.autograd import differentiable_once
from titans_ts.kernels.decisions import covered
from titans_ts.kernels.layout import take
from titans_ts.kernels.native.units import (
    native_gated_norm,
    native_gated_norm_backward,
    native_units,
    native_units_backward,
    uncovered_units,
)
from titans_ts.kernels.portable import recorded_format

__all__ = ["gated_norm", "inverse_rms", "project"]

_SHORTEST = 1e-12
"""Smallest length that a vector is divided by."""

_PIECE_NUMBERS, _PIECE_NUMBERS_ELSEWHERE = 2**18, 2**24
"""Number of elements (samples times tokens times columns) in a piece, on the CPU and elsewhere. On the
CPU, its tensors (1 MiB in float32) stay in the cache. Without compiled code, forward and backward of
4 x 2048 tokens of width 128 took 77 ms; pieces twice as long took 81 ms, a quarter as long 92 ms. With
compiled code, half to four times the length are within 3 %."""

_SHORTEST_PIECE = 16
"""Smallest number of tokens in a piece; a call with no more is not cut."""


def project(
    x: Tensor,
    last: Tensor,
    weight: Tensor,
    taps: Tensor,
    width: int,
    lengths: Tensor | None = None,
    bounded: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor, Tensor]:
    """Project tokens, and turn a part of the result into unit vectors.

    That part passes a causal depthwise convolution and SiLU, and is cut into vectors that are divided by
    their lengths. D / K vectors are the heads of each of n_u results. Those of the last one are divided
    by ``sqrt(1 + length^2)`` if it is bounded: they are shorter than one, in the order of their lengths.

    Parameters
    ----------
    x : Tensor
        Tokens `[B, T, D]`.
    last : Tensor
        The last inputs of the convolution, `[B, n, n_u D]`.
    weight : Tensor
        `[D + n_u D + R, D]`: rows for the first result, the unit vectors and the third result.
    taps : Tensor
        `[n + 1, n_u D]`; the last tap multiplies the token itself.
    width : int
        K, entries of a unit vector.
    lengths : Tensor, optional
        `[B]`: only the first `lengths[b]` tokens are present; default: all.
    bounded : bool, optional
        Whether the last of the n_u results is bounded (default: False).

    Returns
    -------
    tuple[Tensor, tuple of Tensor, Tensor, Tensor]
        Plain projections `[B, T, D]`, n_u tensors of unit vectors `[B, T, D / K, K]`, plain projections
        `[B, T, R]`, and the new last inputs of the convolution.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    last = last.to(x.dtype)
    run = _Project.apply if torch.is_grad_enabled() else _project
    n_bounded = x.shape[-1] // width if bounded else 0
    gate, rest, after, *units = run(x, last, weight, taps, width, n_bounded)
    if lengths is not None:
        after = _last_present(x, last, weight, taps, lengths)
    return gate, tuple(units), rest, after


def gated_norm(y: Tensor, gate: Tensor, weight: Tensor, open_gate: bool) -> Tensor:
    """Root-mean-square norm of every head, times a weight and a gate's activation.

    Parameters
    ----------
    y : Tensor
        `[B, T, H, V]`.
    gate : Tensor
        `[B, T, H V]`.
    weight : Tensor
        `[V]`.
    open_gate : bool
        The activation: twice the sigmoid of the gate, or its SiLU.

    Returns
    -------
    Tensor
        `[B, T, H V]`.
    """
    run = _GatedNorm.apply if torch.is_grad_enabled() else _gated_norm
    return run(y, gate, weight, open_gate)


def inverse_rms(x: Tensor) -> Tensor:
    """Return 1 / sqrt(mean x^2 + 1e-6) over the last axis, `[..., 1]`, in float32 or wider."""
    length = _length(x)
    # adding a number instead of a tensor takes twice as long, which matters for one token
    epsilon = length.new_full((), 1e-6)
    return torch.addcmul(epsilon, length, length, value=1 / x.shape[-1]).rsqrt()


def _project(
    x: Tensor, last: Tensor, weight: Tensor, taps: Tensor, width: int, n_bounded: int
) -> tuple[Tensor, ...]:
    """Return the gate, the rest, the last inputs and all unit vectors."""
    sizes = D, C, _ = _sizes(weight, taps)
    pieces = _pieces(x, len(weight), len(taps))
    units = x.new_empty(*x.shape[:2], C // width, width, dtype=_result(x, taps))
    if len(pieces) == 1:
        gate, rest, last = _project_piece(x, last, weight, taps, units, n_bounded)
    else:
        gate, rest = (x.new_empty(*x.shape[:2], size) for size in sizes[::2])
        for piece in pieces:
            result = _project_piece(x[:, piece], last, weight, taps, units[:, piece], n_bounded)
            gate[:, piece], rest[:, piece], last = result
    return gate, rest, last, *units.unflatten(2, (-1, D // width)).unbind(2)


def _project_piece(
    x: Tensor, last: Tensor, weight: Tensor, taps: Tensor, units: Tensor, n_bounded: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Write `units`; return the gate, the rest and the last inputs of the convolution."""
    gate, new, rest = F.linear(x, weight).split_with_sizes(_sizes(weight, taps), -1)
    stream = torch.cat([last, new], 1)
    if covered("convolution and unit vectors", uncovered_units(stream, taps, units)):
        native_units(stream, taps, units, n_bounded)
    else:
        heads = F.silu(_filter(stream, taps)).unflatten(-1, units.shape[2:])
        units.copy_(heads.div_(_divisors(heads, n_bounded)))
    return gate, rest, stream[:, x.shape[1] :]


def _last_present(x: Tensor, last: Tensor, weight: Tensor, taps: Tensor, lengths: Tensor) -> Tensor:
    """Return the convolution's last inputs if only the first `lengths` `[B]` tokens are present."""
    size, (D, C, _) = last.shape[1], _sizes(weight, taps)
    if x.shape[1] == 0 or size == 0:
        return last
    place = lengths[:, None] + torch.arange(size, device=x.device)  # in the stream [last, x]
    new = F.linear(take(x, (place - size).clamp_min(0)), weight[D : D + C])
    return torch.where((place < size)[..., None], take(last, place.clamp_max(size - 1)), new)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        last: Tensor,
        weight: Tensor,
        taps: Tensor,
        width: int,
        n_bounded: int,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, last, weight, taps)
        ctx.n_bounded = n_bounded
        return _project(x, last, weight, taps, width, n_bounded)

    @staticmethod
    @differentiable_once
    def backward(
        ctx: Any, d_gate: Tensor, d_rest: Tensor, d_last: Tensor, *d_units: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, last, weight, taps = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            gradients = _backward_project(
                x, last, weight, taps, d_gate, d_units, d_rest, d_last, ctx.n_bounded
            )
        return *gradients, None, None


def _backward_project(
    x: Tensor,
    last: Tensor,
    weight: Tensor,
    taps: Tensor,
    d_gate: Tensor,
    d_units: tuple[Tensor, ...],
    d_rest: Tensor,
    d_last: Tensor,
    n_bounded: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    before, (D, C, _) = len(taps) - 1, _sizes(weight, taps)
    exact = _exact(taps).dtype
    dx = torch.empty_like(x)
    d_weight, d_taps = (torch.zeros_like(p, dtype=exact) for p in (weight, taps))
    d_last = d_last.to(exact)
    for piece in reversed(_pieces(x, len(weight), len(taps))):
        tokens = x[:, piece]
        stream = F.linear(x[:, max(0, piece.start - before) : piece.stop], weight[D : D + C])
        if piece.start == 0:
            stream = torch.cat([last, stream], 1)
        d_projected = x.new_empty(*tokens.shape[:2], len(weight))
        into_gate, into_new, into_rest = d_projected.split_with_sizes(_sizes(weight, taps), -1)
        into_gate.copy_(d_gate[:, piece])
        into_rest.copy_(d_rest[:, piece])
        parts = [d[:, piece] for d in d_units]
        native = uncovered_units(stream, taps, *parts) is None
        backward = native_units_backward if native else _backward_stream
        d_last = backward(stream, taps, parts, d_last, into_new, d_taps, n_bounded)
        dx[:, piece] = d_projected @ weight
        d_weight += d_projected.flatten(0, 1).T @ tokens.flatten(0, 1)
    return dx, d_last.to(last.dtype), d_weight.to(weight.dtype), d_taps.to(taps.dtype)


def _backward_stream(
    stream: Tensor,
    taps: Tensor,
    d_units: list[Tensor],
    d_last: Tensor,
    d_new: Tensor,
    d_taps: Tensor,
    n_bounded: int,
) -> Tensor:
    """As :func:`native_units_backward`, in any dtype and on any device."""
    dy = _backward_units(_filter(stream, taps), torch.cat(d_units, 2), n_bounded)
    d_stream = dy.new_zeros(stream.shape)
    for tap, w in enumerate(_exact(taps)):
        seen = slice(tap, tap + dy.shape[1])
        d_stream[:, seen].addcmul_(dy, w)
        d_taps[tap] += (stream[:, seen] * dy).sum((0, 1))
    # gradients that the next piece passes to this one, and this one to the piece before
    d_stream[:, dy.shape[1] :] += d_last
    before = len(taps) - 1
    d_new.copy_(d_stream[:, before:])
    return d_stream[:, :before]


def _backward_units(y: Tensor, d_units: Tensor, n_bounded: int) -> Tensor:
    """Gradient at the filtered y `[B, T, C]`, through SiLU and the division by the length."""
    sigma = torch.sigmoid(y)
    silu = y * sigma
    heads = silu.unflatten(-1, d_units.shape[2:])
    length = _divisors(heads, n_bounded)
    units = heads / length
    along = (units * d_units).sum(-1, keepdim=True).masked_fill_(length <= _SHORTEST, 0)
    d_silu = (d_units - units.mul_(along)).div_(length).flatten(2)
    return d_silu.mul_(silu.addcmul(silu, sigma, value=-1).add_(sigma))


def _filter(stream: Tensor, taps: Tensor) -> Tensor:
    """Causal depthwise convolution of `[B, n + T, C]` to `[B, T, C]`, in float32 or wider."""
    stream, taps = _exact(stream), _exact(taps)
    length = stream.shape[1] - len(taps) + 1
    if length == 1:
        return (stream * taps).sum(1, keepdim=True)
    y = stream[:, :length] * taps[0]
    for tap in range(1, len(taps)):  # has a cheaper gradient than a grouped convolution
        y.addcmul_(stream[:, tap : tap + length], taps[tap])
    return y


def _gated_norm(y: Tensor, gate: Tensor, weight: Tensor, open_gate: bool) -> Tensor:
    if covered("gated norm", uncovered_units(y, gate, weight)):
        return native_gated_norm(y, gate, weight, open_gate)
    pieces = _pieces(y, gate.shape[-1])
    if len(pieces) == 1:
        return _gated_norm_piece(y, gate, weight, open_gate)
    out = torch.empty_like(gate, dtype=_result(gate, weight))
    for piece in pieces:
        out[:, piece] = _gated_norm_piece(y[:, piece], gate[:, piece], weight, open_gate)
    return out


def _gated_norm_piece(y: Tensor, gate: Tensor, weight: Tensor, open_gate: bool) -> Tensor:
    scaled = (y * inverse_rms(y) * weight).to(weight.dtype)
    return scaled.flatten(2) * (2 * torch.sigmoid(gate) if open_gate else F.silu(gate))


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, gate: Tensor, weight: Tensor, open_gate: bool) -> Tensor:
        ctx.save_for_backward(y, gate, weight)
        ctx.open_gate = open_gate
        return _gated_norm(y, gate, weight, open_gate)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        y, gate, weight = ctx.saved_tensors
        if uncovered_units(y, gate, weight, d_out) is None:
            return *native_gated_norm_backward(y, gate, weight, d_out, ctx.open_gate), None
        dy, d_gate = torch.empty_like(y), torch.empty_like(gate)
        d_weight = torch.zeros_like(weight, dtype=_exact(weight).dtype)
        for piece in _pieces(y, gate.shape[-1]):
            inverse = inverse_rms(y[:, piece])
            normed, g, d = y[:, piece] * inverse, gate[:, piece], d_out[:, piece]
            sigma = torch.sigmoid(g)
            passed = 2 * sigma if ctx.open_gate else g * sigma
            scaled = (normed * weight).flatten(2)
            # SiLU' = sigma + SiLU (1 - sigma)
            slope = (
                passed * (1 - sigma) if ctx.open_gate else torch.addcmul(sigma, passed, 1 - sigma)
            )
            d_gate[:, piece] = slope.mul_(scaled).mul_(d)
            d_scaled = (passed * d).unflatten(-1, normed.shape[2:])
            d_weight += (d_scaled * normed).sum((0, 1, 2))
            d_normed = d_scaled * weight
            along = (d_normed * normed).mean(-1, keepdim=True)
            dy[:, piece] = d_normed.sub_(normed.mul_(along)).mul_(inverse)
        return dy, d_gate, d_weight.to(weight.dtype), None


def _divisors(heads: Tensor, n_bounded: int) -> Tensor:
    """What each vector of SiLU's results `[B, T, C / K, K]` is divided by, `[B, T, C / K, 1]`."""
    length = _length(heads).clamp_min_(_SHORTEST)
    if n_bounded:
        values = length[:, :, -n_bounded:]
        if recorded_format() == "onnx":  # which has no hypot
            values.copy_((values.square() + 1).sqrt())
        else:
            values.copy_(torch.hypot(values, values.new_ones(())))
    return length


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(_exact(x), dim=-1, keepdim=True)


def _result(x: Tensor, y: Tensor) -> torch.dtype:
    """Return the dtype of the product x y."""
    return x.dtype if x.dtype == y.dtype else torch.promote_types(x.dtype, y.dtype)


def _exact(x: Tensor) -> Tensor:
    """Convert x to float32 unless its type is as wide."""
    return x if x.dtype.itemsize >= 4 else x.float()


def _sizes(weight: Tensor, taps: Tensor) -> list[int]:
    """Return D, C = n_u D and R of :func:`project`."""
    (rows, D), C = weight.shape, taps.shape[1]
    return [D, C, rows - D - C]


def _pieces(x: Tensor, columns: int, before: int = 0) -> list[slice]:
    """Cut the T tokens of x, with `columns` numbers each, into pieces of at least `before` tokens."""
    batch, length = x.shape[:2]
    if length <= _SHORTEST_PIECE or torch.compiler.is_compiling():  # torch.compile fuses by itself
        return [slice(0, length)]
    numbers = _PIECE_NUMBERS if x.device.type == "cpu" else _PIECE_NUMBERS_ELSEWHERE
    size = max(_SHORTEST_PIECE, before, numbers // max(1, batch * columns))
    return [slice(start, min(length, start + size)) for start in range(0, length, size)]
