"""DNA sequences as codes of letters, and batches of them as tensors.

Codes are `[T]` or `[B, T]`, padded at the end; `lengths` `[B]` are the numbers of letters of the
sequences. The tables of the alphabet are in :mod:`titans_ts.datasets.alphabet`.
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
    SHARES,
    SOFT_MASKED,
    encode_letters,
)
from titans_ts.nn.packing import prefix_mask

__all__ = [
    "ABSENT",
    "LETTERS",
    "LOWER",
    "SHARES",
    "SOFT_MASKED",
    "complement_codes",
    "decode_nucleotides",
    "encode_nucleotides",
    "gapped_offsets",
    "other_strand",
    "pad_codes",
    "present",
]

_WRITTEN = np.frombuffer((LETTERS + LETTERS.lower()).encode(), np.uint8)


def encode_nucleotides(sequence: str, soft_masked: str = "keep") -> NDArray[np.uint8]:
    """Return the codes of a DNA sequence: A, C, G, T, N, "-" are 0 to 5; other IUPAC letters follow.

    U is read as T, and "-" is a position without a letter.

    Parameters
    ----------
    sequence : str
        A non-empty sequence.
    soft_masked : {"keep", "flag", "mask"}
        How lower-case letters are read; see :data:`SOFT_MASKED` (default "keep").

    Returns
    -------
    NDArray[np.uint8]
        `[T]`.

    Raises
    ------
    ValueError
        If the sequence is empty, has only absent letters, or has a letter outside IUPAC (the message
        names the letter and its position).

    Examples
    --------
    >>> encode_nucleotides("acgtRN")
    array([0, 1, 2, 3, 6, 4], dtype=uint8)
    >>> encode_nucleotides("aC", "flag")
    array([16,  1], dtype=uint8)
    >>> encode_nucleotides("ACX")
    Traceback (most recent call last):
    ...
    ValueError: the sequence has 'X' at position 2; use the IUPAC letters ACGTNRYSWKMBDHV, U, or "-"
    """
    if not sequence:
        raise ValueError("the sequence is empty; drop it, or give at least one nucleotide")
    codes = encode_letters(sequence, soft_masked)
    if (codes == ABSENT).all():
        what = '"-"' if soft_masked != "mask" else '"-" and lower case'
        raise ValueError(f"the sequence is nothing but {what}; drop it")
    return codes


def decode_nucleotides(codes: NDArray[np.integer]) -> str:
    """Return the letters of codes `[T]`.

    Examples
    --------
    >>> decode_nucleotides(encode_nucleotides("acGR-", "flag"))
    'acGR-'
    """
    return _WRITTEN[codes].tobytes().decode()


def complement_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the codes `[T]` of the reverse complement of a sequence; case is kept.

    Examples
    --------
    >>> decode_nucleotides(complement_codes(encode_nucleotides("AcN-R", "flag")))
    'Y-NgT'
    """
    return COMPLEMENT[codes[::-1]]


def gapped_offsets(k: int, gaps: int) -> list[tuple[int, ...]]:
    """Return the letter offsets of every gapped k-mer within `k + gaps` letters; the first offset is 0.

    Examples
    --------
    >>> gapped_offsets(2, 1)
    [(0, 1), (0, 2)]
    """
    return [(0, *offsets) for offsets in combinations(range(1, k + gaps), k - 1)]


def pad_codes(sequences: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
    """Return a batch of sequences `[T]`: codes `[B, T]` int64 padded with 0, and lengths `[B]`."""
    lengths = torch.tensor([len(s) for s in sequences])
    codes = np.zeros((len(sequences), int(lengths.max())), dtype=np.int64)
    for row, sequence in zip(codes, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(codes), lengths


def present(codes: Tensor, lengths: Tensor) -> Tensor:
    """Return the mask `[B, T]` of the present letters of padded codes `[B, T]` with lengths `[B]`."""
    return prefix_mask(lengths, codes.shape[1]) & (codes != ABSENT)


def other_strand(codes: Tensor, lengths: Tensor) -> Tensor:
    """As :func:`complement_codes`, for padded sequences `[B, T]`; the padding stays at the end."""
    place = torch.arange(codes.shape[1], device=codes.device)
    back = lengths[:, None] - 1 - place
    complement = torch.tensor(COMPLEMENT, dtype=codes.dtype, device=codes.device)
    return complement[codes.gather(1, torch.where(back >= 0, back, place))]
