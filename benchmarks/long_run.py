"""Run a forecaster for very long: does it stay as small, as fast and as right as it was.

    python benchmarks/long_run.py               # 10 ** 7 rows and 1000 fits: an hour
    python benchmarks/long_run.py --share 0.05  # a twentieth of both: some minutes

- Stream: rows go through `update` as arrays, most of them in blocks of 20 000. At ten places, 300 rows
  come one at a time, each with a `predict`, and their CPU time is measured. The process's memory, and
  the distance between the forecast and that of a fresh pass over the last rows, are measured there too.
- Fits: a tiny model is fitted and forecasts again and again; memory, open files and threads are counted.
- `update` by one row of an array, a frame and a long frame is timed.
- The same seed must give the same bits, and a series times 1e-30 to 1e30 the same forecast times that.
"""

from __future__ import annotations

import argparse
import gc
import os
import threading
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from titans_ts import TitansForecaster

BLOCK = 20_000
SINGLE = 300
FRESH = 4096
"""Rows of the fresh pass that the carried memory is compared with."""


def resident() -> float:
    """Return the process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def rows(start: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the next rows `[count, 2]` of a series with a daily season and noise."""
    t = np.arange(start, start + count)[:, None]
    return np.sin(t * 2 * np.pi / [24, 168]) * [1, 50] + [0, 1000] + rng.normal(size=(count, 2))


def model(**parameters: object) -> TitansForecaster:
    """Return a tiny forecaster whose memory is carried from window to window."""
    defaults = {
        "prediction_length": 4, "context_length": 32, "patch_length": 8, "patch_stride": 8,
        "d_model": 8, "n_heads": 2, "variant": "lmm", "n_layers": 1, "stateful_windows": 1,
        "blend": False, "max_epochs": 1, "random_state": 0, "progress_bar": False,
    }  # fmt: skip
    return TitansForecaster(**defaults | parameters)


def distance_from_fresh(forecaster: TitansForecaster, last: np.ndarray) -> float:
    """Return the largest difference of forecasts from those of a memory that read `last` alone.

    It is in deviations of the series.
    """
    fresh = deepcopy(forecaster)
    known = len(fresh._tail.values)  # rows that wait to be read
    place = len(last) - known
    fresh.set_history(last[place % 32 :])  # windows that begin where those of the stream did
    return float(np.abs((forecaster.predict() - fresh.predict()) / forecaster.scale_).max())


def stream(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    forecaster = model().fit(rows(0, 2000, rng))
    done, places = 2000, [int(n_rows * share) for share in np.linspace(0.01, 1, 10)]
    print(
        "| rows | resident MB | median CPU ms a row | 99th percentile | distance from a fresh pass |"
    )
    print("|---|---|---|---|---|")
    started = time.process_time()
    for place in places:
        last = np.empty((0, 2))
        while done < place:
            block = rows(done, min(BLOCK, max(FRESH, place - done)), rng)
            forecaster.update(block)
            last = block
            done += len(block)
        seconds = []
        for _ in range(SINGLE):
            row = rows(done, 1, rng)
            begun = time.process_time()
            forecaster.update(row)
            forecaster.predict()
            seconds.append(time.process_time() - begun)
            last = np.concatenate([last, row])[-FRESH:]
            done += 1
        gc.collect()
        median, slow = np.percentile(np.array(seconds) * 1e3, [50, 99])
        apart = distance_from_fresh(forecaster, last)
        print(
            f"| {done:,} | {resident():.0f} | {median:.2f} | {slow:.2f} | {apart:.1e} |", flush=True
        )
    print(f"{(done - 2000) / (time.process_time() - started):,.0f} rows a CPU second")


def fits(n_fits: int) -> None:
    series = rows(0, 200, np.random.default_rng(1))
    print("\n| fits | resident MB | open files | threads | objects |\n|---|---|---|---|---|")
    for i in range(n_fits + 1):
        model(stateful_windows=0, n_layers=0).fit(series).predict()
        if i % max(1, n_fits // 5) == 0:
            gc.collect()
            files = len(list(Path("/proc/self/fd").iterdir()))
            counts = f"{files} | {threading.active_count()} | {len(gc.get_objects())}"
            print(f"| {i} | {resident():.0f} | {counts} |", flush=True)


def forms() -> None:
    """Measure `update` by one row, in every form that a series may have."""
    n = 200
    times = pd.date_range("2026", periods=2000 + n, freq="h", name="timestamp")
    frame = pd.DataFrame(rows(0, len(times), np.random.default_rng(1)), times, ["a", "b"])
    long = frame.melt(var_name="item_id", value_name="y", ignore_index=False).reset_index()
    series = {
        "array": [frame[i : i + 1].to_numpy() for i in range(len(frame))],
        "frame": [frame[i : i + 1] for i in range(len(frame))],
        "long frame of two items": [part for _, part in long.groupby("timestamp")],
    }
    for name, parts in series.items():
        join = np.concatenate if name == "array" else pd.concat
        forecaster = model().fit(join(parts[:2000]))
        seconds = []
        for part in parts[2000:]:
            begun = time.process_time()
            forecaster.update(part)
            seconds.append(time.process_time() - begun)
        print(f"update by one row of {name}: {np.median(seconds) * 1e3:.2f} CPU ms")


def same_seed() -> None:
    series = rows(0, 300, np.random.default_rng(2))
    first, second = (model(variant="mac").fit(series).predict().tobytes() for _ in range(2))
    print(f"\nsame seed, same bits: {first == second}")


def scales() -> None:
    series = rows(0, 300, np.random.default_rng(3))
    expected = model().fit(series).predict()
    worst = 0.0
    for power in range(-30, 31, 10):
        found = model().fit(series * 10.0**power).predict() / 10.0**power
        worst = max(worst, float((np.abs(found - expected) / series.std(0)).max()))
    print(f"1e-30 to 1e30: forecasts differ by at most {worst:.1e} deviations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of 10 ** 7 rows and 1000 fits")
    share = parser.parse_args().share
    torch.set_num_threads(1)
    stream(int(10**7 * share))
    fits(int(1000 * share))
    forms()
    same_seed()
    scales()


if __name__ == "__main__":
    main()
