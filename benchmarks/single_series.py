"""Forecasts of six single series: ours beside its controls and the simple methods a user would pick.

    pip install ".[benchmarks]"                          # statsforecast, mlforecast, LightGBM
    python benchmarks/single_series.py                   # every series and model
    python benchmarks/single_series.py --series AirPassengers --models default "no backbone" AutoETS
    python benchmarks/single_series.py --markdown        # the table of the last run; measures nothing

A series is forecast from three origins, before its last three horizons, which do not overlap. Every model
is fitted anew to all rows before each origin. For weather, taxi and PJME it is fitted once, to the rows
before the first origin, and forecasts from each origin with the rows known then.

The measures are means over the origins: MASE of the median, scaled by the seasonal naive error of the
rows before the origin, and the weighted quantile loss (WQL) over the levels .1 to .9. The CPU seconds are
those of all fits and forecasts, on one thread. A model that needs more than `--limit` CPU seconds for a
series is left out there. The data are in `$TITANS_TS_DATA`.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from cpu_limit import TooSlowError, call_apart
from leaderboard import MODELS, NAIVE, scores
from record import record, recorded, replaced, versions
from single_series_data import SERIES, origins
from single_series_methods import EXTRAS, METHODS, check_installed

NAME = "single_series"


def run(name: str, model: str, seed: int, threads: int) -> dict[str, Any]:
    """Return a model's measures for a series, means over the origins."""
    torch.set_num_threads(threads)
    series = SERIES[name]
    parts = origins(series.read(), series.horizon, series.seasons[0])
    method = METHODS[model](series, seed)
    start = time.process_time()
    forecasts = []
    for part in parts:
        if not (series.once and forecasts):
            method.fit(part)
        forecasts.append(method.forecast(part))
    seconds = time.process_time() - start
    found = [scores(part, forecast) for part, forecast in zip(parts, forecasts, strict=True)]
    return {
        "mase": round(float(np.mean([one["mase"] for one in found])), 4),
        "wql": round(float(np.mean([one["wql"] for one in found])), 5),
        "seconds": round(seconds, 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Lay out the means over the seeds as a Markdown table, with a line for every model.

    Models are in the order of their geometric mean MASE relative to the seasonal naive forecast's.
    """
    frame = pd.DataFrame(rows)
    by = frame.groupby(["series", "model"])[["mase", "wql", "seconds"]].mean()
    slow = frame.get("limit", pd.Series(dtype=float)).dropna()
    limits = {(frame["series"][i], frame["model"][i]): limit for i, limit in slow.items()}
    names = [name for name in SERIES if name in frame["series"].unique()]
    mase = by["mase"].unstack("series")
    order = np.log(mase / mase.loc[NAIVE]).mean(1).sort_values().index
    lines = [f"| model | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for model in order:
        cells = []
        for name in names:
            if (name, model) in limits:
                cells.append(f"> {limits[name, model]:.0f} s")
            elif (name, model) in by.index:
                row = by.loc[name, model]
                cells.append(f"{row['mase']:.3f} / {row['wql']:.4f} / {row['seconds']:.1f} s")
            else:
                cells.append("")
        bold = f"**{model}**" if model in MODELS else model
        lines.append(f"| {bold} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--series", nargs="+", default=list(SERIES), choices=list(SERIES))
    parser.add_argument("--models", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=1, help="of ours and its controls")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, default=300, help="CPU seconds for a series")
    parser.add_argument("--name", default=NAME, help="file of the results")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    rows = recorded(args.name)
    if args.markdown:
        print(table(rows))
        return
    check_installed(args.models)
    torch.set_num_threads(args.threads)
    command = f"python benchmarks/single_series.py --seeds {args.seeds} --limit {args.limit}"
    for name in args.series:
        for model in dict.fromkeys([NAIVE, *args.models]):
            if model == "MSTL" and SERIES[name].seasons == (1,):
                continue  # it has no season to subtract
            for seed in range(args.seeds if model in MODELS else 1):
                row: dict[str, Any] = {"series": name, "model": model, "seed": seed}
                try:
                    row |= call_apart(args.limit, run, name, model, seed, args.threads)
                except TooSlowError:
                    row["limit"] = args.limit
                print(json.dumps(row), flush=True)
                rows = replaced(rows, row, ("series", "model", "seed"))
                record(args.name, command, rows, peers=versions(*EXTRAS))
    print(table(rows))


if __name__ == "__main__":
    main()
