"""One chunk of tokens: its effect on the memories, as matrix products.

`kernels/README.md` derives the equations and names the symbols. A chunk has L tokens for each of
n = H * B memories, heads outermost: tokens are `[n, L, d]`, a layer is `[n, d_in, d_out]`. Weights that
the batch shares, such as M_0, are `[H, d_in, d_out]`; every product and sum accepts both. `backward.py`
has the backward pass.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.chunked.coefficients import CoefficientValues
from titans_ts.kernels.chunked.products import (
    add_times,
    carry,
    doubled_error,
    inverse_square,
    scale_tokens,
    silu_backward,
    square_norm,
    times,
)

__all__ = ["Boundary", "Chunk", "Layers"]

Layers = list[Tensor]


class Boundary(NamedTuple):
    """The state between two chunks, or its gradient; a list has one tensor a layer."""

    stacks: Layers
    """M_t (as its distance from M_0 if forgetting moves there) above S_t: `[n, P * d_in, d_out]`.
    Empty if both are zero."""
    anchor: Layers
    """The gradient point of the chunk, also as a distance; empty if it is M_t."""

    @classmethod
    def joined(cls, boundaries: list[Boundary]) -> Boundary:
        """Join the boundaries of several chunks that are computed as one."""
        if len(boundaries) == 1:
            return boundaries[0]
        return cls(*(_joined(list(layers)) for layers in zip(*boundaries, strict=True)))

    def zeros(self) -> Boundary:
        """Return zeros of the same shapes."""
        return Boundary(*([torch.zeros_like(w) for w in layers] for layers in self))


class Chunk:
    """The effect of a chunk's tokens on n memories.

    Chunks with known starts can be computed as one: n then counts all their memories, and `initial` is
    repeated for each of them.

    Parameters
    ----------
    k, v : Tensor
        `[n, L, K]` and `[n, L, V]`.
    shares : CoefficientValues
        The coefficients of every M_t.
    start : Boundary
        The state before the first token.
    initial : list of Tensor
        M_0, `[H, d_in, d_out]` a layer.
    to_initial : bool
        Whether forgetting moves towards M_0.
    online : int
        0: the output layer's error is taken at the start of the chunk. b, the memory's chunk size: it is
        taken just before each token.
    """

    inputs: Layers  # X
    written: Layers  # X times its layer's part of the step: the same tensors, unless online
    before: Layers  # X before its SiLU
    errors: Layers  # E
    after: Layers  # E before it passes back through the SiLU
    hidden_steps: Layers  # a hidden layer's parts of the step, when online

    def __init__(
        self,
        k: Tensor,
        v: Tensor,
        shares: CoefficientValues,
        start: Boundary,
        initial: Layers,
        to_initial: bool,
        online: int,
    ) -> None:
        self.shares, self.start, self.online = shares, start, online
        self.target = initial if to_initial else []  # the constant part of M_t
        weights = [x.narrow(1, 0, w.shape[1]) for x, w in zip(start.stacks, initial, strict=False)]
        self.anchor = _sums(start.anchor or weights, self.target)
        self.inputs, self.before = [k], []
        for a in self.anchor[:-1]:
            self.before.append(times(self.inputs[-1], a))
            self.inputs.append(F.silu(self.before[-1]))
        last = self.inputs[-1]
        deep = online and self.before
        written = last * inverse_square(last) if deep else last
        error = (
            self._online_error(written, v) if online else doubled_error(last, self.anchor[-1], v)
        )
        self.errors, self.after = [error], []
        for a, z in zip(reversed(self.anchor[1:]), reversed(self.before), strict=True):
            self.after.insert(0, times(self.errors[0], a.mT))
            self.errors.insert(0, silu_backward(self.after[0], z))
        self.written = self.inputs
        if deep:
            self.hidden_steps = [_hidden_step(e, error, online) for e in self.errors[:-1]]
            hidden = zip(self.inputs, self.hidden_steps, strict=False)
            self.written = [*(x * step for x, step in hidden), written]

    @classmethod
    def joined(cls, chunks: list[Chunk], shares: CoefficientValues, initial: Layers) -> Chunk:
        """Join several chunks into one that can be read."""
        if len(chunks) == 1:
            return chunks[0]
        chunk = cls.__new__(cls)
        chunk.shares, chunk.target = shares, initial if chunks[0].target else []
        chunk.inputs = _joined([c.inputs for c in chunks])
        chunk.written = chunk.inputs
        if chunks[0].written is not chunks[0].inputs:
            chunk.written = _joined([c.written for c in chunks])
        chunk.errors = _joined([c.errors for c in chunks])
        chunk.start = Boundary.joined([c.start for c in chunks])
        return chunk

    def surprise(self) -> Tensor:
        """Norm of each token's gradient over all layers, `[n, L]`: |X (x) E| = |X| |E|."""
        norms = [_norm(x) * _norm(e) for x, e in zip(self.inputs, self.errors, strict=True)]
        return norms[0] if len(norms) == 1 else _norm(torch.stack(norms, -1))

    def write(self, room: Layers) -> Layers:
        """Compute the stacks after the chunk, `[n, P * d_in, d_out]` a layer, in `room` unless empty."""
        stacks = []
        for layer, (x, e) in enumerate(zip(self.written, self.errors, strict=True)):
            scaled = scale_tokens(x, self.shares.ends).mT
            new = torch.bmm(scaled, e, out=room[layer]) if room else torch.bmm(scaled, e)
            for old in self.start.stacks[layer : layer + 1]:
                carry(new, old, self.shares)
            stacks.append(new)
        return stacks

    def read(self, q: Tensor) -> Tensor:
        """M_t(q_t) for every t, `[n, L, V]`."""
        y = q
        for layer, x in enumerate(self.written):
            y = y if layer == 0 else F.silu(y)
            mixed = torch.bmm(y, x.mT).mul_(self.shares.C)
            y = self.read_layer(layer, y, scale_tokens(y, self.shares.parts), mixed)
        return y

    def read_layer(self, layer: int, y: Tensor, scaled: Tensor, mixed: Tensor) -> Tensor:
        """Apply a layer of M_t to y_t; scaled is y times its coefficients, mixed is (Y X^T) o C."""
        z = torch.bmm(mixed, self.errors[layer])
        self._add_start(z, layer, y, scaled)
        return z

    def _add_start(self, z: Tensor, layer: int, y: Tensor, scaled: Tensor) -> None:
        """Add to z what M_t has from before the chunk, applied to y_t."""
        for w0 in self.target[layer : layer + 1]:
            add_times(z, y, w0)
        for stack in self.start.stacks[layer : layer + 1]:
            add_times(z, scaled, stack)

    def _online_error(self, written: Tensor, v: Tensor) -> Tensor:
        """2 (x_t W_{t-1} - v_t) of the output layer: what a token wrote is in the next one's error.

        So E = 2 (Z + A E - V) with A below the diagonal, a triangular system.
        """
        x, shares = self.inputs[-1], self.shares.before()
        z = -v
        self._add_start(z, len(self.inputs) - 1, x, scale_tokens(x, shares.parts))
        A = torch.bmm(x, written.mT).mul_(shares.C)
        return _solve(A, z.mul_(2))


def _joined(chunks: list[Layers]) -> Layers:
    return [torch.cat(layer) for layer in zip(*chunks, strict=True)]


def _sums(weights: Layers, target: Layers) -> Layers:
    """Compute M from its distance to M_0."""
    if not weights or not target:
        return weights or target
    return [
        w.view(w0.shape[0], -1, *w0.shape[1:]).add(w0[:, None]).view_as(w)
        for w, w0 in zip(weights, target, strict=True)
    ]


def _hidden_step(e: Tensor, error: Tensor, chunk_size: int) -> Tensor:
    """1 / (b max(1, |E|^2 / |e|^2)) for a hidden layer's errors E and the output layer's e."""
    length = square_norm(error).clamp_min_(torch.finfo(e.dtype).tiny)
    return (square_norm(e) / length).clamp_min_(1).mul_(chunk_size).reciprocal_()


def _solve(A: Tensor, rhs: Tensor) -> Tensor:
    """Solve E = rhs + 2 A E, for A below the diagonal."""
    solution = torch.linalg.solve_triangular(A * -2, rhs, upper=False, unitriangular=True)
    return solution.contiguous()  # LAPACK returns columns


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)
