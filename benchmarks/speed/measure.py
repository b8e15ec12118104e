"""Measurement of time (contenders in turn, round after round), peak memory and the machine's limits."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["Timing", "interleaved", "limits", "peak_memory", "per_round", "rate", "seconds"]

Action = Callable[[], object]

MIB = 2**20
_PROC = Path("/proc/self")


class Timing(NamedTuple):
    """Seconds per call in every round; round i of one contender is comparable to round i of another."""

    samples: list[float]

    @property
    def median(self) -> float:
        """Median of the samples."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile."""
        if len(self.samples) < 2:
            return self.samples[0], self.samples[0]
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high


def interleaved(
    actions: Mapping[str, Action],
    rounds: int,
    device: str = "cpu",
    least_seconds: float = 0.05,
    failed: Callable[[str, Exception], None] | None = None,
) -> dict[str, Timing]:
    """Time actions in turn, so that other load on the machine affects all of them equally.

    Parameters
    ----------
    actions : mapping
        Actions to time, by name. Each is called first, to warm up.
    rounds : int
        Number of samples of each action.
    device : str
        "cpu" or "cuda"; the latter is timed by events on the device.
    least_seconds : float
        A shorter action is called several times per sample.
    failed : callable, optional
        Called for an action that raises during warm-up, which is then left out; default: raise.
    """
    repeats = {}
    for name, action in actions.items():
        try:
            taken = seconds(action, 1, device)
            if (
                taken < least_seconds
            ):  # the first call compiles and allocates, so the next is measured
                taken = seconds(action, 1, device)
        except Exception as error:
            if failed is None:
                raise
            failed(name, error)
            continue
        repeats[name] = max(1, math.ceil(least_seconds / taken))
    samples: dict[str, list[float]] = {name: [] for name in repeats}
    for _ in range(rounds):
        for name, times in repeats.items():
            samples[name].append(seconds(actions[name], times, device))
    return {name: Timing(taken) for name, taken in samples.items()}


def seconds(action: Action, repeats: int, device: str) -> float:
    """Measure the seconds per call, over `repeats` calls."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(repeats):
            action()
        return (time.perf_counter() - start) / repeats
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(repeats):
        action()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / repeats


def per_round(numerator: list[float], denominator: list[float]) -> float:
    """Return the median over the rounds of one contender's sample divided by the other's."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def peak_memory(action: Action, device: str = "cpu") -> tuple[int, int]:
    """Return the peak bytes during an action, and the bytes before it.

    On CUDA these are the bytes of allocated tensors. On the CPU they are the process's resident set
    (VmHWM, reset by writing 5 to clear_refs). It includes memory that the C allocator keeps, so it
    depends on the history of the process: measure in a fresh process, after a short warm-up.
    """
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated(), before
    _give_back_free_memory()
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError as error:
        raise RuntimeError("peak memory needs Linux's /proc/self/clear_refs") from error
    before = _status("VmRSS")
    action()
    return max(before, _status("VmHWM")), before


def limits(device: str, quick: bool = False) -> dict[str, Action]:
    """Return the limits of the machine, as actions that are timed together with the contenders.

    Returns
    -------
    dict
        `product DTYPE`, one large square product, and `copy`; :func:`rate` converts their times.
    """
    size = _product_size(device, quick)
    actions: dict[str, Action] = {}
    for dtype in ("float32",) if device == "cpu" else ("float32", "tf32", "bfloat16"):
        exact = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        a, b = (torch.randn(size, size, device=device, dtype=exact) for _ in range(2))
        out = torch.empty_like(a)
        actions[f"product {dtype}"] = _product(a, b, out, dtype == "tf32")
    source = torch.randn(_copied(device, quick) // 4, device=device)
    target = torch.empty_like(source)
    actions["copy"] = lambda: target.copy_(source)
    return actions


def rate(name: str, timing: Timing, device: str, quick: bool = False) -> float:
    """Return operations per second of a product, or bytes per second (read and written) of a copy."""
    if name == "copy":
        return 2 * _copied(device, quick) / timing.median
    return 2 * _product_size(device, quick) ** 3 / timing.median


def _product_size(device: str, quick: bool) -> int:
    return 256 if quick else 2048 if device == "cpu" else 8192


def _copied(device: str, quick: bool) -> int:
    """Return a number of bytes that is larger than the last level of cache."""
    return 4 * MIB if quick else 256 * MIB if device == "cpu" else 2048 * MIB


def _product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, tf32: bool) -> Action:
    def run() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            torch.mm(a, b, out=out)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return run


def _status(field: str) -> int:
    for line in (_PROC / "status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def _give_back_free_memory() -> None:
    """Return freed memory to the system, if the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
