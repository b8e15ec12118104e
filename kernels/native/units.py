"""The operations of a layer before and after the memory, compiled from `csrc/units.c`.

:mod:`titans_ts.nn.fused` has the same in torch, and decides where each piece of a stream begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from titans_ts.kernels.dispatch import ENVIRONMENT, forced
from titans_ts.kernels.native.abi import DTYPES, Integer, address, in_threads
from titans_ts.kernels.native.compiler import library
from titans_ts.kernels.native.coverage import uncovered_sizes

__all__ = [
    "native_gated_norm",
    "native_gated_norm_backward",
    "native_units",
    "native_units_backward",
    "uncovered_units",
]

_WORK = 2**17
"""Number of elements of the output that justify a thread: about 100 microseconds."""

_PARTS = 4
"""Maximum number of results, as in units.c."""


def uncovered_units(*tensors: Tensor) -> str | None:
    """Return why the functions below do not cover tensors like these, or None if they do."""
    x = tensors[0]
    if torch.compiler.is_compiling():
        return "torch.compile would not see what it computes"
    if x.dtype not in DTYPES:
        return f"{x.dtype} is neither float32 nor float64"
    for other in tensors[1:]:
        if other.dtype != x.dtype or other.device != x.device:
            return f"tensors are {x.dtype} on {x.device} and {other.dtype} on {other.device}"
    name = forced()
    if name not in (None, "native"):
        return f"the environment variable {ENVIRONMENT} names {name!r}"
    return uncovered_sizes(x, 1, 1)


def native_units(stream: Tensor, taps: Tensor, units: Tensor, n_bounded: int) -> None:
    """Apply a causal depthwise convolution and SiLU, and scale every K channels to length one.

    The last `n_bounded` vectors of a token are divided by ``sqrt(1 + length^2)`` instead.

    Parameters
    ----------
    stream : Tensor
        `[B, n + T, C]`.
    taps : Tensor
        `[n + 1, C]`.
    units : Tensor
        Result `[B, T, C / K, K]`, which is filled; the numbers of a token are contiguous.
    n_bounded : int
        Number of bounded vectors of a token.
    """
    batch, before = len(stream), len(taps) - 1
    length, channels = stream.shape[1] - before, taps.shape[1]
    stream, taps = stream.contiguous(), taps.contiguous()
    width = units.shape[3]
    fields = [batch, length, channels, before, width, channels - n_bounded * width]
    rest = [address(stream), address(taps), stream.stride(0)]
    rest += [address(units), *units.stride()[:2]]
    rest += [0] * (1 + 3 * _PARTS + 6)

    def part(first: int, last: int) -> None:
        _call("units", [*fields, first, last, *rest], stream)

    in_threads(batch, 1 + units.numel() // _WORK, part)


def native_units_backward(
    stream: Tensor,
    taps: Tensor,
    d_units: Sequence[Tensor],
    d_last: Tensor,
    d_new: Tensor,
    d_taps: Tensor,
    n_bounded: int,
) -> Tensor:
    """Compute the gradients of :func:`native_units`, whose result was cut into equal parts.

    Parameters
    ----------
    stream, taps, n_bounded
        As for :func:`native_units`.
    d_units : sequence of Tensor
        Gradient of each part, `[B, T, heads, K]`.
    d_last : Tensor
        Gradient of the stream's last rows from later tokens, `[B, n, C]`.
    d_new : Tensor
        Gradient of the stream's last T rows, `[B, T, C]`, which is filled.
    d_taps : Tensor
        `[n + 1, C]`; the gradient of `taps` is added to it.

    Returns
    -------
    Tensor
        The gradient of the stream's first n rows, `[B, n, C]`.
    """
    batch, before = len(stream), len(taps) - 1
    length, channels = stream.shape[1] - before, taps.shape[1]
    stream, taps, d_last = stream.contiguous(), taps.contiguous(), d_last.contiguous()
    parts = [
        d if d.is_contiguous() or d[0, :1].is_contiguous() else d.contiguous() for d in d_units
    ]
    assert len(parts) <= _PARTS
    assert d_new.stride(2) == 1
    empty = [0] * (_PARTS - len(parts))
    d_before = torch.empty_like(d_last)
    width = parts[0].shape[-1]
    fields = [batch, length, channels, before, width, channels - n_bounded * width]
    rest = [address(stream), address(taps), stream.stride(0), 0, 0, 0, len(parts)]
    rest += [*map(address, parts), *empty]
    rest += [s for axis in (0, 1) for s in (*(d.stride(axis) for d in parts), *empty)]
    rest += [address(d_last), address(d_before), address(d_new)]

    def part(first: int, last: int) -> Tensor:
        found = torch.zeros_like(taps)
        strides = d_new.stride()[:2]
        _call("units_backward", [*fields, first, last, *rest, address(found), *strides], stream)
        return found

    for found in in_threads(batch, 1 + length * batch * channels // _WORK, part):
        d_taps += found
    return d_before


def native_gated_norm(y: Tensor, gate: Tensor, weight: Tensor, open_gate: bool) -> Tensor:
    """Normalise every head of y `[.., H, K]` by its RMS; multiply by a weight and a gate's activation.

    That is twice the sigmoid of the gate if `open_gate`, else its SiLU.

    The result is `[.., H K]`, like the gate.
    """
    y, gate, weight = y.contiguous(), gate.contiguous(), weight.contiguous()
    out = torch.empty_like(gate)
    rows = gate.numel() // max(1, gate.shape[-1])
    sizes = (rows, gate.shape[-1], y.shape[-1], int(open_gate))

    def part(first: int, last: int) -> None:
        given = (*map(address, (y, gate, weight, out)), 0, 0, 0, 0)
        _call("gated_norm", [*sizes, first, last, *given], y)

    in_threads(rows, 1 + gate.numel() // _WORK, part)
    return out


def native_gated_norm_backward(
    y: Tensor, gate: Tensor, weight: Tensor, d_out: Tensor, open_gate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of :func:`native_gated_norm`."""
    y, gate, weight, d_out = (x.contiguous() for x in (y, gate, weight, d_out))
    d_y, d_gate = torch.empty_like(y), torch.empty_like(gate)
    rows = gate.numel() // max(1, gate.shape[-1])
    sizes = (rows, gate.shape[-1], y.shape[-1], int(open_gate))

    def part(first: int, last: int) -> Tensor:
        found = torch.zeros_like(weight)
        given = map(address, (y, gate, weight, None, d_out, d_y, d_gate, found))
        _call("gated_norm_backward", [*sizes, first, last, *given], y)
        return found

    parts = in_threads(rows, 1 + gate.numel() // _WORK, part)
    return d_y, d_gate, sum(parts[1:], parts[0])


def _call(name: str, fields: list[int], x: Tensor) -> None:
    if getattr(library(*DTYPES[x.dtype]), f"titans_{name}")((Integer * len(fields))(*fields)):
        raise MemoryError(f"{name} found no room to work in")
