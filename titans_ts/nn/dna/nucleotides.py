"""Letters of DNA as codes: what they may stand for, their complements, what is not there.

Codes are `[T]` or `[B, T]`, padded at the end; `lengths` `[B]` says how many are a sequence. A code is
the letter's place in :data:`LETTERS`, and :data:`LOWER` more where a lower-case letter is told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from titans_ts.datasets.alphabet import (
    ABSENT,
    COMPLEMENT,
    LETTERS,
    LOWER,
    LOWER_CASE,
    SHARES,
    encode_letters,
)
from titans_ts.nn.packing import prefix_mask

__all__ = [
    "ABSENT",
    "LETTERS",
    "LOWER",
    "LOWER_CASE",
    "SHARES",
    "complement_codes",
    "decode_nucleotides",
    "encode_nucleotides",
    "gapped_places",
    "other_strand",
    "pad_codes",
    "present",
]

_WRITTEN = np.frombuffer((LETTERS + LETTERS.lower()).encode(), np.uint8)


def encode_nucleotides(sequence: str, lower_case: str = "same") -> NDArray[np.uint8]:
    """Codes of a DNA sequence: A, C, G, T, N, "-" are 0 to 5, the other IUPAC letters follow.

    U counts as T, and "-" is a place that is not there.

    Parameters
    ----------
    sequence : str
        A non-empty sequence.
    lower_case : {"same", "marked", "absent"}
        What lower-case letters are; one of :data:`LOWER_CASE`.

    Returns
    -------
    NDArray[np.uint8]
        `[T]`.

    Raises
    ------
    ValueError
        If the sequence is empty (or nothing of it is there), or has a letter outside IUPAC; it names the
        letter and its place.

    Examples
    --------
    >>> encode_nucleotides("acgtRN")
    array([0, 1, 2, 3, 6, 4], dtype=uint8)
    >>> encode_nucleotides("aC", "marked")
    array([16,  1], dtype=uint8)
    >>> encode_nucleotides("ACX")
    Traceback (most recent call last):
    ...
    ValueError: the sequence has 'X' at position 2; use the IUPAC letters ACGTNRYSWKMBDHV, U, or "-"
    """
    if not sequence:
        raise ValueError("the sequence is empty; drop it, or give at least one nucleotide")
    codes = encode_letters(sequence, lower_case)
    if (codes == ABSENT).all():
        what = '"-"' if lower_case != "absent" else '"-" and lower case'
        raise ValueError(f"the sequence is nothing but {what}; drop it")
    return codes


def decode_nucleotides(codes: NDArray[np.integer]) -> str:
    """The letters of codes `[T]`.

    Examples
    --------
    >>> decode_nucleotides(encode_nucleotides("acGR-", "marked"))
    'acGR-'
    """
    return _WRITTEN[codes].tobytes().decode()


def complement_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes `[T]` of the reverse complement of a sequence; case is kept.

    Examples
    --------
    >>> decode_nucleotides(complement_codes(encode_nucleotides("AcN-R", "marked")))
    'Y-NgT'
    """
    return COMPLEMENT[codes[::-1]]


def gapped_places(k: int, gaps: int) -> list[tuple[int, ...]]:
    """Where the k letters of a word of `k + gaps` may stand, the first of them at its beginning.

    Examples
    --------
    >>> gapped_places(2, 1)
    [(0, 1), (0, 2)]
    """
    return [(0, *places) for places in combinations(range(1, k + gaps), k - 1)]


def pad_codes(sequences: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
    """A batch of sequences `[T]`: codes `[B, T]` int64 padded with 0, and lengths `[B]`."""
    lengths = torch.tensor([len(s) for s in sequences])
    codes = np.zeros((len(sequences), int(lengths.max())), dtype=np.int64)
    for row, sequence in zip(codes, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(codes), lengths


def present(codes: Tensor, lengths: Tensor) -> Tensor:
    """Which of padded codes `[B, T]` of sequences of these lengths `[B]` are there, `[B, T]` bool."""
    return prefix_mask(lengths, codes.shape[1]) & (codes != ABSENT)


def other_strand(codes: Tensor, lengths: Tensor) -> Tensor:
    """As :func:`complement_codes`, of padded sequences `[B, T]`, the padding still at the end."""
    place = torch.arange(codes.shape[1], device=codes.device)
    back = lengths[:, None] - 1 - place
    complement = torch.tensor(COMPLEMENT, dtype=codes.dtype, device=codes.device)
    return complement[codes.gather(1, torch.where(back >= 0, back, place))]
