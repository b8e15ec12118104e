"""Forecasting and sequence classification on Titans backbones, whose memory learns while it reads.

`TitansForecaster`, `TitansClassifier` and `TitansRegressor` are estimators with scikit-learn's interface,
and `nucleotide_surprisal` computes the negative log-likelihood of a genome's letters;
`titans_ts.nn` holds the layers, `titans_ts.kernels` the memory as pure functions,
`titans_ts.datasets` the data, `titans_ts.tuning` the search for parameters and `titans_ts.pipelines`
the command line.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from titans_ts.config import MemoryConfig, ModelOptions, TrainingOptions

if TYPE_CHECKING:
    from titans_ts.forecasting import TitansForecaster
    from titans_ts.genomics import (
        BPETokenizer,
        ConvTokenizer,
        KmerModel,
        KmerTokenizer,
        NucleotideTokenizer,
        ResidualTokenizer,
        SequenceEmbedding,
        TitansClassifier,
        TitansRegressor,
        nucleotide_surprisal,
    )
    from titans_ts.tuning import TitansSearch

__all__ = [
    "BPETokenizer",
    "ConvTokenizer",
    "KmerModel",
    "KmerTokenizer",
    "MemoryConfig",
    "ModelOptions",
    "NucleotideTokenizer",
    "ResidualTokenizer",
    "SequenceEmbedding",
    "TitansClassifier",
    "TitansForecaster",
    "TitansRegressor",
    "TitansSearch",
    "TrainingOptions",
    "__version__",
    "nucleotide_surprisal",
]

if find_spec("optuna") is None:  # the extra `tuning`
    __all__.remove("TitansSearch")

try:
    __version__ = version("titans-ts")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> Any:
    """Import the estimators when they are first used: pandas and scikit-learn cost a second."""
    if name == "TitansForecaster":
        import titans_ts.forecasting

        return titans_ts.forecasting.TitansForecaster
    if name == "TitansSearch":
        import titans_ts.tuning

        return titans_ts.tuning.TitansSearch
    if name in __all__:
        import titans_ts.genomics

        return getattr(titans_ts.genomics, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
