"""The DNA alphabet: letters, codes, complements and the bases of ambiguous letters.

A code is a letter's index in :data:`LETTERS`, plus :data:`LOWER` for a flagged lower-case letter. All
tables are indexed by a byte or a code, so a chromosome is translated in one pass.
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
    "NOT_IUPAC",
    "SHARES",
    "SOFT_MASKED",
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
"""Every IUPAC letter, in the order of the codes; "-" is a position without a letter."""

ABSENT = LETTERS.index("-")
"""The code of a position without a letter."""

LOWER = len(LETTERS)
"""The code of a flagged lower-case letter minus the code of its upper-case letter."""

SOFT_MASKED = ("keep", "flag", "mask")
"""How a lower-case (soft-masked) letter is read: as the upper-case letter; as the upper-case letter with
a flag that tokens see; as a position without a letter."""

IUPAC = LETTERS.replace("-", "") + "U"
"""The letters of a sequence in upper case, U included."""

SHARES = np.array(
    [[bases.count(b) / max(1, len(bases)) for b in "ACGT"] for bases in _BASES.values()], np.float32
)
"""`[16, 4]`: the probabilities of A, C, G and T for each letter (equal for all bases of the letter)."""

KNOWN = np.tile(SHARES.max(1) > 0.25, 2)
"""`[32]` bool: whether a code excludes any base; N and "-" do not."""

_INVALID = 255

CODES = np.full(256, _INVALID, np.uint8)
"""`[256]`: the code of each byte, in either case; 255 for bytes outside the alphabet."""
for _code, _letter in enumerate(LETTERS):
    CODES[[ord(_letter), ord(_letter.lower())]] = _code
CODES[[ord("U"), ord("u")]] = LETTERS.index("T")

_IS_LOWER = (np.arange(256) >= ord("a")) & (CODES != _INVALID)
_TABLES = {
    "keep": CODES,
    "flag": np.where(_IS_LOWER, CODES + np.uint8(LOWER), CODES).astype(np.uint8),
    "mask": np.where(_IS_LOWER, np.uint8(ABSENT), CODES).astype(np.uint8),
}

_PAIR = {"".join(sorted(bases)): letter for letter, bases in _BASES.items()}
_PAIR = {
    letter: _PAIR["".join(sorted(bases.translate(str.maketrans("ACGT", "TGCA"))))]
    for letter, bases in _BASES.items()
}

COMPLEMENT = np.array(
    [LETTERS.index(_PAIR[c]) + lower for lower in (0, LOWER) for c in LETTERS], np.uint8
)
"""`[32]`: the complement of each code; case is kept."""

_PAIRS = {ord(a): ord(b) for a, b in (_PAIR | {"U": "A"}).items()}
_PAIRS |= {ord(chr(a).lower()): ord(chr(b).lower()) for a, b in _PAIRS.items()}
_COMPLEMENT_BYTES = bytes(_PAIRS.get(i, i) for i in range(256))
_MASK_INVALID = bytes(i if CODES[i] != _INVALID else ord("-") for i in range(256))

NOT_IUPAC = re.compile(f"[^{IUPAC}{IUPAC.lower()}-]")
"""A pattern that matches a character outside the alphabet."""


def encode_letters(letters: str | bytes, soft_masked: str = "keep") -> NDArray[np.uint8]:
    """Return the codes `[T]` of letters.

    Parameters
    ----------
    letters : str or bytes
        T letters, T >= 0.
    soft_masked : {"keep", "flag", "mask"}
        How lower-case letters are read; see :data:`SOFT_MASKED` (default "keep").

    Raises
    ------
    ValueError
        If a letter is outside IUPAC; the message names the letter and its position.

    Examples
    --------
    >>> encode_letters(b"acgtRN-")
    array([0, 1, 2, 3, 6, 4, 5], dtype=uint8)
    """
    raw = letters.encode("latin-1", "replace") if isinstance(letters, str) else letters
    codes = _TABLES[soft_masked][np.frombuffer(raw, np.uint8)]
    if len(codes) and codes.max() == _INVALID:
        i = int((codes == _INVALID).argmax())
        letter = letters[i] if isinstance(letters, str) else chr(raw[i])
        raise ValueError(
            f"the sequence has {letter!r} at position {i}; "
            f'use the IUPAC letters {LETTERS.replace("-", "")}, U, or "-"'
        )
    return codes


def reverse_complement(sequence: str) -> str:
    """Return the reverse complement of a DNA sequence; the case is kept.

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
    """Return the reverse complement of bytes, as :func:`reverse_complement`.

    Examples
    --------
    >>> complement_bytes(b"ACGTn-R")
    b'Y-nACGT'
    """
    return letters[::-1].translate(_COMPLEMENT_BYTES)


def mask_invalid(letters: bytes) -> bytes:
    """Replace every byte outside the alphabet by "-".

    Examples
    --------
    >>> mask_invalid(b"AC*Tu")
    b'AC-Tu'
    """
    return letters.translate(_MASK_INVALID)
