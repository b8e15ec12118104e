"""Forecasting and sequence classification on Titans backbones, whose memory learns while it reads.

`TitansForecaster` and `TitansClassifier` are estimators with scikit-learn's interface;
`titans_ts.nn` holds the layers, `titans_ts.kernels` the memory as pure functions,
`titans_ts.datasets` the data and `titans_ts.pipelines` the command line.
"""

from importlib.metadata import PackageNotFoundError, version

from titans_ts.estimators import TitansClassifier, TitansForecaster

__all__ = ["TitansClassifier", "TitansForecaster", "__version__"]

try:
    __version__ = version("titans-ts")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0.0.0"
