"""Read the sequences and targets that a user passes to the estimators for DNA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from titans_ts.datasets import FastaRegions
from titans_ts.nn.dna.nucleotides import encode_nucleotides

__all__ = ["Codes", "check_lengths", "check_target", "encode_sequences", "iterate_sequences"]

Codes = NDArray[np.uint8]


def encode_sequences(X: Any, soft_masked: str = "keep", name: str = "X") -> list[Codes]:
    """Return the codes of sequences, one array `[T]` each.

    Parameters
    ----------
    X : list, array or Series of str, a frame of one column, or FastaRegions
        N sequences. An object with a `to_pandas` method (polars, pyarrow) is read as a Series or a frame.
    soft_masked : {"keep", "flag", "mask"}
        How lower-case (soft-masked) letters are read (default "keep").
    name : str
        The name of X in error messages (default "X").

    Raises
    ------
    TypeError
        If X or one of its elements has another type.
    ValueError
        If X is empty or has more than one column, or a sequence has a letter outside IUPAC.
    """
    return list(iterate_sequences(X, soft_masked, name))


def iterate_sequences(
    X: Any, soft_masked: str = "keep", name: str = "X", *, encoded: bool = False
) -> Iterator[Codes]:
    """Yield the codes `[T]` of each sequence.

    Parameters
    ----------
    X : list, array or Series of str, a frame of one column, or FastaRegions
        As for :func:`encode_sequences`.
    soft_masked : {"keep", "flag", "mask"}
        As for :func:`encode_sequences`.
    name : str
        As for :func:`encode_sequences`.
    encoded : bool
        Whether X may be empty and may hold codes, which are returned unchanged (default False).

    Raises
    ------
    TypeError, ValueError
        As for :func:`encode_sequences`.
    """
    if hasattr(X, "to_pandas"):
        X = X.to_pandas()
    text = isinstance(X, (str, bytes))
    listed = isinstance(X, Sequence) and not text
    if text or not (listed or hasattr(X, "__array__")):
        raise TypeError(
            f"{name} is a {type(X).__name__}; give a list, array or Series of str, or a frame of one "
            "column"
        )
    values: Any = X
    by_element = encoded if listed else encoded and np.asarray(X).dtype == np.uint8
    if not by_element and not (
        isinstance(X, FastaRegions) and len(X)
    ):  # FastaRegions are read one by one
        values = np.asarray(list(X) if listed else X, dtype=object)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1 or not (len(values) or encoded):
            least = "N" if encoded else "N >= 1"
            raise ValueError(
                f"{name} has shape {values.shape}; give {least} sequences, one str each"
            )
    for i, value in enumerate(values):
        if isinstance(value, str):
            try:
                yield encode_nucleotides(value, soft_masked)
            except ValueError as error:
                raise ValueError(f"{name}[{i}]: {error}") from None
        elif encoded and isinstance(value, np.ndarray):
            yield value
        else:
            raise TypeError(f"{name}[{i}] is {value!r}, a {type(value).__name__}; give a str")


def check_lengths(sequences: Codes | list[Codes], length: int) -> None:
    """Raise ValueError unless all sequences have `length` letters, as the bins of a track require."""
    for i, sequence in enumerate(sequences):
        if len(sequence) != length:
            raise ValueError(
                f"X[{i}] has {len(sequence)} letters, not {length}; a track needs sequences of one length"
            )


def check_target(y: Any) -> None:
    """Raise ValueError if y is None, with the message that scikit-learn's checks expect."""
    if y is None:
        raise ValueError(
            "fit requires y to be passed, but the target y is None; give the target of each sequence"
        )
