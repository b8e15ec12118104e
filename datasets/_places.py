"""Checks of frames of genome regions (`chrom`, `start`, `end`, `strand`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from titans_ts.datasets.alphabet import IUPAC

__all__ = ["EMPTY", "STRANDLESS", "check_places", "check_variants", "refuse_places"]

_ALLELE = set(IUPAC + IUPAC.lower())

EMPTY = "is empty or ends before it begins", "give 0 <= start < end"
"""What is wrong with a region without a letter, and the remedy."""

STRANDLESS = "is on no strand '+', '-' or '.'", "give one of these"
"""What is wrong with a region on another strand, and the remedy."""


def check_places(regions: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of a frame of regions; `chrom`, `start`, `end` and `strand` have one type each.

    Raises
    ------
    ValueError
        If a column is missing or has missing values, or a start or end is not an integer.
    """
    for name in ("chrom", "start", "end"):
        if name not in regions:
            raise ValueError(
                f"regions lack the column {name!r}; they have {list(regions.columns)}: add it"
            )
    frame = regions.copy()
    for name in ("chrom", "start", "end"):
        if frame[name].isna().any():
            row = int(frame[name].isna().to_numpy().argmax())
            raise ValueError(f"region {row} has no {name!r}; drop it")
    for name in ("start", "end"):
        if frame[name].dtype.kind not in "iu":
            raise ValueError(
                f"column {name!r} has dtype {frame[name].dtype}; it must hold integers"
            )
        frame[name] = frame[name].astype(np.int64)  # differences of narrower types may overflow
    frame["chrom"] = frame["chrom"].astype(str)
    strand = frame["strand"].astype(object) if "strand" in frame else pd.Series(".", frame.index)
    frame["strand"] = strand.fillna(".").astype(str)
    return frame


def check_variants(variants: pd.DataFrame) -> pd.DataFrame:
    """Return `chrom`, `start`, `ref` and `alt` of variants, with one type each and an index from 0.

    Raises
    ------
    ValueError
        If a column is missing or has missing values, a start is not an integer, or an allele does not
        consist of letters.
    """
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
    return check_places(frame.assign(end=frame["start"])).drop(columns=["end", "strand"])


def refuse_places(frame: pd.DataFrame, wrong: Any, what: str, remedy: str) -> None:
    """Raise ValueError if any row is `wrong` (`[N]` bool).

    It names the first such region, `what` is wrong, and the `remedy`.
    """
    if wrong.any():
        row = int(np.argmax(wrong))
        place = frame.iloc[row]
        more = f" (and {wrong.sum() - 1} more)" if wrong.sum() > 1 else ""
        raise ValueError(
            f"region {row}, {place['chrom']}:{place['start']}-{place['end']} ({place['strand']}), "
            f"{what}{more}; {remedy}"
        )
