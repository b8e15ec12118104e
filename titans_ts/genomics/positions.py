"""Features of letters at positions: pairs at each position, and 4-mers in parts of a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack

from titans_ts.nn.dna.nucleotides import LOWER, complement_codes

__all__ = ["N_PARTS", "beside", "n_position_features", "position_features"]

N_PARTS = 16
"""Equal parts in which 4-mers are counted."""


def n_position_features(positions: int) -> int:
    """Return the number of columns of :func:`position_features`; without positions, 0.

    Examples
    --------
    >>> n_position_features(60), n_position_features(0)
    (5056, 0)
    """
    return 16 * positions + 256 * N_PARTS if positions else 0


def position_features(
    sequences: Sequence[NDArray[np.uint8]], positions: int, both_strands: bool
) -> csr_matrix:
    """Return features `[N, n_position_features(positions)]` of the first letters of N sequences.

    A pair of letters at each position is a feature of its own, and so is a 4-mer in each of sixteen equal
    parts. The two kinds have one norm per sequence. Letters besides ACGT are skipped.

    Parameters
    ----------
    sequences : sequence of ndarray
        Codes `[T]` each.
    positions : int
        Letters that are read, from the start of a sequence.
    both_strands : bool
        Whether the features of the reverse complement are added.
    """
    strands = [[s[:positions] for s in sequences]]
    if both_strands:
        strands.append([complement_codes(s)[:positions] for s in sequences])
    pairs, words = (
        sum(
            (_counts(strand, positions, k, n_parts) for strand in strands[1:]),
            _counts(strands[0], positions, k, n_parts),
        )
        for k, n_parts in ((2, positions), (4, N_PARTS))
    )
    return beside(pairs, words)


def beside(features: csr_matrix, others: csr_matrix) -> csr_matrix:
    """Return both side by side; the rows of `others` get the norms of the rows of `features`."""
    norm, own = (np.sqrt(np.asarray(m.multiply(m).sum(1)).ravel()) for m in (features, others))
    scale = np.divide(norm, own, out=np.zeros_like(norm), where=own > 0)
    return hstack([features, diags(scale) @ others], "csr", dtype=np.float32)


def _counts(
    sequences: Sequence[NDArray[np.uint8]], positions: int, k: int, n_parts: int
) -> csr_matrix:
    """Count k-mers by the part of the `positions` letters in which they start."""
    shape = len(sequences), n_parts * 4**k
    lengths = np.array([len(s) for s in sequences])
    if not len(sequences) or not lengths.any():
        return csr_matrix(shape, dtype=np.float32)
    letters = np.minimum(np.concatenate(sequences) % LOWER, 4).astype(np.int64)
    row = np.repeat(np.arange(len(sequences)), lengths)
    place = np.arange(len(letters)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    n = max(0, len(letters) - k + 1)
    kmer, whole = np.zeros(n, np.int64), row[:n] == row[len(row) - n :]  # in one sequence
    for i in range(k):
        kmer = 4 * kmer + letters[i : i + n]
        whole &= letters[i : i + n] < 4
    column = (place[:n] * n_parts // positions) * 4**k + kmer
    ones = np.ones(int(whole.sum()), np.float32)
    return csr_matrix((ones, (row[:n][whole], column[whole])), shape=shape)
