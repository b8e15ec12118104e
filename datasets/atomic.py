"""Atomic writing: a file is written under a temporary name and renamed when it is complete.

After an error or a kill, either the former file (or directory) or the new one exists. A kill may leave
a temporary file named ".aside-..." in the same folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ASIDE", "atomic_directory", "atomic_path", "atomic_paths", "replace_file"]

ASIDE = ".aside-"
"""Prefix of the temporary names of incomplete files."""


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
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{ASIDE}{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def atomic_paths(paths: Sequence[Path]) -> Iterator[dict[Path, Path]]:
    """As :func:`atomic_path`, for several files of one folder, which are renamed together.

    Yields
    ------
    dict
        The temporary path of each file. Files that are not written are skipped.
    """
    if not paths:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=paths[0].parent) as folder:
        asides = {path: Path(folder) / path.name for path in paths}
        yield asides
        for path, aside in asides.items():
            if aside.is_file():
                aside.replace(path)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """As :func:`atomic_path`, for a directory: give a new empty one, which is renamed to `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{ASIDE}{path.name}-", dir=path.parent))
    try:
        (aside / "new").mkdir()
        yield aside / "new"
        if path.exists():
            path.rename(aside / "old")
        (aside / "new").rename(path)
    finally:
        if not path.exists() and (aside / "old").exists():
            (aside / "old").rename(path)
        shutil.rmtree(aside)


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
