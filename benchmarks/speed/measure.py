"""Time and memory: contenders in turn, round after round; high-water marks; what the machine can do."""

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
    """Seconds a call in every round; round i of one contender stands beside round i of another."""

    samples: list[float]

    @property
    def median(self) -> float:
        """Middle sample."""
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
    """Time actions in turn, so that whatever else the machine does meets all of them alike.

    Parameters
    ----------
    actions : mapping
        What to time, by name. Each is called before, to warm up.
    rounds : int
        How many samples of each.
    device : str
        "cpu" or "cuda"; the latter is timed by events on the device.
    least_seconds : float
        An action shorter than this is called several times a sample.
    failed : callable, optional
        Told of an action that raises while it warms up, which is then left out; default: raise.
    """
    repeats = {}
    for name, action in actions.items():
        try:
            taken = seconds(action, 1, device)
            if (
                taken < least_seconds
            ):  # the first call compiles and allocates; what does the next take?
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
    """Seconds a call, over `repeats` calls."""
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
    """Median over the rounds of one contender's sample divided by the other's."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def peak_memory(action: Action, device: str = "cpu") -> tuple[int, int]:
    """Bytes at the highest point of an action, and before it.

    On CUDA of allocated tensors. On the CPU of the process's resident set (VmHWM, reset by writing 5 to
    clear_refs): that counts what the C allocator keeps for later too, and so depends on what the process
    did before. Measure in a fresh process, after a short warm-up.
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
    """What the machine can do at best, as actions to time beside the contenders.

    Returns
    -------
    dict
        `product DTYPE`, one large square product, and `copy`; :func:`rate` makes numbers of their times.
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
    """Operations a second of a product, bytes a second (read and written) of a copy."""
    if name == "copy":
        return 2 * _copied(device, quick) / timing.median
    return 2 * _product_size(device, quick) ** 3 / timing.median


def _product_size(device: str, quick: bool) -> int:
    return 256 if quick else 2048 if device == "cpu" else 8192


def _copied(device: str, quick: bool) -> int:
    """Bytes: past the last level of cache."""
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
    """Let freed memory leave the resident set, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
