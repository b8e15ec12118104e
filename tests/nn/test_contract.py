"""What every backbone promises. All tests iterate `BLOCKS`: registering a variant tests it.

Everything is float64 and small, with lengths that cross every boundary: a stretch of 45 tokens holds
several chunks (6, and 3 persistent tokens shift them), windows (8) and segments (10). Two ways of
computing the same thing differ by rounding, about 1e-15 a step and far below 1e-12 in 45 of them; a
token that leaks, is lost or stands at the wrong place changes the result by 1e-3 and more.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from titans_ts.config import BackboneConfig, MemoryConfig, to_dict
from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.blocks import BLOCKS
from titans_ts.nn.checkpoint import load_state, save_state
from titans_ts.nn.memory import NeuralMemory, NeuralMemoryState
from titans_ts.nn.state import detach_state, flatten_state

VARIANTS = sorted(BLOCKS)
WITH_MEMORY = sorted(set(BLOCKS) - {"swa"})  # the control has none; a new variant has one
D, HEADS, LAYERS, PERSISTENT = 24, 3, 2, 3
WINDOW, SEGMENT, CHUNK, CONV = 8, 10, 6, 4
T = 45
ROUNDING = 1e-12


def build(variant, memory=None, seed=0, **changes):
    """A small backbone in float64 whose every parameter is off its initial value."""
    torch.manual_seed(seed)
    memory = MemoryConfig(**({"chunk_size": CHUNK, "conv_size": CONV} | (memory or {})))
    defaults = {
        "d_model": D, "n_heads": HEADS, "n_layers": LAYERS, "n_persistent": PERSISTENT,
        "window": WINDOW, "segment_length": SEGMENT, "dropout": 0.0,
    }  # fmt: skip
    config = BackboneConfig(variant=variant, memory=memory, **(defaults | changes))
    backbone = TitansBackbone(config).double().eval()
    with torch.no_grad():
        for parameter in backbone.parameters():  # norms at 1 and biases at 0 would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


def tokens(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(batch, length, seed=2):
    """Every sample loses other tokens, and another share of them; one begins with a gap."""
    share = torch.linspace(0.2, 0.8, batch)[:, None]
    mask = torch.rand(batch, length, generator=torch.Generator().manual_seed(seed)) < share
    mask[-1, : length // 3] = False
    return mask


def pieces(length, seed):
    """Cut `0 .. length` at random; pieces of 0 and of 1 token always occur."""
    generator = torch.Generator().manual_seed(seed)
    sizes, left = [0, 1], length - 1
    while left:
        sizes.append(min(left, int(torch.randint(0, 14, (), generator=generator))))
        left -= sizes[-1]
    order = torch.randperm(len(sizes), generator=generator).tolist()
    start, cuts = 0, []
    for i in order:
        cuts.append((start, start + sizes[i]))
        start += sizes[i]
    return cuts


def run_pieces(backbone, x, cuts, mask=None, state=None):
    ys, surprises = [], []
    for start, stop in cuts:
        part = None if mask is None else mask[:, start:stop]
        y, state, surprise = backbone.run(x[:, start:stop], state, part)
        ys.append(y)
        if stop > start:  # the shape of an empty piece's surprise has its own test
            surprises.append(surprise)
    return torch.cat(ys, 1), state, torch.cat(surprises, 1)


def distance(a, b):
    assert a.shape == b.shape
    assert a.isfinite().all()
    assert b.isfinite().all()
    return (a - b).abs().max().item() if a.numel() else 0.0


def assert_same_state(actual, expected, tolerance=ROUNDING):
    actual, expected = flatten_state(actual), flatten_state(expected)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert distance(actual[name], value) <= tolerance, name


def memories(state):
    """Every memory's state inside a backbone's state."""
    if isinstance(state, NeuralMemoryState):
        return [state.memory]
    return [m for part in state if isinstance(part, tuple) for m in memories(part)]


def projection(like, seed=3):
    return tokens(*like.shape, seed=seed)


# ---- samples are strangers


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("masked", [False, True])
def test_samples_never_touch_each_other(variant, masked):
    backbone, x = build(variant), tokens(4, T, D)
    mask = random_mask(4, T) if masked else None
    y, state, surprise = backbone.run(x, None, mask)
    other = x.clone()
    other[2] = 10 * tokens(T, D, seed=9)
    changed, changed_state, changed_surprise = backbone.run(other, None, mask)
    rest = [0, 1, 3]
    assert distance(changed[rest], y[rest]) <= ROUNDING
    assert distance(changed_surprise[rest], surprise[rest]) <= ROUNDING
    assert distance(changed[2], y[2]) > 1e-3
    for name, value in flatten_state(state).items():
        assert distance(flatten_state(changed_state)[name][rest], value[rest]) <= ROUNDING, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("masked", [False, True])
def test_permuting_the_batch_permutes_the_result(variant, masked):
    backbone, x, order = build(variant), tokens(4, T, D), torch.tensor([2, 0, 3, 1])
    mask = random_mask(4, T) if masked else None
    y, state = backbone(x, None, mask)
    permuted, permuted_state = backbone(x[order], None, None if mask is None else mask[order])
    assert distance(permuted, y[order]) <= ROUNDING
    for name, value in flatten_state(state).items():
        assert distance(flatten_state(permuted_state)[name], value[order]) <= ROUNDING, name


# ---- causality


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_before_a_changed_token_moves(variant):
    """Sample t of the batch has token t changed, for every t of the stretch."""
    backbone, x = build(variant), tokens(1, T, D)
    changed = x.repeat(T, 1, 1)
    changed[range(T), range(T)] = tokens(T, D, seed=9)
    y, _, surprise = backbone.run(x)
    moved, _, moved_surprise = backbone.run(changed)
    for t in range(T):
        assert distance(moved[t, :t], y[0, :t]) <= ROUNDING, t
        assert distance(moved_surprise[t, :t], surprise[0, :t]) <= ROUNDING, t
        assert distance(moved[t, t], y[0, t]) > 1e-3, t
        if t + 1 < T:
            assert distance(moved[t, t + 1 :], y[0, t + 1 :]) > 1e-3, t


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_the_past_only(variant):
    length = 27  # two segments, three windows and five chunks, and a part of the next
    backbone, x = build(variant), tokens(1, length, D).requires_grad_(True)
    y, _, surprise = backbone.run(x)
    for s in range(length):
        out = (y[:, s] * projection(y[:, s])).sum() + surprise[:, s].sum()
        (gradient,) = torch.autograd.grad(out, x, retain_graph=True)
        assert not gradient[:, s + 1 :].any(), s
        assert (gradient[:, : s + 1].abs().amax(-1) > 0)[:, max(0, s - CONV + 1) :].all(), s


@pytest.mark.parametrize("variant", WITH_MEMORY)
def test_memory_reaches_beyond_attention_and_convolutions(variant):
    """The first token moves the last, and only because it was written."""
    x = tokens(2, 80, D)
    x[1, 1:] = x[0, 1:]
    y, _ = build(variant)(x)
    assert distance(y[0, -1], y[1, -1]) > 1e-6
    y, _ = build(variant, {"write": False})(x)
    # two layers of attention and convolution see far less than 79 tokens
    assert distance(y[0, -1], y[1, -1]) <= ROUNDING


# ---- the outer gradient

MEMORY_PARAMETERS = {
    *("in_proj.weight", "gate_bias", "taps", "out_proj.weight", "norm.weight"),
    *(f"initial.{layer}" for layer in range(2)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_entry_of_every_parameter_learns(variant):
    """No entry without a gradient: no dead head, tap, layer, gate or persistent token."""
    backbone, x = build(variant), tokens(3, T, D)
    y, _ = backbone(x)
    (y * projection(y)).sum().backward()
    for name, parameter in backbone.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        # rounding leaves 1e-14 where the true gradient is zero; the smallest here is of size 1e-5
        assert (gradient.abs() > 1e-10).all(), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_registered_once(variant):
    backbone = build(variant)
    named = list(backbone.named_parameters(remove_duplicate=False))
    assert len({name for name, _ in named}) == len(named)
    assert len({p.data_ptr() for _, p in named}) == len(named)
    assert all(p.requires_grad for _, p in named)
    layers = [m for m in backbone.modules() if isinstance(m, NeuralMemory)]
    assert len(layers) == (LAYERS if variant in WITH_MEMORY else 0)
    for memory in layers:
        assert {name for name, _ in memory.named_parameters()} == MEMORY_PARAMETERS
        assert [w.shape[0] for w in memory.initial] == [HEADS, HEADS]


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_finite_differences(variant):
    """Along one random direction for every parameter, and for the input."""
    backbone, x = build(variant, n_layers=1), tokens(2, 27, D).requires_grad_(True)
    weights = projection(x)

    def loss():
        return (backbone(x)[0] * weights).sum()

    named = dict(backbone.named_parameters()) | {"x": x}
    gradients = dict(zip(named, torch.autograd.grad(loss(), list(named.values())), strict=True))
    step = 1e-3  # the fourth-order stencil's error is step^4 = 1e-12 times the fifth derivative
    with torch.no_grad():
        for seed, (name, parameter) in enumerate(named.items()):
            direction = tokens(*parameter.shape, seed=100 + seed)
            direction /= direction.norm()
            values, original = {}, parameter.clone()
            for k in (-2, -1, 1, 2):
                parameter.copy_(original + k * step * direction)
                values[k] = loss()
            parameter.copy_(original)
            numeric = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
            exact = (gradients[name] * direction).sum()
            # 1e-6 relative; 1e-10 covers a direction along which the loss happens to be flat
            assert abs(numeric - exact) < 1e-6 * abs(exact) + 1e-10, name


# ---- the memory writes at once


@pytest.mark.parametrize("variant", WITH_MEMORY)
def test_three_tokens_are_written(variant):
    """With attention and convolutions that see one token only, the memory alone carries token 0."""
    alone = {"window": 1, "segment_length": 1, "n_layers": 1}
    x = tokens(1, 3, D).requires_grad_(True)
    for write in (True, False):
        backbone = build(variant, {"conv_size": 1, "write": write}, **alone)
        before = memories(backbone.initial_state(1))
        y, state = backbone(x)
        for old, new in zip(before, memories(state), strict=True):
            for a, b in zip(old.weights, new.weights, strict=True):
                moved = (a - b).abs().amax((0, 2, 3))  # every head
                assert (moved > 1e-4).all() if write else (moved <= ROUNDING).all()
        (gradient,) = torch.autograd.grad((y[:, 2] * projection(y[:, 2])).sum(), x)
        reached = gradient[:, :2].abs().amax(-1)
        assert (reached > 1e-6).all() if write else (reached <= ROUNDING).all()


# ---- streams

CONTROLS = {
    "default": ({}, {}),
    "write off": ({"write": False}, {}),
    "depth 1": ({"depth": 1}, {}),
    "depth 3": ({"depth": 3}, {}),
    "momentum off": ({"momentum": False}, {}),
    "forget off": ({"forget": False}, {}),
    "both off": ({"forget": False, "momentum": False}, {}),
    "forget to zero": ({"forget_to": "zero"}, {}),
    "error of the chunk's start": ({"error_at": "chunk"}, {}),
    "silu, gate": ({"output_gate": "silu"}, {"mac_output": "gate"}),
    "linear, error of the chunk's start": ({"error_at": "chunk", "depth": 1}, {}),
    "values of length one": ({"values": "unit"}, {}),
    "conv 1": ({"conv_size": 1}, {}),
    "chunk 1": ({"chunk_size": 1}, {}),
    "chunk longer than the stream": ({"chunk_size": 64}, {}),
    "no persistent token": ({}, {"n_persistent": 0}),
    "window and segment 1": ({}, {"window": 1, "segment_length": 1}),
    "window and segment longer than the stream": ({}, {"window": 64, "segment_length": 64}),
    "one head": ({}, {"n_heads": 1}),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("masked", [False, True])
def test_any_split_is_one_pass(variant, seed, masked):
    backbone, x = build(variant), tokens(3, T, D)
    mask = random_mask(3, T, seed) if masked else None
    y, state, surprise = backbone.run(x, None, mask)
    split = run_pieces(backbone, x, pieces(T, seed), mask)
    assert distance(split[0], y) <= 1e-10
    assert distance(split[2], surprise) <= 1e-10
    assert_same_state(split[1], state, 1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_token_by_token_is_one_pass(variant):
    backbone, x, mask = build(variant), tokens(3, T, D), random_mask(3, T)
    y, state, surprise = backbone.run(x, None, mask)
    split = run_pieces(backbone, x, [(t, t + 1) for t in range(T)], mask)
    assert distance(split[0], y) <= 1e-10
    assert distance(split[2], surprise) <= 1e-10
    assert_same_state(split[1], state, 1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.slow), True])
def test_every_control_streams(variant, control, masked):
    memory, changes = CONTROLS[control]
    backbone, x = build(variant, memory, **changes), tokens(3, T, D)
    mask = random_mask(3, T) if masked else None
    y, state = backbone(x, None, mask)
    split_y, split_state, _ = run_pieces(backbone, x, pieces(T, 5), mask)
    assert distance(split_y, y) <= 1e-10
    assert_same_state(split_state, state, 1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_streams_at_different_places_share_a_batch(variant):
    """Two streams of 13 and 4 tokens go on together as each goes on alone."""
    backbone, x, lengths = build(variant), tokens(2, T, D), [13, 4]
    mask = torch.arange(13) < torch.tensor(lengths)[:, None]
    _, state = backbone(x[:, :13], None, mask)
    rest = torch.stack([x[b, n : n + 30] for b, n in enumerate(lengths)])
    y, state, surprise = backbone.run(rest, state)  # no mask: every token of both is present
    for b, n in enumerate(lengths):
        alone, alone_state, alone_surprise = backbone.run(x[b : b + 1, : n + 30])
        assert distance(y[b], alone[0, n:]) <= 1e-10
        assert distance(surprise[b], alone_surprise[0, n:]) <= 1e-10
        for name, value in flatten_state(alone_state).items():
            assert distance(flatten_state(state)[name][b], value[0]) <= 1e-10, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("forget_to", ["init", "zero"])
@pytest.mark.parametrize("forget", [True, False])
def test_write_off_is_a_frozen_memory(variant, forget, forget_to):
    backbone = build(variant, {"write": False, "forget": forget, "forget_to": forget_to})
    initial = memories(backbone.initial_state(2))
    _, state = backbone(tokens(2, 3 * T, D))
    assert len(initial) == (LAYERS if variant in WITH_MEMORY else 0)
    for before, after in zip(initial, memories(state), strict=True):
        for a, b in zip(before.weights, after.weights, strict=True):
            assert distance(b, a) <= ROUNDING
        assert not any(s.any() for s in after.momentum)


@pytest.mark.parametrize("variant", WITH_MEMORY)
@pytest.mark.parametrize("switch", ["momentum", "forget"])
def test_switches_switch(variant, switch):
    backbone = build(variant, {switch: False})
    for block in backbone.blocks:
        memory = block.mixer.memory
        assert set(memory.gates) == {"lr", "forget", "momentum"} - {switch}
        assert memory.gate_bias.shape == (2 * HEADS,)
        assert memory.in_proj.weight.shape == (4 * D + 2 * HEADS, D)
    _, state = backbone(tokens(2, T, D))
    moves = any(s.any() for memory in memories(state) for s in memory.momentum)
    assert moves == (switch != "momentum")


# ---- masks


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e30])
def test_masked_tokens_are_absent(variant, garbage):
    """The present tokens alone, sample by sample: outputs, surprise, state and gradients."""
    backbone, mask = build(variant), random_mask(3, T)
    x = torch.where(mask[..., None], tokens(3, T, D), garbage).requires_grad_(True)
    y, state, surprise = backbone.run(x, None, mask)
    assert not y[~mask].any()
    assert not surprise[~mask].any()
    weights = projection(y)
    y.backward(weights)
    gradients = {name: p.grad.clone() for name, p in backbone.named_parameters()}
    assert not x.grad[~mask].any()

    backbone.zero_grad()
    for b in range(3):
        alone = x.detach()[b : b + 1, mask[b]].requires_grad_(True)
        alone_y, alone_state, alone_surprise = backbone.run(alone)
        assert distance(y[b, mask[b]], alone_y[0]) <= ROUNDING
        assert distance(surprise[b, mask[b]], alone_surprise[0]) <= ROUNDING
        for name, value in flatten_state(alone_state).items():
            assert distance(flatten_state(state)[name][b], value[0]) <= ROUNDING, name
        alone_y.backward(weights[b : b + 1, mask[b]])
        assert distance(x.grad[b, mask[b]], alone.grad[0]) <= 1e-10
    for name, parameter in backbone.named_parameters():  # sums over 50 tokens of size 100
        assert distance(gradients[name], parameter.grad) <= 1e-10, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seen", [0, 17])
def test_nothing_but_masked_tokens_leaves_the_state(variant, seen):
    backbone, x = build(variant), tokens(2, T, D)
    _, state = backbone(x[:, :seen])
    nothing = torch.full((2, 9, D), torch.nan, dtype=torch.float64)
    y, after, surprise = backbone.run(nothing, state, torch.zeros(2, 9, dtype=torch.bool))
    assert y.shape == (2, 9, D)
    assert not y.any()
    assert not surprise.any()
    assert_same_state(after, state, 0.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_mask_of_ones_is_no_mask(variant):
    backbone, x = build(variant), tokens(2, T, D)
    y, state = backbone(x)
    masked, masked_state = backbone(x, None, torch.ones(2, T, dtype=torch.bool))
    assert distance(masked, y) <= ROUNDING
    assert_same_state(masked_state, state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inputs_are_not_modified(variant):
    backbone, x, mask = build(variant), tokens(2, T, D), random_mask(2, T)
    _, state = backbone(x[:, :17])
    copies = {name: value.clone() for name, value in flatten_state(state).items()}
    kept = x.clone()
    backbone(x, state, mask)
    assert torch.equal(x, kept)
    for name, value in flatten_state(state).items():
        assert torch.equal(value, copies[name]), name


# ---- state


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_does_not_grow(variant):
    backbone = build(variant)
    shapes = [
        {name: value.shape for name, value in flatten_state(backbone(tokens(2, n, D))[1]).items()}
        for n in (5, 500)
    ]
    assert shapes[0] == shapes[1]
    initial = flatten_state(backbone.initial_state(2))
    assert {name: value.shape for name, value in initial.items()} == shapes[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_goes_through_a_file(variant, tmp_path):
    backbone, x, mask = build(variant), tokens(2, T, D), random_mask(2, T)
    with torch.no_grad():
        _, state = backbone(x[:, :17], None, mask[:, :17])
        save_state(tmp_path / "state.safetensors", state)
        loaded = load_state(tmp_path / "state.safetensors", backbone.initial_state(2))
        assert_same_state(loaded, state, 0.0)
        y, final = backbone(x[:, 17:], state)
        again, again_final = backbone(x[:, 17:], loaded)
    assert torch.equal(again, y)
    assert_same_state(again_final, final, 0.0)


RESUME = """
import sys
import torch
from safetensors.torch import load_file, save_file
from titans_ts.config import BackboneConfig, from_dict
from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.checkpoint import load_state

torch.set_num_threads(1)
folder, values = sys.argv[1], eval(sys.argv[2])
for variant, config in values.items():
    backbone = TitansBackbone(from_dict(BackboneConfig, config)).double().eval()
    backbone.load_state_dict(load_file(f"{folder}/{variant}.weights"))
    state = load_state(f"{folder}/{variant}.state", backbone.initial_state(2))
    y, _ = backbone(load_file(f"{folder}/x")["x"], state)
    save_file({"y": y.detach()}, f"{folder}/{variant}.y")
"""


def test_a_new_process_goes_on(tmp_path):
    """All variants in one process, because starting one takes seconds."""
    x, expected, configs = tokens(2, T, D), {}, {}
    save_file({"x": x[:, 17:].contiguous()}, tmp_path / "x")
    with torch.no_grad():
        for variant in VARIANTS:
            backbone = build(variant)
            _, state = backbone(x[:, :17])
            expected[variant], _ = backbone(x[:, 17:], state)
            configs[variant] = to_dict(backbone.config)
            save_file(backbone.state_dict(), tmp_path / f"{variant}.weights")
            save_state(tmp_path / f"{variant}.state", state)
    command = [sys.executable, "-c", RESUME, str(tmp_path), repr(configs)]
    subprocess.run(command, check=True, timeout=120)
    for variant in VARIANTS:
        y = load_file(tmp_path / f"{variant}.y")["y"]
        assert distance(y, expected[variant]) <= ROUNDING, variant


# ---- graphs


def gradients_of(backbone, x, cuts):
    torch.manual_seed(0)  # dropout
    backbone.zero_grad()
    x = x.clone().requires_grad_(True)
    kept = 0

    def keep(tensor):
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y, _, surprise = run_pieces(backbone, x, cuts)
        loss = (y * projection(y)).sum() + surprise.sum()
    loss.backward()
    return y, {name: p.grad for name, p in backbone.named_parameters()} | {"x": x.grad}, kept


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cuts", [[(0, T)], [(0, 17), (17, T)]])
def test_gradient_checkpointing_changes_nothing_but_memory(variant, cuts):
    x = tokens(2, T, D)
    results = []
    for checkpointing in (False, True):
        backbone = build(variant, dropout=0.3, gradient_checkpointing=checkpointing).train()
        results.append(gradients_of(backbone, x, cuts))
    (y, gradients, kept), (again, again_gradients, again_kept) = results
    assert distance(again, y) <= ROUNDING
    for name, gradient in gradients.items():
        assert distance(again_gradients[name], gradient) <= ROUNDING * max(1, gradient.abs().max())
    assert again_kept < kept / 4


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_flow_through_a_carried_state(variant, checkpointing):
    backbone = build(variant, gradient_checkpointing=checkpointing)
    x = tokens(2, T, D)
    weights = projection(x)
    first, rest, whole = (part.clone().requires_grad_(True) for part in (x[:, :17], x[:, 17:], x))
    _, state = backbone(first)
    y, _ = backbone(rest, state)
    y.backward(weights[:, 17:])
    backbone(whole)[0][:, 17:].backward(weights[:, 17:])
    # attention and convolutions carry the last tokens of the piece, a memory all of them
    reached = first.grad.abs().amax((0, 2)) > 1e-9
    assert reached.all() if variant in WITH_MEMORY else reached[-WINDOW + 1 :].all()
    assert distance(first.grad, whole.grad[:, :17]) <= 1e-10
    assert distance(rest.grad, whole.grad[:, 17:]) <= 1e-10


@pytest.mark.parametrize("variant", VARIANTS)
def test_detach_state_cuts_the_graph(variant):
    backbone = build(variant)
    first, rest = tokens(2, 17, D).requires_grad_(True), tokens(2, 9, D, seed=4)
    _, state = backbone(first)
    assert any(value.requires_grad for value in flatten_state(state).values())
    cut = detach_state(state)
    assert_same_state(cut, state, 0.0)
    assert not any(value.requires_grad for value in flatten_state(cut).values())
    y, _ = backbone(rest, cut)
    y.sum().backward()
    assert first.grad is None
    trained = sum(p.grad is not None for p in backbone.parameters())
    assert trained > 0.7 * len(
        list(backbone.parameters())
    )  # P and M_0 were read in the first piece


@pytest.mark.parametrize("variant", VARIANTS)
def test_surprise_of_every_token_layer_and_head(variant):
    backbone = build(variant)
    _, _, surprise = backbone.run(tokens(2, T, D))
    heads = HEADS if variant in WITH_MEMORY else 0
    assert surprise.shape == (2, T, LAYERS, heads)
    assert (surprise > 0).all()
    _, state, nothing = backbone.run(tokens(2, 0, D))
    assert nothing.shape == (2, 0, LAYERS, heads)
    assert_same_state(state, backbone.initial_state(2), 0.0)


@pytest.mark.parametrize("variant", WITH_MEMORY)
def test_a_repeated_token_surprises_less(variant):
    """Surprise is of the memory: what was just written is expected (nothing is forgotten here)."""
    backbone = build(variant, {"forget": False}, n_layers=1, n_persistent=1)
    x = tokens(2, 1, D).repeat(1, 20 * CHUNK, 1)
    _, _, surprise = backbone.run(x)
    # MAC writes what attention made of the token, which depends on its place: average a segment
    early, late = surprise[:, CONV : CONV + SEGMENT].mean(1), surprise[:, -SEGMENT:].mean(1)
    assert (late < 0.5 * early).all()  # 0.26 in MAC, at most 0.01 elsewhere


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_of_zero_train(variant):
    """Zero keys and values cannot be normalised; neither pass may divide by their length."""
    backbone = build(variant).float()
    x = tokens(2, T, D).float()
    x[:, 10:30] = 0
    x[1] = 0
    x.requires_grad_(True)
    y, _, surprise = backbone.run(x)
    ((y * projection(y)).sum() + surprise.sum()).backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad.isfinite().all(), name
