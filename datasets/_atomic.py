"""Files are written aside and renamed: nobody ever reads half of one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all; its folder is made if it is missing.

    Parameters
    ----------
    path : str or Path
        The file; a former one is replaced.
    content : bytes
        What it holds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
