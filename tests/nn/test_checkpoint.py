"""Backbones and models on disk; states are tested in test_contract.py."""

from __future__ import annotations

import pytest
import torch

from titans_ts.config import (
    BackboneConfig,
    ForecasterConfig,
    MemoryConfig,
    SequenceConfig,
    to_dict,
)
from titans_ts.nn import (
    ForecastingModel,
    SequenceModel,
    TitansBackbone,
    load_model,
    load_state,
    save_model,
    save_state,
)
from titans_ts.nn.checkpoint import save_directory
from titans_ts.nn.state import flatten_state

SMALL = BackboneConfig(d_model=16, n_heads=2, n_layers=1, memory=MemoryConfig(depth=3))
MODELS = {
    "backbone": (TitansBackbone(SMALL), torch.randn(2, 9, 16)),
    "forecasting": (
        ForecastingModel(ForecasterConfig(16, 3, backbone=SMALL)),
        torch.randn(2, 16, 1),
    ),
    "classifier": (
        SequenceModel(SequenceConfig(n_outputs=3, backbone=SMALL)),
        torch.randint(0, 5, (2, 9)),
    ),
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_model_comes_back_as_it_was(name, tmp_path):
    model, x = MODELS[name]
    arguments = (x, torch.tensor([9, 5])) if name == "classifier" else (x,)
    save_model(tmp_path / "m", model.eval())
    loaded = load_model(tmp_path / "m", type(model))
    assert loaded.config == model.config
    assert not loaded.training
    ours, theirs = loaded(*arguments), model(*arguments)
    first = (lambda y: y) if name == "classifier" else (lambda y: y[0])
    assert torch.equal(first(ours), first(theirs))
    with pytest.raises(ValueError, match=f"holds {type(model).__name__}, not a Linear"):
        load_model(tmp_path / "m", torch.nn.Linear)


@pytest.mark.parametrize("length", [0, 16, 17])
def test_a_state_can_be_saved_anywhere_in_a_chunk(length, tmp_path):
    """At its start and at a boundary parts of a state are one tensor; in a file they are copies."""
    backbone = TitansBackbone(BackboneConfig(variant="mac", d_model=16, n_heads=2))
    _, state = backbone(torch.randn(2, length, 16))
    save_state(tmp_path / "s", state)
    loaded = flatten_state(load_state(tmp_path / "s", backbone.initial_state(2)))
    for name, expected in flatten_state(state).items():
        assert torch.equal(loaded[name], expected), name


def test_a_state_of_another_model_is_refused(tmp_path):
    deep = TitansBackbone(BackboneConfig(d_model=16, n_heads=2, n_layers=2))
    other = TitansBackbone(BackboneConfig(d_model=16, n_heads=2, n_layers=3))
    save_state(tmp_path / "s", other.initial_state(2))
    with pytest.raises(ValueError, match="which this model lacks; load it for the model"):
        load_state(tmp_path / "s", deep.initial_state(2))
    with pytest.raises(ValueError, match="state has 3 blocks, but this backbone has 2"):
        deep(torch.zeros(2, 1, 16), other.initial_state(2))
    save_state(tmp_path / "s", deep.initial_state(2))
    with pytest.raises(ValueError, match=r"has shape .* but this model's has"):
        load_state(tmp_path / "s", deep.initial_state(3))
    (tmp_path / "s").write_bytes(b"not a state")
    with pytest.raises(ValueError, match="holds a damaged state"):
        load_state(tmp_path / "s", deep.initial_state(2))
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_state(tmp_path / "absent", deep.initial_state(2))
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_configuration_that_does_not_fit_the_weights_is_named(tmp_path):
    model, _ = MODELS["backbone"]
    wider = TitansBackbone(BackboneConfig(d_model=32, n_heads=2, n_layers=1))
    save_directory(
        tmp_path / "m",
        {"model": "TitansBackbone", "config": to_dict(wider.config)},
        model.state_dict(),
    )
    with pytest.raises(ValueError, match="damaged model: its parts do not fit .*; save it again"):
        load_model(tmp_path / "m", TitansBackbone)
