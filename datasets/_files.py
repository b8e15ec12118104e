"""Text files that may be gzipped."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["file_kind", "is_compressed", "open_binary", "open_text"]


def is_compressed(path: Path) -> bool:
    """Whether the suffix of a file name says that the file is compressed."""
    return path.suffix.lower() in (".gz", ".bgz")


def file_kind(path: Path) -> str:
    """Return the suffix of a file name in lower case, ignoring .gz or .bgz.

    Examples
    --------
    >>> file_kind(Path("a.GFF3.gz")), file_kind(Path("b.fa"))
    ('.gff3', '.fa')
    """
    return (Path(path.stem) if is_compressed(path) else path).suffix.lower()


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, gzipped or plain (its content decides, not its name).

    Raises
    ------
    ValueError
        If it is a folder, or what is gzipped is truncated or damaged.
    """
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; give a file")
    with path.open("rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
    how: Any = gzip.open if gzipped else open
    with how(path, "rb") as file:
        try:
            yield file
        except EOFError as error:
            raise ValueError(f"{path.name} is truncated; download or compress it again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path.name} is damaged ({error}); download or compress it again"
            ) from error


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file, gzipped or plain (its content decides), with or without a byte-order mark.

    Raises
    ------
    ValueError
        If it is a folder, not text in UTF-8, or is truncated or damaged.
    """
    with open_binary(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path.name} is not in UTF-8 ({error}); save it as plain text"
            ) from error
