"""Split sequences into a training part and a held-out part, stratified or by groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, train_test_split

__all__ = [
    "ClassKeepingSplit",
    "check_groups",
    "hold_out",
    "hold_out_fraction",
    "keep_every_class",
]


class ClassKeepingSplit(ShuffleSplit):
    """A random split, as scikit-learn's, whose training part has every class.

    If no row can be held out, the training part is also the held-out part.
    """

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Any, Any]]:
        """Yield the indices of the training part and of the held-out part."""
        for train, held_out in super().split(X, y, groups):
            train, held_out = keep_every_class(train, held_out, np.asarray(y))
            yield train, held_out if len(held_out) else train


def check_groups(groups: Any, n: int) -> NDArray[Any]:
    """Return the groups of n sequences as an array `[n]`.

    Raises
    ------
    ValueError
        If their number is not n, or a group is missing.
    """
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(f"groups has shape {groups.shape}, but X has {n} sequences; give one each")
    if pd.isna(groups).any():
        raise ValueError(
            f"groups[{int(pd.isna(groups).argmax())}] is missing; give every sequence one"
        )
    return groups


def hold_out(
    n: int,
    n_held_out: int,
    seed: int,
    *,
    classes: NDArray[np.int64] | None = None,
    groups: NDArray[Any] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split n sequences into a training part and a held-out part.

    Parameters
    ----------
    n : int
        Number of sequences.
    n_held_out : int
        Number of sequences to hold out; with groups, about this number.
    seed : int
        Seed of the random draw.
    classes : ndarray of int, optional
        `[n]`. The split is stratified if every class has enough sequences; otherwise it is random, and
        held-out sequences move to the training part if it has none of their class.
    groups : ndarray, optional
        `[n]`. Whole groups are held out. Default: no groups.

    Returns
    -------
    tuple of ndarray
        Indices of the training part and of the held-out part.

    Raises
    ------
    ValueError
        If there is only one group, or each group has all sequences of a class.
    """
    rows = np.arange(n)
    if n_held_out == 0:
        return rows, rows[:0]
    if groups is not None:
        same = np.zeros(n, np.int64)
        chosen = _draw_groups(groups, same if classes is None else classes, n_held_out, seed)
        return rows[~chosen], rows[chosen]
    by_class = (
        classes is not None
        and np.bincount(classes).min() >= 2
        and min(n_held_out, n - n_held_out) >= classes.max() + 1
    )
    train, held_out = train_test_split(
        rows,
        test_size=n_held_out,
        stratify=classes if by_class else None,
        random_state=seed,
    )
    return (train, held_out) if classes is None else keep_every_class(train, held_out, classes)


def hold_out_fraction(
    labels: pd.Series, fraction: float, seed: int, groups: pd.Series | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split labelled rows into a training part and a test part.

    Parameters
    ----------
    labels : Series
        `[N]`. The split is stratified if every label has two rows or more.
    fraction : float
        Share of the rows, or of the groups, to hold out.
    seed : int
        Seed of the random draw.
    groups : Series, optional
        `[N]`. Whole groups are held out. Default: no groups.

    Returns
    -------
    tuple of ndarray
        Indices of the training part and of the test part.
    """
    if groups is not None:
        split = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        train, held_out = next(split.split(labels, groups=groups))
        return train, held_out
    counts = labels.value_counts()
    enough = counts.min() >= 2 and int(fraction * len(labels)) >= len(counts)
    train, held_out = train_test_split(
        np.arange(len(labels)),
        test_size=fraction,
        random_state=seed,
        stratify=labels if enough else None,
    )
    return train, held_out


def keep_every_class(
    train: NDArray[np.int64], held_out: NDArray[np.int64], classes: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Move held-out rows to the training part if it has no row of their class."""
    known = np.isin(classes[held_out], classes[train])
    return np.append(train, held_out[~known]), held_out[known]


def _draw_groups(
    groups: NDArray[Any], classes: NDArray[np.int64], n_held_out: int, seed: int
) -> NDArray[np.bool_]:
    """Return a mask `[N]` of the sequences to hold out.

    Groups are drawn at random until about `n_held_out` sequences are chosen; the last group of a class is
    never drawn.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"groups are all {str(names[0])!r}; a part cannot be held out, give groups=None"
        )
    counts = np.zeros((len(names), classes.max() + 1), np.int64)
    np.add.at(counts, (group, classes), 1)
    kept, sizes = counts.sum(0), counts.sum(1)
    chosen: list[int] = []
    total = 0
    for i in np.random.default_rng(seed).permutation(len(names)):
        nearer = abs(total + sizes[i] - n_held_out) < abs(total - n_held_out)
        if nearer and (kept > counts[i]).all():
            chosen.append(i)
            total, kept = total + sizes[i], kept - counts[i]
    if not chosen:  # every group is too large: take the smallest allowed one
        allowed = (kept > counts).all(1)
        if not allowed.any():
            raise ValueError(
                "groups hold out every sequence of a class; merge groups, or give a validation part"
            )
        chosen = [int(np.where(allowed, sizes, sizes.max() + 1).argmin())]
    return np.isin(group, chosen)
