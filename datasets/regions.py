"""Places in a genome: BED and GFF files, and their sequences as one lazy list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_ts.datasets._files import file_kind, open_text
from titans_ts.datasets.alphabet import reverse_complement
from titans_ts.datasets.genome import Genome

__all__ = ["FastaRegions", "read_regions"]

_BED = ["chrom", "start", "end", "name", "score", "strand"]
_GFF = ["chrom", "source", "feature", "start", "end", "score", "strand", "frame", "attributes"]
_OUTSIDE = ("error", "pad", "drop")


def read_regions(path: str | Path) -> pd.DataFrame:
    """Read the places of a BED, GFF or GTF file, plain or gzipped.

    Parameters
    ----------
    path : str or Path
        The file; one whose name ends in .gff, .gff3 or .gtf (.gz) is GFF, every other one BED.

    Returns
    -------
    DataFrame
        `chrom`, `start`, `end` (0-based, half-open), `strand` ("." if the file has none), and what the
        file has besides: `name` and `score`, or `source`, `feature`, `score`, `frame` and `attributes`;
        further columns of BED as `column_6`, ....

    Raises
    ------
    ValueError
        If a line has too few columns, or places that are no whole numbers; it names the line.
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
                    f"line {number} of {path.name} has {len(fields)} columns, parted by tabs; "
                    f"{'GFF' if gff else 'BED'} has at least {least}"
                )
            start, end = fields[3:5] if gff else fields[1:3]
            if not (start.isdecimal() and end.isdecimal()):
                raise ValueError(
                    f"line {number} of {path.name} goes from {start!r} to {end!r}; "
                    "places are whole numbers"
                )
            if gff and int(start) == 0:
                raise ValueError(
                    f"line {number} of {path.name} begins at 0; GFF counts from 1, BED from 0"
                )
            lines.append(fields)
    if not lines:
        raise ValueError(f"{path.name} has no place; give a BED or GFF file with at least one")
    frame = pd.DataFrame(lines)
    frame.columns = [*names, *(f"column_{i}" for i in range(len(names), 99))][: frame.shape[1]]
    frame = frame.astype({"start": np.int64, "end": np.int64})
    if gff:
        frame["start"] -= 1
    if "strand" not in frame:
        frame["strand"] = "."
    frame["strand"] = frame["strand"].fillna(".").replace({"": ".", "?": "."})
    return frame


class FastaRegions(Sequence[str]):
    r"""The sequences of places in a genome, fetched when they are asked for.

    Parameters
    ----------
    genome : str, Path or Genome
        A FASTA file.
    regions : str, Path or DataFrame
        A BED or GFF file, or a frame with `chrom`, `start`, `end` (0-based, half-open) and perhaps
        `strand`; of a place on strand "-", the sequence is the reverse complement.
    outside : {"error", "pad", "drop"}
        What to do with places that reach beyond their contig, or whose contig is not there: refuse;
        fill up with "-", which models do not see (a missing contig is refused); leave out.
    rename : mapping or callable, optional
        The genome's name of each contig of the regions, for instance ``lambda c: c.removeprefix("chr")``.

    Attributes
    ----------
    frame : DataFrame
        The places, in order. Its index are their numbers in what was given: with
        ``outside="drop"``, ``np.asarray(labels)[regions.frame.index]`` are theirs.
    lengths : ndarray
        `[N]`, nucleotides of each.

    Raises
    ------
    KeyError, ValueError
        If a place cannot be had; it names the first one, and how many there are.

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
        frame = _columns(regions) if isinstance(regions, pd.DataFrame) else read_regions(regions)
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
        """The genome's names of contigs, by what the parameter `rename` may be."""
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
        for wrong, what in (
            (end <= start, "is empty or ends before it begins"),
            (~frame["strand"].isin(["+", "-", "."]).to_numpy(), "is on no strand '+', '-' or '.'"),
        ):
            _refuse(frame, wrong, what)
        length = frame["chrom"].map(self.genome.lengths)
        missing = length.isna().to_numpy()
        beyond = ~missing & ((start < 0) | (end > length.fillna(0).to_numpy()))
        if outside == "drop":
            kept = frame[~(missing | beyond)]
            if kept.empty:
                raise ValueError(
                    f"no place lies within {self.genome.path.name}; check that both are of one genome"
                )
            return kept
        if missing.any():
            raise KeyError(self.genome.no_contig(frame["chrom"][int(missing.argmax())]))
        if outside == "error":
            _refuse(frame, beyond, "reaches beyond its contig; outside='pad' or 'drop' mends it")
        return frame


def _columns(regions: pd.DataFrame) -> pd.DataFrame:
    for name in ("chrom", "start", "end"):
        if name not in regions:
            raise ValueError(f"regions lack the column {name!r}; they have {list(regions.columns)}")
    frame = regions.copy()
    for name in ("chrom", "start", "end"):
        if frame[name].isna().any():
            row = int(frame[name].isna().to_numpy().argmax())
            raise ValueError(f"place {row} has no {name!r}; drop it")
    for name in ("start", "end"):
        if frame[name].dtype.kind not in "iu":
            raise ValueError(
                f"column {name!r} has dtype {frame[name].dtype}; places are whole numbers"
            )
        frame[name] = frame[name].astype(np.int64)  # of others, differences may wrap
    frame["chrom"] = frame["chrom"].astype(str)
    strand = frame["strand"].astype(object) if "strand" in frame else pd.Series(".", frame.index)
    frame["strand"] = strand.fillna(".").astype(str)
    return frame


def _refuse(frame: pd.DataFrame, wrong: Any, what: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        place = frame.iloc[row]
        more = f" (and {wrong.sum() - 1} more)" if wrong.sum() > 1 else ""
        raise ValueError(
            f"place {row}, {place['chrom']}:{place['start']}-{place['end']} ({place['strand']}), "
            f"{what}{more}"
        )
