"""Models saved by earlier versions: their names of settings in today's words.

Format 2 is what was written before version 0.1.0. Every rename since then stands here, and nowhere else.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FORMAT", "upgrade", "upgrade_tensors"]

FORMAT = 3
"""Version of the directory format that is written today; a reader refuses a newer one."""

_CONFIG_FIELDS = {
    "carried_windows": "stateful_windows",
    "cycle_length": "season_length",
    "every_word": "all_offsets",
    "lower_case": "soft_masked",
    "read_out": "pooling",
}
"""Fields of model configurations, at any depth: the name in format 2, and today's."""

_PARAMETERS = {
    "carried_windows": "stateful_windows",
    "cycle_length": "season_length",
    "known_future": "known_covariates",
    "lower_case": "soft_masked",
    "past": "past_covariates",
    "read_out": "pooling",
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

_SOFT_MASKED = {"same": "keep", "marked": "flag", "absent": "mask"}
_CLASSES = {"LetterModel": "LanguageModel"}
_TENSORS = {
    "model.read_out.": "model.pooling.",
    "read_out.": "pooling.",
    "words.shares": "kmer_model.mixing_weights",
    "words.": "kmer_model.",
}
"""Beginnings of the names of tensors: in format 2, and today's."""

_TOKENIZERS = {
    "nucleotide": ("NucleotideTokenizer", {"kernel_size": "kernel_size"}),
    "conv": (
        "ConvTokenizer",
        {"kernel_size": "kernel_size", "n_filters": "n_filters", "first_filters": "init"},
    ),
    "kmer": ("KmerTokenizer", {"kernel_size": "k", "gaps": "gaps", "every_word": "all_offsets"}),
    "bpe": ("BPETokenizer", {"n_merges": "n_merges"}),
}
"""The options of a tokenizer: their class, and their fields by the parameters of format 2."""

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
    """Return a saved model's tensors under today's names."""
    if version >= FORMAT:
        return tensors
    renamed = {}
    for name, tensor in tensors.items():
        old = next((old for old in _TENSORS if name.startswith(old)), "")
        renamed[_TENSORS.get(old, "") + name.removeprefix(old)] = tensor
    return renamed


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
    if "tokenizer" in params:
        params |= _sequence_parameters(params)
    params = {_PARAMETERS.get(name, name): value for name, value in params.items()}
    return params | {"model_options": model, "training_options": training}


def _sequence_parameters(params: dict[str, Any]) -> dict[str, Any]:
    """An estimator's parameters for DNA: those of the tokenizer and of the k-mer model as options.

    They are taken out of `params`.
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
