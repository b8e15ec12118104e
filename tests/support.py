"""What the tests of several folders share: settings of small models, random DNA, and a clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

__all__ = [
    "Clock",
    "random_dna",
    "rounding",
    "small_dna_settings",
    "small_settings",
    "stop_clock",
    "wait_until",
]


class Clock:
    """A clock that stands still until `now` is changed; it takes the place of `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def stop_clock(monkeypatch, module):
    """Let a module that reads `time.perf_counter` read this :class:`Clock` instead."""
    clock = Clock()
    monkeypatch.setattr(f"{module}.time.perf_counter", clock)
    return clock


def rounding(expected, share=1e-5):
    """Return the tolerances, rtol and atol, for float32 results that are computed in two ways.

    Another batch, or another processor, adds in another order. The error has the size of the largest
    value, so a relative tolerance is too small for the values near 0.
    """
    largest = np.nanmax(np.abs(np.asarray(expected, dtype=float)))
    return {"rtol": 0, "atol": share * float(largest)}


def small_settings(**changes):
    """Return an estimator's parameters that are small enough for a test, with these changes."""
    settings = {
        "d_model": 16,
        "n_heads": 2,
        "n_layers": 1,
        "max_epochs": 1,
        "random_state": 0,
        "progress_bar": False,
    }
    return settings | changes


def small_dna_settings(**changes):
    """Return small settings of an estimator for DNA that leave it nothing to choose."""
    settings = {
        "tokenizer": "nucleotide",
        "stride": 1,
        "position": True,
        "rc": "none",
        "pooling": "attention",
        "kmer_model": None,
        "learning_rate": 1e-3,
    }
    return small_settings(**settings | changes)


def random_dna(n, length, *, seed=0, letters="ACGT"):
    """Return n random sequences of one length, or of random lengths from a range (low, high).

    `seed` is an int or a numpy Generator.
    """
    rng = np.random.default_rng(seed)

    def lengths() -> Iterator[int]:
        for _ in range(n):
            yield length if isinstance(length, int) else int(rng.integers(*length))

    return ["".join(rng.choice(list(letters), k)) for k in lengths()]


def wait_until(condition, seconds=60):
    """Wait for something that another process or thread does; fail after these seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.005)
