"""The neural memory as matrix products: exact, any depth, no per-token weights, bounded training memory.

`chunk.py` holds what one chunk does, forward and backward, and `coefficients.py` its coefficients.
Here is the order in which chunks are taken and what is kept for the backward pass. The forward pass
saves a few of the boundaries between chunks; the backward pass goes through the chunks in reverse and
computes everything else again, so that training holds O(sqrt(T / b)) boundaries beside its inputs.

Samples are taken a block at a time and chunks one by one, so that what a chunk needs stays in the
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

from titans_ts.kernels.autograd import differentiable_once, operator, requires_gradient
from titans_ts.kernels.call import MemoryCall
from titans_ts.kernels.chunked.chunk import Boundary
from titans_ts.kernels.chunked.samples import SampleGroup, Tokens, tokens_together
from titans_ts.kernels.layout import ChunkLayout
from titans_ts.kernels.state import MemoryOutput, MemoryState, initial_state

__all__ = ["compute", "uncovered"]


def uncovered(call: MemoryCall) -> str | None:
    """Why this does not cover a call: it covers every one."""
    return None


def compute(call: MemoryCall) -> MemoryOutput:
    """Write every token into the memory and read the memory after it, a chunk at a time.

    Differentiable once.
    """
    call = call.in_full_precision()
    q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, _ = call
    # Where forgetting leads to M_0, all that follows computes with the distance from there.
    towards = call.to_initial
    origin = initial if towards else tuple(torch.zeros_like(w) for w in initial)
    begun = initial_state(initial, len(k)) if state is None else state
    carried: list[Tensor] = []
    if state is not None or not towards:  # a stream begins at a distance of zero
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
        *(len(initial), chunk_size, towards, save, begun.position, mask, *tensors)
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
    """A layer of a state `[B, H, ..]`, or `[1, H, ..]` where one tensor serves the whole batch.

    So it is at the beginning of a stream; training on windows of a chunk or two is that first chunk.
    What was expanded gets its whole gradient. A leaf has one for every row, and is taken as it is.
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
        towards: bool,
        save: bool,
        position: Tensor,
        mask: Tensor | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        outputs = _forward_operator(position, mask, tensors, depth, chunk_size, towards, save)
        n_layers = 2 * depth
        ctx.set_materialize_grads(False)
        ctx.options = (depth, chunk_size, towards)
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
        ):  # it may be on around backward()
            found = iter(_backward_operator(position, mask, tensors, saved, outputs, *ctx.options))
        gradients = (None if x is None else next(found) for x in tensors)
        return None, None, None, None, None, None, *gradients


def _forward(
    position: Tensor,
    mask: Tensor | None,
    tensors: Sequence[Tensor | None],
    depth: int,
    chunk_size: int,
    towards: bool,
    save: bool,
) -> list[Tensor]:
    """Return y, surprise and position, the final layers, and what :func:`_backward` needs besides.

    `tensors` are the six of :class:`Tokens`, M_0, and the state's layers if a stream goes on.
    """
    slots = ChunkLayout.build(position, mask, tensors[1].shape[1], chunk_size)  # type: ignore[union-attr]
    call = _Call(slots, tensors, depth, towards)
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
    towards: bool,
) -> list[Tensor]:
    """Return the gradients of `tensors` from those of what :func:`_forward` returned."""
    slots = ChunkLayout.build(position, mask, tensors[1].shape[1], chunk_size)  # type: ignore[union-attr]
    call = _Call(slots, tensors, depth, towards)
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
    towards: bool,
    save: bool,
) -> list[Tensor]:
    call = _Call(ChunkLayout([], position, chunk_size, 0), tensors, depth, towards)  # shapes alone
    q, k, v, *_ = call.tokens
    y = v.new_empty(0 if q is None else v.shape)
    saved = [w for rows in call.blocks() if save for w in call.block(rows).storage()]
    return [y, k.new_empty(k.shape[:3]), torch.empty_like(position), *call.final(), *saved]


def _backward_shapes(
    position: Tensor,
    mask: Tensor | None,
    tensors: Sequence[Tensor | None],
    saved: Sequence[Tensor],
    outputs: Sequence[Tensor | None],
    depth: int,
    chunk_size: int,
    towards: bool,
) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in tensors if x is not None]


_forward_operator = operator(
    "titans_ts::chunked_memory",
    "(Tensor position, Tensor? mask, Tensor?[] tensors, int depth, int chunk_size, "
    "bool towards, bool save) -> Tensor[]",
    _forward,
    _forward_shapes,
)
_backward_operator = operator(
    "titans_ts::chunked_memory_backward",
    "(Tensor position, Tensor? mask, Tensor?[] tensors, Tensor[] saved, Tensor?[] outputs, "
    "int depth, int chunk_size, bool towards) -> Tensor[]",
    _backward,
    _backward_shapes,
)


class _Call:
    """The arguments of a call and the blocks of samples they are cut into."""

    def __init__(
        self,
        slots: ChunkLayout,
        tensors: Sequence[Tensor | None],
        depth: int,
        towards: bool,
    ) -> None:
        self.slots, self.depth, self.towards = slots, depth, towards
        tokens = Tokens(*tensors[:6])  # type: ignore[arg-type]
        self.batch, length, self.heads = tokens.lr.shape
        self.most = (length + slots.chunk_size - 2) // slots.chunk_size + 1
        self.tokens = tokens.map(slots.place)
        layers = [w for w in tensors[6:] if w is not None]
        self.initial, self.state = layers[:depth], layers[depth:]
        size = max(1, min(length, slots.chunk_size))
        self.together = max(1, tokens_together(self.initial, size) // max(1, self.heads * size))

    def blocks(self) -> list[slice]:
        """The samples that are computed together."""
        edges = [*range(0, self.batch, self.together), self.batch]
        return [slice(a, b) for a, b in itertools.pairwise(edges)]

    def block(self, rows: slice) -> SampleGroup:
        """Some of the samples."""

        def fold(w: Tensor) -> Tensor:
            """`[B, H, ..]` to `[n, ..]`; `[1, H, ..]`, which all samples share, to `[H, ..]`."""
            w = w if w.shape[0] == 1 else w[rows]
            return w.transpose(0, 1).reshape(-1, *w.shape[2:])

        tokens = self.tokens.map(itemgetter(rows))
        start = self._boundary([fold(w) for w in self.state])
        return SampleGroup(tokens, self.slots[rows], self.initial, start, self.towards, self.most)

    def final(self) -> list[Tensor]:
        """Room for the layers of the final state."""
        P = 1 if self.tokens.momentum is None else 2
        return [
            w.new_empty(self.batch, w.shape[0], rows * w.shape[1], w.shape[2])
            for rows in (P, 1)
            for w in self.initial
        ]

    def end(self, gradients: Sequence[Tensor | None], rows: slice) -> Boundary | None:
        """The gradient of the final state of some samples, zero where there is none; None if all is."""
        if all(w is None for w in gradients):
            return None
        layers = (
            room[rows].zero_() if w is None else w[rows]
            for w, room in zip(gradients, self.final(), strict=True)
        )
        return self._boundary([w.transpose(0, 1).flatten(0, 1).clone() for w in layers])

    def _boundary(self, tensors: list[Tensor]) -> Boundary:
        """A state's flat list of layers; of none, the beginning of a stream."""
        return Boundary(tensors[: self.depth], tensors[self.depth :])
