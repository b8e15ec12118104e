"""Search for an estimator's parameters: Optuna behind scikit-learn's interface."""

try:
    import optuna as _  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("a search needs optuna: pip install 'titans-ts[tuning]'") from error

from titans_ts.tuning.search import TitansSearch
from titans_ts.tuning.spaces import default_space

__all__ = ["TitansSearch", "default_space"]
