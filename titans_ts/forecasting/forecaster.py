"""Forecasting with `fit` and `predict`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from tqdm import tqdm

from titans_ts.config import ForecasterConfig, check_integer, from_dict
from titans_ts.estimator import plain
from titans_ts.forecasting.blend import ZERO_SHOT
from titans_ts.forecasting.calibration import (
    Calibration,
    calibrate,
    calibrate_last,
    calibrated,
    n_scores,
)
from titans_ts.forecasting.columns import is_windows
from titans_ts.forecasting.covariates import read_known
from titans_ts.forecasting.cutoffs import cutoffs
from titans_ts.forecasting.defaults import default_batch_size
from titans_ts.forecasting.drawing import forecast_charts, item_place, quantile_bands
from titans_ts.forecasting.error_memory import WINDOW, ErrorMemory, begin, learned, read_rows
from titans_ts.forecasting.evaluation import ForecasterEvaluation
from titans_ts.forecasting.facts import facts
from titans_ts.forecasting.fitted_rows import fitted_rows
from titans_ts.forecasting.fitting import fit_forecaster, season_of_panel, without_fit
from titans_ts.forecasting.horizons import check_arguments, rolled, warn_longer
from titans_ts.forecasting.intervals import check_distribution, check_interval, widen
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.parse import read_panel
from titans_ts.forecasting.persistence import FittedParts, pack, unpack
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.rollback import keeps_series
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.training import begin_fit
from titans_ts.types import RandomState, SeriesLike, WindowsLike

__all__ = ["TitansForecaster"]

Array = NDArray[np.float64]

_TRIED = 8
"""Number of items that are forecast when a model is loaded."""
_MOST_ROWS = 2000
"""Number of rows that the memory of forecast errors learns from in a fit at most."""


class TitansForecaster(ForecasterEvaluation):
    """Forecast a multivariate series with a Titans backbone.

    Parameters
    ----------
    prediction_length : int
        H, number of steps to forecast (default 24).
    context_length : int, optional
        L, number of steps before the forecast that the model reads. None (default): from the frequency
        and the number of rows. It is two of the longest usual season that the rows have three of (an
        hourly series: 336), or two of `prediction_length`, but at most a quarter of the rows, unless a
        season and `prediction_length` need more; :mod:`titans_ts.forecasting.defaults` has the details.
        After the fit, ``model_.config.context_length`` is the number.
    preset : {"zero-shot", "fast", "default", "best"}
        Which networks are trained. "zero-shot": none; forecasts are those of the pretrained model in the
        package, see :meth:`from_pretrained`. "fast" and "default": one without blocks, for about 320 or
        640 steps. "best": one with 2 blocks for about 640 steps and one without blocks for about 1280, of
        which the one with the smaller validation loss is kept; it takes about eight times as long as the
        default. `n_layers` and `max_epochs` win over the preset if they are not None.
    variant : {"mac", "mag", "mal", "lmm", "swa"}, optional
        The blocks of the network: how memory and attention are combined, a key of
        :data:`titans_ts.nn.BLOCKS`. None (default): "mac", but only the preset "best" has blocks. Blocks
        that learn from one data set alone have not earned their time there; the pretrained model, which
        the forecasts are blended with, has blocks with a memory.
    d_model, n_heads : int
        Width of a token (default 64), and number of heads of blocks (default 4).
    n_layers : int, optional
        Number of blocks. None (default): that of the preset, but 2 instead of none if a parameter that
        only blocks have a use for is not at its default: `variant`, `stateful_windows`,
        ``tokens="variate"``, and those of the memory and the blocks in `model_options`. The preset "best"
        compares with a network without blocks then, too, unless a state is carried. After the fit,
        ``model_.config.backbone.n_layers`` is the number.
    patch_length, patch_stride : int, optional
        Number of steps in a token (default: a usual season, but at most a quarter of the context; an
        eighth of it without a season), and between the starts of two tokens (default: half a token).
    tokens : {"patch", "joint", "variate", "mixed"}
        The content of a token. "patch" (default): some steps of one variate; every variate is a separate
        stream. "joint": some steps of all variates. "variate": a whole window of one variate, whatever
        `patch_length` is; the stream goes from variate to variate, and surprise is one value per window.
        "mixed": as "patch", with attention between the variates after the backbone.
    stateful_windows : int
        Number of windows to back-propagate through. 0 (default): every window starts with the memory's
        learned initial state. If positive, the memory's state is carried from window to window in
        training (truncated back-propagation through time), and :meth:`update` continues it after the
        fit.
    scaler : {"standard", "robust", "mean", "asinh", "none"}
        Normalisation of every window; the forecast is scaled back. "standard" (default): by mean and
        standard deviation. "robust": by median and quartiles. "mean": by the mean absolute value.
        "asinh": as "standard", followed by asinh. "none": no normalisation.
    season_length : int
        Number of steps in a learned season, for instance 24 for hourly data with a daily pattern, or 168
        for a day and a week in one. 0 (default): no season. One value per step of the season and variate
        is learned as persistent memory and subtracted from the model's input; how large the season is in
        a window, the window decides in part. All items of a panel share it, each in the unit of its
        spread. It may help where the context holds fewer than four seasons and the fitted rows hold many.
        A row's position in the season follows from its time, or from its integer index: rows that are
        given later must count on from those that were fitted.
    blend : bool or sequence of str
        Whether forecasts are blended with those of a pretrained model, which reads the targets only, and
        of simple forecasters: a linear map of the context, the last value, drift, seasonal naive, Theta,
        and exponential smoothing in three forms (default True). The weights are those of the smallest
        quantile loss on the validation part, and a forecaster that does not help there has none. Without
        a validation part, the pretrained model has four fifths; counts are not blended. Names choose some
        of the forecasters, for instance ``["pretrained", "theta"]``; they are the index of
        :attr:`blend_`.
    adapt : bool
        Whether forecasts keep learning after the fit (default False). A memory of forecast errors reads
        the rows of :meth:`update`, and of :meth:`backtest`, one after the other. When all steps of a
        forecast are observed, it learns its error, and what it expects of the next error is added to the
        next forecast: to the mean, the quantiles, intervals and samples, as far as that has improved the
        latest ones. It begins with the validation part, has a constant size, and is saved with the model.
        Forecasts of another history X, given to :meth:`predict`, and those of :meth:`score` are not
        corrected. Intervals and samples after the series follow from the errors that the latest corrected
        forecasts had, and adapt, too. A backtest of rows that were given to :meth:`update` begins with
        what was learned from them. Rows of an array are counted from its first one, so a history that is
        given later must begin at the same place in the season. For one series (a wide frame or an array),
        without known covariates and without `stateful_windows`. What is kept takes about 0.3 MB a variate
        for a day of hours, and grows with C times the square of `prediction_length`.
    quantile_levels : tuple of float
        Levels of the quantiles that are forecast together with the mean (default 0.1, 0.5, 0.9).
    output : {"quantiles", "normal", "student_t", "negative_binomial"}
        What training fits: the mean and the quantiles (default), or a distribution. "student_t" is for
        heavy tails, "negative_binomial" for counts.
    target : column or sequence of columns, optional
        The variates to forecast, as columns of X (column numbers for an array). Default: all columns
        without another role.
    past_covariates, known_covariates, static_covariates : column or sequence of columns
        Past covariates are known only up to the present. Known covariates are also known for the steps to
        forecast, and :meth:`predict` needs them. Static covariates are text or numbers that are constant
        for an item of a long frame. Default: no covariates.
    calendar : bool or sequence of str
        Calendar features to add: the position in the hour, day, week, month and year. True: all of them.
        False (default): none. A sequence: those listed, for instance ``["day", "week"]``. Cycles that are
        not longer than a step are left out.
    item_id, timestamp : str
        Names of two columns of a long frame, which has one row for every item and time (default "item_id"
        and "timestamp"). They may not be those of columns of results, such as "step" or "value".
    freq : str, optional
        A pandas frequency to resample a frame to: rows within a step are averaged, and a step without a
        row is missing. "irregular" keeps the rows unchanged, adds the time since the previous row as a
        covariate, and forecasts the next rows at their usual distance. None (default): rows are not
        resampled, and their times must be regular.
    max_epochs : int or None
        Maximum number of passes over the training windows. None (default): the preset's number of steps
        (640: in 10 to 400 passes), and each pass over a long series reads a random sample of its windows
        (64 batches). Short passes are validated about every 32 steps.
    time_limit : float, optional
        Number of seconds after which training stops; the learning rate is annealed within them, and
        several networks share them. Results then depend on the machine (default: no limit).
    batch_size : int, optional
        Number of windows in a training step; memory use grows with it times the number of variates.
        Default: 32, or 8 to 32 of which 64 variates are read if there are several.
    learning_rate : float
        Peak learning rate of AdamW's one-cycle schedule (default 0.001).
    model_options : ModelOptions or dict, optional
        Rarely changed settings of the model (:class:`titans_ts.config.ModelOptions`): dropout, the
        memory's depth and chunk size, persistent tokens, ..., for instance
        ``{"dropout": 0.2, "memory": {"depth": 1}}``. Default: those of the class.
    training_options : TrainingOptions or dict, optional
        Rarely changed settings of training (:class:`titans_ts.config.TrainingOptions`):
        `validation_fraction` (0.2), `patience`, `weight_decay`, `max_steps_per_epoch`, `gradient_clip`,
        `trainer_kwargs` for Lightning, and `resume`, a folder from which the same fit continues after an
        interruption. Default: those of the class.
    device : str
        "auto" (default; a GPU if there is one), or a torch device.
    random_state : int, RandomState or None
        Seed; with an int, runs on a CPU are reproducible.
    progress_bar : bool
        Whether to show a progress bar while fitting (default True).

    Attributes
    ----------
    model_ : ForecastingModel
        The trained model, in units of `scale_`.
    mean_, scale_ : ndarray
        `[C]`, mean and deviation of the training rows. With the "mean" scaler, `mean_` is 0.
    freq_ : offset, int or None
        Frequency of the fitted rows; None for an array.
    history_ : list of dict
        Losses of every epoch of the network that was kept. The last record also has `memory_change`, a
        first look at what :meth:`memory_report` measures: the change of the outputs for some validation
        windows with the memory's write off, in standard deviations of the outputs.
    blend_ : DataFrame
        Rows: the network ("titans"), the pretrained model and the simple forecasters. Columns: `weight`
        in the forecasts, and `loss`, the quantile loss on the validation part divided by that of the
        blend, NaN without such a part. Empty if nothing was blended.
    n_features_in_ : int
        C, number of variates.
    feature_names_in_ : ndarray
        Their names, if a frame was fitted.
    end_ : time, int, Series or None
        Last time of the series that forecasts follow; of a long frame, a Series of items. None for an
        array.

    Notes
    -----
    The rows are a series, so a search of scikit-learn must keep them in order: give it
    ``cv=TimeSeriesSplit()``. A halving search also needs another resource than samples, such as
    ``resource="max_epochs"``. In a pipeline after a scaler, forecasts are in the scaled units.

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
    _predictor: PanelPredictor
    _tail: Panel
    _unread: NDArray[np.int64]
    """`[I]`, number of rows at the end of every item of `_tail` that come after the state."""
    _state: Any
    _calibration: Calibration | None

    def __sklearn_tags__(self) -> Tags:
        """NaN is missing data; there is no y."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: SeriesLike, y: object = None) -> TitansForecaster:
        """Train on the windows of a series, or of the items of a long frame.

        The last rows (`validation_fraction` of `training_options`, at least `prediction_length`) choose
        the best epoch. Every variate of every item is scaled by the level and deviation of the rows
        before them. If a series is too short for a validation part, it trains for all epochs. If an
        item of a long frame is shorter than a window, missing values are added before it. A variate
        without any value gives a warning, and its forecasts are NaN.

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
        config = self.network_config()
        min_rows = config.context_length + config.prediction_length
        if not self.candidates():
            min_rows = 1
        return self.fit_panel(read_panel(X, self.roles, min_rows=min_rows))

    @classmethod
    def from_pretrained(cls, prediction_length: int = 24, **parameters: Any) -> TitansForecaster:
        """Return a forecaster that needs no fit: its forecasts are those of a pretrained model.

        The model is a small Titans network in the package, which was trained on random series alone. It
        reads every variate by itself, up to 8192 rows of it, with missing values, and no covariates.
        :meth:`predict` and the other methods take any series X of one row or more, from which forecasts
        continue then; without X they continue the last one. Its season is that of its frequency, or the
        one that its values show. For searches of scikit-learn, which clone a forecaster, there is the
        same as ``preset="zero-shot"``. :meth:`fit` trains a network as usual, and blends the pretrained
        model's forecasts with its own.

        Parameters
        ----------
        prediction_length : int
            H, number of steps to forecast (default 24).
        **parameters
            Those of the class. `quantile_levels`, `target`, `item_id`, `timestamp` and `freq` count for
            forecasts without a fit, the others for :meth:`fit`.

        Examples
        --------
        >>> import numpy as np
        >>> forecaster = TitansForecaster.from_pretrained(8)
        >>> forecaster.predict(np.sin(np.arange(100) / 4)).shape
        (8,)
        """
        self = cls(prediction_length, **parameters)
        self._from_pretrained, self._calibration = True, None
        return self

    def _ready(self, X: Any, stream: bool = False) -> None:
        if self._from_pretrained and X is not None and not (stream and hasattr(self, "model_")):
            self._begin(X)
        super()._ready(X)

    def _begin(self, X: Any) -> None:
        """Let forecasts follow a series that nothing is fitted to."""
        if self.adapt:
            raise ValueError(
                "adapt is True, but forecasts without a fit do not learn; fit with "
                "preset='zero-shot', or set adapt=False"
            )
        windows = is_windows(X)
        if windows and len(X) == 0:
            raise ValueError("X is a batch of 0 windows; give at least one")
        panel = read_panel(X[0] if windows else X, self.roles, min_rows=1)
        self._follow(panel, len(panel.values) if windows else 1)

    def _follow(
        self, panel: Panel, context_length: int = 1, fitted: bool = False
    ) -> TitansForecaster:
        """Forecast a panel, or windows of a length, with the pretrained model alone.

        With `fitted`, this is the end of a fit.
        """
        predictor = self._without_fit(panel, context_length)
        if fitted:
            self._errors = self._learned_errors(predictor, panel, len(panel.values) // 2)
            self._from_pretrained, self._watched, self._calibration = False, None, None
            self._fitted_rows = None
        self._predictor, self.model_, self.history_ = predictor, predictor.network, []
        self._remember(panel)
        return self

    def _without_fit(self, panel: Panel, context_length: int) -> PanelPredictor:
        if ZERO_SHOT not in self.forecasters():
            raise ValueError(
                f"blend is {self.blend!r}, but the pretrained model is a part of the blend; leave it "
                "True, or fit"
            )
        config = dataclasses.replace(self.network_config(panel), context_length=context_length)
        with self._seeded():
            return without_fit(panel, config, self.options("model_options"))

    @property
    def _fitted_network(self) -> bool:
        """Whether a network was trained."""
        blend = self.predictor.blend
        return blend is None or blend.fitted

    def _calibrated(self, panel: Panel) -> Calibration:
        """Return the calibration of forecasts after a panel.

        With `adapt`, it is that of the latest corrected forecasts if the panel is the series that they
        continue; without a fit, that of its last forecasts.
        """
        if self._errors is not None and panel is self._tail:
            latest = self._errors.calibration()
            if latest is not None:
                return latest
        if self._calibration is None and not self._fitted_network:
            return calibrated(calibrate_last(self.predictor, self._tail))
        return calibrated(self._calibration)

    def fit_panel(self, panel: Panel, validation: Panel | None = None) -> TitansForecaster:
        """Like :meth:`fit`, for a panel; the last steps of `validation` choose the epoch."""
        forecasters = self.forecasters()
        self.check_adapt(panel)
        if not self.candidates():
            return self._follow(panel, fitted=True)
        config, size = self.network_config(panel), self.batch_size
        if size is None:
            size = default_batch_size(panel.n_targets)
        training = self._training_config(batch_size=size)
        run = begin_fit(self, X=_parts(panel), validation=_parts(validation))
        with self._seeded(None if run is None else run.seed()) as generator:
            fitted = fit_forecaster(
                panel,
                config,
                self.options("model_options"),
                training,
                generator,
                candidates=self.candidates(),
                validation=validation,
                blend=forecasters,
                progress_bar=self.progress_bar,
                trainer_kwargs=self._trainer_kwargs(),
                run=run,
            )
        fitted.predictor.network.to(self._device())
        calibration = fitted.calibration(panel)
        errors = self._learned_errors(fitted.predictor, panel, int(fitted.border[0]) - 1)
        # only now: a fit that fails leaves the estimator as it was
        self.model_, self.history_ = fitted.predictor.network, fitted.history
        self._predictor, self._calibration = fitted.predictor, calibration
        self._watched, self._from_pretrained, self._errors = None, False, errors
        self._fitted_rows = fitted_rows(panel)
        self._remember(panel, scaled=fitted.scaled.values)
        if run is not None:
            run.end()
        self._print_idle_memory()
        if self.progress_bar and self._predictor.blend is not None:
            tqdm.write(self._predictor.blend.summary(), file=sys.stderr)
        return self

    @keeps_series
    def predict(
        self,
        X: WindowsLike = None,
        known_covariates: SeriesLike | None = None,
        *,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
    ) -> Any:
        """Forecast the mean of the next `prediction_length` steps.

        Parameters
        ----------
        X : array [T, C] or [T], Series, DataFrame, or array [N, context_length, C], optional
            History of at least `context_length` rows (of one row without a fit), of which the last ones
            are read; or a batch of windows. Default: the fitted series. With covariates, X also needs
            their columns; those of an array are the C targets, then the past covariates, then the known
            ones.
        known_covariates : DataFrame or array [H, K] or [N, H, K], optional
            The known covariates of the steps to forecast, if the model was fitted with any: a frame in
            the form of X with their columns (later steps are ignored), or an array.
        horizon : int, optional
            Number of steps to forecast, in place of H (default: H). Without a fit, the pretrained model
            forecasts any number. A fitted model forecasts later steps than H from its own forecasts, and
            gives a warning, because their quantiles are too narrow.
        quantile_levels : sequence of float, optional
            Return these quantiles in place of the mean, see :meth:`predict_quantiles`.

        Returns
        -------
        array, Series or DataFrame
            `[H, C]` in the form of X; its index continues that of X. `[N, H, C]` for a batch of
            windows, a long frame for a long frame. A variate without an observed value in the fitted
            series is NaN.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X or known_covariates cannot be used.
        """
        if quantile_levels is not None:
            return self.predict_quantiles(
                X, known_covariates, horizon=horizon, quantile_levels=quantile_levels
            )
        if horizon is not None:
            panel, point, _ = self._forecast_steps(X, known_covariates, horizon, None)
            return panel.format_forecast(point)
        panel, known = self._read(X, known_covariates)
        return panel.format_forecast(self._forecast(panel, known)[0])

    @keeps_series
    def predict_quantiles(
        self,
        X: WindowsLike = None,
        known_covariates: SeriesLike | None = None,
        *,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
    ) -> Any:
        """Forecast the quantiles of the next `prediction_length` steps.

        Parameters
        ----------
        X, known_covariates, horizon : optional
            As for :meth:`predict`.
        quantile_levels : sequence of float, optional
            Levels between 0 and 1 (default: those of the fit). Others than those of the fit lie between
            the fitted quantiles, and beyond the outermost ones on a normal distribution through them.

        Returns
        -------
        array or DataFrame
            `[H, C, Q]` for an array, columns (variate, quantile) for a frame (a long one: its items and
            times are the index), `[N, H, C, Q]` for a batch of windows. Quantiles never cross.
        """
        if horizon is not None or quantile_levels is not None:
            levels = None if quantile_levels is None else _checked_levels(quantile_levels)
            panel, _, quantiles = self._forecast_steps(X, known_covariates, horizon, levels)
            return panel.format_levels(quantiles, levels or self.model_.config.quantile_levels)
        panel, known = self._read(X, known_covariates)
        _, quantiles = self._forecast(panel, known)
        return panel.format_levels(quantiles, self.model_.config.quantile_levels)

    @keeps_series
    def predict_interval(
        self,
        X: WindowsLike = None,
        coverage: float = 0.9,
        known_covariates: SeriesLike | None = None,
    ) -> Any:
        """Forecast an interval for every step that contains the given share of future values.

        It is the interval between the outermost quantiles, widened or narrowed for every step and variate
        according to the errors on the validation part, or on the rows given to :meth:`calibrate`. It
        contains the mean, which :meth:`predict` forecasts.

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
        check_interval(self.model_.config.quantile_levels)
        added = self._margins(panel, coverage)  # what is wrong with it is found before a forecast
        point, quantiles = self._forecast(panel, known)
        least = 0 if self.model_.output.counts else -np.inf
        ends = np.stack(widen(quantiles, added, point, least), -1)
        return panel.format_levels(ends, ("lower", "upper"), "bound")

    def interval_margins(self, coverage: float = 0.9) -> Array:
        """Return what :meth:`predict_interval` adds to both ends between the outermost quantiles.

        If the mean is beyond an end then, that end moves to it.

        Parameters
        ----------
        coverage : float
            Between 0 and 1 (default 0.9).

        Returns
        -------
        ndarray
            `[I, H, C]` for the I items that forecasts follow (one for a single series), in the units of
            the data. A negative margin narrows the interval.

        Raises
        ------
        ValueError
            If the model has fewer than two quantiles, or was never calibrated.
        """
        check_is_fitted(self, "model_")
        check_interval(self.model_.config.quantile_levels)
        return self._margins(self._tail, coverage)

    def _margins(self, panel: Panel, coverage: float) -> Array:
        """Return what is added to both ends of intervals after a panel, `[I, H, C]`."""
        _, spread = self.predictor.scales.of(panel)
        margins: Array = self._calibrated(panel).margin(coverage) * spread[:, None]
        return margins

    @keeps_series
    def sample(
        self,
        X: WindowsLike = None,
        n_samples: int = 100,
        known_covariates: SeriesLike | None = None,
        random_state: RandomState = None,
    ) -> Any:
        """Draw sample paths. Steps and variates are correlated as in past forecast errors.

        Every step has the forecast distribution. Beyond the outermost quantiles it is a normal
        distribution through them. The dependence of steps and variates comes from the errors on
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
        check_integer("n_samples", plain(n_samples), 1)
        panel, known = self._read(X, known_covariates)
        check_distribution(self.model_.config)
        levels = self._calibrated(panel).levels(panel.n_items, n_samples, random_state)
        drawn = self.predictor.sample(panel, known, self._state_before(panel), levels)
        return panel.format_samples(drawn + self._correction(panel)[:, None])

    @keeps_series
    def plot(
        self,
        X: WindowsLike = None,
        known_covariates: SeriesLike | None = None,
        *,
        item: Any = None,
        n_history: int = 168,
        max_variates: int = 8,
        interactive: bool = False,
    ) -> Any:
        """Draw the forecast after the last rows, with the area between its outermost quantiles.

        Parameters
        ----------
        X, known_covariates : optional
            As for :meth:`predict`. Without X, only the rows that a forecast needs are known.
        item : optional
            Which item of a long frame, or which window of a batch (default: the first one).
        n_history : int
            Number of rows before the forecast to show at most (default 168).
        max_variates : int
            Number of panels at most, one per variate (default 8).
        interactive : bool
            Whether to return a figure of plotly, to hover over and to zoom (default False).

        Returns
        -------
        Figure
            The figure of matplotlib or plotly, neither shown nor saved.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is needed and not installed.
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X or known_covariates cannot be used, or there is no such item.
        """
        from titans_ts.reporting.plots import draw_series

        check_integer("n_history", plain(n_history), 1)
        check_integer("max_variates", plain(max_variates), 1)
        panel, known = self._read(X, known_covariates)
        place = item_place(panel, item)
        point, quantiles = self._forecast(panel, known)
        bands = quantile_bands(quantiles, self.model_.config.quantile_levels, point)
        charts = forecast_charts(
            panel, point, bands, place, n_history=n_history, max_variates=max_variates
        )
        return draw_series(charts, panel.n_targets - len(charts), interactive=interactive)

    @keeps_series
    def calibrate(self, X: SeriesLike) -> TitansForecaster:
        """Calibrate :meth:`predict_interval` and :meth:`sample` on the latest forecasts of a series.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`: rows that were not fitted, preceded by one context window. The last 500
            forecasts are used, so repeated calls adapt the intervals. With `adapt`, :meth:`update` does
            this for forecasts after the series, and only those of another X use this calibration.
        """
        self._ready(X)
        config = self.model_.config
        L, H = config.context_length, config.prediction_length
        panel = self.predictor.read(X, L + H, self._tail)
        cuts = cutoffs(panel, L, H, 1, n_scores(config))
        calibration = calibrate(self.predictor, panel, cuts)
        if calibration is None:
            raise ValueError("X has no observed value to calibrate with; give rows with values")
        self._calibration = calibration
        return self

    @keeps_series
    def update(self, X: SeriesLike) -> TitansForecaster:
        """Append the next rows of the series; forecasts continue after them.

        With `stateful_windows`, the memory also learns: it reads the rows before the window of the next
        forecast, one window's length at a time. With `adapt`, the memory of forecast errors learns from
        every row. The weights do not change. Without either only the window moves. What is kept has a
        constant size, is saved with the model, and does not depend on how the rows are split over several
        calls.

        Parameters
        ----------
        X : array, Series or DataFrame
            In the form of the fitted series. It begins where that ended. A long frame may have some of
            the items only.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X cannot be used, or does not follow the series.
        """
        check_is_fitted(self, "model_")
        new = self.predictor.read(X, 1, self._tail)
        self.predictor.scaled(new)  # rows that cannot be scaled are refused here, not in a forecast
        panel = self._tail.followed_by(new)
        unread = self._unread.copy()
        place = [0] if self._tail.items is None else self._tail.items.get_indexer(new.items)
        unread[place] += np.diff(new.starts)
        predictor, errors = self.predictor, self._errors
        if errors is not None:
            errors = deepcopy(errors)  # an interruption leaves the stream as it was
            read_rows(errors, predictor, panel, len(self._tail.values))
        elif not self._fitted_network:  # the season may show in the rows now
            predictor = self._without_fit(panel, self.model_.config.context_length)
        self._predictor, self.model_, self._errors = predictor, predictor.network, errors
        self._remember(panel, self._state, unread=unread)
        return self

    @keeps_series
    def set_history(self, X: SeriesLike) -> TitansForecaster:
        """Replace the series that forecasts follow. The weights do not change.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`predict`, at least `context_length` rows.
        """
        self._ready(X)
        panel = self.predictor.read_history(X, self._tail)
        if panel.kind == "windows":
            raise ValueError("X is a batch of windows; give one series")
        self._tail.check_kind(panel)
        # rows that cannot be scaled are refused here, not in every forecast after them
        self.predictor.scaled(panel.tail(self.model_.config.context_length))
        if self._errors is not None:
            errors = begin(self._errors, panel, len(panel.values) - 1)
            read_rows(errors, self.predictor, panel, len(panel.values) - 1)
            self._errors = errors
        self._remember(panel)
        return self

    def reset_memory(self) -> TitansForecaster:
        """Return the memory to its learned initial state, and end the stream of :meth:`watch`.

        The rows that the next forecast reads are kept. With `adapt`, the memory of forecast errors is
        empty.
        """
        check_is_fitted(self, "model_")
        self._watched = None
        if self._errors is not None:
            last = len(self._tail.values) - 1
            season_length = int(self._errors.seasons[0])
            self._errors = learned(self.predictor, self._tail, last, season_length)
        self._state, length = None, self.model_.config.context_length
        self._unread = np.minimum(np.diff(self._tail.starts), length)
        self._tail = self._tail.tail(max(length, self._n_kept))
        return self

    @property
    def predictor(self) -> PanelPredictor:
        """The trained network with the scaling of its inputs and outputs."""
        return self._predictor

    @property
    def blend_(self) -> pd.DataFrame:
        """Weights and validation losses of the network and of the simple forecasters."""
        blend = self.predictor.blend
        weights, losses = ({}, {}) if blend is None else (blend.weights, blend.losses)
        names = list(losses or weights)  # without a validation part, no loss is known
        columns = {
            "weight": [weights.get(name, 0.0) for name in names],
            "loss": [losses.get(name, np.nan) for name in names],
        }
        index = pd.Index(names, name="forecast", dtype=object)
        return pd.DataFrame(columns, index, dtype=float)

    @property
    def mean_(self) -> Array:
        """Level of the training rows, `[C]`; of a long frame `[I, C]`."""
        return self.predictor.scales.by_item(self.predictor.scales.mean)

    @property
    def scale_(self) -> Array:
        """Deviation of the training rows, `[C]`; of a long frame `[I, C]`."""
        return self.predictor.scales.by_item(self.predictor.scales.spread)

    @property
    def freq_(self) -> Any:
        """Frequency of the fitted rows (an offset, or a whole number); None for an array."""
        return self._tail.freq

    @property
    def end_(self) -> Any:
        """Last time of the series that forecasts follow; of a long frame, a Series of items.

        It is None for an array, which has no times.
        """
        tail = self._tail
        if tail.index is None:
            return None
        last = tail.index[tail.starts[1:] - 1]
        return last[0] if tail.items is None else pd.Series(last, tail.items)

    def _read(
        self, X: Any, known_covariates: SeriesLike | None = None
    ) -> tuple[Panel, Tensor | None]:
        """Read and check all that a forecast needs, before anything is computed."""
        check_arguments(X, known_covariates)
        self._ready(X)
        panel = self.predictor.read_history(X, self._tail)
        return panel, self.predictor.read_known(known_covariates, panel)

    def _remember(
        self, panel: Panel, state: Any = None, scaled: Any = None, unread: Any = None
    ) -> None:
        """Keep the memory's state, and the last rows of a series that a forecast needs.

        The last `unread` `[I]` rows come after the state (default: all).
        """
        self._state, left = self.predictor.consume(panel, state, scaled, unread)
        self._unread = np.minimum(np.diff(panel.starts), left)
        self._tail = panel.tail(np.maximum(left, self._n_kept))
        self._name_features(panel)

    @property
    def _n_kept(self) -> int:
        """Number of rows that are kept for what reads more than the network."""
        if self._errors is None:
            return self.predictor.blend_rows
        return max(self.predictor.blend_rows, WINDOW, self.model_.config.prediction_length)

    def _learned_errors(
        self, predictor: PanelPredictor, panel: Panel, first: int
    ) -> ErrorMemory | None:
        """With `adapt`, return a memory of the errors of forecasts of the rows from `first` on."""
        if not self.adapt:
            return None
        last = len(panel.values) - 1
        first = max(min(first, last), last - _MOST_ROWS)
        return learned(predictor, panel, first, season_of_panel(panel))

    def _forecast(self, panel: Panel, known: Tensor | None) -> tuple[Array, Array]:
        """Return the means and quantiles after a panel, corrected."""
        point, quantiles = self.predictor.forecast(panel, known, self._state_before(panel))
        added = self._correction(panel)
        return point + added, quantiles + added[..., None]

    def _forecast_steps(
        self,
        X: Any,
        known_covariates: Any,
        horizon: int | None,
        levels: tuple[float, ...] | None,
    ) -> tuple[Panel, Array, Array]:
        """Return a history, and means and quantiles of any number of steps and levels after it."""
        check_arguments(X, known_covariates)
        self._ready(X)
        panel, predictor = self.predictor.read_history(X, self._tail), self.predictor
        length = self.model_.config.prediction_length
        if horizon is not None:
            check_integer("horizon", plain(horizon), 1)
        steps = length if horizon is None else int(horizon)
        if levels is not None:
            check_distribution(self.model_.config)
        known = read_known(known_covariates, panel, steps)
        if steps > length and panel.kind == "windows":
            raise ValueError(
                f"horizon is {steps}, but X is a batch of windows, for which the model forecasts "
                f"{length} steps; give one series, or leave horizon out"
            )
        if steps > length and not self._fitted_network:
            other = type(self)(**self.get_params(deep=False) | {"prediction_length": steps})
            predictor, length = other._without_fit(panel, self.model_.config.context_length), steps
        elif steps > length:
            warn_longer(steps, length)

        def forecast(history: Panel, ahead: Array | None) -> tuple[Array, Array]:
            scaled = None
            if ahead is not None:
                scaled = torch.from_numpy(predictor.scales.covariates(ahead).astype(np.float32))
            state = self._state_before(history)
            point, quantiles = predictor.forecast(history, scaled, state)
            if levels is not None:
                shape = (history.n_items, len(levels), *point.shape[1:])
                chosen = np.broadcast_to(np.array(levels)[:, None, None], shape).copy()
                drawn = predictor.sample(history, scaled, state, chosen)  # [I, Q, H, C]
                quantiles = np.moveaxis(drawn, 1, -1)
            if self._errors is not None and history is self._tail:
                added = np.zeros((1, *point.shape[1:]))
                corrected = self._correction(history)[:, : point.shape[1]]
                added[:, : corrected.shape[1]] = corrected
                point, quantiles = point + added, quantiles + added[..., None]
            return point, quantiles

        return panel, *rolled(forecast, panel, known, length, steps)

    def _facts(self) -> dict[str, str]:
        return facts(self._tail, self.model_.config, self.blend_, fitted=self._fitted_network)

    def _correction(self, panel: Panel) -> Array:
        """What is added to a forecast of a panel, `[1, H, C]`: zero unless it continues the series."""
        config = self.model_.config
        if self._errors is None or panel is not self._tail:
            return np.zeros((1, config.prediction_length, config.n_variates))
        return self._errors.correction()[None]

    def _name_features(self, panel: Panel) -> None:
        self.n_features_in_ = panel.n_targets
        if panel.feature_names is not None:
            self.feature_names_in_ = panel.feature_names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _state_before(self, panel: Panel) -> Any:
        """The memory's state before the last window of a panel."""
        if panel is self._tail:
            return self._state
        return None if panel.kind == "windows" else self.predictor.consume(panel)[0]

    def _portable(self, **options: Any) -> Any:
        from titans_ts.forecasting.portable import portable_forecaster

        return portable_forecaster(self.predictor, self._tail)

    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        fitted, tensors = pack(
            FittedParts(
                self.predictor,
                self._tail,
                self._unread,
                self._state,
                self._calibration,
                self._watched,
                self._errors,
                self._fitted_rows,
            )
        )
        return fitted | {"from_pretrained": self._from_pretrained}, tensors

    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        self.model_ = ForecastingModel(from_dict(ForecasterConfig, model))
        parts = unpack(self.model_, fitted, tensors, self._device())
        self._predictor, self._tail, self._unread = parts.predictor, parts.tail, parts.unread
        self._state, self._calibration = parts.state, parts.calibration
        self._watched, self._errors = parts.watched, parts.errors
        self._fitted_rows = parts.fitted_rows
        self._from_pretrained = fitted.get("from_pretrained", False)
        self._name_features(self._tail)

    def _try_restored(self) -> None:
        """Forecast once, so that parts that do not fit are found when a model is loaded."""
        panel, names = self._tail, self.predictor.roles.known_covariates
        if self._state is None:  # some items of a large panel
            first, end = panel.spans.T
            panel = panel.head(np.where(np.arange(len(end)) < _TRIED, end, first))
        zeros = np.zeros((panel.n_items, self.model_.config.prediction_length, len(names)))
        known = self.predictor.read_known(zeros if names else None, panel)
        point, _ = self.predictor.forecast(panel, known, self._state)
        panel.format_forecast(point)


def _checked_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Return quantile levels as floats, in ascending order."""
    try:
        found = sorted({float(level) for level in levels})
    except (TypeError, ValueError):
        found = []
    if not found or not all(0 < level < 1 for level in found):
        raise ValueError(f"quantile_levels is {levels!r}; give numbers between 0 and 1")
    return tuple(found)


def _parts(panel: Panel | None) -> list[Any]:
    """Return what a fit reads of a panel."""
    return [] if panel is None else [panel.values, panel.spans, panel.static, str(panel.freq)]
