"""The effect of a memory that learns at test time.

    python benchmarks/streaming.py                       # every data set, one thread
    python benchmarks/streaming.py --datasets ETTh1 regimes --seeds 3
    python benchmarks/streaming.py --histories           # the error against the history that is read
    python benchmarks/streaming.py --step-time           # milliseconds of one row and one forecast

Two models of the same size are trained on equally many windows: one with an empty memory before every
window, one on adjacent windows with the memory's state carried from each to the next. The second is
tested twice: with the state carried from the first row of the series, and with an empty memory for every
window. The protocol has standard borders and forecasts 96 steps from 96, z-scored with the train rows.

`--histories` forecasts from every 97th row of the test part. The second model reads 96 to 6144 rows, the
memory empty before them, and again with the write off; a model of windows alone is trained for each of
two lengths.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from record import record, recorded, replaced

from titans_ts import TitansForecaster
from titans_ts.datasets import DATASETS, literature_split, load_dataset, make_series, ratio_split
from titans_ts.forecasting.parse import read_panel
from titans_ts.nn.memory_use import write_off

LENGTH, HORIZON, CARRIED = 96, 96, 3
SETTINGS: dict[str, Any] = {
    "blend": False,
    "patch_length": 16,
    "patch_stride": 8,
    "n_layers": 1,
    "model_options": {"dropout": 0.3, "head_dropout": 0.4},
    "batch_size": 32,
    "learning_rate": 1e-3,
    "max_epochs": 10,
}
"""The settings of forecast.py with smaller steps; an epoch has at most `--batches` of them."""
STRIDE = {"ETTm1": 4, "ETTm2": 4, "weather": 8}
SETS = ("ETTh1", "ETTh2", "exchange_rate", "regimes", "ETTm1", "ETTm2", "weather")
HISTORIES = (96, 192, 384, 768, 1536, 3072, 6144)
WINDOWS = (96, 672)
"""Lengths of the windows of models that carry nothing, for `--histories`."""
EVERY = 97


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--variant", default="mac")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batches", type=int, default=100, help="maximum steps per epoch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--histories", action="store_true", help="only errors against histories")
    parser.add_argument("--step-time", action="store_true", help="only time one row at a time")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.step_time:
        print({"update and predict, ms": [round(1000 * t, 2) for t in step_seconds()]})
        return
    command = (
        f"python benchmarks/streaming.py --datasets {' '.join(args.datasets)} "
        f"--variant {args.variant} --seeds {args.seeds} --batches {args.batches}"
        f"{' --histories' * args.histories}"
    )
    name, measure = "streaming", run
    if args.histories:
        name, measure = "histories", run_histories
    name = f"{name}-{args.variant}"
    for dataset in args.datasets:
        for seed in range(args.seeds):
            row = measure(dataset, args.variant, seed, args.batches)
            print(row, flush=True)
            path = record(name, command, replaced(recorded(name), row, ("dataset", "seed")))
    print(path)


def fitted(
    values: Any, split: Any, variant: str, seed: int, n_batches: int, length: int, carried: int
) -> TitansForecaster:
    """Train a model with the train and validation rows of values."""
    forecaster = TitansForecaster(
        HORIZON,
        length,
        variant=variant,
        stateful_windows=carried,
        training_options={
            "validation_fraction": (split.validation.stop - split.train.stop)
            / split.validation.stop,
            "trainer_kwargs": {"limit_train_batches": n_batches, "limit_val_batches": 40},
        },
        random_state=seed,
        progress_bar=False,
        **SETTINGS,
    )
    return forecaster.fit(values[: split.validation.stop])


def run_histories(dataset: str, variant: str, seed: int, n_batches: int) -> dict[str, Any]:
    """Train a model that carries its memory and models of windows alone; compare what they read."""
    values, split = load(dataset)
    first = np.arange(split.test.start, split.test.stop - HORIZON + 1, EVERY)
    row: dict[str, Any] = {"dataset": dataset, "seed": seed, "every": EVERY}
    for length, carried in [(LENGTH, CARRIED), *((n, 0) for n in WINDOWS)]:
        start = time.process_time()
        model = fitted(values, split, variant, seed, n_batches, length, carried)
        name = "carried" if carried else "window"
        row[f"{name}_{length}_seconds"] = round(time.process_time() - start)
        for history in [n for n in HISTORIES if n <= first[0]] if carried else [length]:
            row |= errors_of(model, values, first, history, f"{name}_{history}")
            if carried:
                with write_off(model.model_):
                    row |= errors_of(model, values, first, history, f"write_off_{history}")
    return row


def errors_of(
    model: TitansForecaster, values: Any, first: Any, history: int, name: str
) -> dict[str, float]:
    """Return the errors of forecasts from rows `first` that read `history` rows, and their time."""
    start = time.process_time()
    forecasts = np.stack([model.predict(values[f - history : f]) for f in first])
    seconds = (time.process_time() - start) / len(first)
    return compare(model, forecasts, values, first, name) | {
        f"{name}_predict_ms": round(1000 * seconds, 1)
    }


def run(dataset: str, variant: str, seed: int, n_batches: int) -> dict[str, Any]:
    """Train both models, and evaluate the test part three times."""
    values, split = load(dataset)
    stride = STRIDE.get(dataset, 1)
    row: dict[str, Any] = {"dataset": dataset, "seed": seed, "stride": stride}
    for carried in (0, CARRIED):
        start = time.perf_counter()
        forecaster = fitted(values, split, variant, seed, n_batches, LENGTH, carried)
        name = "carried" if carried else "window"
        row[f"{name}_seconds"] = round(time.perf_counter() - start)
        row[f"{name}_epochs"] = len(forecaster.history_)
        first = np.arange(split.test.start, split.test.stop - HORIZON + 1, stride)
        if carried:
            row |= errors(forecaster, values, first, "carried")
            past = values[first[:, None] - LENGTH + np.arange(LENGTH)]
            row |= compare(forecaster, forecaster.predict(past), values, first, "reset")
        else:
            row |= errors(forecaster, values, first, "window")
    return row


def step_seconds() -> list[float]:
    """Measure quartiles of the time to read one more row of three variates and forecast from it."""
    frame = make_series(400, 3, random_state=0)
    stream = TitansForecaster(
        24,
        96,
        patch_length=16,
        patch_stride=8,
        max_epochs=1,
        stateful_windows=2,
        random_state=0,
        progress_bar=False,
    ).fit(frame[:300])
    times = []
    for row in range(300, 400):
        start = time.perf_counter()
        stream.update(frame[row : row + 1])
        stream.predict()
        times.append(time.perf_counter() - start)
    return [float(q) for q in np.quantile(times, (0.25, 0.5, 0.75))]


def errors(forecaster: TitansForecaster, values: Any, first: Any, name: str) -> dict[str, float]:
    """Return the errors of forecasts that start at rows `first` and use all rows before them."""
    panel = read_panel(values[: first[-1] + HORIZON])
    point, _ = forecaster.predictor.rolling(panel, first[:, None])
    return compare(forecaster, point[:, 0], values, first, name)


def compare(
    forecaster: TitansForecaster, point: Any, values: Any, first: Any, name: str
) -> dict[str, float]:
    actual = values[first[:, None] + np.arange(HORIZON)]
    error = (point - actual) / forecaster.scale_
    return {
        f"{name}_mse": round(float(np.nanmean(error**2)), 4),
        f"{name}_mae": round(float(np.nanmean(np.abs(error))), 4),
    }


def load(dataset: str) -> tuple[Any, Any]:
    """Return values `[T, C]`, and the split into parts."""
    if dataset == "regimes":  # level and amplitude change about every 200 steps
        frame = make_series(20_000, 4, regime_changes=100, seasons=(24, 168), random_state=0)
        return frame.to_numpy(), ratio_split(len(frame), 0.7, 0.1, 0.2)
    values = load_dataset(dataset).to_numpy()
    if dataset == "weather":
        values = np.where(values == -9999, np.nan, values)  # the sentinel is missing data
    assert dataset in DATASETS
    return values, literature_split(dataset, len(values))


if __name__ == "__main__":
    main()
