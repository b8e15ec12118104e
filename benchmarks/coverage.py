"""Coverage of prediction intervals on the test part.

    python benchmarks/coverage.py --datasets ETTh1 weather

There is one model per data set. It forecasts 96 steps from 96, with standard borders and a nominal
coverage of 8 out of 10 values. The intervals are uncalibrated (10 % to 90 % quantile), calibrated once
on the validation part, or adaptive: calibrated on the latest 500 forecasts whose values are known.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from record import record

from titans_ts import TitansForecaster
from titans_ts.datasets import literature_split, load_dataset

LENGTH, HORIZON, PROMISED, MEMORY = 96, 96, 0.8, 500
SETTINGS = {
    "patch_length": 16,
    "patch_stride": 8,
    "n_layers": 1,
    "model_options": {"dropout": 0.3, "head_dropout": 0.4},
    "batch_size": 32,
    "max_epochs": 8,
}
STRIDE = {"weather": 6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", nargs="+", default=["ETTh1", "weather"])
    parser.add_argument("--batches", type=int, default=100, help="maximum steps per epoch")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for dataset in args.datasets:
        rows.append(run(dataset, args.batches))
        print(rows[-1], flush=True)
        command = f"python benchmarks/coverage.py --datasets {' '.join(args.datasets)}"
        path = record("coverage", command, rows)
    print(path)


def run(dataset: str, n_batches: int) -> dict[str, Any]:
    """Return the coverage on the test part, and widths in standard deviations."""
    values = load_dataset(dataset).to_numpy()
    values = np.where(values == -9999, np.nan, values)  # weather's sentinel is missing data
    split, stride = literature_split(dataset, len(values)), STRIDE.get(dataset, 1)
    forecaster = TitansForecaster(
        HORIZON,
        LENGTH,
        training_options={
            "validation_fraction": (split.validation.stop - split.train.stop)
            / split.validation.stop,
            "trainer_kwargs": {"limit_train_batches": n_batches, "limit_val_batches": 40},
        },
        random_state=0,
        progress_bar=False,
        **SETTINGS,
    ).fit(values[: split.validation.stop])
    # adaptive intervals are first calibrated on the windows before the test part
    n_windows = (split.test.stop - split.test.start - HORIZON) // stride + 1
    first = split.test.start - MEMORY * stride - LENGTH
    backtest = forecaster.backtest(
        values[first : split.test.stop],
        stride=stride,
        n_windows=n_windows + MEMORY,
        season_length=24,
    )
    actual = backtest.actual[MEMORY:]
    raw = backtest.quantiles[MEMORY:, ..., 0], backtest.quantiles[MEMORY:, ..., -1]
    first_row = backtest.cutoffs[MEMORY:, 0, None] - LENGTH + np.arange(LENGTH)
    ends = forecaster.predict_interval(values[first:][first_row], PROMISED)[:, None]
    intervals = {
        "raw": raw,
        "calibrated": (ends[..., 0], ends[..., 1]),
        "adaptive": backtest.adaptive_interval(
            PROMISED, calibration_windows=MEMORY, recalibrate_every=8
        ),
    }
    row: dict[str, Any] = {"dataset": dataset, "stride": stride, "promised": PROMISED}
    known = ~np.isnan(actual)
    for name, (low, high) in intervals.items():
        inside = ((low <= actual) & (actual <= high))[known].mean()
        row[f"{name}_coverage"] = round(float(inside), 4)
        row[f"{name}_width"] = round(float(np.nanmean((high - low) / forecaster.scale_)), 3)
    return row


if __name__ == "__main__":
    main()
