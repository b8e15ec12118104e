"""Types of what users pass: data, names of columns, and the choices of parameters.

The values of a choice are the keys of a registry; tests/test_types.py compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray
    from sklearn.model_selection import BaseCrossValidator

__all__ = [
    "Calendar",
    "ColumnNames",
    "CrossValidation",
    "DNATokenizerName",
    "Directions",
    "Freeze",
    "GroupsLike",
    "OutputName",
    "PoolingName",
    "PresetName",
    "RandomState",
    "ScalerName",
    "SequencePresetName",
    "SequencesLike",
    "SeriesLike",
    "SoftMasked",
    "Strands",
    "TargetLike",
    "Tokens",
    "Variant",
    "WindowsLike",
]

SeriesLike: TypeAlias = Union["NDArray[Any]", "pd.Series", "pd.DataFrame"]
"""A series `[T]` or `[T, C]`, a wide frame, or a long frame of items; frames of polars work, too."""

SequencesLike: TypeAlias = Union[Sequence[str], "NDArray[Any]", "pd.Series", "pd.DataFrame"]
"""N sequences of letters: a list, an array, a Series, or a frame of one column."""

TargetLike: TypeAlias = Union["ArrayLike", "pd.Series", "pd.DataFrame", None]
"""Labels or values of N sequences; None for a series, which is its own target."""

GroupsLike: TypeAlias = Union["ArrayLike", "pd.Series", None]
"""The group of each of N sequences, such as its chromosome."""

ColumnNames: TypeAlias = str | int | Sequence[str] | Sequence[int] | None
"""The name of a column, or several; the number of a column for an array."""

Calendar: TypeAlias = bool | str | Sequence[str]
"""Whether calendar features are used, or which."""

WindowsLike: TypeAlias = Union["NDArray[Any]", "pd.Series", "pd.DataFrame", None]
"""A series, a batch of windows `[N, L, C]`, or None for the fitted series."""

RandomState: TypeAlias = Union[int, "np.random.RandomState", None]
"""A seed, a generator, or None for a seed from the system."""

CrossValidation: TypeAlias = Union[
    int, "BaseCrossValidator", Iterable[tuple["ArrayLike", "ArrayLike"]], None
]
"""A number of folds, a splitter of scikit-learn, pairs (train, test) of indices, or None."""

Variant: TypeAlias = Literal["lmm", "mac", "mag", "mal", "swa"]
"""Blocks of the backbone: keys of `titans_ts.nn.BLOCKS`."""

Tokens: TypeAlias = Literal["patch", "joint", "variate", "mixed"]
"""What a token of a series is: `titans_ts.nn.TOKENS`."""

OutputName: TypeAlias = Literal["quantiles", "normal", "student_t", "negative_binomial"]
"""Outputs of a forecaster: keys of `titans_ts.nn.OUTPUTS`."""

PresetName: TypeAlias = Literal["zero-shot", "fast", "default", "best"]
"""How much a forecaster trains: keys of `titans_ts.config.PRESETS`."""

SequencePresetName: TypeAlias = Literal["fast", "default", "best"]
"""How much an estimator for DNA trains: keys of `titans_ts.config.SEQUENCE_PRESETS`."""

ScalerName: TypeAlias = Literal["standard", "robust", "mean", "asinh", "none"]
"""Scalers of a forecaster: keys of `titans_ts.nn.SCALERS`."""

DNATokenizerName: TypeAlias = Literal["nucleotide", "conv", "residual", "kmer", "bpe"]
"""Tokenizers of DNA: keys of `titans_ts.nn.DNA_TOKENIZERS`."""

PoolingName: TypeAlias = Literal["attention", "flatten", "last", "max", "mean"]
"""How the tokens of a sequence become one vector."""

Strands: TypeAlias = Literal["none", "augment", "average", "equivariant", "auto"]
"""How the two strands of DNA are used (`rc`): `titans_ts.nn.STRANDS`, or "auto"."""

SoftMasked: TypeAlias = Literal["keep", "flag", "mask"]
"""What lower-case letters of DNA mean: nothing, a feature of their own, or missing letters."""

Directions: TypeAlias = Literal["none", "shared", "separate"]
"""Whether DNA is also read backwards, and by which weights: `titans_ts.nn.DIRECTIONS`."""

Freeze: TypeAlias = Literal["none", "tokenizer", "backbone"]
"""Which pretrained parts are frozen."""
