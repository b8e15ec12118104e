"""Files and directories appear whole or not at all."""

from __future__ import annotations

import pytest

from titans_ts.datasets.atomic import atomic_directory, atomic_path, atomic_paths, replace_file


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "new" / "x.npy"
    replace_file(path, b"old")
    with atomic_path(path) as aside:
        aside.write_bytes(b"new")
        assert aside.suffix == ".npy"
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["x.npy"]


def test_an_error_leaves_the_former_file(tmp_path):
    replace_file(tmp_path / "x", b"old")

    def fail():
        with atomic_path(tmp_path / "x") as aside:
            aside.write_bytes(b"ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_several_files_appear_together_or_not_at_all(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]

    def fail():
        with atomic_paths(paths) as asides:
            asides[paths[0]].write_bytes(b"a")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert names(tmp_path) == []
    with atomic_paths(paths) as asides:
        asides[paths[0]].write_bytes(b"a")
    assert names(tmp_path) == ["a"]
    with atomic_paths([]) as asides:
        assert asides == {}


def test_an_error_leaves_the_former_directory(tmp_path):
    path = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_directory(path) as folder:
            (folder / content).write_text(content)
        assert names(path) == [content]
    with pytest.raises(OSError, match="full"), atomic_directory(path):
        raise OSError("the disk is full")
    assert names(path) == ["new"]
    assert names(tmp_path) == ["model"]
