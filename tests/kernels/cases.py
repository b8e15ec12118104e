"""Cases for every implementation of the memory, and how to compare their results."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from titans_ts.kernels import IMPLEMENTATIONS, MemoryState, neural_memory
from titans_ts.kernels.native.compiler import unavailable

COMPILED = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
FAST = [
    pytest.param(name, marks=COMPILED) if name == "native" else name
    for name in IMPLEMENTATIONS
    if name not in ("recurrent", "step", "triton")  # tests of their own
]
"""Implementations that any machine has, or any with a C compiler."""
ANYWHERE = ["recurrent", *FAST]
recurrent_memory = partial(neural_memory, implementation="recurrent")

B, H, K, V, HIDDEN = 2, 3, 4, 5, 6


def make_inputs(
    length,
    depth,
    dtype=torch.float64,
    momentum=True,
    forget=True,
    seed=0,
    batch_size=B,
    heads=H,
    widths=None,
):
    """Tokens and gates by name, M_0, and a state to go on from."""
    generator = torch.Generator().manual_seed(seed)
    widths = widths or [K] + [HIDDEN] * (depth - 1) + [V]

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    def unit(*shape):
        return F.normalize(normal(*shape), dim=-1)

    shape = batch_size, length, heads
    inputs = {
        "q": unit(*shape, widths[0]),
        "k": unit(*shape, widths[0]),
        "v": unit(*shape, widths[-1]),
        "forget": torch.sigmoid(normal(*shape) - 3) if forget else None,
        "momentum": torch.sigmoid(normal(*shape)) if momentum else None,
        "lr": torch.sigmoid(normal(*shape)) / 20,
    }
    initial = tuple(normal(heads, i, o) / i**0.5 for i, o in itertools.pairwise(widths))
    state = MemoryState(
        tuple(normal(batch_size, *w.shape) / 3 for w in initial),
        tuple(normal(batch_size, *w.shape) / 50 for w in initial),
        tuple(normal(batch_size, *w.shape) / 3 for w in initial),
        torch.tensor([0] * batch_size),
    )
    return inputs, initial, state


def inputs_for(error_at, length, depth, dtype=torch.float64, **options):
    """As :func:`make_inputs`; for errors at every token with the larger steps and layers it allows."""
    inputs, initial, state = make_inputs(length, depth, dtype, **options)
    if error_at == "token":
        inputs["lr"] = inputs["lr"] * 8
        if depth > 1:  # layers that stretch inputs and errors
            state = state._replace(anchor=tuple(3 * w for w in state.anchor))
    return inputs, initial, state


def leaves(inputs, initial, state):
    """Every tensor a gradient may flow into, by name."""
    named = {name: x for name, x in inputs.items() if x is not None}
    for field, tensors in (
        ("initial", initial),
        ("weights", state.weights),
        ("momentum_state", state.momentum),
        ("anchor", state.anchor),
    ):
        named |= {f"{field}[{i}]": w for i, w in enumerate(tensors)}
    return named


def outputs(result):
    """Everything a memory returns, by name."""
    named = {"surprise": result.surprise} | ({} if result.y is None else {"y": result.y})
    for field in ("weights", "momentum", "anchor"):
        named |= {f"{field}[{i}]": w for i, w in enumerate(getattr(result.state, field))}
    return named


def run_with_gradients(implementation, inputs, initial, state, **options):
    """Outputs, position and gradients; `implementation` is a name for `neural_memory` or a function."""
    named = leaves(inputs, initial, state)
    for x in named.values():
        x.requires_grad_(True)
    compute = implementation
    if isinstance(implementation, str):
        compute = partial(neural_memory, implementation=implementation)
    result = compute(**inputs, initial=initial, state=state, **options)
    out = outputs(result)
    generator = torch.Generator().manual_seed(7)
    loss = sum(
        (
            x.double() * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        ).sum()
        for x in out.values()
    )
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    gradients = {
        n: torch.zeros_like(x) if g is None else g
        for (n, x), g in zip(named.items(), gradients, strict=True)
    }
    return out, result.state.position, gradients


def assert_same(actual, expected, tolerance):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, value.abs().max().item()) if value.numel() else 1.0
        error = (
            (actual[name].to(value) - value).abs().max().item() / scale if value.numel() else 0.0
        )
        assert error <= tolerance, f"{name}: {error:.1e} > {tolerance:.0e}"


def sizes(lengths, slow=()):
    """Cases of depth, chunk and length; long ones are slow, and others that are named."""
    return [
        pytest.param(
            depth,
            chunk_size,
            length,
            id=f"depth{depth}-chunk{chunk_size}-{length}",
            marks=[pytest.mark.slow] * (length > 200 or length in slow),
        )
        for depth, chunk_size in itertools.product([1, 2, 3], [1, 3, 16, 64])
        for length in lengths
    ]
