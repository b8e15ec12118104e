"""Scorers: functions that give sequences a score, and helpers of the genome tools.

The genome tools (:mod:`~titans_ts.genomics.scan`, :mod:`~titans_ts.genomics.variant_effect`,
:mod:`~titans_ts.genomics.attribution`) work with any scorer. Codes are those of
:mod:`titans_ts.datasets.alphabet`: A, C, G, T, N and "-" (no letter) are 0 to 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from titans_ts.datasets.alphabet import KNOWN

__all__ = ["MAX_LETTERS", "Codes", "Scorer", "progress", "score_known"]

Codes: TypeAlias = NDArray[np.uint8]

Scorer: TypeAlias = Callable[[Codes], NDArray[np.float64]]
"""A function of codes `[N, T]` (N sequences of one length) that returns N scores.

For instance, with a fitted :func:`titans_ts.genomics.baselines.kmer_classifier`:
``lambda codes: pipeline.predict_proba(codes)[:, 1]``. For a model that reads str,
:func:`titans_ts.nn.dna.nucleotides.decode_nucleotides` gives the letters of codes `[T]`.
"""

MAX_LETTERS = 2**20
"""Largest number of letters that a scorer gets in one call (more only for a single longer sequence)."""


def score_known(scorer: Scorer, codes: Codes) -> NDArray[np.float64]:
    """Return scores `[N]` of codes `[N, T]`: NaN for sequences without a known letter (only N or "-").

    Raises
    ------
    ValueError
        If the scorer does not return one number for each sequence.
    """
    known = KNOWN[codes].any(1)
    scores = np.full(len(codes), np.nan)
    if known.any():
        scored = codes if known.all() else codes[known]
        values = np.asarray(scorer(scored), np.float64)
        if values.shape != (len(scored),):
            raise ValueError(
                f"the scorer returned shape {values.shape} for {len(scored)} sequences; return one "
                "number for each"
            )
        scores[known] = values
    return scores


def progress(name: str, unit: str, total: int, show: bool) -> Any:
    """Return a progress bar."""
    return tqdm(total=total, desc=name, unit=f" {unit}", unit_scale=True, disable=not show)
