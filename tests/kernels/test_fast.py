"""What the fast forms promise beyond being right: bounded memory, any cut, torch.compile, a step."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.cases import (
    COMPILED,
    FAST,
    B,
    assert_same,
    leaves,
    make_inputs,
    outputs,
    recurrent_memory,
    run_with_gradients,
)
from titans_ts.kernels import MemoryState, neural_memory
from titans_ts.kernels.chunked import samples as block


@pytest.fixture
def small_pieces(monkeypatch):
    """Blocks of one sample, pieces of two chunks, runs of five, boundaries saved now and then."""
    monkeypatch.setattr(block, "TOGETHER", 180)
    monkeypatch.setattr(block, "RUN", 60)
    monkeypatch.setattr(block, "SAVED", 4)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.usefixtures("small_pieces")
def test_cut_into_blocks_runs_and_pieces_it_is_the_same(depth, masked):
    inputs, initial, state = make_inputs(150, depth)
    state = state._replace(position=torch.tensor([3, 1] if masked else [3, 3]))
    mask = None
    if masked:
        mask = torch.rand(B, 150, generator=torch.Generator().manual_seed(3)) > 0.3
    options = {"chunk_size": 4, "mask": mask}
    expected = run_with_gradients("recurrent", inputs, initial, state, **options)
    actual = run_with_gradients("chunked", inputs, initial, state, **options)
    assert_same(actual[0], expected[0], 1e-10)
    assert_same(actual[2], expected[2], 1e-10)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("n_chunks", [10, 40, 200, 1000])
def test_training_saves_few_boundaries(name, n_chunks):
    """At most 40, or twice the square root of the number of chunks, beside the inputs."""
    chunk_size = 2
    inputs, initial, _ = make_inputs(n_chunks * chunk_size, 2, widths=(16, 16, 16))
    for x in inputs.values():
        x.requires_grad_(True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (saved.append(x), x)[1], lambda x: x):
        neural_memory(**inputs, initial=initial, chunk_size=chunk_size, implementation=name)
    own = {id(x) for x in (*inputs.values(), *initial)}
    extra = sum(x.numel() for x in saved if id(x) not in own and x.is_floating_point())
    boundary = 2 * B * sum(w.numel() for w in initial)  # weights and momentum
    assert extra / boundary <= max(45, 2 * n_chunks**0.5 + 8)


# torch's own tracing of an autograd function does what its warning tells others not to do
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("masked", [False, True])
def test_compiles_without_a_graph_break(name, masked):
    inputs, initial, state = make_inputs(20, 2)
    mask = torch.rand(B, 20, generator=torch.Generator().manual_seed(3)) > 0.3 if masked else None
    named = leaves(inputs, initial, state)
    for x in named.values():
        x.requires_grad_(True)

    def loss(inputs, initial, state):
        options = {"mask": mask, "chunk_size": 8, "implementation": name}
        result = neural_memory(**inputs, initial=initial, state=state, **options)
        return sum(x.sin().sum() for x in outputs(result).values())

    expected = torch.autograd.grad(loss(inputs, initial, state), list(named.values()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    actual = torch.autograd.grad(compiled(inputs, initial, state), list(named.values()))
    names = list(named)
    assert_same(
        dict(zip(names, actual, strict=True)), dict(zip(names, expected, strict=True)), 1e-12
    )


@COMPILED
@pytest.mark.parametrize("online", [False, True])
def test_native_operators_are_registered_right(online):
    inputs, initial, state = make_inputs(20, 2)
    layers = [*state.weights, *state.momentum, *state.anchor]
    torch.library.opcheck(
        torch.ops.titans_ts.native_memory.default,
        (state.position, None, [*inputs.values(), *initial, *layers], 2, 8, True, online, True),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("online", [False, True])
def test_operators_are_registered_right(online):
    inputs, initial, state = make_inputs(20, 2)
    stacks = [torch.cat(pair, 2) for pair in zip(state.weights, state.momentum, strict=True)]
    tensors = [*inputs.values(), *initial, *stacks, *state.anchor]
    torch.library.opcheck(
        torch.ops.titans_ts.chunked_memory.default,
        (state.position, None, tensors, 2, 8, True, online, True),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.parametrize("forget_to", ["init", "zero"])
def test_single_steps_are_the_rule(depth, momentum, forget, forget_to):
    inputs, initial, state = make_inputs(12, depth, momentum=momentum, forget=forget)
    ours = theirs = state._replace(position=torch.tensor([3, 1]))
    for t in range(12):
        token = {n: None if x is None else x[:, t : t + 1] for n, x in inputs.items()}
        if t == 5:
            token["q"] = None
        options = {"initial": initial, "chunk_size": 5, "forget_to": forget_to}
        actual = neural_memory(**token, state=ours, **options)
        expected = recurrent_memory(**token, state=theirs, **options)
        assert_same(outputs(actual), outputs(expected), 1e-12)
        ours, theirs = actual.state, expected.state
        assert torch.equal(ours.position, theirs.position)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize("length", [0, 3])
def test_no_token_at_all_changes_nothing(name, position, length):
    inputs, initial, state = make_inputs(length, 2)
    state = state._replace(position=torch.tensor([position] * B))
    options = {"mask": torch.zeros(B, length, dtype=torch.bool), "chunk_size": 4}
    actual = run_with_gradients(name, inputs, initial, state, **options)
    expected = run_with_gradients("recurrent", inputs, initial, state, **options)
    assert_same(actual[0], expected[0], 1e-12)
    assert torch.equal(actual[1], expected[1])
    assert_same(actual[2], expected[2], 1e-12)


@pytest.mark.parametrize("name", FAST)
def test_a_state_that_the_batch_shares_has_its_own_gradient(name):
    """Also if it was expanded from a view, made without a gradient, or is a leaf itself."""
    inputs, _, _ = make_inputs(6, 1, widths=(4, 4))
    generator = torch.Generator().manual_seed(1)
    heads = inputs["lr"].shape[-1]
    p = torch.randn(heads, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        fixed = p.expand(B, *p.shape)
    leaf = p.detach().expand(B, *p.shape).requires_grad_()
    zero = torch.zeros(heads, 4, 4, dtype=torch.float64).expand(B, heads, 4, 4)
    for w in (p.expand(B, *p.shape), p.mT.expand(B, *p.shape), fixed, leaf):
        state = MemoryState((w,), (zero,), (w,), torch.zeros(B, dtype=torch.long))
        found = []
        for form in (name, "recurrent"):
            result = neural_memory(
                **inputs, initial=(p,), state=state, chunk_size=4, implementation=form
            )
            wanted = [p, leaf] if w is leaf else [p]
            found.append([result.y, *torch.autograd.grad(result.y.square().sum(), wanted)])
        for ours, theirs in zip(*found, strict=True):
            assert (ours - theirs).abs().max() < 1e-10


@pytest.mark.parametrize("name", FAST)
def test_a_second_derivative_is_refused(name):
    inputs, initial, _ = make_inputs(6, 2)
    inputs["k"].requires_grad_()
    y = neural_memory(**inputs, initial=initial, chunk_size=4, implementation=name).y
    with pytest.raises(RuntimeError, match="differentiated once.*implementation='recurrent'"):
        torch.autograd.grad(y.sum(), inputs["k"], create_graph=True)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_single_token_compiles_too():
    inputs, initial, state = make_inputs(1, 2)
    expected = neural_memory(**inputs, initial=initial, state=state).y
    compiled = torch.compile(neural_memory, fullgraph=True, backend="aot_eager")
    assert (compiled(**inputs, initial=initial, state=state).y - expected).abs().max() < 1e-12
