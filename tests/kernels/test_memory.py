"""The memory kernels: the reference against autograd, everything else against the reference."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F

from tests.kernels.cases import (
    ANYWHERE,
    COMPILED,
    FAST,
    B,
    H,
    K,
    assert_same,
    inputs_for,
    leaves,
    make_inputs,
    outputs,
    recurrent_memory,
    run_with_gradients,
    sizes,
)
from titans_ts.kernels import (
    explain,
    initial_state,
    loss_gradient,
    neural_memory,
    read_memory,
)
from titans_ts.kernels.call import ERROR_AT


def mlp(weights, x):
    for layer, w in enumerate(weights):
        x = torch.einsum("bhi,bhio->bho", x if layer == 0 else F.silu(x), w)
    return x


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_loss_gradient_is_autograd_and_finite_differences(depth):
    inputs, _, state = make_inputs(1, depth)
    weights = tuple(w.requires_grad_(True) for w in state.weights)
    k, v = inputs["k"][:, 0], inputs["v"][:, 0]

    def loss(*weights):
        return (mlp(weights, k) - v).square().sum()

    gradient = loss_gradient(weights, k, v)
    for ours, autograd in zip(gradient, torch.autograd.grad(loss(*weights), weights), strict=True):
        assert (ours - autograd).abs().max() < 1e-12
    step = 1e-6
    with torch.no_grad():
        for layer, w in enumerate(weights):
            direction = torch.randn_like(w)
            plus, minus = (
                loss(*(x + s * direction if i == layer else x for i, x in enumerate(weights)))
                for s in (step, -step)
            )
            numeric = (plus - minus) / (2 * step)
            assert abs(numeric - (gradient[layer] * direction).sum()) < 1e-7 * max(1, abs(numeric))


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("forget_to", ["init", "zero"])
def test_recurrent_is_the_rule_with_gradients_by_autograd(depth, chunk_size, forget_to):
    """The rule of the paper, written once more with autograd for the gradient of the loss."""
    inputs, initial, _ = make_inputs(8, depth)
    weights = [w.expand(B, *w.shape) for w in initial]
    surprise = [torch.zeros_like(w) for w in weights]
    reads, norms = [], []
    for t in range(8):
        if t % chunk_size == 0:
            anchor = [w.detach().requires_grad_(True) for w in weights]
        q, k, v = (inputs[name][:, t] for name in "qkv")
        loss = (mlp(anchor, k) - v).square().sum()
        gradient = torch.autograd.grad(loss, anchor)
        alpha, eta, theta = (
            inputs[name][:, t, :, None, None] for name in ("forget", "momentum", "lr")
        )
        surprise = [eta * s - theta * g for s, g in zip(surprise, gradient, strict=True)]
        weights = [
            (1 - alpha) * w + s + (alpha * w0 if forget_to == "init" else 0)
            for w, w0, s in zip(weights, initial, surprise, strict=True)
        ]
        reads.append(mlp(weights, q))
        norms.append(torch.stack([g.square().sum((-1, -2)) for g in gradient]).sum(0).sqrt())

    result = recurrent_memory(**inputs, initial=initial, chunk_size=chunk_size, forget_to=forget_to)
    assert_same(
        {"y": result.y, "surprise": result.surprise, "w": result.state.weights[-1]},
        {"y": torch.stack(reads, 1), "surprise": torch.stack(norms, 1), "w": weights[-1]},
        1e-12,
    )
    assert_same(
        {str(i): s for i, s in enumerate(result.state.momentum)},
        {str(i): s for i, s in enumerate(surprise)},
        1e-12,
    )


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("error_at", ERROR_AT)
def test_outer_gradients_are_finite_differences(name, depth, masked, error_at):
    """Along random directions of all inputs at once (gradcheck's fast mode)."""
    inputs, initial, state = inputs_for(error_at, 5, depth)
    mask = torch.tensor([[True, True, False, True, True], [False, True, True, False, True]])
    named = leaves(inputs, initial, state)
    for x in named.values():
        x.requires_grad_(True)

    def compute(*_):
        result = neural_memory(
            **inputs,
            initial=initial,
            state=state,
            mask=mask if masked else None,
            chunk_size=3,
            error_at=error_at,
            implementation=name,
        )
        return tuple(outputs(result).values())

    assert torch.autograd.gradcheck(compute, tuple(named.values()), atol=1e-7, fast_mode=True)


CASES = sizes([1, 63, 130, 257])


@functools.lru_cache(maxsize=1)  # all implementations are compared with one run
def recurrent(length, depth, dtype, chunk_size):
    case = make_inputs(length, depth, dtype)
    return run_with_gradients("recurrent", *case, chunk_size=chunk_size)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize(("depth", "chunk_size", "length"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_matches_recurrent(name, depth, chunk_size, length, dtype, tolerance):
    """Outputs, final state and every gradient; relative to the largest entry where that is > 1."""
    expected = recurrent(length, depth, dtype, chunk_size)
    case = make_inputs(length, depth, dtype)
    actual = run_with_gradients(name, *case, chunk_size=chunk_size)
    assert_same(actual[0], expected[0], tolerance)
    assert torch.equal(actual[1], expected[1])
    assert_same(actual[2], expected[2], tolerance)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.parametrize("forget_to", ["init", "zero"])
@pytest.mark.parametrize("masked", [True, False])
def test_switches_match_recurrent(name, momentum, forget, forget_to, masked):
    """Momentum, forgetting, mask, queries and samples at different places of their chunk."""
    inputs, initial, state = make_inputs(30, 2, momentum=momentum, forget=forget)
    state = state._replace(position=torch.tensor([5, 2]))
    mask = torch.rand(B, 30, generator=torch.Generator().manual_seed(3)) > 0.4 if masked else None
    for q in (inputs["q"], None):
        case = (inputs | {"q": q}, initial, state)
        options = {"chunk_size": 7, "forget_to": forget_to, "mask": mask}
        expected = run_with_gradients("recurrent", *case, **options)
        actual = run_with_gradients(name, *case, **options)
        assert_same(actual[0], expected[0], 1e-10)
        assert torch.equal(actual[1], expected[1])
        assert_same(actual[2], expected[2], 1e-10)


@pytest.mark.parametrize("name", ANYWHERE)
def test_gates_at_their_limits_are_exact(name):
    """forget = 1 clears the memory, momentum = 0 drops past surprise, also inside a chunk."""
    inputs, initial, state = make_inputs(20, 2)
    inputs["forget"] = torch.where(torch.arange(20)[:, None] % 6 == 4, 1.0, inputs["forget"])
    inputs["momentum"] = torch.where(torch.arange(20)[:, None] % 5 == 3, 0.0, inputs["momentum"])
    expected = recurrent_memory(**inputs, initial=initial, state=state, chunk_size=16)
    case = (inputs, initial, state)
    actual, _, gradients = run_with_gradients(name, *case, chunk_size=16)
    assert_same(actual, outputs(expected), 1e-10)
    assert all(g.isfinite().all() for g in gradients.values())


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("error_at", ERROR_AT)
def test_any_split_is_one_pass_and_masked_tokens_are_absent(name, depth, error_at):
    """Random pieces (of length 0 and 1 too) of a masked stream == the present tokens alone."""
    generator = torch.Generator().manual_seed(0)
    inputs, initial, _ = inputs_for(error_at, 60, depth)
    mask = torch.rand(B, 60, generator=generator) > 0.3
    for x in inputs.values():
        x[~mask] = float("nan")  # what is masked may hold anything
    state = initial_state(initial, B)
    reads, start = [], 0
    while start < 60:
        stop = min(60, start + int(torch.randint(0, 9, (), generator=generator)))
        piece = {n: x[:, start:stop] for n, x in inputs.items()}
        y, state, _ = neural_memory(
            **piece, initial=initial, state=state, mask=mask[:, start:stop], chunk_size=8,
            error_at=error_at, implementation=name,
        )  # fmt: skip
        reads.append(y)
        start = stop
    y = torch.cat(reads, 1)
    assert not y[~mask].any()
    for b in range(B):
        alone = {n: x[b : b + 1, mask[b]] for n, x in inputs.items()}
        expected = recurrent_memory(**alone, initial=initial, chunk_size=8, error_at=error_at)
        assert (y[b, mask[b]] - expected.y[0]).abs().max() < 1e-12
        assert state.position[b] == expected.state.position[0] == mask[b].sum() % 8
        for field in ("weights", "momentum", "anchor"):
            for ours, theirs in zip(
                getattr(state, field), getattr(expected.state, field), strict=True
            ):
                assert (ours[b] - theirs[0]).abs().max() < 1e-12


@pytest.mark.parametrize("name", ANYWHERE)
def test_half_precision_keeps_a_float32_state(name):
    inputs, initial, _ = make_inputs(40, 2, torch.float32)
    exact = neural_memory(**inputs, initial=initial, implementation=name)
    half = {n: x.bfloat16() for n, x in inputs.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = neural_memory(**half, initial=initial, implementation=name)
    assert rounded.y.dtype == torch.bfloat16
    assert rounded.state.weights[0].dtype == torch.float32
    # bfloat16 inputs carry 2^-9 relative error each; computing in bfloat16 too would leave ten times this
    assert (rounded.y.float() - exact.y).norm() / exact.y.norm() < 0.01


@pytest.mark.parametrize("name", ANYWHERE)
def test_gradients_are_finite_at_zero_tokens_and_under_a_mask_of_nan(name):
    inputs, initial, _state = make_inputs(9, 2)
    mask = torch.ones(B, 9, dtype=torch.bool)
    mask[:, 4] = False
    for key in ("q", "k", "v"):
        inputs[key][:, 2] = 0.0
        inputs[key][:, 4] = float("nan")
    initial = tuple(torch.zeros_like(w) for w in initial)  # and the first error is zero as well
    initial_state(initial, B)
    inputs["v"][:, 0] = 0.0
    named = {n: x for n, x in inputs.items()} | {f"initial[{i}]": w for i, w in enumerate(initial)}
    for x in named.values():
        x.requires_grad_(True)
    result = neural_memory(**inputs, initial=initial, mask=mask, chunk_size=4, implementation=name)
    assert result.y.isfinite().all()
    assert result.surprise.isfinite().all()
    loss = result.y.sum() + result.surprise.sum()
    for name, gradient in zip(named, torch.autograd.grad(loss, list(named.values())), strict=True):
        assert gradient.isfinite().all(), name


def test_read_is_the_memory_and_writes_nothing():
    inputs, _, state = make_inputs(6, 2)
    y = read_memory(inputs["q"], state.weights)
    for t in range(6):
        assert (y[:, t] - mlp(state.weights, inputs["q"][:, t])).abs().max() < 1e-12


def test_reading_a_memory_that_samples_share_is_reading_each_one_s():
    inputs, initial, _ = make_inputs(6, 2)
    q = inputs["q"].requires_grad_(True)
    initial = tuple(w.requires_grad_(True) for w in initial)
    shared = tuple(w.expand(len(q), -1, -1, -1) for w in initial)
    found = []
    for weights in (shared, tuple(w.clone() for w in shared)):
        y = read_memory(q, weights)
        found.append((y, *torch.autograd.grad(y.square().sum(), (q, *initial))))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@COMPILED
def test_dispatch_takes_the_compiled_memory():
    inputs, initial, _ = make_inputs(1, 2)
    assert explain(**inputs, initial=initial) == "native: the first that covers the call"
    options = {"initial": initial, "chunk_size": 1000, "implementation": "native"}
    with pytest.raises(
        ValueError, match="'native', which does not cover this call: a chunk of 1000"
    ):
        neural_memory(**inputs, **options)


def test_dispatch_says_what_and_why(monkeypatch):
    inputs, initial, state = make_inputs(1, 2)
    call = {**inputs, "initial": initial, "chunk_size": 1000}
    reason = "the first that covers the call\nnot native: a chunk of 1000 is longer than 256"
    assert explain(**call) == (
        f"chunked: {reason}\nnot step: the call has no state to continue from\n"
        "not triton: float64 is not one of float32, bfloat16, float16"
    )
    assert explain(**call, state=state) == f"step: {reason}"
    assert explain(**call, state=state, mask=torch.ones(B, 1).bool()).startswith("chunked: ")
    learning = call | {"k": inputs["k"].clone().requires_grad_()}
    assert explain(**learning, state=state).startswith("chunked: ")
    monkeypatch.setenv("TITANS_TS_IMPLEMENTATION", "recurrent")
    assert (
        explain(**call, state=state)
        == "recurrent: the environment variable TITANS_TS_IMPLEMENTATION names it"
    )
    asked = explain(**call, implementation="chunked")
    assert asked == "chunked: the argument `implementation` names it"
    with pytest.raises(ValueError, match="`implementation` is 'fast'; choose one of"):
        explain(**call, implementation="fast")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_size": 0}, "chunk_size is 0; it must be at least 1"),
        ({"forget_to": "one"}, "forget_to is 'one'; choose one of"),
        ({"initial": ()}, "initial is empty"),
        ({"lr": torch.zeros(B, 4, H + 1)}, r"lr has shape \(2, 4, 4\); expected \(2, 4, 3\)"),
        ({"mask": torch.ones(B, 5)}, r"mask has shape \(2, 5\); expected \(2, 4\)"),
        ({"v": torch.zeros(B, 4, H, 1)}, r"v has shape .*; expected \(2, 4, 3, 5\)"),
        (
            {"state": make_inputs(4, 2, torch.float32)[2]._replace(position=torch.tensor([0, 16]))},
            r"state.position is \[0, 16\], outside a chunk of 16; continue with the chunk_size",
        ),
        ({"state": make_inputs(4, 3)[2]}, "state.weights has 3 layers, but initial has 2"),
        ({"k": torch.zeros(B, 4, K)}, r"k has shape .*; expected \[B, T, H, K\]"),
    ],
)
def test_bad_shapes_are_named(change, message):
    inputs, initial, _ = make_inputs(4, 2)
    with pytest.raises(ValueError, match=message):
        neural_memory(**(inputs | {"initial": initial} | change))
