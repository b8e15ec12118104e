"""Use a Titans forecaster in GluonTS, beside one of its own models.

GluonTS (`pip install "titans-ts[gluonts]"`) has data sets, models and an evaluation of its own.
`TitansEstimator` trains on its data sets; here it and GluonTS' seasonal naive forecast are evaluated by
the same code on the last days of eight series.

    python examples/06_gluonts_backtest.py
"""

import warnings

import torch

from titans_ts.datasets import make_series

with warnings.catch_warnings():  # GluonTS uses names that pandas and pydantic will drop
    warnings.simplefilter("ignore")
    from gluonts.dataset.split import split
    from gluonts.ev.metrics import MASE, MeanWeightedSumQuantileLoss
    from gluonts.model.evaluation import evaluate_model
    from gluonts.model.seasonal_naive import SeasonalNaivePredictor

    from titans_ts.forecasting.gluonts import TitansEstimator, to_dataset

HORIZON, WINDOWS = 24, 4


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    frame = make_series(700, 8, seasons=(24,), regime_changes=0, random_state=1)
    entries = to_dataset(frame)  # an entry per column
    training, test = split(entries, offset=-HORIZON * WINDOWS)
    pairs = test.generate_instances(HORIZON, windows=WINDOWS)

    estimator = TitansEstimator(HORIZON, max_epochs=4, random_state=0, progress_bar=False)
    models = {
        "titans": estimator.train(training),
        "seasonal naive": SeasonalNaivePredictor(HORIZON, season_length=24),
    }
    scores = {}
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = evaluate_model(
                model,
                test_data=pairs,
                metrics=[MASE(), MeanWeightedSumQuantileLoss([0.1, 0.5, 0.9])],
                seasonality=24,
            )
        scores[name] = table.iloc[0]
        values = ", ".join(f"{metric} {value:.3f}" for metric, value in scores[name].items())
        print(f"{name}: {values}")
    change = 1 - scores["titans"].iloc[0] / scores["seasonal naive"].iloc[0]
    print(f"the MASE of titans is {change:.0%} lower")


if __name__ == "__main__":
    main()
