"""Forecasts that keep learning after the fit: a memory of forecast errors, beside a frozen model.

    python benchmarks/adapt.py                        # four sets, steps 1, 24 and 48
    python benchmarks/adapt.py --sets ETTh1 --horizons 24
    python benchmarks/adapt.py --markdown             # the table of the last run; measures nothing

The protocol is that of online forecasting without leaks: the first 20 % of the rows train, the next 5 %
validate, and the other 75 % are forecast from every row on. A forecast is learned from when the last of
its steps has been observed, never before. Values are z-scored with the train rows. All columns come from
one run of one fitted network: "frozen" leaves the corrections out, which is the memory with its write
off; "latest error" adds the error of the latest forecast that is complete, and "mean error" the mean of
all of them with a weight of 0.99 for each row of age, both for each step and variate: the simplest ways
to learn. The published figures are those of ADAPT-Z, whose units differ, so only shares can be compared.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from record import record, recorded, replaced

from titans_ts import TitansForecaster
from titans_ts.datasets import load_dataset
from titans_ts.forecasting.error_memory import read_rows
from titans_ts.forecasting.parse import read_panel

SETS = ("ETTh1", "ETTh2", "ETTm1", "ETTm2")
HORIZONS = (1, 24, 48)
PUBLISHED = {
    ("ETTh1", 1): (0.111, 0.120),
    ("ETTh1", 24): (0.294, 0.316),
    ("ETTh1", 48): (0.343, 0.365),
    ("ETTh2", 1): (0.063, 0.067),
    ("ETTh2", 24): (0.161, 0.171),
    ("ETTh2", 48): (0.215, 0.225),
    ("ETTm1", 1): (0.051, 0.055),
    ("ETTm1", 24): (0.229, 0.248),
    ("ETTm1", 48): (0.307, 0.336),
    ("ETTm2", 1): (0.031, 0.032),
    ("ETTm2", 24): (0.100, 0.106),
    ("ETTm2", 48): (0.134, 0.139),
}
"""MSE of ADAPT-Z and of its frozen model."""
NAME, SIMPLE = "adapt", ("latest error", "mean error")

Array = NDArray[np.float64]


def run(dataset: str, horizon: int, blend: bool, seed: int) -> dict[str, Any]:
    """Fit once, and read the other rows once."""
    values = load_dataset(dataset).to_numpy(float)
    n_train, n_fit = int(0.2 * len(values)), int(0.25 * len(values))
    forecaster = TitansForecaster(
        horizon,
        adapt=True,
        blend=blend,
        quantile_levels=(0.5,),
        training_options={"validation_fraction": (n_fit - n_train) / n_fit},
        random_state=seed,
        progress_bar=False,
    )
    start = time.process_time()
    forecaster.fit(values[:n_fit])
    row: dict[str, Any] = {"fit": round(time.process_time() - start, 1)}
    panel = read_panel(values, forecaster.roles, min_rows=1)
    first = n_fit  # the rows before it were read in the fit
    errors = forecaster._errors
    assert errors is not None
    start = time.process_time()
    n = len(values) - n_fit - horizon  # later forecasts have no steps to compare with
    wanted = n_fit + 1 + np.arange(n)
    frozen, _, added = read_rows(errors, forecaster.predictor, panel, first, wanted)
    row["rows_per_second"] = round((len(values) - first) / (time.process_time() - start))
    actual = np.lib.stride_tricks.sliding_window_view(values[n_fit + 1 :], horizon, 0).swapaxes(
        1, 2
    )
    scale = values[:n_train].std(0)
    found = {"frozen": frozen, "adapted": frozen + added}
    found |= simple(frozen, actual - frozen)
    for name, forecast in found.items():
        row[name] = round(float(np.mean(((forecast - actual) / scale) ** 2)), 4)
    row["windows"] = n
    return row


def simple(forecast: Array, error: Array) -> dict[str, Array]:
    """Correct forecasts `[n, H, C]` by errors that are known when they are made."""
    n, horizon, _ = forecast.shape
    latest, mean = forecast.copy(), forecast.copy()
    total, weight = np.zeros_like(forecast[0]), 0.0
    for i in range(horizon, n):
        total, weight = 0.99 * total + error[i - horizon], 0.99 * weight + 1
        latest[i] += error[i - horizon]
        mean[i] += total / weight
    return dict(zip(SIMPLE, (latest, mean), strict=True))


def change(error: float, frozen: float) -> str:
    """Return the change of an error in per cent."""
    return f"{100 * (error / frozen - 1):+.1f} %"


def table(rows: list[dict[str, Any]]) -> str:
    """Lay out the MSE and the shares of the frozen model's."""
    columns = ["set, steps", "frozen", "adapted", *SIMPLE, "ADAPT-Z, published", "rows a second"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        name = f"{row['set']}, {row['horizon']}" + (", blend" if row["blend"] else "")
        frozen, (theirs, theirs_frozen) = row["frozen"], PUBLISHED[row["set"], row["horizon"]]
        shares = [f"{row[m]:.4f} ({change(row[m], frozen)})" for m in ("adapted", *SIMPLE)]
        cells = [name, f"{frozen:.4f}", *shares, change(theirs, theirs_frozen)]
        lines.append(f"| {' | '.join(cells)} | {row['rows_per_second']:,} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--horizons", nargs="+", type=int, default=list(HORIZONS))
    parser.add_argument("--blend", action="store_true", help="adapt the blend, not the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    rows = recorded(NAME)
    if not args.markdown:
        torch.set_num_threads(args.threads)
        command = shlex.join(["python", "benchmarks/adapt.py", *sys.argv[1:]])
        for dataset in args.sets:
            for horizon in args.horizons:
                row = {"set": dataset, "horizon": horizon, "blend": args.blend, "seed": args.seed}
                row |= run(dataset, horizon, args.blend, args.seed)
                print(row, flush=True)
                rows = replaced(rows, row, ("set", "horizon", "blend", "seed"))
            record(NAME, command, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
