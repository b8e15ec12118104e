"""Studies that outlive a process, and studies of several processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from tests.support import wait_until
from tests.tuning.cases import (
    PLACES,
    ROWS,
    Mended,
    Probe,
    classifier,
    fitted,
    forecaster,
    gone_process,
    probe_search,
    run_search,
    search,
    wave,
)
from titans_ts.tuning import shared_study
from titans_ts.tuning.shared_study import SharedStudy
from titans_ts.tuning.storage import open_storage

STORAGES = ["sqlite", "journal", "postgresql"]


def trials_of(storage, name):
    return optuna.load_study(study_name=name, storage=open_storage(storage)).trials


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_a_resumed_study_has_the_trials_of_one_run(storage, study_name, tmp_path):
    log = tmp_path / "log"
    settings = {"storage": storage, "study_name": study_name, "log": log}
    first = probe_search(n_trials=3, **settings).fit(*ROWS)
    assert len(fitted(log)) == 3 + 1  # and the best one on everything
    more = probe_search(n_trials=5, **settings).fit(*ROWS)
    assert len(fitted(log)) == 4 + 2 + 1
    assert more.cv_results_["params"][:3] == first.cv_results_["params"]
    assert more.cv_results_["params"] == probe_search(n_trials=5).fit(*ROWS).cv_results_["params"]
    again = probe_search(n_trials=4, **settings).fit(*ROWS)  # there is nothing left to do
    assert len(fitted(log)) == 7 + 1
    assert again.best_params_ == more.best_params_
    assert again.cv_results_["params"] == more.cv_results_["params"]


def test_a_study_keeps_the_folds_it_began_with(tmp_path):
    seen = []

    def scoring(estimator, X, y):
        seen.append(X.ravel().tolist())
        return 0.0

    rows = np.arange(20.0)[:, None], np.zeros(20)
    for n_trials in (2, 4):
        probe_search(
            random_state=None, scoring=scoring, n_trials=n_trials, storage=tmp_path / "j"
        ).fit(*rows)
    assert len(seen) == 4
    assert seen[1:] == seen[:-1]


@pytest.mark.parametrize(
    "change",
    [
        {"scoring": "r2"},
        {"objectives": ("score", "latency")},
        {"cv": 3},
        {"estimator": classifier(), "space": {"model_options__dropout": PLACES["x"]}},
    ],
    ids=["scoring", "objectives", "folds", "estimator"],
)
def test_a_study_of_another_search_is_refused(change, tmp_path):
    settings = {"space": PLACES, "storage": tmp_path / "j", "study_name": "mine"}
    search(Probe(), **settings).fit(*ROWS)
    settings = {"estimator": Probe()} | settings | change
    X = ["ACGTACGT"] * 10 if "estimator" in change else ROWS[0]
    y = ["a", "b"] * 5 if "estimator" in change else ROWS[1]
    with pytest.raises(
        ValueError, match="study_name is 'mine', which belongs to another search; give another name"
    ):
        search(**settings).fit(X, y)


def test_a_study_that_no_search_created_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_study, "INITIALISATION_SECONDS", 0)
    study = optuna.create_study(study_name="mine", storage=open_storage(tmp_path / "j"))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
    with pytest.raises(ValueError, match="study_name is 'mine', which belongs to another search"):
        probe_search(storage=tmp_path / "j", study_name="mine").fit(*ROWS)


@pytest.mark.parametrize(
    ("data", "estimator", "message"),
    [
        ((ROWS[0], ROWS[1] + 1), Probe(), "it was created with different data"),
        (ROWS, Probe(x=0.9), r"its estimator has x=0.5, here 0.9"),
    ],
)
def test_a_study_with_different_data_or_estimator_is_refused(data, estimator, message, tmp_path):
    settings = {"storage": tmp_path / "j", "n_trials": 1}
    search(Probe(), PLACES, **settings).fit(*ROWS)
    with pytest.raises(ValueError, match=message):
        search(estimator, PLACES, **settings).fit(*data)
    search(Probe(), PLACES, **settings).fit(*(part.copy() for part in ROWS))


def test_a_pickled_search_needs_no_storage(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    found = probe_search(storage=storage, n_trials=3).fit(*ROWS)
    written = pickle.dumps(found)
    (tmp_path / "study.db").unlink()
    read = pickle.loads(written)
    assert len(read.study_.trials) == 3
    assert read.best_params_ == found.best_params_


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_resumes_after_the_cause_of_its_failures_is_fixed(tmp_path, n_jobs):
    cause = tmp_path / "cause"
    cause.touch()
    settings = {
        "storage": tmp_path / "j",
        "n_trials": 6,
        "n_jobs": n_jobs,
        "scoring": Mended(cause),
    }
    with pytest.raises(RuntimeError, match="failed for the same reason: .*it is not mended"):
        probe_search(**settings).fit(*ROWS)
    cause.unlink()
    states = probe_search(**settings).fit(*ROWS).cv_results_["state"].tolist()
    assert 3 <= states.count("FAIL") < 6
    assert states.count("COMPLETE") == 6 - states.count("FAIL")


def test_a_space_may_prune_a_trial(tmp_path):
    def half(trial):
        x = trial.suggest_float("x", 0, 1)
        if x > 0.5:
            raise optuna.TrialPruned
        return {"x": x}

    found = probe_search(space=half, n_trials=8).fit(*ROWS)
    states = set(found.cv_results_["state"])
    assert states == {"COMPLETE", "PRUNED"}
    assert found.best_params_["x"] <= 0.5


def test_an_empty_study_of_a_dead_process_is_initialised_again(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_study, "INITIALISATION_SECONDS", 0)
    storage = open_storage(tmp_path / "j")
    optuna.create_study(study_name="Probe", direction="maximize", storage=storage)
    found = probe_search(storage=tmp_path / "j", n_trials=3).fit(*ROWS)
    whole = probe_search(n_trials=3).fit(*ROWS)
    assert found.cv_results_["params"] == whole.cv_results_["params"]


def test_a_space_that_contradicts_the_study_is_refused(tmp_path):
    settings = {"storage": tmp_path / "j", "n_trials": 3}
    search(Probe(), {"x": CategoricalDistribution([0.1, 0.5])}, **settings).fit(*ROWS)
    with pytest.raises(
        ValueError, match=r"space\['x'\] is Float.*, but study 'Probe' was created with Cat"
    ):
        search(Probe(), PLACES, **settings).fit(*ROWS)
    found = search(Probe(), None, **settings | {"n_trials": 5}).fit(*ROWS)  # that of the study
    assert set(found.cv_results_["param_x"]) <= {0.1, 0.5}
    settings["study_name"] = "function"
    search(Probe(), lambda trial: {"x": trial.suggest_float("x", 0, 1)}, **settings).fit(*ROWS)
    with pytest.raises(
        ValueError, match="space is None, but study 'function' was created with a function"
    ):
        search(Probe(), None, **settings).fit(*ROWS)


def check_killed(storage, study_name, log, before):
    """What is true after a search of six trials that was killed in its third one, and run again."""
    after = fitted(log)[3:]
    killed = before[2]
    assert after[0] == killed  # tried again with its parameters, and before all others
    best = after[-1]  # fitted on everything
    assert set(before[:2]).isdisjoint(after[:-1])
    assert len(after) == 1 + 3 + 1
    trials = trials_of(storage, study_name)
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    failed = [t for t in trials if t.state == TrialState.FAIL]
    assert len(done) == 6
    assert sorted(t.params["x"] for t in done) == sorted([*before, *after[1:-1]])
    assert [(t.number, t.user_attrs["reason"]) for t in failed] == [(2, "its process died")]
    assert len(trials) == 7
    whole = probe_search(n_trials=6).fit(*ROWS)
    assert [*before, *after[1:-1]] == list(whole.cv_results_["param_x"])
    assert best == whole.best_params_["x"]


SCRIPT = """
import sys
from tests.tuning.cases import run_search

storage, log, hold = sys.argv[1:]
run_search("fit", {"n_trials": 6, "storage": storage, "study_name": "s", "log": log, "hold": hold})
"""


@pytest.mark.slow
def test_a_killed_command_resumes_when_it_is_run_again(tmp_path):
    log, hold = tmp_path / "log", tmp_path / "hold"
    storage = f"sqlite:///{tmp_path}/study.db"
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).parents[2]
    command = [sys.executable, tmp_path / "script.py", storage, log, hold]
    environment = os.environ | {"PYTHONPATH": str(root)}
    hold.touch()
    running = subprocess.Popen(command, env=environment)
    wait_until(lambda: len(fitted(log)) == 3)
    assert running.poll() is None
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    hold.unlink()
    before = fitted(log)
    assert trials_of(storage, "s")[2].state == TrialState.RUNNING
    subprocess.run(command, env=environment, check=True, timeout=120)
    check_killed(storage, "s", log, before)


@pytest.mark.parametrize("storage", ["journal", "postgresql"], indirect=True)
def test_a_killed_process_loses_no_trial(storage, study_name, processes, tmp_path):
    log, hold = tmp_path / "log", tmp_path / "hold"
    settings = {
        "n_trials": 6,
        "storage": storage,
        "study_name": study_name,
        "log": log,
        "hold": hold,
    }
    hold.touch()
    running = processes.Process(target=run_search, args=("fit", settings))
    running.start()
    wait_until(lambda: len(fitted(log)) == 3)
    running.kill()
    running.join()
    hold.unlink()
    before = fitted(log)
    probe_search(**settings).fit(*ROWS)
    check_killed(storage, study_name, log, before)


@pytest.mark.parametrize("storage", ["journal", "postgresql"], indirect=True)
def test_a_worker_runs_trials_of_another_process(storage, study_name, processes, tmp_path):
    log, hold = tmp_path / "log", tmp_path / "hold"
    settings = {
        "n_trials": 10,
        "storage": storage,
        "study_name": study_name,
        "log": log,
        "hold": hold,
    }
    hold.touch()  # the first process waits in its third trial until the other one has begun one
    first = processes.Process(target=run_search, args=("fit", settings))
    first.start()
    wait_until(lambda: len(fitted(log)) == 3)
    count = probe_search(**settings).run_worker(*ROWS)
    assert count >= 1
    first.join(60)
    assert first.exitcode == 0
    trials = trials_of(storage, study_name)
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 10
    pids = [t.user_attrs["owner"]["pid"] for t in trials]
    assert set(pids) == {first.pid, os.getpid()}
    assert pids.count(os.getpid()) == count
    xs = fitted(log)
    assert len(xs) == 10 + 1
    assert sorted(xs[:10]) == sorted(t.params["x"] for t in trials)
    assert probe_search(**settings).run_worker(*ROWS) == 0


def test_a_worker_without_a_study_raises(tmp_path):
    with pytest.raises(ValueError, match="study_name is 'Probe', and storage has no such study"):
        probe_search(storage=tmp_path / "j").run_worker(*ROWS)


def check_shared(found, log, n_trials):
    """What is true of a search by several processes of this machine, whose trials are all done."""
    assert found.cv_results_["state"].tolist() == ["COMPLETE"] * n_trials
    xs = found.cv_results_["param_x"].tolist()
    assert len(set(xs)) == n_trials
    assert set(fitted(log)) == set(xs)
    assert found.best_params_["x"] == min(xs, key=lambda x: abs(x - 0.3))
    assert os.getpid() not in {t.user_attrs["owner"]["pid"] for t in found.study_.trials}
    again = pickle.loads(pickle.dumps(found))  # though the file that they shared is gone
    assert len(again.study_.trials) == len(found.study_.trials)


def test_processes_of_one_search_run_every_trial_once(tmp_path):
    log = tmp_path / "log"
    sampler = optuna.samplers.RandomSampler(seed=0)  # each process draws something else
    found = probe_search(log=log, n_trials=6, n_jobs=2, sampler=sampler).fit(*ROWS)
    check_shared(found, log, 6)
    assert len(fitted(log)) == 6 + 1
    assert len(found.study_.trials) == 6
    with pytest.raises(
        RuntimeError, match="all of .* trials failed for the same reason: ValueError: Invalid par"
    ):
        probe_search(n_jobs=2, space=lambda trial: {"y": 0}, n_trials=50).fit(*ROWS)


class Dying(Probe):
    """Ends its process the first time it is fitted, as a system without memory does."""

    def fit(self, X, y=None):
        flag = Path(f"{self.log}.first")
        try:
            flag.unlink()
        except FileNotFoundError:
            return super().fit(X, y)
        os.kill(os.getpid(), signal.SIGKILL)
        return self


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:A worker stopped while some jobs were given")
def test_a_killed_worker_process_costs_no_trial(tmp_path):
    log = tmp_path / "log"
    Path(f"{log}.first").touch()
    found = search(Dying(log=log), PLACES, n_trials=8, n_jobs=2).fit(*ROWS)
    check_shared(found, log, 8)
    tried_again = [t for t in found.study_.trials if t.state == TrialState.FAIL]
    assert {t.user_attrs["reason"] for t in tried_again} == {"its process died"}
    assert 1 <= len(tried_again) <= 2  # those that ran at that moment
    assert len(fitted(log)) <= 8 + 1 + 1


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupted_search_resumes(at, tmp_path):
    calls = []

    def scoring(estimator, X, y):
        calls.append(estimator.x)
        if len(calls) == at:
            raise KeyboardInterrupt
        return -((estimator.x - 0.3) ** 2)

    settings = {"storage": tmp_path / "j", "n_trials": 14, "scoring": scoring}
    with pytest.raises(KeyboardInterrupt):
        probe_search(**settings).fit(*ROWS)
    found = probe_search(**settings).fit(*ROWS)
    assert calls[at] == calls[at - 1]
    assert len(calls) == 14 + 1
    whole = probe_search(n_trials=14).fit(*ROWS)
    assert found.cv_results_["params"] == whole.cv_results_["params"]
    assert found.best_index_ == whole.best_index_
    assert found.cv_results_["trial"][at - 1] == 14
    reasons = [t.user_attrs.get("reason") for t in found.study_.trials]
    assert reasons == [None] * (at - 1) + ["interrupted"] + [None] * (15 - at)


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_a_trial_that_was_taken_for_dead_does_not_stop_the_search(ends, tmp_path):
    storage = tmp_path / "j"
    calls = []

    def scoring(estimator, X, y):
        calls.append(estimator.x)
        if len(calls) == 2:  # as if this machine had slept, and another one had noticed
            study = optuna.load_study(study_name="Probe", storage=open_storage(storage))
            other = SharedStudy(study)
            (running,) = (t for t in other.trials() if t.state == TrialState.RUNNING)
            owner = running.user_attrs["owner"] | {"pid": gone_process()}
            study._storage.set_trial_user_attr(running._trial_id, "owner", owner)
            other.requeue_stale_trials()
            if ends == "badly":
                raise MemoryError
        return -((estimator.x - 0.3) ** 2)

    found = probe_search(storage=storage, n_trials=4, scoring=scoring).fit(*ROWS)
    assert found.cv_results_["state"].tolist() == ["COMPLETE"] * 4
    assert calls[2] == calls[1]
    assert len(calls) == 5
    assert found.study_.trials[1].user_attrs["reason"] == "its process died"


def test_interrupted_training_resumes_to_the_same_trials(tmp_path, monkeypatch):
    settings = {"n_trials": 6, "refit": False, "estimator": forecaster(max_epochs=3)}
    whole = search(**settings).fit(wave())
    calls = []
    should_prune = optuna.trial.Trial.should_prune

    def stop_or_prune(trial):
        calls.append(trial.number)
        if len(calls) in (5, 9):
            raise KeyboardInterrupt
        return should_prune(trial)

    monkeypatch.setattr(optuna.trial.Trial, "should_prune", stop_or_prune)
    handler = signal.getsignal(signal.SIGINT)
    for _ in range(2):
        with pytest.raises((KeyboardInterrupt, SystemExit)):  # Lightning turns one into the other
            search(**settings, storage=tmp_path / "j").fit(wave())
        signal.signal(signal.SIGINT, handler)
    found = search(**settings, storage=tmp_path / "j").fit(wave())
    assert len(found.study_.trials) == 6 + 2
    for name in ("state", "param_learning_rate", "mean_test_score"):
        np.testing.assert_array_equal(found.cv_results_[name], whole.cv_results_[name])
    assert set(found.cv_results_["state"]) == {"COMPLETE", "PRUNED"}
