"""Create a study, or open one and check that it belongs to the same search."""

from __future__ import annotations

import contextlib
import numbers
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sklearn.utils import check_random_state

from titans_ts.forecasting import TitansForecaster
from titans_ts.tuning.folds import final_step, fingerprint, forecast_folds, sequence_folds
from titans_ts.tuning.objective import OBJECTIVES, Objective, Space
from titans_ts.tuning.results import mean_score
from titans_ts.tuning.shared_study import SharedStudy, wait_until_initialised
from titans_ts.tuning.spaces import default_space
from titans_ts.tuning.storage import StorageLike, open_storage
from titans_ts.tuning.strategies import make_pruner
from titans_ts.types import GroupsLike, SequencesLike, SeriesLike, TargetLike

if TYPE_CHECKING:
    from titans_ts.tuning.search import TitansSearch

__all__ = ["first_params", "open_study"]

_N_WARM_START = 5
"""Number of trials of the warm-start study that are tried first."""


def open_study(
    search: TitansSearch,
    storage: StorageLike,
    X: SeriesLike | SequencesLike,
    y: TargetLike,
    groups: GroupsLike,
    *,
    create: bool,
) -> tuple[SharedStudy, Objective]:
    """Open the study of a search, and build its objective.

    The study records the estimator, the data, the space and the seed with which it was created. A search
    with another estimator or other data is refused. The space and the seed are those of the study.

    Parameters
    ----------
    search : TitansSearch
        The search, whose parameters were checked before.
    storage : str, Path, BaseStorage or None
        The storage of the study.
    X, y, groups
        As for :meth:`TitansSearch.fit`.
    create : bool
        Whether to create the study if there is none.

    Raises
    ------
    ValueError
        If there is no such study and `create` is False, or it belongs to another search.
    """
    name = search.study_name or type(final_step(search.estimator)).__name__
    seed = int(check_random_state(search.random_state).randint(2**31 - 1))
    objective = _make_objective(search, X, y, groups, seed)
    pruner = make_pruner(search.pruner)
    if tuple(search.objectives) != ("score",):
        pruner = optuna.pruners.NopPruner()  # epochs say nothing about the other objectives
    opened = open_storage(storage)
    study: optuna.Study | None = None
    space = None
    if not _exists(name, opened):
        if not create:
            raise ValueError(
                f"study_name is {name!r}, and storage has no such study; create it with fit first"
            )
        # what is wrong with the space is found before a study is created
        space = _space_to_json(search, X)
        _warm_start_study(search, opened)
        directions = [OBJECTIVES[objective] for objective in search.objectives]
        # another process may create it at the same time
        with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
            study = optuna.create_study(
                study_name=name, directions=directions, storage=opened, pruner=pruner
            )
    created = study is not None
    if study is None:
        study = optuna.load_study(study_name=name, storage=opened, pruner=pruner)
        wait_until_initialised(study)
    purpose = _purpose(search, objective, X, y, groups)
    recorded = study.user_attrs
    if "purpose" not in recorded and not study.get_trials(deepcopy=False):
        # new, or its process died before it wrote anything
        study.set_user_attr("space", space if created else _space_to_json(search, X))
        study.set_user_attr("seed", seed)
        study.set_user_attr("purpose", purpose)
    elif recorded.get("purpose") != purpose:
        raise ValueError(
            f"study_name is {name!r}, which belongs to another search; give another name "
            f"({_differences(recorded.get('purpose'), purpose)})"
        )
    elif recorded["seed"] != seed:
        seed = recorded["seed"]
        if search.cv is None or isinstance(search.cv, numbers.Integral):
            objective = _make_objective(search, X, y, groups, seed)
    objective.space = _resolve_space(search.space, study)
    return SharedStudy(study, search.sampler, seed), objective


def first_params(search: TitansSearch, space: Space, storage: BaseStorage) -> list[dict[str, Any]]:
    """Return parameters of the first trials: the estimator's own, then the warm-start study's best."""
    first = []
    if isinstance(space, dict):
        own = search.estimator.get_params()
        own = {name: _as_stored(own[name]) for name in space if name in own}
        if all(_contains(space[name], value) for name, value in own.items()):
            first.append(own)
    study = _warm_start_study(search, storage)
    if study is not None:
        sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
        trials = study.get_trials(states=(TrialState.COMPLETE,))
        trials.sort(
            key=lambda t: mean_score(t) if "scores" in t.user_attrs else sign * t.values[0],
            reverse=True,
        )
        first += [_restrict(trial.params, space) for trial in trials[:_N_WARM_START]]
    return [params for i, params in enumerate(first) if params and params not in first[:i]]


def _make_objective(search: TitansSearch, X: Any, y: Any, groups: Any, seed: int) -> Objective:
    last = final_step(search.estimator)
    if isinstance(last, TitansForecaster):
        if groups is not None:
            raise ValueError("groups are given, but a series is split in time; remove them")
        folds = forecast_folds(last, X, search.cv)
    else:
        folds = sequence_folds(last, X, y, groups, search.cv, seed)
    if not folds:
        raise ValueError(
            f"cv is {search.cv!r}, which gives no folds; an iterator can be used only once, so give a "
            "list or a splitter"
        )
    return Objective(search.estimator, folds, search.scoring, search.objectives)


def _exists(name: str, storage: BaseStorage) -> bool:
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return False
    return True


def _purpose(
    search: TitansSearch, objective: Objective, X: Any, y: Any, groups: Any
) -> dict[str, Any]:
    """Return what all searches of one study must have in common."""
    return {
        "estimator": type(final_step(search.estimator)).__name__,
        "scoring": "own" if callable(search.scoring) else search.scoring,
        "objectives": list(search.objectives),
        "folds": len(objective.folds),
        "data": fingerprint(X, y, groups),
        "params": _fixed_params(search.estimator),
    }


def _fixed_params(estimator: Any) -> dict[str, str]:
    """Return the estimator's parameters as text, without those that have no influence on a score."""
    # the options are compared field by field
    free = {"progress_bar", "trainer_kwargs", "resume", "device"}
    free |= {"training_options", "model_options"}
    return {
        name: repr(value)
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] not in free and " at 0x" not in repr(value)
    }


def _differences(recorded: dict[str, Any] | None, purpose: dict[str, Any]) -> str:
    """Describe the differences of two purposes."""
    if recorded is None:
        return "no TitansSearch created it"
    differences = [
        f"its {name} is {recorded.get(name)!r}, here {purpose[name]!r}"
        for name in purpose
        if name not in ("data", "params") and recorded.get(name) != purpose[name]
    ]
    before, now = recorded.get("params", {}), purpose["params"]
    differences += [
        f"its estimator has {name}={before.get(name)}, here {now.get(name)}"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    ]
    if recorded.get("data") != purpose["data"]:
        differences.append("it was created with different data")
    return "; ".join(differences)


def _space_to_json(search: TitansSearch, X: Any) -> dict[str, str] | None:
    """Return the space as a study records it; None for a function."""
    space = default_space(search.estimator, X) if search.space is None else search.space
    if callable(space):
        return None
    return {name: distribution_to_json(d) for name, d in space.items()}


def _resolve_space(space: Space | None, study: optuna.Study) -> Space:
    """Return the space to draw from: the search's own, or the one that the study records."""
    if callable(space):
        return space
    texts = study.user_attrs["space"] or {}
    recorded = {name: json_to_distribution(text) for name, text in texts.items()}
    if space is None:
        if not recorded:
            raise ValueError(
                f"space is None, but study {study.study_name!r} was created with a function; give the "
                "function again"
            )
        return recorded
    # a tuple among the choices becomes a list, as storages know it
    space = {name: json_to_distribution(distribution_to_json(d)) for name, d in space.items()}
    for name in set(space) & set(recorded):
        try:
            check_distribution_compatibility(recorded[name], space[name])
        except ValueError:
            raise ValueError(
                f"space[{name!r}] is {space[name]}, but study {study.study_name!r} was created with "
                f"{recorded[name]}; give that, or another study_name"
            ) from None
    return space


def _warm_start_study(search: TitansSearch, storage: BaseStorage) -> optuna.Study | None:
    study = search.warm_start_study
    if study is None or isinstance(study, optuna.Study):
        return study
    try:
        return optuna.load_study(study_name=study, storage=storage)
    except KeyError:
        raise ValueError(
            f"warm_start_study is {study!r}, and storage has no such study; give the name of one there, "
            "or an optuna.Study"
        ) from None


def _restrict(params: dict[str, Any], space: Space) -> dict[str, Any]:
    """Return the parameters that are in a space with their values."""
    if callable(space):
        return params
    stored = {k: _as_stored(v) for k, v in params.items() if k in space}
    return {k: v for k, v in stored.items() if _contains(space[k], v)}


def _as_stored(value: Any) -> Any:
    """Return a value as storages know it: a tuple is a list."""
    return list(value) if isinstance(value, tuple) else value


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False
