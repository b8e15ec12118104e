"""Genomes: FASTA files read through pyfaidx, plain or bgzipped, from any number of processes."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import os
import re
import struct
import tempfile
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from titans_ts.datasets._files import is_compressed
from titans_ts.datasets._messages import unknown_name

__all__ = ["Genome", "reverse_complement"]

_OTHER = re.compile("[^ACGTURYSWKMBDHVNacgturyswkmbdhvn-]")
_PAIRS = str.maketrans("ACGTURYSWKMBDHVNacgturyswkmbdhvn", "TGCAAYRSWMKVHDBNtgcaayrswmkvhdbn")


def reverse_complement(sequence: str) -> str:
    """The other strand of a DNA sequence, read in its own direction; case stays with its nucleotide.

    Parameters
    ----------
    sequence : str
        IUPAC letters of any case; what is none (such as "-") stays as it is.

    Examples
    --------
    >>> reverse_complement("ACGTn-R")
    'Y-nACGT'
    """
    return sequence[::-1].translate(_PAIRS)


class Genome:
    r"""The contigs of a FASTA file, fetched by place.

    An index beside the file (`.fai`, and `.gzi` of a bgzipped one) is used as it is, and never written
    over; without one it is built once, beside the file or, where nothing can be written there, in the
    user's cache. A copy of the object, in another process or after a fork, opens the file for itself.

    Parameters
    ----------
    path : str or Path
        The file: FASTA, plain or compressed by bgzip.
    in_memory : bool
        Whether to hold all contigs in memory, a byte a nucleotide.
    pad_invalid : bool
        Whether letters outside IUPAC become "-", which models do not see; otherwise a model refuses them.

    Attributes
    ----------
    lengths : dict
        Nucleotides of each contig, in the order of the file.
    path : Path
        Where the file is.
    pad_invalid : bool
        As given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModuleNotFoundError
        If pyfaidx is not installed (for bgzipped files also Biopython).
    PermissionError
        If an index can be written neither beside it nor in the cache.
    ValueError
        If it is no FASTA file, is compressed otherwise, or its index is of another file, or not of all.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "small.fa"
    >>> _ = path.write_text(">one some words\nACGTAC\nGT\n>two\nTTTT\n")
    >>> genome = Genome(path)
    >>> genome.lengths
    {'one': 8, 'two': 4}
    >>> genome.fetch("one", 4, 8), genome.fetch("two", 0, 4, strand="-")
    ('ACGT', 'AAAA')
    """

    def __init__(
        self, path: str | Path, *, in_memory: bool = False, pad_invalid: bool = False
    ) -> None:
        self.path = Path(path).absolute()
        if not self.path.is_file():
            raise FileNotFoundError(f"path {str(path)!r} is no file; give a FASTA file")
        self.pad_invalid = pad_invalid
        self._index = _index_paths(self.path)
        self._handle: Any = None
        self._process = -1
        self._contigs: dict[str, NDArray[np.uint8]] | None = None
        new = [index for index in self._index if not index.is_file()]
        try:
            records = self._open().faidx.index
            self.lengths = {name: int(record.rlen) for name, record in records.items()}
            if not self.lengths:
                raise ValueError(f"{str(self.path)!r} has no sequence; give a FASTA file")
            self._check_index(built=self._index[0] in new)
        except BaseException:
            for index in new:
                if index.is_file():  # it would only hide the cause
                    index.unlink()
            raise
        if in_memory:
            self._contigs = {
                name: np.frombuffer(self._read(name, 0, length).encode("ascii"), np.uint8)
                for name, length in self.lengths.items()
            }

    def fetch(self, chrom: str, start: int, end: int, strand: str = "+") -> str:
        """The sequence of a place, as it is in the file, or its reverse complement for strand "-".

        Parameters
        ----------
        chrom : str
            Name of a contig: the first word of its header.
        start, end : int
            0-based and half-open, `0 <= start < end <= length`.
        strand : {"+", "-", "."}
            "." is "+".

        Raises
        ------
        KeyError
            If there is no such contig.
        ValueError
            If the place reaches beyond the contig, or the strand is another.
        """
        if chrom not in self.lengths:
            raise KeyError(self.no_contig(chrom))
        if not 0 <= start < end <= self.lengths[chrom]:
            raise ValueError(
                f"{chrom}:{start}-{end} is no place in {chrom}, which has {self.lengths[chrom]} "
                "nucleotides; places are 0-based and half-open"
            )
        if strand not in ("+", "-", "."):
            raise ValueError(f"strand is {strand!r}; it must be '+', '-' or '.'")
        if self._contigs is not None:
            sequence = self._contigs[chrom][start:end].tobytes().decode("ascii")
        else:
            sequence = self._read(chrom, start, end)
        return reverse_complement(sequence) if strand == "-" else sequence

    def no_contig(self, chrom: object) -> str:
        """What to say of a contig that is not in the file."""
        other = str(chrom).removeprefix("chr") if str(chrom).startswith("chr") else f"chr{chrom}"
        if other in self.lengths:
            return (
                f"contig {chrom!r} is not in {self.path.name}, which has {other!r}; rename the contigs "
                f"of one of them (rename={{{str(chrom)!r}: {other!r}, ...}})"
            )
        known = list(self.lengths)
        close = get_close_matches(str(chrom), known, n=20) or known[:20]
        return unknown_name("contig", chrom, close, f"{self.path.name} has {len(known)} in all.")

    def _read(self, chrom: str, start: int, end: int) -> str:
        sequence = str(self._open().faidx.fetch(chrom, start + 1, end))
        if len(sequence) != end - start:
            raise ValueError(
                f"{self.path.name} has {len(sequence)} letters at {chrom}:{start}-{end}; it has changed, "
                "or has blanks within its lines"
            )
        return _OTHER.sub("-", sequence) if self.pad_invalid else sequence

    def _open(self) -> Any:
        # A file opened before a fork shares its place with the other process: both read wrong bases.
        if self._handle is None or self._process != os.getpid():
            self._handle, self._process = _open(self.path, *self._index), os.getpid()
        return self._handle

    def _check_index(self, built: bool) -> None:
        """The index is of this file, and of all of it: contigs stand and break where it says."""
        records = self._open().faidx.index
        names = sorted(records, key=lambda name: records[name].offset)
        some = np.linspace(0, len(names) - 1, min(len(names), 500)).astype(int)
        for i in np.unique(some):
            name, following = names[i], [*names[i + 1 : i + 2], None][0]
            try:
                good = self._stands(records[name], name, following)
                length = records[name].rlen
                last = self._read(name, max(0, length - 200), length) if length else ""
            except (ValueError, IndexError, struct.error):
                good, last = False, ""  # beyond the end, or blocks that begin elsewhere
            if built and (not good or set(last) & set("> ")):
                raise ValueError(
                    f"{str(self.path)!r} cannot be read as FASTA: contig {name!r} has a space or a '>' "
                    "within its lines; remove it"
                )
            if not good:
                raise ValueError(
                    f"the index {str(self._index[0])!r} is not of {self.path.name!r}, or out of date "
                    f"(contig {name!r} stands elsewhere, or is not followed by what is); delete it, and "
                    "it is built anew"
                )

    def _stands(self, record: Any, name: str, following: str | None) -> bool:
        """Whether a contig stands behind its header, has lines of its width, and this one after it."""
        start = max(0, record.offset - 10_000)
        before = self._bytes(start, record.offset - start).rstrip(b"\r\n").rpartition(b"\n")[2]
        ending = record.lenb - record.lenc
        breaks = (record.rlen - 1) // record.lenc if record.rlen else 0
        first = self._bytes(record.offset + record.lenc, ending) if breaks else b"\n"
        end = record.offset + record.rlen + breaks * ending
        last = self._bytes(end - 1, 1)
        after = self._bytes(end, 10_000)
        return (
            _contig(before) == name
            and first in (b"\n", b"\r\n")
            and len(last) == 1
            and (record.rlen == 0 or after[:1] in (b"", b"\r", b"\n"))
            and _contig(after.strip().partition(b"\n")[0]) == following
        )

    def _bytes(self, start: int, n: int) -> bytes:
        """What stands at a place of the file, without compression."""
        faidx = self._open().faidx
        if is_compressed(self.path):
            from Bio.bgzf import make_virtual_offset

            blocks = faidx.gzi_index
            block = blocks[max(0, bisect_right(blocks, start, key=lambda b: b.ustart) - 1)]
            faidx.file.seek(make_virtual_offset(block.cstart, start - block.ustart))
        else:
            faidx.file.seek(start)
        return bytes(faidx.file.read(n))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_process": -1}


def _contig(header: bytes) -> str | None:
    """The name in a contig's header; None if it is none."""
    text = header.decode(errors="replace")
    return "".join(text[1:].split()[:1]) if text[:1] == ">" else None if not text else ""


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
        with warnings.catch_warnings(), _aside(new) as at:
            # whether an index is older says nothing after a checkout; Genome compares it with the file
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
            f"{str(path)!r} is compressed, but not by bgzip; compress it anew (gunzip, then bgzip)"
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
                why = "it is cut off; fetch or compress it anew"
            raise ValueError(f"{str(path)!r} cannot be read as FASTA: {why}") from error
        raise ValueError(
            f"{str(path)!r} cannot be read with its index {index.name!r} ({error}); delete that (and a "
            ".gzi beside it), and it is built anew"
        ) from error


@contextmanager
def _aside(files: list[Path]) -> Iterator[dict[Path, Path]]:
    """Where to write new files, which take their places together when all are whole."""
    if not files:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix=".index-", dir=files[0].parent) as folder:
        at = {file: Path(folder) / file.name for file in files}
        yield at
        for file, written in at.items():
            if written.is_file():
                written.replace(file)


def _fault(path: Path) -> str | None:
    """What of a file is no FASTA, and the mend."""
    names: set[str] = set()
    width = odd = 0  # bytes of a contig's first line; number of one of other length, or blank
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
                    f"line {odd} is not as long as the first of its contig; break all lines alike, but "
                    "for the last (seqkit seq -w 60)"
                )
            else:
                width = width or len(raw)
                odd = 0 if line and len(raw) == width else number
            before = line
    return None if names else "it has no sequence; give a FASTA file"


def _index_paths(path: Path) -> tuple[Path, Path]:
    """Where the two indices are, or are to be built."""
    beside = Path(f"{path}.fai"), Path(f"{path}.gzi")
    compressed = is_compressed(path)
    if beside[0].is_file() and (beside[1].is_file() or not compressed):
        return beside
    if not beside[0].is_file() and _writable(path.parent):
        return beside
    import pooch

    stat = path.stat()
    key = f"{path.resolve()}-{stat.st_size}-{stat.st_mtime_ns}"
    folder = Path(pooch.os_cache("titans-ts")) / "fasta" / hashlib.sha256(key.encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"the index of {path.name!r} can be written neither beside it nor in {str(folder)!r} "
            f"({error}); set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return folder / beside[0].name, folder / beside[1].name


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
