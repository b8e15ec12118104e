"""One chunk of tokens: writing, reading, and the analytic backward of both, as matrix products.

`kernels/README.md` derives the equations and names the symbols. A chunk has L tokens for each of
n = H * B memories, heads outermost: tokens are `[n, L, d]`, a layer is `[n, d_in, d_out]`. Weights that
the batch shares, such as M_0, are `[H, d_in, d_out]`; every product and sum here accepts both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.chunked.coefficients import CoefficientValues

__all__ = ["Boundary", "Chunk", "ChunkGradient"]

Layers = list[Tensor]

_silu_backward = torch.ops.aten.silu_backward  # (gradient, x): gradient o SiLU'(x) in one pass


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
            self.before.append(_times(self.inputs[-1], a))
            self.inputs.append(F.silu(self.before[-1]))
        last = self.inputs[-1]
        deep = online and self.before
        written = last * _inverse_square(last) if deep else last
        error = self._online_error(written, v) if online else _error(last, self.anchor[-1], v)
        self.errors, self.after = [error], []
        for a, z in zip(reversed(self.anchor[1:]), reversed(self.before), strict=True):
            self.after.insert(0, _times(self.errors[0], a.mT))
            self.errors.insert(0, _silu_backward(self.after[0], z))
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
            scaled = _scale(x, self.shares.ends).mT
            new = torch.bmm(scaled, e, out=room[layer]) if room else torch.bmm(scaled, e)
            for old in self.start.stacks[layer : layer + 1]:
                _carry(new, old, self.shares)
            stacks.append(new)
        return stacks

    def read(self, q: Tensor) -> Tensor:
        """M_t(q_t) for every t, `[n, L, V]`."""
        y = q
        for layer, x in enumerate(self.written):
            y = y if layer == 0 else F.silu(y)
            mixed = torch.bmm(y, x.mT).mul_(self.shares.C)
            y = self._read_layer(layer, y, _scale(y, self.shares.parts), mixed)
        return y

    def _read_layer(self, layer: int, y: Tensor, scaled: Tensor, mixed: Tensor) -> Tensor:
        """Apply a layer of M_t to y_t; scaled is y times its coefficients, mixed is (Y X^T) o C."""
        z = torch.bmm(mixed, self.errors[layer])
        self._add_start(z, layer, y, scaled)
        return z

    def _add_start(self, z: Tensor, layer: int, y: Tensor, scaled: Tensor) -> None:
        """Add to z what M_t has from before the chunk, applied to y_t."""
        for w0 in self.target[layer : layer + 1]:
            _add_times(z, y, w0)
        for stack in self.start.stacks[layer : layer + 1]:
            _add_times(z, scaled, stack)

    def _online_error(self, written: Tensor, v: Tensor) -> Tensor:
        """2 (x_t W_{t-1} - v_t) of the output layer: what a token wrote is in the next one's error.

        So E = 2 (Z + A E - V) with A below the diagonal, a triangular system.
        """
        x, shares = self.inputs[-1], self.shares.before()
        z = -v
        self._add_start(z, len(self.inputs) - 1, x, _scale(x, shares.parts))
        A = torch.bmm(x, written.mT).mul_(shares.C)
        return _solve(A, z.mul_(2))

    def read_backward(self, q: Tensor, gradient: Tensor, d: ChunkGradient) -> Tensor:
        """Start d with the contribution of :meth:`read`; return the gradient of q."""
        C, depth = self.shares.C, len(self.inputs)
        ys, befores, scaled, overlaps, mixes = [q], [], [], [], []
        for layer in range(depth):
            scaled.append(_scale(ys[-1], self.shares.parts))
            overlaps.append(torch.bmm(ys[-1], self.written[layer].mT))
            mixes.append(overlaps[-1] * C)
            if layer + 1 < depth:
                befores.append(self._read_layer(layer, ys[-1], scaled[-1], mixes[-1]))
                ys.append(F.silu(befores[-1]))
        for layer in reversed(range(depth)):
            y = ys[layer]
            d.errors[layer] = torch.bmm(mixes[layer].mT, gradient)
            d_mixed = torch.bmm(gradient, self.errors[layer].mT)
            d.shares.C.addcmul_(d_mixed, overlaps[layer])
            d_overlap = d_mixed.mul_(C)
            d.written[layer] = torch.bmm(d_overlap.mT, y)
            d_y = torch.bmm(d_overlap, self.written[layer])
            for w0, d_w0 in zip(self.target[layer : layer + 1], d.initial[layer:], strict=False):
                _add_outer(d_w0, y, gradient)
                _add_times(d_y, gradient, w0.mT)
            for stack, d_stack in zip(
                self.start.stacks[layer : layer + 1], d.start.stacks[layer:], strict=False
            ):
                _put_outer(d_stack, scaled[layer], gradient)
                through = _times(gradient, stack.mT)
                _add_unscaled(d_y, through, self.shares.parts)
                _add_row_sums(d.shares.parts, through, y)
            if layer:
                gradient = _silu_backward(d_y, befores[layer - 1])
        return d_y

    def surprise_backward(self, gradient: Tensor, d: ChunkGradient) -> None:
        """Add the contribution of :meth:`surprise` to d."""
        total = self.surprise()
        scale = torch.where(total > 0, gradient / total, 0)  # at 0 it has a kink: use 0
        for layer, (x, e) in enumerate(zip(self.inputs, self.errors, strict=True)):
            d_x = x * (scale * e.square().sum(-1))[..., None]
            d_e = e * (scale * x.square().sum(-1))[..., None]
            d.inputs[layer] = d_x if d.inputs[layer] is None else d_x.add_(d.inputs[layer])
            d.errors[layer] = d_e if d.errors[layer] is None else d_e.add_(d.errors[layer])

    def backward(
        self,
        d: ChunkGradient,
        end: Boundary | None,
        count: int,
        arrive: Callable[[int, Layers], None],
    ) -> Boundary:
        """Run the backward pass of writing and of the errors, one chunk after the other.

        Parameters
        ----------
        d : ChunkGradient
            Gradients from reading and from the surprise. Afterwards the gradient of k is in
            `d.inputs[0]` and that of -v in `d.errors[-1]`.
        end : Boundary or None
            Gradient of the last chunk's result.
        count : int
            Number of chunks that are computed as one.
        arrive : callable
            Called with every chunk's number and the gradient of its stacks, to which it may add.

        Returns
        -------
        Boundary
            The gradient of the first chunk's start, part of `d.start`.
        """
        chain = _Chain(self, d, count)
        last = end
        for g in reversed(range(count)):
            if end is not None:
                arrive(g, end.stacks)
                chain.through_write(g, end)
            end = chain.through_key(g)
        chain.finish(last)
        assert end is not None
        return end


class _Chain:
    """Backward pass of writing: the part that needs the next chunk, one by one; the rest at once."""

    def __init__(self, chunk: Chunk, d: ChunkGradient, count: int) -> None:
        self.chunk, self.d, self.count = chunk, d, count
        self.steps = chunk.written is not chunk.inputs
        shares = chunk.shares
        d.fill(chunk)
        self.scaled = [_scale(x, shares.ends) for x in chunk.written]
        self.d_scaled = [torch.empty_like(x) for x in self.scaled]
        # SiLU''(z) = s (1 - s) (2 + z (1 - 2 s)), and z s = x
        self.d_before = []
        for z, u, x in zip(chunk.before, chunk.after, chunk.inputs[1:], strict=True):
            s = torch.sigmoid(z)
            bend = torch.addcmul(s, s, s, value=-1).mul_(torch.sub(z, x, alpha=2).add_(2))
            self.d_before.append(bend.mul_(u))
        self.d_anchor = [torch.empty_like(a) for a in chunk.anchor]

        def split(layers: Layers) -> list[tuple[Tensor, ...]]:
            return [x.unflatten(0, (count, -1)).unbind() for x in layers]

        self.x, self.e, self.z = split(chunk.inputs), split(chunk.errors), split(chunk.before)
        self.w, self.dw = split(chunk.written), split(d.written)
        self.a, self.dx, self.de = split(chunk.anchor), split(d.inputs), split(d.errors)
        self.dz, self.da = split(self.d_before), split(self.d_anchor)
        self.stacks, self.start_anchor = split(d.start.stacks), split(d.start.anchor)
        self.xs, self.dxs = split(self.scaled), split(self.d_scaled)
        self.starts, self.target = split(chunk.start.stacks), split(chunk.target)
        self.d_target = split(d.initial[: len(chunk.target)])
        n = chunk.inputs[0].shape[0] // count
        self.shares = [shares.chunk(g, n) for g in range(count)]
        self.d_shares = [d.shares.chunk(g, n) for g in range(count)]

    def through_write(self, g: int, end: Boundary) -> None:
        """From the gradient of chunk g's result to those of its inputs, errors and start."""
        shares = self.shares[g]
        for layer, d_stack in enumerate(end.stacks):
            self.de[layer][g].baddbmm_(self.xs[layer][g], d_stack)
            torch.bmm(self.e[layer][g], d_stack.mT, out=self.dxs[layer][g])
            if layer or self.steps:
                _add_unscaled(self.dw[layer][g], self.dxs[layer][g], shares.ends)
            if self.stacks:
                _carry_backward(self.stacks[layer][g], d_stack, shares)

    def through_key(self, g: int) -> Boundary:
        """Go back through chunk g's errors, then its inputs; return the gradient of its start."""
        a, e, x, z = ([layer[g] for layer in layers] for layers in (self.a, self.e, self.x, self.z))
        da, de, dx, dz = (
            [layer[g] for layer in layers] for layers in (self.da, self.de, self.dx, self.dz)
        )
        if self.steps:
            self._through_hidden_steps(g)
        for layer in range(len(z)):
            d_u = _silu_backward(de[layer], z[layer])
            _add_times(de[layer + 1], d_u, a[layer + 1])
            _put_outer(da[layer + 1], d_u, e[layer + 1])
            dz[layer].mul_(de[layer])
        if self.chunk.online:
            if not z:
                da[0].zero_()
            self._through_online_error(g)
        else:
            dz.append(de[-1].mul_(2))
        for layer in range(len(a) - 1, 0, -1):
            if layer < len(dz):
                _add_outer(da[layer], x[layer], dz[layer])
                _add_times(dx[layer], dz[layer], a[layer].mT)
            if self.steps and layer + 1 == len(a):
                self._through_last_step(g)
            dz[layer - 1].add_(_silu_backward(dx[layer], z[layer - 1]))
        if dz:
            _put_outer(da[0], x[0], dz[0])
        start = Boundary([x[g] for x in self.stacks], [x[g] for x in self.start_anchor])
        for d_w, d_a in zip(start.anchor or start.stacks, da, strict=False):
            _add_sums(d_w.narrow(1, 0, d_a.shape[1]), d_a)
        return start

    def _through_online_error(self, g: int) -> None:
        """Go back through :meth:`Chunk._online_error`; the gradient of -v takes the errors' place."""
        layer = len(self.x) - 1
        x, w, dx, de = (layers[layer][g] for layers in (self.x, self.w, self.dx, self.de))
        shares, d_shares = self.shares[g].before(), self.d_shares[g]
        overlap = torch.bmm(x, w.mT)
        gradient = _solve_backward(overlap * shares.C, de).mul_(2)
        de.copy_(gradient)
        d_A = torch.bmm(gradient, self.e[layer][g].mT)
        d_shares.C[:, :-1].addcmul_(d_A[:, 1:], overlap[:, 1:])
        d_A.mul_(shares.C)
        dx.baddbmm_(d_A, w)
        self.dw[layer][g].baddbmm_(d_A.mT, x)
        for w0, d_w0 in zip(self.target[layer:], self.d_target[layer:], strict=True):
            _add_outer(d_w0[g], x, gradient)
            _add_times(dx, gradient, w0[g].mT)
        for stack, d_stack in zip(self.starts[layer:], self.stacks[layer:], strict=True):
            _add_outer(d_stack[g], _scale(x, shares.parts), gradient)
            through = _times(gradient, stack[g].mT)
            _add_unscaled(dx, through, shares.parts)
            _add_row_sums(d_shares.parts[:, :-1], through[:, 1:], x[:, 1:])

    def _through_hidden_steps(self, g: int) -> None:
        """Go back through the hidden layers' steps, to their inputs and to all errors."""
        error, d_error = self.e[-1][g], self.de[-1][g]
        length = _square(error)
        for layer, steps in enumerate(self.chunk.hidden_steps):
            x, e, dw = self.x[layer][g], self.e[layer][g], self.dw[layer][g]
            step, passed = steps.unflatten(0, (self.count, -1))[g], _square(e)
            self.dx[layer][g].addcmul_(dw, step)
            d_log = torch.where(passed > length, 2 * step * (x * dw).sum(-1, keepdim=True), 0)
            tiny = torch.finfo(e.dtype).tiny
            d_error.addcmul_(error, d_log / length.clamp_min(tiny))
            self.de[layer][g].addcmul_(e, d_log / passed.clamp_min(tiny), value=-1)

    def _through_last_step(self, g: int) -> None:
        """Go back through the output layer's step, to its inputs."""
        x, dx, dw = self.x[-1][g], self.dx[-1][g], self.dw[-1][g]
        scale = _inverse_square(x)
        dx.addcmul_(dw, scale)
        along = torch.where(scale < 1, (x * dw).sum(-1, keepdim=True) * scale.square(), 0)
        dx.addcmul_(x, along, value=-2)

    def finish(self, end: Boundary | None) -> None:
        """Compute everything that no other chunk needs."""
        chunk, d = self.chunk, self.d
        n = chunk.inputs[0].shape[0] // self.count
        written = slice(0, chunk.inputs[0].shape[0] - (n if end is None else 0))
        for layer, (x, d_xs) in enumerate(zip(chunk.written, self.d_scaled, strict=True)):
            if layer == 0 and not self.steps:
                _add_unscaled(d.inputs[0][written], d_xs[written], chunk.shares.ends[written])
            _add_row_sums(d.shares.ends[written], d_xs[written], x[written])
            for stack in chunk.start.stacks[layer : layer + 1] if written.stop else ():
                # gradients of the chunks' results: of the starts of the next ones, and of the end
                parts = [] if self.count == 1 else [d.start.stacks[layer][n:]]
                parts += [] if end is None else [end.stacks[layer]]
                d_written = parts[0] if len(parts) == 1 else torch.cat(parts)
                _add_dots(d.shares.rows(0, written.stop), d_written, stack)
        if self.d_before or not chunk.online:
            d_z = self.d_before[0] if self.d_before else d.errors[0]
            _add_times(d.inputs[0], d_z, chunk.anchor[0].mT)
        if chunk.target:
            for d_w0, d_a in zip(d.initial, self.d_anchor, strict=True):
                _add_sums(d_w0, d_a)


class ChunkGradient:
    """The gradients that the backward pass of a chunk accumulates.

    Parameters
    ----------
    chunk : Chunk
        The chunk.
    shares : CoefficientValues
        The gradients of its coefficients are added here.
    initial : list of Tensor
        The gradient of M_0 is added here.
    read : bool
        Whether :meth:`Chunk.read_backward` comes first and fills the stacks; else they start with zeros.
    """

    def __init__(
        self, chunk: Chunk, shares: CoefficientValues, initial: Layers, read: bool
    ) -> None:
        self.shares, self.initial = shares, initial
        self.inputs: list[Any] = [None] * len(chunk.inputs)
        self.written = self.inputs
        if chunk.written is not chunk.inputs:
            self.written = [None] * len(chunk.written)
        self.errors: list[Any] = [None] * len(chunk.errors)
        begin = torch.empty_like if read else torch.zeros_like
        stacks = [begin(x) for x in chunk.start.stacks]
        self.start = Boundary(stacks, [torch.zeros_like(x) for x in chunk.start.anchor])

    def fill(self, chunk: Chunk) -> None:
        """Put zeros where there is no gradient yet."""
        pairs = (
            (self.inputs, chunk.inputs),
            (self.written, chunk.written),
            (self.errors, chunk.errors),
        )
        for gradients, values in pairs:
            for layer, x in enumerate(values):
                if gradients[layer] is None:
                    gradients[layer] = torch.zeros_like(x)


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


def _flat(x: Tensor, w: Tensor) -> Tensor:
    """Return tokens `[n, L, d]` unchanged, or as `[H, B L, d]` for weights that the batch shares."""
    return x if w.shape[0] == x.shape[0] else x.view(w.shape[0], -1, x.shape[-1])


def _times(x: Tensor, w: Tensor) -> Tensor:
    """x w."""
    return torch.bmm(_flat(x, w), w).view(*x.shape[:-1], -1)


def _add_times(y: Tensor, x: Tensor, w: Tensor) -> None:
    """y += x w, in place."""
    _flat(y, w).baddbmm_(_flat(x, w), w)


def _error(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """2 (x w - v)."""
    return torch.baddbmm(_flat(v, w), _flat(x, w), w, beta=-2, alpha=2).view_as(v)


def _add_outer(w: Tensor, x: Tensor, e: Tensor) -> None:
    """w += x^T e, in place; summed over the batch if it shares w."""
    w.baddbmm_(_flat(x, w).mT, _flat(e, w))


def _scale(x: Tensor, shares: Tensor) -> Tensor:
    """Tokens `[n, L, d]` times their P coefficients `[n, L, P]`, side by side: `[n, L, P * d]`."""
    if shares.shape[-1] == 1:
        return x * shares
    scaled = x.new_empty(*x.shape[:2], shares.shape[-1], x.shape[-1])
    for p, part in enumerate(scaled.unbind(2)):
        torch.mul(x, shares[..., p, None], out=part)
    return scaled.flatten(2)


def _add_unscaled(y: Tensor, x: Tensor, shares: Tensor) -> None:
    """Tokens y `[n, L, d]` += x `[n, L, P * d]` times its coefficients: the backward of _scale."""
    for p, part in enumerate(x.unflatten(2, (-1, y.shape[-1])).unbind(2)):
        y.addcmul_(part, shares[..., p, None])


def _add_row_sums(shares: Tensor, x: Tensor, y: Tensor) -> None:
    """Coefficients `[n, L, P]` += inner products of x `[n, L, P * d]` and y `[n, L, d]`; overwrites x."""
    x = x.unflatten(2, (-1, y.shape[-1]))
    for p, part in enumerate(x.unbind(2)):
        shares[..., p].add_(part.mul_(y).sum(-1))


def _carry(new: Tensor, old: Tensor, shares: CoefficientValues) -> None:
    """Add the remainder of old stacks to new ones: of both to the memory, of S to the momentum."""
    n, P = old.shape[0], shares.parts.shape[-1]
    new = new.view(n, -1, P, old.shape[1] // P, old.shape[2])
    old = old.view(n, 1, *new.shape[2:])
    last = shares.parts[:, -1].reshape(n, -1, P, 1, 1)
    for p in range(P):
        new[:, :, 0].addcmul_(old[:, :, p], last[:, :, p])
    if P == 2:
        new[:, :, 1].addcmul_(old[:, :, 1], shares.decay.reshape(n, -1, 1, 1))


def _carry_backward(d_old: Tensor, d_new: Tensor, shares: CoefficientValues) -> None:
    """Add the contribution of :func:`_carry` to the gradient of old stacks."""
    P = shares.parts.shape[-1]
    d_new = d_new.unflatten(1, (P, -1))  # [n, P, d_in, d_out]
    d_parts = d_old.unflatten(1, (P, -1)).unbind(1)
    for p, d_part in enumerate(d_parts):
        _add_sums(d_part, d_new[:, 0], shares.parts[:, -1:, p, None])
    if P == 2:
        _add_sums(d_parts[1], d_new[:, 1], shares.decay)


def _add_dots(shares: CoefficientValues, d_new: Tensor, old: Tensor) -> None:
    """Add the contribution of :func:`_carry` to the gradient of the coefficients."""
    n, P = old.shape[0], shares.parts.shape[-1]
    m = d_new.shape[0]
    d_new = d_new.view(min(n, m), -1, P, old.shape[1] // P, old.shape[2])
    old = old[: min(n, m)].view(min(n, m), 1, *d_new.shape[2:])
    for p in range(P):
        shares.parts[:, -1, p] += (d_new[:, :, 0] * old[:, :, p]).sum((-1, -2)).view(-1)
    if P == 2:
        shares.decay[:, 0, 0] += (d_new[:, :, 1] * old[:, :, 1]).sum((-1, -2)).view(-1)


def _put_outer(w: Tensor, x: Tensor, e: Tensor) -> None:
    """w = x^T e, in place; summed over the batch if it shares w."""
    torch.bmm(_flat(x, w).mT, _flat(e, w), out=w)


def _add_sums(w: Tensor, y: Tensor, share: Tensor | None = None) -> None:
    """w += share y, in place; summed over the batch if it shares w."""
    if w.shape[0] == y.shape[0]:
        w.add_(y) if share is None else w.addcmul_(y, share)
    else:
        y = y if share is None else y * share
        w.add_(y.view(w.shape[0], -1, *y.shape[1:]).sum(1))


def _square(x: Tensor) -> Tensor:
    """|x|^2 over the last axis, `[n, L, 1]`."""
    return x.square().sum(-1, keepdim=True)


def _inverse_square(x: Tensor) -> Tensor:
    """1 / max(1, |x|^2) over the last axis, `[n, L, 1]`."""
    return _square(x).clamp_min_(1).reciprocal_()


def _hidden_step(e: Tensor, error: Tensor, chunk_size: int) -> Tensor:
    """1 / (b max(1, |E|^2 / |e|^2)) for a hidden layer's errors E and the output layer's e."""
    length = _square(error).clamp_min_(torch.finfo(e.dtype).tiny)
    return (_square(e) / length).clamp_min_(1).mul_(chunk_size).reciprocal_()


def _solve(A: Tensor, rhs: Tensor) -> Tensor:
    """Solve E = rhs + 2 A E, for A below the diagonal."""
    solution = torch.linalg.solve_triangular(A * -2, rhs, upper=False, unitriangular=True)
    return solution.contiguous()  # LAPACK returns columns


def _solve_backward(A: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient of E to that of the right-hand side."""
    solution = torch.linalg.solve_triangular(A.mT * -2, gradient, upper=True, unitriangular=True)
    return solution.contiguous()


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)
