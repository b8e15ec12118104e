"""One token a stream in one call: the same as reading many at once."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.cases import COMPILED
from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.kernels.native import layer as native_layer
from titans_ts.nn import BLOCKS, TitansBackbone, explain, single_token

pytestmark = COMPILED

MEMORIES = {
    "default": MemoryConfig(),
    "linear, no momentum": MemoryConfig(depth=1, momentum=False),
    "deep, no forgetting": MemoryConfig(depth=3, forget=False, chunk_size=5),
    "towards zero": MemoryConfig(forget_to="zero"),
    "as in format 3": MemoryConfig(error_at="chunk", output_gate="silu", values="unit"),
    "linear, error of the chunk's start": MemoryConfig(error_at="chunk", depth=1),
    "no write": MemoryConfig(write=False),
    "no convolution": MemoryConfig(conv_size=1),
}
LENGTH, WIDTH = 40, 24


def make_backbone(dtype=torch.float64, **settings):
    torch.manual_seed(0)
    settings = {"d_model": WIDTH, "segment_length": 7, "window": 6} | settings
    backbone = TitansBackbone(BackboneConfig(**settings)).to(dtype).eval()
    with torch.no_grad():
        for p in backbone.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return backbone


@pytest.fixture
def calls(monkeypatch):
    """Names of the functions called in layer.c."""
    names = []
    right = native_layer._call
    monkeypatch.setattr(
        native_layer, "_call", lambda name, *rest: (names.append(name), right(name, *rest))
    )
    return names


def step_through(backbone, x, state=None):
    outputs, surprises = [], []
    with torch.no_grad():
        for token in x.split(1, 1):
            y, state, surprise = backbone.run(token, state)
            outputs.append(y)
            surprises.append(surprise)
    return torch.cat(outputs, 1), state, torch.cat(surprises, 1)


@pytest.mark.parametrize("variant", sorted(set(BLOCKS) - {"swa"}))
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_token_by_token_is_one_pass(variant, memory, dtype, tolerance, calls):
    n_persistent = 0 if memory == "no write" else 4
    settings = {"variant": variant, "memory": MEMORIES[memory], "n_persistent": n_persistent}
    settings["mac_output"] = "sum" if memory == "error at every token" else "gate"
    backbone = make_backbone(dtype, **settings)
    x, later = torch.randn(3, LENGTH, WIDTH, dtype=dtype), torch.randn(3, 9, WIDTH, dtype=dtype)
    y, state, surprise = backbone.run(x)
    assert not calls
    ours, after, norms = step_through(backbone, x)
    assert set(calls) == {"block" if variant == "mac" else "step"}
    assert (ours - y).abs().max() < tolerance
    assert (norms - surprise).abs().max() < tolerance
    assert (backbone(later, after)[0] - backbone(later, state)[0]).abs().max() < tolerance


@pytest.mark.parametrize("variant", sorted(set(BLOCKS) - {"swa"}))
def test_streams_at_different_places(variant, calls):
    """Masked tokens bring samples to different places of their chunks and segments."""
    backbone = make_backbone(variant=variant)
    x, later = torch.randn(3, 20, WIDTH).double(), torch.randn(3, 17, WIDTH).double()
    mask = torch.rand(3, 20, generator=torch.Generator().manual_seed(1)) > 0.4
    _, state = backbone(x, mask=mask)
    assert len(set(mask.sum(1).tolist())) > 1
    y, _ = backbone(later, state)
    ours, _, _ = step_through(backbone, later, state)
    assert calls
    assert (ours - y).abs().max() < 1e-12


def test_what_one_call_does_not_cover_goes_the_long_way(calls, monkeypatch):
    backbone = make_backbone(torch.float32)
    x = torch.randn(2, 1, WIDTH)
    _, state = backbone(torch.randn(2, 30, WIDTH))
    expected, _ = backbone(x, state)  # with a gradient
    with torch.no_grad():
        actual, _ = backbone(x, state, mask=torch.ones(2, 1, dtype=torch.bool))
        assert not calls
        monkeypatch.setenv("TITANS_TS_IMPLEMENTATION", "recurrent")
        recurrent, _ = backbone(x, state)
        monkeypatch.delenv("TITANS_TS_IMPLEMENTATION")
        with torch.autocast("cpu", torch.bfloat16):
            half, _ = backbone(x, state)
        assert not calls
        backbone.train()
        backbone(x, state)  # dropout
        assert "block" not in calls
    assert (actual - expected).abs().max() < 1e-5
    assert (recurrent - expected).abs().max() < 1e-5
    assert (half.float() - expected).abs().max() < 0.2


def test_the_given_state_stays_as_it_is():
    backbone = make_backbone()
    _, state = backbone(torch.randn(2, 34, WIDTH).double())

    def tensors(part):
        return [part] if isinstance(part, torch.Tensor) else [t for x in part for t in tensors(x)]

    before = [x.clone() for x in tensors(state)]
    step_through(backbone, torch.randn(2, 3, WIDTH).double(), state)
    for x, y in zip(tensors(state), before, strict=True):
        assert torch.equal(x, y)


def at_place(state, position):
    """A MAC's first block with its memory's position changed."""
    memory = state[0].memory
    moved = memory._replace(memory=memory.memory._replace(position=position))
    return (state[0]._replace(memory=moved), *state[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch", "state holds .* streams, but x has"),
        ("chunk", r"position is \[15, 15\]; expected 2 numbers from 0 to 4"),
        ("negative", r"position is \[-3, 0\]; expected 2 numbers from 0 to 15"),
        ("segment", r"pairs has shape .*; expected \(2, 2, 4, 18, 6\)"),
        ("depth", "state.weights has 2 layers; expected 3"),
        ("expansion", r"state.weights has shape .*; expected \(2, 4, 6, 18\)"),
        ("convolution", r"state.conv has shape .*; expected \(2, 1, 72\)"),
        ("device", "a tensor is on meta, others on the CPU"),
    ],
)
def test_a_state_that_does_not_fit_is_named(change, message):
    backbone = make_backbone()
    _, state = backbone(torch.randn(2, 15, WIDTH).double())
    token, other = torch.randn(2, 1, WIDTH).double(), backbone
    if change == "batch":
        token = torch.randn(5, 1, WIDTH).double()
    elif change == "negative":
        state = at_place(state, torch.tensor([-3, 0]))
    elif change == "segment":
        other = make_backbone(segment_length=9)
    elif change == "device":
        meta = tuple(w.to("meta") for w in state[0].memory.memory.weights)
        memory = state[0].memory
        memory = memory._replace(memory=memory.memory._replace(weights=meta))
        state = (state[0]._replace(memory=memory), *state[1:])
    else:
        settings = {
            "chunk": {"chunk_size": 5},
            "depth": {"depth": 3},
            "expansion": {"expansion": 3},
            "convolution": {"conv_size": 2},
        }
        other = make_backbone(memory=MemoryConfig(**settings[change]))
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        other(token, state)


def test_a_token_of_another_width_is_refused():
    layer = make_backbone(variant="lmm").blocks[0].mixer.memory
    with torch.no_grad(), pytest.raises(ValueError, match=r"x has shape .*; expected \(1, 1, 24\)"):
        layer(torch.randn(1, 1, 4096).double())


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_positions_of_another_dtype_are_read_right(dtype):
    backbone = make_backbone()
    _, state = backbone(torch.randn(2, 15, WIDTH).double())
    token = torch.randn(2, 1, WIDTH).double()
    with torch.no_grad():
        expected, _ = backbone(token, state)
        moved = at_place(state, state[0].memory.memory.position.to(dtype))
        assert torch.equal(backbone(token, moved)[0], expected)


def test_parameters_may_be_laid_out_in_any_way():
    backbone = make_backbone()
    x = torch.randn(2, 20, WIDTH).double()
    expected, _, _ = step_through(backbone, x)
    for p in backbone.parameters():
        if p.ndim == 2:
            p.data = p.data.T.contiguous().T
    actual, _, _ = step_through(backbone, x)
    assert (actual - expected).abs().max() < 1e-12


@pytest.mark.parametrize("part", ["ff.up", "mixer.attention.qkv_proj", "mixer.memory.out_proj"])
def test_hooks_are_called(part, calls):
    backbone = make_backbone()
    _, state = backbone(torch.randn(2, 15, WIDTH).double())
    token = torch.randn(2, 1, WIDTH).double()
    for block in backbone.blocks:
        block.get_submodule(part).register_forward_hook(lambda module, given, y: 0 * y)
    expected, _ = backbone(token, state)  # with gradients
    with torch.no_grad():
        actual, _ = backbone(token, state)
    assert "block" not in calls
    assert (actual - expected).abs().max() < 1e-12


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_sees_everything():
    layer = make_backbone(torch.float32, variant="lmm").blocks[0].mixer.memory
    x, other = torch.randn(1, 1, WIDTH), torch.randn(1, 1, WIDTH)

    class Output(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x)[0]

    with torch.no_grad():
        traced = torch.jit.trace(Output(), x, check_trace=False)
        assert (traced(other) - layer(other)[0]).abs().max() < 1e-5


def test_many_streams_go_the_long_way(calls):
    backbone = make_backbone(torch.float32, variant="lmm")
    streams = native_layer._LARGEST // backbone.blocks[0].mixer.memory.in_proj.weight.numel() + 1
    with torch.no_grad():
        backbone(torch.randn(streams, 1, WIDTH))
    assert "step" not in calls


def test_no_stream_at_all():
    backbone = make_backbone()
    x = torch.randn(0, 5, WIDTH, dtype=torch.float64, requires_grad=True)
    backbone(x)[0].sum().backward()
    with torch.no_grad():
        assert backbone(x[:, :1])[0].shape == (0, 1, WIDTH)


def test_explain_tells_what_is_called(calls, monkeypatch):
    backbone = make_backbone(torch.float32, n_layers=2)
    _, state = backbone(torch.randn(2, 30, WIDTH))
    x = torch.randn(2, 1, WIDTH)
    with torch.no_grad():
        assert explain(backbone, x, state) == (
            "block 0: one compiled call\nblock 1: one compiled call"
        )
        assert calls == ["block", "block"]
        monkeypatch.setenv("TITANS_TS_IMPLEMENTATION", "recurrent")
        text = explain(backbone, x, state)
        assert calls == ["block", "block"]
    reason = "not one compiled call: the environment variable TITANS_TS_IMPLEMENTATION names"
    assert text.startswith(f"block 0: torch operations\n  {reason} 'recurrent'\n  memory layer")
    assert "  memory: recurrent: the environment variable TITANS_TS_IMPLEMENTATION" in text
    assert text.count("memory: recurrent") == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("tokens", "there are 3 tokens, not one"),
        ("mask", "tokens may be absent"),
        ("gradient", "gradients are enabled"),
        ("dropout", "dropout is active"),
        ("hook", "a part of the block was replaced or has hooks"),
        ("variant", "there is no compiled call for the variant MAG"),
        ("dtype", "tokens are torch.float32, but a parameter is torch.float64"),
    ],
)
def test_explain_gives_the_reason_against_one_call(change, reason, calls):
    backbone = make_backbone(variant="mag" if change == "variant" else "mac")
    x = torch.randn(2, 3 if change == "tokens" else 1, WIDTH).double()
    mask = torch.ones(2, 1, dtype=torch.bool) if change == "mask" else None
    if change == "dropout":
        backbone.train()
    if change == "hook":
        backbone.blocks[0].ff.register_forward_hook(lambda *_: None)
    if change == "dtype":
        with torch.no_grad():
            why = single_token.single_block(backbone.blocks[0], x.float()).uncovered
        assert why == reason
        return
    with torch.set_grad_enabled(change == "gradient"):
        text = explain(backbone, x, mask=mask)
    assert text.splitlines()[:2] == [
        "block 0: torch operations",
        f"  not one compiled call: {reason}",
    ]
    assert calls[:1] != ["block"]


def test_explain_takes_a_layer_and_changes_nothing():
    layer = make_backbone(torch.float32, variant="lmm").blocks[0].mixer.memory
    x = torch.randn(2, 5, WIDTH)
    before = torch.random.get_rng_state()
    assert explain(layer, x).splitlines()[-1] == "gated norm: one compiled call"
    assert "memory: native: the first that covers the call" in explain(layer, x)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.no_grad():
        assert explain(layer, x[:, :1]) == "memory layer: one compiled call"
