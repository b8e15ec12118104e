"""The gain of a small search on ETTh1, and the time that pruning saves.

    python benchmarks/tuning.py

Context and horizon 96, the literature's borders, z-scored on the train rows. Twenty trials are fitted on
the train rows and scored on the validation rows; the first has the default parameters. Then the same
twenty sets of parameters are run again without pruning. The best and the default parameters are fitted on
the train rows with several seeds (the validation rows choose the epoch) and scored on the test part.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import optuna
import torch
from record import record

from titans_ts import TitansForecaster, TitansSearch
from titans_ts.datasets import literature_split, load_dataset
from titans_ts.tuning import default_space

LENGTH = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n-trials", type=int, default=20)
    parser.add_argument("--max-epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=25, help="steps per epoch")
    parser.add_argument("--pruner", default="asha")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    frame = load_dataset("ETTh1")
    split = literature_split("ETTh1", len(frame))
    n_train, n_fit = split.train.stop, split.validation.stop
    frame = (frame - frame.iloc[:n_train].mean()) / frame.iloc[:n_train].std(ddof=0)
    forecaster = TitansForecaster(
        LENGTH,
        LENGTH,
        patch_length=16,
        patch_stride=8,
        max_epochs=args.max_epochs,
        training_options={
            "max_steps_per_epoch": args.steps,
            "validation_fraction": (n_fit - n_train) / n_fit,
        },
        random_state=0,
        progress_bar=False,
    )
    space = default_space(forecaster, frame.iloc[:n_fit])
    command = (
        f"python benchmarks/tuning.py --n-trials {args.n_trials} --max-epochs {args.max_epochs} "
    )
    command += f"--steps {args.steps} --pruner {args.pruner} --seeds {args.seeds}"
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        print(row, flush=True)
        record("tuning-ETTh1", command, rows, space={k: str(v) for k, v in space.items()})

    options: dict[str, Any] = {"n_trials": args.n_trials, "scoring": "mse", "refit": False}
    options |= {"cv": [(np.arange(n_train), np.arange(n_train, n_fit))], "random_state": 0}
    first = None
    for pruner in (args.pruner, "none"):
        search = TitansSearch(forecaster, space, pruner=pruner, study_name="ETTh1", **options)
        if first is not None:
            search.set_params(storage=again(first))
        start, used = time.perf_counter(), time.process_time()
        search.fit(frame.iloc[:n_fit])
        states = [t.state.name for t in search.study_.trials]
        note(
            {
                "what": "the search" if first is None else "the same trials, to their ends",
                "pruner": pruner,
                "cpu_seconds": round(time.process_time() - used, 1),
                "seconds": round(time.perf_counter() - start, 1),
                "states": {name: states.count(name) for name in sorted(set(states))},
                "scores": [
                    round(float(s), 4) if s == s else None
                    for s in search.cv_results_["mean_test_score"]
                ],
                "best": search.best_params_,
            }
        )
        if first is None:
            first, found = search.study_, search.best_params_
    for name, params in (("default", {}), ("best of the search", found)):
        for seed in range(args.seeds):
            model = TitansForecaster(**forecaster.get_params() | params | {"random_state": seed})
            note({"what": name, "seed": seed} | test_errors(model, frame, split))


def again(study: optuna.Study) -> optuna.storages.InMemoryStorage:
    """Return a storage with a study of the same name in which the same parameters are enqueued."""
    storage = optuna.storages.InMemoryStorage()
    copy = optuna.create_study(
        study_name=study.study_name, storage=storage, directions=study.directions
    )
    for name, value in study.user_attrs.items():
        copy.set_user_attr(name, value)
    for trial in study.trials:
        copy.enqueue_trial(trial.params)
    return storage


def test_errors(model: TitansForecaster, frame: Any, split: Any) -> dict[str, float]:
    """Errors of every window of the test part, on the z-scored scale."""
    model.fit(frame.iloc[: split.validation.stop])
    backtest = model.backtest(
        frame.iloc[split.with_context(LENGTH).test], stride=1, progress_bar=False
    )
    errors = backtest.metrics().loc["titans"]
    return {f"test_{name}": round(float(errors[name]), 4) for name in ("mse", "mae")} | {
        "windows": backtest.n_windows
    }


if __name__ == "__main__":
    main()
