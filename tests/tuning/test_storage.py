"""Journals of studies: what cannot be opened is named, and an unfinished line is dropped."""

from __future__ import annotations

import optuna
import pytest

from titans_ts.tuning.storage import open_storage


def study(path):
    return optuna.create_study(study_name="s", storage=open_storage(path), load_if_exists=True)


def missing_folder(tmp_path):
    return tmp_path / "none" / "journal"


def folder(tmp_path):
    return tmp_path


def no_name(tmp_path):
    return ""


def holding(content):
    def make(tmp_path):
        path = tmp_path / "journal"
        path.write_text(content)
        return path

    return make


@pytest.mark.parametrize(
    "make",
    [
        missing_folder,
        folder,
        no_name,
        holding("one\ntwo\nthree\n"),
        holding('{"op_code": 99, "worker_id": "a"}\n'),
        holding("7\n"),
        holding('"op_code"\n'),
    ],
)
def test_a_journal_that_cannot_be_opened_is_named(make, tmp_path):
    path = make(tmp_path)
    with pytest.raises(ValueError, match="storage is .*, which cannot be opened: .+") as error:
        open_storage(path)
    assert repr(str(path)) in str(error.value)


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_was_not_finished_is_dropped(cut, tmp_path):
    path = tmp_path / "journal"
    first = study(path)
    for _ in range(2):
        first.add_trial(optuna.create_trial(value=1.0))
    path.write_bytes(path.read_bytes()[:-cut])
    second = study(path)
    assert len(second.trials) == 1
    second.add_trial(optuna.create_trial(value=2.0))
    assert [t.value for t in study(path).trials] == [1.0, 2.0]


def test_nothing_is_written_after_the_half_line_of_another_process(tmp_path):
    path = tmp_path / "journal"
    living = study(path)
    living.add_trial(optuna.create_trial(value=1.0))
    with path.open("a") as file:
        file.write('{"op_code": 4, "worker')  # of a process that was killed
    living.add_trial(optuna.create_trial(value=2.0))
    assert [t.value for t in study(path).trials] == [1.0, 2.0]


def test_the_lock_of_a_killed_process_is_released_for_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    study("runs/journal")
    storage = open_storage("runs/journal")
    lock = storage._backend._lock
    lock.acquire()  # and the process is killed
    assert (tmp_path / "runs" / "journal.lock").stat()  # the age of the lock can be seen
    monkeypatch.setattr(lock, "grace_period", 1e-3)
    assert lock.acquire()
    lock.release()
