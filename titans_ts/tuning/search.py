"""The search: scikit-learn's meta-estimator around an Optuna study."""

from __future__ import annotations

import contextlib
import math
import numbers
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.metrics import check_scoring
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from titans_ts.forecasting import TitansForecaster
from titans_ts.tuning.folds import final_step, fingerprint, forecast_folds, sequence_folds
from titans_ts.tuning.spaces import default_space
from titans_ts.tuning.studies import (
    SharedStudy,
    begun_elsewhere,
    check_sampler,
    open_storage,
    pruner_by_name,
    shared_journal,
)
from titans_ts.tuning.trials import ERRORS, Job, fit_with, score

__all__ = ["OBJECTIVES", "TitansSearch"]

OBJECTIVES: dict[str, Any] = {"score": "maximize", "latency": "minimize", "size": "minimize"}
"""What a trial may be judged by, and which way: `scoring`, the seconds of an answer, and weights."""

_PAUSE = 1.0


def _best_has(name: str) -> Callable[[Any], bool]:
    """Whether the fitted best estimator, or else the estimator, has a method."""

    def check(self: Any) -> bool:
        getattr(getattr(self, "best_estimator_", self.estimator), name)
        return True

    return check


class TitansSearch(MetaEstimatorMixin, BaseEstimator):
    """Find good parameters of an estimator, and fit it with them.

    Every trial is fitted and scored on each fold. Hopeless trials end early, by the validation loss of
    their epochs; one that fails is noted with its reason, and the search goes on. A study in a `storage`
    can be gone on with after a crash, and several processes, on several machines, can work on it.

    Parameters
    ----------
    estimator : TitansForecaster, TitansClassifier, TitansRegressor, or a pipeline that ends with one
        What is tuned. Its own parameters are the first trial, where they lie in the space.
    space : dict, callable or None
        `optuna.distributions` by the parameter's name, or a function of a trial that returns parameters;
        None: :func:`default_space`, which fits the data.
    n_trials : int or None
        Trials of the study, those of earlier runs among them; None: until `timeout`.
    timeout : float or None
        Seconds after which no trial begins.
    cv : int, splitter, iterable or None
        Folds. Of a series those of scikit-learn's `TimeSeriesSplit`: the past is fitted, what follows is
        forecast, from every row of it. Of sequences stratified, or whole `groups`. None: one fold, the
        last fifth of a series, or a fifth of the sequences.
    scoring : str, callable or None
        What is best: a name of scikit-learn's, `scorer(estimator, X, y)`, or None for the estimator's
        `score`. Of a forecaster an error, "mae", "mse", "rmse", "mase", "smape", "wql" or "crps", too;
        scores are then its negative.
    objectives : sequence of {"score", "latency", "size"}
        What trials are judged by: with several of them, by none at the cost of another (`pareto_`); then
        no trial is ended early. "latency" is the seconds of an answer for one fold's test part, "size"
        the number of weights.
    storage : str, Path, optuna storage or None
        Where the study lies: a URL ("sqlite:///study.db", "postgresql+psycopg://..."), or a file for a
        journal, which several processes may write to; None: in memory.
    study_name : str, optional
        Its name in the storage.
    sampler : {"tpe", "random"} or optuna sampler
        What chooses the next trial's parameters.
    pruner : {"asha", "hyperband", "median", "none"} or optuna pruner
        What ends hopeless trials: "asha" and "hyperband" look at a ninth and at a third of a fit,
        "median" at every epoch after a ninth. Trials' losses must be comparable: a space with `output`,
        `quantile_levels` or `class_weight` in it should go without.
    former_study : optuna.Study or str, optional
        A former study, or its name in the storage: its five best trials' parameters are tried first.
    n_jobs : int or None
        Processes of this machine.
    refit : bool
        Whether to fit the best one on everything.
    random_state : int, RandomState or None
        Seed of the sampler and of the folds; with an int (and one process) a search repeats exactly. A
        study in a storage keeps the seed it began with.
    progress_bar : bool
        Whether to show one: trials done, the best score so far, and the time left.

    Attributes
    ----------
    best_estimator_ : estimator
        The best one, fitted on everything (if `refit`).
    best_params_, best_score_, best_index_
        Of the best trial: parameters, mean score, and its place in `cv_results_`.
    cv_results_ : dict
        As scikit-learn's, a place a trial, with `trial`, `state` and `reason` of what failed.
    study_ : optuna.Study
        The study.
    pareto_ : DataFrame
        With several objectives: the trials that no other one beats in all of them.
    refit_time_ : float
        Seconds of the last fit.

    Examples
    --------
    >>> from optuna.distributions import FloatDistribution
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
        space: dict[str, Any] | Callable[[Any], dict[str, Any]] | None = None,
        *,
        n_trials: int | None = 50,
        timeout: float | None = None,
        cv: Any = None,
        scoring: Any = None,
        objectives: tuple[str, ...] = ("score",),
        storage: Any = None,
        study_name: str | None = None,
        sampler: Any = "tpe",
        pruner: Any = "asha",
        former_study: Any = None,
        n_jobs: int | None = None,
        refit: bool = True,
        random_state: int | np.random.RandomState | None = None,
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
        self.former_study = former_study
        self.n_jobs = n_jobs
        self.refit = refit
        self.random_state = random_state
        self.progress_bar = progress_bar

    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> TitansSearch:
        """Run the trials that the study still lacks, and fit the best one.

        Parameters
        ----------
        X, y
            As the estimator's `fit`.
        groups : array of N, optional
            Of sequences, what belongs together: folds, and the estimator's validation part, hold out
            whole groups.

        Raises
        ------
        TypeError, ValueError
            If a parameter cannot be used, or the study searches for something else.
        RuntimeError
            If no trial came to an end.
        """
        self._check()
        with _quiet_optuna(), contextlib.ExitStack() as stack:
            n_jobs, storage = self.n_jobs or 1, self.storage
            if storage is None and n_jobs != 1:
                storage = stack.enter_context(shared_journal())
            shared, job = self._open(storage, X, y, groups, create=True)
            shared.add_slots(self.n_trials or 0, self._first(job, shared.study))
            self._run(shared, job, storage, n_jobs, wait=True)
            finished, study = shared.finished(), shared.study
            if self.storage is None and n_jobs != 1:
                study = _copied(study)
        self._note(finished, job, study)
        self.__dict__.pop("feature_names_in_", None)  # of a former fit
        if self.refit:
            self.best_estimator_ = clone(self.estimator).set_params(**self.best_params_)
            start = time.perf_counter()
            fit_with(self.best_estimator_, X, y, groups)
            self.refit_time_ = time.perf_counter() - start
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        return self

    def work(self, X: Any, y: Any = None, *, groups: Any = None) -> int:
        """Run trials of a study that :meth:`fit` began elsewhere, until it has none left.

        Parameters
        ----------
        X, y, groups
            The same data as there.

        Returns
        -------
        int
            Trials run.

        Raises
        ------
        ValueError
            If there is no such study.
        """
        self._check()
        if self.storage is None:
            raise ValueError("storage is None; give that of the study, which other processes open")
        with _quiet_optuna():
            shared, job = self._open(self.storage, X, y, groups, create=False)
            return self._run(shared, job, self.storage, self.n_jobs or 1, wait=False)

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
        """How much of the score's variance a parameter explains, the most important first (fANOVA).

        Empty where fewer than two trials came to an end, or all alike.
        """
        check_is_fitted(self, "study_")
        done = self.study_.get_trials(states=(TrialState.COMPLETE,))
        found: dict[str, float] = {}
        if len({_worth(trial) for trial in done}) > 1:
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(
                self.study_, evaluator=evaluator, target=_worth
            )
        return pd.Series(found, dtype=float).sort_values(ascending=False)

    def score(self, X: Any, y: Any = None) -> float:
        """The score of the best estimator, by `scoring`."""
        return score(self._fitted_best(), self.scoring, X, y)

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels, of a classifier."""
        return getattr(self._fitted_best(), "classes_")  # noqa: B009

    @property
    def n_features_in_(self) -> int:
        """Columns of X, where the estimator counts them."""
        return getattr(self._fitted_best(), "n_features_in_")  # noqa: B009

    def __getstate__(self) -> dict[str, Any]:
        """Without the storage, which may be gone where it is read: the study goes along in memory."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "study_" in state:
            with _quiet_optuna():
                state["study_"] = _copied(self.study_)
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
                "refit is False, so there is no best_estimator_; fit one with best_params_"
            )
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_

    def _best(self, method: str) -> Any:
        return getattr(self._fitted_best(), method)

    def _check(self) -> None:
        names = self.objectives
        if isinstance(names, str) or not names or not set(names) <= set(OBJECTIVES):
            raise ValueError(f"objectives is {names!r}; give some of {list(OBJECTIVES)}")
        if self.n_trials is None and self.timeout is None:
            raise ValueError("n_trials and timeout are None; give one, or the search has no end")
        whole = isinstance(self.n_trials, numbers.Integral) and self.n_trials >= 1
        if self.n_trials is not None and not whole:
            raise ValueError(f"n_trials is {self.n_trials!r}; it must be an integer of at least 1")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout!r}; it must be positive, in seconds")
        check_sampler(self.sampler)
        if isinstance(self.storage, InMemoryStorage) and (self.n_jobs or 1) != 1:
            raise ValueError(
                f"storage is in memory, but n_jobs {self.n_jobs}, and other processes cannot open it; "
                "give None, which takes a file for the while"
            )
        self._check_scoring()
        self._check_space()

    def _check_scoring(self) -> None:
        if self.scoring is None or callable(self.scoring):
            return
        if not isinstance(self.scoring, str):
            raise ValueError(
                f"scoring is {self.scoring!r}; give one name, or scorer(estimator, X, y)"
            )
        if not isinstance(final_step(self.estimator), TitansForecaster):
            check_scoring(self.estimator, self.scoring)
        elif self.scoring not in ERRORS or not isinstance(self.estimator, TitansForecaster):
            raise ValueError(
                f"scoring is {self.scoring!r}; of a forecaster choose one of {list(ERRORS)}, give "
                "scorer(estimator, X, y), or None (which a pipeline needs, or the scorer)"
            )

    def _check_space(self) -> None:
        if self.space is None or callable(self.space):
            return
        if not isinstance(self.space, dict) or not self.space:
            raise TypeError(
                f"space is {self.space!r}; give a dict of optuna.distributions, a function of a trial, "
                "or None"
            )
        names = self.estimator.get_params()
        for name, distribution in self.space.items():
            if name not in names:
                kind = type(self.estimator).__name__
                raise ValueError(
                    f"space has {name!r}, which is no parameter of {kind}; choose from {sorted(names)}"
                )
            if not isinstance(distribution, BaseDistribution):
                raise TypeError(
                    f"space[{name!r}] is {distribution!r}; give one of optuna.distributions"
                )

    def _job(self, X: Any, y: Any, groups: Any, seed: int) -> Job:
        """What a trial does; folds are the same for all."""
        last = final_step(self.estimator)
        if isinstance(last, TitansForecaster):
            if groups is not None:
                raise ValueError("groups are given, but a series is cut in time; drop them")
            folds = forecast_folds(last, X, self.cv)
        else:
            folds = sequence_folds(last, X, y, groups, self.cv, seed)
        if not folds:
            raise ValueError(
                f"cv is {self.cv!r}, which gives no folds; give an iterable not yet used"
            )
        return Job(self.estimator, folds, self.scoring, tuple(self.objectives))

    def _open(
        self, storage: Any, X: Any, y: Any, groups: Any, *, create: bool
    ) -> tuple[SharedStudy, Job]:
        """The study, and what a trial does. What it searches for, and by what seed, stands in it."""
        kind = type(final_step(self.estimator)).__name__
        name = self.study_name or kind
        pruner = pruner_by_name(self.pruner)
        if tuple(self.objectives) != ("score",):
            pruner = optuna.pruners.NopPruner()  # epochs tell of the score alone
        options: dict[str, Any] = {"storage": open_storage(storage), "pruner": pruner}
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        job = self._job(X, y, groups, seed)
        purpose = {
            "estimator": kind,
            "scoring": "own" if callable(self.scoring) else self.scoring,
            "objectives": list(self.objectives),
            "folds": len(job.folds),
            "data": fingerprint(X, y, groups),
            "params": self._fixed(),
        }
        begun = False
        try:
            study = optuna.load_study(study_name=name, **options)
        except KeyError:
            if not create:
                raise ValueError(
                    f"study_name is {name!r}, and storage has no such study; begin it elsewhere, by fit"
                ) from None
            space, _ = self._described_space(X), self._former(options["storage"])
            directions = [OBJECTIVES[objective] for objective in self.objectives]
            try:
                study = optuna.create_study(study_name=name, directions=directions, **options)
                begun = True
            except optuna.exceptions.DuplicatedStudyError:  # another process was faster
                study = optuna.load_study(study_name=name, **options)
        if not begun:
            begun_elsewhere(study)
        attributes = study.user_attrs
        known = attributes.get("purpose")
        if known is None and not study.get_trials(deepcopy=False):
            # just begun, or by a process that died at once
            study.set_user_attr("space", space if begun else self._described_space(X))
            study.set_user_attr("seed", seed)
            study.set_user_attr("purpose", purpose)
        elif known != purpose:
            raise ValueError(
                f"study_name is {name!r}, a study of something else; give another name "
                f"({_differences(known, purpose)})"
            )
        elif attributes["seed"] != seed:
            seed = attributes["seed"]
            if self.cv is None or isinstance(self.cv, numbers.Integral):
                job = self._job(X, y, groups, seed)
        job.space = _read_space(self.space, study)
        return SharedStudy(study, self.sampler, seed), job

    def _fixed(self) -> dict[str, str]:
        """The estimator's parameters, but for those that do not matter to a score."""
        free = ("progress_bar", "trainer_kwargs", "device", "training_options", "model_options")
        return {  # options by their fields
            name: repr(value)
            for name, value in self.estimator.get_params().items()
            if name.rpartition("__")[2] not in free and " at 0x" not in repr(value)
        }

    def _described_space(self, X: Any) -> dict[str, str] | None:
        """The space as a study keeps it; None for a function."""
        space = default_space(self.estimator, X) if self.space is None else self.space
        if callable(space):
            return None
        return {name: distribution_to_json(d) for name, d in space.items()}

    def _first(self, job: Job, study: optuna.Study) -> list[dict[str, Any]]:
        """Parameters to try before all others: the estimator's own, and a former study's best."""
        first = []
        if isinstance(job.space, dict):
            own = self.estimator.get_params()
            own = {name: own[name] for name in job.space if name in own}
            if all(_contains(job.space[name], value) for name, value in own.items()):
                first.append(own)
        former = self._former(study._storage)
        if former is not None:
            sign = 1 if former.directions[0] == StudyDirection.MAXIMIZE else -1
            done = former.get_trials(states=(TrialState.COMPLETE,))
            done.sort(
                key=lambda t: _worth(t) if "scores" in t.user_attrs else sign * t.values[0],
                reverse=True,
            )
            first += [_within(trial.params, job.space) for trial in done[:5]]
        return [params for i, params in enumerate(first) if params and params not in first[:i]]

    def _former(self, storage: BaseStorage) -> optuna.Study | None:
        if self.former_study is None or isinstance(self.former_study, optuna.Study):
            return self.former_study
        try:
            return optuna.load_study(study_name=self.former_study, storage=storage)
        except KeyError:
            raise ValueError(
                f"former_study is {self.former_study!r}, and storage has no such study; give its name, "
                "or it"
            ) from None

    def _run(self, shared: SharedStudy, job: Job, storage: Any, n_jobs: int, *, wait: bool) -> int:
        """Run trials until there are none left, or time is up; returns how many."""
        deadline = math.inf if self.timeout is None else time.monotonic() + self.timeout
        endless, count = self.n_trials is None, 0
        former = {trial.number for trial in shared.finished()}
        task = partial(
            _run_elsewhere,
            job,
            shared.study.study_name,
            storage,
            shared.study.pruner,
            (self.sampler, shared.seed),
            endless,
            torch.get_num_threads(),
        )
        with _Progress(shared, self.n_trials, self.progress_bar) as progress:
            while time.monotonic() < deadline:
                shared.revive()
                ran = 0
                if n_jobs == 1:
                    ran = _run_one(shared, job, endless)
                else:
                    with contextlib.suppress(TerminatedWorkerError):  # its trial is revived
                        tasks = _while_some(shared, deadline, endless, former)
                        pool = Parallel(
                            n_jobs,
                            return_as="generator_unordered",
                            pre_dispatch="n_jobs",
                            batch_size=1,
                        )
                        for done in pool(delayed(task)() for _ in tasks):
                            ran += done
                            progress.show()
                count += ran
                progress.show()
                if (why := _hopeless(shared, former)) is not None:
                    raise RuntimeError(why)
                if ran or shared.trials(TrialState.WAITING):
                    continue
                if not (wait and shared.trials(TrialState.RUNNING)):
                    break
                time.sleep(_PAUSE)  # for trials of other processes, which may die
        return count

    def _note(self, trials: list[FrozenTrial], job: Job, study: optuna.Study) -> None:
        """The attributes that tell of the trials."""
        complete = [i for i, t in enumerate(trials) if t.state == TrialState.COMPLETE]
        if not complete:
            reasons = {str(t.user_attrs["reason"]) for t in trials if "reason" in t.user_attrs}
            if any(t.state == TrialState.PRUNED for t in trials):
                reasons.add("ended early")
            raise RuntimeError(
                f"none of {len(trials)} trials came to an end: {'; '.join(sorted(reasons)) or 'no time'}"
            )
        self.study_, self.n_splits_ = study, len(job.folds)
        sizes = "score" not in self.objectives  # then the first of them, which is to be small
        self.best_index_ = max(
            complete, key=lambda i: -trials[i].values[0] if sizes else _worth(trials[i])
        )
        self.best_params_ = job.params(trials[self.best_index_])
        self.best_score_ = _worth(trials[self.best_index_])
        self.cv_results_ = _results(trials, job)
        self.__dict__.pop("pareto_", None)  # of a former fit
        if len(self.objectives) > 1:
            front = sorted(study.best_trials, key=_worth, reverse=True)
            rows = [dict(zip(self.objectives, t.values, strict=True)) | t.params for t in front]
            self.pareto_ = pd.DataFrame(
                rows, index=pd.Index([t.number for t in front], name="trial")
            )


def _run_one(shared: SharedStudy, job: Job, endless: bool) -> int:
    """Run the next trial, if there is one; returns how many."""
    trial = shared.claim()
    if trial is None:
        if not endless:
            return 0
        trial = shared.new()
    try:
        with shared.beating(trial):
            values = job(trial)
    except optuna.TrialPruned:
        shared.tell(trial, state=TrialState.PRUNED)
    except optuna.exceptions.UpdateFinishedTrialError:
        pass  # it was taken for dead, and somebody else runs it
    except Exception as error:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr("reason", f"{type(error).__name__}: {error}")
        shared.tell(trial, state=TrialState.FAIL)
    except BaseException:
        shared.give_back(trial)
        raise
    else:
        shared.tell(trial, values)
    return 1


def _run_elsewhere(
    job: Job,
    study_name: str,
    storage: Any,
    pruner: Any,
    sampler: tuple[Any, int],
    endless: bool,
    threads: int,
) -> int:
    """As :func:`_run_one`, in a process that opens the study by itself, with as many threads at most."""
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    with _quiet_optuna():
        study = optuna.load_study(
            study_name=study_name, storage=open_storage(storage), pruner=pruner
        )
        if isinstance(sampler[0], BaseSampler):
            sampler[0].reseed_rng()  # or all processes would draw the same
        return _run_one(SharedStudy(study, *sampler), job, endless)


def _while_some(
    shared: SharedStudy, deadline: float, endless: bool, former: set[int]
) -> Iterator[None]:
    """One after the other, while there may be a trial to run."""
    while time.monotonic() < deadline and (endless or shared.trials(TrialState.WAITING)):
        if _hopeless(shared, former) is not None:
            return
        yield


def _read_space(space: Any, study: optuna.Study) -> Any:
    """What to draw from; a study keeps the space it began with, where the search has none."""
    if callable(space):
        return space
    written = study.user_attrs["space"] or {}
    known = {name: json_to_distribution(text) for name, text in written.items()}
    if space is None:
        if not known:
            raise ValueError("space is None, but the study began with a function; give it again")
        return known
    for name in set(space) & set(known):
        try:
            check_distribution_compatibility(known[name], space[name])
        except ValueError:
            raise ValueError(
                f"space[{name!r}] is {space[name]}, but study {study.study_name!r} began with "
                f"{known[name]}; give that, or another study_name"
            ) from None
    return space


def _differences(known: dict[str, Any] | None, purpose: dict[str, Any]) -> str:
    """In what two purposes differ, in words."""
    if known is None:
        return "of no search of this kind"
    told = [
        f"its {name} is {known.get(name)!r}, here {purpose[name]!r}"
        for name in purpose
        if name not in ("data", "params") and known.get(name) != purpose[name]
    ]
    before, now = known.get("params", {}), purpose["params"]
    told += [
        f"its estimator has {name}={before.get(name)}, here {now.get(name)}"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    ]
    if known.get("data") != purpose["data"]:
        told.append("its data are others")
    return "; ".join(told)


def _within(params: dict[str, Any], space: Any) -> dict[str, Any]:
    """Those parameters that a space has, with values that lie in it."""
    if callable(space):
        return params
    return {k: v for k, v in params.items() if k in space and _contains(space[k], v)}


def _hopeless(shared: SharedStudy, former: set[int]) -> str | None:
    """Why more trials are of no use: since the `former` ones, nothing but one failure was seen."""
    trials = [t for t in shared.finished() if t.number not in former]
    reasons = {t.user_attrs.get("reason") for t in trials}
    if len(trials) < 3 or len(reasons) > 1 or any(t.state != TrialState.FAIL for t in trials):
        return None
    return f"all of {len(trials)} trials failed alike: {reasons.pop()}"


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def _worth(trial: FrozenTrial) -> float:
    return float(np.mean(trial.user_attrs["scores"]))


def _copied(study: optuna.Study) -> optuna.Study:
    """A study in memory with the same trials."""
    copied = optuna.create_study(directions=study.directions, study_name=study.study_name)
    for name, value in study.user_attrs.items():
        copied.set_user_attr(name, value)
    copied.add_trials(study.get_trials())
    return copied


def _results(trials: list[FrozenTrial], job: Job) -> dict[str, Any]:
    """scikit-learn's `cv_results_`."""
    n_splits = len(job.folds)
    missing = [math.nan] * n_splits

    def column(name: str) -> NDArray[np.float64]:
        return np.array([t.user_attrs.get(name, missing) for t in trials], float)

    scores, fit, score = (column(n) for n in ("scores", "fit_seconds", "score_seconds"))
    # of one that did not end, not everything was drawn
    done = TrialState.COMPLETE
    params = [job.params(t) if t.state == done else t.params for t in trials]
    found: dict[str, Any] = {
        "mean_fit_time": fit.mean(1),
        "std_fit_time": fit.std(1),
        "mean_score_time": score.mean(1),
        "std_score_time": score.std(1),
    }
    for name in sorted({name for some in params for name in some}):
        values = np.ma.masked_all(len(params), dtype=object)
        for i, some in enumerate(params):
            if name in some:
                values[i] = some[name]
        found[f"param_{name}"] = values
    found["params"] = params
    for i in range(n_splits):
        found[f"split{i}_test_score"] = scores[:, i]
    mean = scores.mean(1)
    found["mean_test_score"], found["std_test_score"] = mean, scores.std(1)
    order = np.where(np.isnan(mean), np.inf, -mean)
    found["rank_test_score"] = pd.Series(order).rank(method="min").astype(int).to_numpy()
    found["trial"] = np.array([t.number for t in trials])
    found["state"] = np.array([t.state.name for t in trials])
    found["reason"] = np.array([t.user_attrs.get("reason", "") for t in trials], dtype=object)
    return found


class _Progress:
    """The line that shows how far a search is."""

    def __init__(self, shared: SharedStudy, n_trials: int | None, shown: bool) -> None:
        self._shared = shared
        self._bar = tqdm(
            total=n_trials,
            initial=len(shared.finished()),
            desc="search",
            unit="trial",
            disable=not shown,
        )

    def __enter__(self) -> _Progress:
        self.show()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def show(self) -> None:
        """The line as things are now."""
        trials = self._shared.finished()
        states = [t.state for t in trials]
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        told = {"pruned": states.count(TrialState.PRUNED), "failed": states.count(TrialState.FAIL)}
        best = f"{max(map(_worth, complete)):.4g}" if complete else "none"
        self._bar.n = len(trials)
        self._bar.set_postfix({"best": best} | {k: n for k, n in told.items() if n})


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Optuna's log would break the progress line."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
