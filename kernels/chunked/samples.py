"""The walk of some samples through all chunks: forward, and backward from the saved boundaries.

Outside, tokens are `[B, N, H, d]` on the grid of slots; inside a chunk they are `[n, L, d]` for n = H * B
memories, heads outermost. A layer is `[n, d_in, d_out]`, or `[H, d_in, d_out]` if the batch shares it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from titans_ts.kernels.chunked.backward import ChunkGradient
from titans_ts.kernels.chunked.chunk import Boundary, Chunk
from titans_ts.kernels.chunked.coefficients import Coefficients, CoefficientValues
from titans_ts.kernels.layout import ChunkLayout

__all__ = ["SampleGroup", "Tokens", "tokens_together"]

TOGETHER = 65536
"""Number of elements of one tensor in the matrix products: tokens (over heads, samples and chunks) times
the largest width of a token. Larger tensors leave a CPU's cache, and with smaller ones the calls cost too
much. benchmarks/README.md has the measurement."""

RUN = 16384
"""Number of tokens (over heads, samples and chunks) whose coefficients are computed together."""

SAVED = 40
"""Largest number of chunks in a call for which the forward pass saves every boundary. With more chunks it
saves every k-th one."""


def tokens_together(initial: list[Tensor], length: int) -> int:
    """Return how many tokens (over heads, samples and chunks of a length) are computed together."""
    if initial[0].device.type != "cpu":
        return 2**20  # a GPU has no such cache, and its calls cost more
    return TOGETHER // max(length, *(size for w in initial for size in w.shape[1:]))


class Tokens(NamedTuple):
    """Queries, keys and values `[B, N, H, d]` and gates `[B, N, H]`."""

    q: Tensor | None
    k: Tensor
    v: Tensor
    forget: Tensor | None
    momentum: Tensor | None
    lr: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Tokens:
        """Apply a function to each of them."""
        return Tokens(*(None if x is None else function(x) for x in self))  # type: ignore[arg-type]


class _Run(NamedTuple):
    """Consecutive chunks of equal length."""

    start: int
    length: int
    n_chunks: int

    @property
    def slots(self) -> slice:
        """The slots of its tokens."""
        return slice(self.start, self.start + self.n_chunks * self.length)

    def cut(self, size: int, first: int | None = None) -> list[_Run]:
        """Split into pieces of at most `size` chunks, the first of at most `first`."""
        edges = [0, *range(first or size, self.n_chunks, size), self.n_chunks]
        return [_Run(self.start + a * self.length, self.length, b - a) for a, b in pairwise(edges)]


class SampleGroup:
    """Samples whose chunks are computed together.

    Parameters
    ----------
    tokens : Tokens
        Tokens of these samples, on the grid of `slots`.
    slots : ChunkLayout
        The layout of these samples.
    initial : list of Tensor
        M_0, `[H, d_in, d_out]` a layer.
    start : Boundary
        The state before: `[n, ..]` a layer, `[H, ..]` if the batch shares it, or empty at the
        beginning of a stream.
    to_initial : bool
        Whether forgetting moves towards M_0.
    online : bool
        Whether the output layer's error is taken just before each token.
    most : int
        Upper bound on the number of chunks; it alone decides how many boundaries are saved.
    """

    def __init__(
        self,
        tokens: Tokens,
        slots: ChunkLayout,
        initial: list[Tensor],
        start: Boundary,
        to_initial: bool,
        online: bool,
        most: int,
    ) -> None:
        self.tokens, self.slots = tokens, slots
        self.initial, self.start, self.to_initial = initial, start, to_initial
        self.online = slots.chunk_size if online else 0
        batch, _, heads = tokens.lr.shape
        self.n = batch * heads
        tokens_each = max(1, self.n * min(slots.chunk_size, tokens.lr.shape[1]))
        self.together = max(1, tokens_together(initial, slots.chunk_size) // tokens_each)
        longest = max(RUN // tokens_each, math.isqrt(most), 1)
        self.every = 1 if most <= SAVED else min(longest, -(-most // SAVED))
        self.room = min(most, most // self.every + most // longest + 3)
        self.repeated = {1: initial}
        self.runs: list[_Run] = []
        for length, group in groupby(slots.chunks, lambda chunk: chunk[1] - chunk[0]):
            chunks = list(group)
            self.runs += _Run(chunks[0][0], length, len(chunks)).cut(longest)
        saved = (piece.start for run in self.runs for piece in run.cut(self.every))
        self.saved_at = {start: i for i, start in enumerate(filter(None, saved))}

    def storage(self) -> list[Tensor]:
        """Allocate the boundaries for the backward pass, `[S, n, P * d_in, d_out]` a layer."""
        return [w.new_empty(self.room, self.n, *w.shape[1:]) for w in self._zeros()]

    def forward(self, y: Tensor | None, surprise: Tensor, storage: list[Tensor]) -> Boundary:
        """Go through all chunks.

        Parameters
        ----------
        y, surprise : Tensor
            Outputs `[B, N, H, V]` (None: nothing is read) and `[B, N, H]`, which are filled.
        storage : list of Tensor
            The result of :meth:`storage`, which is filled; empty if there is no backward pass.

        Returns
        -------
        Boundary
            The state after the last token, `[n, ..]` a layer.
        """
        boundary, anchor = self.start, self.start.anchor
        for run in self.runs:
            shares = self._shares(run)
            for piece in self._pieces(run):
                values = self._values(run, piece, shares)
                k, v = (_fold(x, piece) for x in self.tokens[1:3])
                chunks: list[Chunk] = []
                for g, chunk in enumerate(piece.cut(1)):
                    rows = slice(g * self.n, (g + 1) * self.n)
                    here = values.chunk(g, self.n)
                    chunks.append(self._chunk(k[rows], v[rows], here, boundary))
                    saved = self.saved_at.get(chunk.slots.stop) if storage else None
                    room = [] if saved is None else [whole[saved] for whole in storage]
                    boundary = Boundary(chunks[-1].write(room), [])
                    anchor = self._anchor(chunk.slots.stop, boundary.stacks, anchor)
                joined = Chunk.joined(chunks, values, self._repeated(piece.n_chunks))
                _unfold(surprise, piece, joined.surprise())
                if y is not None and self.tokens.q is not None:
                    _unfold(y, piece, joined.read(_fold(self.tokens.q, piece)))
        stacks, anchor = (
            boundary.stacks or self._zeros(),
            anchor or list(map(torch.zeros_like, self.initial)),
        )
        return Boundary(list(map(self._spread, stacks)), list(map(self._spread, anchor)))

    def backward(
        self,
        y: Tensor | None,
        surprise: Tensor | None,
        end: Boundary | None,
        storage: list[Tensor],
        tokens: Tokens,
        initial: list[Tensor],
    ) -> Boundary:
        """Go through all chunks in reverse.

        Parameters
        ----------
        y, surprise : Tensor or None
            Gradients of the outputs of :meth:`forward`.
        end : Boundary or None
            Gradient of its return value.
        storage : list of Tensor
            The boundaries that it stored.
        tokens, initial
            The gradients of the tokens are written here, and that of M_0 is added here.

        Returns
        -------
        Boundary
            The gradient of the start, with the shapes of the start.
        """
        anchor = [] if end is None else end.anchor
        d_initial: dict[int, list[Tensor]] = {}
        for run in reversed(self.runs):
            shares = self._shares(run)
            d_shares = shares.zeros()
            boundaries = self._boundaries(run, shares, storage)
            for piece in reversed(self._pieces(run)):
                starts = boundaries[-piece.n_chunks :]
                del boundaries[-piece.n_chunks :]
                q, k, v = (None if x is None else _fold(x, piece) for x in self.tokens[:3])
                assert k is not None
                assert v is not None
                joined = Chunk(
                    k,
                    v,
                    self._values(run, piece, shares),
                    Boundary.joined(starts),
                    self._repeated(piece.n_chunks),
                    self.to_initial,
                    self.online,
                )
                if piece.n_chunks not in d_initial:
                    repeated = self._repeated(piece.n_chunks)
                    d_initial[piece.n_chunks] = [torch.zeros_like(w) for w in repeated]
                read = y is not None and q is not None
                d_values = self._values(run, piece, d_shares)
                d_joined = ChunkGradient(joined, d_values, d_initial[piece.n_chunks], read)
                if y is not None and q is not None and tokens.q is not None:
                    d_q = d_joined.through_read(q, _fold(y, piece))
                    _unfold(tokens.q, piece, d_q)
                if surprise is not None:
                    d_joined.through_surprise(_fold(surprise, piece))

                def arrive(g: int, d_weights: list[Tensor], piece: _Run = piece) -> None:
                    nonlocal anchor
                    stop = piece.start + (g + 1) * piece.length
                    anchor = self._anchor_backward(stop, d_weights, anchor)

                end = d_joined.through_writes(end, piece.n_chunks, arrive)
                _unfold(tokens.k, piece, d_joined.inputs[0])
                _unfold(tokens.v, piece, d_joined.errors[-1].neg_())
            for whole, x in zip(tokens[3:], shares.backward(d_shares), strict=True):
                if whole is not None and x is not None:
                    _unfold(whole, run, x)
        for repeated in d_initial.values():
            for w, x in zip(initial, repeated, strict=True):
                w.add_(x.unflatten(0, (-1, w.shape[0])).sum(0))
        return self._at_start(end, anchor)

    def _shares(self, run: _Run) -> Coefficients:
        forget, momentum, lr = (None if x is None else _fold(x, run) for x in self.tokens[3:])
        assert lr is not None
        present = self.slots.present
        if present is not None:
            heads = self.tokens.lr.shape[-1]
            present = _fold(present[..., None].expand(*present.shape, heads), run)
        return Coefficients(forget, momentum, lr, present)

    def _pieces(self, run: _Run) -> list[_Run]:
        """Split a run into chunks computed together; a stream's first chunk has other shapes."""
        return run.cut(self.together, first=None if run.start else 1)

    def _values(
        self, run: _Run, piece: _Run, shares: Coefficients | CoefficientValues
    ) -> CoefficientValues:
        """Return the coefficients of a piece of a run, or their gradients."""
        values = shares.values if isinstance(shares, Coefficients) else shares
        return values.rows(
            (piece.start - run.start) // run.length * self.n, piece.n_chunks * self.n
        )

    def _chunk(self, k: Tensor, v: Tensor, shares: CoefficientValues, start: Boundary) -> Chunk:
        return Chunk(k, v, shares, start, self.initial, self.to_initial, self.online)

    def _boundaries(self, run: _Run, shares: Coefficients, storage: list[Tensor]) -> list[Boundary]:
        """Return the state before every chunk of a run, saved or recomputed."""
        boundaries: list[Boundary] = []
        before = run
        for chunk in run.cut(1):
            if chunk.start == 0:
                boundary = self.start
            elif chunk.start in self.saved_at:
                boundary = Boundary([w[self.saved_at[chunk.start]] for w in storage], [])
            else:
                k, v = (_fold(x, before) for x in self.tokens[1:3])
                values = self._values(run, before, shares)
                boundary = Boundary(self._chunk(k, v, values, boundaries[-1]).write([]), [])
            boundaries.append(boundary)
            before = chunk
        return boundaries

    def _repeated(self, count: int) -> list[Tensor]:
        """Repeat M_0 for several chunks that are computed as one."""
        if count not in self.repeated:
            self.repeated[count] = [w.repeat(count, 1, 1) for w in self.initial]
        return self.repeated[count]

    def _anchor(self, stop: int, stacks: list[Tensor], anchor: list[Tensor]) -> list[Tensor]:
        """Return the anchor after slot `stop`: the weights of memories that reached a boundary."""
        if not self._ends_chunk(stop):
            return anchor
        weights = [x.narrow(1, 0, w.shape[1]) for x, w in zip(stacks, self.initial, strict=True)]
        if self.slots.source is None:
            return weights
        before = map(self._spread, anchor or map(torch.zeros_like, self.initial))
        reached = self._reached(stop)
        return [torch.where(reached, w, a) for w, a in zip(weights, before, strict=True)]

    def _anchor_backward(
        self, stop: int, stacks: list[Tensor], anchor: list[Tensor]
    ) -> list[Tensor]:
        """Add the anchor's gradient to the weights' where it moved; return the rest of it."""
        if not self._ends_chunk(stop):
            return anchor
        reached = None if self.slots.source is None else self._reached(stop)
        for stack, a in zip(stacks, anchor, strict=False):
            stack.narrow(1, 0, a.shape[1]).add_(a if reached is None else a * reached)
        return [] if reached is None else [a * ~reached for a in anchor]

    def _ends_chunk(self, stop: int) -> bool:
        return (self.slots.offset + stop) % self.slots.chunk_size == 0

    def _reached(self, stop: int) -> Tensor:
        """Return which of the n memories have a token in every slot up to `stop`."""
        heads = self.tokens.lr.shape[-1]
        full = self.slots.end.to(self.tokens.lr.device) >= stop
        return full.repeat(heads)[:, None, None]

    def _spread(self, w: Tensor) -> Tensor:
        """Expand weights that the batch may share to one for every memory."""
        return w[:, None].expand(-1, self.n // len(w), *w.shape[1:]).flatten(0, 1)

    def _zeros(self) -> list[Tensor]:
        """Return the stacks at the beginning of a stream, `[H, P * d_in, d_out]` a layer."""
        P = 1 if self.tokens.momentum is None else 2
        return [w.new_zeros(w.shape[0], P * w.shape[1], w.shape[2]) for w in self.initial]

    def _at_start(self, end: Boundary | None, anchor: list[Tensor]) -> Boundary:
        """Return the gradient of the start; without chunks it is the gradient of the end."""
        if end is None:
            return self.start.zeros()
        if not self.runs:
            found, end = end, self.start.zeros()
            _add_all(end.stacks, found.stacks)
        _add_all(end.anchor, anchor)
        return end


def _add_all(whole: list[Tensor], parts: list[Tensor]) -> None:
    """Add gradients `[n, d_in, d_out]` to those of weights that the batch may share."""
    for w, part in zip(whole, parts, strict=False):
        w.add_(part.view(len(w), -1, *w.shape[1:]).sum(1))


def _fold(x: Tensor, run: _Run) -> Tensor:
    """Return the tokens of a run of G chunks in `[B, N, H, ..]` as `[G * n, L, ..]`."""
    x = x[:, run.slots].unflatten(1, (run.n_chunks, run.length))  # [B, G, L, H, ..]
    return x.permute(1, 3, 0, 2, *range(4, x.ndim)).flatten(0, 2).contiguous()


def _unfold(x: Tensor, run: _Run, y: Tensor) -> None:
    """Write y `[G * n, L, ..]` to the places of the run's tokens in x `[B, N, H, ..]`."""
    place = x[:, run.slots].unflatten(1, (run.n_chunks, run.length))
    y = y.unflatten(0, (run.n_chunks, x.shape[2], x.shape[0]))  # [G, H, B, L, ..]
    place.copy_(y.permute(2, 0, 3, 1, *range(4, y.ndim)))
