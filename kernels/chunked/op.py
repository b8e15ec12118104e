"""The neural memory as matrix products: exact, any depth, no per-token weights, bounded training memory.

`chunk.py` computes one chunk, `backward.py` its backward pass, and `coefficients.py` its coefficients.
This module decides the order of the chunks and what is kept for the backward pass. The forward pass
saves some of the boundaries between chunks. The backward pass goes through the chunks in reverse and
recomputes everything else, so that training holds O(sqrt(T / b)) boundaries in addition to its inputs.

Samples are processed in groups and chunks one by one, so that the data of a chunk stay in the
processor's cache. Outside, tokens are `[B, T, H, d]` and states `[B, H, d_in, d_out]`; inside a chunk
they are `[n, L, d]` and `[n, d_in, d_out]` for n = H * B memories.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import itemgetter
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
from titans_ts.kernels.chunked.chunk import Boundary
from titans_ts.kernels.chunked.samples import SampleGroup, Tokens, tokens_together
from titans_ts.kernels.layout import ChunkLayout
from titans_ts.kernels.state import MemoryOutput, MemoryState, initial_state

__all__ = ["compute", "uncovered"]


def uncovered(call: MemoryCall) -> str | None:
    """None: this implementation covers every call."""
    return None


def compute(call: MemoryCall) -> MemoryOutput:
    """Write every token into the memory and read the memory after it, a chunk at a time.

    The result can be differentiated once.
    """
    call = call.in_full_precision()
    q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, *_ = call
    # If forgetting moves towards M_0, everything below computes with the distance from M_0.
    to_initial = call.to_initial
    origin = initial if to_initial else tuple(torch.zeros_like(w) for w in initial)
    begun = initial_state(initial, k.shape[0]) if state is None else state
    carried: list[Tensor] = []
    if state is not None or not to_initial:  # a stream begins at a distance of zero
        weights, momenta, anchor = (
            [_shared(w) for w in layers] for layers in (begun.weights, begun.momentum, begun.anchor)
        )
        carried += map(torch.sub, anchor, origin)
        distances = list(map(torch.sub, weights, origin))
        if momentum is not None:
            pairs = map(torch.broadcast_tensors, distances, momenta)
            distances = [torch.cat(pair, 2) for pair in pairs]
        carried = [*distances, *carried]
    tensors = (q, k, v, forget, momentum, lr, *initial, *carried)
    save = requires_gradient(*tensors)
    y, surprise, position, *final = _Chunked.apply(
        *(len(initial), chunk_size, to_initial, call.online, save, begun.position, mask, *tensors)
    )
    stacks, anchors = final[: len(initial)], final[len(initial) :]
    kept = begun.momentum
    if momentum is not None:
        cut = (x.split(w0.shape[1], 2) for x, w0 in zip(stacks, initial, strict=True))
        stacks, kept = zip(*cut, strict=True)
        kept = tuple(s.contiguous() for s in kept)
    after, anchored = (tuple(map(torch.add, layers, origin)) for layers in (stacks, anchors))
    read = None if q is None else y
    return MemoryOutput(read, MemoryState(after, kept, anchored, position), surprise)


def _shared(w: Tensor) -> Tensor:
    """Return a layer of a state `[B, H, ..]`, or `[1, H, ..]` if the whole batch shares one tensor.

    The batch shares it at the beginning of a stream, which is most of the training on windows of a chunk
    or two. An expanded tensor gets its summed gradient. A leaf needs one per row and is not reduced.
    """
    alone = w.is_leaf and w.requires_grad
    if w.shape[0] == 1 or w.stride(0) != 0 or alone or torch.compiler.is_compiling():
        return w
    return w[:1]


class _Chunked(torch.autograd.Function):
    """The two operators below as one differentiable function."""

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
        outputs = _forward_operator(
            position, mask, tensors, depth, chunk_size, to_initial, online, save
        )
        n_layers = 2 * depth
        ctx.set_materialize_grads(False)
        ctx.options = (depth, chunk_size, to_initial, online)
        ctx.n_tensors = len(tensors)
        ctx.save_for_backward(position, mask, *tensors, *outputs[3 + n_layers :])
        ctx.mark_non_differentiable(outputs[2])
        return tuple(outputs[: 3 + n_layers])

    @staticmethod
    @differentiable_once
    def backward(
        ctx: Any, y: Tensor | None, surprise: Tensor | None, _: None, *final: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        position, mask, *rest = ctx.saved_tensors
        tensors, saved = rest[: ctx.n_tensors], rest[ctx.n_tensors :]
        outputs = [y, surprise, *final]
        with torch.autocast(
            tensors[1].device.type, enabled=False
        ):  # autocast may be on around backward()
            found = iter(_backward_operator(position, mask, tensors, saved, outputs, *ctx.options))
        gradients = (None if x is None else next(found) for x in tensors)
        return None, None, None, None, None, None, None, *gradients


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
    """Return y, surprise and position, the final layers, and the boundaries for :func:`_backward`.

    `tensors` are the six of :class:`Tokens`, M_0, and the state's layers if a stream continues.
    """
    slots = ChunkLayout.build(position, mask, tensors[1].shape[1], chunk_size)  # type: ignore[union-attr]
    call = _Call(slots, tensors, depth, to_initial, online)
    tokens = call.tokens
    y = tokens.v.new_zeros(0) if tokens.q is None else tokens.v.new_zeros(tokens.v.shape)
    surprise = tokens.lr.new_zeros(tokens.lr.shape)
    final = call.final()
    saved: list[Tensor] = []
    for rows in call.blocks():
        block = call.block(rows)
        storage = block.storage() if save else []
        end = block.forward(None if tokens.q is None else y[rows], surprise[rows], storage)
        for whole, w in zip(final, itertools.chain(*end), strict=True):
            whole[rows].transpose(0, 1).copy_(w.unflatten(0, (whole.shape[1], -1)))
        saved += storage
    y = y if tokens.q is None else call.slots.pick(y)
    return [y, call.slots.pick(surprise), call.slots.final_position, *final, *saved]


def _backward(
    position: Tensor,
    mask: Tensor | None,
    tensors: Sequence[Tensor | None],
    saved: Sequence[Tensor],
    outputs: Sequence[Tensor | None],
    depth: int,
    chunk_size: int,
    to_initial: bool,
    online: bool,
) -> list[Tensor]:
    """Return the gradients of `tensors` from those of the results of :func:`_forward`."""
    slots = ChunkLayout.build(position, mask, tensors[1].shape[1], chunk_size)  # type: ignore[union-attr]
    call = _Call(slots, tensors, depth, to_initial, online)
    found = call.tokens.map(lambda x: x.new_zeros(x.shape))
    initial = [w.new_zeros(w.shape) for w in call.initial]
    state = [w.new_zeros(w.shape) for w in call.state]
    y, surprise = (None if x is None else call.slots.place(x) for x in outputs[:2])
    blocks = call.blocks()
    each = len(saved) // max(1, len(blocks))
    for i, rows in enumerate(blocks):
        start = call.block(rows).backward(
            None if y is None else y[rows],
            None if surprise is None else surprise[rows],
            call.end(outputs[2:], rows),
            list(saved[i * each : (i + 1) * each]),
            found.map(itemgetter(rows)),
            initial,
        )
        for whole, w in zip(state, itertools.chain(*start), strict=bool(state)):
            part = whole if whole.shape[0] < len(position) else whole[rows]
            part.transpose(0, 1).add_(w.unflatten(0, (part.shape[1], -1)))
    return [*(call.slots.pick(x) for x in found if x is not None), *initial, *state]


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
    call = _Call(
        ChunkLayout([], position, chunk_size, 0), tensors, depth, to_initial, online
    )  # shapes alone
    q, k, v, *_ = call.tokens
    y = v.new_empty(0 if q is None else v.shape)
    saved = [w for rows in call.blocks() if save for w in call.block(rows).storage()]
    return [y, k.new_empty(k.shape[:3]), torch.empty_like(position), *call.final(), *saved]


_forward_operator = operator(
    "titans_ts::chunked_memory",
    "(Tensor position, Tensor? mask, Tensor?[] tensors, int depth, int chunk_size, "
    "bool to_initial, bool online, bool save) -> Tensor[]",
    _forward,
    _forward_shapes,
)
_backward_operator = operator(
    "titans_ts::chunked_memory_backward",
    "(Tensor position, Tensor? mask, Tensor?[] tensors, Tensor[] saved, Tensor?[] outputs, "
    "int depth, int chunk_size, bool to_initial, bool online) -> Tensor[]",
    _backward,
    gradient_shapes,
)


class _Call:
    """The arguments of a call, and the groups of samples that they are split into."""

    def __init__(
        self,
        slots: ChunkLayout,
        tensors: Sequence[Tensor | None],
        depth: int,
        to_initial: bool,
        online: bool,
    ) -> None:
        self.slots, self.depth = slots, depth
        self.to_initial, self.online = to_initial, online
        tokens = Tokens(*tensors[:6])  # type: ignore[arg-type]
        self.batch, length, self.heads = tokens.lr.shape
        self.most = (length + slots.chunk_size - 2) // slots.chunk_size + 1
        self.tokens = tokens.map(slots.place)
        layers = [w for w in tensors[6:] if w is not None]
        self.initial, self.state = layers[:depth], layers[depth:]
        size = max(1, min(length, slots.chunk_size))
        self.together = max(1, tokens_together(self.initial, size) // max(1, self.heads * size))

    def blocks(self) -> list[slice]:
        """The groups of samples that are computed together."""
        edges = [*range(0, self.batch, self.together), self.batch]
        return [slice(a, b) for a, b in itertools.pairwise(edges)]

    def block(self, rows: slice) -> SampleGroup:
        """Return a group of samples."""

        def fold(w: Tensor) -> Tensor:
            """Fold `[B, H, ..]` to `[n, ..]`, or `[1, H, ..]`, which all samples share, to `[H, ..]`."""
            w = w if w.shape[0] == 1 else w[rows]
            return w.transpose(0, 1).reshape(-1, *w.shape[2:])

        tokens = self.tokens.map(itemgetter(rows))
        start = self._boundary([fold(w) for w in self.state])
        options = (self.to_initial, self.online, self.most)
        return SampleGroup(tokens, self.slots[rows], self.initial, start, *options)

    def final(self) -> list[Tensor]:
        """Allocate the layers of the final state."""
        P = 1 if self.tokens.momentum is None else 2
        return [
            w.new_empty(self.batch, w.shape[0], rows * w.shape[1], w.shape[2])
            for rows in (P, 1)
            for w in self.initial
        ]

    def end(self, gradients: Sequence[Tensor | None], rows: slice) -> Boundary | None:
        """Return the gradient of the final state of some samples, or None if there is none at all."""
        if all(w is None for w in gradients):
            return None
        layers = (
            room[rows].zero_() if w is None else w[rows]
            for w, room in zip(gradients, self.final(), strict=True)
        )
        return self._boundary([w.transpose(0, 1).flatten(0, 1).clone() for w in layers])

    def _boundary(self, tensors: list[Tensor]) -> Boundary:
        """Make a boundary from a state's flat list of layers; an empty list starts a stream."""
        return Boundary(tensors[: self.depth], tensors[self.depth :])
