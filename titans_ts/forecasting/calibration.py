"""Calibration of a forecaster: errors of past forecasts, for intervals and sample paths."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from titans_ts.config import ForecasterConfig
from titans_ts.forecasting.cutoffs import targets, validation_cutoffs
from titans_ts.forecasting.intervals import conformity, dependent_levels, margin
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.types import RandomState

__all__ = ["Calibration", "calibrate", "calibrate_last", "calibrated", "n_scores"]


_LAST, _WINDOWS, _VALUES = 8, 64, 2**18
"""Number of horizons that a forecaster without a fit is calibrated on, of forecasts, and of the values
that these read, at most."""


class Calibration(NamedTuple):
    """Errors of past forecasts, `[N, H, C]` each, in deviations of the fitted rows; NaN is missing."""

    scores: NDArray[np.float32]
    """How far outside the interval between the outermost quantiles the values fell."""
    errors: NDArray[np.float32]
    """Values less their forecast means."""

    def margin(self, coverage: float) -> NDArray[np.float64]:
        """Return what to add to both ends of an interval, `[H, C]`, for it to have a coverage."""
        return margin(self.scores, coverage)

    def levels(
        self, n_items: int, n_samples: int, random_state: RandomState
    ) -> NDArray[np.float64]:
        """Draw quantile levels `[I, S, H, C]` with the dependence of the errors."""
        seed = check_random_state(random_state).randint(2**31 - 1)
        generator = np.random.default_rng(int(seed))
        return np.stack(
            [dependent_levels(self.errors, n_samples, generator) for _ in range(n_items)]
        )


def calibrate(
    predictor: PanelPredictor,
    panel: Panel,
    cuts: NDArray[np.int64],
    scaled: NDArray[Any] | None = None,
) -> Calibration | None:
    """Measure the errors of rolling forecasts from `cuts` `[W, I]`; None without an observed value.

    `scaled` are the panel's scaled rows `[N, F]`, if they were computed before.
    """
    config = predictor.config
    H, C = config.prediction_length, config.n_variates
    if cuts.size == 0:
        return None
    point, quantiles = predictor.rolling(panel, cuts, scaled=scaled)
    actual = targets(panel, cuts, H)
    _, spread = predictor.scales.of(panel)
    errors = ((actual - point) / spread[:, None]).reshape(-1, H, C)
    kept = np.flatnonzero(~np.isnan(errors).all((1, 2)))
    if len(kept) == 0:
        return None
    kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), n_scores(config))).astype(int)]
    scores = np.full_like(errors, np.nan)
    if len(config.quantile_levels) > 1:
        outside = conformity(actual, quantiles[..., 0], quantiles[..., -1]) / spread[:, None]
        scores = outside.reshape(-1, H, C)
    return Calibration(scores[kept].astype(np.float32), errors[kept].astype(np.float32))


def calibrate_last(predictor: PanelPredictor, panel: Panel) -> Calibration | None:
    """Measure the errors of some of the last forecasts of a panel, in the second half of its rows.

    None if the rows are too few. The predictor must not have been fitted to them.
    """
    config = predictor.config
    first, end = panel.spans.T
    border = np.maximum(end - _LAST * config.prediction_length, (first + end) // 2)
    rows = int((end - first).max()) * config.n_variates
    ends, cuts = validation_cutoffs(panel, config, border, min(_WINDOWS, max(8, _VALUES // rows)))
    return calibrate(predictor, panel.head(ends), cuts)


def calibrated(calibration: Calibration | None) -> Calibration:
    """Return the calibration of a forecaster.

    Raises
    ------
    ValueError
        If it is None.
    """
    if calibration is None:
        raise ValueError(
            "nothing to calibrate with: the series is too short for a part that forecasts can be "
            "compared with; call calibrate with rows that were not fitted, or use predict_quantiles"
        )
    return calibration


def n_scores(config: ForecasterConfig) -> int:
    """Return the number of forecasts for calibration: 500, or fewer (at least 50) for large forecasts."""
    numbers = config.prediction_length * config.n_variates
    return min(500, max(50, 2**22 // numbers))
