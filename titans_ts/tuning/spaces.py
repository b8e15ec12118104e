"""Default search spaces, which depend on the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from sklearn.pipeline import Pipeline

from titans_ts.config import BackboneConfig
from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.frequency import usual_season
from titans_ts.forecasting.parse import read_panel
from titans_ts.genomics.parse import encode_sequences
from titans_ts.genomics.sequence_estimator import SequenceEstimator

__all__ = ["default_space"]

_OF_LETTERS = ["nucleotide", "conv", "residual"]
"""Tokenizers that a search tries: those that read one-hot letters."""
_WIDTHS = (16, 32, 64, 128, 256)
"""Widths of a token, `d_model`, to try."""


def default_space(estimator: Any, X: Any) -> dict[str, BaseDistribution]:
    """Return distributions of the parameters that are worth tuning.

    They include the values that the estimator has. A block of width D has about 20 D^2 weights, and the
    largest width gives about as many weights as X has values.

    Parameters
    ----------
    estimator : TitansForecaster, TitansClassifier, TitansRegressor, or a pipeline that ends with one
        The estimator to tune.
    X : series or sequences
        The training data.

    Raises
    ------
    TypeError
        If there is no default space for the estimator.

    Examples
    --------
    >>> sorted(default_space(TitansForecaster(24, 96), np.zeros((500, 1))))
    ['d_model', 'learning_rate', 'model_options__dropout', 'model_options__head_dropout', 'n_layers', \
'patch_length', 'training_options__weight_decay', 'variant']
    """
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return {f"{name}__{k}": v for k, v in default_space(last, X).items()}
    if isinstance(estimator, TitansForecaster):
        return _forecaster_space(estimator, X)
    if isinstance(estimator, SequenceEstimator):
        return _sequence_space(estimator, X)
    raise TypeError(
        f"space is None, but there is no default space for {type(estimator).__name__}; give a dict of "
        "optuna.distributions"
    )


def _forecaster_space(forecaster: TitansForecaster, X: Any) -> dict[str, BaseDistribution]:
    panel = read_panel(X, forecaster.roles)
    context = forecaster.network_config(panel).context_length
    if forecaster.patch_stride is None:  # then half a token: about 32 tokens, or fewer
        patches = [n for n in (2, 4, 8, 16, 24, 32, 48) if context // 16 <= n <= context // 2]
    else:
        patches = [n for n in (8, 16, 24, 32, 48) if forecaster.patch_stride <= n <= context // 2]
    space = _network(forecaster, panel.values[:, : panel.n_targets].size, 1) | {
        "learning_rate": _numbers(forecaster.learning_rate, 3e-4, 1e-2, log=True),
        "patch_length": _choices(forecaster.patch_length, patches),
    }
    if panel.n_targets > 1 and not forecaster.stateful_windows:
        space["tokens"] = _choices(forecaster.tokens, ["patch", "variate", "mixed"])
    timed = isinstance(panel.freq, pd.offsets.BaseOffset) and forecaster.freq != "irregular"
    season = usual_season(panel.freq) if timed else 1
    if season > 1:
        space["season_length"] = _choices(forecaster.season_length, [0, season])
    return space


def _sequence_space(estimator: SequenceEstimator, X: Any) -> dict[str, BaseDistribution]:
    lengths = [len(s) for s in encode_sequences(X)]
    typical = int(np.median(lengths))
    rate, fresh = estimator.learning_rate, estimator.pretrained is None
    space = _network(estimator, sum(lengths), 0) | {
        "learning_rate": _choices(None, [1e-3, 3e-3, 1e-2] if fresh else [3e-4, 1e-3, 3e-3])
        if rate is None
        else _numbers(rate, 5e-4, 2e-2, log=True),
        "rc": _choices(estimator.rc, ["none", "average"]),
    }
    poolings = ["attention", "max", "mean"]
    if estimator.max_length is None and len(set(lengths)) == 1 and typical <= 2000:
        poolings.append("flatten")
    space["pooling"] = _choices(estimator.pooling, poolings)
    if not fresh:  # what was pretrained has its sizes
        for name in ("d_model", "n_layers", "variant"):
            del space[name]
        return space
    options = estimator.options("tokenizer")
    if options is None:  # a fit chooses the tokenizer, and its sizes with it
        return space | {"tokenizer": _choices(None, _OF_LETTERS)}
    if not hasattr(options, "kernel_size") or getattr(options, "init", "random") != "random":
        return space  # tokens that were chosen, with sizes of their own
    strides = [s for s in (1, 2, 4, 8, 16, 32, 64) if 16 <= typical / s <= 512] or [1]
    kernels = [k for k in (9, 15, 21) if k >= strides[-1]]
    if isinstance(estimator.tokenizer, str):
        space["tokenizer"] = _choices(estimator.tokenizer, _OF_LETTERS)
    return space | {
        "stride": _choices(estimator.stride, strides),
        "tokenizer__kernel_size": _choices(options.kernel_size, [None, *kernels]),
    }


def _network(estimator: Any, n_values: int, min_layers: int) -> dict[str, BaseDistribution]:
    """Return the distributions that all estimators have in common."""
    widest = max(_WIDTHS[1], n_values**0.5 / 4)
    widths = [w for w in _WIDTHS if w <= widest and w % (2 * estimator.n_heads) == 0]
    max_layers = 2 if n_values < 50_000 else 3
    model, training = estimator.options("model_options"), estimator.options("training_options")
    variants = ["mac", "mag", "mal", "lmm"]
    if estimator.variant is None:  # then blocks are those
        variants.remove(BackboneConfig.variant)
    return {
        "variant": _choices(estimator.variant, variants),
        "d_model": _choices(estimator.d_model, widths),
        "n_layers": _layers(estimator, min_layers, max_layers),
        "model_options__dropout": _numbers(model.dropout, 0.0, 0.4),
        "model_options__head_dropout": _numbers(model.head_dropout, 0.0, 0.5),
        "training_options__weight_decay": _numbers(training.weight_decay, 1e-3, 0.3, log=True),
    }


def _layers(estimator: Any, low: int, high: int) -> BaseDistribution:
    """Return the numbers of blocks. If a preset decides, None takes the place of the preset's number."""
    own = estimator.n_layers
    if own is not None:
        return _integers(own, low, high)
    usual = estimator.candidates()[0].n_layers
    return _choices(None, [n for n in range(low, high + 1) if n != usual])


def _choices(own: Any, others: list[Any]) -> CategoricalDistribution:
    return CategoricalDistribution([own, *(o for o in others if o != own)])


def _numbers(own: float, low: float, high: float, *, log: bool = False) -> FloatDistribution:
    # 0 has no logarithm
    return FloatDistribution(min(low, own), max(high, own), log=log and own > 0)


def _integers(own: int, low: int, high: int) -> IntDistribution:
    return IntDistribution(min(low, own), max(high, own))
