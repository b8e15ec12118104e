"""Train one forecaster with two processes, and get the losses of one process.

Makes its own data, so it needs no network. Lightning runs this file a second time for the second
process. Both draw the same batches, each reads half of every batch, and their gradients are averaged.
That is why `random_state` has to be a number, and why only the first process prints here.

    python examples/16_two_processes.py
"""

import os
from typing import Any

import numpy as np
import torch

from titans_ts import TitansForecaster


def make_series(n_rows: int, seed: int) -> np.ndarray:
    """Two variates with a daily season."""
    rng = np.random.default_rng(seed)
    hours = np.arange(n_rows)[:, None]
    return np.sin(2 * np.pi * (hours + [0, 6]) / 24) + 0.3 * rng.normal(size=(n_rows, 2))


def losses(series: np.ndarray, **trainer_kwargs: Any) -> np.ndarray:
    forecaster = TitansForecaster(
        prediction_length=12,
        context_length=48,
        variant="mac",
        n_layers=1,
        d_model=16,
        n_heads=2,
        blend=False,
        max_epochs=2,
        batch_size=32,  # of both processes together
        model_options={"dropout": 0.0, "head_dropout": 0.0},  # each process draws its own dropout
        training_options={"trainer_kwargs": {"accelerator": "cpu", **trainer_kwargs}},
        random_state=0,
        progress_bar=False,
    ).fit(series)
    return np.array([epoch["validation_loss"] for epoch in forecaster.history_])


def main() -> None:
    torch.set_num_threads(1)
    series = make_series(400, seed=0)
    two = losses(series, devices=2, strategy="ddp")
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # the second process
    torch.distributed.destroy_process_group()
    one = losses(series, devices=1)
    print(f"validation losses of one process: {one.round(5)}, of two: {two.round(5)}")
    print(f"the same: {np.allclose(one, two, rtol=1e-4)}")
    print(f"largest difference {np.abs(two / one - 1).max():.6f}")


if __name__ == "__main__":
    main()
