"""K-mer counts of DNA, and the k-mers that predict a target best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize

from titans_ts.blas import one_blas_thread
from titans_ts.genomics.parse import iterate_sequences
from titans_ts.genomics.positions import beside, n_position_features, position_features
from titans_ts.nn.dna.nucleotides import LOWER, gapped_offsets

__all__ = ["BLOCK_LETTERS", "KmerVectorizer", "informative_kmers"]

BLOCK_LETTERS = 100_000
"""Approximate number of letters whose k-mers are counted at a time."""


class KmerVectorizer(TransformerMixin, BaseEstimator):
    """Counts of k-mers, or of gapped k-mers, in sequences.

    With gaps, every choice of k of `k + gaps` consecutive letters that includes the first one is counted
    (gapped k-mers: Ghandi et al., PLOS Computational Biology 2014).

    Parameters
    ----------
    k : int
        Letters of a k-mer, at most 10 (default 6).
    gaps : int
        Letters that a k-mer may skip (default 0).
    both_strands : bool
        Whether the k-mers of the reverse complement are counted too (default True).
    positions : int
        Number of letters, from the start, whose positions matter: further features are the pairs of
        letters at each of them, and 4-mers in sixteen equal parts of them, scaled to the norm of the
        counts (default 0: no such features).
    merged : bool
        Whether, with both strands, a k-mer and its reverse complement share a column, whose value is the
        count of either times the root of 2 (of a palindrome: its count on both strands). Products of rows
        stay the same, and so does a linear model with an L2 penalty, for half the work (default False).

    Examples
    --------
    >>> KmerVectorizer(k=2, both_strands=False).fit_transform(["ACAC", "TTN"]).toarray().sum(1).tolist()
    [3.0, 1.0]
    """

    def __init__(
        self,
        k: int = 6,
        gaps: int = 0,
        both_strands: bool = True,
        positions: int = 0,
        merged: bool = False,
    ) -> None:
        self.k = k
        self.gaps = gaps
        self.both_strands = both_strands
        self.positions = positions
        self.merged = merged

    def fit(self, X: Any, y: Any = None) -> KmerVectorizer:
        """Check the parameters; nothing is learned.

        Raises
        ------
        ValueError
            If `k`, `gaps` or `positions` is out of range.
        """
        if not 1 <= self.k <= 10:
            raise ValueError(f"k is {self.k!r}; it must lie between 1 and 10")
        if self.gaps < 0:
            raise ValueError(f"gaps is {self.gaps!r}; it must not be negative")
        if self.positions < 0:
            raise ValueError(f"positions is {self.positions!r}; it must not be negative")
        self.n_features_ = self._n_kmers() + n_position_features(self.positions)
        return self

    def transform(self, X: Any) -> csr_matrix:
        """Return counts `[N, n_features_]` of N sequences; k-mers with letters besides ACGT are skipped.

        Parameters
        ----------
        X : list, array or Series of str or of codes `[T]`, a frame of one column, or FastaRegions
            IUPAC letters, or codes from :func:`titans_ts.nn.dna.nucleotides.encode_nucleotides`. An
            object with a `to_pandas` method (polars, pyarrow) is read as a Series or a frame.

        Raises
        ------
        TypeError, ValueError
            If X has another type, or a letter outside IUPAC.
        """
        blocks = list(self.iter_transform(X)) or [self._features([])]
        return blocks[0] if len(blocks) == 1 else vstack(blocks, format="csr")

    def iter_transform(self, X: Any) -> Iterator[csr_matrix]:
        """Yield counts of a few sequences at a time, which limits the memory in use.

        Parameters
        ----------
        X : list, array or Series of str or of codes, a frame of one column, or FastaRegions
            As for :meth:`transform`.

        Yields
        ------
        csr_matrix
            `[n, n_features_]`, n >= 1.
        """
        block: list[NDArray[Any]] = []
        letters = 0
        for sequence in iterate_sequences(X, encoded=True):
            block.append(sequence)
            letters += len(sequence)
            if letters > BLOCK_LETTERS:
                long = block.pop() if len(sequence) > BLOCK_LETTERS else None
                if block:
                    yield self._features(block)
                if long is not None:
                    yield self._with_positions(self._count_long(long), [long])
                block, letters = [], 0
        if block:
            yield self._features(block)

    def offsets(self) -> list[tuple[int, ...]]:
        """Return the offsets of each kind of k-mer: 4 ** k columns, the first letter the lowest digit."""
        return gapped_offsets(self.k, self.gaps)

    @property
    def per_letter(self) -> int:
        """Number of k-mers that are counted at a letter."""
        return len(self.offsets()) * (1 + self.both_strands - self._shared())

    def kmer_of_column(self) -> NDArray[np.int64]:
        """Return the k-mer of each column, the first of two that share it: `i * 4 ** k + number`."""
        numbers = np.arange(len(self.offsets()) * 4**self.k)
        if not self._shared():
            return numbers
        return numbers[numbers <= _reverse_complements(self.k, self.gaps)]

    def unmerged(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return weights `[n, n_features]` for the columns without `merged`."""
        if not self._shared():
            return weight
        column, factor = _shared_columns(self.k, self.gaps)
        kmers, others = np.split(weight, [self._n_kmers()], 1)
        return np.concatenate([(kmers * factor / 2)[:, column], others], 1)

    def _shared(self) -> bool:
        return self.both_strands and self.merged

    def _n_kmers(self) -> int:
        if self._shared():
            return len(_shared_columns(self.k, self.gaps)[1])
        return len(self.offsets()) * int(4**self.k)

    def _features(self, sequences: list[NDArray[Any]]) -> csr_matrix:
        return self._with_positions(self._count(sequences), sequences)

    def _with_positions(self, counts: csr_matrix, sequences: list[NDArray[Any]]) -> csr_matrix:
        if self._shared():
            counts.data *= _shared_columns(self.k, self.gaps)[1][counts.indices]
        if not self.positions:
            return counts
        return beside(counts, position_features(sequences, self.positions, self.both_strands))

    def _count_long(self, sequence: NDArray[Any]) -> csr_matrix:
        """Count a long sequence in overlapping pieces; the k-mers of an overlap count once."""
        reach = self.k + self.gaps - 1
        counts = self._count([sequence[:reach]])
        for i in range(0, len(sequence), BLOCK_LETTERS):
            counts = counts + self._count([sequence[i : i + BLOCK_LETTERS + reach]])
            counts = counts - self._count([sequence[i : i + reach]])
        counts.eliminate_zeros()
        return counts

    def _count(self, sequences: list[NDArray[Any]]) -> csr_matrix:
        """Count several sequences, joined with separators that no k-mer spans."""
        shape = len(sequences), self._n_kmers()
        if not sequences:
            return csr_matrix(shape, dtype=np.float32)
        reach = self.k + self.gaps
        between = np.full(reach, 4, np.uint8)
        parts = [part for s in sequences for part in (np.minimum(s % LOWER, 4), between)]
        letters = np.concatenate(parts)
        n = len(letters) - reach
        row = np.repeat(np.arange(len(sequences)), [len(s) + reach for s in sequences])[:n]
        row = row.astype(np.int64) * shape[1]
        digits: NDArray[Any] = letters.astype(np.int32 if self.k <= 8 else np.int64)
        digits[letters > 3] = -(4**self.k)  # makes every k-mer with it negative
        own = _shared_columns(self.k, self.gaps)[0] if self._shared() else None
        other = (
            _reverse_complements(self.k, self.gaps) if self.both_strands and own is None else None
        )
        keys = []
        for i, offsets in enumerate(self.offsets()):
            kmer = np.zeros(n, digits.dtype)
            for power, offset in enumerate(offsets):
                kmer += digits[offset : offset + n] * 4**power
            whole = kmer >= 0
            kmer, start = kmer[whole].astype(np.int64) + i * 4**self.k, row[whole]
            keys.append(start + (kmer if own is None else own[kmer]))
            if other is not None:
                keys.append(start + other[kmer])
        return _summed(np.concatenate(keys), shape)


def _summed(keys: NDArray[np.int64], shape: tuple[int, int]) -> csr_matrix:
    """Return how often each key, `row * shape[1] + column`, occurs."""
    if shape[0] * shape[1] <= np.iinfo(np.uint32).max:
        keys = keys.astype(np.uint32)  # sorted faster
    keys.sort()
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    counts = np.diff(first, append=len(keys)).astype(np.float32)
    row, column = np.divmod(keys[first], shape[1])
    starts = np.searchsorted(row, np.arange(shape[0] + 1))
    return csr_matrix((counts, column.astype(np.int32), starts), shape=shape)


@lru_cache(4)
def _reverse_complements(k: int, gaps: int) -> NDArray[np.int64]:
    """Return the number of each k-mer's reverse complement, for the kinds of :func:`gapped_offsets`."""
    numbers = np.arange(4**k, dtype=np.int64)
    back = np.zeros_like(numbers)
    for power in range(k):
        back += (3 - (numbers >> (2 * power) & 3)) << (2 * (k - 1 - power))
    order = {offsets: i for i, offsets in enumerate(gapped_offsets(k, gaps))}
    kinds = [order[tuple(offsets[-1] - offset for offset in offsets[::-1])] for offsets in order]
    return (np.array(kinds, np.int64)[:, None] * 4**k + back).ravel()


@lru_cache(4)
def _shared_columns(k: int, gaps: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the column of each k-mer, shared with its reverse complement, and each column's factor."""
    back = _reverse_complements(k, gaps)
    numbers = np.arange(len(back))
    first = numbers <= back
    column = (np.cumsum(first) - 1)[np.minimum(numbers, back)]
    factor = np.where(numbers == back, 2, np.sqrt(2))[first].astype(np.float32)
    return column, factor


def informative_kmers(
    sequences: Sequence[NDArray[np.uint8]],
    target: NDArray[np.float64],
    n_kmers: int,
    *,
    k: int = 6,
    gaps: int = 2,
    both_strands: bool = True,
) -> NDArray[np.float32]:
    """Return the gapped k-mers that predict a target best, the best first.

    They are ranked by abs(coefficient) x standard deviation in a ridge regression on all k-mer counts.
    With both strands, a k-mer and its reverse complement are one, and one of them is returned.

    Parameters
    ----------
    sequences : sequence of ndarray
        Codes `[T]` each.
    target : ndarray
        `[N, n]`, one target per column; NaN is missing.
    n_kmers : int
        Maximum number of k-mers; few sequences may give fewer.
    k, gaps, both_strands
        As for :class:`KmerVectorizer`.

    Returns
    -------
    ndarray
        `[n_kmers, 4, k + gaps]`: one-hot letters, and zeros at skipped positions.

    Examples
    --------
    >>> from titans_ts.nn.dna.nucleotides import encode_nucleotides
    >>> codes = [encode_nucleotides(s) for s in ("AAGATACC", "CCGATATT", "TG", "GT")]
    >>> target = np.array([[1.0], [1], [0], [0]])
    >>> kmer = informative_kmers(codes, target, 1, k=4, gaps=0, both_strands=False)[0]
    >>> "".join("ACGT"[i] for i in kmer.argmax(0))
    'GATA'
    """
    vectorizer = KmerVectorizer(k, gaps, both_strands, merged=True).fit(sequences)
    counts = normalize(vectorizer.transform(sequences))
    known = ~np.isnan(target)
    mean = np.nansum(target, 0) / np.maximum(known.sum(0), 1)
    target = np.where(known, target - mean, 0)
    target /= np.maximum(target.std(0), 1e-12)
    with one_blas_thread():
        model = Ridge(alpha=3.0, solver="lsqr", tol=1e-3, max_iter=200).fit(counts, target)
    spread = np.sqrt(np.asarray(counts.multiply(counts).mean(0)).ravel())
    importance = np.abs(np.reshape(model.coef_, (-1, counts.shape[1]))).max(0) * spread
    offsets, names = vectorizer.offsets(), vectorizer.kmer_of_column()
    kmers: list[NDArray[np.float32]] = []
    for column in np.argsort(-importance, kind="stable")[:n_kmers]:
        if importance[column] == 0:
            break
        kmer = np.zeros((4, k + gaps), np.float32)
        choice, number = divmod(int(names[column]), 4**k)
        for power, offset in enumerate(offsets[choice]):
            kmer[number >> (2 * power) & 3, offset] = 1
        kmers.append(kmer)
    return np.array(kmers, np.float32).reshape(-1, 4, k + gaps)
