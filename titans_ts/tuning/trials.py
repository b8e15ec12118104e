"""What a trial does: fit and score on every fold, and tell how its epochs go."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline

from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.backtest import METRICS
from titans_ts.tuning.folds import Fold, final_step

__all__ = ["ERRORS", "Job", "fit_with", "score"]

ERRORS = tuple(name for name in METRICS if name not in ("coverage", "width"))
"""Errors of a forecaster that a trial can be scored by."""

SHARES = 81
"""Steps that a fit counts for with a pruner, however many epochs it has."""


class Job:
    """What a trial does: fit with some parameters, and score, fold by fold."""

    def __init__(
        self, estimator: Any, folds: list[Fold], scoring: Any, objectives: tuple[str, ...]
    ) -> None:
        self.estimator, self.folds, self.scoring = estimator, folds, scoring
        self.objectives = objectives
        self.space: Any = None

    def __call__(self, trial: Trial) -> list[float]:
        """Values of the objectives."""
        params = self.params(trial)
        parts: dict[str, list[float]] = {"scores": [], "fit_seconds": [], "score_seconds": []}
        for number, fold in enumerate(self.folds):
            model = clone(self.estimator).set_params(**params)
            _watch(model, trial, number, prunes=self.objectives == ("score",))
            clock = time.perf_counter()
            fit_with(model, fold.X, fold.y, fold.groups)
            parts["fit_seconds"].append(time.perf_counter() - clock)
            clock = time.perf_counter()
            scored = score(model, self.scoring, fold.test_X, fold.test_y)
            parts["score_seconds"].append(time.perf_counter() - clock)
            if not math.isfinite(scored):
                raise FloatingPointError(f"the score is {scored}")
            parts["scores"].append(scored)
        for name, values in parts.items():
            trial.set_user_attr(name, values)
        measures: dict[str, Callable[[], float]] = {
            "score": lambda: float(np.mean(parts["scores"])),
            "latency": lambda: _latency(model, fold.test_X),
            "size": lambda: _size(final_step(model)),
        }
        return [measures[name]() for name in self.objectives]

    def params(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """What the estimator is given in a trial."""
        if callable(self.space):
            params = self.space(trial)
            if not isinstance(params, dict):
                raise TypeError(f"space returned {params!r}; it must return a dict of parameters")
            return params
        if isinstance(trial, FrozenTrial):
            return {name: trial.params[name] for name in self.space if name in trial.params}
        return {name: trial._suggest(name, d) for name, d in self.space.items()}


def fit_with(model: Any, X: Any, y: Any, groups: Any) -> None:
    """Fit a model, or a pipeline whose last step is given the groups."""
    last, name = model, "groups"
    while isinstance(last, Pipeline):
        step, last = last.steps[-1]
        name = name.removesuffix("groups") + f"{step}__groups"
    options = {"y": y, name: groups}
    model.fit(X, **{name: value for name, value in options.items() if value is not None})


def score(model: Any, scoring: Any, X: Any, y: Any) -> float:
    """The higher, the better."""
    if isinstance(scoring, str) and scoring in ERRORS:
        if not isinstance(model, TitansForecaster):
            raise ValueError(f"scoring is {scoring!r}, which only a TitansForecaster has")
        errors = model.backtest(X, stride=1, progress_bar=False).metrics()
        return -float(errors.loc["titans", scoring])
    return float(check_scoring(model, scoring)(model, X, y))


def _watch(model: Any, trial: Trial, fold: int, *, prunes: bool) -> None:
    """Let a model's epochs be told to the trial, which may end the fit by them."""
    best, last = math.inf, 0

    def told(epoch: int, epochs: int, loss: float) -> None:
        nonlocal best, last
        best = min(best, loss)  # what early stopping would keep
        share = math.ceil(SHARES * epoch / epochs)
        if share <= last:
            return  # of many epochs; or a second training of the same fit, as of rc="auto"
        last = share
        trial.report(-best, fold * SHARES + share)
        if trial.should_prune():
            raise optuna.TrialPruned

    for name, given in model.get_params().items():
        if name.rpartition("__")[2] == "progress_bar":
            model.set_params(**{name: False})
        elif name.rpartition("__")[2] == "trainer_kwargs" and prunes:
            from titans_ts.training.module import TellEpochs  # Lightning takes seconds to import

            theirs = (given or {}).get("callbacks") or []
            theirs = theirs if isinstance(theirs, (list, tuple)) else [theirs]
            callbacks = {"callbacks": [*theirs, TellEpochs(told)]}
            model.set_params(**{name: (given or {}) | callbacks})


def _size(estimator: Any) -> float:
    """Numbers that were learned, those of counted words, too."""
    words = getattr(estimator, "words_", None)
    size = sum(p.numel() for p in estimator.model_.parameters())
    return float(size + (0 if words is None else words.weight.size + words.bias.size))


def _latency(model: Any, X: Any) -> float:
    """Seconds of an answer, the median of five."""
    answer = partial(model.predict, X)
    # X holds known covariates for its own steps only, so that predict cannot be timed
    if isinstance(model, TitansForecaster) and model.roles.known_covariates:
        answer = partial(model.backtest, X, n_windows=1, progress_bar=False)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        answer()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
