"""Tracks: scores of genome regions as BED, bedGraph and bigWig files, for a genome browser."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Mapping
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.datasets._places import EMPTY, STRANDLESS, check_places, refuse_places
from titans_ts.datasets.atomic import atomic_path

__all__ = ["write_track"]

_KINDS = {
    ".bed": "BED",
    ".bedgraph": "bedGraph",
    ".bg": "bedGraph",
    ".bw": "bigWig",
    ".bigwig": "bigWig",
}
_LARGEST = float(np.finfo(np.float32).max)
_TOO_LARGE = (
    "has a score that 32 bits cannot hold",
    f"give scores from -{_LARGEST:g} to {_LARGEST:g}",
)
_LONGEST = 2**32 - 1
_ENTRY = 12
"""Bytes of a region in bigWig, before compression."""
_CONTROL = r"[\t\r\n]"
_COLUMNS = ["chrom", "start", "end", "name", "score", "strand"]


def write_track(
    frame: pd.DataFrame, path: str | Path, lengths: Mapping[str, int] | None = None
) -> None:
    r"""Write regions and their scores in the format that the suffix of the file names.

    A region without a score (NaN) is left out. Regions are sorted by contig and start. Scores have six
    digits as text, and 32 bits in bigWig.

    bedGraph and bigWig have one score for each nucleotide. Regions that overlap, as sliding windows do,
    are cut at every start and end, and each piece gets the mean of the scores that cover it. BED keeps
    the regions unchanged.

    Parameters
    ----------
    frame : DataFrame
        `chrom`, `start`, `end` (0-based, half-open), `score`, and optionally `name` and `strand`, which
        only BED stores ("." where they are missing).
    path : str or Path
        The file, with the suffix .bed, .bedgraph, .bg (plain or .gz), .bw or .bigwig. An existing file is
        replaced when the new one is complete, and a missing folder is created.
    lengths : mapping, optional
        Nucleotides of each contig, such as :attr:`Genome.lengths`. Contigs are written in this order
        (default: as they first appear), and no region may reach beyond its contig. Required for bigWig.

    Raises
    ------
    ModuleNotFoundError
        If pyBigWig is not installed (for bigWig only).
    ValueError
        If the suffix is unknown, a column is missing, a region or score cannot be written, no region
        has a score, or bedGraph or bigWig would mix both strands.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.bedgraph"
    >>> windows = pd.DataFrame({"chrom": "I", "start": [0, 5], "end": [10, 15], "score": [1.0, 2.0]})
    >>> write_track(windows, path)
    >>> print(path.read_text().expandtabs(4), end="")
    I   0   5   1
    I   5   10  1.5
    I   10  15  2
    """
    path = Path(path)
    compressed = path.suffix.lower() == ".gz"
    kind = _KINDS.get((Path(path.stem) if compressed else path).suffix.lower())
    if kind is None or (compressed and kind == "bigWig"):
        raise ValueError(
            f"path is {str(path)!r}, whose suffix is no known format; give a name that ends in .bed, "
            ".bedgraph or .bg (these also with .gz), .bw or .bigwig"
        )
    if kind == "bigWig" and lengths is None:
        raise ValueError(
            "lengths is None, and bigWig needs it: give the nucleotides of each contig"
        )
    places = _places(frame, lengths)
    if kind != "BED":
        if {"+", "-"} <= set(places["strand"]):
            raise ValueError(
                f"column 'strand' has '+' and '-', but {kind} stores one strand: write one file per "
                "strand (frame[frame['strand'] == '+'])"
            )
        # pyBigWig crashes at such a score, and the sum of two of bedGraph may be infinite
        refuse_places(places, places["score"].abs() > _LARGEST, *_TOO_LARGE)
        places = _pieces(places)
    if kind == "bigWig":
        _check_lengths(lengths or {})
    with atomic_path(path) as aside:
        if kind == "bigWig":
            _write_bigwig(places, aside, lengths or {}, path.name)
        else:
            _write_text(places, aside, compressed)


def _places(frame: pd.DataFrame, lengths: Mapping[str, int] | None) -> pd.DataFrame:
    """Return the columns of BED, checked and sorted; `chrom` is categorical, in the order of contigs."""
    for name in ("chrom", "start", "end", "score"):
        if name not in frame:
            raise ValueError(
                f"frame lacks the column {name!r}; it has {list(frame.columns)}: add it"
            )
    if frame["score"].dtype.kind not in "iuf":
        raise ValueError(
            f"column 'score' has dtype {frame['score'].dtype}; give numbers (astype(float))"
        )
    places = check_places(frame).reset_index(drop=True)
    places["score"] = places["score"].astype(np.float64)
    names = places["name"].astype(object) if "name" in places else pd.Series(".", places.index)
    places["name"] = names.fillna(".").astype(str).replace("", ".")
    start, end = places["start"].to_numpy(), places["end"].to_numpy()
    contigs = list(places["chrom"].unique() if lengths is None else lengths)
    names = places["name"].str.contains(_CONTROL) | places["chrom"].str.contains(_CONTROL)
    for wrong, what, remedy in (
        (start < 0, "begins before 0", "give positions from 0 on"),
        (end <= start, *EMPTY),
        (~places["strand"].isin(["+", "-", "."]), *STRANDLESS),
        (np.isinf(places["score"]), "has an infinite score", "give NaN for no score"),
        (names, "has a tab or a line break in its name or contig", "rename it"),
        (places["chrom"] == "", "is on a contig without a name", "give it one"),
        (~places["chrom"].isin(contigs), "is on a contig that is not in lengths", "add it there"),
    ):
        refuse_places(places, wrong, what, remedy)
    if lengths is not None:
        length = places["chrom"].map(dict(lengths)).to_numpy(np.int64)
        what = "reaches beyond the length of its contig (in lengths)"
        refuse_places(places, end > length, what, "cut it, or give the length of its genome")
    places["chrom"] = pd.Categorical(places["chrom"], contigs)
    places = places.loc[places["score"].notna(), _COLUMNS]
    if places.empty:
        raise ValueError("frame has no region with a score; give at least one")
    return places.sort_values(["chrom", "start", "end"])


def _pieces(places: pd.DataFrame) -> pd.DataFrame:
    """Cut regions at every start and end; each interval gets the mean of the scores that cover it."""
    chrom = places["chrom"].cat
    start, end = (places[name].to_numpy(np.int64) for name in ("start", "end"))
    size = end.max()  # contigs are concatenated, each padded to the longest
    first = chrom.codes.to_numpy(np.int64) * size
    at = np.concatenate([first + start, first + end])
    order = np.argsort(at, kind="stable")
    at = at[order]
    last = np.flatnonzero(np.append(at[1:] != at[:-1], True))  # last event at each position
    edges = at[last]
    covering = np.cumsum(np.where(order < len(start), 1, -1))[last]
    total = _running_sums(places["score"].to_numpy(), order, int(covering.max()))[last]
    covered = np.flatnonzero(covering)  # never the last edge
    code, begin = np.divmod(edges[covered], size)
    return pd.DataFrame(
        {
            "chrom": pd.Categorical.from_codes(code, chrom.categories),
            "start": begin,
            "end": begin + edges[covered + 1] - edges[covered],
            "score": total[covered] / covering[covered],
        }
    )


def _running_sums(scores: NDArray[np.float64], order: NDArray[np.int64], most: int) -> Any:
    """Return running sums: event i < N of `order` adds score i, and event N + i subtracts it.

    Floats would leave rounding errors in all later sums. Integers leave none, and two of 62 bits hold a
    sum of `most` scores as exactly as a float does.
    """
    bits = 62 - most.bit_length()
    shift = bits - int(np.frexp(np.abs(scores).max())[1])
    total = np.zeros(2 * len(scores))
    for _ in range(2):
        whole = np.rint(np.ldexp(scores, shift))
        changes = whole.astype(np.int64)
        running = np.cumsum(np.concatenate([changes, -changes])[order])
        total += np.ldexp(running.astype(np.float64), -shift)
        scores = scores - np.ldexp(whole, -shift)
        shift += bits
    return total


def _write_text(places: pd.DataFrame, path: Path, compressed: bool) -> None:
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open("wb"))
        if compressed:  # without name and time, the same regions give the same bytes
            file = stack.enter_context(
                gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
            )
        text = stack.enter_context(TextIOWrapper(file, encoding="utf-8", newline=""))
        places.to_csv(
            text, sep="\t", header=False, index=False,
            float_format="%.6g", lineterminator="\n", quoting=csv.QUOTE_NONE,
        )  # fmt: skip


def _check_lengths(lengths: Mapping[str, int]) -> None:
    for contig, length in lengths.items():
        if not 0 <= int(length) <= _LONGEST:
            raise ValueError(
                f"lengths has {length} nucleotides for {contig!r}; a bigWig file holds contigs of at "
                f"most {_LONGEST}: write bedGraph"
            )


def _reserve(path: Path, size: int) -> None:
    """Create a file, and raise an OSError unless the disk has space for it.

    Where a file cannot be created or be written to, pyBigWig ends the process (SIGSEGV).
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _write_bigwig(places: pd.DataFrame, path: Path, lengths: Mapping[str, int], name: str) -> None:
    try:
        import pyBigWig
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"a bigWig file needs pyBigWig ({error}): pip install 'titans-ts[genomics]'"
        ) from error
    _reserve(path, 2**16 + _ENTRY * len(places))
    try:
        with pyBigWig.open(str(path), "w") as file:
            file.addHeader([(contig, int(length)) for contig, length in lengths.items()])
            chrom, start, end, score = (places[column].tolist() for column in places)
            file.addEntries(chrom, start, ends=end, values=score)  # not every build takes arrays
        with pyBigWig.open(str(path)) as file:  # on a full disk, closing a file raises no error
            written = file.header()["nBasesCovered"] == sum(end) - sum(start)
    except RuntimeError:
        written = False
    if not written:
        raise OSError(f"{name} could not be written completely; check whether the disk is full")
