"""A fit warns of busy cores, on which it takes thirty times as long."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from tests.forecasting.cases import small
from tests.support import stop_clock
from titans_ts.training import threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("factor", "warned"), [(35.2, True), (4.1, True), (3.9, False), (0.4, False)]
)
def test_a_fit_says_that_threads_wait(factor, warned, monkeypatch):
    monkeypatch.setattr(threads, "_waiting", lambda _: factor)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        small(n_layers=0).fit(np.arange(60.0))
    told = [str(w.message) for w in found if "threads take" in str(w.message)]
    assert len(told) == warned
    if warned:
        assert told[0].startswith(f"2 threads take {factor:.0f} times as long as one")
        assert "torch.set_num_threads(1), or set OMP_NUM_THREADS=1" in told[0]


def test_one_thread_is_not_measured(monkeypatch):
    monkeypatch.setattr(threads, "_waiting", None)
    assert torch.get_num_threads() == 1 or pytest.skip("more than one thread here")
    small(n_layers=0).fit(np.arange(60.0))


def test_waiting_is_a_ratio_of_times(monkeypatch):
    """One thread takes one second for the parts, and all take five for the whole."""
    clock = stop_clock(monkeypatch, "titans_ts.training.threads")

    def add(numbers, _):
        clock.now += 1 / 8 if numbers.ndim == 1 else 5

    monkeypatch.setattr(torch.Tensor, "add_", add)
    threads._waiting.cache_clear()
    assert threads._waiting(2) == pytest.approx(5)
    threads._waiting.cache_clear()
