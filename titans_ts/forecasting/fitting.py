"""Fitting a forecaster: from a panel to a trained predictor."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from titans_ts.config import Candidate, ForecasterConfig, ModelOptions, TrainingConfig
from titans_ts.forecasting.blend import (
    FORECASTERS,
    ZERO_SHOT,
    Blend,
    fit_blend,
    n_rows,
    n_windows,
    season_of,
)
from titans_ts.forecasting.calibration import Calibration, calibrate, n_scores
from titans_ts.forecasting.columns import check_counts
from titans_ts.forecasting.cutoffs import cutoffs, targets, validation_cutoffs
from titans_ts.forecasting.frequency import usual_seasons
from titans_ts.forecasting.panel import Panel, rows_within
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.scaling import Scales, StaticEncoder, season
from titans_ts.forecasting.stateful import STREAMS
from titans_ts.forecasting.windows import PanelWindows, validation_rows
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.nn.series.tokenizers import n_patches
from titans_ts.training import (
    StreamLoss,
    UnfinishedRun,
    batches,
    forecast_loss,
    memory_change,
    stream_batches,
    train,
)

__all__ = [
    "FittedForecaster",
    "fit_forecaster",
    "resolve_config",
    "season_of_panel",
    "without_fit",
]

_VALIDATION_WINDOWS = 16
"""Number of consecutive windows that validation reads if the state is carried. It forecasts from the last
one."""

_WINDOWS_OF_BLOCK = 4
"""Number of validation windows in a horizon's length of rows that the blend is fitted to."""

_PRETRAINED_ROWS = 2**13
"""Number of rows that the pretrained model reads if nothing is fitted."""

_EPOCH_STEPS = 64
"""Largest number of steps in an epoch if training chooses the number of epochs: 640 steps in all. Windows
of a long series overlap, so a pass over all of them repeats most of what it has seen."""

_VALIDATION_SHARE = 4
"""Number of training windows of an epoch for each window of its validation, at least."""

_MIN_VALIDATION_WINDOWS = 64
"""Number of windows that validation uses at least, if the longest item has as many."""


@dataclass(frozen=True)
class FittedForecaster:
    """The result of :func:`fit_forecaster`."""

    predictor: PanelPredictor
    history: list[dict[str, float]]
    """Losses of every epoch."""
    border: NDArray[np.int64]
    """The first held-out row of every item, `[I]`; its end if none is held out."""
    scaled: Panel
    """The fitted panel with its rows scaled, in float32."""

    def calibration(self, panel: Panel) -> Calibration | None:
        """Measure the errors of forecasts of the held-out rows; return None if no row is held out."""
        config = self.predictor.config
        ends, cuts = validation_cutoffs(panel, config, self.border, n_scores(config))
        scaled = self.scaled.head(ends).values
        return calibrate(self.predictor, panel.head(ends), cuts, scaled)


def fit_forecaster(
    panel: Panel,
    config: ForecasterConfig,
    options: ModelOptions,
    training: TrainingConfig,
    generator: torch.Generator,
    *,
    candidates: Sequence[Candidate] | None = None,
    validation: Panel | None = None,
    blend: Collection[str] = FORECASTERS,
    progress_bar: bool = True,
    trainer_kwargs: dict[str, Any] | None = None,
    run: UnfinishedRun | None = None,
) -> FittedForecaster:
    """Train a network on the windows of a panel, or several of which the best one is kept.

    Parameters
    ----------
    panel : Panel
        The series.
    config : ForecasterConfig
        The configuration of the network, without the panel's numbers of columns.
    options : ModelOptions
        The options that the user set, see :func:`resolve_config`.
    training : TrainingConfig
        The settings of training.
    generator : torch.Generator
        Draws the batches; the network's initial weights come from torch's own generator.
    candidates : sequence of Candidate, optional
        Networks to train. The one with the smallest validation loss is kept; without a validation part,
        only the first one is trained. A time limit is for all of them. Default: that of `config`.
    validation : Panel, optional
        Its last steps choose the epoch and the blend. Default: the last rows of `panel` are held out.
    blend : collection of str
        Forecasters that the network's forecasts are blended with (default: all). Counts are not blended.
    run : UnfinishedRun, optional
        Where every network keeps a checkpoint (default: there are none).

    Raises
    ------
    ValueError
        If no value is observed, or the output needs counts and a value is not a count.
    """
    if training.max_epochs is None:
        steps = min(_EPOCH_STEPS, training.max_steps_per_epoch)
        training = dataclasses.replace(training, max_steps_per_epoch=steps)
    if np.isnan(panel.values[:, : panel.n_targets]).all():
        raise ValueError("X has no observed value; there is nothing to learn from")
    _warn_of_empty_variates(panel)
    encoder = None if panel.static is None else StaticEncoder.fit(panel.static)
    config = resolve_config(config, panel, encoder, options)
    first, end = panel.spans.T
    fraction = training.validation_fraction if validation is None else 0
    border = end - validation_rows(panel, config, fraction)
    train_rows = rows_within(first, border, len(panel.values))  # [N]
    network = ForecastingModel(config)
    if network.output.counts:
        _check_counts(panel, config)
    scales = Scales.fit(
        panel,
        train_rows,
        identity=network.output.counts,
        level=config.scaler != "mean",
        n_raw=int(config.season_length > 0),
    )
    predictor = PanelPredictor(network, panel.roles, scales, encoder)
    values, static = predictor.scaled(panel)
    n_consecutive = 1 + config.stateful_windows
    windows = PanelWindows(
        panel, values, config, np.stack([first, border], 1), static, in_a_row=n_consecutive
    )
    held_out = _validation_batches(predictor, panel, values, static, border, validation, training)
    candidates = candidates or [Candidate(config.backbone.n_layers, training.total_steps)]
    candidates = candidates if held_out is not None else candidates[:1]
    found: list[tuple[ForecastingModel, list[dict[str, float]]]] = []
    for n_layers, total_steps in candidates:
        if found:
            backbone = dataclasses.replace(config.backbone, n_layers=n_layers)
            network = ForecastingModel(dataclasses.replace(config, backbone=backbone))
        _initialise_season(network, panel, values, train_rows)
        spent = sum(earlier[-1]["seconds"] for _, earlier in found)
        limit = _time_limit(training, spent, len(candidates) - len(found))
        history = train(
            network,
            StreamLoss() if config.stateful_windows else forecast_loss,
            _training_batches(windows, config, training, generator),
            held_out,
            dataclasses.replace(training, total_steps=total_steps, time_limit=limit),
            progress_bar=progress_bar,
            trainer_kwargs=trainer_kwargs,
            resume=None if run is None else run.network(len(found)),
            generator=generator,
        )
        found.append((network, history))
    network, history = min(found, key=lambda one: _validation_loss(one[1]))
    predictor = dataclasses.replace(predictor, network=network)
    history[-1] |= memory_change(network, forecast_loss, held_out)
    rows: Any = values  # float32, where a panel that was read has float64
    scaled = dataclasses.replace(panel, values=rows)
    if blend and not network.output.counts:
        predictor = _blended(predictor, panel, scaled, border, validation, blend)
    return FittedForecaster(predictor, history, border, scaled)


def _time_limit(training: TrainingConfig, spent: float, n_left: int) -> float | None:
    """Return the time limit of the next of `n_left` networks: an equal share of the seconds left."""
    if training.time_limit is None:
        return None
    return max((training.time_limit - spent) / n_left, 1e-3)  # a step at least


def _validation_loss(history: list[dict[str, float]]) -> float:
    """Return the validation loss of the weights that training kept; infinite if none was measured."""
    losses = (epoch["validation_loss"] for epoch in history if "validation_loss" in epoch)
    return min(losses, default=float("inf"))


def without_fit(panel: Panel, config: ForecasterConfig, options: ModelOptions) -> PanelPredictor:
    """Return a predictor whose forecasts are those of the pretrained model; nothing is trained.

    Parameters
    ----------
    panel : Panel
        The series, for its columns and its frequency.
    config : ForecasterConfig
        The configuration of a network; its horizon, context and levels count.
    options : ModelOptions
        The options that the user set.

    Raises
    ------
    ValueError
        If there are covariates, or the output is not quantiles.
    """
    roles = panel.roles
    covariates = (*roles.past_covariates, *roles.known_covariates, *roles.static_covariates)
    if covariates:
        raise ValueError(
            f"{list(covariates)} are covariates, but the pretrained model reads the targets only; "
            "leave them out, or fit"
        )
    if config.output != "quantiles":
        raise ValueError(
            f"output is {config.output!r}, but the pretrained model forecasts quantiles; choose "
            "'quantiles', or fit"
        )
    backbone = dataclasses.replace(config.backbone, n_layers=0)
    config = dataclasses.replace(
        config, patch_length=1, patch_stride=1, stateful_windows=0, backbone=backbone
    )
    config = resolve_config(config, panel, None, options)
    first, end = panel.spans.T
    scales = Scales.fit(panel, rows_within(first, end, len(panel.values)))
    network = ForecastingModel(config).eval()
    season_length = season_of_panel(panel)
    if season_length == 1 and panel.timed:  # too few rows to tell
        usual = usual_seasons(panel.freq)[0]
        season_length = usual if usual <= (end - first).max() else 1
    blend = Blend.of_pretrained(season_length, _PRETRAINED_ROWS)
    return PanelPredictor(network, roles, scales, None, blend)


def season_of_panel(panel: Panel) -> int:
    """Return the season that the values of a panel show best, of those usual for its frequency."""
    return season_of(panel, usual_seasons(panel.freq) if panel.timed else None)


def _blended(
    predictor: PanelPredictor,
    panel: Panel,
    scaled_panel: Panel,
    border: NDArray[np.int64],
    validation: Panel | None,
    forecasters: Collection[str],
) -> PanelPredictor:
    """Return the predictor with the blend that is best on the held-out rows, or on `validation`.

    `scaled_panel` is the panel with its rows scaled.
    """
    config = predictor.config
    season_length = season_of_panel(panel)
    horizon, scaled = config.prediction_length, None
    learned = panel, border, config.context_length
    if validation is not None:
        panel = validation
        cuts = cutoffs(panel, 1, horizon, 1, 1)
        n_blocks = panel.n_items
    else:
        held = (panel.spans[:, 1] - border) // horizon
        n_blocks = int(held.sum())
        at_most = min(n_windows(panel, season_length), _WINDOWS_OF_BLOCK * max(1, n_blocks))
        ends, cuts = validation_cutoffs(panel, config, border, at_most)
        scaled, panel = scaled_panel.head(ends).values, panel.head(ends)
    if cuts.size == 0:
        if ZERO_SHOT not in forecasters:
            return predictor
        blend = Blend.of_pretrained(season_length, n_rows(season_length), network=True)
        return dataclasses.replace(predictor, blend=blend)
    point, quantiles = predictor.rolling(panel, cuts, scaled=scaled)
    levels = config.quantile_levels
    if not levels:  # the mean is all that there is
        quantiles, levels = point[..., None], (0.5,)
    actual = targets(panel, cuts, horizon)
    fitted = fit_blend(
        panel,
        cuts,
        actual,
        quantiles,
        levels,
        season_length,
        max(1, n_blocks),
        learned,
        forecasters,
    )
    return dataclasses.replace(predictor, blend=fitted)


def _training_batches(
    windows: PanelWindows,
    config: ForecasterConfig,
    training: TrainingConfig,
    generator: torch.Generator,
) -> DataLoader[Any]:
    n_consecutive = 1 + config.stateful_windows
    size = max(1, training.batch_size // n_consecutive)
    if not config.stateful_windows:
        return batches(windows, size, generator, max_samples=training.samples_per_epoch)
    n_batches = -(-len(windows) // (size * n_consecutive))
    n_batches = min(n_batches, training.max_steps_per_epoch)
    # as at prediction, where up to a window's length of rows waits to be read
    return stream_batches(windows, size, generator, n_batches, skip=config.context_length)


def _validation_batches(
    predictor: PanelPredictor,
    panel: Panel,
    values: NDArray[np.float32],
    static: Any,
    border: NDArray[np.int64],
    validation: Panel | None,
    training: TrainingConfig,
) -> DataLoader[Any] | None:
    """Return batches of the held-out rows, or of the validation panel; None without either."""
    config = predictor.config
    first, end = panel.spans.T
    # a stream is longer than what gradients reach back, in validation too
    n_consecutive = 1
    if config.stateful_windows:
        n_consecutive = max(1 + config.stateful_windows, _VALIDATION_WINDOWS)
    before = config.context_length * n_consecutive
    held = int((end - border).max()) - config.prediction_length + 1
    stride = min(n_consecutive, max(1, held // _MIN_VALIDATION_WINDOWS))
    if validation is not None:
        panel = validation
        values, static = predictor.scaled(panel)
        start, end = panel.spans.T
        start = np.maximum(start, end - before - config.prediction_length)
    elif (border < end).any():
        start = np.where(border < end, np.maximum(border - before, first), end)
    else:
        return None
    windows = PanelWindows(
        panel,
        values,
        config,
        np.stack([start, end], 1),
        static,
        in_a_row=n_consecutive,
        stride=stride,
    )
    size = max(1, STREAMS // config.n_variates)
    most = training.samples_per_epoch // (_VALIDATION_SHARE * n_consecutive)
    return batches(windows, size, max_samples=max(_MIN_VALIDATION_WINDOWS, most))


def _initialise_season(
    network: ForecastingModel,
    panel: Panel,
    values: NDArray[np.float32],
    train_rows: NDArray[np.bool_],
) -> None:
    """Initialise the learned season, if there is one, with that of the scaled training rows `[N, F]`."""
    table = network.cycle
    if table is None:
        return
    targets = np.where(train_rows[:, None], values[:, : network.config.n_variates], np.nan)
    phase = values[:, -1].astype(int)
    means = season(targets.astype(np.float64), phase, panel.spans, len(table))
    with torch.no_grad():
        table.copy_(torch.from_numpy(means))


def resolve_config(
    config: ForecasterConfig,
    panel: Panel,
    encoder: StaticEncoder | None,
    options: ModelOptions,
) -> ForecasterConfig:
    """Return the configuration with the panel's numbers of columns.

    If the state is carried, or a token is a variate, one of MAC's segments becomes as long as the
    tokens of a window, unless `options` set its length. A segment that lay across two windows would
    hide the beginning of the second one.
    """
    categories, n_static = ((), 0) if encoder is None else encoder.sizes
    n_past = panel.roles.n_past
    config = dataclasses.replace(
        config,
        n_variates=panel.n_targets,
        n_past=n_past,
        n_known=panel.values.shape[1] - panel.n_targets - n_past,
        static_categories=categories,
        n_static=n_static,
    )
    backbone, variates = config.backbone, config.tokens == "variate"
    if (config.stateful_windows or variates) and options.segment_length is None:
        n_tokens = n_patches(config.context_length, config.patch_length, config.patch_stride)
        if variates:
            n_tokens = config.n_covariates + 2 * config.n_variates
        backbone = dataclasses.replace(backbone, segment_length=n_tokens)
        if variates and options.window is None:  # every variate sees all others
            backbone = dataclasses.replace(backbone, window=max(backbone.window, n_tokens))
    return dataclasses.replace(config, backbone=backbone)


def _warn_of_empty_variates(panel: Panel) -> None:
    empty = np.flatnonzero(np.isnan(panel.values[:, : panel.n_targets]).all(0)).tolist()
    if empty:
        lacking = empty if panel.columns is None else [panel.columns[i] for i in empty]
        warnings.warn(
            f"X has no value in the columns {lacking}; their forecasts are NaN (drop the columns if they "
            "are not needed)",
            stacklevel=4,
        )


def _check_counts(panel: Panel, config: ForecasterConfig) -> None:
    if config.scaler == "none":
        raise ValueError(
            "scaler is 'none' and output 'negative_binomial', but counts are not scaled elsewhere; "
            "choose another scaler, for instance 'mean'"
        )
    check_counts(panel.values[:, : panel.n_targets])
