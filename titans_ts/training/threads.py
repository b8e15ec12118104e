"""Whether threads wait for one another: on a busy machine, more of them take longer than one."""

from __future__ import annotations

import time
import warnings

import torch

__all__ = ["warn_if_threads_wait"]

_PART = 24_576
"""Elements that PyTorch does not share out among threads; it shares out from 32 768 on."""
_PARTS = 8
_TRIES = 40
_TOO_SLOW = 4.0
"""Threads that have a core each take about as long as one thread at worst, here."""


def warn_if_threads_wait() -> None:
    """Warn if PyTorch's threads take much longer than one thread, as cores are busy with other work.

    Training of a small model shares out thousands of small sums a second, and each of them waits for
    the thread whose core is busy: two threads on two cores of which one is busy can take thirty times as
    long as one. The number of threads is not changed, because sums in another order have other
    rounding errors, and a fit with the same `random_state` would not repeat.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        return
    factor = _waiting()
    if factor > _TOO_SLOW:
        warnings.warn(
            f"{n_threads} threads take {factor:.0f} times as long as one, because other work keeps cores "
            "busy; call torch.set_num_threads(1), or set OMP_NUM_THREADS=1 before Python starts",
            stacklevel=2,
        )


def _waiting() -> float:
    """Return how many times as long sums take in all threads as in one, within a fifth of a second."""
    whole = torch.zeros(_PARTS, _PART)
    seconds = [0.0, 0.0]
    for _ in range(_TRIES):
        for kind, pieces in enumerate((list(whole), [whole])):
            start = time.perf_counter()
            for piece in pieces:
                piece.add_(1.0)
            seconds[kind] += time.perf_counter() - start
        if seconds[1] > 0.2:
            break
    return seconds[1] / seconds[0]
