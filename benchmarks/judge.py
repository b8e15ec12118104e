"""GluonTS' Evaluator, applied to forecasts and observed values."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from gluonts.evaluation import Evaluator, aggregate_valid

QUANTILES = [i / 10 for i in range(1, 10)]


def judge(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    forecasts: Sequence[Any],
    freq: str,
    season: int,
    *names: str,
) -> dict[str, float]:
    """Compute some of GluonTS' metrics of forecasts.

    Parameters
    ----------
    pairs : sequence of tuple
        A past and a future entry for every forecast.
    forecasts : sequence of Forecast
        In the same order.
    freq, season
        Frequency of the series (as periods), and steps of its season for the MASE.
    *names : str
        Names of metrics in GluonTS.
    """
    series = []
    for past, future in pairs:
        values = np.concatenate([past["target"], future["target"]])
        index = pd.period_range(past["start"], periods=len(values), freq=freq)
        series.append(pd.DataFrame(values, index))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = Evaluator(
            QUANTILES,
            seasonality=season,
            num_workers=0,
            aggregation_strategy=aggregate_valid,  # the MASE of a series without change is infinite
        )
        found, _ = evaluator(iter(series), iter(forecasts))
    return {name: round(float(found[name]), 4) for name in names}
