"""One thread for linear algebra whose matrices are small."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import scipy.linalg  # noqa: F401  # loads its BLAS, and numpy's
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]

_LIMITED = threading.Lock()


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let a `with` block compute with one BLAS thread, as others can cost more than they save.

    OpenBLAS shares out even the product of a 124 x 124 matrix and a vector. Where other work keeps the
    second core busy, each product then waits for milliseconds instead of taking microseconds.

    The number of threads belongs to the process. The first of several blocks sets it, and sets it back at
    its end; those that begin meanwhile leave it as it is, and may end with more than one.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     print((np.eye(200) @ np.ones(200)).sum())
    200.0
    """
    if not _LIMITED.acquire(blocking=False):
        yield
        return
    try:
        with _libraries().limit(limits=1):
            yield
    finally:
        _LIMITED.release()
