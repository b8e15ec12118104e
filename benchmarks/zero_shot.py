"""Forecasts without a fit against the number of steps that the pretrained model reads.

    python benchmarks/zero_shot.py --pretrained build      # with the controls in build/swa, none, nowrite
    python benchmarks/zero_shot.py --markdown              # the table of the last run; measures nothing

24 steps are forecast on ETTh1 and ETTh2 (hours), 96 on ETTm1 and ETTm2 (quarter hours), every variate by
itself, from every 97th step of the last fifth of the rows. The memory begins empty at the first step that
is read, so that a short context is a window alone, and a long one shows what the memory carries. Errors
are relative to those of the seasonal naive forecast: mean absolute ones of the median, and the quantile
loss; geometric means over the four sets. "write off" is the same model with a memory that no longer
writes; "never written" was also trained so.
Its scores on the eleven sets are rows of `leaderboard.py`. The data are in `$TITANS_TS_DATA`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from controls import PRETRAINED_CONTROLS, pretrained_control
from leaderboard import LEVELS
from numpy.typing import NDArray
from record import record, recorded, replaced

from titans_ts.datasets import load_dataset
from titans_ts.forecasting.metrics import quantile_loss
from titans_ts.forecasting.pretrained import pretrained_quantiles

Array = NDArray[np.float64]

CONTEXTS = (96, 256, 512, 1024, 2048, 4096, 8192)
SETS = {"ETTh1": 24, "ETTh2": 24, "ETTm1": 96, "ETTm2": 96}
"""Data sets, with their season, which is also the number of steps ahead."""
EVERY = 97
NAME = "zero-shot"


def errors(actual: Array, quantiles: Array) -> dict[str, float]:
    """Return the mean absolute error of the median and the mean quantile loss, of values `[N, H]`."""
    median = quantiles[..., LEVELS.index(0.5)]
    return {
        "mae": float(np.nanmean(np.abs(actual - median))),
        "loss": float(np.nanmean(quantile_loss(actual, quantiles, LEVELS))),
    }


def run(models: list[str], folder: Path | None, command: str) -> None:
    """Score the pretrained model and its controls with every context."""
    rows = recorded(NAME)
    for name, season in SETS.items():
        values = load_dataset(name).to_numpy(float)
        ends = np.arange(len(values) * 8 // 10, len(values) - season, EVERY)
        actual = np.concatenate([values[e : e + season].T for e in ends])
        naive = np.concatenate([values[e - season : e].T for e in ends])
        base = errors(actual, np.repeat(naive[..., None], len(LEVELS), -1))
        for label in models:
            for context in CONTEXTS:
                start = time.process_time()
                past = np.concatenate([values[e - context : e].T for e in ends])
                with pretrained_control(label, folder):
                    found = errors(actual, pretrained_quantiles(past, season, season))
                row = {"set": name, "model": label, "context": context, "series": len(past)}
                row |= {k: round(found[k] / base[k], 4) for k in found}
                row["seconds"] = round(time.process_time() - start, 2)
                print(json.dumps(row), flush=True)
                rows = replaced(rows, row, ("set", "model", "context"))
        record(NAME, command, rows)


def table() -> str:
    """Lay the results out as a Markdown table."""
    rows = pd.DataFrame(recorded(NAME))
    lines = ["| error, model | " + " | ".join(map(str, CONTEXTS)) + " |"]
    lines.append("|" + "---|" * (1 + len(CONTEXTS)))
    for error in ("mae", "loss"):
        mean = np.exp(np.log(rows[error]).groupby([rows["model"], rows["context"]]).mean())
        for model, by in mean.groupby(level=0, sort=False):
            lines.append(f"| {error}, {model} | " + " | ".join(f"{v:.3f}" for v in by) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pretrained", type=Path, metavar="FOLDER", help="pretrained controls")
    names = ["zero-shot", *PRETRAINED_CONTROLS]
    parser.add_argument("--models", nargs="+", choices=names, help="default: all there are")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    if not args.markdown:
        torch.set_num_threads(args.threads)
        without = [
            name for name, kind in PRETRAINED_CONTROLS.items() if args.pretrained or not kind
        ]
        command = shlex.join(["python", "benchmarks/zero_shot.py", *sys.argv[1:]])
        run(args.models or ["zero-shot", *without], args.pretrained, command)
    print(table())


if __name__ == "__main__":
    main()
