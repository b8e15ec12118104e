"""Storages of studies: a URL of a database, a journal file, or one of Optuna's own."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

__all__ = ["StorageLike", "open_storage", "temporary_journal"]

StorageLike: TypeAlias = str | Path | BaseStorage | None
"""A URL of a database, the path of a journal file, an Optuna storage, or None for memory."""

_Lock: TypeAlias = JournalFileOpenLock | JournalFileSymlinkLock

_SQLITE_TIMEOUT = 60.0
"""Seconds to wait for another process that writes to SQLite."""


def open_storage(storage: StorageLike) -> BaseStorage:
    """Open the storage of a study.

    Parameters
    ----------
    storage : str, Path, BaseStorage or None
        A URL of a database, the path of a journal file, one of Optuna's storages, or None for a new
        storage in memory.

    Raises
    ------
    ValueError
        If it is none of these, or a URL or a file that cannot be opened.
    """
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if isinstance(storage, BaseStorage):
        return storage
    if not isinstance(storage, (str, Path)):
        raise ValueError(
            f"storage is {storage!r}; give a URL such as 'sqlite:///study.db', the path of a journal "
            "file, an Optuna storage, or None for memory"
        )
    if "://" in str(storage):
        return _open_database(str(storage))
    return _open_journal(str(storage))


class _JournalFile(JournalFileBackend):
    """A journal to which no process writes after half a line, be it of a killed one or of a full disk."""

    def __init__(self, path: str, lock: _Lock) -> None:
        super().__init__(path, lock)
        self._path, self._own_lock = path, lock

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append whole lines, or none."""
        _drop_unfinished_line(self._path, self._own_lock)
        try:
            super().append_logs(logs)
        except OSError as error:
            _drop_unfinished_line(self._path, self._own_lock)
            raise OSError(
                error.errno,
                f"storage {self._path!r} cannot be written ({error.strerror or error}); free some space, "
                "or name another file",
            ) from error


def _open_journal(path: str) -> JournalStorage:
    try:
        if not path:
            raise FileNotFoundError("it has no name")
        # Optuna's lock is a link to the path, which a relative one would not lead to from its own folder:
        # after a kill, the next process would wait for ever
        path = os.path.abspath(path)
        # the default lock is a symbolic link, which few users of Windows may make
        lock = (JournalFileOpenLock if os.name == "nt" else JournalFileSymlinkLock)(path)
        _drop_unfinished_line(path, lock)
        return JournalStorage(_JournalFile(path, lock))
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
    ) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"storage is {path!r}, which cannot be opened: {reason} (delete a damaged journal, or name "
            "another file)"
        ) from error


def _drop_unfinished_line(path: str, lock: _Lock) -> None:
    """Cut a journal after its last whole line: a process may have been killed while it wrote."""
    if not os.path.exists(path) or _is_whole(path):
        return
    lock.acquire()
    try:
        if not _is_whole(path):  # or the process that wrote it has gone on
            with open(path, "rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()


def _is_whole(path: str) -> bool:
    """Return whether a journal ends with a whole line."""
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _open_database(url: str) -> RDBStorage:
    shown = url.partition("://")[0] + "://..."  # a URL that cannot be parsed may hold a password
    try:
        shown = make_url(url).render_as_string()
        is_sqlite = url.startswith("sqlite")
        options = {"connect_args": {"timeout": _SQLITE_TIMEOUT}} if is_sqlite else None
        storage = RDBStorage(url, options)
    except (ImportError, ValueError, SQLAlchemyError) as error:
        # of SQLAlchemy's, the first line: the others are SQL and a link
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"storage is {shown!r}, which cannot be opened: {reason} (check that it can be reached and "
            "written, and that the disk is not full)"
        ) from error
    if is_sqlite:  # it locks no rows: two processes that read before either writes would both claim
        event.listen(storage.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    weakref.finalize(storage, storage.engine.dispose)  # or its connections are left open
    return storage


@contextmanager
def temporary_journal() -> Iterator[str]:
    """Yield the path of a journal file for the processes of one search, and delete it afterwards."""
    with tempfile.TemporaryDirectory(prefix="titans-ts-") as folder:
        yield str(Path(folder) / "journal")
