"""A forecaster small enough for a test."""

from __future__ import annotations

from titans_ts import TitansForecaster

H, L = 4, 16
SETTINGS = {
    "context_length": L,
    "patch_length": 8,
    "patch_stride": 4,
    "d_model": 16,
    "n_heads": 2,
    "n_layers": 1,
    "max_epochs": 1,
    "random_state": 0,
    "progress_bar": False,
}


def small(**params):
    return TitansForecaster(**({"prediction_length": H} | SETTINGS | params))
