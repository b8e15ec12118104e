"""Sliding windows over a series, cut on demand.

Tensor contract: a series is ``[T, C]`` (rows in time order, one column per variate); window ``i``
is rows ``i*stride`` to ``i*stride + L + H``, cut into a past ``[L, C]`` and a future ``[H, C]``. The
series of a panel follow one another in one array, and no window reaches from one into another.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["SlidingWindows", "gather_rows"]

FloatArray = npt.NDArray[np.float32]
_Rows = TypeVar("_Rows", bound=npt.NDArray[np.floating])


class SlidingWindows:
    """Every (past, future) pair of a series, in the memory of the series alone.

    A copy of all stride-1 windows of a ``[T, C]`` series would take ``context_length +
    prediction_length`` times its memory. This class keeps one float32 array, and an index copies only
    the requested windows. The last whole window is always included.

    Parameters
    ----------
    values
        Series ``[T, C]`` or ``[T]`` (then C = 1), in time order. NaN means missing and is kept.
        A C-contiguous float32 array is not copied: do not change it afterwards.
    context_length
        Rows L of the past, at least 1.
    prediction_length
        Rows H of the future, at least 1.
    stride
        Rows between the starts of neighbouring windows, at least 1 (default 1).
    spans
        ``[I, 2]``, the first row of every series of a panel and the row after its last (default: one
        series of all rows). A series of a panel that is shorter than a window, but longer than the
        future, gives one window with NaN in front; a shorter series gives none.

    Raises
    ------
    ValueError
        If a length or the stride is below 1, `values` is not 1-D or 2-D, has no column, an infinite
        value or no window, or if `spans` are not ranges of its rows.
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

    # The windows are no strided view in an attribute: pickle would write such a view in full, once per
    # worker of a data loader.
    __slots__ = ("_counts", "context_length", "prediction_length", "spans", "stride", "values")

    def __init__(
        self,
        values: npt.ArrayLike,
        context_length: int,
        prediction_length: int,
        *,
        stride: int = 1,
        spans: npt.ArrayLike | None = None,
    ) -> None:
        self.context_length = _positive("context_length", context_length)
        self.prediction_length = _positive("prediction_length", prediction_length)
        self.stride = _positive("stride", stride)
        self.values = _series(values)  # [T, C]
        self.spans = _spans(spans, len(self.values))
        rows = self.spans[:, 1] - self.spans[:, 0]
        spare = rows - self.context_length - self.prediction_length
        padded = (spare < 0) & (rows > self.prediction_length) & (spans is not None)
        counts = np.where(padded, 1, np.maximum(spare // self.stride + 1, 0))
        self._counts = np.cumsum(counts)  # [I], windows up to the end of every series
        if len(self) == 0:
            need = self.context_length + self.prediction_length
            raise ValueError(
                f"values has {len(self.values)} rows, but one window needs context_length + "
                f"prediction_length = {self.context_length} + {self.prediction_length} = {need}; give a "
                "longer series or shorten one of the two."
            )

    def __len__(self) -> int:
        """Return the number of whole windows."""
        return int(self._counts[-1]) if len(self._counts) else 0

    def items(self, index: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the number of the series of each window at `index` ``[N]``."""
        series = np.searchsorted(self._counts, np.asarray(index) % max(1, len(self)), side="right")
        return series.astype(np.int64)

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
            ``past [L, C], future [H, C]`` for one integer, otherwise ``past [N, L, C],
            future [N, H, C]``; float32.

        Raises
        ------
        IndexError
            If an integer is out of range or the array is not 1-D.
        TypeError
            If the index has another type, for instance a boolean mask.
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
        item = self.items(chosen)
        place = chosen % max(1, len(self)) - np.concatenate([[0], self._counts])[item]
        first, end = self.spans[item].T
        length = self.context_length + self.prediction_length
        # a start before `first` gives NaN in front
        start = np.minimum(first + place * self.stride, end - length)
        rows = start[:, None] + np.arange(length)  # [N, L + H]
        window = gather_rows(self.values, rows, first, end)  # [N, L + H, C], a copy
        past, future = window[:, : self.context_length], window[:, self.context_length :]
        return np.ascontiguousarray(past), np.ascontiguousarray(future)


def gather_rows(
    values: _Rows,
    rows: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
) -> _Rows:
    """Copy rows of a panel; rows outside their series become NaN.

    Parameters
    ----------
    values
        ``[N, C]``, the series one after the other.
    rows
        ``[..., n]``, the rows to copy; any integers.
    first, end
        ``[...]``, or a shape that broadcasts to it: the first row of the series that each n rows belong
        to, and the row after its last.

    Returns
    -------
    numpy.ndarray
        ``[..., n, C]``.

    Examples
    --------
    >>> gather_rows(np.arange(4.0)[:, None], np.arange(-1, 3), np.array(0), np.array(2))[:, 0]
    array([nan,  0.,  1., nan])
    """
    inside = (rows >= first[..., None]) & (rows < end[..., None])
    gathered: _Rows = values[np.clip(rows, 0, len(values) - 1)]  # type: ignore[assignment]
    gathered[~inside] = np.nan
    return gathered


def _spans(spans: npt.ArrayLike | None, n_rows: int) -> npt.NDArray[np.int64]:
    if spans is None:
        return np.array([[0, n_rows]])
    borders = np.asarray(spans)
    whole = borders.ndim == 2 and borders.shape[1] == 2 and borders.dtype.kind in "iu"
    if (
        not whole
        or (borders < 0).any()
        or (borders > n_rows).any()
        or (borders[:, 1] < borders[:, 0]).any()
    ):
        raise ValueError(
            f"spans={spans!r} are not ranges of the {n_rows} rows of values; give [first, stop] for "
            "each series."
        )
    return borders.astype(np.int64)


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
    with np.errstate(over="ignore"):  # reported below, with its position
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
