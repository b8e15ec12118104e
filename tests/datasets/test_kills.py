"""Directories that processes were killed while they wrote: the former or the new one is there."""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from pathlib import Path

import pytest

from titans_ts.datasets import atomic
from titans_ts.datasets.atomic import atomic_directory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no os.fork")


def write(path, content):
    with atomic_directory(path) as folder:
        (folder / "x").write_text(content)


def killed(path, content, at):
    """Write in a process that ends, as if it was killed, before its `at`-th rename."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # other threads exist; none is used here
        process = os.fork()
    if process == 0:
        rename, calls = Path.rename, []

        def dying(self, target):
            calls.append(target)
            if len(calls) == at:
                os._exit(9)
            return rename(self, target)

        Path.rename = dying
        try:
            write(path, content)
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.fixture(params=[True, False], ids=["exchanged", "renamed twice"])
def _exchanges(request, monkeypatch):
    if not request.param:  # as on a file system that cannot
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)


@pytest.mark.usefixtures("_exchanges")
def test_a_kill_at_any_rename_leaves_the_former_or_the_new_directory(tmp_path):
    path = tmp_path / "model"
    statuses = []
    for at in range(2, 6):  # the first one marks the temporary folder
        write(path, "old")
        statuses.append(killed(path, "new", at))
        atomic.restore_directory(path)  # what reading and writing do first
        assert (path / "x").read_text() in ("old", "new")
        assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert 9 in statuses
    assert statuses[-1] == 0


def test_a_temporary_folder_without_a_mark_is_that_of_the_process_in_its_name(tmp_path):
    assert killed(tmp_path / "model", "new", 1) == 9  # before its folder was marked
    (aside,) = tmp_path.iterdir()
    mine = aside.name.replace(re.search(r"\.(\d+)\.", aside.name)[1], str(os.getpid()))
    elsewhere = re.sub(r"-\w{8}\.", "-00000000.", aside.name)
    other = aside.name.replace("-model-", "-model-2-")
    for name in (mine, elsewhere, other, ".aside-model-abcdefgh"):
        (tmp_path / name).mkdir()
    write(tmp_path / "model", "old")
    assert not aside.exists()
    # they may belong to living processes: of this machine, of another one, of an earlier version
    assert len(list(tmp_path.iterdir())) == 1 + 4
    for name in (mine, elsewhere, other, ".aside-model-abcdefgh"):
        os.utime(tmp_path / name, (0, 0))
    write(tmp_path / "model", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == [other, "model"]  # of another directory


def test_the_directory_of_a_living_process_is_left_alone(tmp_path):
    with atomic_directory(tmp_path / "model") as folder:
        write(tmp_path / "model", "other")
        (folder / "x").write_text("last")
    assert (tmp_path / "model" / "x").read_text() == "last"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.usefixtures("_exchanges")
def test_of_several_writers_the_last_one_wins(tmp_path):
    path, errors = tmp_path / "model", []

    def run(name):
        try:
            for i in range(30):
                write(path, f"{name} {i}")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (path / "x").read_text().endswith(" 29")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "x").read_text() == "new"


def test_the_temporary_file_of_a_killed_process_is_removed_when_the_file_is_written_again(tmp_path):
    path = tmp_path / "scores.bed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads exist; none is used
        process = os.fork()
    if process == 0:
        with atomic.atomic_path(path) as aside:
            aside.write_text("half")
            os._exit(9)
    os.waitpid(process, 0)
    (left,) = tmp_path.iterdir()
    with atomic.atomic_path(tmp_path / "other-scores.bed") as aside:
        aside.write_text("other")
    assert left.exists()  # another file's is left alone
    atomic.replace_file(path, b"new")
    assert path.read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other-scores.bed", "scores.bed"]
