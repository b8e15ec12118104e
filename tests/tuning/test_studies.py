"""Slots, owners and beats: what several processes rely on."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.storages._rdb.models import TrialModel
from optuna.trial import TrialState

from tests.tuning.cases import claim_all, gone_process, wait_until
from titans_ts.tuning import studies
from titans_ts.tuning.studies import SharedStudy, begun_elsewhere, open_storage, pruner_by_name

STORAGES = ["sqlite", "journal", "postgresql"]


def begin(storage=None, name=None, pruner=None, **options):
    study = optuna.create_study(
        study_name=name, storage=open_storage(storage), direction="maximize", pruner=pruner
    )
    return SharedStudy(study, **options)


def state(shared, number):
    return shared.trials()[number].state


def forge(shared, trial, **owner):
    """Say that a trial is another process's."""
    known = shared.trials()[trial.number].user_attrs["owner"]
    shared._storage.set_trial_user_attr(trial._trial_id, "owner", known | owner)


def die(shared, trial):
    forge(shared, trial, pid=gone_process())
    shared.revive()


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_two_that_take_turns_claim_every_slot_once(storage, study_name):
    one = begin(storage, study_name)
    one.add_slots(5, [{"x": 0.25}])
    study = optuna.load_study(study_name=study_name, storage=open_storage(storage))
    claimed = []
    for shared in itertools.cycle([one, SharedStudy(study, "random")]):
        trial = shared.claim()
        if trial is None:
            break
        claimed.append((trial.number, trial.suggest_float("x", 0, 1)))
        shared.tell(trial, [1.0])
    assert [number for number, _ in claimed] == [0, 1, 2, 3, 4]
    assert claimed[0][1] == 0.25
    assert 0.25 not in [x for _, x in claimed[1:]]
    assert [t.number for t in one.finished()] == [0, 1, 2, 3, 4]
    one.add_slots(5, [])
    assert one.claim() is None
    one.add_slots(6, [])
    assert one.claim().number == 5


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_processes_that_race_claim_every_slot_once(storage, study_name, processes, tmp_path):
    shared = begin(storage, study_name)
    shared.add_slots(12, [])
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
def test_two_that_read_a_database_at_once_do_not_claim_the_same(storage, study_name, monkeypatch):
    begin(storage, study_name).add_slots(2, [])
    find, both = TrialModel.find_or_raise_by_id, threading.Barrier(2)

    def find_and_wait(trial_id, session, for_update=False):
        found = find(trial_id, session, for_update)
        if for_update:
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.5)  # for the other one, which has to wait for us
        return found

    def claim(_):
        study = optuna.load_study(study_name=study_name, storage=open_storage(storage))
        return SharedStudy(study, "random").claim().number

    monkeypatch.setattr(TrialModel, "find_or_raise_by_id", staticmethod(find_and_wait))
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(claim, range(2))) == [0, 1]


def test_a_slot_that_another_one_takes_is_replaced():
    shared = begin()
    other, add, taken = SharedStudy(shared.study), shared._add_slot, []

    def add_and_lose(*args):
        add(*args)
        if not taken:
            taken.append(other.claim().number)

    shared._add_slot = add_and_lose
    assert shared.new().number == 1
    assert taken == [0]


@pytest.mark.parametrize("owner", [{"pid": None}, {"started": "earlier"}])
def test_a_trial_whose_process_is_gone_is_tried_again_with_its_parameters(owner):
    shared = begin()
    shared.add_slots(2, [{"x": 0.125}])
    trial = shared.claim()
    shared.revive()
    assert state(shared, 0) == TrialState.RUNNING  # ours lives
    drawn = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    forge(shared, trial, **owner | ({"pid": gone_process()} if "pid" in owner else {}))
    shared.revive()
    assert state(shared, 0) == TrialState.FAIL
    assert shared.trials()[0].user_attrs["reason"] == "its process died"
    assert shared.finished() == []
    again = shared.claim()
    assert again.number == 2  # before slot 1
    assert (again.suggest_float("x", 0, 1), again.suggest_float("y", 0, 1)) == drawn
    shared.tell(again, [1.0])
    shared.tell(shared.claim(), [2.0])
    assert [t.number for t in shared.finished()] == [2, 1]
    shared.add_slots(2, [])
    assert shared.claim() is None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
def test_a_process_that_has_ended_is_gone_even_if_nobody_noticed():
    child = subprocess.Popen(["sleep", "60"])
    began = studies._started(child.pid)
    assert began == studies._started(child.pid) != studies._started(os.getpid())
    child.kill()
    wait_until(lambda: studies._started(child.pid) is None)
    child.wait()
    assert studies._started(child.pid) is None


def test_parameters_to_try_outlive_a_process_that_died_before_it_drew_them():
    shared = begin()
    shared.add_slots(1, [{"x": 0.125}])
    die(shared, shared.claim())
    assert shared.claim().suggest_float("x", 0, 1) == 0.125


def test_a_trial_that_kills_every_process_fails_in_the_end():
    shared = begin()
    shared.add_slots(1, [])
    tries = 0
    while (trial := shared.claim()) is not None:
        tries += 1
        die(shared, trial)
    assert tries == 3
    (failed,) = shared.finished()
    assert failed.state == TrialState.FAIL
    assert failed.user_attrs["reason"] == "its process died"


def test_a_trial_that_is_given_back_may_be_interrupted_any_number_of_times():
    shared = begin()
    shared.add_slots(1, [])
    for _ in range(5):
        trial = shared.claim()
        x = trial.suggest_float("x", 0, 1)
        shared.give_back(trial)
    assert shared.trials()[0].user_attrs["reason"] == "interrupted"
    assert shared.trials()[5].state == TrialState.WAITING
    assert shared.claim().suggest_float("x", 0, 1) == x


@pytest.mark.parametrize("owner", [{}, {"host": "elsewhere"}, None])
def test_a_beat_that_stands_still_marks_a_dead_owner(owner, monkeypatch):
    monkeypatch.setattr(studies, "_GRACE", 0.2)
    shared = begin()
    shared.add_slots(1, [])
    if owner is None:  # it died between claiming the slot and signing it
        shared._storage.set_trial_state_values(shared.trials()[0]._trial_id, TrialState.RUNNING)
    else:
        forge(shared, shared.claim(), **owner)
    trial_id = shared.trials()[0]._trial_id
    for beat in range(1, 5):  # as long as it beats
        shared.revive()
        time.sleep(0.1)
        shared._storage.set_trial_user_attr(trial_id, "beat", beat)
    shared.revive()
    assert state(shared, 0) == TrialState.RUNNING
    time.sleep(0.3)
    shared.revive()
    assert state(shared, 0) == TrialState.FAIL
    assert shared.claim().number == 1


def test_the_owner_beats_while_its_trial_runs(monkeypatch):
    monkeypatch.setattr(studies, "_BEAT", 0.02)
    shared = begin()
    shared.add_slots(1, [])
    trial = shared.claim()
    with shared.beating(trial):
        time.sleep(0.2)
        assert shared.trials()[0].user_attrs["beat"] >= 2
        die(shared, trial)
        time.sleep(0.1)  # a beat that fails is no error
    beat = shared.trials()[0].user_attrs["beat"]
    time.sleep(0.1)
    assert shared.trials()[0].user_attrs["beat"] == beat


def test_what_was_taken_for_dead_is_told_in_vain():
    shared = begin()
    shared.add_slots(1, [])
    late = shared.claim()
    die(shared, late)
    shared.tell(late, [1.0])
    assert state(shared, 0) == TrialState.FAIL
    shared.give_back(late)
    assert [t.state for t in shared.trials()] == [TrialState.FAIL, TrialState.WAITING]
    shared.tell(shared.claim(), [2.0])
    assert [t.values for t in shared.finished()] == [[2.0]]


def run(shared, n_trials, interrupted=()):
    """A search whose score grows by x and falls by y, with the interruptions that are asked for."""
    shared.add_slots(n_trials, [])
    left = list(interrupted)

    def interrupt(trial, begun):
        if begun not in left:
            return False
        left.remove(begun)
        die(shared, trial) if begun % 2 else shared.give_back(trial)
        return True

    while (trial := shared.claim()) is not None:
        begun = studies._begun_as(shared.trials()[trial.number])
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
    return [(t.params, t.state, t.values, t.intermediate_values) for t in shared.finished()]


@pytest.mark.parametrize("pruner", ["asha", "median"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_was_interrupted_comes_to_the_same_trials(sampler, pruner):
    asked = {"sampler": sampler, "seed": 3}
    whole = run(begin(pruner=pruner_by_name(pruner), **asked), 24)
    shared = begin(pruner=pruner_by_name(pruner), **asked)
    interrupted = run(shared, 24, (0, 0, 3, 7, 8, 13, 14, 16, 19, 20, 23, 23))
    assert len(whole) == 24
    assert {state for _, state, _, _ in whole} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert interrupted == whole
    assert len(shared.trials()) > 24 + 5
    assert run(begin(sampler=sampler, seed=4), 3) != whole[:3]


@pytest.mark.parametrize("came", [True, False])
def test_who_did_not_begin_a_study_waits_for_its_slots(came, monkeypatch):
    monkeypatch.setattr(studies, "_PATIENCE", 5 if came else 0.2)
    shared = begin()
    assert "slots" not in shared.study.user_attrs
    timer = threading.Timer(0.3, shared.add_slots, (3, []))
    if came:
        timer.start()
    assert begun_elsewhere(shared.study) is came
    assert len(shared.trials()) == (3 if came else 0)
    if came:
        timer.join()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (5, r"storage is 5; give a URL such as 'sqlite:///study.db', or a file"),
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
    assert pruner_by_name(pruner) is pruner
    for wrong in ("ashen", None, 3):
        with pytest.raises(ValueError, match=r"pruner is .*; choose one of \['asha', 'hyperband'"):
            pruner_by_name(wrong)
    with pytest.raises(ValueError, match="sampler is 'tpa'; choose one of"):
        begin(sampler="tpa")
    sampler = optuna.samplers.GridSampler({"x": [0.5]})
    shared = begin(sampler=sampler)
    shared.add_slots(1, [])
    assert shared.claim().suggest_float("x", 0, 1) == 0.5
