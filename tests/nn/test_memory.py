"""The neural memory as a layer of its own: what it computes, its masks, pieces and reads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.kernels.cases import recurrent_memory
from titans_ts.config import MemoryConfig
from titans_ts.nn.memory import NeuralMemory
from titans_ts.nn.state import flatten_state

B, T, D, HEADS, CHUNK, CONV = 3, 40, 12, 3, 6, 4
ROUNDING = 1e-12  # float64: two ways to compute the same differ by about 1e-15 a step


def build(**changes):
    torch.manual_seed(0)
    memory = NeuralMemory(D, HEADS, MemoryConfig(**({"chunk_size": CHUNK} | changes))).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return memory


def tokens(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(seed=2):
    mask = torch.rand(B, T, generator=torch.Generator().manual_seed(seed)) > 0.4
    mask[1, :15] = False
    return mask


def assert_same_state(actual, expected, tolerance=ROUNDING):
    actual, expected = flatten_state(actual), flatten_state(expected)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        assert value.numel() == 0 or (actual[name] - value).abs().max() <= tolerance, name


def opened(config, gate):
    return F.silu(gate) if config.output_gate == "silu" else 2 * torch.sigmoid(gate)


def naive(memory, x):
    """The layer written once more for one sample `[T, D]`, a loop over taps, heads and tokens."""
    parameters = {name: p.detach() for name, p in memory.named_parameters()}
    config, width = memory.config, D // HEADS
    out, *rows = parameters["in_proj.weight"].split([D, D, D, D, HEADS, HEADS, HEADS])
    rows = dict(zip([*"qkv", *memory.gates], rows, strict=True))
    taps = dict(zip("qkv", parameters["taps"].split(D, 1), strict=True))
    biases = dict(zip(memory.gates, parameters["gate_bias"].split(HEADS), strict=True))

    def project(name):
        y = x @ rows[name].T
        filtered = torch.zeros_like(y)
        for t in range(len(x)):
            for tap in range(CONV):  # the last tap is the present
                if t - tap >= 0:
                    filtered[t] += taps[name][CONV - 1 - tap] * y[t - tap]
        heads = (filtered * torch.sigmoid(filtered)).reshape(len(x), HEADS, width)
        length = heads.norm(dim=-1, keepdim=True)
        bounded = name == "v" and config.values == "bounded"
        return heads / ((1 + length**2).sqrt() if bounded else length)

    def gate(name):
        return torch.sigmoid(x @ rows[name].T + biases[name])

    momentum = gate("momentum")
    together = config.chunk_size if config.error_at == "chunk" else 1
    y, state, surprise = recurrent_memory(
        *(project(name)[None] for name in "qkv"),
        gate("forget")[None],
        momentum[None],
        (gate("lr") * (1 - momentum) / (2 * together))[None],
        tuple(parameters[f"initial.{layer}"] for layer in range(config.depth)),
        chunk_size=config.chunk_size,
        error_at=config.error_at,
    )
    y = y[0] / (y[0].square().mean(-1, keepdim=True) + 1e-6).sqrt() * parameters["norm.weight"]
    gated = y.reshape(len(x), D) * opened(config, x @ out.T)
    return gated @ parameters["out_proj.weight"].T, state, surprise[0]


@pytest.mark.parametrize("error_at", ["token", "chunk"])
@pytest.mark.parametrize(("output_gate", "values"), [("sigmoid", "bounded"), ("silu", "unit")])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_is_its_definition(depth, output_gate, values, error_at):
    memory = build(depth=depth, output_gate=output_gate, values=values, error_at=error_at)
    x = tokens(B, T, D)
    y, state, surprise = memory(x)
    for b in range(B):
        expected, expected_state, expected_surprise = naive(memory, x[b])
        assert (y[b] - expected).abs().max() < ROUNDING
        assert (surprise[b] - expected_surprise).abs().max() < ROUNDING
        for ours, theirs in zip(state.memory.weights, expected_state.weights, strict=True):
            assert (ours[b] - theirs[0]).abs().max() < ROUNDING


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("step", [1, 2, 7, 13])
def test_any_split_is_one_pass(step, masked):
    memory, x = build(), tokens(B, T, D)
    mask = random_mask() if masked else torch.ones(B, T, dtype=torch.bool)
    y, expected, surprise = memory(x, None, mask)
    state, ys, surprises = None, [], []
    for start in range(0, T, step):
        part = slice(start, start + step)
        out, state, norm = memory(x[:, part], state, mask[:, part] if masked else None)
        ys.append(out)
        surprises.append(norm)
    assert (torch.cat(ys, 1) - y).abs().max() < ROUNDING
    assert (torch.cat(surprises, 1) - surprise).abs().max() < ROUNDING
    assert_same_state(state, expected)


def test_an_empty_piece_changes_nothing():
    memory, x = build(), tokens(B, T, D)
    for seen in (0, 17):
        _, state, _ = memory(x[:, :seen]) if seen else (None, memory.initial_state(B), None)
        y, after, surprise = memory(x[:, :0], state)
        assert y.shape == (B, 0, D)
        assert surprise.shape == (B, 0, HEADS)
        assert_same_state(after, state, 0.0)


def test_masked_tokens_are_absent():
    memory, mask = build(), random_mask()
    x = torch.where(mask[..., None], tokens(B, T, D), torch.nan)
    y, state, surprise = memory(x, None, mask)
    assert not y[~mask].any()
    assert not surprise[~mask].any()
    for b in range(B):
        alone, alone_state, alone_surprise = memory(x[b : b + 1, mask[b]])
        assert (y[b, mask[b]] - alone[0]).abs().max() < ROUNDING
        assert (surprise[b, mask[b]] - alone_surprise[0]).abs().max() < ROUNDING
        for name, value in flatten_state(alone_state).items():
            assert (flatten_state(state)[name][b] - value[0]).abs().max() < ROUNDING, name


def test_an_all_masked_piece_leaves_the_state():
    memory = build()
    for state in (memory.initial_state(B), memory(tokens(B, 17, D)).state):
        nothing = torch.full((B, 5, D), torch.nan, dtype=torch.float64)
        y, after, surprise = memory(nothing, state, torch.zeros(B, 5, dtype=torch.bool))
        assert not y.any()
        assert not surprise.any()
        assert_same_state(after, state, 0.0)


def test_read_is_the_memory_as_it_stands():
    """A frozen memory's forward pass is a read; reading neither writes nor depends on the pieces."""
    memory, x = build(), tokens(B, T, D)
    _, state, _ = memory(x)
    before = {name: value.clone() for name, value in flatten_state(state).items()}
    weights = state.memory.weights
    probe = tokens(B, 11, D, seed=5)
    last = state.conv[..., :D]  # the queries'
    y, conv = memory.read(probe, weights, last)
    for name, value in flatten_state(state).items():
        assert torch.equal(value, before[name]), name

    q = F.silu(_filter(memory, probe, last)).unflatten(-1, (HEADS, -1))
    q = q / q.norm(dim=-1, keepdim=True)
    hidden = torch.einsum("bthi,bhio->btho", q, weights[0])
    answer = torch.einsum("bthi,bhio->btho", F.silu(hidden), weights[1])
    answer = answer / (answer.square().mean(-1, keepdim=True) + 1e-6).sqrt() * memory.norm.weight
    gate = probe @ memory.in_proj.weight[:D].T
    expected = memory.out_proj(answer.flatten(2) * opened(memory.config, gate))
    assert (y - expected).abs().max() < ROUNDING

    first, middle = memory.read(probe[:, :4], weights, last)
    rest, end = memory.read(probe[:, 4:], weights, middle)
    assert (torch.cat([first, rest], 1) - y).abs().max() < ROUNDING
    assert (end - conv).abs().max() < ROUNDING


def _filter(memory, x, conv):
    stream = torch.cat([conv, x @ memory.in_proj.weight[D : 2 * D].T], 1)
    return sum(stream[:, tap : tap + x.shape[1]] * memory.taps[tap, :D] for tap in range(CONV))


def test_masked_reads_are_absent():
    memory, x, mask = build(), tokens(B, T, D), random_mask()
    weights, conv = memory(x).state.memory.weights, memory.initial_state(B).conv[..., :D]
    y, after = memory.read(torch.where(mask[..., None], x, torch.nan), weights, conv, mask)
    assert not y[~mask].any()
    for b in range(B):
        one = tuple(w[b : b + 1] for w in weights)
        alone, alone_conv = memory.read(x[b : b + 1, mask[b]], one, conv[b : b + 1])
        assert (y[b, mask[b]] - alone[0]).abs().max() < ROUNDING
        assert (after[b] - alone_conv[0]).abs().max() < ROUNDING


def test_gates_start_where_the_defaults_say():
    """Half-lives between 14 and 760 tokens, most of the allowed step, half the momentum."""
    torch.manual_seed(0)
    memory = NeuralMemory(64, 4)
    bias = dict(zip(memory.gates, memory.gate_bias.split(4), strict=True))
    alpha = torch.sigmoid(bias["forget"])
    half_lives = torch.log(torch.tensor(0.5)) / torch.log1p(-alpha)
    assert half_lives[[0, -1]].tolist() == pytest.approx([14, 760], abs=1)
    assert (half_lives.diff() > 0).all()
    logits = torch.randn(8, 100, 64) @ memory.in_proj.weight[4 * 64 :].T
    forget, momentum, lr = memory._gates(logits)
    assert (torch.logit(forget) - bias["forget"]).abs().mean() < 0.1
    assert (momentum - 0.5).abs().mean() < 0.05
    assert (lr - 0.22).abs().mean() < 0.02  # sigmoid(2) (1 - 0.5) / 2
    chunked = NeuralMemory(64, 4, MemoryConfig(error_at="chunk"))
    logits = torch.randn(8, 100, 64) @ chunked.in_proj.weight[4 * 64 :].T
    assert (chunked._gates(logits)[2] * 16 - 0.22).abs().mean() < 0.02  # 16 tokens at one point


def test_the_output_gate_starts_open():
    torch.manual_seed(0)
    memory, x = NeuralMemory(32, 2).double(), torch.randn(2, 9, 32).double()
    with torch.no_grad():
        memory.out_proj.weight.copy_(torch.eye(32))
        squares = memory(x).y.unflatten(2, (2, 16)).square().mean(3)
    assert squares.median() == pytest.approx(1, abs=0.01)  # the norm's output, unchanged
    assert squares.max() < 1 + 1e-9


def test_training_under_autocast_warns_of_nothing_and_keeps_the_state_exact():
    torch.manual_seed(0)
    memory = NeuralMemory(32, 2)
    x = torch.randn(2, 40, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state, _ = memory(x)
        y.float().square().mean().backward()
    assert state.memory.weights[0].dtype == torch.float32
    exact = memory(x).y
    assert (y.float() - exact).norm() / exact.norm() < 0.05  # bfloat16 projections, 2^-8 a product


def test_half_precision_defaults_and_an_empty_initial_memory():
    torch.set_default_dtype(torch.bfloat16)
    try:
        memory = NeuralMemory(16, 2)
        assert memory(torch.randn(1, 5, 16)).y.isfinite().all()
    finally:
        torch.set_default_dtype(torch.float32)
    memory = NeuralMemory(16, 2)
    with torch.no_grad():
        for w in memory.initial:
            w.zero_()
    memory(torch.randn(1, 40, 16)).y.sum().backward()
    assert all(w.grad.isfinite().all() for w in memory.initial)


@pytest.mark.parametrize("masked", [False, True])
def test_a_long_stretch_is_read_in_pieces_without_a_gradient(masked, monkeypatch):
    torch.manual_seed(0)
    layer = NeuralMemory(16, 2, MemoryConfig(chunk_size=4)).double()
    x = torch.randn(2, 45, 16, dtype=torch.float64)
    mask = torch.rand(2, 45) > 0.3 if masked else None
    expected = layer(x, None, mask)
    monkeypatch.setattr("titans_ts.nn.memory.PIECE_TOKENS", 14)  # seven tokens a stream
    with torch.no_grad():
        found = layer(x, None, mask)
    torch.testing.assert_close(found.y, expected.y, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.surprise, expected.surprise, rtol=1e-10, atol=1e-12)
    for key, value in flatten_state(found.state).items():
        torch.testing.assert_close(
            value, flatten_state(expected.state)[key], rtol=1e-10, atol=1e-12
        )
