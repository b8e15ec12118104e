"""Forecasting with `fit` and `predict`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from titans_ts.config import (
    BackboneConfig,
    ForecasterConfig,
    MemoryConfig,
    TrainingConfig,
    from_dict,
)
from titans_ts.datasets import SlidingWindows
from titans_ts.estimators.base import TitansEstimator
from titans_ts.estimators.index import describe, rebuild
from titans_ts.estimators.series import Series, read_series, read_windows
from titans_ts.nn.models import ForecastingModel
from titans_ts.training import batches, forecast_loss, train

__all__ = ["TitansForecaster"]

Array = NDArray[np.float64]

_STREAMS = 1024
"""Windows times variates forecast at a time: about 0.3 GB with the default model."""


class TitansForecaster(TitansEstimator):
    """Forecast a multivariate series with a Titans backbone.

    Parameters
    ----------
    prediction_length : int
        H, steps to forecast.
    context_length : int
        L, steps of history a forecast reads.
    variant : {"mac", "mag", "mal", "lmm", "swa"}
        How memory and attention are combined; a key of :data:`titans_ts.nn.BLOCKS`.
    d_model, n_layers, n_heads : int
        Width of a token, number of blocks, and of heads.
    memory_depth : int
        L_M, layers of the memory's MLP.
    chunk_size : int
        Tokens that share a gradient point in the memory.
    dropout, head_dropout : float
        Dropped share inside the backbone, and before the head.
    patch_length, patch_stride : int
        Steps in a token, and between the starts of two.
    channel_mixing : bool
        One token for all variates together, instead of one stream a variate.
    instance_norm : bool
        Normalise every window by its own mean and deviation.
    quantile_levels : tuple of float
        Levels of the quantiles forecast beside the mean.
    max_epochs : int or None
        Passes over the training windows at most; None makes about 640 steps, in 10 to 400 passes.
    batch_size : int
        Windows in a step; memory grows with it times the number of variates.
    learning_rate, weight_decay : float
        Of AdamW.
    patience : int or None
        Epochs without a better validation loss before training stops; None is a fifth of all.
    validation_fraction : float
        Share of the rows, at the end, held out for early stopping.
    device : str
        "auto", or a torch device.
    random_state : int, RandomState or None
        Seed; with an int, CPU runs repeat exactly.
    progress_bar : bool
        Whether to show one while fitting.
    backbone_options : dict, optional
        More of :class:`titans_ts.config.BackboneConfig`, for instance
        ``{"n_persistent": 8, "memory": {"forget": False}}``.
    trainer_kwargs : dict, optional
        More arguments for `lightning.pytorch.Trainer`.

    Attributes
    ----------
    model_ : ForecastingModel
        The trained model, in units of `scale_`.
    mean_, scale_ : ndarray
        `[C]`, mean and deviation of the training rows.
    history_ : list of dict
        Losses of every epoch.
    n_features_in_ : int
        C, number of variates.
    feature_names_in_ : ndarray
        Their names, if a frame was fitted.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.sin(np.arange(300) / 4)[:, None]
    >>> forecaster = TitansForecaster(
    ...     prediction_length=8, context_length=32, d_model=16, n_heads=2, n_layers=1,
    ...     max_epochs=1, random_state=0, progress_bar=False,
    ... )
    >>> forecaster.fit(X).predict().shape                 # the 8 steps after X
    (8, 1)
    >>> forecaster.predict_quantiles(X[:100]).shape       # ... after its first 100 rows
    (8, 1, 3)
    """

    model_: ForecastingModel

    def __init__(
        self,
        prediction_length: int = ForecasterConfig.prediction_length,
        context_length: int = ForecasterConfig.context_length,
        *,
        variant: str = BackboneConfig.variant,
        d_model: int = BackboneConfig.d_model,
        n_layers: int = BackboneConfig.n_layers,
        n_heads: int = BackboneConfig.n_heads,
        memory_depth: int = MemoryConfig.depth,
        chunk_size: int = MemoryConfig.chunk_size,
        dropout: float = BackboneConfig.dropout,
        head_dropout: float = ForecasterConfig.head_dropout,
        patch_length: int = ForecasterConfig.patch_length,
        patch_stride: int = ForecasterConfig.patch_stride,
        channel_mixing: bool = ForecasterConfig.channel_mixing,
        instance_norm: bool = ForecasterConfig.instance_norm,
        quantile_levels: tuple[float, ...] = ForecasterConfig.quantile_levels,
        max_epochs: int | None = TrainingConfig.max_epochs,
        batch_size: int = TrainingConfig.batch_size,
        learning_rate: float = TrainingConfig.learning_rate,
        weight_decay: float = TrainingConfig.weight_decay,
        patience: int | None = TrainingConfig.patience,
        validation_fraction: float = TrainingConfig.validation_fraction,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        progress_bar: bool = True,
        backbone_options: dict[str, Any] | None = None,
        trainer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.prediction_length = prediction_length
        self.context_length = context_length
        self.variant = variant
        self.d_model = d_model
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.memory_depth = memory_depth
        self.chunk_size = chunk_size
        self.dropout = dropout
        self.head_dropout = head_dropout
        self.patch_length = patch_length
        self.patch_stride = patch_stride
        self.channel_mixing = channel_mixing
        self.instance_norm = instance_norm
        self.quantile_levels = quantile_levels
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.progress_bar = progress_bar
        self.backbone_options = backbone_options
        self.trainer_kwargs = trainer_kwargs

    def fit(self, X: Any, y: Any = None) -> TitansForecaster:
        """Train on every window of a series.

        The last `validation_fraction` of the rows (at least `prediction_length`) choose the best
        epoch; the level and deviation of the rows before scale the variates. A series too short to
        hold a validation part out trains for all its epochs.

        Parameters
        ----------
        X : array [T, C] or [T], Series, or wide DataFrame
            Rows in time order; NaN is missing. A DatetimeIndex must be regular.
        y : None
            Ignored.

        Raises
        ------
        TypeError, ValueError
            If X or a parameter cannot be used; the message names it and how to mend it.
        """
        config, training = self._forecaster_config(1), self._training_config()
        length, horizon = config.context_length, config.prediction_length
        series = read_series(X, min_rows=length + horizon)
        if np.isnan(series.values).all():
            raise ValueError("X has no observed value; there is nothing to learn from")
        config = dataclasses.replace(config, n_variates=series.values.shape[1])
        n_rows = len(series.values)
        n_train = n_rows - _validation_rows(series.values, config, training.validation_fraction)
        mean, scale = _level_and_spread(series.values[:n_train], series.values)
        values = ((series.values - mean) / scale).astype(np.float32)
        with self._seeded() as generator:
            model = ForecastingModel(config)
            windows = _Windows(SlidingWindows(values[:n_train], length, horizon))
            validation = None
            if n_train < n_rows:
                tail = SlidingWindows(values[n_train - length :], length, horizon)
                validation = batches(_Windows(tail), _windows_at_once(config.n_variates))
            history = train(
                model,
                forecast_loss,
                batches(windows, training.batch_size, generator),
                validation,
                training,
                progress_bar=self.progress_bar,
                trainer_kwargs=self._accelerator() | (self.trainer_kwargs or {}),
            )
        # only now: a fit that fails leaves the estimator as it was
        self.model_, self.history_ = model.to(self._device()), history
        self.mean_, self.scale_ = mean, scale
        self._remember(series)
        return self

    def set_history(self, X: Any) -> TitansForecaster:
        """Forecast from the end of another series from now on; nothing is learned from it.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`predict`, at least `context_length` rows.
        """
        series, _ = self._history(X)
        if series is None:
            raise ValueError("X is a batch of windows; give one series")
        if series.kind != self._tail.kind:
            raise ValueError(
                f"X is a {series.kind}, but a {self._tail.kind} was fitted; give the same"
            )
        self._remember(series)
        return self

    def predict(self, X: Any = None) -> Any:
        """Forecast the mean of the next `prediction_length` steps.

        Parameters
        ----------
        X : array [T, C] or [T], Series, DataFrame, or array [N, context_length, C], optional
            History of at least `context_length` rows, of which the last are read; or a batch of
            windows. Default: the series that was fitted.

        Returns
        -------
        array, Series or DataFrame
            `[H, C]` in the form of X, its index continued at its frequency; `[N, H, C]` for a batch.
            A variate never observed in the fitted series is NaN.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X cannot be used.
        """
        series, windows = self._history(X)
        point, _ = self._forecast(windows)
        return point if series is None else series.answer(point[0])

    def predict_quantiles(self, X: Any = None) -> Any:
        """Forecast the quantiles of the next `prediction_length` steps.

        Parameters
        ----------
        X : optional
            As for :meth:`predict`.

        Returns
        -------
        array or DataFrame
            `[H, C, Q]` for an array, columns (variate, quantile) for a frame, `[N, H, C, Q]` for a
            batch. Quantiles never cross.
        """
        series, windows = self._history(X)
        _, quantiles = self._forecast(windows)
        if series is None:
            return quantiles
        return series.answer_quantiles(quantiles[0], self.model_.config.quantile_levels)

    def score(self, X: Any, y: Any = None) -> float:
        """R^2 of the forecasts of every window of X, averaged over the variates.

        Parameters
        ----------
        X : array, Series or DataFrame
            At least `context_length + prediction_length` rows.
        y : None
            Ignored.
        """
        check_is_fitted(self, "model_")
        config = self.model_.config
        minimum = config.context_length + config.prediction_length
        series = read_series(X, min_rows=minimum, like=self._tail)
        self._check_variates(series.values.shape[1])
        scaled = self._scaled(series.values)
        windows = SlidingWindows(scaled, config.context_length, config.prediction_length)
        n_variates = self.n_features_in_
        count, total, squares, residual = (np.zeros(n_variates) for _ in range(4))
        at_once = _windows_at_once(n_variates)
        for start in range(0, len(windows), at_once):
            past, future = windows[start : start + at_once]
            error = future - self._forecast_scaled(past)[0]
            known = ~np.isnan(error)
            actual = np.where(known, future, 0).astype(np.float64)
            count += known.sum((0, 1))
            total += actual.sum((0, 1))
            squares += (actual**2).sum((0, 1))
            residual += np.where(known, error**2, 0).sum((0, 1))
        if not count.any():
            raise ValueError("X has no observed value to compare forecasts with")
        seen = count > 0
        spread = squares[seen] - total[seen] ** 2 / count[seen]
        # a variate that never moves: 1 if it is hit exactly, else 0, as scikit-learn's r2_score
        flat = spread <= 1e-12 * np.maximum(squares[seen], 1)
        r2 = 1 - residual[seen] / np.where(flat, 1, spread)
        return float(np.where(flat, residual[seen] == 0, r2).mean())

    def _forecaster_config(self, n_variates: int) -> ForecasterConfig:
        levels: Any = self.quantile_levels
        if isinstance(levels, (list, tuple, np.ndarray)):
            levels = tuple(q.item() if isinstance(q, np.generic) else q for q in levels)
        config: ForecasterConfig = self._config(
            ForecasterConfig,
            n_variates=n_variates,
            quantile_levels=levels,
            backbone=self._backbone_config(),
        )
        return config

    def _remember(self, series: Series) -> None:
        """Keep what forecasting from the end of the fitted series needs."""
        self.n_features_in_ = series.values.shape[1]
        columns = series.columns if series.kind == "frame" else None
        if columns is not None and all(isinstance(c, str) for c in columns):
            self.feature_names_in_ = np.array(columns, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        tail = slice(-self.model_.config.context_length, None)
        index = None if series.index is None else series.index[tail]
        self._tail = Series(series.values[tail].copy(), series.kind, series.columns, index)

    def _history(self, X: Any) -> tuple[Series | None, Array]:
        """The series to answer for (None for a batch) and windows `[N, L, C]` in its own units."""
        check_is_fitted(self, "model_")
        context_length = self.model_.config.context_length
        if X is None:
            return self._tail, self._tail.values[None]
        if not isinstance(X, (pd.DataFrame, pd.Series)) and np.ndim(X) == 3:
            return None, read_windows(X, context_length, self.n_features_in_)
        series = read_series(X, min_rows=context_length, like=self._tail)
        self._check_variates(series.values.shape[1])
        return series, series.values[None, -context_length:]

    def _check_variates(self, n_variates: int) -> None:
        if n_variates != self.n_features_in_:
            raise ValueError(
                f"X has {n_variates} variates, but {self.n_features_in_} were fitted; "
                "give the same ones in the same order"
            )

    def _scaled(self, values: Array) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = ((values - self.mean_) / self.scale_).astype(np.float32)
        return scaled

    def _forecast(self, windows: Array) -> tuple[Array, Array]:
        """Mean `[N, H, C]` and quantiles `[N, H, C, Q]`, in the series' own units."""
        point, quantiles = self._forecast_scaled(self._scaled(windows))
        scale, mean = self.scale_, self.mean_
        return point * scale + mean, quantiles * scale[:, None] + mean[:, None]

    def _forecast_scaled(self, past: NDArray[np.float32]) -> tuple[Array, Array]:
        device = self._device()
        points, quantiles = [], []
        self.model_.eval()
        with torch.inference_mode():
            at_once = _windows_at_once(past.shape[-1])
            for some in torch.from_numpy(np.ascontiguousarray(past)).split(at_once):
                point, quantile = self.model_(some.to(device))
                points.append(point.cpu().double().numpy())
                quantiles.append(quantile.cpu().double().numpy())
        return np.concatenate(points), np.concatenate(quantiles)

    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tail = self._tail
        fitted: dict[str, Any] = {"kind": tail.kind}
        if tail.columns is not None:
            if not all(c is None or isinstance(c, (str, int, np.integer)) for c in tail.columns):
                raise ValueError(
                    f"the columns {list(tail.columns)} cannot be saved; rename them to strings"
                )
            fitted["columns"] = [int(c) if isinstance(c, np.integer) else c for c in tail.columns]
        if tail.index is not None:
            fitted["index"] = describe(tail.index)
        tensors = {
            "mean": torch.from_numpy(self.mean_),
            "scale": torch.from_numpy(self.scale_),
            "tail": torch.from_numpy(tail.values),
        }
        return fitted, tensors

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        self.model_ = ForecastingModel(from_dict(ForecasterConfig, model))
        self.mean_, self.scale_ = tensors["mean"].numpy(), tensors["scale"].numpy()
        columns = tuple(fitted["columns"]) if "columns" in fitted else None
        values = tensors["tail"].numpy()
        index = rebuild(fitted["index"], len(values)) if "index" in fitted else None
        self._remember(Series(values, fitted["kind"], columns, index))


class _Windows:
    """Windows of a series as tensors, a batch at a time."""

    def __init__(self, windows: SlidingWindows) -> None:
        self._windows = windows

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        past, future = self._windows[np.asarray(indices)]
        return torch.from_numpy(past), torch.from_numpy(future)


def _windows_at_once(n_variates: int) -> int:
    return max(1, _STREAMS // n_variates)


def _validation_rows(values: Array, config: ForecasterConfig, fraction: float) -> int:
    """Rows to hold out at the end: none if no window to train on, or nothing to compare, is left."""
    if fraction == 0:
        return 0
    n_rows, horizon = len(values), config.prediction_length
    n_validation = max(int(fraction * n_rows), horizon)
    too_short = n_rows - n_validation < config.context_length + horizon
    return 0 if too_short or np.isnan(values[-n_validation:]).all() else n_validation


def _level_and_spread(training: Array, everything: Array) -> tuple[Array, Array]:
    """Mean and population deviation of the observed values of every variate, `[C]` each.

    Of the training rows; of all where a variate is first seen later. One never observed has no level:
    NaN, and so are its forecasts. One that only moves by rounding has spread 1.
    """
    mean, spread = (np.empty(training.shape[1]) for _ in range(2))
    for variate in range(len(mean)):
        values = training[:, variate]
        values = everything[:, variate] if np.isnan(values).all() else values
        seen = values[~np.isnan(values)]
        mean[variate], spread[variate] = (seen.mean(), seen.std()) if len(seen) else (np.nan, 0)
    moves = spread > 1e-12 * np.abs(mean)  # less is rounding in float64
    return mean, np.where(moves, spread, 1.0)
