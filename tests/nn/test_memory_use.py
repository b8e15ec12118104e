"""The observer of memories: switches, shares, gates and distances, for every entry of `BLOCKS`.

Everything is float64, so that two ways of computing the same differ by rounding, about 1e-14 in 45
tokens; the sums of squares are float32.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.nn import BLOCKS, NeuralMemory, TitansBackbone, detach_state
from titans_ts.nn.memory_use import (
    MemoryObserver,
    head_outputs,
    memory_off,
    relative_change,
    write_off,
)

WITH_MEMORY = sorted(set(BLOCKS) - {"swa"})
D, HEADS, T = 16, 2, 45
SINGLE = 1e-6
"""Relative error of a ratio of root mean squares in float32."""


def build(variant, n_layers=1, write=True, mac_output="sum", **memory):
    torch.manual_seed(0)
    config = BackboneConfig(
        variant, D, n_layers, HEADS, window=8, segment_length=10, n_persistent=3, dropout=0.0,
        mac_output=mac_output, memory=MemoryConfig(chunk_size=6, write=write, **memory),
    )  # fmt: skip
    return TitansBackbone(config).double().eval()


def without_writing(backbone, variant, **options):
    """The same weights in a backbone whose configuration never writes."""
    other = build(variant, write=False, **options)
    weights = backbone.state_dict()
    for name, parameter in other.state_dict().items():
        weights[name] = weights[name][: len(parameter)]  # without the rows of the gates
    kept = {name: weights[name] for name in other.state_dict()}
    other.load_state_dict(kept)
    return other


def tokens(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def observed(backbone, x, state=None, mask=None):
    with MemoryObserver(backbone) as observer, torch.inference_mode():
        y, state = backbone(x, state, mask)
    return observer.uses(), y, state


def mixed(backbone, x, mask=None):
    """The output of the first block's mixer for tokens x, where they are present."""
    kept = []
    hook = backbone.blocks[0].mixer.register_forward_hook(lambda *call: kept.append(call[2].y))
    with torch.inference_mode():
        backbone(x, mask=mask)
    hook.remove()
    (y,) = kept
    lengths = torch.full((len(x),), x.shape[1]) if mask is None else mask.sum(1)
    return torch.cat([sample[:n] for sample, n in zip(y, lengths, strict=True)])


def rms(x):
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("variant", WITH_MEMORY)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_written_is_the_change_to_a_model_that_never_writes(variant, depth, masked):
    backbone = build(variant, depth=depth)
    x, mask = tokens(3, T, D), None
    if masked:
        mask = torch.rand(3, T, generator=torch.Generator().manual_seed(2)) < 0.6
        x = x.masked_fill(~mask[..., None], torch.nan)
    (use,), y, _ = observed(backbone, x, mask=mask)
    on, off = (
        mixed(backbone, x, mask),
        mixed(without_writing(backbone, variant, depth=depth), x, mask),
    )
    assert use.written == pytest.approx(rms(on - off) / rms(on), rel=SINGLE)
    assert use.written > 0.1
    with memory_off(backbone):
        silent = mixed(backbone, x, mask)
    assert use.share == pytest.approx(rms(on - silent) / rms(on), rel=SINGLE)
    assert use.n_tokens == len(use.gates) == len(on)
    assert np.isfinite(use.gates).all()
    assert torch.equal(y, observed(backbone, x, mask=mask)[1])


def test_the_share_of_what_passes_through_the_memory_is_one():
    for variant, options in (("lmm", {}), ("mag", {}), ("mac", {"mac_output": "gate"})):
        (use,), *_ = observed(build(variant, **options), tokens(2, T, D))
        assert use.share == pytest.approx(1, rel=SINGLE)
    (use,), *_ = observed(build("mac"), tokens(2, T, D))
    assert 0.2 < use.share < 0.95  # a sum with the attention's output


@pytest.mark.parametrize("variant", WITH_MEMORY)
def test_a_memory_that_cannot_write_has_written_nothing(variant):
    uses, *_ = observed(build(variant, n_layers=2, write=False), tokens(2, T, D))
    assert [use.block for use in uses] == [0, 1]
    for use in uses:
        assert (use.written, use.distance.max(), use.gates.max()) == (0, 0, 0)
        assert use.share > 0.2


@pytest.mark.parametrize("variant", WITH_MEMORY)
def test_a_stream_in_pieces_is_observed_as_a_whole(variant):
    backbone, x = build(variant), tokens(2, T, D)
    (whole,), _, _ = observed(backbone, x)
    with MemoryObserver(backbone) as observer, torch.inference_mode():
        state = None
        for start, stop in ((0, 7), (7, 8), (8, 31), (31, T)):  # also one token
            _, state = backbone(x[:, start:stop], state)
    (pieces,) = observer.uses()
    assert pieces.n_tokens == whole.n_tokens == 2 * T
    for gate in range(3):
        np.testing.assert_allclose(
            np.sort(pieces.gates[:, gate], 0), np.sort(whole.gates[:, gate], 0), rtol=1e-6
        )
    assert pieces.position.max() == whole.position.max() == T
    ends = [use.distance[use.position == T] for use in (pieces, whole)]
    np.testing.assert_allclose(*ends, rtol=1e-6)
    # the distance, from the states themselves
    first, last = (
        (s if variant == "lmm" else s.memory).memory.weights
        for s in (backbone.blocks[0].initial_state(2), state[0])
    )
    change = sum((w - f).square().sum((2, 3)) for w, f in zip(last, first, strict=True))
    size = sum(f.square().sum((2, 3)) for f in first)
    np.testing.assert_allclose(ends[0], (change / size).sqrt().detach(), rtol=1e-6)


def test_the_position_is_unknown_after_a_state_that_was_changed():
    backbone, x = build("mag"), tokens(2, T, D)
    _, state = backbone(x)
    other = tuple(detach_state(part) for part in state)  # the same numbers in other tensors
    (use,), *_ = observed(backbone, x, other)
    assert set(use.position) == {-1}


def test_hand_set_gates_are_reported():
    memory = NeuralMemory(D, HEADS, MemoryConfig(error_at="chunk", chunk_size=8))
    wanted = {"lr": [0.25, 0.9], "forget": [0.1, 0.5], "momentum": [0.0, 0.75]}
    with torch.no_grad():
        memory.in_proj.weight[4 * D :] = 0
        memory.gate_bias.copy_(torch.tensor([wanted[g] for g in memory.gates]).logit().flatten())
        strength, forget, momentum = memory.gates_of(torch.randn(3, 5, D))
    for gate, name in ((strength, "lr"), (forget, "forget"), (momentum, "momentum")):
        assert gate.shape == (3, 5, HEADS)
        np.testing.assert_allclose(gate[0, 0], wanted[name], rtol=1e-6)


@pytest.mark.parametrize("variant", WITH_MEMORY)
def test_write_off_is_the_configuration_that_never_writes(variant):
    """In one pass and token by token, where compiled code reads a whole layer or block."""
    backbone, x = build(variant), tokens(2, 12, D)
    control = without_writing(backbone, variant)
    weights, before = dict(backbone.state_dict()), backbone(x)[0]
    with torch.inference_mode():
        expected = control(x)[0]
        with write_off(backbone):
            torch.testing.assert_close(backbone(x)[0], expected, rtol=0, atol=1e-12)
            state, outputs = None, []
            for i in range(x.shape[1]):
                y, state = backbone(x[:, i : i + 1], state)
                outputs.append(y)
            torch.testing.assert_close(torch.cat(outputs, 1), expected, rtol=0, atol=1e-12)
    with pytest.raises(RuntimeError, match="stop"), write_off(backbone), memory_off(backbone):
        raise RuntimeError("stop")
    assert torch.equal(backbone(x)[0], before)
    assert list(backbone.state_dict()) == list(weights)
    assert not any(module._forward_hooks for module in backbone.modules())


def test_a_backbone_without_memories_has_nothing_to_report():
    for backbone in (build("swa"), build("mac", n_layers=0)):
        assert observed(backbone, tokens(2, T, D))[0] == []


def test_changes_are_relative_to_the_spread_of_each_output():
    rng = np.random.default_rng(0)
    before = torch.from_numpy(rng.normal(size=(500, 2)) * 3 + [0, 1000])
    after = before + torch.tensor([1.5, -1.5])
    spread = float((before - before.mean(0)).square().mean().sqrt())
    assert relative_change(before.split(200), after.split(300)) == pytest.approx(1.5 / spread)
    assert relative_change([before], [before.clone()]) == 0
    assert relative_change([torch.ones(1, 2)], [torch.ones(1, 2) * 1.1]) == pytest.approx(0.1)


def test_outputs_of_a_head_are_kept_in_their_order():
    model = torch.nn.Module()
    model.head = torch.nn.Identity()
    with head_outputs(model) as kept:
        model.head(torch.zeros(2, 3, 4))
        model.head((torch.ones(5, 4), torch.zeros(9)))
    assert [tuple(part.shape) for part in kept] == [(6, 4), (5, 4)]
    model.head(torch.zeros(1, 1))
    assert len(kept) == 2
