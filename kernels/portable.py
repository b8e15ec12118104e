"""The memory in operations that can be recorded in a graph: no data-dependent shape, nothing in place.

A graph (torch.export, ONNX) is recorded once for whole windows whose samples all stand at the same
place of their chunk, inside :func:`recording`. `position` of the state is then an int. The equations are
those of `chunked/`, which `README.md` derives: between two gradient points, M_t and S_t are linear in the
state at the start of the chunk and in the tokens' gradients. Here tokens are `[B, H, G, L, d]` for G
chunks of L slots; slots before the first token and after the last one are empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.call import MemoryCall
from titans_ts.kernels.state import MemoryOutput, MemoryState, initial_state

__all__ = [
    "Format",
    "asinh",
    "compute",
    "is_recorded",
    "largest_so_far",
    "recorded_format",
    "recording",
]

Format = Literal["torch", "onnx"]
"""What a graph is recorded for."""

_RECORDED: ContextVar[Format | None] = ContextVar("recorded", default=None)


@contextmanager
def recording(target: Format) -> Iterator[None]:
    """Let models compute a whole window in operations that a graph of this format can hold."""
    token = _RECORDED.set(target)
    try:
        yield
    finally:
        _RECORDED.reset(token)


def recorded_format() -> Format | None:
    """Return the format of the graph that is recorded; None outside of :func:`recording`."""
    if torch.compiler.is_dynamo_compiling():  # torch.compile cannot follow a context variable
        return None
    return _RECORDED.get()


def is_recorded() -> bool:
    """Return whether a graph is recorded, in which nothing may depend on the values that are read."""
    return recorded_format() is not None or torch.compiler.is_compiling()


def asinh(x: Tensor) -> Tensor:
    """Return the inverse hyperbolic sine."""
    if recorded_format() != "onnx":
        return torch.asinh(x)
    size = x.abs()  # onnxruntime has it for float32 alone
    return x.sign() * (size + (size.square() + 1).sqrt()).log()


def largest_so_far(values: Tensor) -> Tensor:
    """Return the largest value up to every column `[N, T]`."""
    if recorded_format() != "onnx":
        return values.cummax(1).values
    distance = 1  # ONNX has no running maximum
    while distance < values.shape[1]:
        earlier = torch.cat([values[:, :distance], values[:, :-distance]], 1)
        values, distance = torch.maximum(values, earlier), 2 * distance
    return values


class _Coefficients(NamedTuple):
    """Weights of what M_t and S_L consist of, for all chunks."""

    memory: Tensor
    """`[B, H, G, L, 1]`: of the memory before the chunk in M_t."""
    momentum: Tensor
    """`[B, H, G, L, 1]`: of the momentum before the chunk in M_t."""
    gradients: Tensor
    """`[B, H, G, L, L]`: of the tokens' gradients in M_t."""
    ends: Tensor
    """`[B, H, G, L, 1]`: of the tokens' gradients in S_L."""
    decay: Tensor
    """`[B, H, G, 1, 1]`: of the momentum before the chunk in S_L."""


def compute(call: MemoryCall) -> MemoryOutput:
    """Write every token into the memory and read the memory after it.

    As the other implementations do, for calls without a mask whose samples have one position. The
    position of the result is an int.
    """
    call = call.in_full_precision()
    q, k, v, forget, momentum, lr, initial, state, _, size, _, _ = call
    length = k.shape[1]
    state = initial_state(initial, k.shape[0]) if state is None else state
    position: Any = state.position
    first = position if isinstance(position, int) else int(position[0])
    front, n_chunks = first, -(-(first + length) // size)
    back = n_chunks * size - first - length

    def fold(x: Tensor) -> Tensor:
        """Put tokens `[B, T, H, ...]` on the grid `[B, H, G, L, ...]`."""
        x = x.transpose(1, 2)
        x = F.pad(x, (*(0, 0) * (x.ndim - 3), front, back))
        return x.unflatten(2, (n_chunks, size))

    def unfold(x: Tensor) -> Tensor:
        """Undo :func:`fold`."""
        return x.flatten(2, 3)[:, :, first : first + length].transpose(1, 2)

    there = F.pad(torch.ones(length), (front, back)).view(n_chunks, size).to(k)
    shares = _coefficients(
        None if forget is None else fold(forget),
        None if momentum is None else fold(momentum),
        fold(lr),
        there,
    )
    target = initial if call.to_initial else None
    weights, kept, anchor = state.weights, state.momentum, state.anchor
    keys, values, queries = fold(k), fold(v), None if q is None else fold(q)
    reads, norms = [], []
    for g in range(n_chunks):
        part = _Coefficients(*(x[:, :, g] for x in shares))
        chunk = _Chunk(call, keys[:, :, g], values[:, :, g], part, (weights, kept, anchor), target)
        norms.append(chunk.surprise())
        if queries is not None:
            reads.append(chunk.read(queries[:, :, g]))
        weights, kept = chunk.written()
        if g < n_chunks - 1 or back == 0:
            anchor = weights
    momenta = state.momentum if momentum is None else kept
    after: Any = (first + length) % size
    return MemoryOutput(
        unfold(torch.stack(reads, 2)) if reads else None,
        MemoryState(weights, momenta, anchor, after),
        unfold(torch.stack(norms, 2)),
    )


def _coefficients(
    forget: Tensor | None, momentum: Tensor | None, lr: Tensor, there: Tensor
) -> _Coefficients:
    """Compute the coefficients of gates `[B, H, G, L]`; `there` `[G, L]` is 1 where a token is."""
    empty = 1 - there
    keep = torch.ones_like(lr) if forget is None else 1 - forget * there
    eta = empty.expand_as(lr) if momentum is None else momentum * there + empty
    kept, momenta = _products(keep), _products(eta)
    total = kept[..., 1:] @ (momenta * there[..., None])
    return _Coefficients(
        kept[..., :1],
        total[..., :1],
        total[..., 1:] * -lr[..., None, :],
        (momenta[..., -1, 1:] * -lr)[..., None],
        momenta[..., -1:, :1],
    )


def _products(gate: Tensor) -> Tensor:
    """Return the products of gates `[.., L]` after place j up to t: `[.., L, 1 + L]`, 0 where j > t.

    Place 0 is before the first token, and place t + 1 is token t.
    """
    size = gate.shape[-1]
    after = torch.ones(size, size + 1, dtype=torch.bool, device=gate.device).tril()
    factors = torch.where(after, gate[..., None], 1.0)
    if recorded_format() != "onnx":
        return factors.cumprod(-2).tril(1)
    distance = 1  # ONNX has no products along an axis
    while distance < size:
        earlier = F.pad(factors[..., :-distance, :], (0, 0, distance, 0), value=1.0)
        factors, distance = factors * earlier, 2 * distance
    return factors.tril(1)


class _Chunk:
    """The effect of one chunk `[B, H, L, d]` on the memory."""

    def __init__(
        self,
        call: MemoryCall,
        k: Tensor,
        v: Tensor,
        shares: _Coefficients,
        state: tuple[Any, Any, Any],
        target: Any,
    ) -> None:
        weights, self.momentum, anchor = state
        self.target, self.shares = target, shares
        self.distance = weights
        if target is not None:
            self.distance = tuple(w - w0 for w, w0 in zip(weights, target, strict=True))
        self.inputs, before = [k], []
        for w in anchor[:-1]:
            before.append(self.inputs[-1] @ w)
            self.inputs.append(F.silu(before[-1]))
        last, deep = self.inputs[-1], call.online and bool(before)
        wrote = last / _square(last).clamp_min(1) if deep else last
        if call.online:
            error = self._online_error(last, wrote, v)
        else:
            error = 2 * (last @ anchor[-1] - v)
        self.errors = [error]
        for w, z in zip(reversed(anchor[1:]), reversed(before), strict=True):
            s = torch.sigmoid(z)
            self.errors.insert(0, (self.errors[0] @ w.mT) * (s + z * s * (1 - s)))
        self.steps = self.inputs
        if deep:
            length = _square(error).clamp_min(torch.finfo(error.dtype).tiny)
            gains = [(_square(e) / length).clamp_min(1) for e in self.errors[:-1]]
            hidden = zip(self.inputs, gains, strict=False)
            self.steps = [*(x / (gain * call.chunk_size) for x, gain in hidden), wrote]

    def surprise(self) -> Tensor:
        """Norm of each token's gradient over all layers, `[B, H, L]`."""
        pairs = zip(self.inputs, self.errors, strict=True)
        squares = [_square(x) * _square(e) for x, e in pairs]
        return torch.stack(squares).sum(0).sqrt()[..., 0]

    def read(self, q: Tensor) -> Tensor:
        """M_t(q_t) for every t, `[B, H, L, V]`."""
        y = q
        for layer, (x, e) in enumerate(zip(self.steps, self.errors, strict=True)):
            y = y if layer == 0 else F.silu(y)
            mixed = (y @ x.mT) * self.shares.gradients
            y = mixed @ e + self._of_start(layer, y, self.shares.memory, self.shares.momentum)
        return y

    def written(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The memory and the momentum after the chunk, a tensor `[B, H, d_in, d_out]` a layer."""
        shares = self.shares
        memory, momentum = shares.memory[..., -1:, :], shares.momentum[..., -1:, :]
        ends = shares.gradients[..., -1, :, None]
        weights, kept = [], []
        for layer, (x, e) in enumerate(zip(self.steps, self.errors, strict=True)):
            w, s = self.distance[layer], self.momentum[layer]
            w = memory * w + momentum * s + (x * ends).mT @ e
            weights.append(w if self.target is None else w + self.target[layer])
            kept.append(shares.decay * s + (x * shares.ends).mT @ e)
        return tuple(weights), tuple(kept)

    def _of_start(self, layer: int, x: Tensor, memory: Tensor, momentum: Tensor) -> Tensor:
        """What M_t has from before the chunk, applied to x."""
        y = (x * memory) @ self.distance[layer] + (x * momentum) @ self.momentum[layer]
        return y if self.target is None else y + x @ self.target[layer]

    def _online_error(self, x: Tensor, wrote: Tensor, v: Tensor) -> Tensor:
        """2 (x_t W_{t-1} - v_t) of the output layer: E = 2 (Z - V) + 2 A E, A below the diagonal."""
        shares = self.shares
        # the coefficients of M_{t-1} in place of those of M_t
        memory = F.pad(shares.memory[..., :-1, :], (0, 0, 1, 0), value=1.0)
        momentum = F.pad(shares.momentum[..., :-1, :], (0, 0, 1, 0))
        gradients = F.pad(shares.gradients[..., :-1, :], (0, 0, 1, 0))
        right = 2 * (self._of_start(len(self.inputs) - 1, x, memory, momentum) - v)
        matrix = 2 * (x @ wrote.mT) * gradients
        if recorded_format() != "onnx":
            return torch.linalg.solve_triangular(-matrix, right, upper=False, unitriangular=True)
        size = matrix.shape[-1]  # ONNX has no triangular system
        added = (1 << (size - 1).bit_length()) - size
        inverse = _inverse(F.pad(matrix, (0, added, 0, added)))
        return inverse[..., :size, :size] @ right


def _inverse(below: Tensor) -> Tensor:
    """Return the inverse of I - A for matrices A `[.., n, n]` below the diagonal; n is a power of two.

    That of twice the size follows from those of two blocks, so n needs log2(n) steps.
    """
    half = below.shape[-1] // 2
    if half == 0:
        return torch.ones_like(below)
    blocks = torch.stack([below[..., :half, :half], below[..., half:, half:]], -3)
    first, second = _inverse(blocks).unbind(-3)
    corner = second @ below[..., half:, :half] @ first
    return torch.cat([F.pad(first, (0, half)), torch.cat([corner, second], -1)], -2)


def _square(x: Tensor) -> Tensor:
    return x.square().sum(-1, keepdim=True)
