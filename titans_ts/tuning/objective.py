"""The objective of a trial: fit and score on every fold, and report every epoch to the trial."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline

from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.backtest import METRICS
from titans_ts.tuning.folds import Fold, final_step

__all__ = [
    "ERROR_METRICS",
    "OBJECTIVES",
    "Objective",
    "ObjectiveName",
    "Scoring",
    "Space",
    "fit_with_groups",
    "score_model",
]

OBJECTIVES: dict[str, Literal["maximize", "minimize"]] = {
    "score": "maximize",
    "latency": "minimize",
    "size": "minimize",
}
"""Objectives and their directions: the score, the seconds of a prediction, and the number of weights."""

ObjectiveName: TypeAlias = Literal["score", "latency", "size"]
"""Keys of :data:`OBJECTIVES`."""

Space: TypeAlias = dict[str, BaseDistribution] | Callable[[Any], dict[str, Any]]
"""A search space: a distribution by parameter, or a function of a trial that returns parameters."""

Scoring: TypeAlias = str | Callable[[Any, Any, Any], float] | None
"""A name, `scorer(estimator, X, y)`, or None for the estimator's own `score`."""

ERROR_METRICS = tuple(name for name in METRICS if name not in ("coverage", "width"))
"""Errors of a forecaster that `scoring` may name."""

_STEPS = 81
"""Number of pruning steps in a fit, whatever its number of epochs."""


class Objective:
    """Fit the estimator with a trial's parameters, and score it, on every fold.

    Parameters
    ----------
    estimator : estimator
        The estimator to tune; every trial fits a clone of it.
    folds : list of Fold
        The folds, which are the same for all trials.
    scoring : str, callable or None
        As for :class:`titans_ts.TitansSearch`.
    objectives : sequence of {"score", "latency", "size"}
        The values that a trial returns. If "score" is the only one, epochs are reported and hopeless
        trials are pruned.
    """

    def __init__(
        self, estimator: Any, folds: list[Fold], scoring: Scoring, objectives: Sequence[str]
    ) -> None:
        self.estimator, self.folds, self.scoring = estimator, folds, scoring
        self.objectives = tuple(objectives)
        self.space: Space = {}
        """The search space; it is set when the study is open."""

    def __call__(self, trial: Trial) -> list[float]:
        """Return the values of the objectives, and keep scores and times as the trial's attributes.

        Raises
        ------
        FloatingPointError
            If a score is NaN or infinite.
        optuna.TrialPruned
            If the pruner ends the trial.
        """
        params = self.params(trial)
        record: dict[str, list[float]] = {"scores": [], "fit_seconds": [], "score_seconds": []}
        for number, fold in enumerate(self.folds):
            model = clone(self.estimator).set_params(**params)
            _prepare(model, trial, number, prune=self.objectives == ("score",))
            start = time.perf_counter()
            fit_with_groups(model, fold.X, fold.y, fold.groups)
            record["fit_seconds"].append(time.perf_counter() - start)
            start = time.perf_counter()
            value = score_model(model, self.scoring, fold.test_X, fold.test_y)
            record["score_seconds"].append(time.perf_counter() - start)
            if not math.isfinite(value):
                raise FloatingPointError(f"the score is {value}")
            record["scores"].append(value)
        for name, values in record.items():
            trial.set_user_attr(name, values)
        measures: dict[str, Callable[[], float]] = {
            "score": lambda: float(np.mean(record["scores"])),
            "latency": lambda: _latency(model, fold.test_X),
            "size": lambda: _size(final_step(model)),
        }
        return [measures[name]() for name in self.objectives]

    def params(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """Return the estimator's parameters in a trial; a running trial draws them."""
        if callable(self.space):
            params = self.space(trial)
            if not isinstance(params, dict):
                raise TypeError(f"space returned {params!r}; it must return a dict of parameters")
            return params
        if isinstance(trial, FrozenTrial):
            return {name: trial.params[name] for name in self.space if name in trial.params}
        return {name: trial._suggest(name, d) for name, d in self.space.items()}


def fit_with_groups(model: Any, X: Any, y: Any, groups: Any) -> None:
    """Fit an estimator, or a pipeline, whose last step gets the groups; None is not passed on."""
    last, name = model, "groups"
    while isinstance(last, Pipeline):
        step, last = last.steps[-1]
        name = name.removesuffix("groups") + f"{step}__groups"
    options = {"y": y, name: groups}
    model.fit(X, **{name: value for name, value in options.items() if value is not None})


def score_model(model: Any, scoring: Scoring, X: Any, y: Any) -> float:
    """Return the score of a fitted model; higher is better, so errors are negated."""
    if isinstance(scoring, str) and scoring in ERROR_METRICS:
        if not isinstance(model, TitansForecaster):
            raise ValueError(
                f"scoring is {scoring!r}, which only a TitansForecaster has; choose a scorer of "
                "scikit-learn"
            )
        errors = model.backtest(X, stride=1, progress_bar=False).metrics()
        return -float(errors.loc["titans", scoring])
    return float(check_scoring(model, scoring)(model, X, y))


def _prepare(model: Any, trial: Trial, fold: int, *, prune: bool) -> None:
    """Switch off progress bars and, with `prune`, report the model's epochs to the trial."""
    for name, value in model.get_params().items():
        if name.rpartition("__")[2] == "progress_bar":
            model.set_params(**{name: False})
        elif name.rpartition("__")[2] == "resume":  # a trial that was interrupted is repeated
            model.set_params(**{name: None})
        elif name.rpartition("__")[2] == "trainer_kwargs" and prune:
            from titans_ts.training.callbacks import (
                ReportEpochs,
            )  # importing Lightning takes seconds

            options = value or {}
            callbacks = options.get("callbacks") or []
            callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
            callbacks = [*callbacks, ReportEpochs(_reporter(trial, fold))]
            model.set_params(**{name: options | {"callbacks": callbacks}})


def _reporter(trial: Trial, fold: int) -> Callable[[int, int, float], None]:
    """Return `report(epoch, n_epochs, loss)`, which raises TrialPruned if the pruner ends the trial."""
    best, last_step = math.inf, 0

    def report(epoch: int, n_epochs: int, loss: float) -> None:
        nonlocal best, last_step
        best = min(best, loss)  # the loss of the weights that early stopping would keep
        step = math.ceil(_STEPS * epoch / n_epochs)
        if step <= last_step:
            return  # more epochs than steps; or the second training of one fit, as with rc="auto"
        last_step = step
        trial.report(-best, fold * _STEPS + step)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report


def _size(estimator: Any) -> float:
    """Return the number of learned weights, including those of a k-mer model."""
    kmer_model = getattr(estimator, "kmer_model_", None)
    size = sum(p.numel() for p in estimator.model_.parameters())
    if kmer_model is not None:
        size += kmer_model.weight.size + kmer_model.bias.size
    return float(size)


def _latency(model: Any, X: Any) -> float:
    """Return the median seconds of five predictions."""
    predict = partial(model.predict, X)
    if isinstance(model, TitansForecaster) and model.roles.known_covariates:
        # X holds known covariates for its own steps only, so predict cannot be timed
        predict = partial(model.backtest, X, n_windows=1, progress_bar=False)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        predict()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
