"""Whether the memories of a fitted model are used: switches, and an observer of a stream.

Everything here uses forward hooks, which a block without an observer does not have: training and the
compiled calls stay as they are. With hooks, a token takes the way through torch operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.memory import NeuralMemory, NeuralMemoryState
from titans_ts.nn.packing import prefix_mask

__all__ = [
    "BlockUse",
    "MemoryObserver",
    "has_memory",
    "head_outputs",
    "memory_off",
    "relative_change",
    "write_off",
]

_MAX_TOKENS = 2**16
"""Tokens of a block after which its observation ends; quantiles of gates hardly change then."""

_POINTS = 16
"""Largest number of places in a piece of a stream where the memory's distance is measured."""

_SHORTEST = 4
"""Least number of tokens between two such places."""


def has_memory(model: nn.Module) -> bool:
    """Return whether a model has a long-term memory.

    Examples
    --------
    >>> from titans_ts.config import BackboneConfig
    >>> [has_memory(TitansBackbone(BackboneConfig(variant))) for variant in ("mac", "swa")]
    [True, False]
    """
    return bool(_memories(model))


@contextmanager
def write_off(model: nn.Module) -> Iterator[None]:
    """Switch off the writing of all memories inside a `with` block: they neither write nor forget.

    A stream that begins there reads the learned initial memory throughout, as in a model with
    ``MemoryConfig(write=False)``. Gradients of the gates are not available there.

    Parameters
    ----------
    model : nn.Module
        A layer, a backbone or a whole model; it is restored at the end.

    Examples
    --------
    >>> memory = NeuralMemory(d_model=16, n_heads=2)
    >>> with write_off(memory):
    ...     state = memory(torch.randn(1, 20, 16)).state
    >>> torch.equal(state.memory.weights[0], memory.initial_state(1).memory.weights[0])
    True
    """
    memories = _memories(model)
    before = [(memory.gates, memory.gate_bias) for memory in memories]
    try:
        for memory in memories:
            memory.gates, memory.gate_bias = (), None
        yield
    finally:
        for memory, (gates, bias) in zip(memories, before, strict=True):
            memory.gates, memory.gate_bias = gates, bias


@contextmanager
def memory_off(model: nn.Module) -> Iterator[None]:
    """Let all memories of a model return zeros inside a `with` block."""
    with ExitStack() as stack:
        for memory in _memories(model):
            handle = memory.out_proj.register_forward_hook(lambda *call: torch.zeros_like(call[-1]))
            stack.callback(handle.remove)
        yield


@contextmanager
def head_outputs(model: Any) -> Iterator[list[Tensor]]:
    """Collect what a model's head returns inside a `with` block, as tensors `[n, outputs]`."""
    outputs: list[Tensor] = []

    def keep(_head: nn.Module, _inputs: Any, output: Any) -> None:
        point = output[0] if isinstance(output, tuple) else output
        outputs.append(point.detach().flatten(0, -2).cpu())

    handle = model.head.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def relative_change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Return the root mean square of the change, divided by the outputs' standard deviation.

    Parameters
    ----------
    before, after : sequence of Tensor
        As :func:`head_outputs` returns them, from the same inputs.

    Examples
    --------
    >>> relative_change([torch.tensor([[1.0], [3.0]])], [torch.tensor([[1.5], [3.5]])])
    0.5
    """
    old, new = torch.cat(list(before)).double(), torch.cat(list(after)).double()
    changed = (new - old).square().mean().sqrt()
    spread = (old - old.mean(0)).square().mean().sqrt()
    if spread == 0:  # a single output
        spread = old.square().mean().sqrt()
    return float(changed / spread) if changed > 0 else 0.0


@dataclass(frozen=True)
class BlockUse:
    """What was observed of the memory of one block with H heads."""

    block: Any
    """The number of the block; with several backbones, the backbone's name before it."""
    n_tokens: int
    share: float
    """Root mean square of the change of the mixer's output if the memory returns zeros, divided by that
    of the output; 1 where all of it passes through the memory."""
    written: float
    """The same if the memory is empty and does not write."""
    gates: NDArray[np.float32]
    """`[n_tokens, 3, H]`, see :meth:`NeuralMemory.gates_of`."""
    position: NDArray[np.int64]
    """`[P]`, tokens since the beginning of a stream; -1 where it is unknown."""
    distance: NDArray[np.float32]
    """`[P, H]`, distance of the memory from that at the beginning, in Frobenius norms of the latter."""


class MemoryObserver:
    """Observe the memories of a model, inside a `with` block, while the model reads.

    Parameters
    ----------
    model : nn.Module
        A model in evaluation mode, with any number of backbones.

    Examples
    --------
    >>> from titans_ts.config import BackboneConfig
    >>> backbone = TitansBackbone(BackboneConfig(n_layers=2)).eval()
    >>> with MemoryObserver(backbone) as observer:
    ...     y, state = backbone(torch.randn(2, 50, 64))
    >>> [(use.block, use.n_tokens) for use in observer.uses()]
    [(0, 100), (1, 100)]
    """

    def __init__(self, model: nn.Module) -> None:
        backbones = {n: m for n, m in model.named_modules() if isinstance(m, TitansBackbone)}
        self._blocks = [
            _Observed(i if len(backbones) == 1 else f"{name} {i}", block.mixer)
            for name, backbone in backbones.items()
            for i, block in enumerate(backbone.blocks)
            if block.mixer.memory_heads
        ]
        self._stack = ExitStack()

    def __enter__(self) -> MemoryObserver:
        for block in self._blocks:
            for module, hook in (
                (block.mixer, block.after_mixer),
                (block.mixer.memory, block.after_memory),
            ):
                self._stack.callback(module.register_forward_hook(hook).remove)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def uses(self) -> list[BlockUse]:
        """Return the observations of every block with a memory that has read a token."""
        return [block.use() for block in self._blocks if block.n_tokens]


@dataclass
class _Observed:
    """The observations of one block's mixer."""

    block: Any
    mixer: Any
    n_tokens: int = 0
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    gates: list[Tensor] = field(default_factory=list)
    distances: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _busy: bool = False
    _positions: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)
    """Tokens `[B]` before the states that the memory returned and that still exist, by their `conv`."""

    def after_mixer(self, mixer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Compare the mixer's output with those without a memory, and without its writing."""
        x, state, lengths = (*inputs, None)[:3]

        def measure() -> None:
            present = ... if lengths is None else prefix_mask(lengths, x.shape[1])
            y = output.y[present]
            parts = [y]
            for switch in (memory_off, write_off):
                with switch(mixer):
                    empty = mixer.emptied(state, mixer.initial_state(len(x)))
                    parts.append(y - mixer.forward(x, empty, lengths).y[present])
            self.squares += [float(part.float().square().sum()) for part in parts]
            self.n_tokens += y[..., 0].numel()

        self._alone(measure)

    def after_memory(self, memory: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep the gates of the tokens, and the memory's distances from its first state."""
        x, state, mask = (*inputs, None, None)[:3]
        if state is None:  # persistent tokens are written before a stream begins
            return

        def measure() -> None:
            gates = torch.stack(memory.gates_of(x), 2)  # [B, T, 3, H]
            kept = gates.flatten(0, 1) if mask is None else gates[mask]
            self.gates.append(kept.float().cpu())
            first = _memory_state(self.mixer.initial_state(1)).memory.weights
            before, now = self._position(state, first), state
            size = max(_SHORTEST, -(-x.shape[1] // _POINTS))
            there = torch.ones_like(x[..., 0], dtype=torch.bool) if mask is None else mask
            position = None if before is None else before[:, None] + there.cumsum(1).cpu()  # [B, T]
            for start in range(0, x.shape[1], size):
                part = slice(start, start + size)
                now = memory.forward(x[:, part], now, None if mask is None else mask[:, part]).state
                seen = there[:, part].any(1)  # the memories of other samples have not changed
                distance = _distance(now.memory.weights, first)[seen].float().cpu()  # [b, H]
                at = torch.full((len(distance),), -1)
                if position is not None:
                    at = position[:, part][seen.cpu(), -1]
                self.distances.append((at, distance))
            if position is not None:
                self._positions[output.state.conv] = position[:, -1]

        self._alone(measure)

    def use(self) -> BlockUse:
        """Return the observations."""
        whole, share, written = self.squares
        position, distance = (torch.cat(list(parts)) for parts in zip(*self.distances, strict=True))
        return BlockUse(
            self.block,
            self.n_tokens,
            float(np.sqrt(share / whole)) if share else 0.0,
            float(np.sqrt(written / whole)) if written else 0.0,
            torch.cat(self.gates).numpy(),
            position.numpy(),
            distance.numpy(),
        )

    def _alone(self, measure: Callable[[], None]) -> None:
        """Measure, unless this is part of a measurement, or enough was observed."""
        if self._busy or self.n_tokens >= _MAX_TOKENS:
            return
        self._busy = True
        try:
            with torch.no_grad():
                measure()
        finally:
            self._busy = False

    def _position(self, state: NeuralMemoryState, first: Sequence[Tensor]) -> Tensor | None:
        """Tokens `[B]` before a state; None for one that was neither returned nor is a first one."""
        if state.conv in self._positions:
            return self._positions[state.conv]
        weights = state.memory.weights
        fresh = all(torch.allclose(w, f.expand_as(w)) for w, f in zip(weights, first, strict=True))
        return torch.zeros(len(weights[0]), dtype=torch.long) if fresh else None


def _memories(model: nn.Module) -> list[NeuralMemory]:
    return [module for module in model.modules() if isinstance(module, NeuralMemory)]


def _memory_state(state: Any) -> NeuralMemoryState:
    """Return the memory's part of a mixer's state."""
    return state if isinstance(state, NeuralMemoryState) else state.memory


def _distance(weights: Sequence[Tensor], first: Sequence[Tensor]) -> Tensor:
    """Return the Frobenius norm `[B, H]` of weights less those of `first`, relative to the latter."""
    both = list(zip(weights, first, strict=True))
    change = sum((w - f).square().sum((2, 3)) for w, f in both)
    size = sum(f.square().sum((2, 3)) for _, f in both)
    return torch.sqrt(torch.as_tensor(change / size))
