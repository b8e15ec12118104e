"""Search for good parameters, stop, and continue the search later.

`TitansSearch` (`pip install "titans-ts[tuning]"`) is a scikit-learn meta-estimator around an Optuna
study. The first trial has the estimator's own parameters. The study is in a file, so the second search
below continues the first one; other processes or machines could take part at the same time.

    python examples/07_tuning.py
"""

import tempfile
from pathlib import Path

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution

from titans_ts import TitansForecaster, TitansSearch
from titans_ts.datasets import make_series


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    frame = make_series(400, 1, seasons=(12,), regime_changes=0, random_state=2)
    # too slow a learning rate on purpose: the search has something to find
    estimator = TitansForecaster(
        12, 36, blend=False, learning_rate=1e-5, max_epochs=6, random_state=0, progress_bar=False
    )
    space = {
        "learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
        "d_model": CategoricalDistribution([16, 32, 64]),
    }
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder) / "study.log"  # or "sqlite:///study.db", "postgresql+psycopg://..."
        settings = {"scoring": "mae", "storage": storage, "random_state": 0, "progress_bar": False}
        TitansSearch(estimator, space, n_trials=3, **settings).fit(frame)
        search = TitansSearch(estimator, space, n_trials=8, **settings).fit(frame)

    errors = -search.cv_results_["mean_test_score"]
    print(f"{len(errors)} trials, 3 of them from the first run")
    print(f"mean absolute error of the estimator's own parameters: {errors[0]:.3f}")
    print(f"of the best ones: {errors[search.best_index_]:.3f}, with {search.best_params_}")
    print(f"lower by {1 - errors[search.best_index_] / errors[0]:.0%}")
    print(
        search.predict().tail(2).round(2).to_string()
    )  # by the best estimator, fitted to all rows


if __name__ == "__main__":
    main()
