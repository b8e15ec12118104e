"""The parameters of a forecaster, and the configuration and roles that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from titans_ts.config import (
    PRESETS,
    BackboneConfig,
    Candidate,
    ForecasterConfig,
    ModelOptions,
    TrainingConfig,
    TrainingOptions,
    check_integer,
)
from titans_ts.estimator import TitansEstimator, plain
from titans_ts.forecasting.blend import FORECASTERS
from titans_ts.forecasting.columns import column_names
from titans_ts.forecasting.defaults import Lengths, default_lengths
from titans_ts.forecasting.frequency import CYCLES
from titans_ts.forecasting.panel import Panel, Roles
from titans_ts.types import (
    Calendar,
    ColumnNames,
    OutputName,
    PresetName,
    RandomState,
    ScalerName,
    Tokens,
    Variant,
)

__all__ = ["ForecasterParameters"]

_OF_BLOCKS = (
    "ff_expansion",
    "gradient_checkpointing",
    "mac_output",
    "memory",
    "n_persistent",
    "segment_length",
    "window",
)
"""Model options that only blocks have a use for."""


@dataclass(eq=False, repr=False)
class ForecasterParameters(TitansEstimator):
    """The constructor of :class:`TitansForecaster`, whose docstring describes the parameters."""

    shown_always: ClassVar[tuple[str, ...]] = ("prediction_length",)

    prediction_length: int = ForecasterConfig.prediction_length
    context_length: int | None = None
    _: KW_ONLY
    preset: PresetName = "default"
    variant: Variant | None = None
    d_model: int = BackboneConfig.d_model
    n_layers: int | None = None
    n_heads: int = BackboneConfig.n_heads
    patch_length: int | None = None
    patch_stride: int | None = None
    tokens: Tokens = ForecasterConfig.tokens
    stateful_windows: int = ForecasterConfig.stateful_windows
    scaler: ScalerName = ForecasterConfig.scaler
    season_length: int = ForecasterConfig.season_length
    blend: bool | Sequence[str] = True
    adapt: bool = False
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
    time_limit: float | None = TrainingConfig.time_limit
    batch_size: int | None = None
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

    def network_config(self, panel: Panel | None = None) -> ForecasterConfig:
        """Return the configuration of the network, still without the panel's numbers of columns.

        Parameters
        ----------
        panel : Panel, optional
            The series, from which lengths that are None follow. Default: they are the shortest ones.

        Raises
        ------
        ValueError
            If a parameter cannot be used.
        """
        levels: Any = self.quantile_levels
        if isinstance(levels, (list, tuple, np.ndarray)):
            levels = (q.item() if isinstance(q, np.generic) else q for q in levels)
            # 0.30000000000000004, of np.linspace, is 0.3
            levels = tuple(round(q, 12) if isinstance(q, float) else q for q in levels)
        n_layers = next((one.n_layers for one in self.candidates()), 0)
        variant = BackboneConfig.variant if self.variant is None else plain(self.variant)
        config: ForecasterConfig = self._config(
            ForecasterConfig,
            quantile_levels=levels,
            backbone=self._backbone_config(n_layers=n_layers, variant=variant),
            **self._lengths(panel)._asdict(),
        )
        return config

    def candidates(self) -> tuple[Candidate, ...]:
        """Return the networks that a fit trains: those of the preset, with what the user sets.

        Raises
        ------
        ValueError
            If there is no preset of that name.
        """
        found: tuple[Candidate, ...] = self._of_preset(PRESETS)
        if self.n_layers is None and self._needs_blocks(found):
            usual = BackboneConfig.n_layers
            found = tuple(one._replace(n_layers=one.n_layers or usual) for one in found)
        if self.max_epochs is not None:
            found = tuple(one._replace(total_steps=Candidate().total_steps) for one in found)
        return tuple(dict.fromkeys(found))

    def _needs_blocks(self, candidates: tuple[Candidate, ...]) -> bool:
        """Whether a parameter that only blocks have a use for was set, and these have none."""
        if self.stateful_windows:  # the state is that of their memories
            return True
        if any(one.n_layers for one in candidates):
            return False
        options, usual = self.options("model_options"), ModelOptions()
        return (
            self.variant is not None
            or self.tokens == "variate"  # variates meet in blocks alone
            or any(getattr(options, name) != getattr(usual, name) for name in _OF_BLOCKS)
        )

    def forecasters(self) -> tuple[str, ...]:
        """Return the names of the forecasters that the network may be blended with.

        Raises
        ------
        ValueError
            If `blend` is neither True nor False nor a sequence of their names.
        """
        if isinstance(self.blend, (bool, np.bool_)):
            return FORECASTERS if self.blend else ()
        names = tuple(self.blend) if isinstance(self.blend, (list, tuple)) else (None,)
        if not all(isinstance(name, str) and name in FORECASTERS for name in names):
            raise ValueError(
                f"blend is {self.blend!r}; give True, False or some of {list(FORECASTERS)}"
            )
        return tuple(dict.fromkeys(names))

    def check_adapt(self, panel: Panel) -> None:
        """Raise a ValueError if `adapt` is set, but not possible for a panel or other parameters."""
        if not isinstance(self.adapt, (bool, np.bool_)):
            raise ValueError(f"adapt is {self.adapt!r}; give True or False")
        reasons = {
            "X is a long frame; give a wide one": panel.items is not None,
            "freq is 'irregular'; resample to a frequency": panel.irregular,
            f"known_covariates are {self.roles.known_covariates!r}, which are not known when rows "
            "arrive; leave them out": bool(self.roles.known_covariates),
            f"stateful_windows is {self.stateful_windows}; choose one of the two": bool(
                self.stateful_windows
            ),
            f"output is {self.output!r}, but corrected forecasts are no counts; choose another": (
                self.output == "negative_binomial"
            ),
        }
        found = next((text for text, true in reasons.items() if true), None)
        if self.adapt and found is not None:
            raise ValueError(f"adapt is True, but {found}, or set adapt=False")

    def _lengths(self, panel: Panel | None) -> Lengths:
        horizon = check_integer("prediction_length", plain(self.prediction_length), 1)
        given = Lengths(*(plain(getattr(self, name)) for name in Lengths._fields))
        for name, value in given._asdict().items():
            if value is not None:
                check_integer(name, value, 1)
        if panel is None:
            return default_lengths(horizon, None, 0, given=given)
        return default_lengths(
            horizon,
            panel.freq if panel.timed else None,
            int(np.median(np.diff(panel.starts))),
            single=panel.items is None,
            given=given,
        )


def _cycles(calendar: Any) -> tuple[str, ...]:
    if isinstance(calendar, bool):
        return tuple(CYCLES) if calendar else ()
    names = column_names(calendar)
    if not all(isinstance(name, str) and name in CYCLES for name in names):
        raise ValueError(f"calendar is {calendar!r}; give True, False or some of {list(CYCLES)}")
    return tuple(name for name in CYCLES if name in names)
