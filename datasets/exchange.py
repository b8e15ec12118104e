"""Exchange two directories in one step; mark a folder as that of a living process."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["exchange", "has_ended", "hold", "is_held"]

_LOCK = "lock"
_UNMARKED_SECONDS = 60.0
"""Age from which a folder without a mark belongs to no living process."""
_HERE, _EXCHANGE, _SWAP = -100, 2, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux' renameat2, and RENAME_SWAP of macOS' renamex_np."""


def exchange(one: Path, other: Path) -> bool:
    """Exchange two paths; return False if one is missing, or the system or file system cannot."""
    paths = os.fsencode(one), os.fsencode(other)
    with suppress(AttributeError, OSError):  # a C library without the function
        library = ctypes.CDLL(None)
        if sys.platform == "linux":
            return not library.renameat2(_HERE, paths[0], _HERE, paths[1], _EXCHANGE)
        if sys.platform == "darwin":
            return not library.renamex_np(*paths, _SWAP)
    return False


def hold(folder: Path) -> int:
    """Mark a folder as that of a living process; return a file descriptor to close at the end.

    The mark is a lock on a file, which the system takes away when the process ends.
    """
    unfinished = folder / f"{_LOCK}-unfinished"
    descriptor = os.open(unfinished, os.O_CREAT | os.O_RDWR)
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unfinished.rename(folder / _LOCK)  # a mark is never seen without its lock
    return descriptor


def has_ended(process: int) -> bool:
    """Return whether there is no process of this number on this machine; False if that is unknown."""
    if sys.platform == "win32":  # there os.kill would end the process
        return False
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's
        return False
    return False


def is_held(folder: Path, process: int | None = None) -> bool:
    """Return whether a folder may belong to a living process; True if the system has no locks.

    Parameters
    ----------
    folder : Path
        The folder.
    process : int, optional
        The process of this machine that created it, if that is known.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except (
        OSError
    ):  # its process has not marked it yet, or was killed before that, or after the end
        if process is not None and has_ended(process):
            return False
        with suppress(OSError):
            return time.time() - folder.stat().st_mtime < _UNMARKED_SECONDS
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
