"""Text files that may be gzipped."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO

__all__ = ["file_kind", "is_compressed", "open_text"]


def is_compressed(path: Path) -> bool:
    """Whether the name of a file says that it is compressed."""
    return path.suffix.lower() in (".gz", ".bgz")


def file_kind(path: Path) -> str:
    """The ending of a name in lower case, without what says that it is compressed.

    Examples
    --------
    >>> file_kind(Path("a.GFF3.gz")), file_kind(Path("b.fa"))
    ('.gff3', '.fa')
    """
    return (Path(path.stem) if is_compressed(path) else path).suffix.lower()


def open_text(path: Path) -> IO[str]:
    """A file to read text from, plain or gzipped."""
    return gzip.open(path, "rt") if is_compressed(path) else path.open()
