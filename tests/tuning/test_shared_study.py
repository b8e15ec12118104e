"""Waiting trials, owners and heartbeats of a study that several processes share."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.storages._rdb.models import TrialModel
from optuna.trial import TrialState

from tests.support import Clock, wait_until
from tests.tuning.cases import claim_all, gone_process
from titans_ts.tuning import shared_study
from titans_ts.tuning.owners import process_start
from titans_ts.tuning.shared_study import (
    SharedStudy,
    first_number,
    last_attempts,
    wait_until_initialised,
)
from titans_ts.tuning.storage import open_storage
from titans_ts.tuning.strategies import make_pruner

STORAGES = ["sqlite", "journal", "postgresql"]


def begin(storage=None, name=None, pruner=None, **options):
    study = optuna.create_study(
        study_name=name, storage=open_storage(storage), direction="maximize", pruner=pruner
    )
    return SharedStudy(study, **options)


def state(shared, number):
    return shared.trials()[number].state


def finished(shared):
    return last_attempts(shared.trials(), finished=True)


def forge(shared, trial, **owner):
    """Say that a trial is another process's."""
    known = shared.trials()[trial.number].user_attrs["owner"]
    shared.study._storage.set_trial_user_attr(trial._trial_id, "owner", known | owner)


def die(shared, trial):
    forge(shared, trial, pid=gone_process())
    shared.requeue_stale_trials()


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_two_processes_in_turn_take_every_trial_once(storage, study_name):
    one = begin(storage, study_name)
    one.enqueue_trials(5, [{"x": 0.25}])
    study = optuna.load_study(study_name=study_name, storage=open_storage(storage))
    claimed = []
    for shared in itertools.cycle([one, SharedStudy(study, "random")]):
        trial = shared.pop_waiting_trial()
        if trial is None:
            break
        claimed.append((trial.number, trial.suggest_float("x", 0, 1)))
        shared.tell(trial, [1.0])
    assert [number for number, _ in claimed] == [0, 1, 2, 3, 4]
    assert claimed[0][1] == 0.25
    assert 0.25 not in [x for _, x in claimed[1:]]
    assert [t.number for t in finished(one)] == [0, 1, 2, 3, 4]
    one.enqueue_trials(5, [])
    assert one.pop_waiting_trial() is None
    one.enqueue_trials(6, [])
    assert one.pop_waiting_trial().number == 5


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_processes_that_race_take_every_trial_once(storage, study_name, processes, tmp_path):
    shared = begin(storage, study_name)
    shared.enqueue_trials(12, [])
    outs = [tmp_path / f"out{i}" for i in range(2)]
    workers = [processes.Process(target=claim_all, args=(storage, study_name, out)) for out in outs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    claimed = [int(n) for out in outs for n in out.read_text().split()]
    assert sorted(claimed) == list(range(12))
    assert all(t.state == TrialState.COMPLETE for t in shared.trials())


@pytest.mark.parametrize("storage", ["sqlite", "postgresql"], indirect=True)
def test_two_processes_that_read_a_database_at_once_take_different_trials(
    storage, study_name, monkeypatch
):
    begin(storage, study_name).enqueue_trials(2, [])
    find, both = TrialModel.find_or_raise_by_id, threading.Barrier(2)

    def find_and_wait(trial_id, session, for_update=False):
        found = find(trial_id, session, for_update)
        if for_update:
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.5)  # for the other one, which has to wait for us
        return found

    def claim(_):
        study = optuna.load_study(study_name=study_name, storage=open_storage(storage))
        return SharedStudy(study, "random").pop_waiting_trial().number

    monkeypatch.setattr(TrialModel, "find_or_raise_by_id", staticmethod(find_and_wait))
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(claim, range(2))) == [0, 1]


def test_an_added_trial_that_another_process_takes_is_replaced(monkeypatch):
    shared = begin()
    other, add, taken = SharedStudy(shared.study), shared.study.add_trial, []

    def add_and_lose(trial):
        add(trial)
        if not taken:
            taken.append(other.pop_waiting_trial().number)

    monkeypatch.setattr(shared.study, "add_trial", add_and_lose)
    assert shared.add_trial().number == 1
    assert taken == [0]


@pytest.mark.parametrize("owner", [{"pid": None}, {"started": "earlier"}])
def test_a_trial_whose_process_is_gone_is_tried_again_with_its_parameters(owner):
    shared = begin()
    shared.enqueue_trials(2, [{"x": 0.125}])
    trial = shared.pop_waiting_trial()
    shared.requeue_stale_trials()
    assert state(shared, 0) == TrialState.RUNNING  # ours lives
    drawn = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    forge(shared, trial, **owner | ({"pid": gone_process()} if "pid" in owner else {}))
    shared.requeue_stale_trials()
    assert state(shared, 0) == TrialState.FAIL
    assert shared.trials()[0].user_attrs["reason"] == "its process died"
    assert finished(shared) == []
    again = shared.pop_waiting_trial()
    assert again.number == 2  # before trial 1
    assert (again.suggest_float("x", 0, 1), again.suggest_float("y", 0, 1)) == drawn
    shared.tell(again, [1.0])
    shared.tell(shared.pop_waiting_trial(), [2.0])
    assert [t.number for t in finished(shared)] == [2, 1]
    shared.enqueue_trials(2, [])
    assert shared.pop_waiting_trial() is None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
def test_a_zombie_process_has_ended():
    child = subprocess.Popen(["sleep", "60"])
    began = process_start(child.pid)
    assert began == process_start(child.pid) != process_start(os.getpid())
    child.kill()
    wait_until(lambda: process_start(child.pid) is None)
    child.wait()
    assert process_start(child.pid) is None


def test_enqueued_parameters_survive_a_process_that_died_before_it_drew_them():
    shared = begin()
    shared.enqueue_trials(1, [{"x": 0.125}])
    die(shared, shared.pop_waiting_trial())
    assert shared.pop_waiting_trial().suggest_float("x", 0, 1) == 0.125


def test_a_trial_whose_process_always_dies_fails_after_its_retries():
    shared = begin()
    shared.enqueue_trials(1, [])
    tries = 0
    while (trial := shared.pop_waiting_trial()) is not None:
        tries += 1
        die(shared, trial)
    assert tries == 3
    (failed,) = finished(shared)
    assert failed.state == TrialState.FAIL
    assert failed.user_attrs["reason"] == "its process died"


def test_a_requeued_trial_may_be_interrupted_any_number_of_times():
    shared = begin()
    shared.enqueue_trials(1, [])
    for _ in range(5):
        trial = shared.pop_waiting_trial()
        x = trial.suggest_float("x", 0, 1)
        shared.requeue(trial)
    assert shared.trials()[0].user_attrs["reason"] == "interrupted"
    assert shared.trials()[5].state == TrialState.WAITING
    assert shared.pop_waiting_trial().suggest_float("x", 0, 1) == x


@pytest.mark.parametrize("rival", [False, True])
def test_a_process_that_dies_before_it_wrote_its_name_is_noticed_at_once(rival, monkeypatch):
    """Its trial is tried again before the others; it was found by its heartbeat, after two minutes."""
    shared = begin()
    shared.enqueue_trials(3)
    taker = shared_study.this_process() | {"pid": gone_process()}
    with monkeypatch.context() as patch:
        patch.setattr(shared_study, "this_process", lambda: taker)
        patch.setattr(shared, "_begin", lambda waiting: pytest.fail("dies here"))
        with contextlib.suppress(pytest.fail.Exception):
            shared.pop_waiting_trial()
    if rival:  # a living process that saw the trial as waiting, and came too late
        stale = [optuna.trial.FrozenTrial(**vars_of(t)) for t in shared.trials()[:1]]
        stale[0].state = TrialState.WAITING
        assert shared.pop_waiting_trial(stale) is None
    assert state(shared, 0) == TrialState.RUNNING
    assert shared.requeue_stale_trials()
    again = shared.pop_waiting_trial()
    assert again.user_attrs["retry_of"] == 0


def vars_of(trial):
    """The arguments that make a copy of a trial."""
    return {
        "number": trial.number,
        "trial_id": trial._trial_id,
        "state": trial.state,
        "value": None,
        "datetime_start": None,
        "datetime_complete": None,
        "params": {},
        "distributions": {},
        "user_attrs": dict(trial.user_attrs),
        "system_attrs": {},
        "intermediate_values": {},
    }


@pytest.mark.parametrize("owner", [{}, {"host": "elsewhere"}, None])
def test_a_heartbeat_that_stands_still_marks_a_dead_owner(owner, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(shared_study, "monotonic", clock)
    shared = begin()
    shared.enqueue_trials(1, [])
    trial_id = shared.trials()[0]._trial_id
    if owner is None:  # it died after it took the trial and before it wrote its name
        shared.study._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    else:
        forge(shared, shared.pop_waiting_trial(), **owner)
    for beat in range(1, 5):  # longer than STALE_SECONDS, with a heartbeat in time
        shared.requeue_stale_trials()
        clock.now += shared_study.STALE_SECONDS - 1
        shared.study._storage.set_trial_user_attr(trial_id, "heartbeat", beat)
    shared.requeue_stale_trials()
    assert state(shared, 0) == TrialState.RUNNING
    clock.now += shared_study.STALE_SECONDS + 1
    assert shared.requeue_stale_trials()
    assert state(shared, 0) == TrialState.FAIL
    assert shared.pop_waiting_trial().number == 1


def test_the_owner_sends_heartbeats_while_its_trial_runs(monkeypatch):
    monkeypatch.setattr(shared_study, "HEARTBEAT_SECONDS", 0.001)
    shared = begin()
    shared.enqueue_trials(1, [])
    trial = shared.pop_waiting_trial()
    write, n_writes = shared.study._storage.set_trial_user_attr, itertools.count()
    n_begun = 0

    def counting(*args):
        nonlocal n_begun
        n_begun = next(n_writes) + 1
        write(*args)

    monkeypatch.setattr(shared.study._storage, "set_trial_user_attr", counting)
    with shared.heartbeat(trial):
        wait_until(lambda: shared.trials()[0].user_attrs.get("heartbeat", 0) >= 2)
        die(shared, trial)
        n_before = n_begun
        wait_until(lambda: n_begun >= n_before + 2)  # a heartbeat that fails raises no error
    assert "titans-ts heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_results_of_a_trial_that_was_taken_for_dead_are_ignored():
    shared = begin()
    shared.enqueue_trials(1, [])
    late = shared.pop_waiting_trial()
    die(shared, late)
    shared.tell(late, [1.0])
    assert state(shared, 0) == TrialState.FAIL
    shared.requeue(late)
    assert [t.state for t in shared.trials()] == [TrialState.FAIL, TrialState.WAITING]
    shared.tell(shared.pop_waiting_trial(), [2.0])
    assert [t.values for t in finished(shared)] == [[2.0]]


def run(shared, n_trials, interrupted=()):
    """A search whose score grows by x and falls by y, with the interruptions that are settings for."""
    shared.enqueue_trials(n_trials, [])
    left = list(interrupted)

    def interrupt(trial, begun):
        if begun not in left:
            return False
        left.remove(begun)
        die(shared, trial) if begun % 2 else shared.requeue(trial)
        return True

    while (trial := shared.pop_waiting_trial()) is not None:
        begun = first_number(shared.trials()[trial.number])
        if begun % 4 == 0 and interrupt(trial, begun):  # before anything was drawn
            continue
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        for step in range(1, 10):
            trial.report(x - y**2 + x * y * step / 10, step)
            if step == 4 and interrupt(trial, begun):
                break
            if trial.should_prune():
                shared.tell(trial, state=TrialState.PRUNED)
                break
        else:
            shared.tell(trial, [x - y**2 + x * y])
    assert len(shared.trials()) == n_trials + len(interrupted) - len(left)
    return [(t.params, t.state, t.values, t.intermediate_values) for t in finished(shared)]


@pytest.mark.parametrize("pruner", ["asha", "median"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_search_runs_the_same_trials(sampler, pruner):
    settings = {"sampler": sampler, "seed": 3}
    whole = run(begin(pruner=make_pruner(pruner), **settings), 24)
    shared = begin(pruner=make_pruner(pruner), **settings)
    interrupted = run(shared, 24, (0, 0, 3, 7, 8, 13, 14, 16, 19, 20, 23, 23))
    assert len(whole) == 24
    assert {state for _, state, _, _ in whole} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert interrupted == whole
    assert len(shared.trials()) > 24 + 5
    assert run(begin(sampler=sampler, seed=4), 3) != whole[:3]


@pytest.mark.parametrize("created", [True, False])
def test_a_process_waits_for_the_first_trials_of_a_study_that_another_creates(created, monkeypatch):
    clock, shared = Clock(), begin()

    def sleep(seconds):
        clock.now += seconds
        if created and clock.now > 1:
            shared.enqueue_trials(3, [])

    monkeypatch.setattr(shared_study, "monotonic", clock)
    monkeypatch.setattr(shared_study, "sleep", sleep)
    wait_until_initialised(shared.study)
    assert len(shared.trials()) == (3 if created else 0)
    limit = 1 if created else shared_study.INITIALISATION_SECONDS
    assert limit < clock.now < limit + 0.2


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (5, r"storage is 5; give a URL such as 'sqlite:///study.db', the path"),
        ("nonsense://here", "storage is 'nonsense://here', which cannot be opened: .*nonsense"),
        ("sqlite:////no/such/folder/x.db", "storage is 'sqlite:.*, which cannot be opened"),
        ("mysql://me:secret@host/db", r"storage is 'mysql://me:\*\*\*@host/db', which cannot"),
        ("post gres://me:secret@x", r"storage is 'post gres://\.\.\.', which cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named_without_its_password(storage, message):
    with pytest.raises(ValueError, match=message) as raised:
        open_storage(storage)
    assert "secret" not in str(raised.value)


def test_storages_and_pruners_of_optunas_are_taken_as_they_are(tmp_path):
    own = optuna.storages.InMemoryStorage()
    assert open_storage(own) is own
    assert isinstance(open_storage(tmp_path / "j"), optuna.storages.JournalStorage)
    pruner = optuna.pruners.NopPruner()
    assert make_pruner(pruner) is pruner
    for wrong in ("ashen", None, 3):
        with pytest.raises(ValueError, match=r"pruner is .*; choose one of \['asha', 'hyperband'"):
            make_pruner(wrong)
    with pytest.raises(ValueError, match="sampler is 'tpa'; choose one of"):
        begin(sampler="tpa")
    sampler = optuna.samplers.GridSampler({"x": [0.5]})
    shared = begin(sampler=sampler)
    shared.enqueue_trials(1, [])
    assert shared.pop_waiting_trial().suggest_float("x", 0, 1) == 0.5
