"""Upgrade of models saved by earlier versions: their settings as the current version names them.

Formats 2 to 4 were written before version 0.1.0. Format 3 has other names, format 4 has settings of the
memory that did not exist before, and format 5 one of the learned season. Every such change is listed
here, and only here.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FORMAT", "upgrade", "upgrade_tensors"]

FORMAT = 5
"""Version of the directory format that is written now; reading a newer one raises an error."""

_BEFORE_FORMAT_4 = {"mac_output": "gate"}
_MEMORY_BEFORE_FORMAT_4 = {"error_at": "chunk", "output_gate": "silu", "values": "unit"}
"""How backbones and memories computed what is now a setting."""

_SEASON_BEFORE_FORMAT_5 = {"season_size": "fitted"}
"""How large a learned season was."""

_CONFIG_FIELDS = {
    "carried_windows": "stateful_windows",
    "cycle_length": "season_length",
    "every_word": "all_offsets",
    "lower_case": "soft_masked",
    "read_out": "pooling",
}
"""Fields of model configurations, at any depth: from the name in format 2 to the current one."""

_PARAMETERS = {
    "carried_windows": "stateful_windows",
    "cycle_length": "season_length",
    "known_future": "known_covariates",
    "lower_case": "soft_masked",
    "past": "past_covariates",
    "read_out": "pooling",
    "static": "static_covariates",
}
"""Parameters of estimators: from the name in format 2 to the current one."""

_ROLES = {
    "cycle_length": "season_length",
    "known": "known_covariates",
    "past": "past_covariates",
    "static": "static_covariates",
}
"""Roles of a fitted forecaster's columns: from the name in format 2 to the current one."""

_SOFT_MASKED = {"same": "keep", "marked": "flag", "absent": "mask"}
_CLASSES = {"LetterModel": "LanguageModel"}
_TENSORS = {
    "model.read_out.": "model.pooling.",
    "read_out.": "pooling.",
    "words.shares": "kmer_model.mixing_weights",
    "words.": "kmer_model.",
}
"""Prefixes of tensor names: from format 2 to the current one."""

_TOKENIZERS = {
    "nucleotide": ("NucleotideTokenizer", {"kernel_size": "kernel_size"}),
    "conv": (
        "ConvTokenizer",
        {"kernel_size": "kernel_size", "n_filters": "n_filters", "first_filters": "init"},
    ),
    "kmer": ("KmerTokenizer", {"kernel_size": "k", "gaps": "gaps", "every_word": "all_offsets"}),
    "bpe": ("BPETokenizer", {"n_merges": "n_merges"}),
}
"""Class of each tokenizer's options, and their fields by the parameters of format 2."""

_MODEL_OPTIONS = ("dropout", "head_dropout")
_TRAINING_OPTIONS = ("weight_decay", "max_steps_per_epoch", "patience", "validation_fraction")
_MEMORY = {"memory_depth": "depth", "chunk_size": "chunk_size"}


def upgrade(content: dict[str, Any], version: int) -> dict[str, Any]:
    """Return the content of a saved model's `config.json` as the current version writes it.

    Parameters
    ----------
    content : dict
        The content for an estimator (`estimator`, `params`, `model`, `fitted`) or for a model (`model`,
        `config`).
    version : int
        The format of the saved model.
    """
    if version >= FORMAT:
        return content
    content = dict(content)
    if version < 3:
        content = _named_as_in_format_3(content)
    for name in ("model", "config"):
        if isinstance(content.get(name), dict):
            config = content[name] if version >= 4 else _with_settings(content[name])
            season = _SEASON_BEFORE_FORMAT_5 if "season_length" in config else {}
            content[name] = {**season, **config}
    return content


def _named_as_in_format_3(content: dict[str, Any]) -> dict[str, Any]:
    for name in ("model", "config"):
        if isinstance(content.get(name), dict):
            content[name] = _renamed(content[name], _CONFIG_FIELDS)
            if "soft_masked" in content[name]:
                content[name]["soft_masked"] = _SOFT_MASKED[content[name]["soft_masked"]]
    if isinstance(content.get("model"), str):
        content["model"] = _CLASSES.get(content["model"], content["model"])
    if "params" in content:
        content["params"] = _parameters(content["params"])
        fitted = dict(content["fitted"])
        if "roles" in fitted:
            fitted["roles"] = _renamed(fitted["roles"], _ROLES)
        if "words" in fitted:
            fitted["kmer_model"] = fitted.pop("words")
        content["fitted"] = fitted
    return content


def upgrade_tensors(tensors: dict[str, Any], version: int) -> dict[str, Any]:
    """Return a saved model's tensors under their current names."""
    if version >= 3:
        return tensors
    renamed = {}
    for name, tensor in tensors.items():
        old = next((old for old in _TENSORS if name.startswith(old)), "")
        renamed[_TENSORS.get(old, "") + name.removeprefix(old)] = tensor
    return renamed


def _with_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Add the settings of format 4 to the backbone in a model's configuration."""
    config = {k: _with_settings(v) if isinstance(v, dict) else v for k, v in config.items()}
    if isinstance(config.get("memory"), dict):
        config = {**_BEFORE_FORMAT_4, **config}
        config["memory"] = {**_MEMORY_BEFORE_FORMAT_4, **config["memory"]}
    return config


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Rename the keys of a dictionary and of the dictionaries in it."""
    return {
        names.get(key, key): _renamed(value, names) if isinstance(value, dict) else value
        for key, value in values.items()
    }


def _parameters(params: dict[str, Any]) -> dict[str, Any]:
    """Move rarely used parameters of an estimator to `model_options` and `training_options`."""
    params = dict(params)
    backbone = dict(params.pop("backbone_options", None) or {})
    memory = {new: params.pop(old) for old, new in _MEMORY.items() if old in params}
    model = {name: params.pop(name) for name in _MODEL_OPTIONS if name in params}
    model |= backbone | {"memory": memory | (backbone.get("memory") or {})}
    training = {name: params.pop(name) for name in _TRAINING_OPTIONS if name in params}
    params.pop("trainer_kwargs", None)  # never saved
    if "tokenizer" in params:
        params |= _sequence_parameters(params)
    params = {_PARAMETERS.get(name, name): value for name, value in params.items()}
    return params | {"model_options": model, "training_options": training}


def _sequence_parameters(params: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the tokenizer and of the k-mer model of an estimator for DNA.

    Their parameters are removed from `params`.
    """
    kind, fields = _TOKENIZERS[params["tokenizer"]]
    old = {name for _, names in _TOKENIZERS.values() for name in names}
    taken = {name: params.pop(name) for name in sorted(old) if name in params}
    values = {new: taken[name] for name, new in fields.items() if name in taken}
    if values.get("init") == "words":
        values["init"] = "kmers"
    k, gaps = params.pop("counted_words", 0), params.pop("counted_gaps", 0)
    if "lower_case" in params:
        params["lower_case"] = _SOFT_MASKED[params["lower_case"]]
    return {
        "tokenizer": {"options": [kind, values]},
        "kmer_model": {"options": ["KmerModel", {"k": k, "gaps": gaps}]} if k else None,
    }
