"""Effects of variants on the score of the windows around them, with any scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from titans_ts.config import check_integer
from titans_ts.datasets import FastaRegions, Genome, read_variants
from titans_ts.datasets.alphabet import IUPAC
from titans_ts.estimator import plain
from titans_ts.genomics.contigs import encode_stretch
from titans_ts.genomics.scorer import (
    MAX_LETTERS,
    Codes,
    Scorer,
    progress,
    score_known,
)

__all__ = ["variant_effect"]

_ALLELE = set(IUPAC + IUPAC.lower())
_OUTSIDE = ("error", "drop")


def variant_effect(
    scorer: Scorer,
    genome: str | Path | Genome,
    variants: str | Path | pd.DataFrame,
    *,
    window: int,
    outside: str = "error",
    rename: Mapping[str, str] | Callable[[str], str] | None = None,
    soft_masked: str = "keep",
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Score the window around each variant with the reference and with the alternative allele.

    The first letter of the variant is at index ``window // 2`` of the window. The window of the
    alternative has the same start and length: an insertion pushes letters out on the right, a deletion
    brings letters in. Beyond the contig, a window has "-" (no letter). An alternative allele takes the
    case of the genome's letter at its start.

    Parameters
    ----------
    scorer : Scorer
        A function of codes `[N, window]` that returns N scores
        (:data:`titans_ts.genomics.scorer.Scorer`).
    genome : str, Path or Genome
        A FASTA file.
    variants : str, Path or DataFrame
        A VCF file, or a frame with `chrom`, `start` (0-based), `ref` and `alt`, as
        :func:`titans_ts.datasets.read_variants` returns it.
    window : int
        Letters of a window.
    outside : {"error", "drop"}
        What to do with variants whose contig is not in the genome: raise an error (default), or leave
        them out.
    rename : mapping or callable, optional
        Maps each contig name of the variants to the genome's name (default: no change).
    soft_masked : {"keep", "flag", "mask"}
        How lower-case letters are read (default "keep"); see
        :data:`titans_ts.datasets.alphabet.SOFT_MASKED`.
    progress_bar : bool
        Whether to show a progress bar (default True).

    Returns
    -------
    DataFrame
        The columns of the variants, and `ref_match` (whether the genome has `ref` there, ignoring case),
        `ref_score`, `alt_score` and `effect`, the alternative's score minus the reference's. They are NaN
        where `ref_match` is False, or no letter is known.

    Raises
    ------
    KeyError
        If a contig is not in the genome, unless `outside` is "drop".
    ValueError
        If an argument is invalid, or a window has a letter outside IUPAC.
    """
    window = check_integer("window", plain(window), 1)
    table = variants if isinstance(variants, pd.DataFrame) else read_variants(variants)
    if outside not in _OUTSIDE:
        raise ValueError(f"outside is {outside!r}; choose one of {list(_OUTSIDE)}")
    genome = genome if isinstance(genome, Genome) else Genome(genome)
    frame = _check_alleles(table)
    if outside == "drop":
        names = FastaRegions.renamed(frame["chrom"].astype(str), rename)
        inside = names.isin(genome.lengths).to_numpy()
        table, frame = table[inside], frame[inside]
    lead = window // 2
    n_ref = frame["ref"].str.len().to_numpy(np.int64)
    # the region covers the window, and the letters that a deletion brings in
    places = pd.DataFrame({"chrom": frame["chrom"], "start": frame["start"] - lead})
    places["end"] = frame["start"] + n_ref + window - lead
    around = FastaRegions(genome, places, outside="pad", rename=rename)
    match = np.zeros(len(frame), bool)
    scores = np.full((len(frame), 2), np.nan)
    rows = list(frame.itertuples(name=None))
    size = max(1, MAX_LETTERS // (2 * window))
    with progress("variants", "variants", len(frame), progress_bar) as bar:
        for first in range(0, len(frame), size):
            pairs: list[Codes] = []
            for i in range(first, min(first + size, len(frame))):
                (number, chrom, start, ref, alt), letters = rows[i], around[i]
                match[i] = letters[lead : lead + len(ref)].upper() == ref.upper()
                if match[i]:
                    alt = alt.lower() if letters[lead].islower() else alt.upper()
                    other = letters[:lead] + alt + letters[lead + len(ref) :]
                    where = f"the window around variant {number}, {chrom}:{start}"
                    pairs += [
                        encode_stretch(s[:window], soft_masked, where) for s in (letters, other)
                    ]
            matched = first + np.flatnonzero(match[first : first + size])
            windows = np.array(pairs, np.uint8).reshape(-1, window)
            scores[matched] = score_known(scorer, windows).reshape(-1, 2)
            bar.update(min(size, len(frame) - first))
    return table.assign(
        ref_match=match,
        ref_score=scores[:, 0],
        alt_score=scores[:, 1],
        effect=scores[:, 1] - scores[:, 0],
    )


def _check_alleles(variants: pd.DataFrame) -> pd.DataFrame:
    """Return `chrom`, `start`, `ref` and `alt`, checked, with an index from 0."""
    for name in ("chrom", "start", "ref", "alt"):
        if name not in variants:
            raise ValueError(
                f"variants lack the column {name!r}; they have {list(variants.columns)}"
            )
    frame = variants[["chrom", "start", "ref", "alt"]].reset_index(drop=True)
    frame = frame.astype({"ref": object, "alt": object})
    for name in ("ref", "alt"):
        for i, allele in enumerate(frame[name]):
            if not isinstance(allele, str) or not set(allele) <= _ALLELE:
                raise ValueError(
                    f"variant {i} has {name} {allele!r}; give its letters, or '' for no letter"
                )
    return frame
