"""A classifier of DNA sequences with `fit` and `predict`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import matthews_corrcoef
from sklearn.utils import Tags, column_or_1d, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from titans_ts.genomics.parse import check_target
from titans_ts.genomics.sequence_estimator import SequenceEstimator
from titans_ts.types import GroupsLike, SequencesLike, TargetLike

__all__ = ["TitansClassifier"]


@dataclass(eq=False, repr=False)
class TitansClassifier(ClassifierMixin, SequenceEstimator):
    """Classify DNA sequences of any lengths with a Titans backbone, and a linear model of k-mers.

    :meth:`fit` chooses the parameters that are not given, from the number of sequences, their lengths
    and a quick look at how linear models do. One line shows its choice, and `chosen_` has it.

    Parameters
    ----------
    tokenizer : {"nucleotide", "conv", "residual", "kmer", "bpe"}, an options object or None
        How a sequence becomes tokens. "nucleotide": a token is made of the letters around it. "conv"
        learns motif filters, "residual" these and convolutions over what they find, "kmer" a vector for
        every k-mer, "bpe" a vocabulary of frequent strings. None (default) chooses "kmer" for more than
        1000 letters, "nucleotide" for short sequences whose positions matter, "residual" for 25 000
        sequences or more whose positions do not, and else "conv" with filters that begin with predictive
        k-mers. The objects :class:`~titans_ts.NucleotideTokenizer`, :class:`~titans_ts.ConvTokenizer`,
        :class:`~titans_ts.ResidualTokenizer`, :class:`~titans_ts.KmerTokenizer` and
        :class:`~titans_ts.BPETokenizer` hold the options of each, which are parameters too, such as
        `tokenizer__kernel_size`.
    preset : {"fast", "default", "best"}
        How much is trained. "fast": a network without blocks, which reads half as many letters.
        "default": one network. "best": another one without blocks too, which reads three times as many
        letters; the better of the two on the validation set is kept. With the tokenizer "residual",
        "default" has no block either. `n_layers`, if given, is the number of blocks of each. With
        `pretrained`, one network is trained, which has the blocks of that model and reads as many letters
        as the preset allows.
    stride : int or None
        Letters per token; a larger stride reads long sequences faster. None (default): from 1 to 8,
        depending on the tokenizer and the lengths.
    position : bool or None
        Whether tokens have positional encodings. Use False for sequences longer than those in training.
        None (default): True for up to 1000 letters, or for other tokens than k-mers.
    soft_masked : {"keep", "flag", "mask"}
        How lower-case letters are read: as upper-case letters (default), as upper-case letters with a
        flag that tokens see, or as absent.
    rc : {"none", "augment", "average", "equivariant", "auto"} or None
        Use of the reverse complement. "none": it is not used. "augment": training reads a random strand.
        "average": also averages the probabilities of both strands. "equivariant": both strands are read
        in training too, which takes twice the time. "auto": trains with "average" and with "none" and
        keeps the better on the validation set. None (default): "average" if k-mers of both strands
        predict the validation set better than those of one, else "none", which suits labels that belong
        to one strand, such as splice sites. `model_.config.rc` has the result.
    bidirectional : {"none", "shared", "separate"}
        Whether tokens are also read backwards, by the same backbone or by one of its own (default
        "none").
    pooling : {"attention", "flatten", "last", "max", "mean"} or None
        How tokens become one vector; a key of :data:`titans_ts.nn.POOLINGS`. "flatten" is for sequences
        of one length where position matters; it cannot predict longer ones than those in training. None
        (default): what suits the tokenizer, "flatten" only if all training sequences have one length and
        their positions help clearly.
    kmer_model : "auto", KmerModel, int or None
        A linear model of (gapped) k-mer counts that is ensembled with the network, for instance
        ``KmerModel(k=6, gaps=2)``; an int is its k; None fits none. "auto" (default) chooses k-mers of
        six letters, gapped for up to 1000 letters, with positions if these save a tenth of the loss; it
        fits none without a validation part, or for a track. The validation set selects the regularisation
        and the mixing weights. Both strands are counted, unless `rc` is "none".
    class_weight : dict, "balanced" or None
        Weights of the classes in the loss, as in scikit-learn: by label, or inversely proportional to
        their frequencies. None (default): equal weights.
    variant : {"mac", "mag", "mal", "lmm", "swa"}
        How memory and attention are combined; a key of :data:`titans_ts.nn.BLOCKS`.
    d_model, n_layers, n_heads : int
        Width of a token (default 64), number of blocks (default None: that of the preset, 1 or 0), and
        number of heads (default 4).
    max_length : int or None
        Longer training sequences are cropped at random to this many letters in every epoch. None
        (default): no cropping, except that the network of a fit that chooses k-mer tokens reads 3072 or
        12 288 letters.
    max_epochs : int or None
        Maximum number of epochs. None (default) makes about 960 steps, in at least 10 epochs; fewer if
        they would read more letters than the preset allows, about ten million by default.
    time_limit : float, optional
        Number of seconds for the fit, about (default: no limit). The k-mer model is fitted first; the
        network's training stops after the rest, and its learning rate is annealed within it. Results then
        depend on the machine.
    batch_size : int
        Sequences in a step (default 64); fewer where they are long (a step has at most 32 768 tokens).
    learning_rate : float or None
        Peak learning rate of AdamW's one-cycle schedule. None (default): what suits the tokenizer, 0.003
        to 0.01, or with `pretrained` 0.003 for the pooling "max" and 0.001 for others.
    model_options : ModelOptions or dict, optional
        Rarely changed settings of the model (:class:`titans_ts.config.ModelOptions`): dropout, the
        memory's depth and chunk size, persistent tokens, ..., for instance
        ``{"dropout": 0.2, "memory": {"depth": 1}}``. Default: those of the class.
    training_options : TrainingOptions or dict, optional
        Rarely changed settings of training (:class:`titans_ts.config.TrainingOptions`):
        `validation_fraction` (0.2; the same share of each class, or whole groups), `patience`,
        `weight_decay`, `max_steps_per_epoch`, `gradient_clip`, `trainer_kwargs` for Lightning, and
        `resume`, a folder from which the same fit continues after an interruption. Default: those of the
        class.
    device : str
        "auto" (default: CUDA if available), or a torch device.
    random_state : int, RandomState or None
        Seed; with an int, CPU runs are repeatable. None (default) draws a new seed for every fit.
    progress_bar : bool
        Whether to show a progress bar (default True).
    pretrained : str or Path, optional
        Initialise the tokenizer and backbone from this model: a directory written by :meth:`pretrain`, or
        by :meth:`save` of an estimator for DNA; or "dna-small", the model in the package, which helps
        with up to a thousand labels of bacteria (a folder of that name is "./dna-small"). Its
        architecture parameters (except `dropout`) override those of this estimator, including
        bidirectionality. Useful to continue on longer sequences.
    freeze : {"none", "tokenizer", "backbone"}
        Which pretrained parts are frozen: none (default), the tokenizer, or tokenizer and backbone.

    Attributes
    ----------
    model_ : SequenceModel
        The trained network.
    kmer_model_ : FittedKmerModel or None
        The k-mer model that is ensembled with the network.
    classes_ : ndarray
        The sorted labels. For several labels per sequence: their names (a frame's columns) or numbers.
    chosen_ : dict
        The parameters that were not given, with the values that :meth:`fit` chose. A copy of the
        estimator with ``set_params(**chosen_)`` makes the same fit.
    history_ : list of dict
        The losses of every epoch. The last record also
        has `memory_change`, a first look at what :meth:`memory_report` measures: the change of the
        outputs for some validation sequences with the memory's write off, in their standard deviations.

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

    class_weight: Any = field(default=None, kw_only=True)

    classes_: NDArray[Any] = field(init=False)

    def __sklearn_tags__(self) -> Tags:
        """A sequence may have several labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self,
        X: SequencesLike,
        y: TargetLike,
        *,
        groups: GroupsLike = None,
        validation: tuple[SequencesLike, TargetLike] | None = None,
    ) -> TitansClassifier:
        """Train on labelled sequences.

        Parameters
        ----------
        X : list, array, Series or one-column frame of str, or FastaRegions
            Sequences of IUPAC letters of any lengths; "-" is a position without a letter.
        y : array of N labels, or `[N, n]` of 0 and 1
            Class labels (numbers or strings) of at least two classes; or 0 or 1 for each of n >= 2 labels
            per sequence. A single column is read as `[N]`.
        groups : array of N, optional
            The validation part consists of whole groups, for instance chromosomes.
        validation : tuple, optional
            `(X, y)` for early stopping instead of a held-out part, and for the weights of the k-mer
            model. (With a held-out part, the k-mer model is finally refitted on all data.)

        Raises
        ------
        TypeError, ValueError
            If X, y or a parameter is invalid; the message names it and how to fix it.
        """
        sequences = self._read(X)
        classes, target = _read_labels(y, len(sequences))
        held_out = None
        if validation is not None:
            others = self._read(validation[0], "validation X")
            held_out = others, _codes(validation[1], len(others), classes, target.ndim)
        self._fit(
            sequences,
            target,
            groups=groups,
            validation=held_out,
            weight=self._weight(classes, target, y),
            n_outputs=len(classes),
            output="classes" if target.ndim == 1 else "labels",
        )
        self.classes_ = classes  # last, so a failed fit does not change the estimator
        return self

    def _weight(
        self, classes: NDArray[Any], target: NDArray[Any], y: Any
    ) -> NDArray[np.float64] | None:
        if self.class_weight is None:
            return None
        if target.ndim == 1:
            weights = compute_class_weight(
                self.class_weight, classes=classes, y=np.asarray(y).ravel()
            )
        elif self.class_weight == "balanced":
            frequency, least = target.mean(0), 1 / len(target)
            weights = np.maximum(1 - frequency, least) / np.maximum(frequency, least)
        else:
            raise ValueError(
                f"class_weight is {self.class_weight!r}; for several labels per sequence, give 'balanced'"
            )
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError(
                f"class_weight is {self.class_weight!r}; weights must be positive and finite"
            )
        return np.asarray(weights, np.float64)

    def predict(self, X: SequencesLike) -> NDArray[Any]:
        """Return the most likely class of every sequence, `[N]`; with several labels, 0 or 1, `[N, n]`.

        Parameters
        ----------
        X : list, array or Series of str
            Sequences.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If X is invalid.
        """
        probabilities = self.predict_proba(X)
        if self.model_.config.output == "labels":
            return (probabilities > 0.5).astype(int)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(1)]
        return labels

    def predict_proba(self, X: SequencesLike) -> NDArray[np.float64]:
        """Return the probability of every class (or label), `[N, n]`, in the order of `classes_`.

        A sequence that is too long for a batch is read in pieces, in constant memory.

        Parameters
        ----------
        X : list, array or Series of str
            Sequences.
        """
        logits = self._logits(X)
        labels = self.model_.config.output == "labels"
        probabilities: NDArray[np.float64] = expit(logits) if labels else softmax(logits, 1)
        return probabilities

    def _scores_of(self, X: Any, y: Any) -> dict[str, float]:
        """The log loss, and Matthews' correlation coefficient; over all labels, if there are several."""
        one_label = self.model_.config.output == "classes"
        true = None if y is None else _codes(y, len(X), self.classes_, 1 if one_label else 2, "y")
        probabilities = self.predict_proba(X)
        if true is None:
            return {}
        if one_label:
            predicted = probabilities.argmax(1)
            probabilities = probabilities[np.arange(len(true)), true]
        else:
            predicted = probabilities > 0.5
            probabilities = np.where(true > 0, probabilities, 1 - probabilities)
        least = np.finfo(np.float64).tiny
        return {
            "log loss": -float(np.log(probabilities.clip(least)).mean()),
            "mcc": float(matthews_corrcoef(true.ravel(), predicted.ravel())),
        }

    def _label_score(self, label: Any) -> Callable[[Tensor], Tensor]:
        """Return a function of logits `[N, n]` that returns the log-odds `[N]` of a class or label.

        If the label is None, it is the second of two classes.
        """
        labels = self.model_.config.output == "labels"
        if label is None and not labels and len(self.classes_) == 2:
            column = 1
        else:
            column = -1 if label is None else int(pd.Index(self.classes_).get_indexer([label])[0])
        if column < 0:
            raise ValueError(f"label is {label!r}; choose one of {self.classes_.tolist()}")

        def log_odds(logits: Tensor) -> Tensor:
            own = logits[:, column]
            if labels:
                return own
            others = torch.cat([logits[:, :column], logits[:, column + 1 :]], 1)
            return own - others.logsumexp(1)

        return log_odds

    def _portable(self, **options: Any) -> Any:
        return self._portable_of("probabilities", self.classes_.tolist(), **options)

    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        kind = self.classes_.dtype.kind
        if kind not in "biufUO" or not all(isinstance(c, (str, np.generic)) for c in self.classes_):
            raise ValueError(
                f"the classes {list(self.classes_)} cannot be saved; use str or numbers"
            )
        return self._saved(classes=self.classes_.tolist(), dtype=self.classes_.dtype.str)

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        self.classes_ = np.array(fitted["classes"], dtype=fitted["dtype"])
        super()._restore(model, fitted, tensors)
        n_outputs = self.model_.config.n_outputs
        if len(self.classes_) != n_outputs:
            raise ValueError(f"{len(self.classes_)} classes for {n_outputs} outputs")


def _read_labels(y: Any, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the classes, and the codes `[N]`, or 0 and 1 `[N, n]` for several labels."""
    check_target(y)
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = column_or_1d(labels, warn=True)
    if labels.ndim not in (1, 2) or len(labels) != n:
        raise ValueError(
            f"y has shape {labels.shape}, but X has {n} sequences; give one label each (or a row of "
            "0 and 1, with one column per label)"
        )
    unknown = ~np.isfinite(labels) if labels.dtype.kind == "f" else pd.isna(labels)
    if unknown.any():
        row = np.argwhere(unknown)[0][0]
        raise ValueError(f"y[{row}] is missing or infinite; drop that sequence or label it")
    if labels.ndim == 2:
        names = y.columns if isinstance(y, pd.DataFrame) else np.arange(labels.shape[1])
        classes = np.asarray(names)
        if not pd.Index(classes).is_unique:
            twice = pd.Index(classes)[pd.Index(classes).duplicated()][0]
            raise ValueError(f"y has several columns {twice!r}; give every label another name")
        return classes, _codes(labels, n, classes, 2)
    try:
        check_classification_targets(labels)
    except ValueError as error:
        raise ValueError(
            f"{error} For y of numbers, use TitansRegressor; for classes, give whole numbers or texts."
        ) from error
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has only one class, {classes[0]!r}; give at least two classes")
    return classes, codes.astype(np.int64)


def _codes(
    y: Any, n: int, classes: NDArray[Any], ndim: int, name: str = "validation y"
) -> NDArray[Any]:
    """Return labels of n sequences as :func:`_read_labels` does, for known classes."""
    labels = np.asarray(y)
    if labels.ndim == 0 or len(labels) != n:
        raise ValueError(f"{name} has shape {labels.shape}, for {n} sequences; give one label each")
    if ndim == 2:
        if labels.shape[1:] != classes.shape or not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"y has shape {labels.shape}; give a row of {len(classes)} values, 0 or 1, per sequence"
            )
        return labels.astype(np.float32)
    if labels.shape not in ((n,), (n, 1)):
        raise ValueError(f"{name} has shape {labels.shape}; give one label each")
    codes = pd.Index(classes).get_indexer(labels.ravel())
    if (codes < 0).any():
        raise ValueError(
            f"{name} has {str(labels.ravel()[codes < 0][0])!r}, which is none of the classes; drop it"
        )
    return codes.astype(np.int64)
