"""Whether threads wait for one another: on a busy machine, more of them take longer than one."""

from __future__ import annotations

import functools
import statistics
import time
import warnings

import torch

__all__ = ["warn_if_threads_wait"]

_PART = 24_576
"""Elements that PyTorch does not share out among threads; it shares out from 32 768 on."""
_PARTS = 8
_SECONDS = 0.1
"""How long to measure: a single pause of a process that others share cores with matters little."""
_TOO_SLOW = 4.0
"""Threads that have a core each take about as long as one thread at worst, here."""


def warn_if_threads_wait() -> None:
    """Warn if PyTorch's threads take much longer than one thread, as cores are busy or too few.

    Training of a small model shares out thousands of small sums a second, and each of them waits for
    the thread whose core is busy: two threads on two cores of which one is busy can take thirty times as
    long as one. It is measured once for each number of threads. The number is not changed, because
    sums in another order have other rounding errors, and a fit with the same `random_state` would not
    repeat.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        return
    factor = _waiting(n_threads)
    if factor > _TOO_SLOW:
        warnings.warn(
            f"{n_threads} threads take {factor:.0f} times as long as one, because cores are busy or too "
            "few; call torch.set_num_threads(1), or set OMP_NUM_THREADS=1 before Python starts",
            stacklevel=2,
        )


@functools.cache
def _waiting(n_threads: int) -> float:
    """Return how many times as long sums take in all threads as in one."""
    whole = torch.zeros(_PARTS, _PART)
    whole.add_(1.0)  # starts the threads
    alone: list[float] = []
    together: list[float] = []
    while sum(alone) + sum(together) < _SECONDS:
        start = time.perf_counter()
        for part in whole:
            part.add_(1.0)
        middle = time.perf_counter()
        whole.add_(1.0)
        alone.append(middle - start)
        together.append(time.perf_counter() - middle)
    return sum(together) / len(together) / statistics.median(alone)
