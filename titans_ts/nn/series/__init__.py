"""Forecasting models: scalers, tokenizers, heads and outputs."""

from titans_ts.nn.series.model import ForecastingModel
from titans_ts.nn.series.outputs import OUTPUTS
from titans_ts.nn.series.scalers import SCALERS
from titans_ts.nn.series.tokenizers import TOKENS, PatchTokenizer, VariateTokenizer

__all__ = [
    "OUTPUTS",
    "SCALERS",
    "TOKENS",
    "ForecastingModel",
    "PatchTokenizer",
    "VariateTokenizer",
]
