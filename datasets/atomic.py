"""The one way to write a file: aside, and renamed when it is whole. Nobody ever reads half of one.

An error or a kill leaves the former file (or directory) or the new one. What a kill leaves aside is
named ".aside-...", in the folder of the file.
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
"""Beginning of the names of files that are not whole yet."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end of the block if nothing was raised.

    Parameters
    ----------
    path : str or Path
        The file; a former one is replaced, and its folder is made if it is missing.

    Yields
    ------
    Path
        Where to write. Its name ends as that of `path`.
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
    """As :func:`atomic_path`, for several files of one folder, which appear together.

    Yields
    ------
    dict
        Where to write each file; one that is not written is left out.
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
    """As :func:`atomic_path`, for a directory: yields a new empty one, which becomes `path`."""
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
    """Write a file whole or not at all; its folder is made if it is missing.

    Parameters
    ----------
    path : str or Path
        The file; a former one is replaced.
    content : bytes
        What it holds.
    """
    with atomic_path(path) as aside:
        aside.write_bytes(content)
