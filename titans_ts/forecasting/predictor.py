"""Predictions of a trained network for panels, in the units of the data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import trange

from titans_ts.config import ForecasterConfig
from titans_ts.datasets import gather_rows
from titans_ts.forecasting.blend import Blend, histories
from titans_ts.forecasting.columns import check_counts, is_windows
from titans_ts.forecasting.covariates import read_known
from titans_ts.forecasting.cutoffs import cutoffs
from titans_ts.forecasting.panel import Panel, Roles
from titans_ts.forecasting.parse import read_panel, read_windows
from titans_ts.forecasting.scaling import Scales, StaticEncoder
from titans_ts.forecasting.stateful import STREAMS, advance_state, iter_readings, row_surprise
from titans_ts.forecasting.time_index import extended
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.training import split_known

__all__ = ["PanelPredictor"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PanelPredictor:
    """A trained network, the roles of its columns, the scaling of their values, and the blend."""

    network: ForecastingModel
    roles: Roles
    scales: Scales
    encoder: StaticEncoder | None
    blend: Blend | None = None
    """What the network's forecasts are blended with; None for nothing."""

    @property
    def blend_rows(self) -> int:
        """Number of rows that the simple forecasters of the blend read; 0 if there are none."""
        return 0 if self.blend is None else self.blend.n_rows

    @property
    def config(self) -> ForecasterConfig:
        """The network's configuration."""
        return self.network.config

    def read(self, X: Any, min_rows: int, like: Panel) -> Panel:
        """Read a series in the form of the fitted one, `like`."""
        panel = read_panel(X, self.roles, min_rows=min_rows, like=like)
        if panel.n_targets != self.config.n_variates:
            raise ValueError(
                f"X has {panel.n_targets} features, but TitansForecaster is expecting "
                f"{self.config.n_variates} features as input; give the fitted variates in their order"
            )
        if self.roles.season_length and panel.freq != like.freq:
            raise ValueError(
                f"X has frequency {panel.freq}, but the fitted series has {like.freq}; the learned "
                "season (season_length) needs the same"
            )
        if self.network.output.counts:
            check_counts(panel.values[:, : panel.n_targets])
        _warn_of_renamed_items(panel.items, like.items)
        return panel

    def read_history(self, X: Any, tail: Panel) -> Panel:
        """Read the history X, a series or a batch of windows `[N, L, F]`; return `tail` if X is None."""
        config = self.config
        if X is None:
            return tail
        if is_windows(X):
            n_columns = config.n_variates + config.n_past + config.n_known
            L, C = config.context_length, config.n_variates
            windows = read_windows(X, L, C, n_columns, self.roles)
            if self.network.output.counts:
                check_counts(windows.values[:, :C])
            return windows
        return self.read(X, config.context_length, tail)

    def read_known(self, known_covariates: Any, panel: Panel) -> Tensor | None:
        """Read and scale the known covariates of the steps after a panel, `[I, H, K]`; or return None."""
        known = read_known(known_covariates, panel, self.config.prediction_length)
        if known is None:
            return None
        return torch.from_numpy(self.scales.covariates(known).astype(np.float32))

    def continued(self, panel: Panel) -> Panel:
        """Return one series with H more rows, where only what follows from their times is known."""
        steps = self.config.prediction_length
        rows = np.full((steps, panel.values.shape[1]), np.nan)
        known = read_known(None, panel, steps)
        if known is not None:
            rows[:, -known.shape[2] :] = known[0]
        index = None if panel.index is None else extended(panel.index, steps, panel.freq)
        return replace(panel, values=np.concatenate([panel.values, rows]), index=index)

    def scaled(self, panel: Panel) -> tuple[NDArray[np.float32], Any]:
        """Return the scaled rows `[N, F]`, and the static covariates as tensors."""
        values = self.scales.panel_rows(panel, *self.scales.of(panel))
        return values, self._static(panel)

    def _evaluating(self) -> ForecastingModel:
        """Return the network in evaluation mode.

        The mode is set only if necessary, because that takes as long as the forward pass of a block.
        """
        return self.network.eval() if self.network.training else self.network

    def consume(
        self,
        panel: Panel,
        state: Any = None,
        scaled: NDArray[Any] | None = None,
        unread: NDArray[np.int64] | None = None,
    ) -> tuple[Any, Any]:
        """Read all rows that lie before the last windows of a panel.

        Parameters
        ----------
        panel : Panel
            The series.
        state : tuple, optional
            The memory's state before its rows (default: the learned initial state).
        scaled : ndarray, optional
            Its scaled rows `[N, F]`, if they were computed before.
        unread : ndarray, optional
            `[I]`, number of rows of every item that come after the state (default: all).

        Returns
        -------
        tuple
            The memory's state before the last windows, and the number of rows left in every item.
        """
        if not self.config.stateful_windows:
            return None, self.config.context_length
        rows = self.scaled(panel)[0] if scaled is None else scaled
        spans = panel.spans
        if unread is not None:
            spans[:, 0] = spans[:, 1] - unread
        with torch.inference_mode():
            return advance_state(self._evaluating(), rows, spans, self._static(panel), state)

    def network_surprise(self, panel: Panel) -> Array:
        """Return the surprise of the network's memories at every row, `[N, C]`."""
        rows, static = self.scaled(panel)
        with torch.inference_mode():
            return row_surprise(self._evaluating(), rows, panel.spans, static)

    def one_step_errors(self, panel: Panel) -> Array:
        """Return the absolute errors of the network's forecasts one step ahead, `[N, C]`.

        They are in deviations of the fitted rows. Without a trained network, the pretrained model
        forecasts.
        """
        config = self.config
        first, end = panel.spans.T
        scores = np.full((len(panel.values), config.n_variates), np.nan)
        if (end - first).max() <= config.context_length:
            return scores
        cuts = cutoffs(panel, config.context_length, 1, 1)
        known = cuts - first >= config.context_length
        alone = (
            self if self.blend is not None and not self.blend.fitted else replace(self, blend=None)
        )
        point, _ = alone.rolling(panel, cuts, steps=1)
        _, spread = self.scales.of(panel)
        error = np.abs(point[:, :, 0] - panel.values[cuts][..., : config.n_variates]) / spread
        scores[cuts[known]] = error[known]
        return scores

    def forecast(self, panel: Panel, known: Tensor | None, state: Any) -> tuple[Array, Array]:
        """Forecast mean `[I, H, C]` and quantiles `[I, H, C, Q]` after a panel, in the units of the data.

        Parameters
        ----------
        panel : Panel
            The history.
        known : Tensor, optional
            The result of :meth:`read_known`.
        state : tuple, optional
            The memory's state before the last window of the panel.
        """
        past, mean, spread = self._last_windows(panel)
        point, quantiles = self._forecast_scaled(past, known, self._static(panel), state)
        point, quantiles = point * spread + mean, quantiles * spread[..., None] + mean[..., None]
        point, quantiles = self._blended(panel, panel.spans[:, 1], point, quantiles)
        if self.blend is not None and not self.blend.fitted:  # no fit has warned
            _warn_of_nothing(panel, point)
        return point, quantiles

    def _blended(
        self, panel: Panel, rows: NDArray[np.int64], point: Array, quantiles: Array
    ) -> tuple[Array, Array]:
        """Blend means `[..., I, H, C]` and quantiles `[..., I, H, C, Q]` of the rows from `rows` on.

        `rows` is `[..., I]`.
        """
        if self.blend is None or not self.blend_rows:
            return point, quantiles
        past = histories(panel, rows, self.blend_rows)
        H, C = point.shape[-2:]
        n = rows.size
        simple = self.blend.forecast(past.reshape(n, *past.shape[-2:]), H)
        means = simple.mean(point.reshape(n, H, C))
        flat = quantiles.reshape(n, H, C, quantiles.shape[-1])
        levels = simple.quantiles(flat, self.config.quantile_levels)
        return means.reshape(point.shape), levels.reshape(quantiles.shape)

    def rolling(
        self,
        panel: Panel,
        cuts: NDArray[np.int64],
        *,
        progress_bar: bool = False,
        steps: int | None = None,
        scaled: NDArray[Any] | None = None,
    ) -> tuple[Array, Array]:
        """Forecast from the rows `cuts` `[W, I]` of a panel.

        Parameters
        ----------
        panel : Panel
            The series.
        cuts : ndarray
            `[W, I]`, the first row of every forecast; -1 for no forecast.
        progress_bar : bool
            Whether to show a progress bar (default False).
        steps : int, optional
            Number of steps to return (default: all H). Covariates of later steps may be missing.
        scaled : ndarray, optional
            The panel's scaled rows `[N, F]`, if they were computed before.

        Returns
        -------
        tuple of ndarray
            Means `[W, I, H, C]` and quantiles `[W, I, H, C, Q]`; NaN where there is no forecast.
        """
        config, model = self.config, self._evaluating()
        L, H, C = config.context_length, config.prediction_length, config.n_variates
        first, end = panel.spans.T
        # the scale of an item that was not fitted: from the rows before its first forecast
        before = np.maximum(np.where(cuts >= 0, cuts, end).min(0), first + 1)
        mean, spread = self.scales.of(panel, before)
        if scaled is None and config.stateful_windows:  # a carried state reads every row
            scaled = self.scales.panel_rows(panel, mean, spread)
        constant = self._static(panel)
        at_once = 1 if config.stateful_windows else max(1, STREAMS // (C * panel.n_items))
        state, place = None, first
        points, quantiles = [], []
        for start in trange(0, len(cuts), at_once, desc="backtest", disable=not progress_bar):
            batch = cuts[start : start + at_once]
            if config.stateful_windows:
                assert scaled is not None
                reached = np.maximum(batch[0], place)
                with torch.inference_mode():
                    state, left = advance_state(
                        model, scaled, np.stack([place, reached], 1), constant, state
                    )
                place = reached - left
            at = batch[..., None] + np.arange(-L, H)  # [w, I, L + H]
            if scaled is not None:
                windows = gather_rows(scaled, at, first, end)
            else:  # only the windows are scaled
                raw = gather_rows(panel.values, at, first, end)  # [w, I, L + H, F]
                windows = self.scales.rows(raw, mean[:, None], spread[:, None])
            flat = torch.from_numpy(windows.reshape(-1, *windows.shape[2:]))
            _, known = split_known(flat[:, L:], config)
            tiled = None if constant is None else tuple(s.repeat(len(batch), 1) for s in constant)
            point, quantile = self._forecast_scaled(flat[:, :L], known, tiled, state)
            shape = (*batch.shape, H, C)
            point = point.reshape(shape)[:, :, :steps]
            levels = quantile.reshape(*shape, -1)[:, :, :steps]
            point = point * spread[:, None] + mean[:, None]
            levels = levels * spread[:, None, :, None] + mean[:, None, :, None]
            point, levels = self._blended(panel, batch, point, levels)
            points.append(point)
            quantiles.append(levels)
        point, quantile = np.concatenate(points), np.concatenate(quantiles)
        point[cuts < 0], quantile[cuts < 0] = np.nan, np.nan
        return point, quantile

    def sample(
        self, panel: Panel, known: Tensor | None, state: Any, level: NDArray[np.float64]
    ) -> Array:
        """Return values `[I, S, H, C]` at the quantile levels `level`, in the units of the data."""
        past, mean, spread = self._last_windows(panel)
        parts = []
        with torch.inference_mode():
            for batch, parameters in self._parameters(past, known, self._static(panel), state):
                parameters = parameters.cpu().double()  # a level close to 1 is 1 in float32
                levels = torch.from_numpy(level[batch]).movedim(1, -1)
                parts.append(self.network.output.inverse(parameters, levels).numpy())
        drawn = np.concatenate(parts) * spread[..., None] + mean[..., None]  # [I, H, C, S]
        if self.blend is not None and self.blend_rows:
            history = histories(panel, panel.spans[:, 1], self.blend_rows)
            simple = self.blend.forecast(history, drawn.shape[1])
            drawn = simple.quantiles(drawn, np.moveaxis(level, 1, -1))
        return np.moveaxis(drawn, -1, 1)

    def _forecast_scaled(
        self, past: Tensor, known: Tensor | None, static: Any, state: Any
    ) -> tuple[Array, Array]:
        """Return means `[n, H, C]` and quantiles `[n, H, C, Q]` of scaled windows `[n, L, F]`."""
        points, quantiles = [], []
        output = self.network.output
        with torch.inference_mode():
            for _, parameters in self._parameters(past, known, static, state):
                points.append(output.mean(parameters).cpu().double().numpy())
                quantiles.append(output.quantiles(parameters).cpu().double().numpy())
        return np.concatenate(points), np.concatenate(quantiles)

    def _parameters(
        self, past: Tensor, known: Tensor | None, static: Any, state: Any
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield batches of windows, each with the output's parameters `[.., H, C, 1 + E]`."""
        for batch, reading in iter_readings(self._evaluating(), past, static, state):
            ahead = None if known is None else known[batch].to(reading.y.device)
            yield batch, self.network.parameters_after(reading, ahead)

    def _last_windows(self, panel: Panel) -> tuple[Tensor, Array, Array]:
        """Return the scaled last window of every item `[I, L, F]`, its level and spread `[I, 1, C]`."""
        mean, spread = (s[:, None] for s in self.scales.of(panel))
        windows = panel.windows(self.config.context_length)
        return torch.from_numpy(self.scales.rows(windows, mean, spread)), mean, spread

    def _static(self, panel: Panel) -> Any:
        if self.encoder is None:
            return None
        codes, numbers = self.encoder(panel.static, panel.n_items)
        return torch.from_numpy(codes), torch.from_numpy(numbers)


def _warn_of_renamed_items(items: pd.Index | None, fitted: pd.Index | None) -> None:
    """Warn if an item was not fitted, but another one with the same text was, such as 1 for "1"."""
    if items is None or fitted is None:
        return
    new = items[~items.isin(fitted)].tolist()
    known = {str(name): name for name in fitted.tolist()} if new else {}
    for name in new:
        if str(name) in known:
            warnings.warn(
                f"item {name!r} of X is taken as a new one: the fitted item is {known[str(name)]!r}, of "
                "another type; give item ids of the fitted type",
                stacklevel=5,
            )
            return


def _warn_of_nothing(panel: Panel, point: Array) -> None:
    """Warn of forecasts `[I, H, C]` without a value to start from."""
    nothing = np.argwhere(np.isnan(point).any(1))
    if len(nothing):
        item, column = nothing[0]
        name = int(column) if panel.columns is None else panel.columns[column]
        of = "" if panel.items is None else f" of item {panel.items.tolist()[item]!r}"
        warnings.warn(
            f"column {name!r}{of} has no value among the latest rows, which the pretrained model reads; "
            f"its forecasts are NaN (and {len(nothing) - 1} more)",
            stacklevel=5,
        )
