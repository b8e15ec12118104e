"""What is wrong is said where it is wrong: the value, and what it must be."""

from __future__ import annotations

import pytest
import torch

from titans_ts.config import (
    BackboneConfig,
    ForecasterConfig,
    MemoryConfig,
    SequenceConfig,
    TrainingConfig,
    from_dict,
    to_dict,
)
from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.blocks import BLOCKS
from titans_ts.nn.memory import NeuralMemory
from titans_ts.nn.state import flatten_state, unflatten_state


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MemoryConfig(depth=0), "depth is 0; it must be an integer of at least 1"),
        (lambda: MemoryConfig(depth=True), "depth is True; it must be an integer of at least 1"),
        (lambda: MemoryConfig(expansion=1.5), "expansion is 1.5; it must be an integer"),
        (lambda: MemoryConfig(chunk_size=0), "chunk_size is 0; it must be an integer of at least"),
        (lambda: MemoryConfig(conv_size=-1), "conv_size is -1; it must be an integer of at least"),
        (lambda: MemoryConfig(forget_to="one"), "forget_to is 'one'; choose one of .*init.*zero"),
        (lambda: BackboneConfig(d_model=30), "d_model is 30 and n_heads 4; .*even multiple"),
        (lambda: BackboneConfig(d_model=36, n_heads=4), "d_model is 36 and n_heads 4"),
        (lambda: BackboneConfig(n_heads=0), "n_heads is 0; it must be an integer of at least 1"),
        (
            lambda: BackboneConfig(n_layers=-1),
            "n_layers is -1; it must be an integer of at least 0",
        ),
        (lambda: BackboneConfig(window=0), "window is 0; it must be an integer of at least 1"),
        (lambda: BackboneConfig(segment_length=0), "segment_length is 0; it must be an integer"),
        (lambda: BackboneConfig(n_persistent=-1), "n_persistent is -1; .* at least 0"),
        (lambda: BackboneConfig(dropout=1.0), r"dropout is 1.0; it must lie in \[0, 1\)"),
        (lambda: ForecasterConfig(context_length=0), "context_length is 0; it must be an integer"),
        (lambda: ForecasterConfig(patch_stride=0), "patch_stride is 0; it must be an integer"),
        (lambda: ForecasterConfig(quantile_levels=(0.5, 0.1)), "quantile_levels is .* increasing"),
        (lambda: ForecasterConfig(quantile_levels=(0.0, 0.5)), "quantile_levels is .* strictly"),
        (lambda: SequenceConfig(n_outputs=1), "n_outputs is 1; it must be an integer of at l"),
        (lambda: TrainingConfig(learning_rate=0.0), "learning_rate is 0.0; it must be positive"),
        (lambda: TrainingConfig(validation_fraction=1), "validation_fraction is 1; it must lie"),
        (
            lambda: from_dict(BackboneConfig, {"memory": {"dept": 3}}),
            "MemoryConfig has no key 'dept'; known: chunk_size, ",
        ),
        (lambda: from_dict(BackboneConfig, {"width": 3}), "BackboneConfig has no key 'width'"),
        (lambda: NeuralMemory(10, 3), "d_model is 10; it must be a multiple of n_heads, 3"),
        (
            lambda: TitansBackbone(BackboneConfig(variant="max")),
            "variant is 'max'; choose one of .*'lmm', 'mac', 'mag', 'mal', 'swa'",
        ),
    ],
)
def test_bad_configurations_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("variant", sorted(BLOCKS))
@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        ((2, 7, 15), None, r"x has shape \(2, 7, 15\); expected \[B, T, 16\]"),
        ((7, 16), None, r"x has shape \(7, 16\); expected \[B, T, 16\]"),
        ((2, 7, 16), (2, 6), r"mask has shape \(2, 6\); expected \(2, 7\)"),
        ((2, 7, 16), (7,), r"mask has shape \(7,\); expected \(2, 7\)"),
        ((2, 7, 16), (2, 7, 1), r"mask has shape \(2, 7, 1\); expected \(2, 7\)"),
    ],
)
def test_bad_shapes_are_named(variant, x, mask, message):
    backbone = TitansBackbone(BackboneConfig(variant=variant, d_model=16, n_heads=2))
    mask = None if mask is None else torch.ones(mask, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        backbone(torch.zeros(x), None, mask)


@pytest.mark.parametrize("variant", sorted(BLOCKS))
def test_a_state_of_another_batch_is_refused(variant):
    backbone = TitansBackbone(BackboneConfig(variant=variant, d_model=16, n_heads=2))
    with pytest.raises(ValueError, match=r"state.*\b3\b.*\b2\b|state.*\b2\b.*\b3\b"):
        backbone(torch.zeros(2, 7, 16), backbone.initial_state(3))


def test_a_state_of_another_model_is_refused():
    models = [
        TitansBackbone(BackboneConfig(variant=variant, d_model=16, n_heads=2))
        for variant in ("mag", "swa")
    ]
    mag, swa = (model.initial_state(1) for model in models)
    with pytest.raises(ValueError, match="the state has no '0.memory.*another kind of model"):
        unflatten_state(flatten_state(swa), mag)
    with pytest.raises(TypeError, match="a state has tensors and tuples of tensors, not list"):
        flatten_state([torch.zeros(1)])


@pytest.mark.parametrize("kind", [BackboneConfig, ForecasterConfig, MemoryConfig, SequenceConfig])
def test_dictionaries_round_trip(kind):
    assert from_dict(kind, to_dict(kind())) == kind()
    changed = ForecasterConfig(
        quantile_levels=(0.2, 0.8), backbone=BackboneConfig("lmm", memory=MemoryConfig(depth=3))
    )
    import json

    again = from_dict(ForecasterConfig, json.loads(json.dumps(to_dict(changed))))
    assert again == changed


@pytest.mark.parametrize("variant", sorted(BLOCKS))
@pytest.mark.parametrize("length", [1, 40])
def test_a_batch_without_samples_has_an_empty_result(variant, length):
    config = BackboneConfig(
        variant=variant, d_model=16, n_heads=2, n_layers=1, window=8, segment_length=8
    )
    backbone = TitansBackbone(config).eval()
    y, state = backbone(torch.randn(0, length, 16))[:2]
    assert y.shape == (0, length, 16)
    assert backbone(torch.randn(0, 1, 16), state)[0].shape == (0, 1, 16)
