"""Slide a window along a genome and score every window, with any scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.config import check_integer
from titans_ts.datasets import Genome
from titans_ts.datasets.alphabet import COMPLEMENT
from titans_ts.estimator import plain
from titans_ts.genomics.contigs import ContigCodes, place_frame, select_contigs, window_starts
from titans_ts.genomics.part_cache import PartCache
from titans_ts.genomics.score_tracks import check_track_path, write_scores
from titans_ts.genomics.scorer import MAX_LETTERS, Scorer, progress, score_known

__all__ = ["scan"]

_SPAN = 2**24
"""Largest number of letters of a contig in memory when windows are far apart."""


def scan(
    scorer: Scorer,
    genome: str | Path | Genome,
    *,
    window: int,
    stride: int | None = None,
    strand: str = "+",
    contigs: Sequence[str] | None = None,
    soft_masked: str = "keep",
    symmetric: bool = False,
    out: str | Path | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    r"""Score sliding windows along a genome.

    Parameters
    ----------
    scorer : Scorer
        A function of codes `[N, window]` that returns N scores
        (:data:`titans_ts.genomics.scorer.Scorer`).
    genome : str, Path or Genome
        A FASTA file. It is read a piece at a time.
    window : int
        Letters of a window; a shorter contig gives a single shorter window.
    stride : int, optional
        Letters between the starts of two windows; default: `window`. The last window of a contig ends at
        its end, so no letter is left out (unless `stride` is larger than `window`).
    strand : {"+", "-", "both"}
        Strand of the windows (default "+"); on "-", the reverse complement is read.
    contigs : list of str, optional
        Contigs to read; default: all.
    soft_masked : {"keep", "flag", "mask"}
        How lower-case letters are read (default "keep"); see
        :data:`titans_ts.datasets.alphabet.SOFT_MASKED`.
    symmetric : bool
        Whether the scorer gives both strands the same score (default False); then it reads only one.
    out : str or Path, optional
        A file for the scores, in the format of its suffix: BED, bedGraph or bigWig
        (:func:`titans_ts.datasets.write_track`). In the latter two, both strands give two files,
        x.plus.bw and x.minus.bw. Default: no file.
    fingerprint : mapping, optional
        Values for json that identify the scorer (a name and a version, a digest of weights). With it and
        `out`, finished parts are stored in a folder beside `out` (its name and ".parts"), and the same
        call resumes after an interruption. The folder is removed at the end. Default: nothing is stored.
    progress_bar : bool
        Whether to show a progress bar (default True).

    Returns
    -------
    DataFrame
        `chrom`, `start`, `end`, `strand` and `score`, one row for each window and strand. The score is
        NaN if no letter is known (all are N or "-").

    Raises
    ------
    KeyError
        If a contig is not in the genome.
    ValueError
        If an argument is invalid, or the scorer returns another shape than `[N]`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "small.fa"
    >>> _ = path.write_text(">one\nGGCCATATNNNN\n")
    >>> gc = lambda codes: ((codes == 1) | (codes == 2)).mean(1)
    >>> scan(gc, path, window=4, progress_bar=False)["score"].tolist()
    [1.0, 0.0, nan]
    """
    genome, contigs = select_contigs(genome, contigs)
    window = check_integer("window", plain(window), 1)
    stride = window if stride is None else check_integer("stride", plain(stride), 1)
    if strand not in ("+", "-", "both"):
        raise ValueError(f"strand is {strand!r}; choose one of ['+', '-', 'both']")
    strands = ("+", "-") if strand == "both" else (strand,)
    if out is not None:
        check_track_path(out, genome.lengths)
    starts = {c: window_starts(genome.lengths[c], window, stride) for c in contigs}
    size = max(1, min(MAX_LETTERS // window, _SPAN // stride))  # windows of a part
    parts = [(c, s[i : i + size]) for c, s in starts.items() for i in range(0, len(s), size)]
    cache = PartCache(None, {})
    if out is not None and fingerprint is not None:
        file = genome.path.stat()
        request = {
            "genome": [str(genome.path), file.st_size, file.st_mtime_ns, genome.pad_invalid],
            "scorer": dict(fingerprint),
            "windows": [window, stride, size, strand, contigs, soft_masked, symmetric],
        }
        cache = PartCache(Path(f"{out}.parts"), request)
    scores = []  # of every part, [n, strands]
    with progress("scan", "windows", sum(map(len, starts.values())), progress_bar) as bar:
        for number, (chrom, part_starts) in enumerate(parts):
            part = cache.get(number)
            if part is None:
                codes = ContigCodes(genome, chrom, soft_masked)
                part = _score_windows(scorer, codes, part_starts, window, strands, symmetric)
                cache.put(number, part)
            scores.append(part)
            bar.update(len(part_starts))
    frame = place_frame(starts, window, genome.lengths, strands)
    frame["score"] = np.concatenate(scores).ravel()
    if out is not None:
        write_scores(frame, Path(out), genome.lengths)
        cache.remove()
    return frame


def _score_windows(
    scorer: Scorer,
    contig: ContigCodes,
    starts: NDArray[np.int64],
    window: int,
    strands: Sequence[str],
    symmetric: bool,
) -> NDArray[np.float64]:
    """Return the scores `[n, strands]` of the windows of a part."""
    first = starts[0]
    codes = contig[first : starts[-1] + window]
    views = np.lib.stride_tricks.sliding_window_view(codes, min(window, len(codes)))
    windows = views[starts - first]  # [n, window]
    read, times = (strands[:1], len(strands)) if symmetric else (strands, 1)
    scores = [
        score_known(scorer, windows if strand == "+" else COMPLEMENT[windows[:, ::-1]])
        for strand in read
    ]
    return np.stack(scores * times, 1)
