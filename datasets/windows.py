"""Sliding windows over a series, cut on demand.

Tensor contract: a series is ``[T, C]`` (rows in time order, one column per variate); window ``i``
is rows ``i*stride`` to ``i*stride + L + H``, cut into a past ``[L, C]`` and a future ``[H, C]``.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

__all__ = ["SlidingWindows"]

FloatArray = npt.NDArray[np.float32]


class SlidingWindows:
    """Every (past, future) pair of a series, without holding more than the series.

    All stride-1 windows of a ``[T, C]`` series would take ``context_length +
    prediction_length`` times its memory; here one float32 array is kept and an index copies only
    the windows asked for. The last whole window is always included.

    Parameters
    ----------
    values
        Series ``[T, C]`` or ``[T]`` (then C = 1), in time order. NaN means missing and is kept.
        A C-contiguous float32 array is kept as it is, not copied: do not write to it afterwards.
    context_length
        Rows L of the past, at least 1.
    prediction_length
        Rows H of the future, at least 1.
    stride
        Rows between the starts of neighbouring windows, at least 1.

    Raises
    ------
    ValueError
        If a length or the stride is below 1, `values` is not 1-D or 2-D, has no column, holds an
        infinite value, or is shorter than one window.
    TypeError
        If `values` is not numeric or a length is not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> windows = SlidingWindows(np.arange(6.0), context_length=3, prediction_length=2)
    >>> len(windows)
    2
    >>> past, future = windows[-1]  # [L, C], [H, C]
    >>> past[:, 0], future[:, 0]
    (array([1., 2., 3.], dtype=float32), array([4., 5.], dtype=float32))
    >>> past, future = windows[:]
    >>> past.shape, future.shape
    ((2, 3, 1), (2, 2, 1))
    """

    # Only the series and three integers are kept: a strided view held as an attribute would be
    # written out in full by pickle, once per worker of a data loader.
    __slots__ = ("context_length", "prediction_length", "stride", "values")

    def __init__(
        self,
        values: npt.ArrayLike,
        context_length: int,
        prediction_length: int,
        *,
        stride: int = 1,
    ) -> None:
        self.context_length = _positive("context_length", context_length)
        self.prediction_length = _positive("prediction_length", prediction_length)
        self.stride = _positive("stride", stride)
        self.values = _series(values)  # [T, C]
        need, seen = self.context_length + self.prediction_length, len(self.values)
        if seen < need:
            raise ValueError(
                f"values has {seen} rows, but one window needs context_length + prediction_length "
                f"= {self.context_length} + {self.prediction_length} = {need}; give a longer "
                "series or shorten one of the two."
            )

    def __len__(self) -> int:
        """Return the number of whole windows."""
        spare = len(self.values) - self.context_length - self.prediction_length
        return spare // self.stride + 1

    def __getitem__(
        self, index: SupportsIndex | slice | npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """Return the windows at `index` as fresh, contiguous arrays.

        Parameters
        ----------
        index
            One integer, a slice, or a 1-D integer array (any order, repeats allowed). Negative
            integers count from the end.

        Returns
        -------
        tuple
            ``past [L, C], future [H, C]`` for one integer, else ``past [N, L, C],
            future [N, H, C]``, float32.

        Raises
        ------
        IndexError
            If an integer is out of range or the array is not 1-D.
        TypeError
            If the index is of another kind, a boolean mask included.
        """
        if isinstance(index, slice):
            return self._gather(np.arange(*index.indices(len(self))))
        chosen = np.asarray(index)
        if chosen.size == 0 and chosen.ndim == 1:
            chosen = chosen.astype(np.intp)  # np.asarray([]) is float64
        if not np.issubdtype(chosen.dtype, np.integer):
            raise TypeError(
                f"index has dtype {chosen.dtype}; give an integer, a slice or a 1-D integer array "
                "(np.flatnonzero turns a mask into one)."
            )
        if chosen.ndim > 1:
            raise IndexError(f"index has shape {chosen.shape}; give a 1-D array of integers.")
        if chosen.size:
            self._check_range(int(chosen.min()), int(chosen.max()))
        past, future = self._gather(np.atleast_1d(chosen))
        return (past, future) if chosen.ndim else (past[0], future[0])

    def __repr__(self) -> str:
        """Return the lengths that define the windows."""
        rows, variates = self.values.shape
        return (
            f"{type(self).__name__}([{rows}, {variates}], context_length={self.context_length}, "
            f"prediction_length={self.prediction_length}, stride={self.stride})"
        )

    def _check_range(self, lowest: int, highest: int) -> None:
        n = len(self)
        if lowest < -n or highest >= n:
            wrong = lowest if lowest < -n else highest
            raise IndexError(f"index={wrong} is out of range; use {-n} to {n - 1} for {n} windows.")

    def _gather(self, chosen: npt.NDArray[np.integer]) -> tuple[FloatArray, FloatArray]:
        view = np.lib.stride_tricks.sliding_window_view(
            self.values, self.context_length + self.prediction_length, axis=0
        )[:: self.stride].swapaxes(1, 2)  # [N, L + H, C], no copy yet
        past, future = view[:, : self.context_length], view[:, self.context_length :]
        # Advanced indexing copies, but may choose another memory order.
        return np.ascontiguousarray(past[chosen]), np.ascontiguousarray(future[chosen])


def _positive(argument: str, value: SupportsIndex) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{argument}={value!r} is not an integer; give one of at least 1."
        ) from None
    if number < 1:
        raise ValueError(f"{argument}={number} is too small; give an integer of at least 1.")
    return number


def _series(values: npt.ArrayLike) -> FloatArray:
    raw = np.asarray(values)
    if raw.dtype.kind not in "fiub":
        raise TypeError(f"values has dtype {raw.dtype}; convert it to float32 (NaN for missing).")
    if raw.ndim not in (1, 2):
        raise ValueError(
            f"values has shape {raw.shape}; give one series as [T] or [T, C], rows in time order."
        )
    if raw.ndim == 2 and raw.shape[1] == 0:
        raise ValueError(f"values has shape {raw.shape}; give at least one column.")
    with np.errstate(over="ignore"):  # reported below, with its place
        series = np.ascontiguousarray(raw, dtype=np.float32).reshape(
            len(raw), *(raw.shape[1:] or (1,))
        )
    infinite = np.isinf(series)
    if infinite.any():
        row, column = np.unravel_index(int(infinite.argmax()), series.shape)
        raise ValueError(
            f"values[{row}, {column}]={raw.reshape(series.shape)[row, column]} is infinite in "
            "float32; replace it by NaN if it is missing, or rescale the series."
        )
    return series
