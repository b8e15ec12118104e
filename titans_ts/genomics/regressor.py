"""A regressor for values of DNA sequences, or tracks along them, with `fit` and `predict`."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags, check_consistent_length
from torch import Tensor

from titans_ts.genomics.parse import check_lengths, check_target
from titans_ts.genomics.sequence_estimator import SequenceEstimator
from titans_ts.types import GroupsLike, SequencesLike, TargetLike

__all__ = ["TitansRegressor"]


class TitansRegressor(RegressorMixin, SequenceEstimator):
    """Predict values of DNA sequences: one or more for a sequence, or for every bin along it.

    The parameters are those of :class:`titans_ts.TitansClassifier`, without `class_weight`. A track has
    no k-mer model by default, and tokens of one letter.

    Attributes
    ----------
    model_ : SequenceModel
        The trained network.
    kmer_model_ : FittedKmerModel or None
        The k-mer model that is ensembled with the network.
    chosen_ : dict
        The parameters that were not given, with the values that :meth:`fit` chose.
    mean_, scale_ : ndarray
        `[n]`, mean and standard deviation of every value in training.
    history_ : list of dict
        The losses of every epoch, in squared standard deviations. The last record also
        has `memory_change`, a first look at what :meth:`memory_report` measures: the change of the
        outputs for some validation sequences with the memory's write off, in their standard deviations.

    Examples
    --------
    >>> sequences = ["ACGTTGCA", "TTTTTTTT", "ACGTTTTT", "GCGCGTTT"] * 8
    >>> values = [s.count("T") for s in sequences]
    >>> regressor = TitansRegressor(
    ...     d_model=16, n_heads=2, n_layers=1, max_epochs=20, learning_rate=0.01, random_state=0,
    ...     progress_bar=False,
    ... )
    >>> regressor.fit(sequences, values).predict(["ACGTTTTT"]).round()
    array([5.])
    """

    def __sklearn_tags__(self) -> Tags:
        """A sequence may have several values."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: SequencesLike,
        y: TargetLike,
        *,
        groups: GroupsLike = None,
        validation: tuple[SequencesLike, TargetLike] | None = None,
    ) -> TitansRegressor:
        """Train on sequences with values.

        Parameters
        ----------
        X : list, array, Series or one-column frame of str, or FastaRegions
            N sequences of IUPAC letters; "-" is a position without a letter.
        y : array
            `[N]`, or `[N, n]` for several values per sequence, or `[N, n_bins, n]` for a track: values of
            equal parts of the sequences, which must have one length. NaN is missing, and a sequence
            without any value is left out.
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
        check_target(y)
        values = _read_values(y, "y", len(sequences))
        if values.ndim == 3:
            check_lengths(sequences, len(sequences[0]))
        known = ~np.isnan(values)
        axes = tuple(range(values.ndim - 1))
        if not known.any(axes).all():
            raise ValueError("y has a column without a value; leave it out")
        mean, scale = np.nanmean(values, axes), np.nanstd(values, axes)
        scale = np.where(scale > 0, scale, 1)
        held_out = None
        if validation is not None:
            others = self._read(validation[0], "validation X")
            own = _read_values(validation[1], "validation y", len(others))
            if own.shape[1:] != values.shape[1:]:
                raise ValueError(
                    f"validation y has shape {own.shape} and y {values.shape}; give the same values"
                )
            if values.ndim == 3:
                check_lengths(others, len(sequences[0]))
            if np.isnan(own).all():
                raise ValueError("validation y has no value; give some, or validation=None")
            held_out = others, ((own - mean) / scale).astype(np.float32)
        flat = np.asarray(y).ndim == 1
        self._fit(
            sequences,
            ((values - mean) / scale).astype(np.float32),
            groups=groups,
            validation=held_out,
            n_outputs=values.shape[-1],
            output="values",
            **({"n_bins": values.shape[1]} if values.ndim == 3 else {}),
        )
        self.mean_, self.scale_, self._flat = mean, scale, flat
        return self

    def predict(self, X: SequencesLike) -> NDArray[np.float64]:
        """Return values `[N]`, `[N, n]` or `[N, n_bins, n]`, in the shape of the fitted y.

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
        values = self._values(X)
        return values[:, 0] if self._flat else values

    def _values(self, X: Any) -> NDArray[np.float64]:
        """As :meth:`predict`, but with shape `[N, n]` instead of `[N]`."""
        values: NDArray[np.float64] = self._logits(X) * self.scale_ + self.mean_
        return values

    def _label_score(self, label: Any) -> Callable[[Tensor], Tensor]:
        """Return a function of outputs `[N, n]` that returns values `[N]` in their own unit.

        The label is the number of a value; None is allowed if there is one value.
        """
        n = len(self.mean_)
        column = 0 if label is None and n == 1 else label
        if not isinstance(column, numbers.Integral) or not 0 <= int(column) < n:
            raise ValueError(f"label is {label!r}; give the number of a value, 0 to {n - 1}")
        scale, mean = float(self.scale_[column]), float(self.mean_[column])
        return lambda outputs: outputs[:, int(column)] * scale + mean

    def score(self, X: SequencesLike, y: TargetLike, sample_weight: Any = None) -> float:
        """Return the mean R squared over the values; every bin of a track is a separate value.

        Parameters
        ----------
        X : list, array or Series of str
            Sequences.
        y : array
            The true values, as for :meth:`fit`. NaN is ignored, and so is a value that fewer than two
            sequences have.
        sample_weight : array of N, optional
            Weights of the sequences (default: equal weights).

        Raises
        ------
        ValueError
            If y has another shape than the predictions, or too few values.
        """
        target = _read_values(y, "y", len(X))
        return self._r2(target, self._values(X), sample_weight)

    def _scores_of(self, X: Any, y: Any) -> dict[str, float]:
        """The mean squared error in standard deviations of the fitted values, and R squared."""
        target = None if y is None else _read_values(y, "y", len(X))
        predicted = self._values(X)
        if target is None:
            return {}
        r2 = self._r2(target, predicted)
        return {"mse": float(np.nanmean(((target - predicted) / self.scale_) ** 2)), "r2": r2}

    def _r2(
        self,
        target: NDArray[np.float64],
        predicted: NDArray[np.float64],
        sample_weight: Any = None,
    ) -> float:
        """Return the mean R squared over the values `[N, ...]`."""
        n = len(predicted)
        if target.shape != predicted.shape:
            shape = predicted[:, 0].shape if self._flat else predicted.shape
            given = target[:, 0].shape if target.shape[1:] == (1,) else target.shape
            raise ValueError(f"y has shape {given}, but {shape} is predicted")
        weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight)
        check_consistent_length(predicted, weight)
        scores = []
        for own, other in zip(target.reshape(n, -1).T, predicted.reshape(n, -1).T, strict=True):
            known = ~np.isnan(own)
            if known.sum() > 1:
                scores.append(r2_score(own[known], other[known], sample_weight=weight[known]))
        if not scores:
            raise ValueError("y has no column with two values to compare with; give some")
        return float(np.mean(scores))

    def _portable(self, **options: Any) -> Any:
        columns, scale = list(range(len(self.mean_))), (self.scale_.tolist(), self.mean_.tolist())
        return self._portable_of("values", columns, scale, **options)

    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return self._saved(mean=self.mean_.tolist(), scale=self.scale_.tolist(), flat=self._flat)

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        self.mean_, self.scale_ = np.array(fitted["mean"]), np.array(fitted["scale"])
        self._flat = fitted["flat"]
        super()._restore(model, fitted, tensors)


def _read_values(y: Any, name: str, n: int) -> NDArray[np.float64]:
    """Return the values as an array `[N, n]` or `[N, n_bins, n]`."""
    try:
        values = np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as numbers: {error}") from error
    if values.ndim not in (1, 2, 3) or values.size == 0 or len(values) != n:
        raise ValueError(
            f"{name} has shape {values.shape}, but there are {n} sequences; give [N], [N, n] or, for a "
            "track, [N, n_bins, n]"
        )
    if np.isinf(values).any():
        raise ValueError(f"{name} has an infinite value; drop that sequence")
    return values[:, None] if values.ndim == 1 else values
