"""Atomic writing: a file is written under a temporary name and renamed when it is complete.

After an error or a kill, either the former file (or directory) or the new one exists. A kill may leave
a temporary file or directory named ".aside-..." in the same folder, which is removed when the same file
or directory is written again. On file systems that cannot exchange two directories in one step, a kill
between two renames leaves the former directory under that name, until it is read or written again.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from titans_ts.datasets.exchange import exchange, has_ended, hold, is_held

__all__ = [
    "ASIDE",
    "atomic_directory",
    "atomic_path",
    "atomic_paths",
    "replace_file",
    "restore_directory",
]

ASIDE = ".aside-"
"""Prefix of the temporary names of incomplete files."""

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""This machine: processes of others may write to the same folder."""

_SPACE = "free some space, or give a path on another disk"
_RIGHTS = "allow writing to its folder, or give another path"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _SPACE),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _RIGHTS),
}

_TRIES = 10
"""Number of attempts to put a directory into a place where other processes put theirs."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path, which is renamed to `path` at the end of the block if nothing was raised.

    Parameters
    ----------
    path : str or Path
        The file. An existing file is replaced, and a missing folder is created.

    Yields
    ------
    Path
        The temporary path. Its name ends with the name of `path`.
    """
    path = Path(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(path)
        try:
            yield aside
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Let an error of the disk name the path that was to be written, and a remedy."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        own = any(ASIDE in name or Path(name) in (path, *path.parents) for name in names)
        if remedy is None or (names and not own):
            raise
        reason = error.strerror or "an error of the disk"
        raise OSError(
            error.errno, f"{str(path)!r} cannot be written ({reason}); {remedy}"
        ) from error


def _aside(path: Path) -> Path:
    """Return a temporary path for a file, after those of dead processes are removed."""
    _remove_dead(path)
    return path.with_name(f"{ASIDE}{_HOST}-{os.getpid()}-{threading.get_ident()}-{path.name}")


def _remove_dead(path: Path) -> None:
    """Remove the temporary files of a path whose processes, of this machine, were killed."""
    for aside in path.parent.glob(f"{ASIDE}{_HOST}-*-{glob.escape(path.name)}"):
        process, _, rest = aside.name.removeprefix(f"{ASIDE}{_HOST}-").partition("-")
        if not process.isdecimal() or rest.partition("-")[2] != path.name:
            continue
        if has_ended(int(process)):
            aside.unlink(missing_ok=True)


@contextmanager
def atomic_paths(paths: Sequence[Path]) -> Iterator[dict[Path, Path]]:
    """As :func:`atomic_path`, for several files, which are renamed one after the other at the end.

    Yields
    ------
    dict
        The temporary path of each file. Files that are not written are skipped.
    """
    asides = {path: _aside(path) for path in paths}
    try:
        yield asides
        for path, aside in asides.items():
            if aside.is_file():
                aside.replace(path)
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """As :func:`atomic_path`, for a directory: give a new empty one, which is renamed to `path`.

    If `path` is a symbolic link, the directory that it leads to is replaced.
    """
    path = Path(path)
    path = path.resolve() if path.is_symlink() else path
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        restore_directory(path)
        prefix = f"{ASIDE}{path.name}-{_HOST}.{os.getpid()}."
        aside = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        with ExitStack() as stack:
            # another writer may remove it at the same time, as that of an ended one
            stack.callback(shutil.rmtree, aside, ignore_errors=True)
            stack.callback(os.close, hold(aside))
            (aside / "new").mkdir()
            yield aside / "new"
            _put(aside, path)


def restore_directory(path: Path) -> None:
    """Finish what processes that were killed within :func:`atomic_directory` left undone.

    A directory that was moved aside comes back, unless there is another one by now, and the temporary
    directories of dead processes are removed.
    """
    form = re.compile(
        r"(?:([0-9a-f]{8})\.(\d+)\.)?\w{8}"
    )  # without a process: an earlier version's
    for aside in sorted(path.parent.glob(f"{glob.escape(ASIDE + path.name)}-*")):
        found = form.fullmatch(aside.name.removeprefix(f"{ASIDE}{path.name}-"))
        if found is None or is_held(aside, int(found[2]) if found[1] == _HOST else None):
            continue
        with suppress(OSError):  # another process may be faster
            if not path.exists():
                (aside / "old").rename(path)
        shutil.rmtree(aside, ignore_errors=True)


def _put(aside: Path, path: Path) -> None:
    """Rename `aside/new` to `path`; a directory there is exchanged with it, in one step if possible."""
    for _ in range(_TRIES):  # another process may put its own directory there, or take it away
        with suppress(OSError):
            (aside / "new").rename(path)
            return
        if exchange(aside / "new", path):
            return
        old = aside / "old"
        with suppress(FileNotFoundError):
            path.rename(old)
        try:
            (aside / "new").rename(path)
            return
        except OSError as error:
            last = error
        with suppress(OSError):
            if path.exists():  # another process has put a newer one there
                shutil.rmtree(old)
            else:
                old.rename(path)
    raise last


def replace_file(path: str | Path, content: bytes) -> None:
    """Write a file completely or not at all; a missing folder is created.

    Parameters
    ----------
    path : str or Path
        The file. An existing file is replaced.
    content : bytes
        Content of the file.
    """
    with atomic_path(path) as aside:
        aside.write_bytes(content)
