"""The analytic backward pass of a chunk: of reading, of the surprise, of writing and of the errors.

`kernels/README.md` derives the equations. Tensors are those of `chunk.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.chunked.chunk import Boundary, Chunk, Layers
from titans_ts.kernels.chunked.coefficients import CoefficientValues
from titans_ts.kernels.chunked.products import (
    add_dots,
    add_outer,
    add_row_sums,
    add_sums,
    add_times,
    add_unscaled,
    carry_backward,
    inverse_square,
    put_outer,
    scale_tokens,
    silu_backward,
    square_norm,
    times,
)

__all__ = ["ChunkGradient"]


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
        Whether :meth:`through_read` comes first and fills the stacks; else they start with zeros.
    """

    def __init__(
        self, chunk: Chunk, shares: CoefficientValues, initial: Layers, read: bool
    ) -> None:
        self.chunk, self.shares, self.initial = chunk, shares, initial
        self.inputs: list[Any] = [None] * len(chunk.inputs)
        self.written = self.inputs
        if chunk.written is not chunk.inputs:
            self.written = [None] * len(chunk.written)
        self.errors: list[Any] = [None] * len(chunk.errors)
        begin = torch.empty_like if read else torch.zeros_like
        stacks = [begin(x) for x in chunk.start.stacks]
        self.start = Boundary(stacks, [torch.zeros_like(x) for x in chunk.start.anchor])

    def through_read(self, q: Tensor, gradient: Tensor) -> Tensor:
        """Start with the contribution of :meth:`Chunk.read`; return the gradient of q."""
        chunk = self.chunk
        C, depth = chunk.shares.C, len(chunk.inputs)
        ys, befores, scaled, overlaps, mixes = [q], [], [], [], []
        for layer in range(depth):
            scaled.append(scale_tokens(ys[-1], chunk.shares.parts))
            overlaps.append(torch.bmm(ys[-1], chunk.written[layer].mT))
            mixes.append(overlaps[-1] * C)
            if layer + 1 < depth:
                befores.append(chunk.read_layer(layer, ys[-1], scaled[-1], mixes[-1]))
                ys.append(F.silu(befores[-1]))
        for layer in reversed(range(depth)):
            y = ys[layer]
            self.errors[layer] = torch.bmm(mixes[layer].mT, gradient)
            d_mixed = torch.bmm(gradient, chunk.errors[layer].mT)
            self.shares.C.addcmul_(d_mixed, overlaps[layer])
            d_overlap = d_mixed.mul_(C)
            self.written[layer] = torch.bmm(d_overlap.mT, y)
            d_y = torch.bmm(d_overlap, chunk.written[layer])
            for w0, d_w0 in zip(
                chunk.target[layer : layer + 1], self.initial[layer:], strict=False
            ):
                add_outer(d_w0, y, gradient)
                add_times(d_y, gradient, w0.mT)
            for stack, d_stack in zip(
                chunk.start.stacks[layer : layer + 1], self.start.stacks[layer:], strict=False
            ):
                put_outer(d_stack, scaled[layer], gradient)
                through = times(gradient, stack.mT)
                add_unscaled(d_y, through, chunk.shares.parts)
                add_row_sums(self.shares.parts, through, y)
            if layer:
                gradient = silu_backward(d_y, befores[layer - 1])
        return d_y

    def through_surprise(self, gradient: Tensor) -> None:
        """Add the contribution of :meth:`Chunk.surprise`."""
        total = self.chunk.surprise()
        scale = torch.where(total > 0, gradient / total, 0)  # at 0 it has a kink: use 0
        for layer, (x, e) in enumerate(zip(self.chunk.inputs, self.chunk.errors, strict=True)):
            d_x = x * (scale * e.square().sum(-1))[..., None]
            d_e = e * (scale * x.square().sum(-1))[..., None]
            self.inputs[layer] = d_x if self.inputs[layer] is None else d_x.add_(self.inputs[layer])
            self.errors[layer] = d_e if self.errors[layer] is None else d_e.add_(self.errors[layer])

    def through_writes(
        self, end: Boundary | None, count: int, arrive: Callable[[int, Layers], None]
    ) -> Boundary:
        """Go back through writing and through the errors, one chunk after the other.

        The gradients from reading and from the surprise come first. Afterwards the gradient of k is in
        `inputs[0]` and that of -v in `errors[-1]`.

        Parameters
        ----------
        end : Boundary or None
            Gradient of the last chunk's result.
        count : int
            Number of chunks that are computed as one.
        arrive : callable
            Called with every chunk's number and the gradient of its stacks, to which it may add.

        Returns
        -------
        Boundary
            The gradient of the first chunk's start, part of `start`.
        """
        self._fill()
        chain = _Chain(self, count)
        last = end
        for g in reversed(range(count)):
            if end is not None:
                arrive(g, end.stacks)
                chain.through_write(g, end)
            end = chain.through_key(g)
        chain.finish(last)
        assert end is not None
        return end

    def _fill(self) -> None:
        """Put zeros where there is no gradient yet."""
        pairs = (
            (self.inputs, self.chunk.inputs),
            (self.written, self.chunk.written),
            (self.errors, self.chunk.errors),
        )
        for gradients, values in pairs:
            for layer, x in enumerate(values):
                if gradients[layer] is None:
                    gradients[layer] = torch.zeros_like(x)


class _Chain:
    """Backward pass of writing: the part that needs the next chunk, one by one; the rest at once."""

    def __init__(self, d: ChunkGradient, count: int) -> None:
        self.chunk, self.d, self.count = d.chunk, d, count
        chunk = d.chunk
        self.steps = chunk.written is not chunk.inputs
        shares = chunk.shares
        self.scaled = [scale_tokens(x, shares.ends) for x in chunk.written]
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
                add_unscaled(self.dw[layer][g], self.dxs[layer][g], shares.ends)
            if self.stacks:
                carry_backward(self.stacks[layer][g], d_stack, shares)

    def through_key(self, g: int) -> Boundary:
        """Go back through chunk g's errors, then its inputs; return the gradient of its start."""
        a, e, x, z = ([layer[g] for layer in layers] for layers in (self.a, self.e, self.x, self.z))
        da, de, dx, dz = (
            [layer[g] for layer in layers] for layers in (self.da, self.de, self.dx, self.dz)
        )
        if self.steps:
            self._through_hidden_steps(g)
        for layer in range(len(z)):
            d_u = silu_backward(de[layer], z[layer])
            add_times(de[layer + 1], d_u, a[layer + 1])
            put_outer(da[layer + 1], d_u, e[layer + 1])
            dz[layer].mul_(de[layer])
        if self.chunk.online:
            if not z:
                da[0].zero_()
            self._through_online_error(g)
        else:
            dz.append(de[-1].mul_(2))
        for layer in range(len(a) - 1, 0, -1):
            if layer < len(dz):
                add_outer(da[layer], x[layer], dz[layer])
                add_times(dx[layer], dz[layer], a[layer].mT)
            if self.steps and layer + 1 == len(a):
                self._through_last_step(g)
            dz[layer - 1].add_(silu_backward(dx[layer], z[layer - 1]))
        if dz:
            put_outer(da[0], x[0], dz[0])
        start = Boundary([x[g] for x in self.stacks], [x[g] for x in self.start_anchor])
        for d_w, d_a in zip(start.anchor or start.stacks, da, strict=False):
            add_sums(d_w.narrow(1, 0, d_a.shape[1]), d_a)
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
            add_outer(d_w0[g], x, gradient)
            add_times(dx, gradient, w0[g].mT)
        for stack, d_stack in zip(self.starts[layer:], self.stacks[layer:], strict=True):
            add_outer(d_stack[g], scale_tokens(x, shares.parts), gradient)
            through = times(gradient, stack[g].mT)
            add_unscaled(dx, through, shares.parts)
            add_row_sums(d_shares.parts[:, :-1], through[:, 1:], x[:, 1:])

    def _through_hidden_steps(self, g: int) -> None:
        """Go back through the hidden layers' steps, to their inputs and to all errors."""
        error, d_error = self.e[-1][g], self.de[-1][g]
        length = square_norm(error)
        for layer, steps in enumerate(self.chunk.hidden_steps):
            x, e, dw = self.x[layer][g], self.e[layer][g], self.dw[layer][g]
            step, passed = steps.unflatten(0, (self.count, -1))[g], square_norm(e)
            self.dx[layer][g].addcmul_(dw, step)
            d_log = torch.where(passed > length, 2 * step * (x * dw).sum(-1, keepdim=True), 0)
            tiny = torch.finfo(e.dtype).tiny
            d_error.addcmul_(error, d_log / length.clamp_min(tiny))
            self.de[layer][g].addcmul_(e, d_log / passed.clamp_min(tiny), value=-1)

    def _through_last_step(self, g: int) -> None:
        """Go back through the output layer's step, to its inputs."""
        x, dx, dw = self.x[-1][g], self.dx[-1][g], self.dw[-1][g]
        scale = inverse_square(x)
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
                add_unscaled(d.inputs[0][written], d_xs[written], chunk.shares.ends[written])
            add_row_sums(d.shares.ends[written], d_xs[written], x[written])
            for stack in chunk.start.stacks[layer : layer + 1] if written.stop else ():
                # gradients of the chunks' results: of the starts of the next ones, and of the end
                parts = [] if self.count == 1 else [d.start.stacks[layer][n:]]
                parts += [] if end is None else [end.stacks[layer]]
                d_written = parts[0] if len(parts) == 1 else torch.cat(parts)
                add_dots(d.shares.rows(0, written.stop), d_written, stack)
        if self.d_before or not chunk.online:
            d_z = self.d_before[0] if self.d_before else d.errors[0]
            add_times(d.inputs[0], d_z, chunk.anchor[0].mT)
        if chunk.target:
            for d_w0, d_a in zip(d.initial, self.d_anchor, strict=True):
                add_sums(d_w0, d_a)


def _solve_backward(A: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient of E to that of the right-hand side."""
    solution = torch.linalg.solve_triangular(A.mT * -2, gradient, upper=True, unitriangular=True)
    return solution.contiguous()
