"""Models saved by earlier versions: their names of settings in today's words.

Format 2 is what was written before version 0.1.0. Every rename since then stands here, and nowhere else.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FORMAT", "upgrade"]

FORMAT = 3
"""Version of the directory format that is written today; a reader refuses a newer one."""

_CONFIG_FIELDS = {"carried_windows": "stateful_windows", "cycle_length": "season_length"}
"""Fields of model configurations, at any depth: the name in format 2, and today's."""

_PARAMETERS = {
    "carried_windows": "stateful_windows",
    "cycle_length": "season_length",
    "known_future": "known_covariates",
    "past": "past_covariates",
    "static": "static_covariates",
}
"""Parameters of estimators: the name in format 2, and today's."""

_ROLES = {
    "cycle_length": "season_length",
    "known": "known_covariates",
    "past": "past_covariates",
    "static": "static_covariates",
}
"""Roles of a fitted forecaster's columns: the name in format 2, and today's."""

_MODEL_OPTIONS = ("dropout", "head_dropout")
_TRAINING_OPTIONS = ("weight_decay", "max_steps_per_epoch", "patience", "validation_fraction")
_MEMORY = {"memory_depth": "depth", "chunk_size": "chunk_size"}


def upgrade(content: dict[str, Any], version: int) -> dict[str, Any]:
    """Return the content of a saved model's `config.json` as today's version writes it.

    Parameters
    ----------
    content : dict
        Of a saved estimator (`estimator`, `params`, `model`, `fitted`), or of a saved model (`model`,
        `config`).
    version : int
        The format that it was written in.
    """
    if version >= FORMAT:
        return content
    content = dict(content)
    for name in ("model", "config"):
        if isinstance(content.get(name), dict):
            content[name] = _renamed(content[name], _CONFIG_FIELDS)
    if "params" in content:
        content["params"] = _parameters(content["params"])
        fitted = dict(content["fitted"])
        if "roles" in fitted:
            fitted["roles"] = _renamed(fitted["roles"], _ROLES)
        content["fitted"] = fitted
    return content


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A dictionary, and those within it, under other keys."""
    return {
        names.get(key, key): _renamed(value, names) if isinstance(value, dict) else value
        for key, value in values.items()
    }


def _parameters(params: dict[str, Any]) -> dict[str, Any]:
    """An estimator's parameters: rare ones moved into `model_options` and `training_options`."""
    params = dict(params)
    backbone = dict(params.pop("backbone_options", None) or {})
    memory = {new: params.pop(old) for old, new in _MEMORY.items() if old in params}
    model = {name: params.pop(name) for name in _MODEL_OPTIONS if name in params}
    model |= backbone | {"memory": memory | (backbone.get("memory") or {})}
    training = {name: params.pop(name) for name in _TRAINING_OPTIONS if name in params}
    params.pop("trainer_kwargs", None)  # never saved
    params = {_PARAMETERS.get(name, name): value for name, value in params.items()}
    return params | {"model_options": model, "training_options": training}
