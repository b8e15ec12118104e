"""Decide when one compiled call reads one token of every stream, and explain such decisions.

The modules of `nn` use torch operations. `kernels/native/layer.py` computes the same for one token of
every stream in one compiled call, which is several times faster. Only :func:`single_layer` and
:func:`single_block` decide whether that call is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from titans_ts.kernels.decisions import recorded
from titans_ts.kernels.native import layer as native
from titans_ts.nn.attention import segment_turns
from titans_ts.nn.layers import untouched

if TYPE_CHECKING:
    from titans_ts.nn.blocks import Block
    from titans_ts.nn.memory import NeuralMemory

__all__ = [
    "SingleCall",
    "block_parameters",
    "explain",
    "single_block",
    "single_layer",
]


def explain(model: nn.Module, x: Tensor, state: Any = None, mask: Tensor | None = None) -> str:
    """Explain which code computes a call of a backbone or memory layer, for each part, and why.

    The function makes the call, with gradients enabled or disabled as in the caller, and records every
    decision. The model's state and torch's random numbers do not change.

    Parameters
    ----------
    model : nn.Module
        A :class:`titans_ts.nn.TitansBackbone` or a :class:`titans_ts.nn.NeuralMemory`.
    x : Tensor
        Tokens `[B, T, D]`.
    state : optional
        The state of the streams; default: their beginning.
    mask : Tensor, optional
        `[B, T]` bool, True where a token is present; default: all are.

    Returns
    -------
    str
        One line for every part with its decision, followed by one line for every reason against a
        faster one. The parts of a block are indented below it.

    Examples
    --------
    >>> from titans_ts.config import BackboneConfig
    >>> from titans_ts.nn import TitansBackbone
    >>> backbone = TitansBackbone(BackboneConfig(variant="swa")).eval()
    >>> print(explain(backbone, torch.zeros(1, 8, backbone.config.d_model)).splitlines()[0])
    block 0: torch operations
    """
    devices = [x.device] if x.is_cuda else []
    network: Any = model
    with torch.random.fork_rng(devices):
        state = network.initial_state(len(x)) if state is None else state
        with recorded() as records:
            network(x, state, mask)
    lines: list[str] = []
    seen: set[tuple[str, str]] = set()
    n_blocks = 0
    for part, decision in records:
        first, *reasons = decision.splitlines()
        if part == "block":
            seen.clear()
            part, indent = f"block {n_blocks}", ""
            n_blocks += 1
        elif (part, decision) in seen:
            continue
        else:
            seen.add((part, decision))
            indent = "  " if n_blocks else ""
        lines += [f"{indent}{part}: {first}", *(f"{indent}  {reason}" for reason in reasons)]
    return "\n".join(lines)


class SingleCall(NamedTuple):
    """The memory layer for the compiled call, or the reason why the call is not used."""

    layer: native.Layer | None
    uncovered: str | None


def _layer(memory: NeuralMemory) -> native.Layer:
    """Return the parameters and options of a memory layer for the compiled call."""
    config = memory.config
    return native.Layer(
        memory.in_proj.weight,
        memory.gate_bias,
        memory.taps,
        memory.norm.weight,
        memory.out_proj.weight,
        memory.gates,
        config.depth,
        config.chunk_size,
        config.forget_to == "init" and "forget" in memory.gates,
        config.error_at == "token",
        config.output_gate == "sigmoid",
        memory.bounded,
    )


def block_parameters(block: Block, width: int, x: Tensor) -> native.MACBlock:
    """Return the other parameters of a MAC block, for heads of `width` and tokens x `[B, 1, D]`."""
    mixer, ff = block.mixer, block.ff
    return native.MACBlock(
        block.mixer_norm.weight,
        mixer.persistent,
        mixer.attention.qkv_proj.weight,
        mixer.attention.out_proj.weight,
        *segment_turns(mixer.segment_length, width, x.dtype, x.device),
        mixer.gate.weight,
        block.ff_norm.weight,
        *(ff.up.weight, ff.up.bias, ff.down.weight, ff.down.bias),
    )


def single_layer(memory: NeuralMemory, x: Tensor, absent: Tensor | None = None) -> SingleCall:
    """Decide whether one call reads x `[B, T, D]` through a memory layer.

    `absent` is the mask or the lengths of the present tokens, or None if all tokens are present.
    """
    if x.shape[1] != 1:
        return SingleCall(None, f"there are {x.shape[1]} tokens, not one")
    if absent is not None:
        return SingleCall(None, "tokens may be absent")
    if torch.is_grad_enabled():
        return SingleCall(None, "gradients are enabled")
    if not untouched(memory.out_proj) or type(memory.out_proj) is not nn.Linear:
        return SingleCall(None, "out_proj was replaced or has hooks")
    layer = _layer(memory)
    return SingleCall(layer, native.uncovered_layer(x, layer))


def single_block(block: Block, x: Tensor, lengths: Tensor | None = None) -> SingleCall:
    """Decide whether one call reads x `[B, T, D]` through a whole block."""
    mixer = block.mixer
    if not mixer.has_block_kernel:
        return SingleCall(None, f"there is no compiled call for the variant {type(mixer).__name__}")
    if block.training and block.dropout:
        return SingleCall(None, "dropout is active")
    call = single_layer(mixer.memory, x, lengths)
    if call.uncovered is not None:
        return call
    attention, ff = mixer.attention, block.ff
    linear = (attention.qkv_proj, attention.out_proj, ff.up, ff.down)
    others = (block.mixer_norm, mixer, mixer.memory, attention, mixer.gate, block.ff_norm, ff)
    if not untouched(*linear, *others) or any(type(part) is not nn.Linear for part in linear):
        return SingleCall(None, "a part of the block was replaced or has hooks")
    return call
