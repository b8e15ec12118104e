"""Regions of a genome: BED and GFF files, and the sequences of regions as one lazy list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_ts.datasets._files import file_kind, open_text
from titans_ts.datasets._places import EMPTY, STRANDLESS, check_places, refuse_places
from titans_ts.datasets.alphabet import reverse_complement
from titans_ts.datasets.genome import Genome

__all__ = ["FastaRegions", "read_regions"]

_BED = ["chrom", "start", "end", "name", "score", "strand"]
_GFF = ["chrom", "source", "feature", "start", "end", "score", "strand", "frame", "attributes"]
_OUTSIDE = ("error", "pad", "drop")


def read_regions(path: str | Path) -> pd.DataFrame:
    """Read the regions of a BED, GFF or GTF file, plain or gzipped.

    Parameters
    ----------
    path : str or Path
        The file. A file with the suffix .gff, .gff3 or .gtf (also with .gz) is read as GFF, any other
        as BED.

    Returns
    -------
    DataFrame
        `chrom`, `start`, `end` (0-based, half-open), `strand` ("." if the file has none), and the other
        columns of the file: `name` and `score`, or `source`, `feature`, `score`, `frame` and
        `attributes`. Further columns of BED are named `column_6`, ....

    Raises
    ------
    ValueError
        If a line has too few columns, or a start or end that is not an integer; the message names the
        line.
    """
    path = Path(path)
    gff = file_kind(path) in (".gff", ".gff3", ".gtf")
    least, names = (9, _GFF) if gff else (3, _BED)
    lines = []
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if gff and line.startswith("##FASTA"):
                break
            first = line.split(None, 1)[0] if line.strip() else "#"
            if first.startswith("#") or (not gff and first in ("track", "browser")):
                continue
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) < least:
                raise ValueError(
                    f"line {number} of {path.name} has {len(fields)} columns separated by tabs; "
                    f"{'GFF' if gff else 'BED'} has at least {least}: give one"
                )
            start, end = fields[3:5] if gff else fields[1:3]
            if not (_is_position(start) and _is_position(end)):
                raise ValueError(
                    f"line {number} of {path.name} goes from {start!r} to {end!r}; "
                    "give whole numbers (of at most 18 digits) as positions"
                )
            if gff and int(start) == 0:
                raise ValueError(
                    f"line {number} of {path.name} begins at 0; GFF counts from 1, BED from 0"
                )
            lines.append(fields)
    if not lines:
        raise ValueError(f"{path.name} has no region; give a BED or GFF file with at least one")
    frame = pd.DataFrame(lines)
    frame.columns = [*names, *(f"column_{i}" for i in range(len(names), 99))][: frame.shape[1]]
    frame = frame.astype({"start": np.int64, "end": np.int64})
    if gff:
        frame["start"] -= 1
    if "strand" not in frame:
        frame["strand"] = "."
    frame["strand"] = frame["strand"].fillna(".").replace({"": ".", "?": "."})
    return frame


def _is_position(text: str) -> bool:
    """Return whether a text is a whole number from 0 on that 64 bits hold."""
    return text.isdecimal() and len(text) <= 18


class FastaRegions(Sequence[str]):
    r"""The sequences of genome regions; each is read from the file when it is used.

    Parameters
    ----------
    genome : str, Path or Genome
        A FASTA file.
    regions : str, Path or DataFrame
        A BED or GFF file, or a frame with `chrom`, `start`, `end` (0-based, half-open) and optionally
        `strand`. The sequence of a region on strand "-" is the reverse complement.
    outside : {"error", "pad", "drop"}
        What to do with regions that reach beyond their contig, or whose contig is missing: raise an error
        (default); fill with "-" (no letter; a missing contig is still an error); leave them out.
    rename : mapping or callable, optional
        Maps each contig name of the regions to the genome's name (default: no change), for instance
        ``lambda c: c.removeprefix("chr")``.

    Attributes
    ----------
    frame : DataFrame
        The regions, in order. Its index has the row numbers of the input: with ``outside="drop"``, the
        labels of the regions are ``np.asarray(labels)[regions.frame.index]``.
    lengths : ndarray
        `[N]`, nucleotides of each region.

    Raises
    ------
    KeyError, ValueError
        If a region cannot be read; the message names the first one and the number of others.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "small.fa"
    >>> _ = path.write_text(">one\nACGTAAGG\n")
    >>> places = pd.DataFrame({"chrom": "one", "start": [0, 5], "end": [4, 10], "strand": ["-", "+"]})
    >>> list(FastaRegions(path, places, outside="pad"))
    ['ACGT', 'AGG--']
    """

    def __init__(
        self,
        genome: str | Path | Genome,
        regions: str | Path | pd.DataFrame,
        *,
        outside: str = "error",
        rename: Mapping[str, str] | Callable[[str], str] | None = None,
    ) -> None:
        if outside not in _OUTSIDE:
            raise ValueError(f"outside is {outside!r}; choose one of {list(_OUTSIDE)}")
        self.genome = genome if isinstance(genome, Genome) else Genome(genome)
        frame = (
            check_places(regions) if isinstance(regions, pd.DataFrame) else read_regions(regions)
        )
        frame = frame.reset_index(drop=True)
        frame["chrom"] = self.renamed(frame["chrom"], rename)
        self.frame = self._within(frame, outside)
        self.lengths = (self.frame["end"] - self.frame["start"]).to_numpy()
        self._places = list(
            zip(*(self.frame[c].tolist() for c in ("chrom", "start", "end", "strand")), strict=True)
        )

    @staticmethod
    def renamed(
        chroms: pd.Series, rename: Mapping[str, str] | Callable[[str], str] | None
    ) -> pd.Series:
        """Return the genome's names of contigs, from the parameter `rename`."""
        if rename is None:
            return chroms
        named = {c: rename(c) if callable(rename) else rename.get(c, c) for c in chroms.unique()}
        return chroms.map(named)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        chrom, start, end, strand = self._places[i]
        inside = max(start, 0), min(end, self.genome.lengths[chrom])
        if inside[0] < inside[1]:
            sequence = self.genome.fetch(chrom, *inside)
        else:
            inside, sequence = (end, end), ""
        sequence = "-" * (inside[0] - start) + sequence + "-" * (end - inside[1])
        return reverse_complement(sequence) if strand == "-" else sequence

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def _within(self, frame: pd.DataFrame, outside: str) -> pd.DataFrame:
        start, end = frame["start"].to_numpy(), frame["end"].to_numpy()
        stranded = frame["strand"].isin(["+", "-", "."]).to_numpy()
        refuse_places(frame, end <= start, *EMPTY)
        refuse_places(frame, ~stranded, *STRANDLESS)
        length = frame["chrom"].map(self.genome.lengths)
        missing = length.isna().to_numpy()
        beyond = ~missing & ((start < 0) | (end > length.fillna(0).to_numpy()))
        if outside == "drop":
            kept = frame[~(missing | beyond)]
            if kept.empty:
                raise ValueError(
                    f"no region lies within {self.genome.path.name}; check that both are of one genome"
                )
            return kept
        if missing.any():
            raise KeyError(self.genome.no_contig(frame["chrom"][int(missing.argmax())]))
        if outside == "error":
            refuse_places(
                frame, beyond, "reaches beyond its contig", "give outside='pad' or 'drop'"
            )
        return frame
