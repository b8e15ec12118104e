"""The search: scikit-learn's meta-estimator around an Optuna study."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from titans_ts.tuning.checks import check_search
from titans_ts.tuning.objective import (
    ObjectiveName,
    Scoring,
    Space,
    fit_with_groups,
    score_model,
)
from titans_ts.tuning.results import (
    best_index,
    copy_to_memory,
    cv_results,
    mean_score,
    pareto_front,
)
from titans_ts.tuning.runner import quiet_optuna, run_trials
from titans_ts.tuning.storage import StorageLike, temporary_journal
from titans_ts.tuning.strategies import PrunerName, SamplerName
from titans_ts.tuning.study_setup import first_params, open_study
from titans_ts.types import (
    CrossValidation,
    GroupsLike,
    RandomState,
    SequencesLike,
    SeriesLike,
    TargetLike,
)

__all__ = ["TitansSearch"]


def _best_has(name: str) -> Callable[[Any], bool]:
    """Return whether the best estimator, or the estimator before the fit, has a method."""

    def check(self: Any) -> bool:
        getattr(getattr(self, "best_estimator_", self.estimator), name)
        return True

    return check


class TitansSearch(MetaEstimatorMixin, BaseEstimator):
    """Search for good parameters of an estimator, and fit it with the best ones.

    Every trial is fitted and scored on each fold. The pruner ends hopeless trials early, according to
    the validation losses of their epochs. A trial that fails is recorded with its reason, and the
    search continues. A study in a `storage` can be resumed after a crash, and several processes on
    several machines can work on it.

    Parameters
    ----------
    estimator : TitansForecaster, TitansClassifier, TitansRegressor, or a pipeline that ends with one
        The estimator to tune. The first trial has its parameters, if they lie in the space.
    space : dict, callable or None
        `optuna.distributions` by parameter name, or a function of a trial that returns parameters. None
        (default): :func:`default_space`, which depends on the data.
    n_trials : int or None
        Number of trials of the study, including those of earlier runs (default 50). None: run until
        `timeout`.
    timeout : float or None
        Seconds after which no trial starts (default: no limit).
    cv : int, splitter, iterable or None
        The folds. For a series they are those of scikit-learn's `TimeSeriesSplit`: the estimator is
        fitted to the past, and then forecasts the next rows from every row. For sequences they are
        stratified, or have whole `groups`. None (default): one fold, which holds out the last fifth of
        a series, or a fifth of the sequences.
    scoring : str, callable or None
        The score to maximise: the name of a scikit-learn scorer, `scorer(estimator, X, y)`, or None
        (default) for the estimator's `score`. For a forecaster, it may be the name of an error ("mae",
        "mse", "rmse", "mase", "smape", "wql" or "crps"); the score is then the negative error.
    objectives : sequence of {"score", "latency", "size"}
        The objectives (default: the score alone). With more than one, the search is multi-objective (see
        `pareto_front_`) and pruning is disabled. "latency" is the number of seconds of a prediction for
        the test part of one fold, and "size" is the number of weights.
    storage : str, Path, optuna storage or None
        The storage of the study: a URL ("sqlite:///study.db", "postgresql+psycopg://..."), or the path of
        a journal file, which several processes may write to. None (default): the study is in memory.
    study_name : str, optional
        Name of the study in the storage (default: the name of the estimator's class).
    sampler : {"tpe", "random"} or optuna sampler
        The sampler, which chooses the parameters of the next trial (default "tpe").
    pruner : {"asha", "hyperband", "median", "none"} or optuna pruner
        The pruner, which ends hopeless trials (default "asha"). "asha" and "hyperband" compare trials
        after a ninth and a third of a fit, "median" at every epoch after a ninth. A pruner compares
        validation losses, so use "none" if `output`, `quantile_levels` or `class_weight` is in the
        space.
    warm_start_study : optuna.Study or str, optional
        An earlier study, or its name in the storage. The parameters of its five best trials are tried
        first (default: no such study).
    n_jobs : int or None
        Number of processes on this machine (None, the default: 1).
    refit : bool
        Whether to fit the estimator with the best parameters to all data (default True).
    random_state : int, RandomState or None
        Seed of the sampler and of the folds (default None). With an int and one process, the result of a
        search is reproducible. A study in a storage keeps the seed with which it was created.
    progress_bar : bool
        Whether to show a progress bar with the number of finished trials, the best score so far and the
        time left (default True).

    Attributes
    ----------
    best_estimator_ : estimator
        The best estimator, fitted on all data (if `refit`).
    best_params_, best_score_, best_index_
        Parameters and mean score of the best trial, and its index in `cv_results_`.
    cv_results_ : dict
        As in scikit-learn, with one entry per trial. It also has `trial`, `state` and, for a failed
        trial, `reason`.
    study_ : optuna.Study
        The study.
    pareto_front_ : DataFrame
        With several objectives: the Pareto-optimal trials.
    refit_time_ : float
        Seconds of the fit to all data.

    Examples
    --------
    >>> import numpy as np
    >>> from optuna.distributions import FloatDistribution
    >>> from titans_ts import TitansForecaster
    >>> search = TitansSearch(
    ...     TitansForecaster(2, 8, d_model=16, n_heads=2, max_epochs=1, progress_bar=False),
    ...     {"learning_rate": FloatDistribution(1e-3, 1e-2, log=True)},
    ...     n_trials=2, random_state=0, progress_bar=False,
    ... )
    >>> search.fit(np.sin(np.arange(60.0))).predict().shape
    (2,)
    """

    def __init__(
        self,
        estimator: Any,
        space: Space | None = None,
        *,
        n_trials: int | None = 50,
        timeout: float | None = None,
        cv: CrossValidation = None,
        scoring: Scoring = None,
        objectives: Sequence[ObjectiveName] = ("score",),
        storage: StorageLike = None,
        study_name: str | None = None,
        sampler: SamplerName | BaseSampler = "tpe",
        pruner: PrunerName | BasePruner = "asha",
        warm_start_study: optuna.Study | str | None = None,
        n_jobs: int | None = None,
        refit: bool = True,
        random_state: RandomState = None,
        progress_bar: bool = True,
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.n_trials = n_trials
        self.timeout = timeout
        self.cv = cv
        self.scoring = scoring
        self.objectives = objectives
        self.storage = storage
        self.study_name = study_name
        self.sampler = sampler
        self.pruner = pruner
        self.warm_start_study = warm_start_study
        self.n_jobs = n_jobs
        self.refit = refit
        self.random_state = random_state
        self.progress_bar = progress_bar

    def fit(
        self,
        X: SeriesLike | SequencesLike,
        y: TargetLike = None,
        *,
        groups: GroupsLike = None,
    ) -> TitansSearch:
        """Run the remaining trials of the study, and fit the estimator with the best parameters.

        Parameters
        ----------
        X, y
            As for the estimator's `fit`.
        groups : array of N, optional
            The group of each sequence (default: no groups). Folds and the estimator's validation part
            hold out whole groups.

        Raises
        ------
        TypeError, ValueError
            If a parameter cannot be used, or the study belongs to another search.
        RuntimeError
            If no trial completed.
        """
        check_search(self)
        with quiet_optuna(), contextlib.ExitStack() as stack:
            n_jobs, storage = self.n_jobs or 1, self.storage
            is_temporary = storage is None and n_jobs != 1
            if is_temporary:
                storage = stack.enter_context(temporary_journal())
            shared, objective = open_study(self, storage, X, y, groups, create=True)
            first = first_params(self, objective.space, shared.study._storage)
            shared.enqueue_trials(self.n_trials or 0, first)
            trials = run_trials(
                shared,
                objective,
                storage,
                n_trials=self.n_trials,
                timeout=self.timeout,
                n_jobs=n_jobs,
                progress_bar=self.progress_bar,
            ).finished
            study = copy_to_memory(shared.study) if is_temporary else shared.study
        best = best_index(trials, self.objectives)
        self.study_, self.n_splits_, self.best_index_ = study, len(objective.folds), best
        self.best_params_ = objective.params(trials[best])
        self.best_score_ = mean_score(trials[best])
        self.cv_results_ = cv_results(trials, objective)
        for name in ("pareto_front_", "feature_names_in_"):
            self.__dict__.pop(name, None)  # of an earlier fit
        if len(self.objectives) > 1:
            self.pareto_front_ = pareto_front(study, self.objectives)
        if self.refit:
            self.best_estimator_ = clone(self.estimator).set_params(**self.best_params_)
            start = time.perf_counter()
            fit_with_groups(self.best_estimator_, X, y, groups)
            self.refit_time_ = time.perf_counter() - start
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        return self

    def run_worker(
        self,
        X: SeriesLike | SequencesLike,
        y: TargetLike = None,
        *,
        groups: GroupsLike = None,
    ) -> int:
        """Run trials of a study that :meth:`fit` created in another process, until none is left.

        Parameters
        ----------
        X, y, groups
            The same data as in that process.

        Returns
        -------
        int
            Number of trials that were run.

        Raises
        ------
        ValueError
            If there is no such study.
        """
        check_search(self)
        if self.storage is None:
            raise ValueError("storage is None; give the storage in which fit created the study")
        with quiet_optuna():
            shared, objective = open_study(self, self.storage, X, y, groups, create=False)
            return run_trials(
                shared,
                objective,
                self.storage,
                n_trials=self.n_trials,
                timeout=self.timeout,
                n_jobs=self.n_jobs or 1,
                wait=False,
                progress_bar=self.progress_bar,
            ).n_run

    @available_if(_best_has("predict"))
    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """`best_estimator_.predict`."""
        return self._best("predict")(*args, **kwargs)

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, *args: Any, **kwargs: Any) -> Any:
        """`best_estimator_.predict_proba`."""
        return self._best("predict_proba")(*args, **kwargs)

    @available_if(_best_has("predict_quantiles"))
    def predict_quantiles(self, *args: Any, **kwargs: Any) -> Any:
        """`best_estimator_.predict_quantiles`."""
        return self._best("predict_quantiles")(*args, **kwargs)

    @available_if(_best_has("predict_interval"))
    def predict_interval(self, *args: Any, **kwargs: Any) -> Any:
        """`best_estimator_.predict_interval`."""
        return self._best("predict_interval")(*args, **kwargs)

    def importances(self) -> pd.Series:
        """Return each parameter's share of the score's variance (fANOVA), the largest first.

        The result is empty if fewer than two trials completed, or all have the same score.
        """
        check_is_fitted(self, "study_")
        complete = self.study_.get_trials(states=(TrialState.COMPLETE,))
        shares: dict[str, float] = {}
        if len({mean_score(trial) for trial in complete}) > 1:
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            shares = optuna.importance.get_param_importances(
                self.study_, evaluator=evaluator, target=mean_score
            )
        return pd.Series(shares, dtype=float).sort_values(ascending=False)

    def score(self, X: SeriesLike | SequencesLike, y: TargetLike = None) -> float:
        """Return the score of the best estimator, by `scoring`."""
        return score_model(self._fitted_best(), self.scoring, X, y)

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels, if the estimator is a classifier."""
        return getattr(self._fitted_best(), "classes_")  # noqa: B009

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X, if the estimator counts them."""
        return getattr(self._fitted_best(), "n_features_in_")  # noqa: B009

    def __getstate__(self) -> dict[str, Any]:
        """Replace the storage by a copy in memory, because it may not exist where the pickle is read."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "study_" in state:
            with quiet_optuna():
                state["study_"] = copy_to_memory(self.study_)
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        own = get_tags(self.estimator)
        tags.estimator_type, tags.input_tags = own.estimator_type, own.input_tags
        tags.classifier_tags, tags.regressor_tags = own.classifier_tags, own.regressor_tags
        tags.target_tags, tags.non_deterministic = own.target_tags, own.non_deterministic
        return tags

    def _fitted_best(self) -> Any:
        if not self.refit:
            raise AttributeError(
                "refit is False, so there is no best_estimator_; fit the estimator with best_params_"
            )
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_

    def _best(self, method: str) -> Any:
        return getattr(self._fitted_best(), method)
