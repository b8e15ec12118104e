"""The devices, dtypes, depths and chunks that all compiled kernels cover."""

from __future__ import annotations

import torch
from torch import Tensor

from titans_ts.kernels.native.abi import DEPTH, DTYPES
from titans_ts.kernels.native.compiler import library

__all__ = ["LARGEST_CHUNK", "uncovered_sizes"]

LARGEST_CHUNK = 256
"""In tokens: the coefficients of a chunk must fit in the processor's cache."""


def uncovered_sizes(x: Tensor, depth: int, chunk_size: int) -> str | None:
    """Return why the compiled kernels do not cover a tensor and a memory, or None if they do.

    Parameters
    ----------
    x : Tensor
        Keys, or the tokens of a layer, of any shape.
    depth : int
        L_M.
    chunk_size : int
        b.

    Returns
    -------
    str or None
        The reason.

    Examples
    --------
    >>> uncovered_sizes(torch.zeros(2, 8, 1, 4), 2, 1000)
    'a chunk of 1000 is longer than 256'
    """
    if x.device.type != "cpu":
        return f"tensors are on {x.device.type}, not on the CPU"
    if depth > DEPTH:
        return f"a memory of depth {depth} is deeper than {DEPTH}"
    if chunk_size > LARGEST_CHUNK:
        return f"a chunk of {chunk_size} is longer than {LARGEST_CHUNK}"
    dtype = torch.promote_types(x.dtype, torch.float32)
    if dtype not in DTYPES:
        return f"{x.dtype} is not a type of real numbers"
    if not torch.compiler.is_compiling():
        if type(x) not in (Tensor, torch.nn.Parameter):
            return f"a tensor is a {type(x).__name__}, which has no memory of its own"
        if torch.jit.is_tracing():  # type: ignore[attr-defined]
            return "the call is traced, and a trace would not see it"
    return _uncompiled(*DTYPES[dtype])


def _uncompiled(*definitions: str) -> str | None:
    try:
        library(*definitions)
    except RuntimeError as error:
        return str(error)
    return None


# same effect as torch.compiler.assume_constant_result, without importing all of torch.compile
_uncompiled._dynamo_marked_constant = True  # type: ignore[attr-defined]
