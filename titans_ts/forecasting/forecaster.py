"""Forecasting with `fit` and `predict`."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from tqdm.auto import trange

from titans_ts.config import (
    BackboneConfig,
    ForecasterConfig,
    ModelOptions,
    TrainingConfig,
    TrainingOptions,
    from_dict,
)
from titans_ts.estimator import TitansEstimator
from titans_ts.forecasting.anomalies import score_threshold
from titans_ts.forecasting.backtest import Backtest, baselines, cutoffs, seasonal_errors, targets
from titans_ts.forecasting.frequency import CYCLES, usual_season
from titans_ts.forecasting.intervals import dependent_levels, margin
from titans_ts.forecasting.panel import Panel, Roles, describe_panel, plain_items, rebuild_panel
from titans_ts.forecasting.parse import column_names, read_panel
from titans_ts.forecasting.predictor import Calibration, PanelModel, n_scores
from titans_ts.forecasting.scaling import Scales, StaticEncoder
from titans_ts.forecasting.stateful import STREAMS
from titans_ts.forecasting.windows import PanelWindows, validation_rows
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.nn.series.tokenizers import n_patches
from titans_ts.nn.state import flatten_state, unflatten_state
from titans_ts.training import StreamLoss, batches, forecast_loss, stream_batches, train

__all__ = ["TitansForecaster"]

Array = NDArray[np.float64]

_CHECKED = 16
"""Windows in a row that validation reads, the last of them forecast from, if the memory is carried."""

_FEWEST = 64
"""Windows of the longest item that validation counts, if it has as many."""


@dataclass(eq=False, repr=False)
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
    patch_length, patch_stride : int
        Steps in a token, and between the starts of two.
    tokens : {"patch", "joint", "variate", "mixed"}
        What a token is. "patch": some steps of one variate, and every variate is a stream of its own.
        "joint": some steps of all variates. "variate": a whole window of one variate, whatever
        `patch_length`; the stream goes from variate to variate, and surprise is one value a window.
        "mixed": as "patch", and the variates see one another after the backbone.
    stateful_windows : int
        0 forecasts every window with an empty memory. A model trained with more reads what came before
        the window first, and its memory goes on learning with every :meth:`update`. It is trained on
        streams: a step goes on where the one before stopped, and gradients reach so many windows back.
    scaler : {"standard", "robust", "mean", "asinh", "none"}
        How every window is normalised by itself, and the forecast restored: by its mean and deviation, by
        its median and quartiles, by its mean size, as "standard" and drawn in far from the mean, not at
        all.
    season_length : int
        Steps of a season, such as 24 for hours of the day, whose course is learned as persistent memory
        and taken out of what the model reads. Where a step stands in it is counted by its time, or by the
        whole number that is its index. 0: none.
    quantile_levels : tuple of float
        Levels of the quantiles forecast beside the mean.
    output : {"quantiles", "normal", "student_t", "negative_binomial"}
        What training fits: the mean and the quantiles themselves, or a distribution that has them;
        "student_t" for heavy tails, "negative_binomial" for counts.
    target : column or sequence of columns, optional
        The variates to forecast, columns of X (their numbers, for an array). Default: all that are not
        named below.
    past_covariates, known_covariates, static_covariates : column or sequence of columns
        Covariates known up to the present; those known for the steps to forecast too, which
        :meth:`predict` is given; what is constant for an item of a long frame, text or numbers.
    calendar : bool or sequence of str
        Whether the model is told where in the hour, day, week, month and year a step stands; or in which
        of them, for instance ``["day", "week"]``. What the frequency cannot tell is left out.
    item_id, timestamp : str
        A frame with these two columns is long: many items, a row for every item and time.
    freq : str, optional
        The frequency (of pandas) to bring a frame to: rows within a step are averaged, and a step
        without a row is missing. "irregular" reads rows as they come, and tells the model the time since
        the row before; a forecast is of the next rows, at their usual distance. Default: times must be
        regular already.
    max_epochs : int or None
        Passes over the training windows at most; None makes about 640 steps, in 10 to 400 passes.
    batch_size : int
        Windows in a step; memory grows with it times the number of variates.
    learning_rate : float
        Peak learning rate of AdamW's one-cycle schedule (default 0.001).
    model_options : ModelOptions or dict, optional
        Rarely changed settings of the model (:class:`titans_ts.config.ModelOptions`): dropout, the
        memory's depth and chunk size, persistent tokens, ..., for instance
        ``{"dropout": 0.2, "memory": {"depth": 1}}``. Default: those of the class.
    training_options : TrainingOptions or dict, optional
        Rarely changed settings of training (:class:`titans_ts.config.TrainingOptions`):
        `validation_fraction` (0.2), `patience`, `weight_decay`, `max_steps_per_epoch`, `gradient_clip`
        and `trainer_kwargs` for Lightning. Default: those of the class.
    device : str
        "auto", or a torch device.
    random_state : int, RandomState or None
        Seed; with an int, CPU runs repeat exactly.
    progress_bar : bool
        Whether to show one while fitting.

    Attributes
    ----------
    model_ : ForecastingModel
        The trained model, in units of `scale_`.
    mean_, scale_ : ndarray
        `[C]`, mean (0 with the "mean" scaler) and deviation of the training rows.
    freq_ : offset, int or None
        Frequency of the fitted rows; None for an array.
    history_ : list of dict
        Losses of every epoch.
    n_features_in_ : int
        C, number of variates.
    feature_names_in_ : ndarray
        Their names, if a frame was fitted.

    Notes
    -----
    Rows are a series, which a search of scikit-learn's has to keep in order: give it
    ``cv=TimeSeriesSplit()``, and a halving search another resource than samples, such as
    ``resource="max_epochs"``. Behind a scaler, forecasts are of the scaled series.

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

    prediction_length: int = ForecasterConfig.prediction_length
    context_length: int = ForecasterConfig.context_length
    _: KW_ONLY
    variant: str = BackboneConfig.variant
    d_model: int = BackboneConfig.d_model
    n_layers: int = BackboneConfig.n_layers
    n_heads: int = BackboneConfig.n_heads
    patch_length: int = ForecasterConfig.patch_length
    patch_stride: int = ForecasterConfig.patch_stride
    tokens: str = ForecasterConfig.tokens
    stateful_windows: int = ForecasterConfig.stateful_windows
    scaler: str = ForecasterConfig.scaler
    season_length: int = ForecasterConfig.season_length
    quantile_levels: tuple[float, ...] = ForecasterConfig.quantile_levels
    output: str = ForecasterConfig.output
    target: Any = None
    past_covariates: Any = ()
    known_covariates: Any = ()
    static_covariates: Any = ()
    calendar: Any = False
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    freq: str | None = None
    max_epochs: int | None = TrainingConfig.max_epochs
    batch_size: int = TrainingConfig.batch_size
    learning_rate: float = TrainingConfig.learning_rate
    model_options: ModelOptions | dict[str, Any] | None = None
    training_options: TrainingOptions | dict[str, Any] | None = None
    device: str = "auto"
    random_state: int | np.random.RandomState | None = None
    progress_bar: bool = True

    model_: ForecastingModel = field(init=False)
    _engine: PanelModel = field(init=False)
    _tail: Panel = field(init=False)
    _state: Any = field(init=False)
    _calibration: Calibration | None = field(init=False)

    def __sklearn_tags__(self) -> Tags:
        """NaN is missing data; there is no y."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any = None) -> TitansForecaster:
        """Train on the windows of a series, or of the items of a long frame.

        The last `validation_fraction` of the rows (at least `prediction_length`) choose the best
        epoch; the level and deviation of the rows before scale the variates, item by item. A series too
        short to hold a validation part out trains for all its epochs. An item of a long frame that is
        shorter than a window is filled in front with missing values.

        Parameters
        ----------
        X : array [T, C] or [T], Series, wide or long DataFrame
            Rows in time order (a long frame: in any); NaN is missing. Times must be regular, unless
            `freq` is given.
        y : None
            Ignored.

        Raises
        ------
        TypeError, ValueError
            If X or a parameter cannot be used; the message names it and how to mend it.
        """
        roles, config = self.roles, self._forecaster_config()
        panel = read_panel(X, roles, min_rows=config.context_length + config.prediction_length)
        return self.fit_panel(panel, roles)

    def fit_panel(
        self, panel: Panel, roles: Roles, validation: Panel | None = None
    ) -> TitansForecaster:
        """As :meth:`fit`, of a panel already read; the last steps of `validation` choose the epoch."""
        config, training = self._forecaster_config(), self._training_config()
        length = config.context_length
        if np.isnan(panel.values[:, : panel.n_targets]).all():
            raise ValueError("X has no observed value; there is nothing to learn from")
        encoder = None if panel.static is None else StaticEncoder.fit(panel.static)
        config = _for_panel(config, panel, roles, encoder, self.options("model_options"))
        first, end = panel.spans.T
        fraction = training.validation_fraction if validation is None else 0
        border = end - validation_rows(panel, config, fraction)
        use = np.arange(len(panel.values)) < np.repeat(border, end - first)
        with self._seeded() as generator:
            network = ForecastingModel(config)
            counts = network.output.counts
            if counts:
                _check_counts(panel, config)
            scales = Scales.fit(
                panel,
                use,
                identity=counts,
                level=config.scaler != "mean",
                n_raw=int(config.season_length > 0),
            )
            model = PanelModel(network, roles, scales, encoder)
            values, static = model.rows(panel)
            model.learn_season(panel, values, use)
            in_a_row = 1 + config.stateful_windows
            spans = np.stack([first, border], 1)
            windows = PanelWindows(panel, values, config, spans, static, in_a_row=in_a_row)
            # a stream is longer than what gradients reach back, in validation too
            checked = max(in_a_row, _CHECKED) if config.stateful_windows else 1
            held = int((end - border).max()) - config.prediction_length + 1
            before = length * checked
            options = {"in_a_row": checked, "stride": min(checked, max(1, held // _FEWEST))}
            held_out = None
            if validation is not None:
                start, stop = validation.spans.T
                start = np.maximum(start, stop - before - config.prediction_length)
                rows, constant = model.rows(validation)
                spans = np.stack([start, stop], 1)
                held_out = PanelWindows(validation, rows, config, spans, constant, **options)
            elif (border < end).any():
                start = np.where(border < end, np.maximum(border - before, first), end)
                spans = np.stack([start, end], 1)
                held_out = PanelWindows(panel, values, config, spans, static, **options)
            at_once = max(1, STREAMS // config.n_variates)
            size = max(1, training.batch_size // in_a_row)
            carried = config.stateful_windows > 0
            most = training.samples_per_epoch
            n_batches = -(-len(windows) // (size * in_a_row))
            n_batches = min(n_batches, training.max_steps_per_epoch)
            history = train(
                model.model,
                StreamLoss() if carried else forecast_loss,
                # as at prediction, where up to a window's length of rows waits to be read
                stream_batches(windows, size, generator, n_batches, skip=length)
                if carried
                else batches(windows, size, generator, max_samples=most),
                None
                if held_out is None
                else batches(held_out, at_once, max_samples=max(1, most // checked)),
                training,
                progress_bar=self.progress_bar,
                trainer_kwargs=self._trainer_kwargs(),
            )
        model.model.to(self._device())
        calibration = model.calibration(*_validation_cuts(panel, config, border))
        # only now: a fit that fails leaves the estimator as it was
        self.model_, self.history_, self._engine = model.model, history, model
        self._calibration = calibration
        self._remember(panel)
        return self

    def update(self, X: Any) -> TitansForecaster:
        """Take in the next rows; forecasts go on from there.

        With `stateful_windows`, the memory reads the rows before the window that a forecast reads, a
        window's length at a time (so up to as many wait), and learns from them; the weights stay.
        Without, the window moves on. What is kept does not grow, is saved with the model, and is the
        same however the rows are cut.

        Parameters
        ----------
        X : array, Series or DataFrame
            In the form that was fitted, beginning where the series ended; of a long frame, any of its
            items.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X cannot be used, or does not follow.
        """
        check_is_fitted(self, "model_")
        self._remember(self._tail.followed_by(self.engine.read(X, 1, self._tail)), self._state)
        return self

    def reset_memory(self) -> TitansForecaster:
        """Empty the memory; the rows that a forecast reads stay."""
        check_is_fitted(self, "model_")
        self._state, self._tail = None, self._tail.tail(self.model_.config.context_length)
        return self

    def backtest(
        self,
        X: Any,
        *,
        stride: int | None = None,
        n_windows: int | None = None,
        season_length: int | None = None,
        refit: int | None = None,
        progress_bar: bool | None = None,
    ) -> Backtest:
        """Forecast from one row after the other of a series, and compare with what came.

        Every forecast sees the rows before it alone, its memory goes on learning from them (with
        `stateful_windows`), and the weights stay, unless `refit` says otherwise. Naive, seasonal-naive
        and drift forecasts stand beside. Without `refit`, rows that the weights were fitted on are not
        held out: give the fitted series' continuation, with a context before it.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`, at least `context_length + prediction_length` rows.
        stride : int, optional
            Rows between two forecasts; default: `prediction_length`.
        n_windows : int, optional
            Forecasts to make, the last ones; default: all.
        season_length : int, optional
            Steps in a season, for the seasonal-naive forecast and the MASE; default: what is usual at
            the frequency.
        refit : int, optional
            Fit anew before every so many forecasts, on the rows before the earliest of them (of all
            items); default: never.
        progress_bar : bool, optional
            Whether to show one; default: as given to the estimator.

        Returns
        -------
        Backtest
            Errors by `metrics(by=...)`, forecasts as a frame by `frame()`.

        Raises
        ------
        NotFittedError
            If it is not fitted, and `refit` is not given.
        TypeError, ValueError
            If X or a parameter cannot be used.
        """
        config = self._forecaster_config()
        for name, value in (
            *(("stride", stride), ("n_windows", n_windows)),
            *(("season_length", season_length), ("refit", refit)),
        ):
            if value is not None:
                _check_positive(name, value)
        roles = self.roles
        if refit is None:
            check_is_fitted(self, "model_")
            roles, config = self.engine.roles, self.model_.config
        L, H = config.context_length, config.prediction_length
        panel = read_panel(X, roles, min_rows=L + H, like=self._tail if refit is None else None)
        least = L if refit is None else L + H  # a window to train on
        rows = cutoffs(panel, least, H, stride or H, n_windows)
        timed = isinstance(panel.freq, pd.offsets.BaseOffset)
        season = season_length or usual_season(panel.freq if timed else None)
        every = len(rows) if refit is None else refit
        points, quantiles = [], []
        show = self.progress_bar if progress_bar is None else progress_bar
        for start in trange(
            0, len(rows), every, desc="backtest", disable=not show or refit is None
        ):
            some, forecaster = rows[start : start + every], self
            if refit is not None:
                forecaster = clone(self).set_params(progress_bar=False)
                forecaster.fit_panel(panel.before(some[0]), roles)
            point, quantile = forecaster.engine.rolling(
                panel, some, progress_bar=show and refit is None
            )
            points.append(point)
            quantiles.append(quantile)
        return Backtest(
            targets(panel, rows, H),
            {"titans": np.concatenate(points), **baselines(panel, rows, H, season)},
            np.concatenate(quantiles),
            config.quantile_levels,
            seasonal_errors(panel, rows, season),
            panel,
            rows,
            roles,
            stride or H,
        )

    def surprise(self, X: Any) -> Any:
        """How unexpected every value of a series is to the memory as it reads it from the beginning.

        The momentary surprise of arXiv 2501.00663, equation 8: the norm of the gradient of the memory's
        loss, averaged over blocks, heads and the patches that hold a step. Patches are scaled by the
        window they lie in, so that rows up to a window later have a part in it.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`, of any length.

        Returns
        -------
        array, Series or DataFrame
            `[T, C]` in the form of X; NaN where a whole patch is missing.
        """
        check_is_fitted(self, "model_")
        panel = self.engine.read(X, 1, self._tail)
        return panel.answer_rows(self.engine.surprise(panel), self.engine.roles)

    def detect_anomalies(
        self,
        X: Any,
        *,
        score: str = "error",
        risk: float = 1e-3,
        method: str = "quantile",
        reference: Any = None,
    ) -> pd.DataFrame:
        """Find the values of a series that were not to be expected.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`, at least `context_length + prediction_length` rows.
        score : {"error", "surprise"}
            The absolute error of the forecast one step ahead, in deviations of the fitted rows; or the
            memory's :meth:`surprise`, which needs no forecast, and marks unusual shapes more than
            values.
        risk : float
            Share of usual values that may be called anomalies.
        method : {"quantile", "evt"}
            How the threshold follows from the risk; "evt" (extreme value theory) for small ones.
        reference : array, Series or DataFrame, optional
            A usual series to take the threshold from, for every variate; default: X itself.

        Returns
        -------
        DataFrame
            A row a value: `item_id` (of a long frame), `timestamp` (the row's number for an array),
            `variate`, `value`, `score`, `threshold` and `anomaly`. The first `context_length` rows have
            no error, and a missing value has no score.
        """
        if score not in ("error", "surprise"):
            raise ValueError(f"score is {score!r}; choose 'error' or 'surprise'")
        panel, scores = self._scores(X, score)
        if np.isnan(scores).all():
            raise ValueError(
                f"X has no value to score: an error needs {self.model_.config.context_length} rows of "
                "history before it"
            )
        usual = scores if reference is None else self._scores(reference, score)[1]
        thresholds = [score_threshold(column, risk, method) for column in usual.T]
        C, roles = panel.n_targets, self.engine.roles
        places = np.arange(len(scores)) if panel.index is None else panel.index
        frame = pd.DataFrame(
            {
                roles.timestamp: places.repeat(C),
                "variate": np.tile(np.array(panel.columns or range(C), dtype=object), len(scores)),
                "value": panel.values[:, :C].ravel(),
                "score": scores.ravel(),
                "threshold": np.tile(thresholds, len(scores)),
            }
        )
        frame["anomaly"] = frame["score"] > frame["threshold"]
        if panel.items is not None:
            items = panel.items.repeat(np.diff(panel.starts) * C)
            frame.insert(0, roles.item_id, items)
        return frame

    def _scores(self, X: Any, score: str) -> tuple[Panel, Array]:
        """Scores `[N, C]` of the rows of X; NaN where a value is missing."""
        check_is_fitted(self, "model_")
        config, engine = self.model_.config, self.engine
        panel = engine.read(X, config.context_length + config.prediction_length, self._tail)
        if score == "error":
            return panel, engine.one_step_errors(panel)
        missing = np.isnan(panel.values[:, : config.n_variates])
        return panel, np.where(missing, np.nan, engine.surprise(panel))

    @property
    def engine(self) -> PanelModel:
        """The trained model with what it takes to forecast panels."""
        return self._engine

    @property
    def mean_(self) -> Array:
        """Level of the training rows, `[C]`; of a long frame `[I, C]`."""
        scales = self.engine.scales
        return scales.mean[0] if scales.items is None else scales.mean

    @property
    def scale_(self) -> Array:
        """Deviation of the training rows, `[C]`; of a long frame `[I, C]`."""
        scales = self.engine.scales
        return scales.spread[0] if scales.items is None else scales.spread

    @property
    def freq_(self) -> Any:
        """Frequency of the fitted rows (an offset, or a whole number); None for an array."""
        return self._tail.freq

    def set_history(self, X: Any) -> TitansForecaster:
        """Forecast from the end of another series from now on; nothing is learned from it.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`predict`, at least `context_length` rows.
        """
        panel, _ = self._read(X)
        if panel is None:
            raise ValueError("X is a batch of windows; give one series")
        if panel.kind != self._tail.kind:
            raise ValueError(
                f"X is a {panel.kind}, but a {self._tail.kind} was fitted; give the same"
            )
        self._remember(panel)
        return self

    def predict(self, X: Any = None, known_covariates: Any = None) -> Any:
        """Forecast the mean of the next `prediction_length` steps.

        Parameters
        ----------
        X : array [T, C] or [T], Series, DataFrame, or array [N, context_length, C], optional
            History of at least `context_length` rows, of which the last are read; or a batch of
            windows. Default: the series that was fitted. With covariates, X has their columns too (an
            array: a window its C targets, then `past`, then `known_covariates`).
        known_covariates : DataFrame or array [H, K] or [N, H, K], optional
            The known-future covariates of the steps to forecast, if the model was fitted with any: a
            frame in the form of X with their columns (later steps are left out), or an array.

        Returns
        -------
        array, Series or DataFrame
            `[H, C]` in the form of X, its index continued at its frequency; `[N, H, C]` for a batch;
            a long frame for a long one. A variate never observed in the fitted series is NaN.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X or known_covariates cannot be used.
        """
        panel, windows = self._read(X)
        point, _ = self._forecast(panel, windows, known_covariates)
        return point if panel is None else panel.answer(point, self.engine.roles)

    def predict_quantiles(self, X: Any = None, known_covariates: Any = None) -> Any:
        """Forecast the quantiles of the next `prediction_length` steps.

        Parameters
        ----------
        X, known_covariates : optional
            As for :meth:`predict`.

        Returns
        -------
        array or DataFrame
            `[H, C, Q]` for an array, columns (variate, quantile) for a frame (a long one: its items and
            times are the index), `[N, H, C, Q]` for a batch. Quantiles never cross.
        """
        panel, windows = self._read(X)
        _, quantiles = self._forecast(panel, windows, known_covariates)
        levels = self.model_.config.quantile_levels
        return (
            quantiles
            if panel is None
            else panel.answer_levels(quantiles, levels, self.engine.roles)
        )

    def predict_interval(
        self, X: Any = None, coverage: float = 0.9, known_covariates: Any = None
    ) -> Any:
        """Forecast an interval for every step that holds the given share of what comes.

        The interval between the outermost quantiles, widened or narrowed by how far outside it values
        fell on the validation part, or on what :meth:`calibrate` was given, step by step and variate by
        variate. Without either, no calibration is possible.

        Parameters
        ----------
        X, known_covariates : optional
            As for :meth:`predict`.
        coverage : float
            Between 0 and 1.

        Returns
        -------
        array or DataFrame
            Lower and upper ends: `[H, C, 2]` for an array, columns (variate, "lower" or "upper") for a
            frame (a long one: its items and times are the index), `[N, H, C, 2]` for a batch.

        Raises
        ------
        ValueError
            If the model has fewer than two quantiles, or was never calibrated.
        """
        panel, windows = self._read(X)
        if len(self.model_.config.quantile_levels) < 2:
            raise ValueError(
                "an interval needs two quantiles; fit with two or more quantile_levels"
            )
        added = margin(self._calibrated().scores, coverage)  # [H, C]
        _, quantiles = self._forecast(panel, windows, known_covariates)
        _, spread = self.engine.scales.of(panel, windows)
        low, high = quantiles[..., 0], quantiles[..., -1]
        added = np.maximum(added * spread[:, None], (low - high) / 2)  # the ends do not cross
        ends = np.stack([low - added, high + added], -1)
        if panel is None:
            return ends
        return panel.answer_levels(ends, ("lower", "upper"), self.engine.roles, "bound")

    def sample(
        self,
        X: Any = None,
        n_samples: int = 100,
        known_covariates: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Draw whole futures, whose steps and variates hang together as they did; items do not.

        Every step by itself is distributed as forecast (between the quantiles, and beyond the
        outermost, as a normal distribution through them). What goes together with what is taken from
        the errors of past forecasts, on the validation part or what :meth:`calibrate` was given.

        Parameters
        ----------
        X, known_covariates : optional
            As for :meth:`predict`.
        n_samples : int
            S.
        random_state : int, RandomState or None
            Seed; None draws anew every time.

        Returns
        -------
        array or DataFrame
            `[S, H, C]` for an array, columns (variate, sample) for a frame (a long one: its items and
            times are the index), `[N, S, H, C]` for a batch.

        Raises
        ------
        ValueError
            If the model has no distribution (fewer than two quantiles), or was never calibrated.
        """
        _check_positive("n_samples", n_samples)
        panel, windows = self._read(X)
        config = self.model_.config
        if config.output == "quantiles" and len(config.quantile_levels) < 2:
            raise ValueError(
                "a distribution needs two quantiles; fit with two or more quantile_levels"
            )
        seed = check_random_state(random_state).randint(2**31 - 1)
        generator = np.random.default_rng(int(seed))
        n = panel.n_items if panel is not None else len(windows)
        errors = self._calibrated().errors
        level = np.stack([dependent_levels(errors, n_samples, generator) for _ in range(n)])
        drawn = self.engine.sample(panel, windows, known_covariates, self._state_of(panel), level)
        if panel is None:
            return drawn
        if panel.kind in ("array", "vector"):
            return drawn[0] if panel.kind == "array" else drawn[0, :, :, 0]
        labels = tuple(range(n_samples))
        return panel.answer_levels(np.moveaxis(drawn, 1, -1), labels, self.engine.roles, "sample")

    def calibrate(self, X: Any) -> TitansForecaster:
        """Let :meth:`predict_interval` and :meth:`sample` learn from a series' latest forecasts.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`; rows that were not fitted, with a context before them. The last few
            hundred forecasts count, so that calling it again as rows come adapts the intervals.
        """
        check_is_fitted(self, "model_")
        config = self.model_.config
        L, H = config.context_length, config.prediction_length
        panel = self.engine.read(X, L + H, self._tail)
        calibration = self.engine.calibration(panel, cutoffs(panel, L, H, 1, n_scores(config)))
        if calibration is None:
            raise ValueError("X has no observed value to calibrate with")
        self._calibration = calibration
        return self

    def score(self, X: Any, y: Any = None) -> float:
        """R^2 of the forecasts of every window of X, averaged over the variates and items.

        Parameters
        ----------
        X : array, Series or DataFrame
            At least `context_length + prediction_length` rows.
        y : None
            Ignored.
        """
        check_is_fitted(self, "model_")
        config = self.model_.config
        panel = self.engine.read(X, config.context_length + config.prediction_length, self._tail)
        L, H = config.context_length, config.prediction_length
        cuts = cutoffs(panel, L, H, 1)
        at_once = len(cuts) if config.stateful_windows else STREAMS
        shape = (panel.n_items, config.n_variates)
        count, total, squares, residual = (np.zeros(shape) for _ in range(4))
        for start in range(0, len(cuts), at_once):
            some = cuts[start : start + at_once]
            point, _ = self.engine.rolling(panel, some)
            future = targets(panel, some, H)
            error = future - point  # [W, I, H, C]
            seen = ~np.isnan(error)
            actual = np.where(seen, future, 0)
            count += seen.sum((0, 2))
            total += actual.sum((0, 2))
            squares += (actual**2).sum((0, 2))
            residual += np.where(seen, error**2, 0).sum((0, 2))
        if not count.any():
            raise ValueError("X has no observed value to compare forecasts with")
        seen = count > 0
        variance = squares[seen] - total[seen] ** 2 / count[seen]
        # a variate that never moves: 1 if it is hit exactly, else 0, as scikit-learn's r2_score
        flat = variance <= 1e-12 * np.maximum(squares[seen], 1)
        r2 = 1 - residual[seen] / np.where(flat, 1, variance)
        return float(np.where(flat, residual[seen] == 0, r2).mean())

    def _forecaster_config(self) -> ForecasterConfig:
        levels: Any = self.quantile_levels
        if isinstance(levels, (list, tuple, np.ndarray)):
            levels = tuple(q.item() if isinstance(q, np.generic) else q for q in levels)
        config: ForecasterConfig = self._config(
            ForecasterConfig, quantile_levels=levels, backbone=self._backbone_config()
        )
        return config

    @property
    def roles(self) -> Roles:
        """What the parameters say of the columns."""
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

    def _remember(self, panel: Panel, state: Any = None) -> None:
        """Keep what forecasting from the end of a series needs, whose rows follow a state."""
        self._state, keep = self.engine.absorb(panel, state)
        self._tail = panel.tail(keep)
        self._name_features(panel)

    def _name_features(self, panel: Panel) -> None:
        self.n_features_in_ = panel.n_targets
        columns = panel.columns if panel.kind in ("frame", "panel") else None
        if columns is not None and all(isinstance(c, str) for c in columns):
            self.feature_names_in_ = np.array(columns, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _read(self, X: Any) -> tuple[Panel | None, Any]:
        check_is_fitted(self, "model_")
        return self.engine.read_history(X, self._tail)

    def _forecast(
        self, panel: Panel | None, windows: Any, known_covariates: Any
    ) -> tuple[Array, Array]:
        """Mean `[n, H, C]` and quantiles `[n, H, C, Q]`, in the series' own units."""
        return self.engine.forecast(panel, windows, known_covariates, self._state_of(panel))

    def _state_of(self, panel: Panel | None) -> Any:
        """The memory before the last window of a panel."""
        if panel is None:
            return None
        return self._state if panel is self._tail else self.engine.absorb(panel)[0]

    def _calibrated(self) -> Calibration:
        if self._calibration is None:
            raise ValueError(
                "nothing to calibrate with: no validation part was held out of the fitted series; "
                "call calibrate with rows that were not fitted"
            )
        return self._calibration

    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tail, tensors = describe_panel(self._tail)
        scales, encoder = self.engine.scales, self.engine.encoder
        fitted: dict[str, Any] = {
            "roles": dataclasses.asdict(self.engine.roles),
            "tail": tail,
            "items": None if scales.items is None else plain_items(scales.items),
            "static": None if encoder is None else encoder.columns,
        }
        for name in ("mean", "spread", "covariate_mean", "covariate_spread"):
            tensors[name] = torch.from_numpy(getattr(scales, name))
        if self._calibration is not None:
            for name, part in self._calibration._asdict().items():
                tensors[f"calibration.{name}"] = torch.from_numpy(part)
        if self._state is not None:
            state = flatten_state(self._state)
            tensors |= {f"state.{k}": v.cpu().contiguous() for k, v in state.items()}
        return fitted, tensors

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        self.model_ = ForecastingModel(from_dict(ForecasterConfig, model))
        roles: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in fitted["roles"].items()}
        names = ("mean", "spread", "covariate_mean", "covariate_spread")
        scales: Any = {name: tensors[name].numpy() for name in names}
        items = None if fitted["items"] is None else pd.Index(fitted["items"])
        encoder = None if fitted["static"] is None else StaticEncoder(fitted["static"])
        levels = self.model_.config.scaler != "mean"
        known = Scales(**scales, items=items, identity=self.model_.output.counts, level=levels)
        self._engine = PanelModel(self.model_, Roles(**roles), known, encoder)
        parts = [tensors.get(f"calibration.{name}") for name in Calibration._fields]
        known_parts = [part.numpy() for part in parts if part is not None]
        self._calibration = Calibration(*known_parts) if known_parts else None
        self._tail = rebuild_panel(fitted["tail"], tensors)
        self._state = None
        state = {k.removeprefix("state."): v for k, v in tensors.items() if k[:6] == "state."}
        if state:
            device = self._device()
            like = self.model_.backbone.initial_state(1)
            self._state = unflatten_state({k: v.to(device) for k, v in state.items()}, like)
        self._name_features(self._tail)


def _check_positive(name: str, value: Any) -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least 1")


def _cycles(calendar: Any) -> tuple[str, ...]:
    if isinstance(calendar, bool):
        return tuple(CYCLES) if calendar else ()
    names = column_names(calendar)
    if not all(isinstance(name, str) and name in CYCLES for name in names):
        raise ValueError(f"calendar is {calendar!r}; give True, False or some of {list(CYCLES)}")
    return tuple(name for name in CYCLES if name in names)


def _check_counts(panel: Panel, config: ForecasterConfig) -> None:
    if config.scaler == "none":
        raise ValueError(
            "scaler is 'none' and output 'negative_binomial', but counts are not scaled elsewhere; "
            "choose another scaler, for instance 'mean'"
        )
    values = panel.values[:, : panel.n_targets]
    wrong = ~np.isnan(values) & ((values < 0) | (values != np.round(values)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"output is 'negative_binomial', but X has {values[row, column]:g} in row {row}; "
            "counts are whole numbers of at least 0"
        )


def _validation_cuts(
    panel: Panel, config: ForecasterConfig, border: NDArray[np.int64]
) -> tuple[Panel, NDArray[np.int64]]:
    """Some forecasts that begin at or after the rows `border` `[I]`, and the items they are of."""
    first, end = panel.spans.T
    most = n_scores(config)
    if panel.items is not None:
        held = np.flatnonzero(border < end)
        kept = held[np.linspace(0, len(held) - 1, min(len(held), most)).astype(int)]
        ends = first.copy()
        ends[kept] = end[kept]
        panel, rows = panel.head(ends), (end - border)[kept]
        border = panel.spans[:, 1] - rows
    windows = int((panel.spans[:, 1] - border).max(initial=0)) - config.prediction_length + 1
    if windows < 1:
        return panel, np.empty((0, panel.n_items), np.int64)
    cuts = cutoffs(panel, config.context_length, config.prediction_length, 1, windows)
    cuts = np.where(cuts >= border, cuts, -1)
    count = min(len(cuts), max(1, most // panel.n_items))
    return panel, cuts[np.linspace(0, len(cuts) - 1, count).astype(int)]


def _for_panel(
    config: ForecasterConfig,
    panel: Panel,
    roles: Roles,
    encoder: StaticEncoder | None,
    options: ModelOptions,
) -> ForecasterConfig:
    """The configuration with the panel's numbers of columns; unless given, windows are MAC's segments."""
    categories, n_static = ((), 0) if encoder is None else encoder.sizes
    config = dataclasses.replace(
        config,
        n_variates=panel.n_targets,
        n_past=roles.n_past,
        n_known=panel.values.shape[1] - panel.n_targets - roles.n_past,
        static_categories=categories,
        n_static=n_static,
    )
    backbone, variates = config.backbone, config.tokens == "variate"
    if (config.stateful_windows or variates) and options.segment_length is None:
        # a segment of MAC's that straddled two windows would hide a window's own beginning
        n_tokens = n_patches(config.context_length, config.patch_length, config.patch_stride)
        if variates:
            n_tokens = config.n_covariates + 2 * config.n_variates
        backbone = dataclasses.replace(backbone, segment_length=n_tokens)
        if variates and options.window is None:  # every variate sees all others
            backbone = dataclasses.replace(backbone, window=max(backbone.window, n_tokens))
    return dataclasses.replace(config, backbone=backbone)
