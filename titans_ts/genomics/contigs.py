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


def encode_stretch(letters: str | bytes, soft_masked: str, where: str) -> NDArray[np.uint8]:
    """Return the codes `[T]` of letters, as :func:`titans_ts.datasets.alphabet.encode_letters`.

    Raises
    ------
    ValueError
        If a letter is outside IUPAC; the message names the region (`where`).

    Examples
    --------
    >>> encode_stretch(b"--", "keep", "chr1:4-6")
    array([5, 5], dtype=uint8)
    """
    try:
        return encode_letters(letters, soft_masked)
    except ValueError as error:
        raise ValueError(
            f"{where}: {error}; Genome(path, pad_invalid=True) reads such letters as absent"
        ) from None


class ContigCodes:
    """The codes of a contig; every slice is read from the file when it is requested.

    Parameters
    ----------
    genome : Genome
        The genome.
    chrom : str
        Name of the contig.
    soft_masked : {"keep", "flag", "mask"}
        How lower-case letters are read.
    mask_unknown : bool
        Whether unknown letters (N) become absent ones (default False).

    Raises
    ------
    ValueError
        If a slice has a letter outside IUPAC; the message names the slice.
    """

    def __init__(
        self, genome: Genome, chrom: str, soft_masked: str, *, mask_unknown: bool = False
    ) -> None:
        self._genome, self._chrom, self._soft_masked = genome, chrom, soft_masked
        self._mask_unknown = mask_unknown

    def __len__(self) -> int:
        return self._genome.lengths[self._chrom]

    def __getitem__(self, stretch: slice) -> NDArray[np.uint8]:
        start, end, _ = stretch.indices(len(self))
        letters = self._genome.fetch_bytes(self._chrom, start, end)
        codes = encode_stretch(letters, self._soft_masked, f"{self._chrom}:{start}-{end}")
        return np.where(KNOWN[codes], codes, np.uint8(ABSENT)) if self._mask_unknown else codes


def select_contigs(
    genome: str | Path | Genome, contigs: Sequence[str] | None
) -> tuple[Genome, list[str]]:
    """Open a genome, and return it with the names of the requested contigs that have letters.

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
        raise ValueError(f"contigs is {contigs!r}, but none has a letter; give others")
    return genome, names


def window_starts(length: int, window: int, stride: int) -> NDArray[np.int64]:
    """Return the starts of the windows of a contig; if letters remain, a last window ends at its end.

    Parameters
    ----------
    length, window, stride : int
        Letters of the contig, of a window, and between the starts of two windows. A contig that is
        shorter than a window gives a single window.

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
    """Return a frame of regions of one size; they are cut at the end of their contig.

    Parameters
    ----------
    starts : mapping
        Starts of the regions of each contig.
    size : int
        Letters of a region.
    lengths : mapping
        Letters of each contig.
    strands : sequence of str, optional
        Strands; every region has one row for each (default: no strands).

    Returns
    -------
    DataFrame
        `chrom`, `start` and `end`, and `strand` if `strands` is not None.

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
