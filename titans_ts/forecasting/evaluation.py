"""Evaluation methods of a forecaster: backtests, scores, surprise and anomalies."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from titans_ts.config import check_integer
from titans_ts.estimator import plain
from titans_ts.forecasting.anomalies import Anomalies, anomaly_frame, rarity, score_threshold
from titans_ts.forecasting.backtest import Backtest, rolling_backtest, rolling_r2
from titans_ts.forecasting.blend import ZERO_SHOT
from titans_ts.forecasting.columns import is_windows
from titans_ts.forecasting.cutoffs import cutoffs
from titans_ts.forecasting.error_memory import ErrorMemory, begin, read_rows
from titans_ts.forecasting.fitted_rows import FittedRows, n_fitted
from titans_ts.forecasting.frequency import usual_season
from titans_ts.forecasting.metrics import (
    mean_absolute_error,
    mean_squared_error,
    weighted_quantile_loss,
)
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.parameters import ForecasterParameters
from titans_ts.forecasting.parse import read_panel
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.pretrained import other_model, pretrained_model
from titans_ts.forecasting.rollback import keeps_series
from titans_ts.forecasting.watch import Watched, watch
from titans_ts.nn.memory_use import has_memory
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.types import SeriesLike

__all__ = ["ForecasterEvaluation"]

Array = NDArray[np.float64]
_OUTSIDE = 3
"""Calls between a warning and the code of the user: the method and its wrapper."""


class ForecasterEvaluation(ForecasterParameters):
    """The evaluation methods of :class:`TitansForecaster`."""

    model_: ForecastingModel
    _tail: Panel
    _watched: Watched | None = None
    _fitted_rows: FittedRows | None = None
    """The rows that a network was fitted to; None if there is none, or an old file does not tell."""
    _errors: ErrorMemory | None = None
    """With `adapt`, the memory of forecast errors after the last row."""
    _from_pretrained = False
    """Whether any X is forecast by the pretrained model, without a fit."""

    @property
    @abstractmethod
    def predictor(self) -> PanelPredictor:
        """The trained network with the scaling of its inputs and outputs."""

    @abstractmethod
    def fit_panel(self, panel: Panel, validation: Panel | None = None) -> Any:
        """Train on the windows of a panel."""

    def _ready(self, X: Any, stream: bool = False) -> None:
        """Raise NotFittedError unless X can be read; with `stream`, it continues what was read."""
        check_is_fitted(self, "model_")

    @keeps_series
    def score(self, X: SeriesLike, y: object = None) -> float:
        """Return R^2 of the forecasts of every window of X, averaged over the variates and items.

        Parameters
        ----------
        X : array, Series or DataFrame
            At least `context_length + prediction_length` rows.
        y : None
            Ignored.
        """
        self._ready(X)
        config = self.model_.config
        min_rows = config.context_length + config.prediction_length
        return rolling_r2(self.predictor, self.predictor.read(X, min_rows, self._tail))

    @keeps_series
    def backtest(
        self,
        X: SeriesLike,
        *,
        stride: int | None = None,
        n_windows: int | None = None,
        season_length: int | None = None,
        refit: int | None = None,
        progress_bar: bool | None = None,
    ) -> Backtest:
        """Compare rolling forecasts of a series with the observed values and with baselines.

        Every forecast uses only the rows before it. With `stateful_windows` the memory keeps learning;
        the weights do not change, unless `refit` is given. The baselines are the naive, seasonal naive
        and drift forecasts. Without `refit`, forecasts of rows that the model was fitted to look too
        good: pass new rows preceded by one context window. A warning counts such forecasts, where dates,
        or the values of the last fitted rows, tell them.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`, at least `context_length + prediction_length` rows.
        stride : int, optional
            Number of rows between two forecasts (default: `prediction_length`).
        n_windows : int, optional
            Number of forecasts, counted from the end of the series (default: all).
        season_length : int, optional
            Number of steps in a season, for the seasonal naive forecast and the MASE (default: the
            usual one of the frequency).
        refit : int, optional
            Number of forecasts between two fits. Each fit uses the rows before the next forecast
            (default: the model is not fitted again).
        progress_bar : bool, optional
            Whether to show a progress bar (default: as given to the estimator).

        Returns
        -------
        Backtest
            Its `metrics(by=...)` returns the errors, and `frame()` the forecasts.

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
                check_integer(name, plain(value), 1)
        if refit is None:
            self._ready(X)
            config = self.model_.config
        else:
            config = self.network_config()
        H = config.prediction_length
        min_rows = config.context_length + H
        if refit is None:
            panel = self.predictor.read(X, min_rows, self._tail)
        else:
            panel = read_panel(X, self.roles, min_rows=min_rows)
        min_history = config.context_length
        if refit is not None:  # a window to train on
            min_history = self.network_config(panel).context_length + H
        cuts = cutoffs(panel, min_history, H, stride or H, n_windows)
        timed = isinstance(panel.freq, pd.offsets.BaseOffset)
        show = self.progress_bar if progress_bar is None else progress_bar

        def forecast(some: NDArray[np.int64]) -> tuple[Array, Array]:
            if refit is None:
                return self._rolling(panel, some, progress_bar=show)
            bar.update()
            fresh = clone(self).set_params(progress_bar=False).fit_panel(panel.before(some[0]))
            forecasts: tuple[Array, Array] = fresh._rolling(panel, some)
            return forecasts

        known = 0
        if refit is None and self._fitted_rows is not None:
            known = n_fitted(self._fitted_rows, self.predictor.scales.items, panel, cuts)
        with tqdm(desc="backtest", disable=not show or refit is None) as bar:
            backtest = rolling_backtest(
                panel,
                cuts,
                config,
                forecast,
                season=season_length or usual_season(panel.freq if timed else None),
                stride=stride or H,
                refit=refit,
                n_fitted=known,
            )
        if known:
            warnings.warn(backtest.fitted_note(), UserWarning, stacklevel=_OUTSIDE)
        return backtest

    def _rolling(
        self, panel: Panel, cuts: NDArray[np.int64], progress_bar: bool = False
    ) -> tuple[Array, Array]:
        """Forecast from the rows `cuts` of a panel; with `adapt`, learn from every row on the way."""
        if self._errors is None:
            return self.predictor.rolling(panel, cuts, progress_bar=progress_bar)
        config, begins = self.model_.config, int(cuts.min()) - 1
        first = max(min(config.context_length - 1, begins), begins - 2 * config.prediction_length)
        errors = begin(self._errors, panel, first)
        seen = panel.head(np.array([cuts.max()]))
        point, quantiles, added = read_rows(errors, self.predictor, seen, first, cuts[:, 0])
        return (point + added)[:, None], (quantiles + added[..., None])[:, None]

    @keeps_series
    def surprise(self, X: SeriesLike, *, memory: str = "series") -> Any:
        """How unexpected every value of a series was to a memory that reads it from the beginning.

        With "series" (default), a memory for each variate reads the values as they are. It begins empty,
        learns only from this series, and predicts every value from those before it, from one step and
        from up to `context_length` steps back. The surprise is the absolute error in *usual errors*: 1 is
        the mean of this stream so far, 6 is six times as much. It can therefore be compared over time,
        between series and between models, and does not change when the series is multiplied. The neural
        network has no part in it. :meth:`watch` continues a stream.

        With "network", the momentary surprise of arXiv 2501.00663, equation 8, in the network's blocks:
        the norm of the gradient of their memories' loss, averaged over blocks, heads and the patches that
        contain a step. It has no unit and cannot be compared, and rows up to one window later have an
        influence. It is for those who study the network.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`, of any length.
        memory : {"series", "network"}
            Which memory.

        Returns
        -------
        array, Series or DataFrame
            `[T, C]` in the form of X; NaN where a value (with "network": a whole patch) is missing. A
            missing value is absent: the others have the surprise that they would have without it.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X or a parameter cannot be used.
        """
        self._ready(X)
        if memory not in ("series", "network"):
            raise ValueError(f"memory is {memory!r}; choose 'series' or 'network'")
        if memory == "network" and not has_memory(self.model_):
            raise ValueError(
                "memory is 'network', but no network with a memory was fitted; choose 'series', or fit "
                "with a variant, for instance 'mac'"
            )
        panel = self.predictor.read(X, 1, self._tail)
        if memory == "network":
            return panel.format_rows(self.predictor.network_surprise(panel))
        return panel.format_rows(watch(panel, self.model_.config.context_length)[0])

    @contextmanager
    def _with_memory(self, X: Any) -> Iterator[tuple[Any, tuple[str | None, int]]]:
        self._ready(X)
        blend = self.predictor.blend
        if has_memory(self.model_) or blend is None or ZERO_SHOT not in blend.weights:
            with super()._with_memory(X) as found:
                yield found
            return
        # that of the package may be forecasting in another thread
        model = deepcopy(pretrained_model(blend.pretrained))
        with other_model(model):
            yield model, ("steps", model.config.patch_length)

    def _scores_of(self, X: Any, y: Any) -> dict[str, float]:
        """Errors of the forecasts of a backtest of a series, or after a batch of windows."""
        if not is_windows(X):
            alone = copy(self)
            alone._errors = None  # it would repair what the model's own memory lacks
            alone._fitted_rows = None  # compared with itself alone, so fitted rows do not matter
            errors = alone.backtest(X, progress_bar=False).metrics().loc["titans"]
            return {name: float(errors[name]) for name in ("mase", "mse", "wql")}
        config = self.model_.config
        if config.n_known:
            raise ValueError(
                "X is a batch of windows, but the model needs the known covariates of the steps after "
                "them; give a series"
            )
        panel = self.predictor.read_history(X, self._tail)
        point, quantiles = self.predictor.forecast(panel, None, None)
        if y is None:
            return {}
        actual = np.asarray(y, dtype=np.float64)
        if actual.shape != point.shape:
            raise ValueError(
                f"y has shape {actual.shape}; for these windows, give the steps after them, "
                f"{point.shape}, or None"
            )
        return {
            "mse": float(mean_squared_error(actual, point)),
            "mae": float(mean_absolute_error(actual, point)),
            "wql": float(weighted_quantile_loss(actual, quantiles, config.quantile_levels)),
        }

    @property
    def _token_unit(self) -> tuple[str | None, int]:
        config = self.model_.config
        return (None if config.tokens == "variate" else "steps"), config.patch_stride

    @keeps_series
    def watch(self, X: SeriesLike) -> Any:
        """Return the :meth:`surprise` of the next rows of a stream, and keep what follows rows need.

        The first call begins the stream, wherever that is; every further one continues it. However the
        rows are split over calls, the surprise is the same. What is kept has a constant size and is
        saved with the model; :meth:`reset_memory` and :meth:`fit` end the stream. Forecasts do not
        depend on it: they continue after :meth:`update`.

        Parameters
        ----------
        X : array, Series or DataFrame
            In the form of the fitted series; of a long frame, any items, new ones included.

        Returns
        -------
        array, Series or DataFrame
            `[T, C]` in the form of X, in usual errors; NaN where a value is missing.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X cannot be used, or begins before the last row that was watched.

        Examples
        --------
        >>> import numpy as np
        >>> from titans_ts import TitansForecaster
        >>> X = np.random.default_rng(0).normal(size=(300, 1))
        >>> X[250] += 12
        >>> forecaster = TitansForecaster(
        ...     prediction_length=8, context_length=32, d_model=16, n_heads=2, n_layers=1,
        ...     max_epochs=1, random_state=0, progress_bar=False,
        ... ).fit(X[:200])
        >>> before, after = forecaster.watch(X[:240]), forecaster.watch(X[240:])
        >>> int(after.argmax())
        10
        """
        self._ready(X, stream=True)
        panel = self.predictor.read(X, 1, self._tail)
        length = self.model_.config.context_length
        surprise, self._watched = watch(panel, length, self._watched)
        return panel.format_rows(surprise)

    @keeps_series
    def detect_anomalies(
        self,
        X: SeriesLike,
        *,
        score: str = "both",
        risk: float = 1e-3,
        method: str = "quantile",
        reference: SeriesLike | None = None,
    ) -> Anomalies:
        """Find unusual values of a series.

        Parameters
        ----------
        X : array, Series or DataFrame
            As for :meth:`fit`, at least `context_length + prediction_length` rows.
        score : {"both", "error", "surprise"}
            "error" is the absolute error of the forecast one step ahead, in deviations of the fitted
            rows. "surprise" is that of a memory that reads X, in usual errors, see :meth:`surprise`; it
            needs no forecast. "both" (default) is how rare the rarer of the two is, in powers of ten: 3
            is one usual value in a thousand.
        risk : float
            Share of usual values that may be called anomalies (default 0.001).
        method : {"quantile", "evt"}
            How the threshold follows from the risk: "quantile" (default) takes the empirical quantile,
            "evt" (extreme value theory) is for small risks.
        reference : array, Series or DataFrame, optional
            A series of usual values that each variate's threshold is computed from, and with "both" the
            rarity (default: X itself).

        Returns
        -------
        Anomalies
            A DataFrame with a row per value: `item_id` (of a long frame), `timestamp` (the row's number
            for an array), `variate`, `value`, `score`, `threshold` and `anomaly`. Its `plot()` draws
            them. The first `context_length` rows have no error, and a missing value has no score.
        """
        self._ready(X)
        parts = {"both": ("error", "surprise")}.get(score, (score,))
        if not set(parts) <= {"error", "surprise"}:
            raise ValueError(f"score is {score!r}; choose 'both', 'error' or 'surprise'")
        panel, found = self._scores(X, parts)
        if any(np.isnan(scores).all() for scores in found):
            raise ValueError(
                f"X has no value to score: an error needs {self.model_.config.context_length} rows of "
                "history before it"
            )
        known = found if reference is None else self._scores(reference, parts)[1]
        if score == "both":
            scores, usual = (
                np.maximum(*(rarity(s, k) for s, k in zip(some, known, strict=True)))
                for some in (found, known)
            )
        else:
            (scores,), (usual,) = found, known
        thresholds = [score_threshold(column, risk, method) for column in usual.T]
        return anomaly_frame(panel, scores, thresholds)

    def _scores(self, X: Any, parts: tuple[str, ...]) -> tuple[Panel, list[Array]]:
        """Return the anomaly scores `[N, C]` of the rows of X; NaN where a value is missing."""
        config = self.model_.config
        panel = self.predictor.read(X, config.context_length + config.prediction_length, self._tail)
        compute: dict[str, Callable[[Panel], Array]] = {
            "error": self.predictor.one_step_errors,
            "surprise": lambda panel: watch(panel, config.context_length)[0],
        }
        return panel, [compute[part](panel) for part in parts]
