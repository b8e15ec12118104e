"""Errors taken just before each token (`error_at="token"`): the rule, and every form of it."""

from __future__ import annotations

import functools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tests.kernels.cases import (
    FAST,
    B,
    assert_same,
    inputs_for,
    outputs,
    recurrent_memory,
    run_with_gradients,
    sizes,
)
from titans_ts.kernels import neural_memory

ONLINE = {"error_at": "token"}


case = partial(inputs_for, "token")


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_recurrent_is_the_rule_with_gradients_by_autograd(depth, chunk_size):
    """The docstring's equations once more, with autograd for the gradients of the hidden layers."""
    inputs, initial, _ = case(9, depth)
    weights = [w.expand(B, *w.shape) for w in initial]
    surprise = [torch.zeros_like(w) for w in weights]
    reads = []

    def mlp(layers, x):
        for i, w in enumerate(layers):
            x = torch.einsum("bhi,bhio->bho", x if i == 0 else F.silu(x), w)
        return x

    for t in range(9):
        if t % chunk_size == 0:
            anchor = [w.detach().requires_grad_(True) for w in weights]
        q, k, v = (inputs[name][:, t] for name in "qkv")
        h = k if depth == 1 else F.silu(mlp(anchor[:-1], k))
        error = 2 * (torch.einsum("bhi,bhio->bho", h, weights[-1]) - v).detach()
        gradient = []
        if depth > 1:
            gradient += torch.autograd.grad((mlp(anchor, k) * error).sum(), anchor[:-1])
        gradient.append(torch.einsum("bhi,bho->bhio", h.detach(), error))
        alpha, eta, theta = (
            inputs[name][:, t, :, None, None] for name in ("forget", "momentum", "lr")
        )
        steps = []
        for layer in range(depth - 1):
            # |E|, from the norm of the gradient, which is |x| |E|
            x = inputs["k"][:, t] if layer == 0 else F.silu(mlp(anchor[:layer], k))
            back = gradient[layer].square().sum((-1, -2)) / x.detach().square().sum(-1)
            gain = (back / error.square().sum(-1)).clamp_min(1)
            steps.append(theta / chunk_size / gain[..., None, None])
        longest = h.detach().square().sum(-1).clamp_min(1) if depth > 1 else torch.ones(())
        steps.append(theta / longest[..., None, None])
        surprise = [eta * s - c * g for s, c, g in zip(surprise, steps, gradient, strict=True)]
        weights = [
            (1 - alpha) * w + s + alpha * w0
            for w, w0, s in zip(weights, initial, surprise, strict=True)
        ]
        reads.append(mlp(weights, q))
    result = recurrent_memory(**inputs, initial=initial, chunk_size=chunk_size, **ONLINE)
    expected = {"y": torch.stack(reads, 1), "w": weights[0], "s": surprise[-1]}
    actual = {"y": result.y, "w": result.state.weights[0], "s": result.state.momentum[-1]}
    assert_same({n: x.detach() for n, x in actual.items()}, expected, 1e-12)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("chunk_size", [1, 4, 16, 64])
def test_a_linear_memory_is_online_for_every_chunk(name, chunk_size):
    """The paper's rule with chunks of one token, computed with chunks of any length."""
    inputs, initial, state = case(100, 1)
    # one begins at a boundary; the other has an anchor of its own, which it does not use
    boundary = state._replace(anchor=state.weights)
    online = recurrent_memory(**inputs, initial=initial, state=boundary, chunk_size=1)
    options = {"chunk_size": chunk_size, "implementation": name, **ONLINE}
    actual = neural_memory(**inputs, initial=initial, state=state, **options)
    for expected, found in zip(
        (online.y, online.surprise, *online.state.weights, *online.state.momentum),
        (actual.y, actual.surprise, *actual.state.weights, *actual.state.momentum),
        strict=True,
    ):
        assert torch.allclose(found, expected, rtol=0, atol=1e-10)


CASES = sizes([1, 63, 64, 130, 257], slow=[63])


@functools.lru_cache(maxsize=1)  # all implementations are compared with one run
def recurrent(length, depth, dtype, chunk_size):
    inputs = case(length, depth, dtype)
    return run_with_gradients("recurrent", *inputs, chunk_size=chunk_size, **ONLINE)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize(("depth", "chunk_size", "length"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_matches_recurrent(name, depth, chunk_size, length, dtype, tolerance):
    """Outputs, final state and every gradient; relative to the largest entry where that is > 1."""
    expected = recurrent(length, depth, dtype, chunk_size)
    inputs = case(length, depth, dtype)
    actual = run_with_gradients(name, *inputs, chunk_size=chunk_size, **ONLINE)
    assert_same(actual[0], expected[0], tolerance)
    assert torch.equal(actual[1], expected[1])
    assert_same(actual[2], expected[2], tolerance)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.parametrize("forget_to", ["init", "zero"])
@pytest.mark.parametrize("masked", [True, False])
def test_switches_match_recurrent(name, depth, momentum, forget, forget_to, masked):
    """Momentum, forgetting, mask, queries, a fresh stream, and samples at different places."""
    inputs, initial, state = case(30, depth, momentum=momentum, forget=forget)
    state = state._replace(position=torch.tensor([5, 2]))
    mask = torch.rand(B, 30, generator=torch.Generator().manual_seed(3)) > 0.4 if masked else None
    options = {"chunk_size": 7, "forget_to": forget_to, "mask": mask, **ONLINE}
    for q in (inputs["q"], None):
        here = (inputs | {"q": q}, initial, state)
        expected = run_with_gradients("recurrent", *here, **options)
        actual = run_with_gradients(name, *here, **options)
        assert_same(actual[0], expected[0], 1e-10)
        assert torch.equal(actual[1], expected[1])
        assert_same(actual[2], expected[2], 1e-10)
    fresh = [
        neural_memory(**inputs, initial=initial, implementation=n, **options)
        for n in ("recurrent", name)
    ]
    assert_same(outputs(fresh[1]), outputs(fresh[0]), 1e-10)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("depth", [1, 2])
def test_training_from_the_beginning_of_a_stream_matches_recurrent(name, depth):
    """Without a state the batch shares M_0, and its gradient is the sum over the batch."""
    inputs, initial, _ = case(40, depth)
    found = []
    for implementation in ("recurrent", name):
        named = [x.detach().requires_grad_(True) for x in (*inputs.values(), *initial)]
        tokens = dict(zip(inputs, named, strict=False))
        result = neural_memory(
            **tokens, initial=tuple(named[len(inputs) :]), chunk_size=16,
            implementation=implementation, **ONLINE,
        )  # fmt: skip
        loss = sum(
            (x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)).sum()
            for x in (result.y, result.surprise, *result.state.weights)
        )
        found.append(torch.autograd.grad(loss, named))
    for expected, actual in zip(*found, strict=True):
        assert torch.allclose(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("forget", [True, False])
def test_single_steps_are_the_rule(depth, momentum, forget):
    inputs, initial, state = case(17, depth, momentum=momentum, forget=forget)
    state = state._replace(position=torch.tensor([0, 3]))
    options = {"initial": initial, "chunk_size": 5, **ONLINE}
    expected = recurrent_memory(**inputs, state=state, **options)
    reads = []
    for t in range(17):
        token = {n: None if x is None else x[:, t : t + 1] for n, x in inputs.items()}
        y, state, _ = neural_memory(**token, state=state, implementation="step", **options)
        reads.append(y)
    result = {"y": torch.cat(reads, 1), **{str(i): w for i, w in enumerate(state.weights)}}
    wanted = {"y": expected.y, **{str(i): w for i, w in enumerate(expected.state.weights)}}
    assert_same(result, wanted, 1e-10)
    assert torch.equal(state.position, expected.state.position)
