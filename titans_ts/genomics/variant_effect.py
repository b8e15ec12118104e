"""Effects of variants on the score of the windows around them, with any scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from titans_ts.config import check_integer
from titans_ts.datasets import FastaRegions, Genome, normalise_variants, read_variants
from titans_ts.datasets._places import check_variants
from titans_ts.estimator import plain
from titans_ts.genomics.contigs import encode_stretch
from titans_ts.genomics.scorer import (
    MAX_LETTERS,
    Codes,
    Scorer,
    progress,
    score_known,
)
from titans_ts.types import RandomState

__all__ = ["variant_effect"]

_OUTSIDE = ("error", "drop")
_TRIES = 1000
"""Random places that are tried to find a letter."""


def variant_effect(
    scorer: Scorer,
    genome: str | Path | Genome,
    variants: str | Path | pd.DataFrame,
    *,
    window: int,
    haplotype: str | None = None,
    background: int = 0,
    outside: str = "error",
    rename: Mapping[str, str] | Callable[[str], str] | None = None,
    soft_masked: str = "keep",
    random_state: RandomState = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Score the window around each variant with the reference and with the alternative allele.

    Alleles are read in their normal form (:func:`titans_ts.datasets.normalise_variants`), so that a
    change has the same effect however it was written. Its first letter is at index ``window // 2`` of the
    window. The window of the alternative has the same start and length: an insertion pushes letters out
    on the right, a deletion brings letters in. Beyond the contig, a window has "-" (no letter). An
    alternative allele takes the case of the genome's letter at its start.

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
    haplotype : str, optional
        A column of the variants. Those with the same value in it lie on one chromosome and are scored
        together, each where it is written: the middle between the first and the last is at index
        ``window // 2``. The result has a row for each value (default: every variant is scored alone).
    background : int
        Number of random variants of each kind (substitution, insertion, deletion, other) to compare the
        effects with (default 0, no comparison). Each has the alleles of one of the variants, at a random
        place of the same contigs.
    outside : {"error", "drop"}
        What to do with variants whose contig is not in the genome: raise an error (default), or leave
        them out.
    rename : mapping or callable, optional
        Maps each contig name of the variants to the genome's name (default: no change).
    soft_masked : {"keep", "flag", "mask"}
        How lower-case letters are read (default "keep"); see
        :data:`titans_ts.datasets.alphabet.SOFT_MASKED`.
    random_state : int, numpy or scikit-learn random state, optional
        Draws the background (default: another one in every call).
    progress_bar : bool
        Whether to show a progress bar (default True).

    Returns
    -------
    DataFrame
        The columns of the variants, and `ref_match` (whether the genome has `ref` there, ignoring case),
        `ref_score`, `alt_score` and `effect`, the alternative's score minus the reference's. They are NaN
        where `ref_match` is False, or no letter is known. With `background`, also `p_value`: the share of
        random variants of the kind whose effect is at least as large in size, counting the variant
        itself; at least ``1 / (background + 1)``. With `haplotype`, the columns before `ref_match` are
        this one, `chrom`, `start` of the first, `end` of the last variant, and their number `variants`.

    Raises
    ------
    KeyError
        If a contig is not in the genome, unless `outside` is "drop", or `haplotype` is not a column.
    ValueError
        If an argument is invalid, a window has a letter outside IUPAC, a variant has no `haplotype`, or
        the variants of one overlap, lie on several contigs, or do not fit into half a window.
    """
    window = check_integer("window", plain(window), 1)
    background = check_integer("background", plain(background), 0)
    table = variants if isinstance(variants, pd.DataFrame) else read_variants(variants)
    if outside not in _OUTSIDE:
        raise ValueError(f"outside is {outside!r}; choose one of {list(_OUTSIDE)}")
    if haplotype is not None and haplotype not in table:
        raise KeyError(
            f"haplotype is {haplotype!r}, which is no column of the variants; they have "
            f"{list(table.columns)}"
        )
    if haplotype is not None and background:
        raise ValueError(
            f"background is {background}, but haplotype is {haplotype!r}; a background is of single "
            "variants: leave one of them out"
        )
    genome = genome if isinstance(genome, Genome) else Genome(genome)
    frame = check_variants(table)
    frame["chrom"] = FastaRegions.renamed(frame["chrom"], rename)
    named = table["chrom"].to_numpy()
    if outside == "drop":
        inside = frame["chrom"].isin(genome.lengths).to_numpy()
        table, frame = table[inside], frame[inside]
    labels = np.arange(len(frame)) if haplotype is None else table[haplotype].to_numpy()
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise ValueError(
            f"variant {frame.index[missing[0]]} has no value in the column {haplotype!r}; give each "
            "haplotype, and each variant of an unknown one, a value of its own"
        )
    together = pd.Series(labels, dtype=object).duplicated(keep=False).to_numpy()
    frame = normalise_variants(genome, frame, leftwards=~together)
    groups = _groups(frame, labels, haplotype, window)
    score = partial(
        _scores, scorer, genome, window=window, soft_masked=soft_masked, progress_bar=progress_bar
    )
    match, scores = score(groups)
    effect = scores[:, 1] - scores[:, 0]
    found = {
        "ref_match": match,
        "ref_score": scores[:, 0],
        "alt_score": scores[:, 1],
        "effect": effect,
    }
    if haplotype is not None:
        first = [group[0] for group in groups]
        places = {
            haplotype: list(dict.fromkeys(labels)),
            "chrom": named[[allele.row for allele in first]],
            "start": [allele.start for allele in first],
            "end": [group[-1].end for group in groups],
            "variants": [len(group) for group in groups],
        }
        return pd.DataFrame(places | found)
    if background and len(frame):
        generator = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
        found["p_value"] = np.full(len(frame), np.nan)
        kinds = np.array([_kind(r, a) for r, a in zip(frame["ref"], frame["alt"], strict=True)])
        for kind in np.unique(kinds[match]):
            rows = np.flatnonzero(match & (kinds == kind))
            drawn = _elsewhere(genome, frame.iloc[rows], background, generator)
            others = score(_groups(drawn, np.arange(len(drawn)), None, window))[1]
            found["p_value"][rows] = _p_values(effect[rows], others[:, 1] - others[:, 0])
    return table.assign(**found)


class _Allele(NamedTuple):
    """A variant in its normal form."""

    row: int
    """Number of the variant among those that were given."""
    chrom: str
    start: int
    ref: str
    alt: str

    @property
    def end(self) -> int:
        return self.start + len(self.ref)


def _groups(
    frame: pd.DataFrame, labels: Any, haplotype: str | None, window: int
) -> list[list[_Allele]]:
    """Return the variants that are scored together, in the order of their labels `[N]`, each by place."""
    found: dict[Any, list[_Allele]] = {}
    rows = frame[["chrom", "start", "ref", "alt"]].itertuples(name=None)
    for label, fields in zip(labels, rows, strict=True):
        found.setdefault(label, []).append(_Allele(*fields))
    if haplotype is None:
        return list(found.values())
    for label, group in found.items():
        group.sort(key=lambda allele: (allele.start, allele.end))
        where = f"the variants with {haplotype} {label!r}"
        if len({allele.chrom for allele in group}) > 1:
            raise ValueError(f"{where} lie on several contigs; give each contig its own value")
        for one, other in pairwise(group):
            if other.start < one.end or other.start == one.start:
                raise ValueError(
                    f"{where} overlap at {one.chrom}:{other.start}; join them into one variant"
                )
        if group[-1].end - group[0].start >= window // 2:
            raise ValueError(
                f"{where} span {group[-1].end - group[0].start} letters, but window is {window}; give a "
                "window of more than twice as many"
            )
    return list(found.values())


def _scores(
    scorer: Scorer,
    genome: Genome,
    groups: list[list[_Allele]],
    *,
    window: int,
    soft_masked: str,
    progress_bar: bool,
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return whether the genome has the references `[G]`, and the scores `[G, 2]` of both windows."""
    lead = window // 2
    middle = np.array([(g[0].start + g[-1].start) // 2 for g in groups], np.int64)
    n_ref = np.array([sum(len(a.ref) for a in g) for g in groups], np.int64)
    # the region covers the window, and the letters that deletions bring in
    places = pd.DataFrame({"chrom": [g[0].chrom for g in groups], "start": middle - lead})
    places["end"] = middle + n_ref + window - lead
    around = FastaRegions(genome, places, outside="pad")
    match = np.zeros(len(groups), bool)
    scores = np.full((len(groups), 2), np.nan)
    size = max(1, MAX_LETTERS // (2 * window))
    with progress("variants", "variants", len(groups), progress_bar) as bar:
        for first in range(0, len(groups), size):
            pairs: list[Codes] = []
            for i in range(first, min(first + size, len(groups))):
                letters = other = around[i]
                length = genome.lengths[groups[i][0].chrom]
                match[i] = groups[i][0].start >= 0 and groups[i][-1].end <= length
                for allele in reversed(groups[i]):  # from the right, so that places stay
                    at = allele.start - int(middle[i]) + lead
                    after = at + len(allele.ref)
                    match[i] &= letters[at:after].upper() == allele.ref.upper()
                    alt = allele.alt.lower() if letters[at].islower() else allele.alt.upper()
                    other = other[:at] + alt + other[after:]
                if match[i]:
                    row, chrom, start, *_ = groups[i][0]
                    where = f"the window around variant {row}, {chrom}:{start}"
                    pairs += [
                        encode_stretch(s[:window], soft_masked, where) for s in (letters, other)
                    ]
            matched = first + np.flatnonzero(match[first : first + size])
            windows = np.array(pairs, np.uint8).reshape(-1, window)
            scores[matched] = score_known(scorer, windows).reshape(-1, 2)
            bar.update(min(size, len(groups) - first))
    return match, scores


def _kind(ref: str, alt: str) -> str:
    if len(ref) == len(alt):
        return "substitution" if len(ref) == 1 else "other"
    return "insertion" if not ref else "deletion" if not alt else "other"


def _elsewhere(
    genome: Genome, variants: pd.DataFrame, n: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Return n variants with the alleles of given ones, at random places of their contigs.

    A place has the letter that a single one replaces; longer references are the letters at the place.
    """
    lengths = {chrom: genome.lengths[chrom] for chrom in variants["chrom"].unique()}
    share = np.array(list(lengths.values())) / sum(lengths.values())
    alleles = variants[["ref", "alt"]].to_numpy()[generator.integers(len(variants), size=n)]
    rows = []
    for ref, alt in alleles:
        for _ in range(_TRIES):
            chrom = list(lengths)[generator.choice(len(share), p=share)]
            start = int(generator.integers(max(1, lengths[chrom] - len(ref) + 1)))
            there = genome.fetch(chrom, start, start + len(ref)) if ref else ""
            if len(ref) != 1 or there.upper() == ref.upper():
                rows.append((chrom, start, there, alt))
                break
    return pd.DataFrame(rows, columns=["chrom", "start", "ref", "alt"])


def _p_values(effects: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares of effects of other variants, and the own one, that are as large in size."""
    sizes = np.sort(np.abs(others[~np.isnan(others)]))
    larger = len(sizes) - np.searchsorted(sizes, np.abs(effects), side="left")
    return np.where(np.isnan(effects), np.nan, (1 + larger) / (1 + len(sizes)))
