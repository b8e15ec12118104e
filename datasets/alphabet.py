"""The DNA alphabet, in one place: letters, codes, complements, and what an ambiguous letter stands for.

A code is a letter's place in :data:`LETTERS`, plus :data:`LOWER` for a marked lower-case letter. All
tables are indexed by a byte or a code, so that a chromosome is translated in one pass.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ABSENT",
    "CODES",
    "COMPLEMENT",
    "IUPAC",
    "KNOWN",
    "LETTERS",
    "LOWER",
    "LOWER_CASE",
    "NOT_IUPAC",
    "SHARES",
    "complement_bytes",
    "encode_letters",
    "mask_invalid",
    "reverse_complement",
]

_BASES = {
    **{"A": "A", "C": "C", "G": "G", "T": "T", "N": "ACGT", "-": ""},
    **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"},
}

LETTERS = "".join(_BASES)
"""Every letter, in the order of the codes (IUPAC); "-" is a place without a letter."""

ABSENT = LETTERS.index("-")
"""The code of a place without a letter."""

LOWER = len(LETTERS)
"""Difference between the codes of a marked lower-case letter and of its upper-case letter."""

LOWER_CASE = ("same", "marked", "absent")
"""What a lower-case (soft-masked) letter is: the same as an upper-case one; the same with a mark that
tokens see; a place without a letter."""

IUPAC = LETTERS.replace("-", "") + "U"
"""The letters of a sequence in upper case, U included."""

SHARES = np.array(
    [[bases.count(b) / max(1, len(bases)) for b in "ACGT"] for bases in _BASES.values()], np.float32
)
"""`[16, 4]`: a letter as equal shares of the nucleotides that it may stand for."""

KNOWN = np.tile(SHARES.max(1) > 0.25, 2)
"""`[32]` bool: whether a code says anything about the letter; N and "-" do not."""

_INVALID = 255

CODES = np.full(256, _INVALID, np.uint8)
"""`[256]`: the code of a letter in either case, by its byte; 255 for bytes outside the alphabet."""
for _code, _letter in enumerate(LETTERS):
    CODES[[ord(_letter), ord(_letter.lower())]] = _code
CODES[[ord("U"), ord("u")]] = LETTERS.index("T")

_IS_LOWER = (np.arange(256) >= ord("a")) & (CODES != _INVALID)
_TABLES = {
    "same": CODES,
    "marked": np.where(_IS_LOWER, CODES + np.uint8(LOWER), CODES).astype(np.uint8),
    "absent": np.where(_IS_LOWER, np.uint8(ABSENT), CODES).astype(np.uint8),
}

_PAIR = {"".join(sorted(bases)): letter for letter, bases in _BASES.items()}
_PAIR = {
    letter: _PAIR["".join(sorted(bases.translate(str.maketrans("ACGT", "TGCA"))))]
    for letter, bases in _BASES.items()
}

COMPLEMENT = np.array(
    [LETTERS.index(_PAIR[c]) + lower for lower in (0, LOWER) for c in LETTERS], np.uint8
)
"""`[32]`: the code of the complement of a code; case is kept."""

_PAIRS = {ord(a): ord(b) for a, b in (_PAIR | {"U": "A"}).items()}
_PAIRS |= {ord(chr(a).lower()): ord(chr(b).lower()) for a, b in _PAIRS.items()}
_COMPLEMENT_BYTES = bytes(_PAIRS.get(i, i) for i in range(256))
_MASK_INVALID = bytes(i if CODES[i] != _INVALID else ord("-") for i in range(256))

NOT_IUPAC = re.compile(f"[^{IUPAC}{IUPAC.lower()}-]")
"""A pattern that matches a character outside the alphabet."""


def encode_letters(letters: str | bytes, lower_case: str = "same") -> NDArray[np.uint8]:
    """Codes `[T]` of letters.

    Parameters
    ----------
    letters : str or bytes
        T letters, T >= 0.
    lower_case : {"same", "marked", "absent"}
        What lower-case letters are; one of :data:`LOWER_CASE`.

    Raises
    ------
    ValueError
        If there is a letter outside IUPAC; it names the letter and its place.

    Examples
    --------
    >>> encode_letters(b"acgtRN-")
    array([0, 1, 2, 3, 6, 4, 5], dtype=uint8)
    """
    raw = letters.encode("latin-1", "replace") if isinstance(letters, str) else letters
    codes = _TABLES[lower_case][np.frombuffer(raw, np.uint8)]
    if len(codes) and codes.max() == _INVALID:
        i = int((codes == _INVALID).argmax())
        letter = letters[i] if isinstance(letters, str) else chr(raw[i])
        raise ValueError(
            f"the sequence has {letter!r} at position {i}; "
            f'use the IUPAC letters {LETTERS.replace("-", "")}, U, or "-"'
        )
    return codes


def reverse_complement(sequence: str) -> str:
    """The other strand of a DNA sequence, read in its own direction; the case is kept.

    Parameters
    ----------
    sequence : str
        IUPAC letters of any case; other characters (such as "-") stay as they are.

    Examples
    --------
    >>> reverse_complement("ACGTn-R")
    'Y-nACGT'
    """
    return sequence[::-1].translate(_PAIRS)


def complement_bytes(letters: bytes) -> bytes:
    """As :func:`reverse_complement`, of bytes.

    Examples
    --------
    >>> complement_bytes(b"ACGTn-R")
    b'Y-nACGT'
    """
    return letters[::-1].translate(_COMPLEMENT_BYTES)


def mask_invalid(letters: bytes) -> bytes:
    """Letters with "-" for every byte outside the alphabet.

    Examples
    --------
    >>> mask_invalid(b"AC*Tu")
    b'AC-Tu'
    """
    return letters.translate(_MASK_INVALID)
