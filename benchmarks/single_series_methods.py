"""Methods that forecast a single series: ours, its controls and simple ones, behind one interface.

A method is made for a :class:`Series` and a seed, fitted to the train part of a set, and then forecasts
the test part of this set or of later ones, as quantiles `[1, horizon, levels]` at `LEVELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import pandas as pd
from leaderboard import LEVELS, MODELS, NAIVE, Set, control, fitted, forecasts, naive
from numpy.typing import NDArray
from single_series_data import Series, lags

__all__ = ["EXTRAS", "METHODS", "Method", "check_installed"]

EXTRAS = ("statsforecast", "mlforecast", "lightgbm")
INTERVALS = (20, 40, 60, 80)
"""Central intervals, percent, whose ends are the quantiles at `LEVELS` other than the median."""
LIGHTGBM = {
    "objective": "l1",
    "n_estimators": 200,
    "learning_rate": 0.05,
    "num_leaves": 31,
    "num_threads": 1,
    "verbosity": -1,
}
"""For every series. L1 and first differences were the best of two losses and three differences (none,
one step, one season) at the three horizons before the test horizons of ILI, exchange rate, weather and
taxi, by the geometric mean of their MASE."""
Quantiles = NDArray[np.float64]


class Method(Protocol):
    """A forecasting method."""

    def fit(self, data: Set) -> None:
        """Fit to the train part."""

    def forecast(self, data: Set) -> Quantiles:
        """Forecast the test part from the train part, which may have more rows than were fitted."""


class Naive:
    """The value of a season before, for every level."""

    def __init__(self, series: Series, seed: int) -> None:
        pass

    def fit(self, data: Set) -> None:
        """Nothing is learned."""

    def forecast(self, data: Set) -> Quantiles:
        """Repeat the last season."""
        return naive(data)


class Titans:
    """`TitansForecaster` with defaults, except for `options`."""

    def __init__(self, options: dict[str, Any], series: Series, seed: int) -> None:
        self.options, self.seed = options, seed

    def fit(self, data: Set) -> None:
        """Train on the windows of the train part."""
        self.forecaster = fitted(data, self.options, self.seed)

    def forecast(self, data: Set) -> Quantiles:
        """Forecast from the last rows of the train part."""
        return forecasts(self.forecaster, data)


class Statistical:
    """A model of statsforecast.

    AutoETS has no season of more than 24 steps. MSTL subtracts all seasons and forecasts the rest by
    AutoETS without a season.
    """

    def __init__(self, name: str, series: Series, seed: int) -> None:
        from statsforecast import models

        if name == "MSTL":
            trend = models.AutoETS(model="ZZN")
            self.model = models.MSTL(list(series.seasons), trend_forecaster=trend)
        else:
            self.model = getattr(models, name)(season_length=series.seasons[0])

    def fit(self, data: Set) -> None:
        """Choose a model for the train part, and fit its parameters."""
        self.model.fit(_values(data))

    def forecast(self, data: Set) -> Quantiles:
        """Filter the train part with the fitted parameters, and forecast."""
        found = self.model.forward(_values(data), h=data.test.shape[1], level=list(INTERVALS))
        return _quantiles(found, "")


class LightGBM:
    """LightGBM through mlforecast: first differences, lags and date features.

    One model forecasts step by step; its quantiles are conformal, from windows before the origin that
    models without them forecast.
    """

    def __init__(self, series: Series, seed: int) -> None:
        from lightgbm import LGBMRegressor
        from mlforecast import MLForecast
        from mlforecast.target_transforms import Differences

        self.horizon, self.rows = series.horizon, 0
        self.model = MLForecast(
            {"LightGBM": LGBMRegressor(**LIGHTGBM, random_state=seed)},
            freq=series.freq,
            lags=lags(series.seasons),
            date_features=list(series.dates),
            target_transforms=[Differences([1])],
            num_threads=1,
        )

    def fit(self, data: Set) -> None:
        """Fit the model, and as many without the last windows as a quarter of the rows has (2 to 10)."""
        from mlforecast.utils import PredictionIntervals

        frame = _named(data.train)
        n_windows = min(10, len(frame) // (4 * self.horizon))
        intervals = PredictionIntervals(n_windows, h=self.horizon)
        self.model.fit(frame, static_features=[], prediction_intervals=intervals)
        self.rows = len(frame)

    def forecast(self, data: Set) -> Quantiles:
        """Add the rows that were not known yet, and forecast."""
        if len(data.train) > self.rows:
            self.model.update(_named(data.train[self.rows :]))
            self.rows = len(data.train)
        found = self.model.predict(self.horizon, level=list(INTERVALS))
        return _quantiles(found.rename(columns={"LightGBM": "mean"}), "LightGBM-")


METHODS: dict[str, Callable[[Series, int], Method]] = {
    NAIVE: Naive,
    **{name: partial(Titans, options) for name, options in MODELS.items() if not control(name)},
    **{name: partial(Statistical, name) for name in ("AutoETS", "AutoTheta", "AutoARIMA", "MSTL")},
    "LightGBM": LightGBM,
}


def check_installed(models: list[str]) -> None:
    """Stop with an instruction if a package of the simple methods is missing."""
    missing = [package for package in EXTRAS if find_spec(package) is None]
    if missing and not {NAIVE, *MODELS}.issuperset(models):
        raise SystemExit(
            f'{", ".join(missing)} not installed: pip install ".[benchmarks]" in the repository, or '
            f"leave out the models that need them (--models {NAIVE} {' '.join(MODELS)!r})"
        )


def _values(data: Set) -> NDArray[np.float64]:
    return data.train["target"].to_numpy(float)


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.rename(columns={"item_id": "unique_id", "timestamp": "ds", "target": "y"})


def _quantiles(found: Any, prefix: str) -> Quantiles:
    """Order the ends of intervals, columns `lo-80` ... `hi-80` and `mean`, by their levels."""
    low = [f"{prefix}lo-{width}" for width in sorted(INTERVALS, reverse=True)]
    high = [f"{prefix}hi-{width}" for width in INTERVALS]
    columns = [*low, "mean", *high]
    assert len(columns) == len(LEVELS)
    return np.stack([np.asarray(found[column], float) for column in columns], -1)[None]
