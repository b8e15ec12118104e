"""Several processes train as one does with the same batches."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from titans_ts import TitansForecaster
from titans_ts.training.batches import batches, bucketed_batches, stream_batches

ROOT = Path(__file__).parents[2]
CLASSIFIER = """
import os, sys
import numpy as np, torch
from titans_ts import TitansClassifier

def losses(**trainer):
    rng = np.random.default_rng(0)
    X = ["".join(rng.choice(list("ACGT"), size=rng.integers(20, 40))) for _ in range(90)]
    y = [s.count("G") > s.count("C") for s in X]
    classifier = TitansClassifier(
        tokenizer="nucleotide", rc="none", kmer_model=None, d_model=8, n_heads=2, n_layers=1,
        max_epochs=2, batch_size=16, random_state=0, progress_bar=False,
        model_options={"dropout": 0.0, "head_dropout": 0.0},
        training_options={"trainer_kwargs": {"accelerator": "cpu", **trainer}},
    ).fit(X, y)
    return np.array([[e["train_loss"], e["validation_loss"]] for e in classifier.history_])

if __name__ == "__main__":
    torch.set_num_threads(1)
    two = losses(devices=2, strategy="ddp")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        torch.distributed.destroy_process_group()
        print(f"largest difference {np.abs(two / losses(devices=1) - 1).max():.6f}")
"""


def difference(script):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    return float(re.search(r"largest difference ([\d.]+)", result.stdout)[1])


@pytest.mark.slow
def test_two_processes_reach_the_losses_of_one(tmp_path):
    """Both sum the same float32 gradients in another order, and the rounding grows in each step."""
    assert difference(ROOT / "examples" / "16_two_processes.py") < 1e-4
    (tmp_path / "classifier.py").write_text(CLASSIFIER)
    assert difference(tmp_path / "classifier.py") < 1e-4


class Samples:
    def __len__(self):
        return 10

    def __getitem__(self, indices):
        return list(indices)

    def following(self, indices, skipped):
        return torch.where(indices < 9, indices + 1, -1)


@pytest.mark.parametrize(
    "loader",
    [
        lambda g: batches(Samples(), 4, g),
        lambda g: bucketed_batches(Samples(), range(10), 4, g),
        lambda g: (batch[:-1] for batch in stream_batches(Samples2(), 4, g, 3)),
    ],
    ids=["batches", "bucketed", "streams"],
)
def test_processes_share_every_batch(loader, monkeypatch):
    def read(rank, size):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: size > 1)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)
        return [list(batch) for batch in loader(torch.Generator().manual_seed(0))]

    whole, first, second = read(0, 1), read(0, 2), read(1, 2)
    for batch, one, two in zip(whole, first, second, strict=True):
        assert sorted(batch) == sorted(one + two)
        assert len(one) - len(two) in (0, 1)


class Samples2(Samples):
    def __getitem__(self, indices):
        return tuple(indices)


def test_several_processes_need_a_seed():
    forecaster = TitansForecaster(
        training_options={"trainer_kwargs": {"devices": 2, "strategy": "ddp"}}
    )
    with pytest.raises(ValueError, match=r"random_state is None.*give a whole number"):
        forecaster.fit([float(i % 7) for i in range(300)])


@pytest.mark.skipif(
    torch.cuda.device_count() > 1, reason="all of several GPUs are several processes"
)
def test_all_devices_may_be_one_process_which_needs_no_seed():
    trainer = {"devices": "auto", "accelerator": "cpu", "enable_progress_bar": False}
    small = {"d_model": 8, "n_heads": 1, "max_epochs": 1, "blend": False, "progress_bar": False}
    forecaster = TitansForecaster(2, 8, **small, training_options={"trainer_kwargs": trainer})
    assert forecaster.fit([float(i % 7) for i in range(60)]).predict().shape == (2,)
