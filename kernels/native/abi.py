"""Passing tensors to the compiled kernels: addresses and numbers of eight bytes each."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = [
    "DEPTH",
    "DTYPES",
    "Integer",
    "address",
    "in_threads",
    "places",
    "point",
    "samples",
    "threads",
]

Result = TypeVar("Result")

DEPTH = 4
"""Maximum number of layers of a memory, as in csrc/memory.h."""
DTYPES: dict[torch.dtype, tuple[str, ...]] = {torch.float32: (), torch.float64: ("DOUBLE",)}
"""Macros that are defined when the sources are compiled for a dtype."""
Integer = ctypes.c_int64


def address(x: Tensor | None) -> int:
    """Return the address of a tensor's numbers: 0 for None, not 0 for an empty tensor.

    Raises
    ------
    ValueError
        If the tensor is not on the CPU.
    """
    if x is None:
        return 0
    if x.device.type != "cpu":
        raise ValueError(f"a tensor is on {x.device}, others on the CPU; move all to one device")
    return x.data_ptr() if x.numel() else 1


def point(places: Any, tensors: Sequence[Tensor | None]) -> None:
    """Write addresses into an array of a structure, from its beginning."""
    places[: len(tensors)] = list(map(address, tensors))


def places(position: Tensor, batch_size: int, end: int) -> Tensor:
    """Return positions `[B]` in the layout that C reads.

    Raises
    ------
    ValueError
        If they are not B numbers in `0 .. end - 1`.
    """
    position = position.to("cpu", torch.int64).contiguous()
    values = position.tolist()
    if len(values) != batch_size or not all(0 <= p < end for p in values):
        raise ValueError(
            f"position is {values}; expected {batch_size} numbers from 0 to {end - 1}: continue with "
            "the state of the same streams, chunk_size and segment_length"
        )
    return position


def samples(w: Tensor) -> Tensor:
    """Return a layer of a state `[B, ..]` with contiguous samples, which may share one tensor."""
    return w if w.is_contiguous() or w[0].is_contiguous() else w.contiguous()


def in_threads(count: int, most: int, part: Callable[[int, int], Result]) -> list[Result]:
    """Call `part(first, last)` for the parts of `range(count)`, each in a thread.

    There are at most `most` parts, and not more than torch may use threads. The calling thread computes
    the first part; the others run in a pool of threads that is kept between calls.
    """
    n = max(1, min(count, most, torch.get_num_threads()))
    if n == 1:
        return [part(0, count)]
    edges = [count * i // n for i in range(n + 1)]
    pool = threads(n - 1)
    others = [pool.submit(part, *edges[i : i + 2]) for i in range(1, n)]
    try:
        first = part(0, edges[1])
    finally:
        wait(others)
    return [first, *(other.result() for other in others)]


_kept: list[tuple[int, ThreadPoolExecutor]] = []


def threads(n: int) -> ThreadPoolExecutor:
    """Return a pool of at least n threads, which this process keeps."""
    if not _kept or _kept[-1][0] < n:
        # another thread may still submit to the smaller pool; without references it ends by itself
        _kept[:] = [(n, ThreadPoolExecutor(n, thread_name_prefix="titans_ts"))]
    return _kept[-1][1]


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_kept.clear)
