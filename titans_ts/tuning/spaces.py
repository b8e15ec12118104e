"""What a search tries where it is not told: spaces that fit the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.frequency import usual_season
from titans_ts.forecasting.parse import read_panel
from titans_ts.genomics.sequence_estimator import SequenceEstimator, encode_sequences

__all__ = ["default_space"]

_WIDTHS = (16, 32, 64, 128, 256)


def default_space(estimator: Any, X: Any) -> dict[str, Any]:
    """Parameters worth trying, as Optuna's distributions.

    What the estimator says itself is always among them. A block of width D has some 20 D^2 weights, and
    the widest has about as many as X has values.

    Parameters
    ----------
    estimator : TitansForecaster, TitansClassifier, TitansRegressor, or a pipeline that ends with one
        As it would be fitted.
    X : series or sequences
        What it would be fitted on.

    Raises
    ------
    TypeError
        If the estimator is another; such a one needs a space of its own.

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
        f"space is None, but of a {type(estimator).__name__} it is not known what to try; give a dict of "
        "optuna.distributions"
    )


def _forecaster_space(forecaster: TitansForecaster, X: Any) -> dict[str, Any]:
    panel = read_panel(X, forecaster.roles)
    patches = [n for n in (8, 16, 24, 32, 48) if n <= forecaster.context_length // 2]
    patches = [n for n in patches if n >= forecaster.patch_stride]
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


def _sequence_space(estimator: SequenceEstimator, X: Any) -> dict[str, Any]:
    lengths = [len(s) for s in encode_sequences(X)]
    typical = int(np.median(lengths))
    space = _network(estimator, sum(lengths), 0) | {
        "learning_rate": _numbers(estimator.learning_rate, 5e-4, 2e-2, log=True),
        "rc": _choices(estimator.rc, ["none", "average"]),
    }
    poolings = ["attention", "max", "mean"]
    if estimator.max_length is None and len(set(lengths)) == 1 and typical <= 2000:
        poolings.append("flatten")
    space["pooling"] = _choices(estimator.pooling, poolings)
    if estimator.pretrained is not None:  # what was pretrained has its sizes
        for name in ("d_model", "n_layers", "variant"):
            del space[name]
        return space
    options = estimator.options("tokenizer")
    if not hasattr(options, "kernel_size") or getattr(options, "init", "random") != "random":
        return space  # tokens that were chosen, with sizes of their own
    strides = [s for s in (1, 2, 4, 8, 16, 32, 64) if 16 <= typical / s <= 512] or [1]
    kernels = [k for k in (9, 15, 21) if k >= strides[-1]]
    if isinstance(estimator.tokenizer, str):
        space["tokenizer"] = _choices(estimator.tokenizer, ["nucleotide", "conv"])
    return space | {
        "stride": _choices(estimator.stride, strides),
        "tokenizer__kernel_size": _choices(options.kernel_size, [None, *kernels]),
    }


def _network(estimator: Any, n_values: int, fewest_layers: int) -> dict[str, Any]:
    """What every estimator has."""
    most = max(_WIDTHS[1], n_values**0.5 / 4)
    widths = [w for w in _WIDTHS if w <= most and w % (2 * estimator.n_heads) == 0]
    deepest = 2 if n_values < 50_000 else 3
    model, training = estimator.options("model_options"), estimator.options("training_options")
    return {
        "variant": _choices(estimator.variant, ["mac", "mag", "mal", "lmm"]),
        "d_model": _choices(estimator.d_model, widths),
        "n_layers": _whole(estimator.n_layers, fewest_layers, deepest),
        "model_options__dropout": _numbers(model.dropout, 0.0, 0.4),
        "model_options__head_dropout": _numbers(model.head_dropout, 0.0, 0.5),
        "training_options__weight_decay": _numbers(training.weight_decay, 1e-3, 0.3, log=True),
    }


def _choices(own: Any, others: list[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution

    return CategoricalDistribution([own, *(o for o in others if o != own)])


def _numbers(own: float, low: float, high: float, *, log: bool = False) -> Any:
    from optuna.distributions import FloatDistribution

    # a logarithm has no place for 0
    return FloatDistribution(min(low, own), max(high, own), log=log and own > 0)


def _whole(own: int, low: int, high: int) -> Any:
    from optuna.distributions import IntDistribution

    return IntDistribution(min(low, own), max(high, own))
