"""The parameters of a forecaster, and the configuration and roles that follow from them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from titans_ts.config import (
    BackboneConfig,
    ForecasterConfig,
    ModelOptions,
    TrainingConfig,
    TrainingOptions,
)
from titans_ts.estimator import TitansEstimator
from titans_ts.forecasting.columns import column_names
from titans_ts.forecasting.frequency import CYCLES
from titans_ts.forecasting.panel import Roles
from titans_ts.types import (
    Calendar,
    ColumnNames,
    OutputName,
    RandomState,
    ScalerName,
    Tokens,
    Variant,
)

__all__ = ["ForecasterParameters"]


@dataclass(eq=False, repr=False)
class ForecasterParameters(TitansEstimator):
    """The constructor of :class:`TitansForecaster`, whose docstring describes the parameters."""

    prediction_length: int = ForecasterConfig.prediction_length
    context_length: int = ForecasterConfig.context_length
    _: KW_ONLY
    variant: Variant = BackboneConfig.variant
    d_model: int = BackboneConfig.d_model
    n_layers: int = BackboneConfig.n_layers
    n_heads: int = BackboneConfig.n_heads
    patch_length: int = ForecasterConfig.patch_length
    patch_stride: int = ForecasterConfig.patch_stride
    tokens: Tokens = ForecasterConfig.tokens
    stateful_windows: int = ForecasterConfig.stateful_windows
    scaler: ScalerName = ForecasterConfig.scaler
    season_length: int = ForecasterConfig.season_length
    blend: bool = True
    quantile_levels: tuple[float, ...] = ForecasterConfig.quantile_levels
    output: OutputName = ForecasterConfig.output
    target: ColumnNames = None
    past_covariates: ColumnNames = ()
    known_covariates: ColumnNames = ()
    static_covariates: ColumnNames = ()
    calendar: Calendar = False
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    freq: str | None = None
    max_epochs: int | None = TrainingConfig.max_epochs
    batch_size: int = TrainingConfig.batch_size
    learning_rate: float = TrainingConfig.learning_rate
    model_options: ModelOptions | dict[str, Any] | None = None
    training_options: TrainingOptions | dict[str, Any] | None = None
    device: str = "auto"
    random_state: RandomState = None
    progress_bar: bool = True

    @property
    def roles(self) -> Roles:
        """The roles of the columns, from the parameters."""
        length = self.season_length
        if length and self.freq == "irregular":
            raise ValueError(
                f"season_length is {length}, but freq is 'irregular', so that steps cannot be counted; "
                "use calendar, for instance ['day']"
            )
        return Roles(
            None if self.target is None else column_names(self.target),
            column_names(self.past_covariates),
            column_names(self.known_covariates),
            column_names(self.static_covariates),
            self.item_id,
            self.timestamp,
            self.freq,
            _cycles(self.calendar),
            # json takes no number of numpy's
            int(length) if isinstance(length, np.integer) else length,
        )

    def _forecaster_config(self) -> ForecasterConfig:
        levels: Any = self.quantile_levels
        if isinstance(levels, (list, tuple, np.ndarray)):
            levels = tuple(q.item() if isinstance(q, np.generic) else q for q in levels)
        config: ForecasterConfig = self._config(
            ForecasterConfig, quantile_levels=levels, backbone=self._backbone_config()
        )
        return config


def _cycles(calendar: Any) -> tuple[str, ...]:
    if isinstance(calendar, bool):
        return tuple(CYCLES) if calendar else ()
    names = column_names(calendar)
    if not all(isinstance(name, str) and name in CYCLES for name in names):
        raise ValueError(f"calendar is {calendar!r}; give True, False or some of {list(CYCLES)}")
    return tuple(name for name in CYCLES if name in names)
