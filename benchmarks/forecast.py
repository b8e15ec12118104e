"""Accuracy on the literature's long-horizon sets, under the literature's protocol.

    python benchmarks/forecast.py             # three sets: the default, and its controls
    python benchmarks/forecast.py --sets ETTh1 --horizons 96 --models tuned --seeds 3
    python benchmarks/forecast.py --markdown  # the table of the last run; measures nothing

The protocol uses z-scores with the train rows, standard borders, and every stride-1 window of the test
part, with all variates in and out and no drop_last. Only the validation part selects the model. "default"
is `TitansForecaster` with its defaults. In all other rows `context_length` is `--context`; "blend" has no
other difference, and in its controls the pretrained model does not write, or is left out. In "no
backbone" and "blocks", a network without or with blocks forecasts alone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from controls import CONTROLS, pretrained_control
from record import record, recorded, replaced

from titans_ts import TitansForecaster
from titans_ts.datasets import DATASETS, SlidingWindows, literature_split, load_dataset
from titans_ts.forecasting.baselines import seasonal_naive
from titans_ts.forecasting.blend import FORECASTERS, LINEAR, ZERO_SHOT

ALONE: dict[str, Any] = {"blend": False}
BLOCKS = ALONE | {"variant": "mac"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "default": {"context_length": None},
    "blend": {},
    "blend, write off": {},
    "blend, not pretrained": {"blend": [name for name in FORECASTERS if name != ZERO_SHOT]},
    "linear": {"blend": [LINEAR], "max_epochs": 1},
    "no backbone": ALONE,
    "blocks": BLOCKS,
    "blocks, write off": BLOCKS | CONTROLS["write off"],
    "blocks, attention alone": ALONE | CONTROLS["attention alone"],
}
SETTINGS = BLOCKS | {
    "patch_length": 16,
    "patch_stride": 8,
    "n_layers": 1,
    "model_options": {"dropout": 0.3, "head_dropout": 0.4},
    "batch_size": 128,
    "learning_rate": 2e-3,
    "max_epochs": 10,
}
"""Chosen on ETTh1's validation part; README.md in this folder lists the candidates."""
MODELS = DEFAULTS | {
    "tuned": SETTINGS,
    **{f"tuned, {name}": SETTINGS | options for name, options in CONTROLS.items()},
}
NAIVE, NAME = "seasonal naive", "forecast"


def windows(values: np.ndarray, part: slice, context: int, horizon: int) -> Any:
    """Return all windows of a part, `[N, context, C]` and `[N, horizon, C]`."""
    return SlidingWindows(values[part], context, horizon)[:]


def run(dataset: str, horizon: int, context: int, model: str, seed: int) -> dict[str, Any]:
    """Train once, and evaluate the validation and test parts on the z-scored scale."""
    values = load_dataset(dataset).to_numpy()
    split = literature_split(dataset, len(values))
    n_train, n_fit = split.train.stop, split.validation.stop
    forecaster = TitansForecaster(
        horizon,
        context,
        training_options={"validation_fraction": (n_fit - n_train + 0.5) / n_fit},  # truncated
        random_state=seed,
        progress_bar=False,
    ).set_params(**MODELS[model])
    start = time.process_time()
    with pretrained_control("write off" if model == "blend, write off" else ""):
        forecaster.fit(values[:n_fit])
        row: dict[str, Any] = {"fit": round(time.process_time() - start, 1)}
        np.testing.assert_allclose(
            forecaster.mean_, values[:n_train].mean(0)
        )  # only the train rows
        row["context"] = context = forecaster.model_.config.context_length
        parts = split.with_context(context)
        for part in ("validation", "test"):
            past, future = windows(values, getattr(parts, part), context, horizon)
            start = time.process_time()
            error = (forecaster.predict(past) - future) / forecaster.scale_
            row[f"{part}_windows"], row["predict"] = (
                len(past),
                round(time.process_time() - start, 1),
            )
            row[f"{part}_mse"] = round(float(np.mean(error**2)), 4)
            row[f"{part}_mae"] = round(float(np.mean(np.abs(error))), 4)
    return row


def naive(dataset: str, horizon: int) -> dict[str, Any]:
    """Repeat the last season in every test window."""
    values = load_dataset(dataset).to_numpy()
    split = literature_split(dataset, len(values))
    season = DATASETS[dataset].season_length
    past, future = windows(values, split.with_context(season).test, season, horizon)
    error = (seasonal_naive(past, horizon, season) - future) / values[split.train].std(0)
    mse, mae = float(np.mean(error**2)), float(np.mean(np.abs(error)))
    return {"test_windows": len(past), "test_mse": round(mse, 4), "test_mae": round(mae, 4)}


def table(rows: list[dict[str, Any]]) -> str:
    """Lay out test MSE / MAE, and CPU seconds of fit and forecasts, as a Markdown table."""
    frame = pd.DataFrame(rows).fillna({"fit": 0.0, "predict": 0.0})
    keys = frame[["set", "horizon"]].drop_duplicates().itertuples(index=False)
    columns = [(one.set, one.horizon) for one in keys]
    lines = ["| model | " + " | ".join(f"{name}, {horizon}" for name, horizon in columns) + " |"]
    lines.append("|---" * (1 + len(columns)) + "|")
    for model, some in frame.groupby("model", sort=False):
        mean = some.groupby(["set", "horizon"]).mean(numeric_only=True)
        cells = []
        for key in columns:
            cell = ""
            if key in mean.index:
                row = mean.loc[key]
                cell = f"{row['test_mse']:.4f} / {row['test_mae']:.4f}"
                if row["fit"] > 0:
                    cell += f", {row['fit']:.0f} + {row['predict']:.0f} s"
            cells.append(cell)
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sets = ["ETTh1", "ETTm1", "weather"]
    parser.add_argument("--sets", nargs="+", default=sets, choices=sorted(DATASETS))
    parser.add_argument("--horizons", nargs="+", type=int, default=[96, 336])
    parser.add_argument("--models", nargs="+", default=list(DEFAULTS), choices=list(MODELS))
    parser.add_argument("--context", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    rows = recorded(NAME)
    if args.markdown:
        print(table(rows))
        return
    torch.set_num_threads(args.threads)
    command = shlex.join(["python", "benchmarks/forecast.py", *sys.argv[1:]])
    for dataset in args.sets:
        for horizon in args.horizons:
            for model in [NAIVE, *args.models]:
                for seed in range(1 if model == NAIVE else args.seeds):
                    row = {"set": dataset, "horizon": horizon, "model": model, "seed": seed}
                    if model == NAIVE:
                        row |= naive(dataset, horizon)
                    else:
                        row |= run(dataset, horizon, args.context, model, seed)
                    print(row, flush=True)
                    rows = replaced(rows, row, ("set", "horizon", "model", "seed"))
                    record(NAME, command, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
