"""Scores along a genome as track files; the suffix of a file chooses BED, bedGraph or bigWig."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from titans_ts.datasets import write_track

__all__ = ["check_track_path", "write_scores"]

_STRANDS = (("+", "plus"), ("-", "minus"))


def check_track_path(out: str | Path, lengths: Mapping[str, int]) -> None:
    """Raise an error if no track can be written to `out`; it is called before the computation.

    Raises
    ------
    ModuleNotFoundError
        If the package for the format is not installed.
    ValueError
        If the suffix of `out` is unknown.
    """
    chrom = max(lengths, key=lengths.__getitem__)
    region = {"chrom": [chrom], "start": [0], "end": [1], "score": [0.0]}
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / Path(out).name
        try:
            write_track(pd.DataFrame(region), probe, lengths)
        except ValueError as error:
            message = str(error).replace(f"path is {str(probe)!r}", f"out is {str(out)!r}")
            raise ValueError(message) from None


def write_scores(frame: pd.DataFrame, out: Path, lengths: Mapping[str, int]) -> None:
    """Write a track; for both strands, bedGraph and bigWig give two files, x.plus.bw and x.minus.bw."""
    if frame["score"].isna().all():
        warnings.warn(f"no letter is known, so nothing is written to {str(out)!r}", stacklevel=3)
        return
    both = "strand" in frame and frame["strand"].nunique() > 1
    if not both or out.name.lower().endswith((".bed", ".bed.gz")):
        write_track(frame, out, lengths)
        return
    kind = "".join(out.suffixes[-2:] if out.suffix.lower() == ".gz" else out.suffixes[-1:])
    for strand, name in _STRANDS:
        path = out.with_name(f"{out.name.removesuffix(kind)}.{name}{kind}")
        write_track(frame[frame["strand"] == strand], path, lengths)
