"""One token of every stream through a whole layer or block, compiled.

`csrc/layer.c` computes the same as :class:`titans_ts.nn.NeuralMemory` and a block around a MAC. These
call many operations of torch, and for a single token the calls take longer than the computation.
Everything is float32 or float64, on the CPU, without gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from titans_ts.kernels.dispatch import ENVIRONMENT, forced
from titans_ts.kernels.native.abi import DEPTH, DTYPES, Integer, address, places, samples
from titans_ts.kernels.native.compiler import library
from titans_ts.kernels.native.coverage import uncovered_sizes
from titans_ts.kernels.state import MemoryState, Weights

__all__ = ["Layer", "MACBlock", "native_block", "native_read", "native_step", "uncovered_layer"]


_LARGEST = 2**22
"""Largest number of multiplications of the input projection (samples times weights) that is computed
here; above it, torch's matrix products are faster."""


class Layer(NamedTuple):
    """A memory layer of width D, with H heads of width K."""

    in_proj: Tensor
    """`[4 D + gates * H, D]`: rows for the output gate, for queries, keys and values, and for gates."""
    gate_bias: Tensor | None
    """`[gates * H]`."""
    taps: Tensor
    """`[conv_size, 3 D]`."""
    norm: Tensor
    """`[K]`."""
    out_proj: Tensor
    """`[D, D]`."""
    gates: tuple[str, ...]
    """A selection of "lr", "forget" and "momentum", in the order of the rows."""
    depth: int
    """L_M."""
    chunk_size: int
    """b."""
    to_initial: bool
    """Whether forgetting moves towards M_0."""
    online: bool
    """Whether the output layer's error is taken just before each token."""
    open: bool
    """Whether the output's gate is twice a sigmoid; else SiLU."""
    bounded: bool
    """Whether values are shorter than one; else their length is one."""


class MACBlock(NamedTuple):
    """The parameters of a block around a MAC besides its memory, in the order of layer.c."""

    mixer_norm: Tensor
    """`[D]`."""
    persistent: Tensor
    """`[1, N_p, D]`."""
    qkv_proj: Tensor
    """`[3 D, D]`."""
    out_proj: Tensor
    """`[D, D]`, of the attention."""
    cosines: Tensor
    """`[segment, 1, 3, 1, K]`, the rotation of queries, keys and values."""
    sines: Tensor
    """The same shape."""
    gate: Tensor
    """`[2 D]`: weights of two norms, of the attention's output and of the memory's output for it."""
    ff_norm: Tensor
    """`[D]`."""
    up: Tensor
    """`[F, D]`."""
    up_bias: Tensor
    """`[F]`."""
    down: Tensor
    """`[D, F]`."""
    down_bias: Tensor
    """`[D]`."""


def uncovered_layer(x: Tensor, layer: Layer) -> str | None:
    """Return why the functions below do not cover x `[B, T, D]` and a layer, or None if they do."""
    if torch.compiler.is_compiling():
        return "torch.compile would not see what it computes"
    if x.shape[1] != 1:
        return f"there are {x.shape[1]} tokens, not one"
    if torch.is_grad_enabled():
        return "gradients are enabled"
    if torch.is_autocast_enabled(x.device.type):
        return "autocast is enabled"
    if x.shape[0] * layer.in_proj.numel() > _LARGEST:
        return f"for {x.shape[0]} streams of this width torch's matrix products are faster"
    for w in layer[:5]:
        if w is not None and w.dtype != x.dtype:
            return f"tokens are {x.dtype}, but a parameter is {w.dtype}"
    if x.dtype not in DTYPES:
        return f"{x.dtype} is neither float32 nor float64"
    name = forced()
    if name not in (None, "native"):
        return f"the environment variable {ENVIRONMENT} names {name!r}"
    return uncovered_sizes(x, layer.depth, layer.chunk_size)


def native_step(
    x: Tensor, layer: Layer, initial: Weights, conv: Tensor, state: MemoryState
) -> tuple[Tensor, Tensor, MemoryState, Tensor]:
    """Write a token of every stream and read the memory after it.

    Parameters
    ----------
    x : Tensor
        `[B, 1, D]`.
    layer : Layer
        A layer for which :func:`uncovered_layer` returns None.
    initial : Weights
        M_0.
    conv : Tensor
        The convolution's last inputs, `[B, conv_size - 1, 3 D]`.
    state : MemoryState
        The state of the streams.

    Returns
    -------
    tuple[Tensor, Tensor, MemoryState, Tensor]
        `[B, 1, D]`, the convolution's last inputs, the state after the token, and the surprise
        `[B, 1, H]`.
    """
    step = _Step(x, layer, conv, initial, state)
    _call("step", step.fields, x)
    return step.y, step.conv, step.state_after(), step.surprise


def native_read(x: Tensor, layer: Layer, weights: Weights, conv: Tensor) -> tuple[Tensor, Tensor]:
    """Read a memory at one token of every stream, without writing.

    Parameters
    ----------
    x : Tensor
        `[B, 1, D]`.
    layer : Layer
        A layer for which :func:`uncovered_layer` returns None.
    weights : Weights
        M, `[B, H, d_in, d_out]` a layer.
    conv : Tensor
        The convolution's last inputs of the queries, `[B, conv_size - 1, D]`.

    Returns
    -------
    tuple[Tensor, Tensor]
        `[B, 1, D]` and the convolution's last inputs.
    """
    step = _Step(x, layer, conv, weights)
    _call("look", step.fields, x)
    return step.y, step.conv


def native_block(
    x: Tensor,
    layer: Layer,
    block: MACBlock,
    initial: Weights,
    conv: Tensor,
    state: MemoryState,
    start: Weights,
    read_conv: Tensor,
    pairs: Tensor,
    position: Tensor,
    sum_output: bool,
) -> tuple[tuple[Tensor, Tensor, MemoryState, Tensor], Tensor, Tensor]:
    """Pass a token of every stream through a block around a MAC.

    Parameters
    ----------
    x, layer, initial, conv, state
        As for :func:`native_step`.
    block : MACBlock
        The rest of the block.
    start : Weights
        The memory that the segment reads.
    read_conv : Tensor
        The convolution's last inputs of the queries that read it, `[B, conv_size - 1, D]`.
    pairs : Tensor
        Keys and values of the segment, `[B, 2, H, 2 segment, K]`.
    position : Tensor
        `[B]`: positions of the tokens in their segments.
    sum_output : bool
        Whether the outputs of attention and memory are added; else the memory gates the attention.

    Returns
    -------
    tuple[tuple, Tensor, Tensor]
        The result of :func:`native_step` with the block's output, and the new `read_conv` and `pairs`.
    """
    step = _Step(x, layer, conv, initial, state)
    dtype, (n, _, width) = x.dtype, x.shape
    given = [_flat(w, dtype) for w in (*block, read_conv, pairs)]
    segment, heads = len(block.cosines), initial[0].shape[0]
    _same("read_conv", read_conv.shape, (n, len(layer.taps) - 1, width))
    _same("pairs", pairs.shape, (n, 2, heads, 2 * segment, width // heads))
    for w, w0 in zip(start, initial, strict=True):
        _same("start", w.shape, (n, *w0.shape))
    read_after, pairs_after = torch.empty_like(given[-2]), torch.empty_like(given[-1])
    position = places(position, n, segment)
    held = [samples(w.to(dtype)) for w in start]
    fields = [  # of `struct block`
        *step.fields,
        *(segment, block.persistent.shape[1], len(block.up), int(sum_output)),
        *map(address, (step.x, *given, position, read_after, pairs_after, step.y)),
        *_by_layer(map(address, held), layer.depth, 1),
        *_by_layer([w.stride(0) for w in held], layer.depth, 1),
    ]
    _call("block", fields, x)
    return (step.y, step.conv, step.state_after(), step.surprise), read_after, pairs_after


class _Step:
    """`struct layer` of layer.c, and the tensors behind its addresses."""

    def __init__(
        self,
        x: Tensor,
        layer: Layer,
        conv: Tensor,
        initial: Weights,
        state: MemoryState | None = None,
    ) -> None:
        dtype, depth = x.dtype, layer.depth
        n, heads = len(x), initial[0].shape[-3]
        width = layer.in_proj.shape[1]
        _same("x", x.shape, (n, 1, width))
        self.layer, self.given = layer, state
        self.x, self.before = _flat(x, dtype), _flat(conv, dtype)
        self.y, self.conv = torch.empty_like(self.x), torch.empty_like(self.before)
        self.after: list[Tensor] = []
        self.surprise = x.new_empty(n, 1, heads)
        self.position = None
        if state is None:  # a read needs only the weights
            for w in initial:
                _same("weights", w.shape, (n, *w.shape[1:]))
            _same("conv", conv.shape, (n, len(layer.taps) - 1, width))
            self.initial, self.held = [], [samples(w.to(dtype)) for w in initial]
        else:
            _same("state.conv", conv.shape, (n, len(layer.taps) - 1, 3 * width))
            for name, layers in zip(state._fields[:3], state[:3], strict=True):
                if len(layers) != depth:
                    raise ValueError(f"state.{name} has {len(layers)} layers; expected {depth}")
                for w, w0 in zip(layers, initial, strict=True):
                    _same(f"state.{name}", w.shape, (n, *w0.shape))
            self.initial = [_flat(w, dtype) for w in initial]
            self.held = [samples(w.to(dtype)) for w in chain.from_iterable(state[:3])]
            self.position = places(state.position, n, layer.chunk_size)
            self.after = [w.new_empty(w.shape) for w in self.held]
        gates = (
            layer.gates.index(gate) * heads if gate in layer.gates else -1
            for gate in ("lr", "forget", "momentum")
        )
        given = (layer.in_proj, layer.gate_bias, layer.taps, layer.norm, layer.out_proj)
        # kept as long as their addresses are in use
        self.parameters = [None if w is None else w.contiguous() for w in given]
        in_proj, gate_bias, taps, norm, out_proj = self.parameters
        parameters = (in_proj, gate_bias, taps, self.before, norm, out_proj)
        results = (self.conv, self.y, self.surprise, self.position)
        self.fields = [
            *(x.shape[2], heads, n, len(layer.taps), *gates),
            *(depth, layer.chunk_size, int(layer.to_initial), int(layer.online), int(layer.open)),
            int(layer.bounded),
            *map(address, (self.x, *parameters, *results)),
            *(initial[0].shape[-2], *(w.shape[-1] for w in initial), *[0] * (DEPTH - depth)),
            *_by_layer(map(address, self.initial), depth, 1),
            *_by_layer(map(address, self.held), depth, 3),
            *_by_layer([w.stride(0) for w in self.held], depth, 3),
            *_by_layer(map(address, self.after), depth, 3),
        ]

    def state_after(self) -> MemoryState:
        """The state after the token."""
        assert self.given is not None
        depth, after = self.layer.depth, self.after
        weights, momenta, anchor = (tuple(after[i * depth : (i + 1) * depth]) for i in range(3))
        if "momentum" not in self.layer.gates:
            momenta = self.given.momentum
        position = (self.given.position + 1) % self.layer.chunk_size
        return MemoryState(weights, momenta, anchor, position)


def _same(name: str, shape: Sequence[int], expected: Sequence[int]) -> None:
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{name} has shape {tuple(shape)}; expected {tuple(expected)}")


def _flat(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).contiguous()


def _by_layer(numbers: Iterable[int], depth: int, count: int) -> list[int]:
    """Pad `count` groups of `depth` numbers to groups of DEPTH numbers."""
    numbers = list(numbers)
    places = [0] * (count * DEPTH)
    for i in range(0, len(numbers) // depth):
        places[i * DEPTH : i * DEPTH + depth] = numbers[i * depth : (i + 1) * depth]
    return places


def _call(name: str, fields: list[int], x: Tensor) -> None:
    if getattr(library(*DTYPES[x.dtype]), f"titans_{name}")((Integer * len(fields))(*fields)):
        raise MemoryError(f"{name} found no room to work in")
