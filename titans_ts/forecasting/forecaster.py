"""Forecasting with `fit` and `predict`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from tqdm.auto import tqdm

from titans_ts.config import (
    BackboneConfig,
    ForecasterConfig,
    ModelOptions,
    TrainingConfig,
    TrainingOptions,
    from_dict,
)
from titans_ts.estimator import TitansEstimator
from titans_ts.forecasting.anomalies import anomaly_frame, score_threshold
from titans_ts.forecasting.backtest import Backtest, rolling_backtest, rolling_r2
from titans_ts.forecasting.cutoffs import cutoffs
from titans_ts.forecasting.fitting import fit_forecaster
from titans_ts.forecasting.frequency import CYCLES, usual_season
from titans_ts.forecasting.intervals import dependent_levels, margin
from titans_ts.forecasting.panel import Panel, Roles
from titans_ts.forecasting.parse import column_names, read_panel
from titans_ts.forecasting.persistence import FittedParts, pack, unpack
from titans_ts.forecasting.predictor import Calibration, PanelPredictor, n_scores
from titans_ts.nn.series.model import ForecastingModel

__all__ = ["TitansForecaster"]

Array = NDArray[np.float64]


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
    _predictor: PanelPredictor = field(init=False)
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

        The last rows (`validation_fraction` of `training_options`, at least `prediction_length`) choose
        the best epoch. The level and deviation of the rows before them scale the variates, item by item.
        A series too short for a validation part trains for all its epochs. An item of a long frame that
        is shorter than a window is filled in front with missing values.

        Parameters
        ----------
        X : array [T, C] or [T], Series, wide or long DataFrame
            Rows in time order (a long frame: in any order); NaN is missing. Times must be regular,
            unless `freq` is given.
        y : None
            Ignored.

        Raises
        ------
        TypeError, ValueError
            If X or a parameter cannot be used; the message names it and how to fix it.
        """
        config = self._forecaster_config()
        min_rows = config.context_length + config.prediction_length
        return self.fit_panel(read_panel(X, self.roles, min_rows=min_rows))

    def fit_panel(self, panel: Panel, validation: Panel | None = None) -> TitansForecaster:
        """Like :meth:`fit`, for a panel; the last steps of `validation` choose the epoch."""
        config, training = self._forecaster_config(), self._training_config()
        with self._seeded() as generator:
            fitted = fit_forecaster(
                panel,
                config,
                self.options("model_options"),
                training,
                generator,
                validation=validation,
                progress_bar=self.progress_bar,
                trainer_kwargs=self._trainer_kwargs(),
            )
        fitted.predictor.network.to(self._device())
        calibration = fitted.calibration(panel)
        # only now: a fit that fails leaves the estimator as it was
        self.model_, self.history_ = fitted.predictor.network, fitted.history
        self._predictor, self._calibration = fitted.predictor, calibration
        self._remember(panel)
        return self

    def predict(self, X: Any = None, known_covariates: Any = None) -> Any:
        """Forecast the mean of the next `prediction_length` steps.

        Parameters
        ----------
        X : array [T, C] or [T], Series, DataFrame, or array [N, context_length, C], optional
            History of at least `context_length` rows, of which the last are read; or a batch of
            windows. Default: the fitted series. With covariates, X needs their columns too (an array:
            the C targets, then the past covariates, then the known ones).
        known_covariates : DataFrame or array [H, K] or [N, H, K], optional
            The known covariates of the steps to forecast, if the model was fitted with any: a frame in
            the form of X with their columns (later steps are ignored), or an array.

        Returns
        -------
        array, Series or DataFrame
            `[H, C]` in the form of X, its index continued at its frequency; `[N, H, C]` for a batch of
            windows; a long frame for a long one. A variate never observed in the fitted series is NaN.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X or known_covariates cannot be used.
        """
        panel, known = self._read(X, known_covariates)
        point, _ = self.predictor.forecast(panel, known, self._state_before(panel))
        return panel.format_forecast(point)

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
            times are the index), `[N, H, C, Q]` for a batch of windows. Quantiles never cross.
        """
        panel, known = self._read(X, known_covariates)
        _, quantiles = self.predictor.forecast(panel, known, self._state_before(panel))
        return panel.format_levels(quantiles, self.model_.config.quantile_levels)

    def predict_interval(
        self, X: Any = None, coverage: float = 0.9, known_covariates: Any = None
    ) -> Any:
        """Forecast an interval for every step that contains the given share of future values.

        The interval between the outermost quantiles, widened or narrowed by the errors on the validation
        part, or on the rows given to :meth:`calibrate`, separately for every step and variate.

        Parameters
        ----------
        X, known_covariates : optional
            As for :meth:`predict`.
        coverage : float
            Between 0 and 1 (default 0.9).

        Returns
        -------
        array or DataFrame
            Lower and upper ends: `[H, C, 2]` for an array, columns (variate, "lower" or "upper") for a
            frame (a long one: its items and times are the index), `[N, H, C, 2]` for a batch of windows.

        Raises
        ------
        ValueError
            If the model has fewer than two quantiles, or was never calibrated.
        """
        panel, known = self._read(X, known_covariates)
        if len(self.model_.config.quantile_levels) < 2:
            raise ValueError(
                "an interval needs two quantiles; fit with two or more quantile_levels"
            )
        added = margin(self._calibrated().scores, coverage)  # [H, C]
        _, quantiles = self.predictor.forecast(panel, known, self._state_before(panel))
        _, spread = self.predictor.scales.of(panel)
        low, high = quantiles[..., 0], quantiles[..., -1]
        added = np.maximum(added * spread[:, None], (low - high) / 2)  # the ends do not cross
        ends = np.stack([low - added, high + added], -1)
        return panel.format_levels(ends, ("lower", "upper"), "bound")

    def sample(
        self,
        X: Any = None,
        n_samples: int = 100,
        known_covariates: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Draw sample paths. Steps and variates are correlated as in past forecast errors.

        Every step has the forecast distribution (between the quantiles, and beyond the outermost ones as
        a normal distribution through them). The dependence of steps and variates comes from the errors on
        the validation part, or on the rows given to :meth:`calibrate`; items are independent.

        Parameters
        ----------
        X, known_covariates : optional
            As for :meth:`predict`.
        n_samples : int
            S, number of paths (default 100).
        random_state : int, RandomState or None
            Seed; None draws other paths every time.

        Returns
        -------
        array or DataFrame
            `[S, H, C]` for an array, columns (variate, sample) for a frame (a long one: its items and
            times are the index), `[N, S, H, C]` for a batch of windows.

        Raises
        ------
        ValueError
            If the model has no distribution (fewer than two quantiles), or was never calibrated.
        """
        _check_positive("n_samples", n_samples)
        panel, known = self._read(X, known_covariates)
        config = self.model_.config
        if config.output == "quantiles" and len(config.quantile_levels) < 2:
            raise ValueError(
                "a distribution needs two quantiles; fit with two or more quantile_levels"
            )
        seed = check_random_state(random_state).randint(2**31 - 1)
        generator = np.random.default_rng(int(seed))
        errors = self._calibrated().errors
        level = [dependent_levels(errors, n_samples, generator) for _ in range(panel.n_items)]
        drawn = self.predictor.sample(panel, known, self._state_before(panel), np.stack(level))
        labels = tuple(range(n_samples))
        paths = panel.format_levels(np.moveaxis(drawn, 1, -1), labels, "sample")
        if isinstance(paths, np.ndarray):
            return np.moveaxis(paths, -1, 1 if panel.kind == "windows" else 0)
        return paths

    def calibrate(self, X: Any) -> TitansForecaster:
        """Calibrate :meth:`predict_interval` and :meth:`sample` on the latest forecasts of a series.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`: rows that were not fitted, preceded by one context window. The last 500
            forecasts count, so that repeated calls adapt the intervals.
        """
        check_is_fitted(self, "model_")
        config = self.model_.config
        L, H = config.context_length, config.prediction_length
        panel = self.predictor.read(X, L + H, self._tail)
        calibration = self.predictor.calibration(panel, cutoffs(panel, L, H, 1, n_scores(config)))
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
        min_rows = config.context_length + config.prediction_length
        return rolling_r2(self.predictor, self.predictor.read(X, min_rows, self._tail))

    def update(self, X: Any) -> TitansForecaster:
        """Append the next rows of the series; forecasts continue after them.

        With `stateful_windows`, the memory reads the rows before the window that a forecast reads, one
        window's length at a time, and learns from them; the weights do not change. Otherwise the window
        only moves. The size of what is kept is constant, it is saved with the model, and it does not
        depend on how the rows are split over several calls.

        Parameters
        ----------
        X : array, Series or DataFrame
            In the form of the fitted series, beginning where it ended; of a long frame, any of its items.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X cannot be used, or does not follow the series.
        """
        check_is_fitted(self, "model_")
        new = self.predictor.read(X, 1, self._tail)
        self._remember(self._tail.followed_by(new), self._state)
        return self

    def set_history(self, X: Any) -> TitansForecaster:
        """Forecast from the end of another series from now on; the weights do not change.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`predict`, at least `context_length` rows.
        """
        panel, _ = self._read(X)
        if panel.kind == "windows":
            raise ValueError("X is a batch of windows; give one series")
        if panel.kind != self._tail.kind:
            raise ValueError(
                f"X is a {panel.kind}, but a {self._tail.kind} was fitted; give the same"
            )
        self._remember(panel)
        return self

    def reset_memory(self) -> TitansForecaster:
        """Empty the memory; the rows that the next forecast reads stay."""
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
        """Rolling forecasts of a series, compared with the observed values and with baselines.

        Every forecast uses only the rows before it. With `stateful_windows` the memory keeps learning;
        the weights do not change, unless `refit` is given. The baselines are the naive, seasonal naive
        and drift forecasts. Without `refit`, rows used for training are not out-of-sample: pass new rows
        preceded by one context window.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`, at least `context_length + prediction_length` rows.
        stride : int, optional
            Rows between two forecasts (default: `prediction_length`).
        n_windows : int, optional
            Number of forecasts, the last ones (default: all).
        season_length : int, optional
            Steps in a season, for the seasonal naive forecast and the MASE (default: the usual one of
            the frequency).
        refit : int, optional
            Fit again before each group of that many forecasts, on the rows before the earliest of them
            (default: never).
        progress_bar : bool, optional
            Whether to show one (default: as given to the estimator).

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
        numbers = {"stride": stride, "n_windows": n_windows}
        for name, value in (numbers | {"season_length": season_length, "refit": refit}).items():
            if value is not None:
                _check_positive(name, value)
        if refit is None:
            check_is_fitted(self, "model_")
            config, roles, like = self.model_.config, self.predictor.roles, self._tail
        else:
            config, roles, like = self._forecaster_config(), self.roles, None
        L, H = config.context_length, config.prediction_length
        panel = read_panel(X, roles, min_rows=L + H, like=like)
        min_history = L if refit is None else L + H  # a window to train on
        cuts = cutoffs(panel, min_history, H, stride or H, n_windows)
        timed = isinstance(panel.freq, pd.offsets.BaseOffset)
        show = self.progress_bar if progress_bar is None else progress_bar

        def forecast(some: NDArray[np.int64]) -> tuple[Array, Array]:
            if refit is None:
                return self.predictor.rolling(panel, some, progress_bar=show)
            bar.update()
            fresh = clone(self).set_params(progress_bar=False).fit_panel(panel.before(some[0]))
            return fresh.predictor.rolling(panel, some)

        with tqdm(desc="backtest", disable=not show or refit is None) as bar:
            return rolling_backtest(
                panel,
                cuts,
                config,
                forecast,
                season=season_length or usual_season(panel.freq if timed else None),
                stride=stride or H,
                refit=refit,
            )

    def surprise(self, X: Any) -> Any:
        """The memory's surprise at every value of a series, read from the beginning.

        The momentary surprise of arXiv 2501.00663, equation 8: the norm of the gradient of the memory's
        loss, averaged over blocks, heads and the patches that contain a step. Patches are scaled by their
        window, so that rows up to one window later have an influence.

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
        panel = self.predictor.read(X, 1, self._tail)
        return panel.format_rows(self.predictor.surprise(panel))

    def detect_anomalies(
        self,
        X: Any,
        *,
        score: str = "error",
        risk: float = 1e-3,
        method: str = "quantile",
        reference: Any = None,
    ) -> pd.DataFrame:
        """Find unusual values of a series.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`, at least `context_length + prediction_length` rows.
        score : {"error", "surprise"}
            The absolute error of the forecast one step ahead, in deviations of the fitted rows (default);
            or the memory's :meth:`surprise`, which needs no forecast and marks unusual shapes more than
            unusual values.
        risk : float
            Share of usual values that may be called anomalies (default 0.001).
        method : {"quantile", "evt"}
            How the threshold follows from the risk; "evt" (extreme value theory) is for small risks.
        reference : array, Series or DataFrame, optional
            A usual series to compute each variate's threshold from (default: X itself).

        Returns
        -------
        DataFrame
            A row per value: `item_id` (of a long frame), `timestamp` (the row's number for an array),
            `variate`, `value`, `score`, `threshold` and `anomaly`. The first `context_length` rows have
            no error, and a missing value has no score.
        """
        check_is_fitted(self, "model_")
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
        return anomaly_frame(panel, scores, thresholds)

    def _scores(self, X: Any, score: str) -> tuple[Panel, Array]:
        """Anomaly scores `[N, C]` of the rows of X; NaN where a value is missing."""
        config = self.model_.config
        panel = self.predictor.read(X, config.context_length + config.prediction_length, self._tail)
        if score == "error":
            return panel, self.predictor.one_step_errors(panel)
        missing = np.isnan(panel.values[:, : config.n_variates])
        return panel, np.where(missing, np.nan, self.predictor.surprise(panel))

    @property
    def predictor(self) -> PanelPredictor:
        """The trained network with the scaling of its inputs and outputs."""
        return self._predictor

    @property
    def mean_(self) -> Array:
        """Level of the training rows, `[C]`; of a long frame `[I, C]`."""
        scales = self.predictor.scales
        return scales.mean[0] if scales.items is None else scales.mean

    @property
    def scale_(self) -> Array:
        """Deviation of the training rows, `[C]`; of a long frame `[I, C]`."""
        scales = self.predictor.scales
        return scales.spread[0] if scales.items is None else scales.spread

    @property
    def freq_(self) -> Any:
        """Frequency of the fitted rows (an offset, or a whole number); None for an array."""
        return self._tail.freq

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

    def _read(self, X: Any, known_covariates: Any = None) -> tuple[Panel, Tensor | None]:
        """Read and check all that a forecast needs, before anything is computed."""
        check_is_fitted(self, "model_")
        panel = self.predictor.read_history(X, self._tail)
        return panel, self.predictor.read_known(known_covariates, panel)

    def _remember(self, panel: Panel, state: Any = None) -> None:
        """Keep what forecasting from the end of a series needs, whose rows follow a state."""
        self._state, keep = self.predictor.consume(panel, state)
        self._tail = panel.tail(keep)
        self._name_features(panel)

    def _name_features(self, panel: Panel) -> None:
        self.n_features_in_ = panel.n_targets
        columns = panel.columns if panel.kind in ("frame", "panel") else None
        if columns is not None and all(isinstance(c, str) for c in columns):
            self.feature_names_in_ = np.array(columns, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _state_before(self, panel: Panel) -> Any:
        """The memory's state before the last window of a panel."""
        if panel is self._tail:
            return self._state
        return None if panel.kind == "windows" else self.predictor.consume(panel)[0]

    def _calibrated(self) -> Calibration:
        if self._calibration is None:
            raise ValueError(
                "nothing to calibrate with: no validation part was held out of the fitted series; "
                "call calibrate with rows that were not fitted"
            )
        return self._calibration

    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return pack(FittedParts(self.predictor, self._tail, self._state, self._calibration))

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        self.model_ = ForecastingModel(from_dict(ForecasterConfig, model))
        parts = unpack(self.model_, fitted, tensors, self._device())
        self._predictor, self._tail = parts.predictor, parts.tail
        self._state, self._calibration = parts.state, parts.calibration
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
