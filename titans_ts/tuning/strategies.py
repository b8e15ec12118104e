"""Samplers and pruners by name."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

__all__ = ["SAMPLERS", "PrunerName", "SamplerName", "check_sampler", "make_pruner"]

SAMPLERS: dict[str, type[TPESampler] | type[RandomSampler]] = {
    "tpe": TPESampler,
    "random": RandomSampler,
}
"""Samplers by name."""

SamplerName: TypeAlias = Literal["tpe", "random"]
"""Keys of :data:`SAMPLERS`."""

PrunerName: TypeAlias = Literal["asha", "hyperband", "median", "none"]
"""Names that :func:`make_pruner` accepts."""


def make_pruner(pruner: PrunerName | BasePruner) -> BasePruner:
    """Return the pruner with a name; a pruner of Optuna is returned unchanged.

    Raises
    ------
    ValueError
        If `pruner` is neither a known name nor a pruner of Optuna.
    """
    by_name = {
        "asha": optuna.pruners.SuccessiveHalvingPruner(min_resource=9, reduction_factor=3),
        "hyperband": optuna.pruners.HyperbandPruner(min_resource=9, max_resource=81),
        "median": optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=9),
        "none": optuna.pruners.NopPruner(),
    }
    if isinstance(pruner, BasePruner):
        return pruner
    if not isinstance(pruner, str) or pruner not in by_name:
        raise ValueError(
            f"pruner is {pruner!r}; choose one of {list(by_name)}, or give an Optuna pruner"
        )
    return by_name[pruner]


def check_sampler(sampler: Any) -> None:
    """Raise ValueError unless `sampler` is a key of :data:`SAMPLERS` or an Optuna sampler."""
    is_name = isinstance(sampler, str) and sampler in SAMPLERS
    if not is_name and not isinstance(sampler, BaseSampler):
        raise ValueError(
            f"sampler is {sampler!r}; choose one of {list(SAMPLERS)}, or give an Optuna sampler"
        )
