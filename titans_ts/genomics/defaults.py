"""Defaults of the estimators for DNA, from the sequences and a quick look at how linear models do.

The look compares linear models of k-mers, which take seconds: with the k-mers of both strands or of
one, and with their positions or without. It decides about strands and positions; the number of sequences
and their lengths decide about the rest. benchmarks/README.md has the measurements behind the choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from titans_ts.config import SequenceCandidate, TrainingConfig
from titans_ts.genomics.dataset import SequenceDataset
from titans_ts.genomics.kmer_model import cross_validated_loss
from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.genomics.options import (
    ConvTokenizer,
    KmerModel,
    KmerTokenizer,
    NucleotideTokenizer,
    ResidualTokenizer,
    read_tokenizer,
)

__all__ = [
    "Look",
    "default_epochs",
    "default_kmer_model",
    "network_defaults",
    "pretrained_pooling",
    "pretrained_rate",
    "quick_look",
]

_FEWEST_HELD_OUT = 12
"""Sequences in a validation part that can decide about strands and positions."""
_ENOUGH_HELD_OUT, _FOLDS = 1000, 4
"""Held-out sequences that decide alone, and the number of folds that are beside fewer of them."""
_LETTERS_OF_LOOK = 1_000_000
_LONGEST_OF_LOOK = 50_000
_LONGEST_WITH_POSITIONS = 1000
_LONG = 1000
"""Letters of a typical sequence from which on its composition is what matters."""
_FEW, _MANY = 2500, 25_000
"""Sequences below which there are more filters, and from which on convolutions follow the filters."""
_PLACED = 0.1
"""Share of the loss that positions have to save to be used; less was not repeated on other sequences."""
_TOTAL_STEPS = 960
_TUNING_STEPS, _TUNING_EPOCHS = 120, 10


class Look(NamedTuple):
    """What the sequences are like, and what linear models of their k-mers show."""

    n: int
    """Number of sequences to train on."""
    length: int
    """Letters of a typical sequence: the median."""
    equal: bool = False
    """Whether all have this length."""
    losses: dict[str, float] = {}  # noqa: RUF012
    """Loss of each linear model on sequences that it did not read, by name; empty if there was none."""

    @classmethod
    def of(cls, data: SequenceDataset) -> Look:
        """Return what the sequences are like, without a linear model."""
        lengths = np.array([len(s) for s in data.sequences])
        return cls(len(data), int(np.median(lengths)), bool((lengths == lengths[0]).all()))

    @property
    def strands(self) -> str:
        """Return "average" if k-mers of both strands are better than those of one, else "none"."""
        best = min(self.losses, key=lambda name: self.losses[name], default="one strand")
        return "average" if best.startswith("both") else "none"

    def gain(self, rc: str) -> float:
        """Return the share of the loss that positions save, for this use of the strands."""
        name = "one strand" if rc == "none" else "both strands"
        if f"{name}, positions" not in self.losses:
            return 0.0
        return 1 - self.losses[f"{name}, positions"] / max(self.losses[name], 1e-12)

    def placed(self, rc: str) -> bool:
        """Return whether positions matter, for this use of the strands."""
        return self.gain(rc) > _PLACED


def quick_look(
    data: SequenceDataset,
    held_out: SequenceDataset,
    output: str,
    n_outputs: int,
    *,
    seed: int,
    weight: NDArray[np.float64] | None = None,
    drawn: bool = True,
) -> Look:
    """Fit linear models of 6-mers to a part of about a million letters, and compare them.

    Where fewer than a thousand sequences are held out, four folds of the others are held out in turn as
    well: a single small part decides by chance.

    Parameters
    ----------
    data, held_out : SequenceDataset
        The training part and the validation part.
    output : str
        Kind of the outputs: "classes", "labels" or "values".
    n_outputs : int
        Number of classes, labels or values.
    seed : int
        Seed of the random subset.
    weight : ndarray, optional
        `[n]`, as for :func:`titans_ts.training.sequence_loss`.
    drawn : bool
        Whether the held-out sequences were drawn at random (default True). Those of other groups, or of
        the user's choice, show what carries over to them: there are no folds beside them.
    """
    look = Look.of(data)
    if len(held_out) < _FEWEST_HELD_OUT:
        return look
    most = max(200, _LETTERS_OF_LOOK // max(1, min(look.length, _LONGEST_OF_LOOK)))
    some, others = (
        ([s[:_LONGEST_OF_LOOK] for s in part.sequences], part.target)
        for part in (data.subsample(most, seed), held_out.subsample(most // 2, seed))
    )
    if output == "classes" and len(np.unique(some[1])) < n_outputs:
        return look  # the subset lacks a class
    few = drawn and len(held_out) < _ENOUGH_HELD_OUT
    folds = _folds(some[1], seed) if few else []
    losses = {}
    with_positions = look.equal and look.length <= _LONGEST_WITH_POSITIONS
    for name, both in (("both strands", True), ("one strand", False)):
        for end, positions in (("", 0), (", positions", look.length))[: 1 + with_positions]:
            counter = KmerVectorizer(6, 0, both, positions, merged=True)
            losses[name + end] = cross_validated_loss(
                counter, some, others, output, n_outputs, weight, folds=folds
            )
    return look._replace(losses=losses)


def _folds(target: NDArray[Any], seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return indices of random folds to fit and to hold out, without those that lack a class to fit."""
    if len(target) < _FOLDS:
        return []
    folds = KFold(_FOLDS, shuffle=True, random_state=seed).split(target)
    if target.ndim > 1:
        return list(folds)
    n_classes = len(np.unique(target))
    return [fold for fold in folds if len(np.unique(target[fold[0]])) == n_classes]


def default_kmer_model(look: Look, rc: str) -> KmerModel:
    """Return the k-mer model for sequences: gapped if they are short, with positions if these help.

    Examples
    --------
    >>> default_kmer_model(Look(1000, 5000), "none")
    KmerModel()
    >>> losses = {"one strand": 0.5, "one strand, positions": 0.3}
    >>> default_kmer_model(Look(1000, 70, True, losses), "none")
    KmerModel(gaps=2, positions=70)
    """
    positions = look.length if look.placed(rc) else 0
    return KmerModel(6, gaps=2 if look.length <= _LONG else 0, positions=positions)


def network_defaults(
    look: Look, rc: str, tokenizer: Any = None, stride: int | None = None
) -> dict[str, Any]:
    """Return `tokenizer`, `stride`, `position`, `pooling`, `learning_rate` and `max_length` by name.

    Motif filters that begin with predictive k-mers are the usual choice. Where positions matter, they
    are kept: tokens of letters for up to 128 letters, else all tokens side by side ("flatten"). From
    25 000 sequences on, where they do not, convolutions follow random filters. For more than a thousand
    letters, tokens are sums of k-mers, and their mean is taken.

    Parameters
    ----------
    look : Look
        What the sequences are like.
    rc : str
        The use of the reverse complement.
    tokenizer : str or options, optional
        The tokenizer, if it is given.
    stride : int, optional
        Letters per token, if given.

    Examples
    --------
    >>> network_defaults(Look(20_000, 101), "average")["tokenizer"]
    ConvTokenizer(n_filters=256, init='kmers')
    >>> network_defaults(Look(30_000, 101), "average")["tokenizer"]
    ResidualTokenizer()
    >>> network_defaults(Look(500, 9000), "average")["stride"]
    6
    """
    length, placed = look.length, look.placed(rc) and rc == "none"
    few = look.n < _FEW
    if tokenizer is None:
        if length > _LONG:
            tokenizer = KmerTokenizer(k=max(6, stride or 6), all_offsets=True)
        elif length <= 40 or (placed and length <= 128):
            tokenizer = NucleotideTokenizer(kernel_size=max(11, stride or 11))
        elif look.n >= _MANY and not placed:
            tokenizer = ResidualTokenizer()
        else:
            tokenizer = ConvTokenizer(n_filters=512 if few and not placed else 256, init="kmers")
    kind = type(read_tokenizer(tokenizer))
    found: dict[str, Any] = {"tokenizer": tokenizer, "position": True, "max_length": None}
    if kind is KmerTokenizer:
        found |= {
            "stride": 6 if length > 4000 else 3,
            "pooling": "mean",
            "position": length <= _LONG,
        }
        found |= {"learning_rate": 0.01 if length > _LONG else 0.003}
        found["max_length"] = None if length <= _LONG else 12_288 if length > 4000 else 3072
    elif kind in (ConvTokenizer, ResidualTokenizer):
        pooling = "flatten" if placed else "max"
        stride = 4 if length <= 400 else 8
        rate = 0.003 if kind is ResidualTokenizer or (few and not placed) else 0.005
        found |= {"stride": stride, "pooling": pooling, "learning_rate": rate}
    else:
        found |= {"stride": 1, "pooling": "attention", "learning_rate": 0.003}
    return found


def pretrained_pooling(look: Look, rc: str) -> str:
    """Return the pooling of pretrained tokens: side by side ("flatten") where positions matter.

    Examples
    --------
    >>> pretrained_pooling(Look(500, 101), "average")
    'max'
    """
    if look.placed(rc) and rc == "none":
        return "flatten"
    return "max" if look.length <= _LONG else "mean"


def pretrained_rate(pooling: str) -> float:
    """Return the learning rate of pretrained tokens and blocks.

    A motif that may be anywhere, as "max" finds it, takes three times the rate of others.
    """
    return 0.003 if pooling == "max" else 0.001


def default_epochs(
    lengths: Sequence[int],
    tokenizer: Any,
    stride: int,
    candidate: SequenceCandidate,
    training: TrainingConfig,
    *,
    pretrained: bool = False,
) -> dict[str, Any]:
    """Return `max_epochs`, and the option `max_steps_per_epoch` if an epoch is too long.

    There are about 960 steps (with fewer than 10 in an epoch: as many as
    :class:`titans_ts.config.TrainingConfig` makes, and nothing is returned), but fewer if these would
    read more letters than the preset allows: then at least 3 epochs, of some of the sequences if they
    are many. K-mer tokens of long sequences are trained for 12 epochs at most. A pretrained network is
    trained for 10 epochs, or for about 120 steps if these are more.

    Parameters
    ----------
    lengths : sequence of int
        Letters of each training sequence that an epoch reads.
    tokenizer, stride
        The tokenizer, and its letters per token. K-mer tokens read three times as many letters in the
        same time, and eight letters per token, or residual tokens without a block, twice as many, so more
        of them are allowed.
    candidate : SequenceCandidate
        The network and its letters.
    training : TrainingConfig
        Batch size and largest number of steps.
    pretrained : bool
        Whether the network is pretrained (default False).

    Examples
    --------
    >>> default_epochs([101] * 15_000, "conv", 4, SequenceCandidate(), TrainingConfig())
    {'max_epochs': 6}
    >>> default_epochs([1000] * 64_000, "conv", 4, SequenceCandidate(), TrainingConfig())
    {'max_epochs': 3, 'training_options__max_steps_per_epoch': 52}
    >>> options = "nucleotide", 1, SequenceCandidate(), TrainingConfig()
    >>> default_epochs([81] * 240, *options, pretrained=True)
    {'max_epochs': 30}
    """
    batch = training.batch_size
    kind = type(read_tokenizer(tokenizer))
    of_kmers = kind is KmerTokenizer
    alone = kind is ResidualTokenizer and candidate.n_layers == 0
    most = candidate.letters * (3 if of_kmers else 2 if alone or stride >= 8 else 1)
    n = min(len(lengths), training.samples_per_epoch)
    letters = max(1.0, float(np.mean(lengths))) * n
    n_steps, allowed = -(-n // batch), max(3, int(most / letters))
    if of_kmers and np.mean(lengths) > _LONG:  # composition, which the k-mer model learns better
        allowed = min(allowed, 12)
    if pretrained:
        usual = max(_TUNING_EPOCHS, -(-_TUNING_STEPS // n_steps))
    elif n_steps < 10 and training.schedule(n_steps)[0] <= allowed:
        return {}
    else:
        usual = TrainingConfig(total_steps=_TOTAL_STEPS).schedule(n_steps)[0]
    found = {"max_epochs": min(usual, allowed)}
    if 3 * letters > most:
        steps = int(most / (3 * float(np.mean(lengths)) * batch))
        if steps < n // batch:
            found["training_options__max_steps_per_epoch"] = max(1, steps)
    return found
