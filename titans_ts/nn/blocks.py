"""The Titans blocks (arXiv 2501.00663, section 4): how memory and attention mix a stream of tokens.

A mixer maps tokens `[B, T, D]` and a state to `(y [B, T, D], state, surprise [B, T, M])` where M is
the number of memory heads. `lengths` `[B]` counts the present tokens of each sample; absent ones come
last (:class:`titans_ts.nn.TitansBackbone` moves them). A new variant is one class and one entry of
`BLOCKS`; the contract tests iterate `BLOCKS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import BackboneConfig
from titans_ts.kernels import Weights
from titans_ts.kernels.decisions import covered
from titans_ts.kernels.layout import ChunkLayout
from titans_ts.kernels.native.layer import Layer, native_block
from titans_ts.nn.attention import (
    AttentionCache,
    SegmentAttention,
    SlidingWindowAttention,
)
from titans_ts.nn.fused import inverse_rms
from titans_ts.nn.layers import FeedForward, Norm
from titans_ts.nn.memory import NeuralMemory, NeuralMemoryState
from titans_ts.nn.packing import prefix_mask
from titans_ts.nn.single_token import block_parameters, single_block
from titans_ts.nn.state import repeat_state

__all__ = [
    "BLOCKS",
    "LMM",
    "MAC",
    "MAG",
    "MAL",
    "SWA",
    "Block",
    "MACState",
    "MAGState",
    "MALState",
    "Mixer",
    "MixerOutput",
]


class MixerOutput(NamedTuple):
    """Output `[B, T, D]`, the mixer's state, and surprise `[B, T, M]`."""

    y: Tensor
    state: Any
    surprise: Tensor


class Mixer(nn.Module, ABC):
    """The part of a :class:`Block` that mixes tokens along the stream."""

    has_block_kernel = False
    """Whether one compiled call can read a token through a whole block with this mixer."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.memory_heads = config.n_heads
        """M, the number of heads that report surprise."""
        self.persistent = nn.Parameter(torch.randn(1, config.n_persistent, config.d_model))

    @property
    @abstractmethod
    def output_weight(self) -> Tensor:
        """Weights that the output is proportional to."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> Any:
        """Return the state at the beginning of `batch_size` streams."""

    @abstractmethod
    def forward(self, x: Tensor, state: Any, lengths: Tensor | None = None) -> MixerOutput:
        """Read the next tokens `[B, T, D]`; only the first `lengths` `[B]` are present (default: all)."""

    def emptied(self, state: Any, fresh: Any) -> Any:
        """Return a state with the memory of `fresh`, a first state, and all else as it is."""
        return state


class LMM(Mixer):
    """The memory alone: y = M([P; x]); P is written once, before the stream."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.memory = NeuralMemory(config.d_model, config.n_heads, config.memory)

    @property
    def output_weight(self) -> Tensor:
        return self.memory.out_proj.weight

    def initial_state(self, batch_size: int) -> NeuralMemoryState:
        return repeat_state(self.memory(self.persistent).state, batch_size)

    def forward(
        self, x: Tensor, state: NeuralMemoryState, lengths: Tensor | None = None
    ) -> MixerOutput:
        return MixerOutput(*self.memory(x, state, _mask(x, lengths)))

    def emptied(self, state: NeuralMemoryState, fresh: NeuralMemoryState) -> NeuralMemoryState:
        return state._replace(memory=fresh.memory)


class SWA(Mixer):
    """Sliding-window attention alone: a control without a long-term memory."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.memory_heads = 0
        self.attention = SlidingWindowAttention(config.d_model, config.n_heads, config.window)

    @property
    def output_weight(self) -> Tensor:
        return self.attention.out_proj.weight

    def initial_state(self, batch_size: int) -> AttentionCache:
        return self.attention.initial_state(batch_size)

    def forward(
        self, x: Tensor, state: AttentionCache, lengths: Tensor | None = None
    ) -> MixerOutput:
        y, state = self.attention(x, self.persistent, state, lengths)
        return MixerOutput(y, state, x.new_zeros(*x.shape[:2], self.memory_heads))


class MAGState(NamedTuple):
    """State of :class:`MAG`."""

    memory: NeuralMemoryState
    attention: AttentionCache


class MAG(Mixer):
    """Memory as gate: y = SWA([P; x]), o = y gated by M([P; x])."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.memory = NeuralMemory(config.d_model, config.n_heads, config.memory)
        self.attention = SlidingWindowAttention(config.d_model, config.n_heads, config.window)
        self.gate = _Gate(config.d_model)

    @property
    def output_weight(self) -> Tensor:
        return self.gate.output_weight

    def initial_state(self, batch_size: int) -> MAGState:
        memory = repeat_state(self.memory(self.persistent).state, batch_size)
        return MAGState(memory, self.attention.initial_state(batch_size))

    def forward(self, x: Tensor, state: MAGState, lengths: Tensor | None = None) -> MixerOutput:
        y, attention = self.attention(x, self.persistent, state.attention, lengths)
        m, memory, surprise = self.memory(x, state.memory, _mask(x, lengths))
        return MixerOutput(self.gate(y, m), MAGState(memory, attention), surprise)

    def emptied(self, state: MAGState, fresh: MAGState) -> MAGState:
        return state._replace(memory=state.memory._replace(memory=fresh.memory.memory))


class MALState(NamedTuple):
    """State of :class:`MAL`; `persistent` `[B, N_p, D]` is the memory's output for P."""

    memory: NeuralMemoryState
    attention: AttentionCache
    persistent: Tensor


class MAL(Mixer):
    """Memory as layer: y = M([P; x]), o = SWA(y)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.memory = NeuralMemory(config.d_model, config.n_heads, config.memory)
        self.norm = Norm(config.d_model)
        self.attention = SlidingWindowAttention(config.d_model, config.n_heads, config.window)

    @property
    def output_weight(self) -> Tensor:
        return self.attention.out_proj.weight

    def initial_state(self, batch_size: int) -> MALState:
        y, memory, _ = self.memory(self.persistent)
        attention = self.attention.initial_state(batch_size)
        return MALState(
            repeat_state(memory, batch_size), attention, self.norm(y).expand(batch_size, -1, -1)
        )

    def forward(self, x: Tensor, state: MALState, lengths: Tensor | None = None) -> MixerOutput:
        y, memory, surprise = self.memory(x, state.memory, _mask(x, lengths))
        y, attention = self.attention(self.norm(y), state.persistent, state.attention, lengths)
        return MixerOutput(y, MALState(memory, attention, state.persistent), surprise)

    def emptied(self, state: MALState, fresh: MALState) -> MALState:
        memory = state.memory._replace(memory=fresh.memory.memory)
        return state._replace(memory=memory, persistent=fresh.persistent)


class MACState(NamedTuple):
    """State of :class:`MAC`, including the unfinished segment."""

    memory: NeuralMemoryState
    start: Weights
    """The memory at the segment's start, which the segment reads."""
    read_conv: Tensor
    """The last inputs of the query convolution, from the stream x."""
    attention: AttentionCache
    """Keys and values of the segment so far."""
    position: Tensor
    """`[B]` int64 on the CPU: number of tokens in the unfinished segment."""


class MAC(Mixer):
    """Memory as context, causal, one segment S at a time.

    h = M.read(S), with M at the segment's start; y = Attention([P; h; S]). The memory then writes and
    reads y token by token, r = M(y), and o = y gated by r. With ``mac_output="sum"`` it writes and reads
    y + S, and o = y + S + r: the tokens themselves reach the memory, whatever the attention does.
    """

    has_block_kernel = True

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.segment_length = config.segment_length
        self.memory = NeuralMemory(config.d_model, config.n_heads, config.memory)
        self.attention = SegmentAttention(config.d_model, config.n_heads, config.segment_length)
        self.sum_output = config.mac_output == "sum"
        self.gate = (_Sum if self.sum_output else _Gate)(config.d_model)

    @property
    def output_weight(self) -> Tensor:
        return self.gate.output_weight

    def initial_state(self, batch_size: int) -> MACState:
        memory = self.memory.initial_state(batch_size)
        return MACState(
            memory,
            memory.memory.weights,
            memory.conv[..., : self.persistent.shape[-1]],
            self.attention.initial_state(batch_size),
            torch.zeros(batch_size, dtype=torch.long),
        )

    def forward(self, x: Tensor, state: MACState, lengths: Tensor | None = None) -> MixerOutput:
        memory, start, conv, cache, position = state
        slots = ChunkLayout.build(position, _mask(x, lengths), x.shape[1], self.segment_length)
        tokens = slots.place(x)
        outputs, surprises = [], []
        for first, stop in slots.chunks:
            s = tokens[:, first:stop]
            present = None if slots.present is None else slots.present[:, first:stop]
            h, conv = self.memory.read(s, start, conv, present)
            place = (slots.offset + first) % self.segment_length
            y, cache = self.attention(s, h, self.persistent, cache, place, present)
            y = y + s if self.sum_output else y
            r, memory, surprise = self.memory(y, memory, present)
            start = self._start(slots, stop, memory.memory.weights, start)
            outputs.append(self.gate(y, r))
            surprises.append(surprise)
        state = MACState(memory, start, conv, cache, slots.final_position)
        if not outputs:  # no token is present
            return MixerOutput(
                torch.zeros_like(x), state, x.new_zeros(*x.shape[:2], self.memory_heads)
            )
        y, surprise = (
            slots.pick(parts[0] if len(parts) == 1 else torch.cat(parts, 1))
            for parts in (outputs, surprises)
        )
        return MixerOutput(y, state, surprise)

    def emptied(self, state: MACState, fresh: MACState) -> MACState:
        memory = state.memory._replace(memory=fresh.memory.memory)
        return state._replace(memory=memory, start=fresh.start)

    def _start(self, slots: ChunkLayout, stop: int, weights: Weights, start: Weights) -> Weights:
        """Return the memory to read after slot `stop`: the new one where a sample ended a segment."""
        if (slots.offset + stop) % self.segment_length:
            return start
        if slots.source is None:
            return weights
        return _chosen(slots.end >= stop, weights, start)


def _chosen(samples: Tensor, weights: Weights, others: Weights) -> Weights:
    """Take `weights` where `samples` `[B]` is True, and `others` elsewhere."""
    chosen = samples.to(weights[0].device)[:, None, None, None]
    return tuple(torch.where(chosen, w, old) for w, old in zip(weights, others, strict=True))


class _Sum(nn.Module):
    """The sum of two streams, both normalised with learned weights: o = y + m.

    It starts at three tenths of that, so that a new block changes its input little.
    """

    start = 0.3

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2 * d_model,), self.start))
        """The weights of y, then those of m."""

    @property
    def output_weight(self) -> Tensor:
        """Weights that the result is proportional to."""
        return self.weight

    def forward(self, y: Tensor, m: Tensor) -> Tensor:
        """Combine y `[B, T, D]` and m `[B, T, D]`."""
        y, m = self._normalised(y, m)
        return y + m

    def _normalised(self, y: Tensor, m: Tensor) -> tuple[Tensor, ...]:
        weight = self.weight.view(2, -1)
        both = torch.stack([y, m], 2)
        return (both * inverse_rms(both) * weight).to(weight.dtype).unbind(2)


class _Gate(_Sum):
    """The paper's gate of two streams, both normalised with learned weights: o = y * SiLU(m)."""

    start = 1.0

    @property
    def output_weight(self) -> Tensor:
        return self.weight[: len(self.weight) // 2]

    def forward(self, y: Tensor, m: Tensor) -> Tensor:
        y, m = self._normalised(y, m)
        return y * F.silu(m)


BLOCKS: dict[str, type[Mixer]] = {"lmm": LMM, "mac": MAC, "mag": MAG, "mal": MAL, "swa": SWA}
"""Every variant by name."""


_RESIDUAL_START = 0.1
"""Share of their usual start that the outputs of a block's two parts have at first."""


class Block(nn.Module):
    """Mixer and feed-forward, each after a norm and with a residual connection.

    Both start small, so that a new model is nearly one without blocks.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if config.variant not in BLOCKS:
            raise ValueError(f"variant is {config.variant!r}; choose one of {sorted(BLOCKS)}")
        self.mixer_norm, self.ff_norm = (Norm(config.d_model) for _ in range(2))
        self.mixer: Any = BLOCKS[config.variant](config)  # a Mixer with parts of its own
        self.ff = FeedForward(config.d_model, config.ff_expansion, config.dropout)
        self.dropout = config.dropout
        with torch.no_grad():
            for weight in (self.mixer.output_weight, self.ff.down.weight, self.ff.down.bias):
                weight.mul_(_RESIDUAL_START)

    def initial_state(self, batch_size: int) -> Any:
        """Return the mixer's state at the beginning of `batch_size` streams."""
        return self.mixer.initial_state(batch_size)

    def forward(self, x: Tensor, state: Any, lengths: Tensor | None = None) -> MixerOutput:
        """Read the next tokens `[B, T, D]`; only the first `lengths` `[B]` are present (default: all)."""
        single = single_block(self, x, lengths)
        if covered("block", single.uncovered):
            assert single.layer is not None
            return self._step(x, state, single.layer)
        y, state, surprise = self.mixer(self.mixer_norm(x), state, lengths)
        x = x + self._drop(y)
        x = x + self._drop(self.ff(self.ff_norm(x)))
        return MixerOutput(x, state, surprise)

    def _step(self, x: Tensor, state: MACState, layer: Layer) -> MixerOutput:
        """Read one token of every stream through a MAC block in one compiled call."""
        memory, start, read_conv, cache, position = state
        (y, conv, after, surprise), read_conv, pairs = native_block(
            x,
            layer,
            block_parameters(self, cache.pairs.shape[-1], x),
            self.mixer.memory.initial.weights(),
            memory.conv,
            memory.memory,
            start,
            read_conv,
            cache.pairs,
            position,
            self.mixer.sum_output,
        )
        position = (position + 1) % self.mixer.segment_length
        ended = position == 0
        if ended.any():
            start = _chosen(ended, after.weights, start)
        cache = AttentionCache(pairs, cache.filled)
        memory = NeuralMemoryState(after, conv)
        return MixerOutput(y, MACState(memory, start, read_conv, cache, position), surprise)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training else x


def _mask(x: Tensor, lengths: Tensor | None) -> Tensor | None:
    return None if lengths is None else prefix_mask(lengths, x.shape[1])
