"""Accuracy on the literature's forecasting sets, under the literature's protocol.

    python benchmarks/forecast.py --dataset ETTh1 --horizon 96 --seeds 3

The protocol uses z-scores with the train rows, standard borders, a context of 96 and every stride-1
window of the test part, with all variates in and out and no drop_last. Only the validation part selects
the model. `--controls` trains the same model without what its memory writes, with attention alone and
without its backbone, in the same run.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from controls import CONTROLS
from record import record

from titans_ts import TitansForecaster
from titans_ts.datasets import DATASETS, SlidingWindows, literature_split, load_dataset
from titans_ts.forecasting.baselines import seasonal_naive

SETTINGS = {
    "patch_length": 16,
    "patch_stride": 8,
    "n_layers": 1,
    "model_options": {"dropout": 0.3, "head_dropout": 0.4},
    "batch_size": 128,
    "learning_rate": 2e-3,
    "max_epochs": 10,
    "blend": False,
}
"""Chosen on ETTh1's validation part; README.md in this folder lists the candidates."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="ETTh1", choices=sorted(DATASETS))
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--context", type=int, default=96)
    parser.add_argument("--variant", default="mac")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--controls", action="store_true", help="train the controls, too")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    command = (
        f"python benchmarks/forecast.py --dataset {args.dataset} --horizon {args.horizon} "
        f"--variant {args.variant} --seeds {args.seeds} --threads {args.threads}"
        f"{' --controls' if args.controls else ''}"
    )
    rows = []
    for name, options in {args.variant: {}, **(CONTROLS if args.controls else {})}.items():
        for seed in range(args.seeds):
            row = run(args.dataset, args.context, args.horizon, args.variant, seed, options)
            rows.append({"model": name, **row})
            print(rows[-1], flush=True)
        mse = [row["test_mse"] for row in rows if row["model"] == name]
        print(f"{name}: test MSE {np.mean(mse):.4f} +- {np.std(mse):.4f} over {len(mse)} seeds")
        path = record(f"forecast-{args.dataset}-{args.horizon}-{args.variant}", command, rows)
    print(path)


def run(
    dataset: str, context: int, horizon: int, variant: str, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Train once and evaluate the validation and test parts, on the z-scored scale."""
    values = load_dataset(dataset).to_numpy()
    split = literature_split(dataset, len(values))
    n_train, n_fit = split.train.stop, split.validation.stop
    forecaster = TitansForecaster(
        prediction_length=horizon,
        context_length=context,
        variant=variant,
        **SETTINGS,
        training_options={"validation_fraction": (n_fit - n_train) / n_fit},
        random_state=seed,
        progress_bar=False,
    )
    forecaster.set_params(**options)
    start = time.process_time()
    forecaster.fit(values[:n_fit])
    seconds = time.process_time() - start
    np.testing.assert_allclose(forecaster.mean_, values[:n_train].mean(0))  # only the train rows

    row: dict[str, Any] = {"seed": seed, "seconds": round(seconds, 1)}
    row["epochs"] = len(forecaster.history_)
    parts = split.with_context(context)
    for part in ("validation", "test"):
        past, future = SlidingWindows(values[getattr(parts, part)], context, horizon)[:]
        naive = seasonal_naive(past, horizon, DATASETS[dataset].season_length)
        row[f"{part}_windows"] = len(past)
        for name, forecast in (("", forecaster.predict(past)), ("naive_", naive)):
            error = (forecast - future) / forecaster.scale_
            row[f"{part}_{name}mse"] = round(float(np.mean(error**2)), 4)
            row[f"{part}_{name}mae"] = round(float(np.mean(np.abs(error))), 4)
    return row


if __name__ == "__main__":
    main()
