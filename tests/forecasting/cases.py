"""A forecaster small enough for a test: the network alone, unless a test asks for the blend."""

from __future__ import annotations

from tests.support import small_settings
from titans_ts import TitansForecaster

H, L = 4, 16
SETTINGS = small_settings(context_length=L, patch_length=8, patch_stride=4, blend=False)


def small(**params):
    return TitansForecaster(**({"prediction_length": H} | SETTINGS | params))
