"""The effect of known-future covariates: electricity prices a day ahead.

    python benchmarks/covariates.py                 # five markets, one thread
    python benchmarks/covariates.py --markets NP --seeds 3

The data are the sets of Lago et al. (2021) as TimeXer uses them: the price, and two forecasts of load,
generation or wind that are known a day ahead. A week of history predicts 24 hours. The parts are
70/10/20 per cent in order of time, z-scored with the train rows; every window of the test part counts.
One model uses the covariates, the other does not.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from record import data_file, record

from titans_ts import TitansForecaster
from titans_ts.datasets import ratio_split

MARKETS = ("NP", "PJM", "BE", "FR", "DE")
LENGTH, HORIZON = 168, 24
SETTINGS = {
    "patch_length": 24,
    "patch_stride": 24,
    "n_layers": 1,
    "model_options": {"dropout": 0.2, "head_dropout": 0.2},
    "batch_size": 128,
    "learning_rate": 2e-3,
    "max_epochs": 12,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--markets", nargs="+", default=list(MARKETS), choices=MARKETS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batches", type=int, default=100, help="maximum steps per epoch")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    command = (
        f"python benchmarks/covariates.py --markets {' '.join(args.markets)} "
        f"--seeds {args.seeds} --batches {args.batches}"
    )
    rows = []
    for market in args.markets:
        for seed in range(args.seeds):
            rows.append(run(market, seed, args.batches))
            print(rows[-1], flush=True)
            path = record("covariates-epf", command, rows)
    saved = 1 - np.mean([r["with_mae"] / r["without_mae"] for r in rows])
    print(f"with covariates the MAE is {saved:.1%} lower on average")
    print(path)


def run(market: str, seed: int, n_batches: int) -> dict[str, Any]:
    """Train and evaluate both models."""
    frame = load(market)
    split = ratio_split(len(frame), 0.7, 0.1, 0.2)
    row: dict[str, Any] = {"market": market, "seed": seed}
    test = frame.iloc[split.test.start - LENGTH :]
    for name, covariates in (("without", []), ("with", ["x1", "x2"])):
        forecaster = TitansForecaster(
            HORIZON,
            LENGTH,
            target="price",
            known_covariates=covariates,
            training_options={
                "validation_fraction": (split.validation.stop - split.train.stop)
                / split.validation.stop,
                "trainer_kwargs": {"limit_train_batches": n_batches},
            },
            random_state=seed,
            progress_bar=False,
            **SETTINGS,
        )
        start = time.perf_counter()
        forecaster.fit(frame.iloc[: split.validation.stop])
        row[f"{name}_seconds"] = round(time.perf_counter() - start)
        backtest = forecaster.backtest(test, stride=1, season_length=HORIZON, progress_bar=False)
        errors = backtest.metrics()
        scale = forecaster.scale_[0]
        row[f"{name}_mae"] = round(float(errors["mae"]["titans"] / scale), 4)
        row[f"{name}_mse"] = round(float(errors["mse"]["titans"] / scale**2), 4)
        row["naive_mae"] = round(float(errors["mae"]["seasonal_naive"] / scale), 4)
    row["lower"] = round(1 - row["with_mae"] / row["without_mae"], 3)
    return row


def load(market: str) -> pd.DataFrame:
    """Read hourly prices and two covariates `[T, 3]`."""
    path = data_file(f"epf/{market}.csv.gz")
    frame = pd.read_csv(path).set_axis(["date", "x1", "x2", "price"], axis=1)
    return frame.set_index(pd.to_datetime(frame.pop("date"))).asfreq("h")


if __name__ == "__main__":
    main()
