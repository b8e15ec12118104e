"""A trained model with what it takes to forecast panels in their own units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import trange

from titans_ts.config import ForecasterConfig
from titans_ts.datasets import gather_rows
from titans_ts.forecasting.backtest import cutoffs, targets
from titans_ts.forecasting.intervals import conformity
from titans_ts.forecasting.panel import Panel, Roles
from titans_ts.forecasting.parse import read_future, read_panel, read_windows
from titans_ts.forecasting.scaling import Scales, StaticEncoder, season
from titans_ts.forecasting.stateful import STREAMS, advance, read_in_pieces, row_surprise
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.training import split_known

__all__ = ["Calibration", "PanelModel", "n_scores"]

Array = NDArray[np.float64]


class Calibration(NamedTuple):
    """How past forecasts fared, `[N, H, C]` each, in deviations of what was fitted; NaN is missing."""

    scores: NDArray[np.float32]
    """How far outside the interval between the outermost quantiles values fell."""
    errors: NDArray[np.float32]
    """Values less their means."""


@dataclass(frozen=True)
class PanelModel:
    """A model, what its columns are, and how their values are scaled."""

    model: ForecastingModel
    roles: Roles
    scales: Scales
    encoder: StaticEncoder | None

    @property
    def ready(self) -> ForecastingModel:
        """The model in evaluation; going through all its modules takes as long as a block's forward."""
        return self.model.eval() if self.model.training else self.model

    @property
    def config(self) -> ForecasterConfig:
        """The model's."""
        return self.model.config

    def read(self, X: Any, min_rows: int, like: Panel) -> Panel:
        """Read a series in the form that was fitted, `like`."""
        panel = read_panel(X, self.roles, min_rows=min_rows, like=like)
        if panel.n_targets != self.config.n_variates:
            raise ValueError(
                f"X has {panel.n_targets} features, but TitansForecaster is expecting "
                f"{self.config.n_variates} features as input; give the fitted variates in their order"
            )
        if self.roles.season_length and panel.freq != like.freq:
            raise ValueError(
                f"X has frequency {panel.freq}, but {like.freq} was fitted; the season that was learned "
                "(season_length) needs the same"
            )
        return panel

    def read_history(self, X: Any, tail: Panel) -> tuple[Panel | None, Array | None]:
        """The panel to answer for, or a batch of windows `[N, L, F]`; the other is None."""
        config = self.config
        if X is None:
            return tail, None
        if not isinstance(X, (pd.DataFrame, pd.Series)) and np.ndim(X) == 3:
            if self.roles.timed is not None:
                raise ValueError(
                    f"X is a batch of windows, which has no times; {self.roles.timed} needs them"
                )
            n_columns = config.n_variates + config.n_past + config.n_known
            return None, read_windows(X, config.context_length, n_columns)
        return self.read(X, config.context_length, tail), None

    def rows(self, panel: Panel) -> tuple[NDArray[np.float32], Any]:
        """Rows `[N, F]` scaled, and static covariates as tensors."""
        return self._scaled(panel, *self.scales.of(panel)), self._static(panel, panel.n_items)

    def learn_season(self, panel: Panel, rows: NDArray[np.float32], use: NDArray[np.bool_]) -> None:
        """Let the learned season, if any, begin at that of scaled rows `[N, F]`, those in `use`."""
        cycle = self.model.cycle
        if cycle is None:
            return
        values = np.where(use[:, None], rows[:, : self.config.n_variates], np.nan)
        found = season(values.astype(np.float64), rows[:, -1].astype(int), panel.spans, len(cycle))
        with torch.no_grad():
            cycle.copy_(torch.from_numpy(found))

    def _scaled(self, panel: Panel, mean: Array, spread: Array) -> NDArray[np.float32]:
        """Rows `[N, F]` by the levels and spreads of their items `[I, C]`."""
        counts = np.diff(panel.starts)
        return self.scales.rows(
            panel.values, np.repeat(mean, counts, 0), np.repeat(spread, counts, 0)
        )

    def absorb(self, panel: Panel, state: Any = None) -> tuple[Any, Any]:
        """The state after the rows before the last window, and how many rows of every item are left."""
        if not self.config.stateful_windows:
            return None, self.config.context_length
        rows, static = self.rows(panel)
        with torch.inference_mode():
            return advance(self.ready, rows, panel.spans, static, state)

    def surprise(self, panel: Panel) -> Array:
        """How much every row surprised the memory, `[N, C]`."""
        rows, static = self.rows(panel)
        with torch.inference_mode():
            return row_surprise(self.ready, rows, panel.spans, static)

    def one_step_errors(self, panel: Panel) -> Array:
        """Absolute error of the forecast one step ahead, in deviations of what was fitted, `[N, C]`."""
        config = self.config
        first, end = panel.spans.T
        scores = np.full((len(panel.values), config.n_variates), np.nan)
        if (end - first).max() <= config.context_length:
            return scores
        cuts = cutoffs(panel, config.context_length, 1, 1)
        known = cuts - first >= config.context_length
        point, _ = self.rolling(panel, cuts, steps=1)
        _, spread = self.scales.of(panel)
        error = np.abs(point[:, :, 0] - panel.values[cuts][..., : config.n_variates]) / spread
        scores[cuts[known]] = error[known]
        return scores

    def calibration(self, panel: Panel, cuts: NDArray[np.int64]) -> Calibration | None:
        """How rolling forecasts from `cuts` `[W, I]` on fared; None without a value to compare with."""
        config = self.config
        H, C = config.prediction_length, config.n_variates
        if cuts.size == 0:
            return None
        point, quantiles = self.rolling(panel, cuts)
        actual = targets(panel, cuts, H)
        _, spread = self.scales.of(panel)
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

    def forecast(
        self, panel: Panel | None, windows: Array | None, known_covariates: Any, state: Any
    ) -> tuple[Array, Array]:
        """Mean `[n, H, C]` and quantiles `[n, H, C, Q]`, in the series' own units."""
        past, known, static, mean, spread = self._inputs(panel, windows, known_covariates)
        point, quantiles = self.forecast_scaled(past, known, static, state)
        return point * spread + mean, quantiles * spread[..., None] + mean[..., None]

    def rolling(
        self,
        panel: Panel,
        cuts: NDArray[np.int64],
        *,
        progress_bar: bool = False,
        steps: int | None = None,
    ) -> tuple[Array, Array]:
        """Means `[W, I, H, C]` and quantiles `[W, I, H, C, Q]` from rows `cuts` `[W, I]` on.

        With `steps`, the first ones alone; covariates of later steps may then lie beyond the end.
        """
        config, model = self.config, self.ready
        L, H, C = config.context_length, config.prediction_length, config.n_variates
        first, end = panel.spans.T
        # the scale of an item that was not fitted: without what is still to come
        past = panel.head(np.maximum(np.where(cuts >= 0, cuts, end).min(0), first + 1))
        mean, spread = self.scales.of(past)
        values = self._scaled(panel, mean, spread)
        constant = self._static(panel, panel.n_items)
        at_once = 1 if config.stateful_windows else max(1, STREAMS // (C * panel.n_items))
        state, place = None, first
        points, quantiles = [], []
        for start in trange(0, len(cuts), at_once, desc="backtest", disable=not progress_bar):
            some = cuts[start : start + at_once]
            if config.stateful_windows:
                reached = np.maximum(some[0], place)
                with torch.inference_mode():
                    state, left = advance(
                        model, values, np.stack([place, reached], 1), constant, state
                    )
                place = reached - left
            at = some[..., None] + np.arange(-L, H)  # [w, I, L + H]
            windows = gather_rows(values, at, first, end)
            flat = torch.from_numpy(windows.reshape(-1, *windows.shape[2:]))
            _, known = split_known(flat[:, L:], config)
            tiled = None if constant is None else tuple(s.repeat(len(some), 1) for s in constant)
            point, quantile = self.forecast_scaled(flat[:, :L], known, tiled, state)
            shape = (*some.shape, H, C)
            point = point.reshape(shape)[:, :, :steps]
            levels = quantile.reshape(*shape, -1)[:, :, :steps]
            points.append(point * spread[:, None] + mean[:, None])
            quantiles.append(levels * spread[:, None, :, None] + mean[:, None, :, None])
        point, quantile = np.concatenate(points), np.concatenate(quantiles)
        point[cuts < 0], quantile[cuts < 0] = np.nan, np.nan
        return point, quantile

    def sample(
        self,
        panel: Panel | None,
        windows: Array | None,
        known_covariates: Any,
        state: Any,
        level: NDArray[np.float64],
    ) -> Array:
        """Values `[n, S, H, C]` below which shares `level`, same shape, lie, in the series' own units."""
        past, known, static, mean, spread = self._inputs(panel, windows, known_covariates)
        found = []
        with torch.inference_mode():
            for some, parameters in self._parameters(past, known, static, state):
                parameters = parameters.cpu().double()  # a level close to 1 is 1 in float32
                wanted = torch.from_numpy(level[some]).movedim(1, -1)
                found.append(self.model.output.inverse(parameters, wanted).numpy())
        drawn = np.moveaxis(np.concatenate(found), -1, 1)  # [n, S, H, C]
        return drawn * spread[:, None] + mean[:, None]

    def forecast_scaled(
        self, past: Tensor, known: Tensor | None, static: Any, state: Any
    ) -> tuple[Array, Array]:
        """Means `[n, H, C]` and quantiles `[n, H, C, Q]` of scaled windows `[n, L, F]`."""
        points, quantiles = [], []
        output = self.model.output
        with torch.inference_mode():
            for _, parameters in self._parameters(past, known, static, state):
                points.append(output.mean(parameters).cpu().double().numpy())
                quantiles.append(output.quantiles(parameters).cpu().double().numpy())
        return np.concatenate(points), np.concatenate(quantiles)

    def _parameters(
        self, past: Tensor, known: Tensor | None, static: Any, state: Any
    ) -> Iterator[tuple[slice, Tensor]]:
        """Which windows, and the output's parameters `[.., H, C, 1 + E]`, a bounded number at a time."""
        for some, reading in read_in_pieces(self.ready, past, static, state):
            ahead = None if known is None else known[some].to(reading.y.device)
            yield some, self.model.parameters_after(reading, ahead)

    def _inputs(
        self, panel: Panel | None, windows: Array | None, known_covariates: Any
    ) -> tuple[Tensor, Tensor | None, Any, Array, Array]:
        """Past, known and static inputs of the model; level and spread `[n, 1, C]`."""
        mean, spread = (s[:, None] for s in self.scales.of(panel, windows))
        windows = panel.windows(self.config.context_length) if panel is not None else windows
        assert windows is not None
        past = torch.from_numpy(self.scales.rows(windows, mean, spread))
        known = self._known(panel, len(windows), known_covariates)
        return past, known, self._static(panel, len(windows)), mean, spread

    def _known(self, panel: Panel | None, n: int, known_covariates: Any) -> Tensor | None:
        """The covariates of the steps ahead `[n, H, K]`, scaled."""
        known = read_future(known_covariates, panel, n, self.config.prediction_length, self.roles)
        if known is None:
            return None
        return torch.from_numpy(self.scales.covariates(known).astype(np.float32))

    def _static(self, panel: Panel | None, n: int) -> Any:
        if self.encoder is None:
            return None
        codes, numbers = self.encoder(None if panel is None else panel.static, n)
        return torch.from_numpy(codes), torch.from_numpy(numbers)


def n_scores(config: ForecasterConfig) -> int:
    """Forecasts to calibrate with: 500, or fewer where their steps and variates are very many."""
    numbers = config.prediction_length * config.n_variates
    return min(500, max(50, 2**22 // numbers))
