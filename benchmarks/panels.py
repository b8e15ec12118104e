"""Panels, compared with GluonTS' own models in the same run by GluonTS' Evaluator.

    python benchmarks/panels.py                        # both panels, all models, one thread
    python benchmarks/panels.py --panels stallion --models titans --validation

stallion has monthly sales of 350 products at agencies. Six months are forecast from 24, with static,
known-future and past-only covariates; each model uses all that it supports. m4 has the 414 hourly series
of the M4 competition. 48 hours are forecast from a week, without covariates (their dates are unknown).
GluonTS' models have its own settings (100 epochs of 50 steps of 32 windows) and the same context as ours.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from gluonts.dataset.split import split
from gluonts.torch import DeepAREstimator, PatchTSTEstimator, TemporalFusionTransformerEstimator
from judge import QUANTILES, judge
from lightning.pytorch import seed_everything
from record import data_file, record

from titans_ts.forecasting.gluonts import TitansEstimator, to_dataset

DAYS = [
    *("easter_day", "good_friday", "new_year", "christmas", "labor_day", "independence_day"),
    *("revolution_day_memorial", "regional_games", "football_gold_cup", "beer_capital"),
    "music_fest",
]


class Task(NamedTuple):
    """A panel and its forecasting settings."""

    entries: list[dict[str, Any]]
    freq: str
    horizon: int
    context: int
    patch: int
    """Number of steps in a patch of PatchTST."""
    season: int
    settings: dict[str, Any]
    """Our settings, chosen by forecasts of the steps before the test part (`--validation`)."""


def stallion() -> Task:
    """350 series of 60 months; the last six months are the test part."""
    frame = pd.read_parquet(data_file("stallion.parquet"))
    frame = frame.assign(item_id=frame["agency"].astype(str) + "/" + frame["sku"].astype(str))
    known = ["price_regular", "price_actual", "discount", "discount_in_percent"]
    past = ["industry_volume", "soda_volume", "avg_max_temp"]
    real = ["avg_population_2017", "avg_yearly_household_income_2017"]
    numbers = [*known, *past, *real]  # GluonTS' models do not scale them
    fitted = frame.loc[frame["date"] < "2017-07-01", numbers]
    frame[numbers] = (frame[numbers] - fitted.mean()) / fitted.std()
    entries = to_dataset(
        frame,
        target="volume",
        timestamp="date",
        known_covariates=[*known, *DAYS],
        past_covariates=past,
        static_covariates=["agency", "sku", *real],
    )
    settings = {
        "patch_length": 6,
        "patch_stride": 3,
        "calendar": ["year"],
        "d_model": 32,
        "n_heads": 2,
        "n_layers": 1,
        "model_options": {"dropout": 0.0, "head_dropout": 0.5},
        "training_options": {"validation_fraction": 0},
        "batch_size": 32,
        "learning_rate": 3e-3,
        "max_epochs": 4,
    }
    return Task(entries, "M", 6, 24, 6, 12, settings)


def m4() -> Task:
    """414 series of 748 or 1008 hours; the last 48 hours are the test part."""
    past, future = (
        pd.read_csv(data_file(f"Hourly-{part}.csv.gz"), index_col=0) for part in ("train", "test")
    )
    start = pd.Period("2000-01-01 00:00", freq="h")
    entries = [
        {
            "item_id": name,
            "start": start,
            "target": np.concatenate(
                [past.loc[name].dropna(), future.loc[name].dropna()], dtype=np.float32
            ),
        }
        for name in past.index
    ]
    settings = {
        "patch_length": 24,
        "patch_stride": 12,
        "n_layers": 1,
        "model_options": {"dropout": 0.1, "head_dropout": 0.1},
        "training_options": {"validation_fraction": 0.06},
        "batch_size": 64,
        "learning_rate": 3e-3,
        "max_epochs": 3,
    }
    return Task(entries, "h", 48, 168, 24, 24, settings)


TASKS: dict[str, Callable[[], Task]] = {"stallion": stallion, "m4": m4}
MODELS = ("titans", "deepar", "tft", "patchtst")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--panels", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--validation", action="store_true", help="forecast the steps before the test part instead"
    )
    parser.add_argument("--settings", default="{}", help="json that replaces our settings")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for panel in args.panels:
        command = f"python benchmarks/panels.py --panels {panel} --seeds {args.seeds}"
        rows = []
        for model in args.models:
            for seed in range(args.seeds):
                rows.append(run(panel, model, seed, json.loads(args.settings), args.validation))
                print(rows[-1], flush=True)
                if not args.validation:
                    record(f"panels-{panel}", command, rows)


def run(
    panel: str, model: str, seed: int, settings: dict[str, Any], validation: bool
) -> dict[str, Any]:
    """Train on all but the last steps, forecast these, and evaluate with GluonTS."""
    task = TASKS[panel]()
    entries = [_head(e, task.horizon) for e in task.entries] if validation else task.entries
    known, template = split(entries, offset=-task.horizon)
    pairs = list(template.generate_instances(prediction_length=task.horizon))
    seed_everything(seed, verbose=False)
    start = time.perf_counter()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        predictor = _estimator(model, task, seed, settings, folder).train(list(known))
        seconds = time.perf_counter() - start
        forecasts = list(predictor.predict([past for past, _ in pairs]))
    metrics = "mean_wQuantileLoss", "MASE", "ND"
    return {
        "panel": panel,
        "model": model,
        "seed": seed,
        "series": len(forecasts),
        "seconds": round(seconds),
        **judge(pairs, forecasts, task.freq, task.season, *metrics),
    }


def _estimator(model: str, task: Task, seed: int, settings: dict[str, Any], folder: str) -> Any:
    first = task.entries[0]
    sizes = {
        key: len(first.get(key, ()))
        for key in ("feat_dynamic_real", "past_feat_dynamic_real", "feat_static_real")
    }
    codes = np.array([e.get("feat_static_cat", ()) for e in task.entries], dtype=int)
    cardinality = [int(column.max()) + 1 for column in codes.T]
    trainer = {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "default_root_dir": folder,
    }
    shared = {
        "prediction_length": task.horizon,
        "context_length": task.context,
        "trainer_kwargs": trainer,
    }
    if model == "titans":
        return TitansEstimator(
            task.horizon,
            random_state=seed,
            progress_bar=False,
            **({"context_length": task.context} | task.settings | settings),
        )
    if model == "deepar":
        return DeepAREstimator(
            freq=task.freq,
            num_feat_dynamic_real=sizes["feat_dynamic_real"],
            num_feat_static_cat=len(cardinality),
            num_feat_static_real=sizes["feat_static_real"],
            cardinality=cardinality or None,
            **shared,
        )
    if model == "tft":
        return TemporalFusionTransformerEstimator(
            freq=task.freq,
            quantiles=QUANTILES,
            static_dims=[sizes["feat_static_real"]] if sizes["feat_static_real"] else None,
            dynamic_dims=[sizes["feat_dynamic_real"]] if sizes["feat_dynamic_real"] else None,
            past_dynamic_dims=(
                [sizes["past_feat_dynamic_real"]] if sizes["past_feat_dynamic_real"] else None
            ),
            static_cardinalities=cardinality or None,
            **shared,
        )
    return PatchTSTEstimator(
        patch_len=task.patch, num_feat_dynamic_real=sizes["feat_dynamic_real"], **shared
    )


def _head(entry: dict[str, Any], n: int) -> dict[str, Any]:
    """Return an entry without its last n steps."""
    return {
        key: value[..., :-n] if key == "target" or "dynamic" in key else value
        for key, value in entry.items()
    }


if __name__ == "__main__":
    main()
