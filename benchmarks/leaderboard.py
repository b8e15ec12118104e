"""Eleven forecasting sets of the literature: our fitted models among the published ones.

    python benchmarks/leaderboard.py                     # every set, the default and its controls
    python benchmarks/leaderboard.py --sets m1_yearly cif_2016 --models default "no backbone"
    python benchmarks/leaderboard.py --markdown          # the table of the last run; measures nothing

One forecast an item, from all rows of its `train` part. MASE is that of the median, scaled by the error
of a seasonal naive forecast of the train part; the weighted quantile loss (WQL) is over the levels .1 to
.9. A model's score is the geometric mean over the sets of its figure divided by that of the seasonal
naive forecast, which must be the published one. "default" is `TitansForecaster` with its defaults, fitted
to the set: its blocks are those of the pretrained model in the blend. In the controls after a comma, that
one does not write, or another one takes its place, which was trained without writing, with attention
alone or without blocks: `--pretrained` is the folder with those that `pretrain_series.py` wrote. "blocks"
has blocks in the network, too, and its controls are those of the network alone. "simple alone" has a
network of one epoch, which hardly takes part in the blend, and "network alone" is not blended;
`--ablation` leaves out or changes one part of that network, with blocks, after the other. The data are in
`$TITANS_TS_DATA`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from controls import (
    ABLATION,
    CONTROLS,
    DEPTHS,
    PRETRAINED_CONTROLS,
    parameters,
    pretrained_control,
)
from numpy.typing import NDArray
from record import data_file, record, recorded, replaced

from titans_ts import TitansForecaster
from titans_ts.datasets import load_dataset
from titans_ts.forecasting.baselines import seasonal_naive
from titans_ts.forecasting.blend import FORECASTERS, ZERO_SHOT
from titans_ts.forecasting.metrics import (
    mean_absolute_scaled_error,
    seasonal_error,
    weighted_quantile_loss,
)

LEVELS = tuple(round(0.1 * i, 1) for i in range(1, 10))
NOT_PRETRAINED = [name for name in FORECASTERS if name != ZERO_SHOT]
BLOCKS = {"variant": "mac"}
MODELS: dict[str, dict[str, Any]] = {
    "default": {},
    **{f"default, {name}": {} for name in PRETRAINED_CONTROLS},
    "fast": {"preset": "fast"},
    "blocks": BLOCKS,
    "blocks, write off": BLOCKS | CONTROLS["write off"],
    "blocks, attention alone": CONTROLS["attention alone"],
    "zero-shot": {"preset": "zero-shot"},
    **{f"zero-shot, {name}": {"preset": "zero-shot"} for name in PRETRAINED_CONTROLS},
    "not pretrained": {"blend": NOT_PRETRAINED},
    "simple and pretrained": {"max_epochs": 1},
    "simple alone": {"blend": NOT_PRETRAINED, "max_epochs": 1},
    "network alone": {"blend": False},
    "blocks, network alone": BLOCKS | {"blend": False},
}
PARTS = {
    f"{name}, network alone": BLOCKS | {"blend": False} | options
    for name, options in (
        {name: parameters(settings) for name, settings in (DEPTHS | ABLATION).items()} | CONTROLS
    ).items()
}
NAIVE = "seasonal_naive"
LITERATURE = {
    "ETTh": (("ETTh1", "ETTh2"), 24, 24, "h", 0),
    "ETTm": (("ETTm1", "ETTm2"), 24, 96, "15min", 72),
    "exchange_rate": (("exchange_rate",), 30, 5, "B", 0),
}
"""Sets whose items are the columns of wide ones: these, the horizon, the season, the frequency, and the
number of rows after the test part."""


class Set(NamedTuple):
    """A set: the rows of the train part, and what came after them."""

    train: pd.DataFrame
    """Columns item_id, timestamp, target."""
    test: NDArray[np.float64]
    """`[items, horizon]`, in the order of the items in `train`."""
    season: int


def read(name: str) -> Set:
    """Read a set."""
    if name in LITERATURE:
        sources, horizon, season, freq, after = LITERATURE[name]
        parts = {}
        for source in sources:
            frame = load_dataset(source)
            for column in frame:
                values = frame[column].to_numpy(float)
                parts[f"{source}_{column}"] = values[: len(values) - after]
        train = pd.concat(
            pd.DataFrame(
                {"item_id": item, "step": np.arange(len(v) - horizon), "target": v[:-horizon]}
            )
            for item, v in parts.items()
        )
        return Set(dated(train, freq), np.stack([v[-horizon:] for v in parts.values()]), season)
    about = pd.read_csv(data_file("zeroshot/sets.csv")).set_index("name").loc[name]
    frame = pd.read_csv(data_file(f"zeroshot/{name}.csv.gz"))
    train = frame.loc[frame["part"] == "train", ["item_id", "step", "target"]]
    test = frame.loc[frame["part"] == "test"].groupby("item_id", sort=False)["target"]
    order = train["item_id"].unique()
    after = {item: values.to_numpy(float) for item, values in test}
    future = np.stack([after[item] for item in order])
    return Set(dated(train, about["freq"]), future, int(about["season"]))


def dated(train: pd.DataFrame, freq: str) -> pd.DataFrame:
    """Return rows with times of their frequency instead of steps; all items begin in 2000.

    The sets were published without their dates.
    """
    steps = train["step"].to_numpy()
    times = pd.date_range("2000-01-01", periods=steps.max() + 1, freq=freq)
    return train.drop(columns="step").assign(timestamp=times[steps])


def histories(data: Set) -> list[NDArray[np.float64]]:
    """Return the values of every item's train part."""
    items = data.train.groupby("item_id", sort=False)["target"]
    return [values.to_numpy(float) for _, values in items]


def naive(data: Set) -> NDArray[np.float64]:
    """Repeat the last season of every item, `[items, horizon, levels]`."""
    horizon = data.test.shape[1]
    last = [seasonal_naive(past[:, None], horizon, data.season) for past in histories(data)]
    return np.repeat(np.stack(last), len(LEVELS), 2)


def control(model: str) -> str:
    """Return the control of the pretrained model that a row of the table has; "" for none.

    Examples
    --------
    >>> control("default, attention alone"), control("blocks, attention alone")
    ('attention alone', '')
    """
    base, _, name = model.partition(", ")
    return name if base in ("default", "zero-shot") else ""


def fitted(data: Set, options: dict[str, Any], seed: int) -> TitansForecaster:
    """Fit a model to the train part."""
    forecaster = TitansForecaster(
        prediction_length=data.test.shape[1],
        quantile_levels=LEVELS,
        target="target",
        random_state=seed,
        progress_bar=False,
    )
    return forecaster.set_params(**options).fit(data.train)


def forecasts(forecaster: TitansForecaster, data: Set) -> NDArray[np.float64]:
    """Forecast the test part from the train part, `[items, horizon, levels]`."""
    found = forecaster.predict_quantiles(data.train)
    order = data.train["item_id"].unique()
    items = found.index.get_level_values(0).unique()
    quantiles = found.to_numpy().reshape(len(items), -1, len(LEVELS))
    return quantiles[items.get_indexer(order)]


def scores(data: Set, quantiles: NDArray[np.float64]) -> dict[str, float]:
    """Return MASE and the weighted quantile loss of forecasts `[items, horizon, levels]`."""
    scale = np.array([seasonal_error(past, data.season) for past in histories(data)])
    median = quantiles[..., LEVELS.index(0.5)]
    by_item = mean_absolute_scaled_error(data.test, median, scale[:, None], axis=1)
    return {
        "mase": round(float(np.nanmean(by_item)), 4),
        "wql": round(float(weighted_quantile_loss(data.test, quantiles, LEVELS)), 5),
    }


def relative(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the score of every model: geometric means over the sets, relative to the naive forecast."""
    by = rows.groupby(["model", "set"])[["mase", "wql"]].mean()
    base = by.loc[NAIVE]
    ratio = by.div(base.reindex(by.index.get_level_values("set")).to_numpy())
    found = np.exp(np.log(ratio).groupby("model").mean())
    found["sets"] = by.groupby("model").size()
    if "seconds" in rows:
        found["seconds"] = rows.groupby(["model", "set"])["seconds"].mean().groupby("model").sum()
    return found.sort_values("mase")


def published() -> pd.DataFrame:
    """Return the published figures: model, set, mase, wql."""
    frame = pd.read_csv(data_file("zeroshot/published.csv"))
    return frame.rename(columns={"dataset": "set", "MASE": "mase", "WQL": "wql"})


def table(rows: list[dict[str, Any]]) -> str:
    """Lay out the scores over the sets of `rows`, ours and the published ones, as a Markdown table."""
    ours = pd.DataFrame(rows)
    others = published()
    others = others[others["set"].isin(ours["set"]) & (others["model"] != NAIVE)]
    found = relative(pd.concat([ours, others]))
    lines = ["| model | MASE | WQL | CPU s |", "|---|---|---|---|"]
    for model, row in found.iterrows():
        name = f"**{model}**" if model in MODELS else model
        seconds = f"{row['seconds']:.0f}" if row["seconds"] > 0 else ""
        lines.append(f"| {name} | {row['mase']:.3f} | {row['wql']:.3f} | {seconds} |")
    return "\n".join(lines)


def main() -> None:
    every = list(pd.read_csv(data_file("zeroshot/sets.csv"))["name"]) + list(LITERATURE)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=every, choices=every, metavar="SET")
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), choices=[*MODELS, *PARTS], metavar="MODEL"
    )
    parser.add_argument("--ablation", action="store_true", help="the network and its parts, alone")
    parser.add_argument("--pretrained", type=Path, metavar="FOLDER", help="pretrained controls")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="leaderboard", help="file of the results")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    rows = recorded(args.name)
    if args.markdown:
        print(table(rows))
        return
    if args.pretrained is None:
        args.models = [m for m in args.models if not PRETRAINED_CONTROLS.get(control(m))]
    if args.ablation:
        args.models = ["blocks, network alone", *PARTS]
    torch.set_num_threads(args.threads)
    for name in args.sets:
        data = read(name)
        for model in [NAIVE, *args.models]:
            for seed in range(1 if model == NAIVE else args.seeds):
                start = time.process_time()
                if model == NAIVE:
                    quantiles = naive(data)
                else:
                    with pretrained_control(control(model), args.pretrained):
                        quantiles = forecasts(fitted(data, (MODELS | PARTS)[model], seed), data)
                row = {"set": name, "model": model, "seed": seed, **scores(data, quantiles)}
                row["seconds"] = round(time.process_time() - start, 1)
                print(json.dumps(row), flush=True)
                rows = replaced(rows, row, ("set", "model", "seed"))
        command = shlex.join(["python", "benchmarks/leaderboard.py", *sys.argv[1:]])
        record(args.name, command, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
