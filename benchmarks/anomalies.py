"""Anomaly detection: five known events in New York's taxi rides, and injected faults.

    python benchmarks/anomalies.py

Taxis: the data are half-hourly rides from July 2014 to January 2015. Training ends in the middle of
October, before the first of the five known events (marathon, Thanksgiving, Christmas, New Year,
blizzard). The result is the rank of these days by their largest score among all days after training;
1 to 5 is perfect. Faults: spikes, frozen values, level shifts and noise bursts are injected at random
places of ETTh1's test part. The result is the area under the ROC curve against all other values,
compared with the absolute difference to the row a day before.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from record import data_file, record
from sklearn.metrics import roc_auc_score

from titans_ts import TitansForecaster
from titans_ts.datasets import literature_split, load_dataset

EVENTS = {
    "marathon": "2014-11-02",
    "thanksgiving": "2014-11-27",
    "christmas": "2014-12-25",
    "new year": "2015-01-01",
    "blizzard": "2015-01-27",
}
TRAINED = "2014-10-15"
FAULTS = ("spike", "frozen", "shift", "noise")
SCORES = ("error", "surprise", "both")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for seed in range(args.seeds):
        for row in (taxis(seed), *faults(seed)):
            rows.append(row)
            print(row, flush=True)
    print(record("anomalies", f"python benchmarks/anomalies.py --seeds {args.seeds}", rows))


def taxis(seed: int) -> dict[str, Any]:
    """Return the ranks of the five days by each score."""
    path = data_file("taxi_new_york_passengers.csv")
    frame = pd.read_csv(path, parse_dates=["time"], index_col="time").astype(float).asfreq("30min")
    forecaster = TitansForecaster(
        24,
        336,
        patch_length=16,
        patch_stride=8,
        n_layers=1,
        stateful_windows=2,
        max_epochs=10,
        random_state=seed,
        progress_bar=False,
    )
    start = time.perf_counter()
    forecaster.fit(frame[:TRAINED])
    row: dict[str, Any] = {
        "set": "taxis",
        "seed": seed,
        "seconds": round(time.perf_counter() - start),
    }
    for score in SCORES:
        found = forecaster.detect_anomalies(
            frame, score=score, risk=0.002, reference=frame[:TRAINED]
        )
        scores = found.set_index("timestamp")["score"]
        days = scores[TRAINED:].iloc[48:].resample("D").max()
        rank = days.rank(ascending=False)
        row[f"{score}_ranks"] = {name: int(rank[day]) for name, day in EVENTS.items()}
        row["days"] = len(days)
        flagged = found[found["anomaly"]].set_index("timestamp")[TRAINED:].iloc[:, 0]
        row[f"{score}_days_flagged"] = int(flagged.resample("D").count().gt(0).sum())
    return row


def faults(seed: int) -> list[dict[str, Any]]:
    """Return the areas under the ROC curve for every kind of fault."""
    frame = load_dataset("ETTh1")
    split = literature_split("ETTh1", len(frame))
    forecaster = TitansForecaster(
        24,
        96,
        patch_length=16,
        patch_stride=8,
        n_layers=1,
        stateful_windows=2,
        max_epochs=5,
        random_state=seed,
        progress_bar=False,
    )
    forecaster.fit(frame[: split.validation.stop])
    rows = []
    for kind in FAULTS:
        test, wrong = broken(
            frame[split.test.start - 192 : split.test.stop], kind, seed, forecaster.scale_
        )
        row: dict[str, Any] = {"set": "ETTh1", "fault": kind, "seed": seed}
        daily = np.abs(test.to_numpy() - np.roll(test.to_numpy(), 24, 0)) / forecaster.scale_
        scores = {"day before": daily.ravel()}
        for score in SCORES:
            scores[score] = forecaster.detect_anomalies(test, score=score)["score"].to_numpy()
        known = ~np.isnan(scores["error"]) & (np.arange(daily.size) >= 192 * daily.shape[1])
        for name, values in scores.items():
            row[f"{name}_auc"] = round(float(roc_auc_score(wrong.ravel()[known], values[known])), 3)
        rows.append(row)
    return rows


def broken(frame: pd.DataFrame, kind: str, seed: int, scale: Any) -> tuple[pd.DataFrame, Any]:
    """Return a frame with faults in 1 % of its values, and a mask of them `[T, C]`."""
    rng = np.random.default_rng(seed)
    values, wrong = frame.to_numpy().copy(), np.zeros(frame.shape, bool)
    length = 1 if kind == "spike" else 12
    n_faults = int(0.01 * len(values) / length) or 1
    for variate in range(values.shape[1]):
        for start in rng.choice(np.arange(192, len(values) - length), n_faults, replace=False):
            rows = slice(start, start + length)
            size = scale[variate]
            if kind == "spike":
                values[rows, variate] += rng.choice([-1, 1]) * rng.uniform(1, 2) * size
            elif kind == "frozen":
                values[rows, variate] = values[start, variate]
            elif kind == "shift":
                values[rows, variate] += rng.choice([-1, 1]) * size
            else:
                values[rows, variate] += rng.normal(size=length) * size
            wrong[rows, variate] = True
    return pd.DataFrame(values, frame.index, frame.columns), wrong


if __name__ == "__main__":
    main()
