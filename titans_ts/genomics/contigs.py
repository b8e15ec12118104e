"""The contigs of a genome as codes, and windows along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.datasets import Genome
from titans_ts.datasets.alphabet import ABSENT, KNOWN, encode_letters

__all__ = ["ContigCodes", "encode_stretch", "place_frame", "select_contigs", "window_starts"]


def encode_stretch(letters: str | bytes, lower_case: str, where: str) -> NDArray[np.uint8]:
    """Codes `[T]` of letters of a genome, as :func:`titans_ts.datasets.alphabet.encode_letters`.

    Raises
    ------
    ValueError
        If there is a letter outside IUPAC; the message names the place (`where`).

    Examples
    --------
    >>> encode_stretch(b"--", "same", "chr1:4-6")
    array([5, 5], dtype=uint8)
    """
    try:
        return encode_letters(letters, lower_case)
    except ValueError as error:
        raise ValueError(
            f"{where}: {error}; Genome(path, pad_invalid=True) reads other letters as absent"
        ) from None


class ContigCodes:
    """The codes of a contig; a slice of it is read from the file when it is taken.

    Parameters
    ----------
    genome : Genome
        The genome.
    chrom : str
        Name of the contig.
    lower_case : {"same", "marked", "absent"}
        What lower-case letters are.
    mask_unknown : bool
        Whether unknown letters (N) become absent ones.

    Raises
    ------
    ValueError
        If a slice has a letter outside IUPAC; the message names the slice.
    """

    def __init__(
        self, genome: Genome, chrom: str, lower_case: str, *, mask_unknown: bool = False
    ) -> None:
        self._genome, self._chrom, self._lower_case = genome, chrom, lower_case
        self._mask_unknown = mask_unknown

    def __len__(self) -> int:
        return self._genome.lengths[self._chrom]

    def __getitem__(self, stretch: slice) -> NDArray[np.uint8]:
        start, end, _ = stretch.indices(len(self))
        letters = self._genome.fetch_bytes(self._chrom, start, end)
        codes = encode_stretch(letters, self._lower_case, f"{self._chrom}:{start}-{end}")
        return np.where(KNOWN[codes], codes, np.uint8(ABSENT)) if self._mask_unknown else codes


def select_contigs(
    genome: str | Path | Genome, contigs: Sequence[str] | None
) -> tuple[Genome, list[str]]:
    """Open a genome, and return it with the names of the contigs to read that have letters.

    Raises
    ------
    KeyError
        If a contig is not in the genome.
    ValueError
        If no contig has a letter.
    """
    genome = genome if isinstance(genome, Genome) else Genome(genome)
    names = [contigs] if isinstance(contigs, str) else contigs
    names = list(genome.lengths if names is None else names)
    for name in names:
        if name not in genome.lengths:
            raise KeyError(genome.no_contig(name))
    names = [name for name in dict.fromkeys(names) if genome.lengths[name]]
    if not names:
        raise ValueError(f"contigs is {contigs!r}, none of which has a letter; give others")
    return genome, names


def window_starts(length: int, window: int, stride: int) -> NDArray[np.int64]:
    """Where the windows of a contig begin; a last one ends at its end if letters are left over.

    Parameters
    ----------
    length, window, stride : int
        Letters of the contig, of a window, and between the starts of two windows. A contig that is
        shorter than a window is a single window.

    Examples
    --------
    >>> window_starts(10, 4, 3), window_starts(10, 4, 4), window_starts(3, 4, 4)
    (array([0, 3, 6]), array([0, 4, 6]), array([0]))
    """
    last = max(0, length - window)
    starts = np.arange(0, last + 1, stride)
    return starts if starts[-1] == last else np.append(starts, last)


def place_frame(
    starts: Mapping[str, NDArray[np.int64]],
    size: int,
    lengths: Mapping[str, int],
    strands: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Places of one size, cut at the end of their contig.

    Parameters
    ----------
    starts : mapping
        Where the places of each contig begin.
    size : int
        Letters of a place.
    lengths : mapping
        Letters of each contig.
    strands : sequence of str, optional
        Strands; every place has a row for each.

    Returns
    -------
    DataFrame
        `chrom`, `start` and `end`, and `strand` if strands are given.

    Examples
    --------
    >>> place_frame({"I": np.array([0, 4])}, 4, {"I": 6}, ["+", "-"])
      chrom  start  end strand
    0     I      0    4      +
    1     I      0    4      -
    2     I      4    6      +
    3     I      4    6      -
    """
    rows = 1 if strands is None else len(strands)
    n = [len(s) * rows for s in starts.values()]
    begin = np.concatenate(list(starts.values())).repeat(rows)
    end = np.minimum(begin + size, np.repeat([lengths[c] for c in starts], n))
    chrom = np.repeat(np.array([*starts], object), n)
    frame = pd.DataFrame({"chrom": chrom, "start": begin, "end": end})
    if strands is not None:
        frame["strand"] = np.tile(np.array(strands, object), len(begin) // rows)
    return frame
