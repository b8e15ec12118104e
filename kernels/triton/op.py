"""The neural memory in Triton, forward and backward: linear and two-layer memories.

Here are the checks, the layout of tensors and the operators; `coefficients.py`, `solve.py`, `linear.py`
and `deep.py` hold the kernels, and are imported when first used: Triton is optional.

The forward pass saves the memory at every k-th chunk boundary, k about the square root of the number of
chunks; the backward pass computes the boundaries of one segment of k chunks again, and goes back
through them.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any, List  # noqa: UP035

import torch
from torch import Tensor

from titans_ts.kernels.autograd import requires_gradient
from titans_ts.kernels.call import MemoryCall
from titans_ts.kernels.layout import ChunkLayout
from titans_ts.kernels.state import MemoryOutput, MemoryState, Weights, initial_state

__all__ = ["compute", "shared_memory", "uncovered"]

LARGEST_WIDTH = 128
"""Of keys and values."""
LARGEST_EXPANSION = 4
"""Of the hidden width, times that of the wider of keys and values."""
LARGEST_CHUNK = 64
"""Tokens; at 128 the `[b, b]` tiles of the backward pass outgrow the shared memory of an H100."""
_INSTALLED = importlib.util.find_spec("triton") is not None
_SMALLEST = (
    torch.finfo(torch.float32).tiny ** 0.5
)  # of the surprise: off 0, where a root has no slope
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Columns of a linear memory for one program, with chunks up to 32 tokens and past them: what registers
# and, at a width of 128, shared memory take.
_COLUMNS = (32, 16)


def compute(call: MemoryCall) -> MemoryOutput:
    """Write every token into the memory and read the memory after it.

    Tokens and gates may be float32, bfloat16 or float16; the kernels raise the precision themselves as
    they read: states, sums and the surprise are float32, y has v's dtype.
    """
    call = call.cast(call.v.dtype)
    q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, forget_to, _ = call
    state = state or initial_state(initial, k.shape[0])
    widths = [k.shape[-1], *(w.shape[-1] for w in initial)]
    tokens = (q, k, v, forget, momentum, lr)
    momenta = () if momentum is None else state.momentum  # without a gate it stays as it is
    layers = [_pack(w, initial[0]) for w in (initial, state.weights, momenta, state.anchor)]
    y, surprise, weights, moved, anchor, _ = _forward(
        *tokens, *layers,
        mask, state.position, widths, chunk_size, forget_to == "init", call.online,
        requires_gradient(*tokens, *layers),
    )  # fmt: skip
    seen = k.shape[1] if mask is None else mask.sum(1).cpu()
    final = MemoryState(
        _unpack(weights, widths),
        state.momentum if momentum is None else _unpack(moved, widths),
        _unpack(anchor, widths),
        (state.position + seen) % chunk_size,
    )
    return MemoryOutput(None if q is None else y, final, surprise)


def uncovered(call: MemoryCall) -> str | None:
    """Why the Triton kernels do not cover a call, or None if they do.

    Examples
    --------
    >>> k, v = torch.zeros(2, 1, 8, 1, 32, dtype=torch.float64)
    >>> uncovered(MemoryCall(k, k, v, None, None, k[..., 0], (torch.zeros(1, 32, 32),)))
    'float64 is not one of float32, bfloat16, float16'
    """
    k, v, initial, chunk_size = call.k, call.v, call.initial, call.chunk_size
    width = max(k.shape[-1], v.shape[-1])
    hidden = max([0, *(w.shape[-1] for w in initial[:-1])])
    if k.dtype not in _DTYPES:
        names = ", ".join(_name(dtype) for dtype in _DTYPES)
        return f"{_name(k.dtype)} is not one of {names}"
    if len(initial) > 2:
        return f"a memory of depth {len(initial)} is deeper than 2"
    if width > LARGEST_WIDTH:
        return f"a head of width {width} is wider than {LARGEST_WIDTH}"
    if hidden > LARGEST_EXPANSION * width:
        return f"a hidden width of {hidden} is more than {LARGEST_EXPANSION} times {width}"
    if chunk_size > LARGEST_CHUNK:
        return f"a chunk of {chunk_size} is longer than {LARGEST_CHUNK}"
    if not k.is_cuda and not _interpreted():
        return f"tensors are on {k.device.type}, not on a GPU"
    if not _INSTALLED:
        return "triton is not installed"
    if k.is_cuda:
        gpu: Any = torch.cuda.get_device_properties(k.device)
        needed = shared_memory(width, len(initial), chunk_size, call.online)
        if gpu.shared_memory_per_block_optin < needed:
            return (
                f"chunks of {chunk_size} and heads of {width} take more shared memory than there is"
            )
    return None


def shared_memory(width: int, depth: int, chunk_size: int, online: bool) -> int:
    """Bytes of shared memory that suffice for one program, as compiled for sm_80 and sm_90."""
    if chunk_size <= 16 and width <= 64:
        return 65536
    if chunk_size <= 32 or (depth == 1 and width <= 64):
        return 163840 if online else 106496
    if depth == 1:
        return 196608 if online else 172032
    if width <= 64:
        return 212992 if online else 172032
    return 344064  # more than any GPU has today


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on any device; it is slow, and made for tests."""
    return os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "on", "yes")


def _pack(weights: Weights, like: Tensor) -> Tensor:
    """All layers of a memory, `[..., P]`, in float32; nothing of no memory."""
    if not weights:
        return like.new_empty(0, dtype=torch.float32)
    flat = [w.flatten(-2).float() for w in weights]
    return flat[0] if len(flat) == 1 else torch.cat(flat, -1)


def _unpack(packed: Tensor, widths: Sequence[int]) -> Weights:
    """Undo :func:`_pack`."""
    shapes = list(pairwise(widths))
    layers = packed.split([i * o for i, o in shapes], -1)
    return tuple(w.contiguous().unflatten(-1, io) for w, io in zip(layers, shapes, strict=True))


class _Call:
    """One call's sizes and layout, the same for both passes, and the launches of its kernels.

    Tokens come in slots, `[B, N, H, d]`, memories packed, `[B, H, P]`.
    """

    def __init__(
        self,
        k: Tensor,
        gates: tuple[Tensor | None, Tensor | None, Tensor],
        mask: Tensor | None,
        position: Tensor,
        widths: Sequence[int],
        chunk_size: int,
        to_initial: bool,
        online: bool,
        read: bool,
    ) -> None:
        self.slots = slots = ChunkLayout.build(position, mask, k.shape[1], chunk_size)
        batch_size, _, heads, _ = k.shape
        forget, momentum, _ = gates
        self.gates = [None if gate is None else self.place(gate) for gate in gates]
        self.present = None if slots.present is None else slots.present.to(torch.int8)
        self.n_slots = k.shape[1] if slots.present is None else slots.present.shape[1]
        self.n_full = (slots.end // chunk_size).to(k.device, torch.int32)  # chunks filled, [B]
        self.n_chunks = -(-(slots.offset + self.n_slots) // chunk_size) if self.n_slots else 0
        self.every = max(1, math.isqrt(self.n_chunks))
        self.memories = batch_size * heads
        self.heads, self.chunk_size, self.widths = heads, chunk_size, widths
        self.empty = k.new_empty(0, dtype=torch.float32)
        self.tile = _power(chunk_size)
        precision = "tf32x3" if k.dtype == torch.float32 else "tf32"
        self.options: dict[str, Any] = {
            "CHUNK": chunk_size,
            "BT": self.tile,
            "READ": read,
            "MOMENTUM": momentum is not None,
            "TO_INITIAL": to_initial and forget is not None,
            "ONLINE": online,
            "PRECISION": precision,
        }
        K, *F, V = widths
        columns = _power(V)
        if not F:
            columns = min(columns, _COLUMNS[chunk_size > 32])
        self.options |= {"K": K, "V": V, "BK": _power(K), "BV": columns}
        self.options |= {"F": F[0]} if F else {}
        self.columns = -(-V // columns)  # programs side by side

    def place(self, x: Tensor) -> Tensor:
        """Tokens `[B, T, ..]` as slots `[B, N, ..]`."""
        return self.slots.place(x).contiguous()

    def pick(self, x: Tensor) -> Tensor:
        """Slots as tokens: the transpose of :meth:`place`, so it serves gradients too."""
        return self.slots.pick(x)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """What every kernel needs to find a chunk's tokens."""
        return self.n_slots, self.heads, self.n_chunks, self.slots.offset

    def launch(self, kernel: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Run a kernel on the tensors' device, whichever is the current one."""
        with torch.cuda.device_of(self.empty):
            kernel(*args, **options)

    def boundaries(self, n: int) -> Tensor:
        """Room for the weights (and momentum) at n boundaries."""
        size = sum(i * o for i, o in pairwise(self.widths))
        each = 2 if self.options["MOMENTUM"] else 1
        return self.empty.new_empty(n, each, self.memories, size)

    def new_shares(self, *parts: int) -> tuple[Tensor, Tensor, Tensor]:
        """Room for C, for beta, carry and D, and for the decay."""
        n, b = (self.memories, self.n_chunks), self.chunk_size
        return (
            self.empty.new_empty(*parts, *n, b, b),
            self.empty.new_empty(*parts, 3, *n, b),
            self.empty.new_empty(*parts, *n),
        )

    def terms(self, keys: Tensor) -> list[Tensor]:
        """What is computed of all chunks at once: the shares, and for a linear memory the inverses."""
        shares = self.shares()
        if len(self.widths) > 2:
            return [*shares]
        inverse = self.empty
        if self.options["ONLINE"]:
            inverse = torch.empty_like(shares[0])
            self.launch(
                _kernels("solve").solve_forward[self.memories * self.n_chunks,],
                keys, shares[0], inverse, *self.sizes, **self._solve_options(),
            )  # fmt: skip
        return [*shares, inverse]

    def shares(self) -> tuple[Tensor, Tensor, Tensor]:
        shares = self.new_shares()
        self.launch(
            _kernels("coefficients").shares_forward[self.memories * self.n_chunks,],
            *self._gate_arguments(), *shares, *self.sizes, **self._gate_options(),
        )  # fmt: skip
        return shares

    def shares_backward(self, gradients: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """Gradients of the gates, `[B, N, H]`."""
        out = [
            self.empty if gate is None else torch.empty_like(gate, dtype=torch.float32)
            for gate in self.gates
        ]
        self.launch(
            _kernels("coefficients").shares_backward[self.memories * self.n_chunks,],
            *self._gate_arguments(), *gradients, *out, *self.sizes,
            PARTS=self.columns, **self._gate_options(),
        )  # fmt: skip
        return out

    def solve_backward(self, keys: Tensor, C: Tensor, dA: Tensor, dk: Tensor, dC: Tensor) -> None:
        """Add to dk and dC what the gradient of the triangular systems gives."""
        self.launch(
            _kernels("solve").solve_backward[self.memories * self.n_chunks,],
            keys, C, dA, dk, dC, *self.sizes, PARTS=self.columns, **self._solve_options(),
        )  # fmt: skip

    def _solve_options(self) -> dict[str, Any]:
        names = ("K", "CHUNK", "BT", "BK")
        return {name: self.options[name] for name in names} | {"num_warps": 4}

    def _gate_arguments(self) -> list[Tensor]:
        return [self.empty if x is None else x for x in (*self.gates, self.present)]

    def _gate_options(self) -> dict[str, Any]:
        return {
            "CHUNK": self.chunk_size,
            "BT": self.tile,
            "FORGET": self.gates[0] is not None,
            "MOMENTUM": self.gates[1] is not None,
            "PRESENT": self.present is not None,
            "PRECISION": "tf32x3",
            "num_warps": {16: 1, 32: 4}.get(self.tile, 16),
        }


def _power(n: int) -> int:
    """The power of two that holds n, and that Triton's products take."""
    return max(16, 1 << (n - 1).bit_length())


def _kernels(name: str) -> ModuleType:
    return importlib.import_module(f"titans_ts.kernels.triton.{name}")


@torch.library.custom_op("titans_ts::triton_memory", mutates_args=())
def _forward(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    forget: Tensor | None,
    momentum: Tensor | None,
    lr: Tensor,
    initial: Tensor,
    weights: Tensor,
    momenta: Tensor,
    anchor: Tensor,
    mask: Tensor | None,
    position: Tensor,
    widths: Sequence[int],
    chunk_size: int,
    to_initial: bool,
    online: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Y, surprise, final weights, momentum and anchor, and the saved boundaries."""
    call = _Call(
        k, (forget, momentum, lr), mask, position, widths, chunk_size, to_initial, online,
        q is not None,
    )  # fmt: skip
    new_weights, new_momenta, new_anchor = (
        torch.empty_like(w, memory_format=torch.contiguous_format)
        for w in (weights, momenta, anchor)
    )
    if call.n_slots == 0:
        for new, old in zip(
            (new_weights, new_momenta, new_anchor), (weights, momenta, anchor), strict=True
        ):
            new.copy_(old)
        square = lr.new_zeros(lr.shape, dtype=torch.float32)
        y = torch.zeros_like(v, memory_format=torch.contiguous_format)
        return y, square, new_weights, new_momenta, new_anchor, call.empty.clone()
    keys, values = call.place(k), call.place(v)
    queries = keys if q is None else call.place(q)
    y = torch.empty_like(values) if q is not None else call.empty
    square = call.empty.new_empty(call.columns, *values.shape[:-1])
    saved = call.boundaries(-(-call.n_chunks // call.every) - 1 if save else 0)
    module = _kernels("linear" if len(widths) == 2 else "deep")
    kernel = module.linear_forward if len(widths) == 2 else module.deep_forward
    call.launch(
        kernel[call.memories, call.columns],
        queries, keys, values, *call.terms(keys),
        *(x.contiguous() for x in (initial, weights, momenta, anchor)), call.n_full,
        y, square, new_weights, new_momenta, new_anchor, saved, *call.sizes, call.every,
        **call.options, SAVE=save,
    )  # fmt: skip
    square = call.pick(square.sum(0))
    surprise = square.sqrt().clamp_min(_SMALLEST)
    if mask is not None:
        surprise = surprise * mask[..., None]
    y = call.pick(y) if q is not None else y
    return y, surprise, new_weights, new_momenta, new_anchor, saved


@_forward.register_fake
def _forward_fake(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    forget: Tensor | None,
    momentum: Tensor | None,
    lr: Tensor,
    initial: Tensor,
    weights: Tensor,
    momenta: Tensor,
    anchor: Tensor,
    mask: Tensor | None,
    position: Tensor,
    widths: Sequence[int],
    chunk_size: int,
    to_initial: bool,
    online: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    # how many boundaries are saved depends on where the samples stand
    n_saved = torch.library.get_ctx().new_dynamic_size()
    each = 1 if momentum is None else 2
    batch_size, heads, size = weights.shape
    return (
        v.new_empty(v.shape if q is not None else (0,)),
        lr.new_empty(lr.shape, dtype=torch.float32),
        weights.new_empty(weights.shape),
        momenta.new_empty(momenta.shape),
        anchor.new_empty(anchor.shape),
        weights.new_empty(n_saved, each, batch_size * heads, size),
    )


@torch.library.custom_op("titans_ts::triton_memory_backward", mutates_args=())
def _backward(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    forget: Tensor | None,
    momentum: Tensor | None,
    lr: Tensor,
    initial: Tensor,
    weights: Tensor,
    momenta: Tensor,
    anchor: Tensor,
    mask: Tensor | None,
    position: Tensor,
    surprise: Tensor,
    saved: Tensor,
    dy: Tensor,
    d_surprise: Tensor,
    d_new_weights: Tensor,
    d_new_momenta: Tensor,
    d_new_anchor: Tensor,
    widths: Sequence[int],
    chunk_size: int,
    to_initial: bool,
    online: bool,
) -> List[Tensor]:  # noqa: UP006, torch 2.6 does not know list[Tensor]
    """Gradients of the first ten arguments; empty for those that are None."""
    call = _Call(
        k, (forget, momentum, lr), mask, position, widths, chunk_size, to_initial, online,
        q is not None,
    )  # fmt: skip
    d_new = [d.contiguous() for d in (d_new_weights, d_new_momenta, d_new_anchor)]
    if call.n_slots == 0:
        gradients = [
            call.empty.clone() if x is None else torch.zeros_like(x)
            for x in (q, k, v, forget, momentum, lr, initial)
        ]
        return gradients + [d.clone() for d in d_new]
    # d|g| / d(|g|^2); none where the square root was kept off 0
    d_square = call.place(torch.where(surprise > _SMALLEST, d_surprise / (2 * surprise), 0))
    keys, values = call.place(k), call.place(v)
    queries, d_slots = (keys, call.empty) if q is None else (call.place(q), call.place(dy))
    parts = (call.columns, *keys.shape)
    dq = call.empty.new_empty(parts) if q is not None else call.empty
    dk, dv = call.empty.new_empty(parts), torch.empty_like(values, dtype=torch.float32)
    d_shares = call.new_shares(call.columns)
    d_initial = torch.empty_like(d_new[0]) if call.options["TO_INITIAL"] else call.empty
    d_old = [torch.empty_like(d) for d in d_new]
    module = _kernels("linear" if len(widths) == 2 else "deep")
    kernel = module.linear_backward if len(widths) == 2 else module.deep_backward
    terms = call.terms(keys)
    rooms = [call.boundaries(call.every)]
    if len(widths) == 3:
        rooms.append(call.empty.new_empty(2 + online, call.memories, call.tile, widths[1]))
    else:
        rooms.append(torch.empty_like(d_shares[0]) if online else call.empty)
    call.launch(
        kernel[call.memories, call.columns],
        queries, keys, values, *terms,
        *(x.contiguous() for x in (initial, weights, momenta, anchor)), call.n_full,
        saved, d_slots, d_square, *d_new, *rooms, dq, dk, dv, *d_shares,
        d_initial, *d_old, *call.sizes, call.every, **call.options,
    )  # fmt: skip
    if online and len(widths) == 2:
        call.solve_backward(keys, terms[0], rooms[1], dk, d_shares[0])
    d_gates = call.shares_backward(d_shares)
    tokens = [dq.sum(0), dk.sum(0), dv, *d_gates]
    gradients = [
        call.empty.clone() if x is None else call.pick(d).to(x.dtype)
        for x, d in zip((q, k, v, forget, momentum, lr), tokens, strict=True)
    ]
    gradients.append(d_initial.sum(0) if call.options["TO_INITIAL"] else torch.zeros_like(initial))
    return gradients + d_old


@_backward.register_fake
def _backward_fake(*inputs: Any) -> list[Tensor]:
    like = inputs[:10]
    return [inputs[1].new_empty(0) if x is None else x.new_empty(x.shape) for x in like]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, widths, chunk_size, to_initial, online, _ = inputs
    ctx.options = (widths, chunk_size, to_initial, online)
    ctx.save_for_backward(*tensors, output[1], output[5])


def _gradients(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
    inputs = ctx.saved_tensors
    gradients = _backward(*inputs, *d_outputs[:5], *ctx.options)
    optional = [None if x is None else d for x, d in zip(inputs[:10], gradients, strict=True)]
    return (*optional, *[None] * 7)


_forward.register_autograd(_gradients, setup_context=_setup_context)
