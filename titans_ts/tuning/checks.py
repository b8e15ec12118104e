"""Checks of a search's parameters, before a study is created or a trial runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from sklearn.metrics import check_scoring

from titans_ts.config import check_integer
from titans_ts.estimator import plain
from titans_ts.forecasting import TitansForecaster
from titans_ts.tuning.folds import final_step
from titans_ts.tuning.objective import ERROR_METRICS, OBJECTIVES
from titans_ts.tuning.strategies import check_sampler

if TYPE_CHECKING:
    from titans_ts.tuning.search import TitansSearch

__all__ = ["check_search"]


def check_search(search: TitansSearch) -> None:
    """Raise TypeError or ValueError if a parameter cannot be used."""
    objectives: Any = search.objectives
    if isinstance(objectives, str) or not objectives or not set(objectives) <= set(OBJECTIVES):
        raise ValueError(
            f"objectives is {objectives!r}; give a sequence with some of {list(OBJECTIVES)}"
        )
    if search.n_trials is None and search.timeout is None:
        raise ValueError(
            "n_trials and timeout are both None; give one of them, or the search never ends"
        )
    if search.n_trials is not None:
        check_integer("n_trials", plain(search.n_trials), 1)
    if search.timeout is not None and not search.timeout > 0:
        raise ValueError(f"timeout is {search.timeout!r}; it must be a positive number of seconds")
    check_sampler(search.sampler)
    if search.n_jobs is not None and (
        not isinstance(plain(search.n_jobs), int) or not search.n_jobs
    ):
        raise ValueError(
            f"n_jobs is {search.n_jobs!r}; give a number of processes, -1 for all processors, or None "
            "for 1"
        )
    if isinstance(search.storage, InMemoryStorage) and (search.n_jobs or 1) != 1:
        raise ValueError(
            f"storage is in memory and n_jobs is {search.n_jobs}, but other processes cannot open it; "
            "use storage=None (a temporary file) or n_jobs=1"
        )
    _check_scoring(search.estimator, search.scoring)
    _check_space(search.estimator, search.space)


def _check_scoring(estimator: Any, scoring: Any) -> None:
    if scoring is None or callable(scoring):
        return
    if not isinstance(scoring, str):
        raise ValueError(
            f"scoring is {scoring!r}; give the name of one scorer, or scorer(estimator, X, y)"
        )
    if not isinstance(final_step(estimator), TitansForecaster):
        check_scoring(estimator, scoring)
    elif scoring not in ERROR_METRICS or not isinstance(estimator, TitansForecaster):
        raise ValueError(
            f"scoring is {scoring!r}; for a forecaster choose one of {list(ERROR_METRICS)}, give "
            "scorer(estimator, X, y), or None (for a pipeline only the last two)"
        )


def _check_space(estimator: Any, space: Any) -> None:
    if space is None or callable(space):
        return
    if not isinstance(space, dict) or not space:
        raise TypeError(
            f"space is {space!r}; give a dict of optuna.distributions, a function of a trial, or None"
        )
    names = estimator.get_params()
    for name, distribution in space.items():
        if name not in names:
            raise ValueError(
                f"space has {name!r}, which is no parameter of {type(estimator).__name__}; choose from "
                f"{sorted(names)}"
            )
        if not isinstance(distribution, BaseDistribution):
            raise TypeError(
                f"space[{name!r}] is {distribution!r}; give one of optuna.distributions"
            )
