"""Classifying DNA sequences with `fit` and `predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from titans_ts.config import (
    BackboneConfig,
    ClassifierConfig,
    MemoryConfig,
    TrainingConfig,
    from_dict,
)
from titans_ts.estimators.base import TitansEstimator
from titans_ts.nn.models import STRANDS, SequenceClassifier
from titans_ts.nn.tokenizers import encode_nucleotides
from titans_ts.training import batches, classification_loss, length_batches, train

__all__ = ["TitansClassifier"]

Codes = NDArray[np.uint8]

_TOKENS = 32_768
"""Tokens classified at a time."""


class TitansClassifier(ClassifierMixin, TitansEstimator):
    """Classify DNA sequences of any lengths with a Titans backbone.

    Parameters
    ----------
    tokenizer : {"nucleotide"}
        How a sequence becomes tokens; a key of :data:`titans_ts.nn.DNA_TOKENIZERS`.
    kernel_size : int
        Nucleotides a token sees.
    rc : {"none", "augment", "average", "auto"}
        What is done with the other strand, the reverse complement: nothing; training sees either strand
        of a sequence, at random; and the probabilities of both are averaged, too. "auto" trains with
        "average" and with "none", and keeps what does better on the validation part (`model_.config.rc`
        says which): where a label belongs to one strand (splice sites), the other misleads.
    class_weight : dict, "balanced" or None
        How much each class counts in training, as in scikit-learn: by label, or by how rare it is.
    variant : {"mac", "mag", "mal", "lmm", "swa"}
        How memory and attention are combined; a key of :data:`titans_ts.nn.BLOCKS`.
    d_model, n_layers, n_heads : int
        Width of a token, number of blocks, and of heads.
    memory_depth : int
        L_M, layers of the memory's MLP.
    chunk_size : int
        Tokens that share a gradient point in the memory.
    dropout, head_dropout : float
        Dropped share inside the backbone, and before the head.
    max_epochs : int or None
        Passes over the training sequences at most; None makes about 640 steps, in 10 to 400 passes.
    batch_size : int
        Sequences in a step.
    learning_rate, weight_decay : float
        Of AdamW.
    max_steps_per_epoch : int
        Steps in a pass at most: where there are more sequences, a pass takes some of them at random.
    patience : int or None
        Epochs without a better validation loss before training stops; None is a fifth of all.
    validation_fraction : float
        Share of the sequences, drawn by class, held out for early stopping.
    device : str
        "auto", or a torch device.
    random_state : int, RandomState or None
        Seed; with an int, CPU runs repeat exactly.
    progress_bar : bool
        Whether to show one while fitting.
    backbone_options : dict, optional
        More of :class:`titans_ts.config.BackboneConfig`, for instance ``{"window": 128}``.
    trainer_kwargs : dict, optional
        More arguments for `lightning.pytorch.Trainer`.

    Attributes
    ----------
    model_ : SequenceClassifier
        The trained model.
    classes_ : ndarray
        The labels, sorted.
    history_ : list of dict
        Losses of every epoch.

    Examples
    --------
    >>> sequences = ["ACGTTGCA", "TTTTTTTT", "ACGTTGCAAC", "TTTTTT"] * 8
    >>> classifier = TitansClassifier(
    ...     d_model=16, n_heads=2, n_layers=1, max_epochs=10, learning_rate=0.01, random_state=0,
    ...     progress_bar=False,
    ... )
    >>> classifier.fit(sequences, ["mixed", "poly-T"] * 16).predict(["ACGTACGTAC", "TTTTTTTTT"])
    array(['mixed', 'poly-T'], dtype='<U6')
    """

    model_: SequenceClassifier

    def __init__(
        self,
        tokenizer: str = ClassifierConfig.tokenizer,
        *,
        kernel_size: int = ClassifierConfig.kernel_size,
        rc: str = ClassifierConfig.rc,
        class_weight: Any = None,
        variant: str = "mag",
        d_model: int = BackboneConfig.d_model,
        n_layers: int = BackboneConfig.n_layers,
        n_heads: int = BackboneConfig.n_heads,
        memory_depth: int = MemoryConfig.depth,
        chunk_size: int = MemoryConfig.chunk_size,
        dropout: float = BackboneConfig.dropout,
        head_dropout: float = ClassifierConfig.head_dropout,
        max_epochs: int | None = TrainingConfig.max_epochs,
        batch_size: int = TrainingConfig.batch_size,
        learning_rate: float = TrainingConfig.learning_rate,
        weight_decay: float = TrainingConfig.weight_decay,
        max_steps_per_epoch: int = TrainingConfig.max_steps_per_epoch,
        patience: int | None = TrainingConfig.patience,
        validation_fraction: float = TrainingConfig.validation_fraction,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        progress_bar: bool = True,
        backbone_options: dict[str, Any] | None = None,
        trainer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.kernel_size = kernel_size
        self.rc = rc
        self.class_weight = class_weight
        self.variant = variant
        self.d_model = d_model
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.memory_depth = memory_depth
        self.chunk_size = chunk_size
        self.dropout = dropout
        self.head_dropout = head_dropout
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_steps_per_epoch = max_steps_per_epoch
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.progress_bar = progress_bar
        self.backbone_options = backbone_options
        self.trainer_kwargs = trainer_kwargs

    def fit(self, X: Any, y: Any) -> TitansClassifier:
        """Train on labelled sequences.

        Parameters
        ----------
        X : list, array or Series of str, or FastaRegions
            Sequences of IUPAC letters, any case, of any lengths; "-" is a place that is not there.
        y : array of N labels
            Numbers or strings, of at least two classes.

        Raises
        ------
        TypeError, ValueError
            If X, y or a parameter cannot be used; the message names it and how to mend it.
        """
        training = self._training_config()
        sequences = _read_sequences(X)
        classes, labels = _read_labels(y, len(sequences))
        if self.rc not in (*STRANDS, "auto"):
            raise ValueError(f"rc is {self.rc!r}; choose one of {[*STRANDS, 'auto']}")
        # of one seed, for the same validation part
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        weight = None
        if self.class_weight is not None:
            weights = compute_class_weight(
                self.class_weight, classes=classes, y=np.asarray(y).ravel()
            )
            if not (np.isfinite(weights).all() and (weights > 0).all()):
                raise ValueError(
                    f"class_weight is {self.class_weight!r}; weights must be positive and finite"
                )
            weight = torch.from_numpy(weights)
        choices = ("average", "none") if self.rc == "auto" else (self.rc,)
        model, history = min(
            (self._trained(sequences, labels, training, rc, weight, seed) for rc in choices),
            key=lambda trained: _best_loss(trained[1]),
        )
        self._check_choice(not np.isinf(_best_loss(history)))
        # only now: a fit that fails leaves the estimator as it was
        self.model_, self.history_, self.classes_ = model.to(self._device()), history, classes
        return self

    def _check_choice(self, validated: bool) -> None:
        if self.rc == "auto" and not validated:
            raise ValueError(
                "rc is 'auto', but no validation part is held out to choose by; raise "
                "validation_fraction, or choose another rc"
            )

    def _trained(
        self,
        sequences: list[Codes],
        labels: NDArray[np.int64],
        training: TrainingConfig,
        rc: str,
        weight: Tensor | None,
        seed: int,
    ) -> tuple[SequenceClassifier, list[dict[str, float]]]:
        """A model and its history."""
        config: ClassifierConfig = self._config(
            ClassifierConfig,
            n_classes=int(labels.max()) + 1,
            backbone=self._backbone_config(),
            rc=rc,
        )
        with self._seeded(seed) as generator:
            model = SequenceClassifier(config)
            kept, held_out = _split(labels, training.validation_fraction, generator)
            self._check_choice(len(held_out) > 0)
            most = training.max_steps_per_epoch * training.batch_size
            validation = None
            if len(held_out):
                held_out = held_out[
                    np.argsort([len(sequences[i]) for i in held_out], kind="stable")
                ]
                dataset = _Sequences(sequences, labels, held_out)
                validation = batches(dataset, 4 * training.batch_size, most=most)
            lengths = [len(sequences[i]) for i in kept]
            data = _Sequences(sequences, labels, kept)
            history = train(
                model,
                partial(classification_loss, weight=weight),
                length_batches(data, lengths, training.batch_size, generator, most=most),
                validation,
                training,
                progress_bar=self.progress_bar,
                trainer_kwargs=self._accelerator() | (self.trainer_kwargs or {}),
            )
        return model, history

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of every sequence, `[N]`.

        Parameters
        ----------
        X : list, array or Series of str
            Sequences.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X cannot be used.
        """
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(1)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of every class, `[N, n_classes]`, columns in the order of `classes_`.

        Parameters
        ----------
        X : list, array or Series of str
            Sequences.
        """
        check_is_fitted(self, "model_")
        sequences = _read_sequences(X)
        device = self._device()
        order = np.argsort([len(s) for s in sequences], kind="stable")  # little padding in a batch
        probabilities = np.empty((len(sequences), len(self.classes_)))
        self.model_.eval()
        with torch.inference_mode():
            for some in _groups(order, [len(sequences[i]) for i in order]):
                codes, lengths = _pad([sequences[i] for i in some])
                logits = self.model_(codes.to(device), lengths.to(device))
                probabilities[some] = logits.double().softmax(-1).cpu().numpy()
        return probabilities

    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        kind = self.classes_.dtype.kind
        if kind not in "biufUO" or not all(isinstance(c, (str, np.generic)) for c in self.classes_):
            raise ValueError(
                f"the classes {list(self.classes_)} cannot be saved; use str or numbers"
            )
        return {"classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str}, {}

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        self.classes_ = np.array(fitted["classes"], dtype=fitted["dtype"])
        self.model_ = SequenceClassifier(from_dict(ClassifierConfig, model))


def _groups(order: NDArray[np.int64], lengths: list[int]) -> Iterator[NDArray[np.int64]]:
    """Runs of sequences, in order of length, of at most 128 and `_TOKENS` tokens with padding."""
    start = 0
    for stop in range(1, len(order) + 1):
        full = stop < len(order) and (stop - start + 1) * lengths[stop] > _TOKENS
        if full or stop - start == 128 or stop == len(order):
            yield order[start:stop]
            start = stop


def _best_loss(history: list[dict[str, float]]) -> float:
    return min((e["validation_loss"] for e in history if "validation_loss" in e), default=np.inf)


class _Sequences:
    """Some of the labelled sequences as padded tensors, a batch at a time."""

    def __init__(
        self, sequences: list[Codes], labels: NDArray[np.int64], chosen: NDArray[np.int64]
    ) -> None:
        self._sequences, self._labels, self._chosen = sequences, labels, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        chosen = self._chosen[indices]
        codes, lengths = _pad([self._sequences[i] for i in chosen])
        return codes, lengths, torch.from_numpy(self._labels[chosen])


def _pad(sequences: list[Codes]) -> tuple[Tensor, Tensor]:
    """Codes `[B, T]` int64 padded with 0, and lengths `[B]`."""
    lengths = torch.tensor([len(s) for s in sequences])
    codes = np.zeros((len(sequences), int(lengths.max())), dtype=np.int64)
    for row, sequence in zip(codes, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(codes), lengths


def _read_sequences(X: Any) -> list[Codes]:
    if isinstance(X, (str, bytes)) or not isinstance(
        X, (Sequence, np.ndarray, pd.Series, pd.Index)
    ):
        raise TypeError(f"X is a {type(X).__name__}; give a list, array or Series of str")
    values = np.asarray(list(X) if isinstance(X, Sequence) else X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"X has shape {values.shape}; give N >= 1 sequences, one str each")
    sequences = []
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(f"X[{i}] is {value!r}, a {type(value).__name__}; give a str")
        try:
            sequences.append(encode_nucleotides(value))
        except ValueError as error:
            raise ValueError(f"X[{i}]: {error}") from None
    return sequences


def _read_labels(y: Any, n_sequences: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n_sequences,):
        raise ValueError(
            f"y has shape {labels.shape}, but X has {n_sequences} sequences; give one label each"
        )
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise ValueError(f"y[{missing[0]}] is missing; drop that sequence or label it")
    check_classification_targets(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has the single class {classes[0]!r}; at least two are needed")
    return classes, codes.astype(np.int64)


def _split(
    labels: NDArray[np.int64], fraction: float, generator: torch.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which sequences to train on and which to hold out, stratified where every class allows it."""
    everything = np.arange(len(labels))
    n_held_out = int(fraction * len(labels))
    if n_held_out == 0:
        return everything, everything[:0]
    n_classes = labels.max() + 1
    by_class = np.bincount(labels).min() >= 2 and n_held_out >= n_classes
    kept, held_out = train_test_split(
        everything,
        test_size=n_held_out,
        stratify=labels if by_class else None,
        random_state=generator.initial_seed() % 2**32,
    )
    return kept, held_out
