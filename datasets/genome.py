"""Genomes: FASTA files, plain or bgzipped, read with pyfaidx from any number of processes."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from titans_ts.datasets._messages import unknown_name
from titans_ts.datasets.alphabet import complement_bytes, mask_invalid
from titans_ts.datasets.fasta_index import IndexedFasta

__all__ = ["Genome"]


class Genome:
    r"""The contigs of a FASTA file, fetched by region.

    An index beside the file (`.fai`, and `.gzi` for a bgzipped file) is used and never overwritten. A
    missing index is built once: beside the file, or in the user's cache if that folder is read-only or
    only one of the two index files exists. A copy of the object, in another process or after a fork,
    opens its own file handle.

    Parameters
    ----------
    path : str or Path
        The file: FASTA, plain or compressed by bgzip.
    in_memory : bool
        Whether to hold all contigs in memory, one byte for each nucleotide (default False).
    pad_invalid : bool
        Whether letters outside IUPAC become "-" (no letter). By default (False) they are kept, and a
        model raises an error for them.

    Attributes
    ----------
    lengths : dict
        Nucleotides of each contig, in the order of the index (an index built here has the order of the
        file).
    path : Path
        Absolute path of the file.
    pad_invalid : bool
        The parameter `pad_invalid`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ModuleNotFoundError
        If pyfaidx is not installed (for bgzipped files also Biopython).
    PermissionError
        If an index can be written neither beside the file nor in the cache.
    ValueError
        If the file is not FASTA, has another compression, or does not fit its index.

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
        if not os.path.isfile(self.path):  # unlike Path's, not an error if letters were given
            named = str(path) if len(str(path)) < 300 else f"{str(path)[:100]}..."
            raise FileNotFoundError(f"path {named!r} is not a file; give a FASTA file")
        self.pad_invalid = pad_invalid
        self._file = IndexedFasta(self.path, allow_invalid=pad_invalid)
        self.lengths = self._file.lengths
        self._contigs: dict[str, bytes] | None = None
        if in_memory:
            self._contigs = {
                name: self._read(name, 0, length) for name, length in self.lengths.items()
            }

    def fetch(self, chrom: str, start: int, end: int, strand: str = "+") -> str:
        """Return the sequence of a region as it is in the file; for strand "-", its reverse complement.

        Parameters
        ----------
        chrom : str
            Name of a contig: the first word of its header.
        start, end : int
            The region, 0-based and half-open: `0 <= start < end <= length`.
        strand : {"+", "-", "."}
            The strand (default "+"); "." is the same as "+".

        Raises
        ------
        KeyError
            If the contig does not exist.
        ValueError
            If the region reaches beyond the contig, or the strand is not one of the three.
        """
        return self.fetch_bytes(chrom, start, end, strand).decode("latin-1")

    def fetch_bytes(self, chrom: str, start: int, end: int, strand: str = "+") -> bytes:
        """As :meth:`fetch`, but return bytes, one per letter, which is faster."""
        if chrom not in self.lengths:
            raise KeyError(self.no_contig(chrom))
        if not 0 <= start < end <= self.lengths[chrom]:
            raise ValueError(
                f"{chrom}:{start}-{end} is not a region of {chrom}, which has {self.lengths[chrom]} "
                "nucleotides; regions are 0-based and half-open"
            )
        if strand not in ("+", "-", "."):
            raise ValueError(f"strand is {strand!r}; it must be '+', '-' or '.'")
        if self._contigs is not None:
            letters = self._contigs[chrom][start:end]
        else:
            letters = self._read(chrom, start, end)
        return complement_bytes(letters) if strand == "-" else letters

    def no_contig(self, chrom: object) -> str:
        """Return the error message for a contig that is not in the file."""
        other = str(chrom).removeprefix("chr") if str(chrom).startswith("chr") else f"chr{chrom}"
        if other in self.lengths:
            return (
                f"contig {chrom!r} is not in {self.path.name}, which has {other!r}; rename the contigs "
                f"of one of them (rename={{{str(chrom)!r}: {other!r}, ...}})"
            )
        known = list(self.lengths)
        close = get_close_matches(str(chrom), known, n=20) or known[:20]
        return unknown_name("contig", chrom, close, f"{self.path.name} has {len(known)} in all.")

    def _read(self, chrom: str, start: int, end: int) -> bytes:
        letters = self._file.read(chrom, start, end)
        return mask_invalid(letters) if self.pad_invalid else letters
