"""The neural memory compiled for this machine's CPU, forward and backward: any depth up to four.

This module has the checks, the layout of tensors and the operators. `csrc/memory.c` has the computation,
one sample and head after the other. The system's C compiler compiles it at first use.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from titans_ts.kernels.autograd import (
    differentiable_once,
    gradient_shapes,
    operator,
    requires_gradient,
)
from titans_ts.kernels.call import MemoryCall
from titans_ts.kernels.native.abi import (
    DEPTH,
    DTYPES,
    Integer,
    address,
    in_threads,
    places,
    point,
    samples,
)
from titans_ts.kernels.native.compiler import library
from titans_ts.kernels.native.coverage import uncovered_sizes
from titans_ts.kernels.state import MemoryOutput, MemoryState

__all__ = ["compute", "uncovered"]

SAVED = 40
"""Largest number of chunks in a call for which the forward pass saves every boundary. With more chunks it
saves every k-th one."""

LARGEST = 2**22
"""Largest number of numbers in all saved boundaries; with more, every k-th one is saved. The C library
returns a block of 32 MiB to the system after each use, and to clear its pages again took longer than to
compute the boundaries again."""

_WORK = 2**22
"""Number of multiplications (tokens times weights) that justify a thread: about 100 microseconds."""

_TOKENS = 6  # q, k, v, forget, momentum, lr
_STATE = ("weights", "momenta", "anchor")


def uncovered(call: MemoryCall) -> str | None:
    """Return why the compiled memory does not cover a call, or None if it does."""
    return uncovered_sizes(call.k, len(call.initial), call.chunk_size)


def compute(call: MemoryCall) -> MemoryOutput:
    """Write every token and read the memory after it; the result can be differentiated once."""
    q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, *_ = call
    batch, length, *_ = k.shape
    mask = None if mask is None else mask.bool()
    depth = len(initial)
    to_initial = call.to_initial
    dtype = torch.promote_types(v.dtype, torch.float32)
    before: tuple[Tensor, ...] = ()
    if state is not None:
        before = (*state.weights, *state.momentum, *state.anchor)
        position = state.position
    else:
        position = torch.zeros(batch, dtype=torch.long, device="cpu")
    given = (q, k, v, forget, momentum, lr, *initial, *before)
    tensors = tuple(x if x is None or x.dtype == dtype else x.to(dtype) for x in given)
    save = requires_gradient(*tensors)
    compiling = torch.compiler.is_compiling()
    if save or compiling:
        options = (depth, chunk_size, to_initial, call.online, save)
        y, surprise, *layers = _Native.apply(*options, position, mask, *tensors)
    else:
        y, surprise, *layers = _forward(
            position, mask, tensors, depth, chunk_size, to_initial, call.online, False
        )
    weights, momenta, anchor = (tuple(layers[i * depth : (i + 1) * depth]) for i in range(3))
    if momentum is None:  # the momentum does not change
        momenta = tuple(map(torch.zeros_like, weights)) if state is None else state.momentum
    seen = length if mask is None else mask.sum(1).cpu()
    final = MemoryState(weights, momenta, anchor, (position + seen) % chunk_size)
    return MemoryOutput(None if q is None else y, final, surprise)


class _Fields(ctypes.Structure):
    """`struct call` of memory.c; the address of a missing tensor is 0."""

    _fields_ = (
        *((name, Integer) for name in ("depth", "chunk", "batch", "heads", "length")),
        *((name, Integer) for name in ("to_initial", "online", "every", "room", "first", "last")),
        ("widths", Integer * (DEPTH + 1)),
        ("tokens", Integer * _TOKENS),
        ("strides", Integer * (3 * _TOKENS)),
        *((name, Integer) for name in ("mask", "position")),
        *((name, Integer * DEPTH) for name in ("initial", "weights", "momenta", "anchor")),
        ("batches", Integer * (3 * DEPTH)),
        *((name, Integer) for name in ("y", "surprise")),
        *((f"{name}_after", Integer * DEPTH) for name in _STATE),
        *((name, Integer) for name in ("saved", "d_y", "d_surprise")),
        *((f"d_{name}_after", Integer * DEPTH) for name in _STATE),
        ("d_tokens", Integer * _TOKENS),
        *((f"d_{name}", Integer * DEPTH) for name in ("initial", *_STATE)),
    )


class _Call:
    """The arguments of a call in the form of memory.c."""

    def __init__(
        self,
        position: Tensor,
        mask: Tensor | None,
        tensors: Sequence[Tensor | None],
        depth: int,
        chunk_size: int,
        to_initial: bool,
        online: bool,
    ) -> None:
        tokens = list(map(_with_rows, tensors[:_TOKENS]))
        weights = [w for w in tensors[_TOKENS:] if w is not None]
        layers, state = (
            [w.contiguous() for w in weights[:depth]],
            list(map(samples, weights[depth:])),
        )
        k = tokens[1]
        assert k is not None
        self.dtype, self.initial = k.dtype, layers
        batch, length, heads, width = k.shape
        every, room, _ = _saving(tensors, depth, chunk_size)
        fields = self.fields = _Fields(
            depth, chunk_size, batch, heads, length, to_initial, online, every, room
        )
        fields.widths[: depth + 1] = [width, *(w.shape[2] for w in layers)]
        strides = [(0, 0, 0) if x is None else x.stride()[:3] for x in tokens]
        fields.strides[:] = [s for each in strides for s in each]
        mask = None if mask is None else mask.contiguous()
        position = places(position, batch, chunk_size)
        fields.mask, fields.position = address(mask), address(position)
        point(fields.tokens, tokens)
        point(fields.initial, layers)
        for i, name in enumerate(_STATE if state else ()):
            part = state[i * depth : (i + 1) * depth]
            point(getattr(fields, name), part)
            fields.batches[i * DEPTH : i * DEPTH + depth] = [w.stride(0) for w in part]
        self.owned = (
            tokens,
            layers,
            state,
            mask,
            position,
        )  # kept as long as their addresses are in use
        size = sum(w.shape[1] * w.shape[2] for w in layers)
        self.memories = batch * heads
        self.worth = 1 + self.memories * length * size // _WORK

    def run(self, name: str, gradients: Sequence[Tensor] = ()) -> None:
        """Call a function of memory.c, in several threads if there is enough work.

        `gradients` are those of M_0; the results of all threads are added to them.
        """
        function = getattr(library(*DTYPES[self.dtype]), f"titans_{name}")

        def part(first: int, last: int) -> list[Tensor]:
            fields = _Fields.from_buffer_copy(self.fields)
            fields.first, fields.last = first, last
            found = [torch.zeros_like(w) for w in gradients]
            point(fields.d_initial, found)
            if function(ctypes.byref(fields)):
                raise MemoryError(f"the memory's {name} pass found no room to work in")
            return found

        for found in in_threads(self.memories, self.worth, part):
            for w, x in zip(gradients, found, strict=True):
                w.add_(x)


def _with_rows(x: Tensor | None) -> Tensor | None:
    """Return tokens `[B, T, H, d]` with a contiguous last axis; gates `[B, T, H]` are unchanged."""
    return x if x is None or x.ndim == 3 or x.stride(-1) == 1 else x.contiguous()


def _saving(tensors: Sequence[Tensor | None], depth: int, chunk_size: int) -> tuple[int, int, int]:
    """Return k (every k-th boundary is saved), how many are saved, and how many numbers one has.

    The last is that of all memories; rows are padded to whole vectors.
    """
    k, momentum = tensors[1], tensors[4]
    layers = [w for w in tensors[_TOKENS : _TOKENS + depth] if w is not None]
    assert k is not None
    batch, length, heads, _ = k.shape
    lanes = 64 // k.element_size()  # of the longest vectors
    size = sum(w.shape[1] * -(-w.shape[2] // lanes) * lanes for w in layers)
    numbers = batch * heads * size * (1 if momentum is None else 2)
    n_chunks = max(0, length + 2 * chunk_size - 2) // chunk_size  # for any start position
    needed = max(-(-n_chunks // SAVED), -(-n_chunks * numbers // LARGEST))
    every = max(1, min(needed, math.isqrt(n_chunks)))
    return every, n_chunks // every, numbers


def _outputs(
    tensors: Sequence[Tensor | None], depth: int, chunk_size: int, save: bool
) -> list[Tensor]:
    """Allocate the results of :func:`_forward`."""
    q, k, momentum = tensors[0], tensors[1], tensors[4]
    layers = [w for w in tensors[_TOKENS : _TOKENS + depth] if w is not None]
    assert k is not None
    batch, length, heads, _ = k.shape
    y = k.new_empty(0 if q is None else (batch, length, heads, layers[-1].shape[2]))
    weights, momenta, anchor = ([k.new_empty(batch, *w.shape) for w in layers] for _ in range(3))
    if momentum is None:
        momenta = [k.new_empty(0) for _ in layers]
    _, room, numbers = _saving(tensors, depth, chunk_size)
    saved = k.new_empty(room * numbers if save else 0)
    return [y, k.new_empty(batch, length, heads), *weights, *momenta, *anchor, saved]


def _forward(
    position: Tensor,
    mask: Tensor | None,
    tensors: Sequence[Tensor | None],
    depth: int,
    chunk_size: int,
    to_initial: bool,
    online: bool,
    save: bool,
) -> list[Tensor]:
    """Return y, surprise, the layers of the state after and the saved boundaries.

    `tensors` are q, k, v, forget, momentum, lr, M_0, and the state's layers if a stream continues.
    """
    call = _Call(position, mask, tensors, depth, chunk_size, to_initial, online)
    y, surprise, *layers, saved = outputs = _outputs(tensors, depth, chunk_size, save)
    if mask is not None:  # the kernel does not write absent tokens
        y.zero_()
        surprise.zero_()
    to = call.fields
    to.y, to.surprise, to.saved = address(y), address(surprise), address(saved) if save else 0
    for i, name in enumerate(_STATE):
        point(getattr(to, f"{name}_after"), layers[i * depth : (i + 1) * depth])
    call.run("forward")
    return outputs


def _backward(
    position: Tensor,
    mask: Tensor | None,
    tensors: Sequence[Tensor | None],
    saved: Tensor,
    gradients: Sequence[Tensor | None],
    depth: int,
    chunk_size: int,
    to_initial: bool,
    online: bool,
) -> list[Tensor]:
    """Return the gradients of `tensors` from those of the results of :func:`_forward`."""
    call = _Call(position, mask, tensors, depth, chunk_size, to_initial, online)
    given = [None if x is None else x.to(call.dtype).contiguous() for x in gradients]
    to = call.fields
    to.saved, to.d_y, to.d_surprise = saved.data_ptr(), *map(address, given[:2])
    for i, name in enumerate(_STATE):
        part = given[2 + i * depth : 2 + (i + 1) * depth]
        if any(x is not None for x in part):  # all layers need a gradient, or none
            for layer, w in enumerate(call.initial):
                if part[layer] is None:
                    part[layer] = w.new_zeros(position.shape[0], *w.shape)
            point(getattr(to, f"d_{name}_after"), part)
            given += part  # kept as long as their addresses are in use
    # the kernel writes the gradients of present tokens, and of queries only if y has a gradient
    written = range(0 if gradients[0] is not None else 1, _TOKENS if mask is None else 0)
    found = [
        None if x is None else (x.new_empty if i in written else x.new_zeros)(x.shape)
        for i, x in enumerate(tensors)
    ]
    point(to.d_tokens, found[:_TOKENS])
    layers = [w for w in found[_TOKENS:] if w is not None]
    for i, name in enumerate(_STATE if layers[depth:] else ()):
        point(getattr(to, f"d_{name}"), layers[(i + 1) * depth : (i + 2) * depth])
    call.run("backward", layers[:depth])
    return [x for x in found if x is not None]


def _forward_shapes(
    position: Tensor,
    mask: Tensor | None,
    tensors: Sequence[Tensor | None],
    depth: int,
    chunk_size: int,
    to_initial: bool,
    online: bool,
    save: bool,
) -> list[Tensor]:
    return _outputs(tensors, depth, chunk_size, save)


_forward_operator = operator(
    "titans_ts::native_memory",
    "(Tensor position, Tensor? mask, Tensor?[] tensors, int depth, int chunk_size, "
    "bool to_initial, bool online, bool save) -> Tensor[]",
    _forward,
    _forward_shapes,
)
_backward_operator = operator(
    "titans_ts::native_memory_backward",
    "(Tensor position, Tensor? mask, Tensor?[] tensors, Tensor saved, Tensor?[] gradients, "
    "int depth, int chunk_size, bool to_initial, bool online) -> Tensor[]",
    _backward,
    gradient_shapes,
)


class _Native(torch.autograd.Function):
    """The two operators above as one differentiable function."""

    @staticmethod
    def forward(
        ctx: Any,
        depth: int,
        chunk_size: int,
        to_initial: bool,
        online: bool,
        save: bool,
        position: Tensor,
        mask: Tensor | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        *outputs, saved = _forward_operator(
            position, mask, tensors, depth, chunk_size, to_initial, online, save
        )
        ctx.set_materialize_grads(False)
        ctx.options = (depth, chunk_size, to_initial, online)
        ctx.save_for_backward(position, mask, *tensors, saved)
        return tuple(outputs)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        position, mask, *tensors, saved = ctx.saved_tensors
        found = iter(_backward_operator(position, mask, tensors, saved, gradients, *ctx.options))
        return (
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            *(None if x is None else next(found) for x in tensors),
        )
