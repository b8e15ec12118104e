"""Estimators with scikit-learn's interface."""

from titans_ts.estimators.classifier import TitansClassifier
from titans_ts.estimators.forecaster import TitansForecaster
from titans_ts.estimators.regressor import TitansRegressor
from titans_ts.estimators.surprise import letter_surprise

__all__ = ["TitansClassifier", "TitansForecaster", "TitansRegressor", "letter_surprise"]
