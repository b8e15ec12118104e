"""Time the operations whose cost grows with the number of items, windows or rows.

    python benchmarks/volume.py

It prints, for the forecaster: milliseconds of resampling per item, microseconds of the baselines per
item and window, and the peak memory of the steps of a fit in multiples of the values' own bytes.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from titans_ts import TitansForecaster
from titans_ts.forecasting.backtest import baselines
from titans_ts.forecasting.cutoffs import cutoffs
from titans_ts.forecasting.panel import Roles
from titans_ts.forecasting.parse import read_panel


def seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """The median duration of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def peak_bytes(function: Callable[[], Any]) -> int:
    """The most memory that a call allocates at one time."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def long_frame(n_items: int, length: int) -> pd.DataFrame:
    """Items of hourly rows, one after the other."""
    times = pd.date_range("2024-01-01", periods=length, freq="h")
    values = np.random.default_rng(0).normal(size=n_items * length)
    return pd.DataFrame(
        {
            "item_id": np.repeat(np.arange(n_items), length),
            "timestamp": np.tile(times, n_items),
            "y": values,
        }
    )


def main() -> None:
    frame = long_frame(500, 200)
    roles = Roles(freq="2h")
    print(f"resampling: {seconds(lambda: read_panel(frame, roles)) / 500 * 1e3:.2f} ms an item")

    panel = read_panel(frame, Roles())
    cuts = cutoffs(panel, 48, 24, 4)
    microseconds = seconds(lambda: baselines(panel, cuts, 24, 24)) / cuts.size * 1e6
    print(f"baselines: {microseconds:.1f} us an item and window ({cuts.size} of them)")

    wide = pd.DataFrame(
        np.random.default_rng(0).normal(size=(500_000, 8)),
        pd.date_range("2000-01-01", periods=500_000, freq="min"),
    )
    fitted = TitansForecaster(
        24,
        48,
        d_model=16,
        n_heads=2,
        n_layers=0,
        max_epochs=1,
        random_state=0,
        progress_bar=False,
        training_options={"max_steps_per_epoch": 1},
    )
    size = wide.size * 8
    whole = read_panel(wide, Roles())
    fitted.fit_panel(read_panel(wide.head(1000), Roles()))  # imports Lightning, which takes 100 MB
    print(
        f"reading a frame: {peak_bytes(lambda: read_panel(wide, Roles())) / size:.1f} x the values"
    )
    peak = peak_bytes(lambda: fitted.fit_panel(whole))
    print(f"fitting a panel: {peak / size:.1f} x the values, beside them")


if __name__ == "__main__":
    main()
