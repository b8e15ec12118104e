"""The literature's long horizons: 96, 192, 336 and 720 steps, each with the memory on and off.

    python benchmarks/long_horizons.py --search        # finds recipes/SET-CONTEXT.yaml by TitansSearch
    python benchmarks/long_horizons.py                 # every recipe and its controls
    python benchmarks/long_horizons.py --markdown      # the tables of the last run; measures nothing
    python benchmarks/long_horizons.py --csv ECL.csv --season 24 --search   # split 7:1:2

One fit of 720 steps answers all four horizons; the literature fits each horizon on its own.
Otherwise its protocol holds: z-scores with the train rows, standard borders, every stride-1 window
of the test part, all variates, no drop_last. A search sees the train and validation rows alone; its
trials are scored by the mean squared error of all 720 steps of the validation windows. One trial tries
a start as it is.

Controls that are not of every benchmark: "no season" learns no season (the starts learn the day's),
"variates apart" has the tokens, depth and width of the start "patch", where every variate is forecast
from its own past, and "linear" is a linear map of the same context, beside a network without blocks
that was trained for one epoch. A control that is the recipe itself is left out.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from controls import CONTROLS
from optuna.distributions import CategoricalDistribution, FloatDistribution
from record import record, recorded, replaced

from titans_ts import TitansForecaster
from titans_ts.datasets import DATASETS, literature_split, load_dataset, ratio_split

SETS = ("ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather")
HORIZONS = (96, 192, 336, 720)
CONTEXTS = (96, 336)
APART = {"tokens": "patch", "n_layers": 1, "patch_length": 16, "d_model": 64}
STARTS: dict[str, dict[str, Any]] = {
    "patch": APART,
    "variate": {"tokens": "variate", "n_layers": 2, "d_model": 128},
    "beside": APART | {"blend": ["linear"], "training_options__max_steps_per_epoch": 50},
}
"""Where searches begin. patch: the memory reads the past of one variate; variate: it reads the variates
one after the other; beside: as patch, in a blend with a linear map, and trained for a quarter of the
steps."""
MODELS = {
    "recipe": {},
    **CONTROLS,
    "no season": {"season_length": 0},
    "variates apart": APART,
    "linear": APART | {"n_layers": 0, "max_epochs": 1, "blend": ["linear"], "season_length": 0},
}
NAME, RECIPES = "long-horizons", Path(__file__).parent / "recipes"
TRAINED_FOR_LONG: dict[str, Any] = {
    "variant": "mac",
    "blend": False,
    "max_epochs": 12,
    "training_options__max_steps_per_epoch": 200,
}
SPACE = {
    "variant": CategoricalDistribution(["mac", "lmm"]),
    "training_options__max_steps_per_epoch": CategoricalDistribution([50, 200]),
    "learning_rate": FloatDistribution(5e-4, 4e-3, log=True),
    "model_options__dropout": FloatDistribution(0.0, 0.4),
    "model_options__head_dropout": FloatDistribution(0.0, 0.5),
}
"""What a search varies, beside whether a season is learned."""
BATCH = 250
"""Windows that are forecast at once."""


@cache
def series(name: str) -> tuple[pd.DataFrame, Any]:
    """Return the z-scored rows of a registered set or of a file, and its split.

    The index counts the rows: the place of one in a season follows from it.
    """
    if name in DATASETS:
        values = load_dataset(name).to_numpy(float)
        split = literature_split(name, len(values))
    else:
        values = pd.read_csv(name, index_col=0).to_numpy(float)
        split = ratio_split(len(values), 0.7, 0.1, 0.2)
    train = values[split.train]
    spread = train.std(0)
    scaled = (values - train.mean(0)) / np.where(spread > 0, spread, 1.0)
    return pd.DataFrame(scaled, columns=[f"variate {i}" for i in range(values.shape[1])]), split


def forecaster(name: str, context: int, parameters: dict[str, Any], seed: int) -> TitansForecaster:
    """Return an unfitted forecaster whose validation part is the literature's."""
    _, split = series(name)
    n_train, n_fit = split.train.stop, split.validation.stop
    fraction = (n_fit - n_train + 0.5) / n_fit  # it is truncated to rows
    model = TitansForecaster(HORIZONS[-1], context, random_state=seed, progress_bar=False)
    model.set_params(**parameters)
    return model.set_params(training_options__validation_fraction=fraction)


def errors(model: TitansForecaster, rows: pd.DataFrame, context: int) -> dict[str, Any]:
    """Errors of every window of rows, and the number of windows, for each horizon."""
    squared, absolute, count = (dict.fromkeys(HORIZONS, 0.0) for _ in range(3))
    n_windows = len(rows) - context - HORIZONS[0] + 1
    longest = HORIZONS[-1]  # the last windows are forecast beyond the rows
    padded = rows.reindex(range(rows.index[0], rows.index[0] + n_windows + context + longest - 1))
    for first in range(0, n_windows, BATCH):
        block = padded[first : min(first + BATCH, n_windows) - 1 + context + longest]
        test = model.backtest(block, stride=1, progress_bar=False)
        error = test.forecasts["titans"][:, 0] - test.actual[:, 0]  # [windows, steps, variates]
        for horizon in HORIZONS:
            n = min(len(error), max(0, len(rows) - context - horizon + 1 - first))
            whole = error[:n, :horizon]
            squared[horizon] += float((whole**2).sum())
            absolute[horizon] += float(np.abs(whole).sum())
            count[horizon] += whole.size
    return {
        "mse": {str(h): round(squared[h] / count[h], 4) for h in HORIZONS},
        "mae": {str(h): round(absolute[h] / count[h], 4) for h in HORIZONS},
        "windows": {str(h): int(count[h] / h / rows.shape[1]) for h in HORIZONS},
    }


def run(name: str, context: int, control: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """Fit a recipe, or a control of it, and measure its errors in the test part.

    None if the control is the recipe itself.
    """
    rows, split = series(name)
    parts = split.with_context(context)
    parameters = yaml.safe_load(recipe_file(name, context).read_text())["parameters"]
    model = forecaster(name, context, parameters, seed)
    own = model.get_params()
    if control and model.set_params(**control).get_params() == own:
        return None
    start = time.process_time()
    model.fit(rows[: split.validation.stop])
    row: dict[str, Any] = {"fit": round(time.process_time() - start, 1)}
    start = time.process_time()
    row["test"] = errors(model, rows[parts.test], context)
    row["predict"] = round(time.process_time() - start, 1)
    return row


def recipe_file(name: str, context: int) -> Path:
    """Return where a recipe is."""
    return RECIPES / f"{Path(name).stem}-{context}.yaml"


def search(name: str, context: int, season: int, args: argparse.Namespace, command: str) -> None:
    """Find a recipe with the train and validation rows, by a search from every start, and write it.

    Results of the recipe before are dropped.
    """
    from titans_ts import TitansSearch

    rows, split = series(name)
    n_train, n_fit = split.train.stop, split.validation.stop
    scores: dict[str, float] = {}
    best: dict[str, Any] = {}
    began = time.process_time()
    for start in args.starts:
        parameters = TRAINED_FOR_LONG | STARTS[start] | {"season_length": season}
        base = forecaster(name, context, parameters, 0)
        base.set_params(training_options__validation_fraction=0.1)  # of the train rows
        tried = TitansSearch(
            base,
            SPACE | {"season_length": CategoricalDistribution([season, 0])},
            n_trials=args.trials,
            scoring="mse",
            refit=False,
            cv=[(np.arange(n_train), np.arange(n_train, n_fit))],
            random_state=0,
        )
        tried.fit(rows[:n_fit])
        scores[start] = round(-float(tried.best_score_), 4)
        if scores[start] == min(scores.values()):
            best = parameters | {k: _plain(v) for k, v in tried.best_params_.items()}
    written = {
        "command": command,
        "context": context,
        "trials_per_start": args.trials,
        "seconds": round(time.process_time() - began),
        "validation_mse": scores,
        "parameters": best,
    }
    RECIPES.mkdir(exist_ok=True)
    recipe_file(name, context).write_text(yaml.safe_dump(written, sort_keys=False))
    print(name, written, flush=True)
    here = Path(name).stem, context
    record(NAME, command, [r for r in recorded(NAME) if (r["set"], r["context"]) != here])


def _plain(value: Any) -> Any:
    """Round a number that was drawn, so that a person can read it."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def table(rows: list[dict[str, Any]]) -> str:
    """Lay out the test errors of every horizon, means over the seeds, as a Markdown table."""
    lines = ["| set | context | model | 96 | 192 | 336 | 720 | mean | CPU s |", "|---" * 9 + "|"]
    flat = pd.DataFrame(
        {
            **{k: r[k] for k in ("set", "context", "model")},
            **{h: r["test"]["mse"][h] for h in map(str, HORIZONS)},
            **{f"mae {h}": r["test"]["mae"][h] for h in map(str, HORIZONS)},
            "seconds": r["fit"] + r["predict"],
        }
        for r in rows
    )
    for key, mean in flat.groupby(["set", "context", "model"], sort=False).mean().iterrows():
        mse = mean[[str(h) for h in HORIZONS]]
        mae = mean[[f"mae {h}" for h in HORIZONS]]
        cells = [f"{a:.3f} / {b:.3f}" for a, b in zip(mse, mae, strict=True)]
        cells.append(f"**{mse.mean():.3f}** / {mae.mean():.3f}")
        lines.append("| " + " | ".join([*map(str, key), *cells, f"{mean['seconds']:.0f}"]) + " |")  # type: ignore[misc]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=sorted(DATASETS))
    parser.add_argument("--csv", nargs="+", help="files instead: a time, then the variates")
    parser.add_argument(
        "--season", type=int, help="steps of the season of files (default: 24)", default=24
    )
    parser.add_argument("--contexts", nargs="+", type=int, default=list(CONTEXTS))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--search", action="store_true", help="find the recipes; measure nothing")
    parser.add_argument("--trials", type=int, default=1, help="trials from each start")
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=list(STARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    if args.markdown:
        print(table(recorded(NAME)))
        return
    torch.set_num_threads(args.threads)
    command = shlex.join(["python", "benchmarks/long_horizons.py", *sys.argv[1:]])
    for name in args.csv or args.sets:
        for context in args.contexts:
            if args.search:
                season = DATASETS[name].season_length if name in DATASETS else args.season
                search(name, context, season, args, command)
                continue
            for model in args.models:
                for seed in range(args.seeds):
                    measured = run(name, context, MODELS[model], seed)
                    if measured is None:
                        continue
                    row = {"set": Path(name).stem, "context": context, "model": model, "seed": seed}
                    row |= measured
                    print(row, flush=True)
                    key = ("set", "context", "model", "seed")
                    record(NAME, command, replaced(recorded(NAME), row, key))
    if not args.search:
        print(table(recorded(NAME)))


if __name__ == "__main__":
    main()
