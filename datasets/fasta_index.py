"""The index of a FASTA file (.fai, .gzi): its location, its construction and its check."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import os
import struct
import tempfile
import warnings
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np

from titans_ts.datasets._files import is_compressed
from titans_ts.datasets.atomic import atomic_paths

__all__ = ["IndexedFasta", "is_writable"]

_HEADERS = 1_000_000
"""Largest number of bytes between two contigs."""


class IndexedFasta:
    """A FASTA file and its index, read with pyfaidx; every process opens its own file handle.

    Parameters
    ----------
    path : Path
        The file, plain or compressed by bgzip.
    allow_invalid : bool
        Whether the lines of a contig may contain a space or ">".

    Attributes
    ----------
    lengths : dict
        Nucleotides of each contig, in the order of the index.

    Raises
    ------
    ModuleNotFoundError, PermissionError, ValueError
        As :class:`titans_ts.datasets.Genome`.
    """

    def __init__(self, path: Path, *, allow_invalid: bool) -> None:
        self.path = path
        self._index = _index_paths(path)
        self._handle: Any = None
        self._process = -1
        new = [index for index in self._index if not index.is_file()]
        try:
            built = self._index[0] in new
            self.lengths = {name: int(record.rlen) for name, record in self._records.items()}
            if not self.lengths:
                hint = (
                    "give a FASTA file"
                    if built
                    else f"or its index {self._index[0].name!r} is truncated"
                )
                raise ValueError(f"{str(path)!r} has no sequence; {hint}")
            self._check_index(built, allow_invalid)
        except BaseException:
            for index in new:
                if index.is_file():  # it would hide the cause from the next call
                    index.unlink()
            raise

    def read(self, chrom: str, start: int, end: int) -> bytes:
        """Return the letters of a region as they are in the file.

        Raises
        ------
        ValueError
            If the file has changed since the index was checked.
        """
        record = self._records[chrom]
        first, last = (_place(record, i) for i in (start, end - 1))
        letters = self._bytes(first, last + 1 - first).translate(None, b"\r\n")
        if len(letters) != end - start:
            raise ValueError(
                f"{self.path.name} has {len(letters)} letters at {chrom}:{start}-{end}; it has changed, "
                "or its lines contain blanks"
            )
        return letters

    def _open(self) -> Any:
        # After a fork, both processes would share one file position and read wrong bases.
        if self._handle is None or self._process != os.getpid():
            self._handle, self._process = _open(self.path, *self._index), os.getpid()
        return self._handle

    @property
    def _records(self) -> dict[str, Any]:
        """Each contig has `rlen` letters from byte `offset`, `lenc` in a line of `lenb` bytes."""
        records: dict[str, Any] = self._open().faidx.index
        return records

    def _check_index(self, built: bool, allow_invalid: bool) -> None:
        """Raise ValueError unless the index fits the whole file (only headers between contigs)."""
        records = sorted(self._records.items(), key=lambda item: item[1].offset)
        sample = set(np.linspace(0, len(records) - 1, min(len(records), 500)).astype(int).tolist())
        before, at, odd = None, "", False
        for i, (name, record) in enumerate([*records, (None, None)]):
            try:
                good = self._follows(before, name, record)
                if good and i in sample:
                    good = self._breaks(record)
                    tail = self._tail(name, record)
                    odd = built and not allow_invalid and bool(set(tail) & set(b"> "))
            except ValueError:
                good = False  # beyond the end, or not at the start of a block
            at = name or at
            if not good or odd:
                break
            before = record
        if odd:
            raise ValueError(
                f"{str(self.path)!r} cannot be read as FASTA: contig {at!r} has a space or a '>' "
                "in its lines; remove it"
            )
        if good:
            return
        if built:
            why = (
                _fault(self.path) or f"lines of contig {at!r} have unequal lengths or are not ASCII"
            )
            raise ValueError(f"{str(self.path)!r} cannot be read as FASTA: {why}")
        raise ValueError(
            f"the index {str(self._index[0])!r} does not fit {self.path.name!r} (at contig "
            f"{at!r}); delete it to rebuild it (or link the file from another folder)"
        )

    def _follows(self, before: Any, name: str | None, record: Any) -> bool:
        """Whether a contig directly follows the one before it (None: the file's start or end).

        Headers of empty contigs, which some indices leave out, may lie between them.
        """
        start = 0
        if before is not None:
            start = before.offset if before.rlen == 0 else _place(before, before.rlen - 1) + 1
        n = _HEADERS if record is None else record.offset - start
        if not 0 <= n <= _HEADERS or (record is not None and not _possible(record)):
            return False
        text = self._bytes(max(0, start - 1), n + (start > 0))
        if start > 0:
            end, text = text[:1], text[1:]
            if before.rlen and (end in (b"", b"\r", b"\n") or text[:1] not in (b"", b"\r", b"\n")):
                return False
        lines = [line for line in text.splitlines() if line.strip()]
        if before is None:
            lines = [line for line in lines if not line.startswith(b";")]
        if not all(line.startswith(b">") for line in lines):
            return False
        named = [b"", *lines][-1][1:].decode(errors="replace").split()[:1]
        return record is None or (len(text) == n and text[-1:] == b"\n" and named == [name])

    def _breaks(self, record: Any) -> bool:
        """Whether the first line of a contig has the width that the index gives."""
        if record.rlen <= record.lenc:
            return True
        return self._bytes(record.offset + record.lenc, record.lenb - record.lenc) in (
            b"\n",
            b"\r\n",
        )

    def _tail(self, name: Any, record: Any) -> bytes:
        """Return the last letters of a contig (at most 200)."""
        return self.read(name, max(0, record.rlen - 200), record.rlen) if record.rlen else b""

    def _bytes(self, start: int, n: int) -> bytes:
        """Return `n` bytes of the uncompressed file, from byte `start`."""
        faidx = self._open().faidx
        with faidx.lock:
            if is_compressed(self.path):
                from Bio.bgzf import make_virtual_offset

                blocks = faidx.gzi_index
                block = blocks[max(0, bisect_right(blocks, start, key=lambda b: b.ustart) - 1)]
                start = make_virtual_offset(block.cstart, start - block.ustart)
            faidx.file.seek(start)
            return bytes(faidx.file.read(n))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_process": -1}


def _place(record: Any, i: int) -> int:
    """Return the byte position of letter `i` (0-based) of a contig."""
    return int(record.offset + i + i // record.lenc * (record.lenb - record.lenc))


def _possible(record: Any) -> bool:
    """Whether the values of an index line are possible."""
    lines = record.rlen == 0 or (record.lenc > 0 and 0 <= record.lenb - record.lenc <= 2)
    return bool(record.rlen >= 0 and record.offset >= 0 and lines)


def _open(path: Path, index: Path, blocks: Path) -> Any:
    try:
        import pyfaidx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"a FASTA file needs pyfaidx ({error}): pip install 'titans-ts[genomics]'"
        ) from error
    built = not index.is_file()
    new = [at for at in (blocks, index) if not at.is_file()] if built else []
    try:
        with warnings.catch_warnings(), atomic_paths(new) as at:
            # File times mean nothing after a checkout; Genome compares the index with the file.
            warnings.filterwarnings(
                "ignore", message="(BGZF )?Index file .* is older than FASTA file"
            )
            return pyfaidx.Fasta(
                str(path),
                indexname=str(at.get(index, index)),
                gzi_indexname=str(at.get(blocks, blocks)),
                as_raw=True,
                rebuild=False,
                build_index=built,
            )
    except ImportError as error:
        raise ModuleNotFoundError(
            "a bgzipped FASTA file needs Biopython: pip install 'titans-ts[genomics]'"
        ) from error
    except pyfaidx.UnsupportedCompressionFormat as error:
        raise ValueError(
            f"{str(path)!r} is compressed, but not by bgzip; compress it again (gunzip, then bgzip)"
        ) from error
    except (
        pyfaidx.FastaIndexingError,
        EOFError,
        ValueError,
        RuntimeError,
        struct.error,
    ) as error:
        if built:
            try:
                why = _fault(path) or error
            except EOFError:
                why = "it is truncated; download or compress it again"
            raise ValueError(f"{str(path)!r} cannot be read as FASTA: {why}") from error
        raise ValueError(
            f"{str(path)!r}: its index {index.name!r} is unusable ({error}); delete it (and the "
            ".gzi file, if there is one) to rebuild it"
        ) from error
    except OSError as error:
        if "EOF marker" not in str(error):
            raise
        raise ValueError(
            f"{str(path)!r} lacks the block that ends a bgzipped file: it is truncated; download or "
            "compress it again"
        ) from error


def _fault(path: Path) -> str | None:
    """Return why a file is not FASTA and how to fix it; None if it is FASTA."""
    names: set[str] = set()
    width = odd = 0  # bytes of a contig's first line; number of a line of another length
    before = ""
    with gzip.open(path) if is_compressed(path) else path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1 and raw.startswith(codecs.BOM_UTF8):
                return "it begins with a byte-order mark; save it as UTF-8 without one"
            try:
                line = raw.decode().rstrip()
            except UnicodeDecodeError:
                return f"line {number} is not in UTF-8; save the file as plain text in UTF-8"
            if line.startswith(">"):
                name = "".join(line[1:].split()[:1])
                if not name or name in names:
                    what = f"names {name!r} again" if name else "is a header without a name"
                    return f"line {number} {what}; give every contig a name of its own"
                names.add(name)
                width = odd = 0
            elif not names:
                if line and not line.startswith(";"):
                    return f"line {number} is {line[:40]!r}; a header, '>' and a name, comes first"
            elif odd and not (line and before):
                return f"line {number if before else odd} is blank; remove blank lines"
            elif odd:
                return (
                    f"line {odd} is not as long as the first of its contig; give all lines but the last "
                    "the same length (seqkit seq -w 60)"
                )
            else:
                width = width or len(raw)
                odd = 0 if line and len(raw) == width else number
            before = line
    return None if names else "it has no sequence; give a FASTA file"


def _index_paths(path: Path) -> tuple[Path, Path]:
    """Return the paths of the two index files, which may not exist yet."""
    beside = Path(f"{path}.fai"), Path(f"{path}.gzi")
    there = [at.is_file() for at in (beside if is_compressed(path) else beside[:1])]
    if all(there) or (not any(there) and is_writable(path.parent)):
        return beside  # a single index file may belong to another FASTA file, and is not used
    import pooch

    stat = path.stat()
    key = f"{path.resolve()}-{stat.st_size}-{stat.st_mtime_ns}"
    folder = Path(pooch.os_cache("titans-ts")) / "fasta" / hashlib.sha256(key.encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"the index of {path.name!r} can be written neither beside it nor in {str(folder)!r} "
            f"({error}); set XDG_CACHE_HOME to a writable folder"
        ) from error
    return folder / beside[0].name, folder / beside[1].name


def is_writable(folder: Path) -> bool:
    """Whether a file can be created in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
