"""The surprise of a memory at planted faults, beside controls: areas under the ROC curve.

    python benchmarks/surprise.py
    python benchmarks/surprise.py --design

Faults are planted at random places of the last rows of a real series, one kind at a time, and every
score has to distinguish their steps from all others. With d, the standard deviation of the differences
of the rows before, and s, that of these rows: a spike of 6 d or 6 s; a shift of the level by 6 d or s for
24 steps; noise of 3 d for 24 steps; a sensor that repeats its value for 24 steps. `steps` is the area
over all steps; `events` that of the largest score of a fault against the largest scores of stretches of
24 steps without one. Means over the variates. Everything was chosen on the series of `--design`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from record import data_file, record
from sklearn.metrics import roc_auc_score

from titans_ts import TitansForecaster
from titans_ts.forecasting.anomalies import rarity
from titans_ts.nn.series import memory as series_memory

Array = NDArray[np.float64]

FAULTS = ("spike of 6 d", "spike of 6 s", "shift of 6 d", "shift of s", "noise", "frozen")
LENGTH = 24
BEFORE = 2000
"""Rows that are read before those with faults."""
SETS: dict[str, tuple[str, slice, slice, int]] = {
    # file, columns, rows (the last 3 000 are broken), steps of a day
    "ETTh1": ("timeseries/ETTh1.csv.gz", slice(1, 8, 3), slice(0, 14400), 24),
    "ETTm1": ("timeseries/ETTm1.csv.gz", slice(1, 8, 3), slice(20000, 35000), 96),
    "taxis": ("timeseries/small/taxi_new_york_passengers.csv", slice(1, 2), slice(0, 10320), 48),
}
DESIGN: dict[str, tuple[str, slice, slice, int]] = {
    "ETTh2": ("timeseries/ETTh2.csv.gz", slice(1, 8, 3), slice(0, 14400), 24),
    "weather": ("timeseries/weather.csv.gz", slice(2, 14, 5), slice(0, 15000), 144),
    "PJM": ("timeseries/small/PJME_hourly.csv.gz", slice(1, 2), slice(-14000, None), 24),
}
BROKEN = 3000
OPTIONS: dict[str, Any] = {
    "patch_length": 16,
    "patch_stride": 8,
    "max_epochs": 5,
    "training_options": {"max_steps_per_epoch": 50},
    "progress_bar": False,
}
CONTEXT = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--design", action="store_true", help="the series that were used to choose")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in DESIGN if args.design else SETS:
        for seed in range(args.seeds):
            rows += measure(name, seed)
            print(pd.DataFrame(rows[-len(FAULTS) :]).drop(columns=["seconds"]).T.to_string())
    name = "surprise-design" if args.design else "surprise"
    flag = " --design" if args.design else ""
    record(name, f"python benchmarks/surprise.py{flag} --seeds {args.seeds}", rows)


def measure(name: str, seed: int) -> list[dict[str, Any]]:
    """Return a row per fault: `steps` and `events` of every score."""
    values, day = read(name)
    border = len(values) - BROKEN
    forecasters, seconds = networks(values[:border], seed)
    rows = []
    for fault in FAULTS:
        broken, wrong = plant(values, border, fault, seed)
        part = broken[border - BEFORE :]
        row: dict[str, Any] = {"set": name, "fault": fault, "seed": seed}
        found = {}
        for score, compute in scores(forecasters, values[:border], day).items():
            start = time.perf_counter()
            found[score] = compute(part)
            seconds[score] = seconds.get(score, 0) + time.perf_counter() - start
        # as detect_anomalies combines them; without computing them again
        found["both"] = np.maximum(
            *(rarity(found[s], found[s]) for s in ("one-step error", "surprise"))
        )
        row |= {score: areas(x[BEFORE:], wrong[border:]) for score, x in found.items()}
        row["seconds"] = {score: round(s, 1) for score, s in seconds.items()}
        rows.append(row)
    return rows


def read(name: str) -> tuple[Array, int]:
    """Return the values `[T, C]` of a series, and the steps of its day."""
    path, columns, rows, day = (SETS | DESIGN)[name]
    frame = pd.read_csv(data_file(path), encoding="latin1")
    if name == "PJM":
        frame["Datetime"] = pd.to_datetime(frame["Datetime"])
        frame = frame.sort_values("Datetime").drop_duplicates("Datetime")
    return frame.iloc[rows, columns].to_numpy(float), day


def plant(values: Array, border: int, fault: str, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Return the values with faults after `border`, and the number of the fault at a step, or 0."""
    rng = np.random.default_rng(seed)
    broken, wrong = values.copy(), np.zeros(values.shape, int)
    changes, deviations = np.diff(values[:border], axis=0).std(0), values[:border].std(0)
    length = 1 if "spike" in fault else LENGTH
    for variate in range(values.shape[1]):
        d, s = changes[variate], deviations[variate]
        # one place in each stretch of 100 steps, for a third of them
        stretches = np.arange(border, len(values) - 99, 100)
        for i, start in enumerate(rng.permutation(stretches)[: len(stretches) // 3], 1):
            first = start + int(rng.integers(100 - length))
            rows, sign = slice(first, first + length), rng.choice([-1, 1])
            if fault in ("spike of 6 d", "shift of 6 d"):
                broken[rows, variate] += sign * 6 * d
            elif fault == "spike of 6 s":
                broken[rows, variate] += sign * 6 * s
            elif fault == "shift of s":
                broken[rows, variate] += sign * s
            elif fault == "noise":
                broken[rows, variate] += rng.normal(size=length) * 3 * d
            else:
                broken[rows, variate] = values[first, variate]
            wrong[rows, variate] = i
    return broken, wrong


def areas(score: Array, wrong: NDArray[np.int64]) -> dict[str, float]:
    """Return the areas under the ROC curve over steps, and over events (faults of one step: the same)."""
    steps, events = [], []
    for s, w in zip(score.T, wrong.T, strict=True):
        known = ~np.isnan(s)
        steps.append(roc_auc_score(w[known] > 0, s[known]))
        if (w == 1).sum() == 1:
            continue
        starts = np.arange(0, len(w) - LENGTH, LENGTH)
        usual = [s[i : i + LENGTH] for i in starts if not w[i : i + LENGTH].any()]
        faults = [s[w == i] for i in range(1, w.max() + 1)]
        largest = [np.nanmax(part) for part in faults + usual]
        events.append(roc_auc_score(np.arange(len(largest)) < len(faults), largest))
    found = {"steps": round(float(np.mean(steps)), 3)}
    return found | ({"events": round(float(np.mean(events)), 3)} if events else {})


def networks(train: Array, seed: int) -> tuple[dict[str, TitansForecaster], dict[str, float]]:
    """Return forecasters, and the seconds of their training."""
    kinds: dict[str, dict[str, Any]] = {
        "forecaster": {"stateful_windows": 0},
        "network": {},
        "untrained network": {"max_epochs": 1, "learning_rate": 1e-12},
        "network, steps as tokens, not normalised": {
            "patch_length": 1,
            "patch_stride": 1,
            "scaler": "none",
            "max_epochs": 2,
            "model_options": {"memory": {"depth": 1}},
        },
    }
    found, seconds = {}, {}
    for name, options in kinds.items():
        start = time.perf_counter()
        forecaster = TitansForecaster(
            24, CONTEXT, **{"stateful_windows": 2} | OPTIONS | options, random_state=seed
        )
        found[name] = forecaster.fit(train[-4000:])
        seconds[f"{name}, fit"] = time.perf_counter() - start
    return found, seconds


def scores(
    forecasters: dict[str, TitansForecaster], train: Array, day: int
) -> dict[str, Callable[[Array], Array]]:
    """Return functions that score every value of a series `[T, C]`."""
    forecaster = forecasters["forecaster"]
    network = forecasters["network"]
    spread = train.std(0)

    def median(x: Array) -> Array:
        frame = pd.DataFrame(x)
        distance = (frame - frame.shift(1).rolling(LENGTH + 1).median()).abs()
        usual = distance.shift(1).rolling(200).median()
        return (distance / (usual + 1e-3 * spread)).to_numpy()

    def error(x: Array) -> Array:
        return forecaster.detect_anomalies(x, score="error")["score"].to_numpy().reshape(x.shape)

    def alone(horizons: Callable[[int], tuple[int, ...]]) -> Callable[[Array], Array]:
        def score(x: Array) -> Array:
            with mock.patch.object(series_memory, "horizons", horizons):
                return network.surprise(x)

        return score

    def unwritten(x: Array) -> Array:
        with mock.patch.object(series_memory, "STEP", 0.0):
            return network.surprise(x)

    found: dict[str, Callable[[Array], Array]] = {
        "difference": lambda x: np.abs(np.diff(x, axis=0, prepend=x[:1])),
        "distance from the running median": median,
        "difference to the day before": lambda x: np.abs(x - np.roll(x, day, 0)),
        "one-step error": error,
        "surprise": network.surprise,
        "surprise, one step ahead only": alone(lambda length: (1,)),
        "surprise, a context ahead only": alone(lambda length: (length,)),
        "surprise, nothing written": unwritten,
    }
    for name, trained in list(forecasters.items())[1:]:
        found[name] = lambda x, f=trained: f.surprise(x, memory="network")
        found[f"{name}, relative"] = lambda x, f=trained: deviations(
            f.surprise(x, memory="network")
        )
    for layer in range(2):
        found[f"network, block {layer + 1}"] = lambda x, i=layer: of_block(network, x, i)
    return found


def deviations(surprise: Array, half_life: int = 1000) -> Array:
    """Return the logarithm of a surprise in standard deviations from its mean so far."""
    log = pd.DataFrame(np.log(surprise))
    so_far = log.shift(1).ewm(halflife=half_life)
    found: Array = ((log - so_far.mean()) / so_far.std()).to_numpy()
    return found


def of_block(forecaster: TitansForecaster, x: Array, block: int) -> Array:
    """Return the network's surprise of one block only."""
    whole = forecaster.model_.read

    def one(*args: Any) -> Any:
        reading = whole(*args)
        return reading._replace(surprise=reading.surprise[:, :, block : block + 1])

    with mock.patch.object(forecaster.model_, "read", one):
        found: Array = forecaster.surprise(x, memory="network")
        return found


if __name__ == "__main__":
    main()
