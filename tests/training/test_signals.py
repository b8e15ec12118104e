"""Signals and schedulers: what ends a training, and what it does not mistake for distributed training."""

from __future__ import annotations

import io
import os
import signal
import sys

import numpy as np
import pytest
from lightning.pytorch import Callback

from tests.support import small_settings
from titans_ts import TitansForecaster
from titans_ts.training import fit as training

X = np.sin(np.arange(120.0))


class Send(Callback):
    """Send this process a signal after the first epoch."""

    def __init__(self, number):
        self.number = number

    def on_train_epoch_end(self, trainer, module):
        os.kill(os.getpid(), self.number)


def forecaster(**options):
    settings = small_settings(max_epochs=3, training_options={"trainer_kwargs": options})
    return TitansForecaster(4, 16, **settings)


@pytest.fixture
def handled():
    """Restore the handlers, and check that training did."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    outside = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may ignore it
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, outside, strict=True):
        signal.signal(number, handler)
    assert after == before


def test_an_interrupt_is_a_keyboard_interrupt(handled):
    fitted = forecaster().fit(X)
    before = fitted.predict()
    fitted.set_params(training_options={"trainer_kwargs": {"callbacks": [Send(signal.SIGINT)]}})
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X)
    np.testing.assert_array_equal(fitted.predict(), before)


def test_sigterm_ends_the_process_by_the_signal(handled, monkeypatch):
    sent, kill = [], os.kill

    def record(process, number):
        sent.append((process, number))
        if len(sent) == 1:  # the one that the callback sends
            kill(process, number)

    monkeypatch.setattr(training.os, "kill", record)
    with pytest.raises(SystemExit) as ended:
        forecaster(callbacks=[Send(signal.SIGTERM)]).fit(X)
    assert sent == [(os.getpid(), signal.SIGTERM)] * 2
    assert ended.value.code == 143


def test_a_handler_of_the_user_runs_before_the_end(monkeypatch):
    called = []
    former = signal.signal(signal.SIGTERM, lambda *_: called.append(1))
    try:
        with pytest.raises(SystemExit) as ended:
            forecaster(callbacks=[Send(signal.SIGTERM)]).fit(X)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert called == [1]
    assert ended.value.code == 143


SCHEDULERS = {
    "Slurm": {
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "2",
        "SLURM_JOB_ID": "5",
        "SLURM_JOB_NAME": "train",
    },
    "Slurm per node": {
        "SLURM_NTASKS": "4",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_PROCID": "3",
        "SLURM_JOB_NAME": "train",
    },
    "torchrun": {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_process_of_a_scheduler_trains_by_itself(name, monkeypatch):
    expected = forecaster().fit(X).predict()
    for variable, value in SCHEDULERS[name].items():
        monkeypatch.setenv(variable, value)
    np.testing.assert_array_equal(forecaster().fit(X).predict(), expected)


def test_a_bar_that_cannot_be_written_is_left_out(monkeypatch):
    """Lightning's bar has characters that a file in Latin-1 cannot hold."""
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
        monkeypatch.setattr(sys, name, stream)
    forecaster().set_params(progress_bar=True).fit(X)


def test_the_current_folder_may_be_gone(monkeypatch, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    forecaster().fit(X)
