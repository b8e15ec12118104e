"""Follow a stream whose pattern drifts, and let the forecasts keep learning.

With `adapt=True`, a memory of forecast errors reads every row that arrives. As soon as the steps of a
forecast are known, it learns their errors, and corrects the next forecasts. Here, the load of a machine
slowly gets an additional peak that the model has not seen in training. The same model without this
memory forecasts the same rows.

    python examples/03_stream_with_drift.py
"""

import numpy as np
import pandas as pd
import torch

from titans_ts import TitansForecaster

HORIZON, TRAINING = 12, 800


def make_load(n: int = 1600, seed: int = 0) -> pd.DataFrame:
    """Hours of a load with a daily pattern, to which a peak of 17 hours is added after a while."""
    rng = np.random.default_rng(seed)
    hour = np.arange(n)
    added = np.clip((hour - TRAINING) / 400, 0, 1)  # grows over 400 hours
    load = 10 + 3 * np.sin(2 * np.pi * hour / 24) + 3 * added * (hour % 17 < 3)
    load += 0.3 * rng.normal(size=n)
    index = pd.date_range("2024-01-01", periods=n, freq="h", name="time")
    return pd.DataFrame({"load": load}, index=index)


def main() -> None:
    torch.set_num_threads(1)  # more threads than free cores is slower, not faster
    frame = make_load()
    errors = {}
    for adapt in (True, False):
        forecaster = TitansForecaster(
            HORIZON, 48, adapt=adapt, max_epochs=2, random_state=0, progress_bar=False
        )
        forecaster.fit(frame.iloc[:TRAINING])

        # Rows arrive a few at a time; every forecast is compared with what comes next.
        squared = []
        for start in range(TRAINING, len(frame) - HORIZON, HORIZON):
            rows = frame.iloc[start : start + HORIZON]
            squared.append((forecaster.predict().to_numpy() - rows.to_numpy()) ** 2)
            forecaster.update(rows)
        errors[adapt] = np.mean(squared[len(squared) // 2 :])  # the second half of the stream

    print(f"{len(squared)} forecasts of {HORIZON} hours while the stream arrives")
    print(f"mean squared error of the second half, learning on: {errors[True]:.3f}")
    print(f"mean squared error of the second half, as fitted: {errors[False]:.3f}")
    print(f"what is learned from the stream lowers it by {1 - errors[True] / errors[False]:.0%}")


if __name__ == "__main__":
    main()
