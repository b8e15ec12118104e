"""Data leakage between training and test sequences: duplicates, relatives, conflicts, lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_ts.datasets.alphabet import CODES, reverse_complement

__all__ = ["check_splits", "kmer_hashes"]

Hashes = npt.NDArray[np.uint64]

_COLUMNS = ("kind", "part", "count", "share", "first", "detail")


def check_splits(
    train: Sequence[str] | pd.DataFrame,
    train_labels: Any,
    test: Sequence[str] | pd.DataFrame,
    test_labels: Any,
    *,
    k: int = 16,
    similarity: float = 0.7,
) -> pd.DataFrame:
    """Report problems that make a test score too high or too low; nothing is changed.

    A sequence and its reverse complement count as the same.

    Parameters
    ----------
    train, test : sequence of str
        DNA sequences, or a frame with one column.
    train_labels, test_labels : array
        The class of each sequence.
    k : int
        Length of the k-mers that are compared (default 16), at most 31.
    similarity : float
        Least share of a near-duplicate's k-mers that one training sequence contains (default 0.7).

    Returns
    -------
    DataFrame
        One row for each problem: `kind`, `part` ("train", "test"), `count`, `share` of the part, `first`
        (index of the first affected sequence) and `detail`. Kinds: "duplicate" (within a part), "in
        both" (a test sequence that is also in train), "near-duplicate" (a test sequence similar to a
        training sequence, without duplicates; it is compared with the ten that share the most sampled
        k-mers, weighted by rarity), "conflict" (one sequence with several labels),
        "imbalance" (a class with less than a tenth of the sequences of the most common one), "unseen
        class" (a test class that is not in train) and "length" (test sequences that their length alone
        classifies correctly, if they are more than the most common class).

    Raises
    ------
    TypeError, ValueError
        If the numbers of labels and sequences differ, a label is missing, a sequence is not a str, or a
        frame has several columns.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> train = ["".join(rng.choice(list("ACGT"), 60)) for _ in range(20)]
    >>> test = [train[3], train[5][:50] + "A" * 10, "".join(rng.choice(list("ACGT"), 60))]
    >>> check_splits(train, [0, 1] * 10, test, [1, 1, 0])[["kind", "part", "count"]]
                 kind  part  count
    0         in both  test      1
    1  near-duplicate  test      1
    """
    _check_k(k)
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity is {similarity}; it must lie in (0, 1]")
    parts: dict[str, tuple[list[str], npt.NDArray[Any]]] = {}
    for name, X, y in (("train", train, train_labels), ("test", test, test_labels)):
        if not hasattr(X, "__len__"):
            raise TypeError(
                f"{name} is a {type(X).__name__}; give a list, array or Series of str, or a frame of one "
                "column"
            )
        labels = np.asarray(y)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if labels.shape != (len(X),):
            raise ValueError(
                f"{name}_labels has shape {labels.shape}, but {name} has {len(X)} sequences; give one "
                "label each"
            )
        if pd.isna(labels).any():
            i = int(pd.isna(labels).argmax())
            raise ValueError(f"{name}_labels[{i}] is missing; drop that sequence or label it")
        if isinstance(X, pd.DataFrame):
            if X.shape[1] != 1:
                raise ValueError(
                    f"{name} has {X.shape[1]} columns; give the one with the sequences"
                )
            X = X.iloc[:, 0].tolist()
        for i, sequence in enumerate(X):
            if not isinstance(sequence, str):
                raise TypeError(f"{name}[{i}] is {sequence!r}; give a str")
        parts[name] = ([_one_of_both(s) for s in X], labels)
    findings = [*_repeats(parts), *_relatives(parts, k, similarity), *_classes(parts)]
    return pd.DataFrame(findings, columns=list(_COLUMNS))


def _one_of_both(sequence: str) -> str:
    """Return the alphabetically first strand of a sequence, without "-" at its ends; U is read as T."""
    upper = sequence.upper().replace("U", "T").strip("-")
    return min(upper, reverse_complement(upper))


def _finding(kind: str, part: str, concerned: npt.NDArray[np.bool_], detail: str) -> Iterator[Any]:
    count = int(concerned.sum())
    if count:
        yield kind, part, count, count / len(concerned), int(concerned.argmax()), detail


def _repeats(parts: dict[str, tuple[list[str], npt.NDArray[Any]]]) -> Iterator[Any]:
    for name, (sequences, _) in parts.items():
        again = pd.Series(sequences).duplicated().to_numpy()
        yield from _finding(
            "duplicate", name, again, "the same sequence occurs earlier in this part"
        )
    train = set(parts["train"][0])
    both = np.array([s in train for s in parts["test"][0]], dtype=bool)
    yield from _finding("in both", "test", both, "drop them from one part: they only test memory")
    whole = pd.DataFrame(
        {
            "sequence": [s for sequences, _ in parts.values() for s in sequences],
            "label": np.concatenate([labels.astype(object) for _, labels in parts.values()]),
        }
    )
    odd = (whole.groupby("sequence")["label"].transform("nunique") > 1).to_numpy()
    border = len(parts["train"][0])
    for name, concerned in (("train", odd[:border]), ("test", odd[border:])):
        yield from _finding("conflict", name, concerned, "the same sequence has several labels")


def _relatives(
    parts: dict[str, tuple[list[str], npt.NDArray[Any]]], k: int, similarity: float
) -> Iterator[Any]:
    train, test = list(dict.fromkeys(parts["train"][0])), parts["test"][0]
    hashes = [kmer_hashes(s, k) for s in train]
    samples = [_sampled(w) for w in hashes]
    sampled = np.concatenate([np.empty(0, np.uint64), *samples])
    owner = np.repeat(np.arange(len(hashes)), [len(s) for s in samples])
    order = np.argsort(sampled, kind="stable")
    sampled, owner = sampled[order], owner[order]
    # Of the sequences that share a very common k-mer (an adapter, a family), a few are enough.
    _, begin, place, count = np.unique(
        sampled, return_index=True, return_inverse=True, return_counts=True
    )
    kept = np.arange(len(sampled)) - begin[place] < max(50, len(train) // 100)
    sampled, owner, weight = sampled[kept], owner[kept], 1 / count[place[kept]]
    duplicates = set(train)
    near = np.zeros(len(test), bool)
    for i, sequence in enumerate(test):
        own = kmer_hashes(sequence, k)
        if sequence in duplicates or len(own) == 0:
            continue
        query = _sampled(own)
        first, last = np.searchsorted(sampled, query), np.searchsorted(sampled, query, side="right")
        n = last - first
        hits = np.repeat(first - (n.cumsum() - n), n) + np.arange(n.sum())
        if len(hits):
            candidates, which = np.unique(owner[hits], return_inverse=True)
            shared = np.bincount(which, weight[hits])
            for candidate in candidates[np.argsort(-shared, kind="stable")[:10]]:
                common = np.isin(own, hashes[candidate], assume_unique=True).mean()
                near[i] |= common >= similarity
    detail = f"at least {similarity:.0%} of their {k}-mers are in one training sequence"
    yield from _finding("near-duplicate", "test", near, detail)


def _classes(parts: dict[str, tuple[list[str], npt.NDArray[Any]]]) -> Iterator[Any]:
    for name, (_, labels) in parts.items():
        counts = pd.Series(labels).value_counts()
        rare = counts[counts < counts.max() / 10]
        concerned = pd.Series(labels).isin(rare.index).to_numpy()
        detail = ", ".join(f"{label!r}: {n}" for label, n in rare.items())
        yield from _finding("imbalance", name, concerned, f"rare classes: {detail}")
    (train, labels), (test, test_labels) = parts["train"], parts["test"]
    new = ~pd.Series(test_labels).isin(pd.unique(pd.Series(labels))).to_numpy()
    yield from _finding("unseen class", "test", new, "no model can learn them")
    if len(train) == 0 or len(test) == 0:
        return
    lengths, test_lengths = (np.array([len(s) for s in part]) for part in (train, test))
    # the most common class among the training sequences of about the same length
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, 33))[1:-1])
    bins = pd.Series(np.searchsorted(edges, lengths, side="right"))
    usual = pd.Series(labels).groupby(bins).agg(lambda y: y.value_counts().index[0])
    commonest = pd.Series(labels).value_counts().index[0]
    predicted = (
        pd.Series(np.searchsorted(edges, test_lengths, side="right")).map(usual).fillna(commonest)
    )
    right = predicted.to_numpy() == test_labels
    if right.mean() > (test_labels == commonest).mean() + max(0.05, 2 / np.sqrt(len(test_labels))):
        yield from _finding("length", "test", right, "classified correctly by their length alone")


def kmer_hashes(sequence: str, k: int) -> Hashes:
    """Return a hash of every distinct k-mer of a sequence, which its reverse complement has, too.

    Parameters
    ----------
    sequence : str
        Letters; a k-mer with one besides ACGT (lower case or U are as good) is skipped.
    k : int
        Letters of a k-mer, 1 to 31.

    Returns
    -------
    ndarray
        `[n]`, of uint64: different k-mers have different hashes.

    Raises
    ------
    ValueError
        If `k` is out of range.

    Examples
    --------
    >>> len(kmer_hashes("ACGTACG", 4))  # CGTA and TACG are one
    3
    """
    _check_k(k)
    codes = CODES[np.frombuffer(sequence.encode("latin-1", "replace"), np.uint8)]
    n = len(codes) - k + 1
    if n < 1:
        return np.empty(0, np.uint64)
    forward, backward = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    valid = np.ones(n, bool)
    for i in range(k):
        part = codes[i : i + n]
        valid &= part < 4
        forward |= (part.astype(np.uint64) & np.uint64(3)) << np.uint64(2 * (k - 1 - i))
        backward |= (np.uint64(3) - (part.astype(np.uint64) & np.uint64(3))) << np.uint64(2 * i)
    hashes = np.unique(np.minimum(forward, backward)[valid])
    hashes *= np.uint64(0x9E3779B97F4A7C15)  # overflow is intended: it separates similar k-mers
    hashes ^= hashes >> np.uint64(29)
    return hashes


def _check_k(k: int) -> None:
    if not 1 <= k <= 31:
        raise ValueError(f"k is {k!r}; it must lie between 1 and 31")


def _sampled(hashes: Hashes) -> Hashes:
    """Return a quarter of the k-mers, the same ones in every sequence (fractional MinHash)."""
    return hashes[hashes % np.uint64(4) == 0]
