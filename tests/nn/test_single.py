"""One token a stream in one call: the same as reading many at once."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.cases import COMPILED
from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.kernels import native_layer
from titans_ts.nn import BLOCKS, TitansBackbone

pytestmark = COMPILED

MEMORIES = {
    "default": MemoryConfig(),
    "linear, no momentum": MemoryConfig(depth=1, momentum=False),
    "deep, no forgetting": MemoryConfig(depth=3, forget=False, chunk_size=5),
    "towards zero": MemoryConfig(forget_to="zero"),
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
