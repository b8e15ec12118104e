"""Tasks of :mod:`recall`: what a model must keep, and for how long.

A task makes batches of any length. Inputs are tokens `[n, T]` of a vocabulary, or numbers `[n, T, F]`;
targets `[n, T]` are classes, -1 where none is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from record import data_file
from torch import Tensor

from titans_ts.datasets import Genome

__all__ = ["TASKS", "Task"]

KEYS = VALUES = 64
NOISE = 32
"""Tokens that mean nothing, which fill a sequence up."""
SYMBOLS, KEPT = 16, 16
"""Selective copying: different symbols, and how many of them a sequence has."""
LEVELS = 16
"""Heights that a planted value can have."""

Batch = tuple[Tensor, Tensor]


class Task(NamedTuple):
    """A task, and the length at which it is trained."""

    inputs: int
    """Tokens of the vocabulary, or, where `numbers`, the width F of an input."""
    classes: int
    length: int
    make: Callable[[int, int, torch.Generator], Batch]
    """(samples, length, generator) to inputs and targets."""
    numbers: bool = False


def associative_recall(pairs: int, n: int, length: int, generator: torch.Generator) -> Batch:
    """Key-value pairs, then the keys in another order among noise; the target is a key's value.

    Without room for noise the keys follow the pairs directly.
    """
    key = _ranks(n, KEYS if pairs <= KEYS else pairs, generator)[:, :pairs]
    value = torch.randint(VALUES, (n, pairs), generator=generator)
    keys = max(KEYS, pairs)
    first = torch.stack([key, keys + value], 2).flatten(1)
    rest = length - 2 * pairs
    x = keys + VALUES + torch.randint(NOISE, (n, rest), generator=generator)
    y = torch.full((n, rest), -1)
    place = _ranks(n, rest, generator)[:, :pairs].sort(1).values
    order = _ranks(n, pairs, generator)
    x.scatter_(1, place, key.gather(1, order))
    y.scatter_(1, place, value.gather(1, order))
    return torch.cat([first, x], 1), torch.cat([torch.full_like(first, -1), y], 1)


def selective_copying(n: int, length: int, generator: torch.Generator) -> Batch:
    """Symbols among noise, then as many marks; the target of a mark is the next symbol."""
    symbols = torch.randint(SYMBOLS, (n, KEPT), generator=generator)
    rest = length - KEPT
    x = SYMBOLS + 1 + torch.randint(NOISE, (n, rest), generator=generator)
    x.scatter_(1, _ranks(n, rest, generator)[:, :KEPT].sort(1).values, symbols)
    marks = torch.full((n, KEPT), SYMBOLS)
    return torch.cat([x, marks], 1), torch.cat([torch.full((n, rest), -1), symbols], 1)


def word_problem(degree: int, n: int, length: int, generator: torch.Generator) -> Batch:
    """Permutations of `degree` objects; the target is the product of all so far."""
    table = _products(degree)
    x = torch.randint(len(table), (n, length), generator=generator)
    y, product = torch.empty_like(x), torch.zeros(n, dtype=torch.long)
    for t in range(length):
        product = table[product, x[:, t]]
        y[:, t] = product
    return x, y


def series_needle(n: int, length: int, generator: torch.Generator) -> Batch:
    """A real series in which one marked value is planted; its height is asked for at the end."""
    series = _series()
    start = torch.randint(len(series) - length, (n, 1), generator=generator)
    x = torch.zeros(n, length, 3)
    x[..., 0] = series[start + torch.arange(length)]
    place = torch.randint(length // 4, (n, 1), generator=generator)
    level = torch.randint(LEVELS, (n, 1), generator=generator)
    x[..., 0].scatter_(1, place, (level / (LEVELS - 1) * 4 - 2).float())
    x[..., 1].scatter_(1, place, 1.0)
    x[:, -1] = torch.tensor([0.0, 0.0, 1.0])
    y = torch.full((n, length), -1)
    y[:, -1] = level[:, 0]
    return x, y


def dna_needle(n: int, length: int, generator: torch.Generator) -> Batch:
    """Letters of E. coli with a mark and three letters after it, asked for at the end."""
    letters = _letters()
    start = torch.randint(len(letters) - length, (n, 1), generator=generator)
    x = letters[start + torch.arange(length)].clone()
    place = torch.randint(max(1, length // 4 - 4), (n, 1), generator=generator)
    x.scatter_(1, place, 4)
    x[:, -3:] = torch.tensor([5, 6, 7])
    y = torch.full((n, length), -1)
    y[:, -3:] = x.gather(1, place + torch.arange(1, 4))
    return x, y


def _ranks(n: int, size: int, generator: torch.Generator) -> Tensor:
    """n random permutations of `size` numbers."""
    return torch.rand(n, size, generator=generator).argsort(1)


@cache
def _products(degree: int) -> Tensor:
    """`[G, G]`: the product of two permutations, the identity first."""
    group = list(itertools.permutations(range(degree)))
    place = {p: i for i, p in enumerate(group)}
    return torch.tensor([[place[tuple(p[i] for i in q)] for q in group] for p in group])


@cache
def _series() -> Tensor:
    values = pd.read_csv(data_file("ETTh1.csv.gz"))["OT"].to_numpy(np.float32)
    return torch.from_numpy((values - values.mean()) / values.std())


@cache
def _letters() -> Tensor:
    genome = Genome(data_file("ecoli_k12_mg1655.fa.gz"))
    name = max(genome.lengths, key=lambda contig: genome.lengths[contig])
    codes = np.frombuffer(genome.fetch(name, 0, genome.lengths[name]).encode(), np.uint8)
    table = np.zeros(256, np.int64)
    table[list(b"ACGT")] = range(4)
    return torch.from_numpy(table[codes])


def _recall(pairs: int) -> Task:
    keys = max(KEYS, pairs)
    make = partial(associative_recall, pairs)
    return Task(keys + VALUES + NOISE, VALUES, 4 * pairs, make)


TASKS = {
    **{f"recall-{pairs}": _recall(pairs) for pairs in (8, 16, 32, 64, 128)},
    "copy": Task(SYMBOLS + 1 + NOISE, SYMBOLS, 64, selective_copying),
    "parity": Task(2, 2, 64, partial(word_problem, 2)),
    "S3": Task(6, 6, 64, partial(word_problem, 3)),
    "S5": Task(120, 120, 64, partial(word_problem, 5)),
    "series": Task(3, LEVELS, 128, series_needle, numbers=True),
    "dna": Task(8, 4, 128, dna_needle),
}
