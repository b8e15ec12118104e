"""Controls of a model with a memory: what it is worth without one, and what its parts are worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from titans_ts.config import MemoryConfig
from titans_ts.forecasting.pretrained import other_model, pretrained_model
from titans_ts.nn.checkpoint import load_model
from titans_ts.nn.memory_use import write_off
from titans_ts.nn.series.zero_shot import ZeroShotModel

__all__ = [
    "ABLATION",
    "CONTROLS",
    "DEPTHS",
    "PLAIN_DNA",
    "PRETRAINED_CONTROLS",
    "alone",
    "parameters",
    "pretrained_control",
]

PLAIN_DNA: dict[str, Any] = {
    "tokenizer": "nucleotide",
    "stride": 1,
    "position": True,
    "rc": "none",
    "pooling": "attention",
    "kmer_model": None,
    "n_layers": 2,
    "learning_rate": 0.001,
}
"""Parameters of an estimator for DNA that a fit would choose otherwise."""

CONTROLS: dict[str, dict[str, Any]] = {
    "write off": {"model_options__memory": {"write": False}},
    "attention alone": {"variant": "swa"},
    "no backbone": {"n_layers": 0},
}
"""Parameters of an estimator that are set in a control, by the control's name."""

PRETRAINED_CONTROLS = {
    "write off": "",
    "never written": "nowrite",
    "attention alone": "swa",
    "no backbone": "none",
}
"""Controls of the pretrained model, and the folders of those that were trained as one."""

ABLATION: dict[str, dict[str, Any]] = {
    "no momentum": {"momentum": False},
    "no forgetting": {"forget": False},
    "neither": {"momentum": False, "forget": False},
    "no convolution": {"conv_size": 1},
    "no persistent tokens": {"n_persistent": 0},
    "write off": {"write": False},
    "errors at the chunk's start": {"error_at": "chunk"},
    "SiLU gate": {"output_gate": "silu"},
    "unit values": {"values": "unit"},
    "chunk 1": {"chunk_size": 1},
    "chunk 64": {"chunk_size": 64},
    "chunk 256": {"chunk_size": 256},
}
"""Fields of the memory or the backbone that an ablation sets, by its name."""

DEPTHS = {f"depth {depth}": {"depth": depth} for depth in (1, 3, 4)}
"""Memories of other depths than two."""


def alone(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield a fitted estimator for DNA without its k-mer model, and without its network."""
    kmers = getattr(model, "kmer_model_", None)
    if kmers is None:
        return
    mixing = [[0.0], [1.0]] * np.ones_like(kmers.mixing_weights)
    only = dataclasses.replace(kmers, mixing_weights=mixing)
    for part, kmer_model in (("network alone", None), ("k-mers alone", only)):
        other = copy(model)
        other.kmer_model_ = kmer_model
        yield part, other


def parameters(settings: dict[str, Any]) -> dict[str, Any]:
    """Return an ablation's fields as parameters of an estimator.

    Examples
    --------
    >>> parameters({"depth": 1, "n_persistent": 0})
    {'model_options__n_persistent': 0, 'model_options__memory': {'depth': 1}}
    """
    names = {field.name for field in dataclasses.fields(MemoryConfig)}
    memory = {name: value for name, value in settings.items() if name in names}
    rest = {f"model_options__{k}": v for k, v in settings.items() if k not in names}
    return rest | ({"model_options__memory": memory} if memory else {})


@contextmanager
def pretrained_control(name: str, folder: Path | None = None) -> Iterator[None]:
    """Let forecasts use a control of the pretrained model inside a `with` block.

    Parameters
    ----------
    name : str
        A key of :data:`PRETRAINED_CONTROLS`; any other one changes nothing.
    folder : Path, optional
        Where `pretrain_series.py` wrote the controls that have a folder.
    """
    if name == "write off":
        with write_off(pretrained_model()):
            yield
    elif name in PRETRAINED_CONTROLS:
        assert folder is not None
        with other_model(load_model(folder / PRETRAINED_CONTROLS[name] / "model", ZeroShotModel)):
            yield
    else:
        yield
