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


def junk(tmp_path):
    path = tmp_path / "journal"
    path.write_text("one\ntwo\nthree\n")
    return path


def unknown(tmp_path):
    path = tmp_path / "journal"
    path.write_text('{"op_code": 99, "worker_id": "a"}\n')
    return path


@pytest.mark.parametrize("make", [missing_folder, folder, no_name, junk, unknown])
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
