"""The cache of compiled libraries: only the user's own, complete files are loaded."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

import pytest

from tests.kernels.cases import COMPILED
from titans_ts.kernels.native import compiler

pytestmark = COMPILED

FORGOTTEN = (
    compiler._load,
    compiler._warn,
    compiler.unavailable,
    compiler._compiler,
    compiler._folder,
    compiler._temporary_folder,
)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The folder of the cache, a compiler that makes a tiny library, and nothing remembered."""
    real = shutil.which(compiler._compiler()[0])
    quick = tmp_path / "cc"
    quick.write_text(
        f'#!/bin/sh\necho call >> {tmp_path}/calls\nwhile [ "$1" != -o ]; do shift; done\n'
        f"echo 'int titans_answer(void) {{ return 42; }}' > {tmp_path}/quick.c\n"
        f'exec {real} -shared -fPIC -o "$2" {tmp_path}/quick.c\n'
    )
    quick.chmod(0o755)
    monkeypatch.setenv("CC", str(quick))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "titans-ts" / "compiled"
    monkeypatch.undo()
    forget()


def forget():
    for function in FORGOTTEN:
        function.cache_clear()


def calls(cache):
    return len((cache.parents[2] / "calls").read_text().splitlines())


def answer():
    forget()
    return compiler.library("FLOAT").titans_answer()


def test_a_library_is_compiled_once_and_belongs_to_the_user_alone(cache):
    assert answer() == answer() == 42
    assert calls(cache) == 1
    assert sorted(path.suffix for path in cache.iterdir()) == [".sha256", ".so"]
    assert cache.stat().st_mode & 0o777 == 0o700
    assert not any(path.stat().st_mode & 0o022 for path in cache.iterdir())


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path):
    path.write_bytes(b"")


def exchange(path):
    """A library whose constructor would run when it is loaded."""
    source = path.with_suffix(".c")
    source.write_text(
        "#include <stdlib.h>\n__attribute__((constructor)) static void run(void) { abort(); }\n"
    )
    compiler_path = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    subprocess.run([compiler_path, "-shared", "-fPIC", "-o", path, source], check=True)
    source.unlink()


def open_to_others(path):
    path.chmod(0o777)


def without_hash(path):
    path.with_suffix(".sha256").unlink()


@pytest.mark.parametrize("damage", [cut, empty, exchange, open_to_others, without_hash])
def test_what_is_damaged_or_foreign_is_made_again(cache, damage):
    assert answer() == 42
    (path,) = cache.glob("*.so")
    whole = path.stat().st_size
    path.rename(path.with_suffix(".old"))  # what is loaded stays as it is
    shutil.copy(path.with_suffix(".old"), path)
    damage(path)
    assert answer() == 42
    assert calls(cache) == 2
    assert path.stat().st_size == whole


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may chown")
@pytest.mark.parametrize("whose", ["file", "folder", "parent"])
def test_what_belongs_to_another_user_is_not_loaded(cache, whose):
    assert answer() == 42
    (path,) = cache.glob("*.so")
    os.chown({"file": path, "folder": cache, "parent": cache.parent}[whose], 65534, 65534)
    assert answer() == 42
    assert calls(cache) == 2
    own_folder = compiler._folder() == cache
    assert own_folder == (whose == "file")


def test_a_folder_in_one_that_anybody_may_write_is_not_used(cache):
    cache.mkdir(parents=True)
    cache.parent.chmod(0o777)
    assert answer() == 42
    assert compiler._folder() != cache
    assert not list(cache.iterdir())


def test_a_file_system_that_runs_no_files(cache, monkeypatch):
    load = ctypes.CDLL

    def noexec(path):
        if str(path).startswith(str(cache)):
            raise OSError("failed to map segment from shared object")
        return load(path)

    monkeypatch.setattr(compiler.ctypes, "CDLL", noexec)
    assert answer() == answer() == 42
    assert calls(cache) == 1


def test_a_compiler_whose_name_cannot_be_read(cache, monkeypatch):
    monkeypatch.setenv("CC", 'gcc "')
    forget()
    with pytest.warns(UserWarning, match=r"CC is 'gcc \"', which is no command \(No closing"):
        assert "CC is" in compiler.unavailable()
    with pytest.raises(RuntimeError, match="CC is"):
        compiler.library("FLOAT")
