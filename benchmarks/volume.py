"""Time and memory of operations whose cost grows with the number of items, windows or rows.

    python benchmarks/volume.py [--json results.json]

The program measures the milliseconds of resampling per item, the microseconds of the baselines per item
and window and of the seasonal errors per item, and the peak memory of reading and of fitting, in
multiples of the values' own float64 bytes (which are not counted).
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_ts import TitansForecaster
from titans_ts.forecasting.backtest import baselines, seasonal_errors
from titans_ts.forecasting.cutoffs import cutoffs
from titans_ts.forecasting.panel import Roles
from titans_ts.forecasting.parse import read_panel


def seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """Return the median duration of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def peak_bytes(function: Callable[[], Any]) -> int:
    """Return the peak memory that a call allocates."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def long_frame(n_items: int, length: int) -> pd.DataFrame:
    """Make a frame of items with hourly rows, one item after the other."""
    times = pd.date_range("2024-01-01", periods=length, freq="h")
    values = np.random.default_rng(0).normal(size=n_items * length)
    return pd.DataFrame(
        {
            "item_id": np.repeat(np.arange(n_items), length),
            "timestamp": np.tile(times, n_items),
            "y": values,
        }
    )


def forecasting() -> dict[str, float]:
    """Measure resampling, baselines, and the peak memory of reading and fitting."""
    frame, n_items = long_frame(500, 200), 500
    results = {
        "resampling, ms per item": seconds(lambda: read_panel(frame, Roles(freq="2h")))
        / n_items
        * 1e3
    }
    panel = read_panel(frame, Roles())
    cuts = cutoffs(panel, 48, 24, 4)
    results["baselines, us per item and window"] = (
        seconds(lambda: baselines(panel, cuts, 24, 24)) / cuts.size * 1e6
    )
    results["seasonal errors, us per item"] = (
        seconds(lambda: seasonal_errors(panel, cuts, 24)) / n_items * 1e6
    )
    wide = pd.DataFrame(
        np.random.default_rng(0).normal(size=(500_000, 8)),
        pd.date_range("2000-01-01", periods=500_000, freq="min"),
    )
    whole = read_panel(wide, Roles())
    results["reading a frame, times the values"] = (
        peak_bytes(lambda: read_panel(wide, Roles())) / whole.values.nbytes
    )
    long = read_panel(long_frame(500, 4000), Roles())
    for name, data, stateful in (
        ("one series", whole, 0),
        ("500 items", long, 0),
        ("500 items, stateful", long, 1),
    ):
        small = TitansForecaster(
            24,
            48,
            patch_length=16,
            patch_stride=8,
            d_model=16,
            n_heads=2,
            n_layers=0,
            max_epochs=1,
            stateful_windows=stateful,
            random_state=0,
            progress_bar=False,
            training_options={"max_steps_per_epoch": 1},
        )
        small.fit_panel(
            read_panel(wide.head(1000), Roles())
        )  # the import of Lightning takes 100 MB
        peak = peak_bytes(lambda: small.fit_panel(data))  # noqa: B023
        results[f"fitting {name}, times the values"] = peak / data.values.nbytes
    return results


SECTIONS = {"forecasting": forecasting}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), help="default: all")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    results = {name: SECTIONS[name]() for name in arguments.sections}
    for name, section in results.items():
        for what, value in section.items():
            print(f"{name}: {what}: {value:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
