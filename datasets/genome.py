"""Genomes: FASTA files read through pyfaidx, plain or bgzipped, from any number of processes."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from titans_ts.datasets._messages import unknown_name
from titans_ts.datasets.alphabet import complement_bytes, mask_invalid
from titans_ts.datasets.fasta_index import IndexedFasta

__all__ = ["Genome"]


class Genome:
    r"""The contigs of a FASTA file, fetched by place.

    An index beside the file (`.fai`, and `.gzi` for a bgzipped file) is used as it is, and never
    overwritten. Without one, it is built once: beside the file, or in the user's cache if that folder is
    read-only or only one of the two index files is there. A copy of the object, in another process or
    after a fork, opens the file for itself.

    Parameters
    ----------
    path : str or Path
        The file: FASTA, plain or compressed by bgzip.
    in_memory : bool
        Whether to hold all contigs in memory, one byte for each nucleotide (default False).
    pad_invalid : bool
        Whether letters outside IUPAC become "-" (no letter). By default they stay, and a model raises an
        error for them.

    Attributes
    ----------
    lengths : dict
        Nucleotides of each contig, in the order of the index (an index built here has the order of the
        file).
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
        If it is no FASTA file, has another compression, or its index does not fit the file.

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
        self._file = IndexedFasta(self.path, allow_invalid=pad_invalid)
        self.lengths = self._file.lengths
        self._contigs: dict[str, bytes] | None = None
        if in_memory:
            self._contigs = {
                name: self._read(name, 0, length) for name, length in self.lengths.items()
            }

    def fetch(self, chrom: str, start: int, end: int, strand: str = "+") -> str:
        """The sequence of a place as it is in the file; for strand "-", its reverse complement.

        Parameters
        ----------
        chrom : str
            Name of a contig: the first word of its header.
        start, end : int
            0-based and half-open, `0 <= start < end <= length`.
        strand : {"+", "-", "."}
            "." is the same as "+".

        Raises
        ------
        KeyError
            If there is no such contig.
        ValueError
            If the place reaches beyond the contig, or the strand is another.
        """
        return self.fetch_bytes(chrom, start, end, strand).decode("latin-1")

    def fetch_bytes(self, chrom: str, start: int, end: int, strand: str = "+") -> bytes:
        """As :meth:`fetch`, as bytes: one letter each, without the cost of a str."""
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
            letters = self._contigs[chrom][start:end]
        else:
            letters = self._read(chrom, start, end)
        return complement_bytes(letters) if strand == "-" else letters

    def no_contig(self, chrom: object) -> str:
        """The error message for a contig that is not in the file."""
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
