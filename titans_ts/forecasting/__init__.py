"""Forecasting: the estimator for time series and its parts."""

from titans_ts.forecasting.backtest import Backtest
from titans_ts.forecasting.forecaster import TitansForecaster

__all__ = ["Backtest", "TitansForecaster"]
