"""Estimators with scikit-learn's interface."""

from titans_ts.estimators.classifier import TitansClassifier
from titans_ts.estimators.forecaster import TitansForecaster
from titans_ts.estimators.regressor import TitansRegressor

__all__ = ["TitansClassifier", "TitansForecaster", "TitansRegressor"]
