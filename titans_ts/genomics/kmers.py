"""K-mer counts of DNA, and the k-mers that predict a target best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    Examples
    --------
    >>> KmerVectorizer(k=2, both_strands=False).fit_transform(["ACAC", "TTN"]).toarray().sum(1).tolist()
    [3.0, 1.0]
    """

    def __init__(
        self, k: int = 6, gaps: int = 0, both_strands: bool = True, positions: int = 0
    ) -> None:
        self.k = k
        self.gaps = gaps
        self.both_strands = both_strands
        self.positions = positions

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
        self.n_features_ = len(self.offsets()) * 4**self.k + n_position_features(self.positions)
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

    def _features(self, sequences: list[NDArray[Any]]) -> csr_matrix:
        return self._with_positions(self._count(sequences), sequences)

    def _with_positions(self, counts: csr_matrix, sequences: list[NDArray[Any]]) -> csr_matrix:
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
        if not sequences:
            return csr_matrix((0, len(self.offsets()) * 4**self.k), dtype=np.float32)
        between = np.full(self.k + self.gaps, 4, np.uint8)
        parts = [part for s in sequences for part in (np.minimum(s % LOWER, 4), between)]
        letters = np.concatenate(parts)
        row = np.repeat(np.arange(len(sequences)), [len(s) + len(between) for s in sequences])
        rows, columns = [], []
        for back in (False, True) if self.both_strands else (False,):
            if back:
                letters, row = np.where(letters < 4, 3 - letters, 4)[::-1], row[::-1]
            known, digits = letters < 4, letters.astype(np.int32)
            for i, offsets in enumerate(self.offsets()):
                n = len(letters) - offsets[-1]
                kmer, whole = np.full(n, i * 4**self.k, np.int32), np.ones(n, bool)
                for power, offset in enumerate(offsets):
                    kmer += digits[offset : offset + n] << (2 * power)
                    whole &= known[offset : offset + n]
                rows.append(row[:n][whole])
                columns.append(kmer[whole])
        where = np.concatenate(rows), np.concatenate(columns)
        shape = (len(sequences), len(self.offsets()) * 4**self.k)
        return csr_matrix((np.ones(len(where[0]), np.float32), where), shape=shape)


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
    With both strands, only one of a k-mer and its reverse complement is returned.

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
    vectorizer = KmerVectorizer(k, gaps, both_strands).fit(sequences)
    counts = normalize(vectorizer.transform(sequences))
    known = ~np.isnan(target)
    mean = np.nansum(target, 0) / np.maximum(known.sum(0), 1)
    target = np.where(known, target - mean, 0)
    target /= np.maximum(target.std(0), 1e-12)
    with one_blas_thread():
        model = Ridge(alpha=3.0, solver="lsqr", tol=1e-3, max_iter=200).fit(counts, target)
    spread = np.sqrt(np.asarray(counts.multiply(counts).mean(0)).ravel())
    importance = np.abs(np.reshape(model.coef_, (-1, counts.shape[1]))).max(0) * spread
    offsets = vectorizer.offsets()
    kmers: list[NDArray[np.float32]] = []
    seen: set[bytes] = set()
    for column in np.argsort(-importance, kind="stable"):
        if importance[column] == 0 or len(kmers) == n_kmers:
            break
        kmer = np.zeros((4, k + gaps), np.float32)
        choice, number = divmod(int(column), 4**k)
        for power, offset in enumerate(offsets[choice]):
            kmer[number >> (2 * power) & 3, offset] = 1
        if kmer.tobytes() in seen:
            continue
        kmers.append(kmer)
        if both_strands:
            reach = offsets[choice][-1] + 1
            back = np.zeros_like(kmer)
            back[:, :reach] = kmer[::-1, :reach][:, ::-1]
            seen.add(back.tobytes())
    return np.array(kmers, np.float32).reshape(-1, 4, k + gaps)
