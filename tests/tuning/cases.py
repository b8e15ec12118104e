"""Estimators small enough to search for their parameters in a test, and what other processes run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from sklearn.base import BaseEstimator, RegressorMixin

from tests.support import random_dna, small_dna_settings, small_settings
from titans_ts import TitansClassifier, TitansForecaster, TitansSearch
from titans_ts.tuning.shared_study import SharedStudy
from titans_ts.tuning.storage import open_storage

SIZES = {"d_model": 8, "n_heads": 1, "max_epochs": 2, "learning_rate": 3e-3}
SMALL = small_settings(**SIZES)
RATES = {"learning_rate": FloatDistribution(1e-3, 1e-2, log=True)}
PLACES = {"x": FloatDistribution(0, 1)}
ROWS = np.zeros((10, 1)), np.zeros(10)


def forecaster(**params):
    short = {"prediction_length": 2, "context_length": 8, "patch_length": 4, "patch_stride": 4}
    return TitansForecaster(**short | SMALL | params)


def classifier(**params):
    return TitansClassifier(**small_dna_settings(**SIZES) | params)


def search(estimator=None, space=RATES, **params):
    quick = {"n_trials": 2, "random_state": 0, "progress_bar": False}
    return TitansSearch(estimator or forecaster(), space, **quick | params)


def wave(n_rows=80):
    return np.sin(np.arange(n_rows) / 3) + np.arange(n_rows) / 50


def sequences(n=30):
    return random_dna(n, (8, 16))


class Probe(RegressorMixin, BaseEstimator):
    """Scores -(x - 0.3)^2, and writes down that it was fitted; `hold` (a file) stops the third fit."""

    def __init__(self, x=0.5, log=None, hold=None):
        self.x = x
        self.log = log
        self.hold = hold

    def fit(self, X, y=None):
        self.n_features_in_ = 1
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{self.x!r}\n")
            while self.hold and Path(self.hold).exists() and len(fitted(self.log)) == 3:
                time.sleep(0.01)
        return self

    def predict(self, X):
        return np.full(len(X), self.x)

    def score(self, X, y=None):
        return -((self.x - 0.3) ** 2)


class CountingStorage(optuna.storages.InMemoryStorage):
    """A storage that counts how often all trials are read."""

    n_reads = 0

    def get_all_trials(self, *args, **kwargs):
        self.n_reads += 1
        return super().get_all_trials(*args, **kwargs)


class Mended:
    """A scorer that fails as long as a file is there."""

    def __init__(self, cause):
        self.cause = cause

    def __call__(self, estimator, X, y=None):
        if Path(self.cause).exists():
            raise ValueError("it is not mended")
        return estimator.score(X, y)


def fitted(log):
    """What :class:`Probe` has written down."""
    return [float(line) for line in Path(log).read_text().split()] if Path(log).exists() else []


def probe_search(*, log=None, hold=None, space=PLACES, **params):
    """A search whose trials cost nothing."""
    return search(Probe(log=log, hold=hold), space, **params)


def claim_all(storage, name, out):
    """Run the waiting trials of a study, and write down their numbers."""
    study = optuna.load_study(study_name=name, storage=open_storage(storage))
    shared, numbers = SharedStudy(study, "random"), []
    while (trial := shared.pop_waiting_trial()) is not None:
        numbers.append(trial.number)
        shared.tell(trial, [trial.suggest_float("x", 0, 1)])
    Path(out).write_text(" ".join(map(str, numbers)))


def run_search(method, params):
    """Call `fit` or `run_worker` of :func:`probe_search`."""
    getattr(probe_search(**params), method)(*ROWS)


def gone_process():
    """The number of a process that has ended."""
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(pid, 0)
    return pid
