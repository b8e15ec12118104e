"""Problems in a frame: gaps, repeated times, sentinels, constant columns, breaks of scale."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["check_frame"]

FloatArray = npt.NDArray[np.float64]

_SENTINELS = tuple(sign * (10**k - 1) for sign in (-1, 1) for k in (2, 3, 4, 5, 6)) + (
    -1e20,
    1e20,
    -1e30,
)
_FAR = 5.0  # an outlier is at least this many ranges of the usual values away from them
_BREAK = 10.0  # smallest change of scale (a factor) that is reported as a break
_BLOCKS = 40  # largest number of blocks that a series is cut into to find such a break
_SHORTEST_BLOCK = 20  # smallest number of rows in a block


_Finding = tuple[str, Any, int, Any, str]
_COLUMNS = ("kind", "column", "count", "first", "detail")


def check_frame(
    frame: pd.DataFrame,
    *,
    item_id: str = "item_id",
    timestamp: str = "timestamp",
) -> pd.DataFrame:
    """Report problems that would disturb or mislead a forecaster; the frame is not changed.

    Parameters
    ----------
    frame
        A wide frame with times in its index or in the column `timestamp`; or a long frame with both
        columns.
    item_id, timestamp
        Names of the columns of a long frame (default "item_id" and "timestamp").

    Returns
    -------
    pandas.DataFrame
        One row per problem; empty if there is none. The columns are `item` (of a long frame), `kind`,
        `column`, `count`, `first` (the first time or row) and `detail` (a remedy). Kinds: "unsorted",
        "duplicate", "gap" and "irregular" times; "text" (not a number), "missing", "all missing",
        "infinite", "constant", "sentinel" (a code for a missing value, such as -9999) and "scale break"
        (the values stay ten times as large or small, as after a change of units).

    Examples
    --------
    >>> index = pd.date_range("2024-01-01", periods=100, freq="h").delete(50)
    >>> x = np.sin(np.arange(99.0))
    >>> x[7] = -9999
    >>> check_frame(pd.DataFrame({"x": x, "y": 1.0}, index))[["kind", "column", "count"]]
           kind column  count
    0       gap   None      1
    1  sentinel      x      1
    2  constant      y      1
    """
    if hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame is a {type(frame).__name__}; give a DataFrame")
    if frame.index.nlevels == 2 and set(frame.index.names) == {item_id, timestamp}:
        frame = frame.reset_index()
    if timestamp in frame.columns:
        if item_id in frame.columns:
            parts = frame.groupby(item_id, sort=False, dropna=False, observed=True)
            findings = [
                (item, *finding)
                for item, part in parts
                for finding in _series(part.drop(columns=item_id).set_index(timestamp))
            ]
            return pd.DataFrame(findings, columns=["item", *_COLUMNS])
        frame = frame.set_index(timestamp)
    return pd.DataFrame(list(_series(frame)), columns=list(_COLUMNS))


def _series(frame: pd.DataFrame) -> Iterator[_Finding]:
    index = frame.index
    if len(frame) == 0:
        return
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    elif index.dtype.kind in "OUST":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # several time formats
                index = pd.DatetimeIndex(pd.to_datetime(index))
        except (ValueError, TypeError) as error:
            raise ValueError(f"the times of frame cannot be read ({error})") from error
    yield from _times(index)
    for place, column in enumerate(frame.columns):
        values = frame.iloc[:, place]
        if not pd.api.types.is_numeric_dtype(values.dtype) or values.dtype.kind == "c":
            yield (
                "text",
                column,
                len(values),
                index[0],
                f"dtype {values.dtype}; convert it, or drop it",
            )
            continue
        yield from _values(values.to_numpy(dtype=np.float64, na_value=np.nan), column, index)


def _times(index: pd.Index) -> Iterator[_Finding]:
    if not index.is_monotonic_increasing:
        back = int(np.argmax(index[1:] < index[:-1])) + 1
        yield ("unsorted", None, int((index[1:] < index[:-1]).sum()), index[back], "sort by time")
        index = index.sort_values()
    twice = index.duplicated()
    if twice.any():
        yield ("duplicate", None, int(twice.sum()), index[twice][0], "drop or average the repeats")
        index = index[~twice]
    if len(index) < 3 or index.dtype.kind not in "Miu":
        return
    places = _places(index)
    steps = np.diff(places)
    if isinstance(index, pd.DatetimeIndex) and _calendar_frequency(index):
        return
    kinds, counts = np.unique(steps, return_counts=True)
    usual = kinds[counts.argmax()]
    odd = steps != usual
    if not odd.any():
        return
    gaps = odd & (steps % usual == 0)
    even = int((~odd).argmax())
    step = index[even + 1] - index[even]
    if gaps.any():
        missing = int((steps[gaps] // usual - 1).sum())
        yield (
            "gap",
            None,
            missing,
            index[int(gaps.argmax()) + 1],
            f"steps of {step} are missing; add rows of NaN (asfreq), which is missing data",
        )
    off = odd & ~gaps
    if off.any():
        yield (
            "irregular",
            None,
            int(off.sum()),
            index[int(off.argmax()) + 1],
            f"not a whole number of steps of {step}; resample",
        )


def _places(index: pd.Index) -> npt.NDArray[np.int64]:
    """Return integers that rise by a constant step: month numbers for the same day of every month."""
    if not isinstance(index, pd.DatetimeIndex):
        numbers: npt.NDArray[np.int64] = index.to_numpy().astype(np.int64)
        return numbers
    ends = (index + pd.Timedelta("1D")).day == 1
    monthly = (index[1:] - index[:-1]).min() >= pd.Timedelta("28D")
    if monthly and (ends.all() or len(index.day.unique()) == 1):
        return np.asarray(index.year * 12 + index.month, dtype=np.int64)
    return index.asi8


def _calendar_frequency(index: pd.DatetimeIndex) -> bool:
    """Whether the times have a calendar frequency, such as months or business days, without a gap."""
    try:
        return pd.infer_freq(index) is not None
    except ValueError:
        return False


def _values(values: FloatArray, column: Any, index: pd.Index) -> Iterator[_Finding]:
    missing = np.isnan(values)
    if missing.all():
        yield ("all missing", column, len(values), index[0], "drop it")
        return
    if missing.any():
        share = missing.mean()
        yield (
            "missing",
            column,
            int(missing.sum()),
            index[int(missing.argmax())],
            f"{share:.1%} of rows",
        )
    infinite = np.isinf(values)
    if infinite.any():
        yield (
            "infinite",
            column,
            int(infinite.sum()),
            index[int(infinite.argmax())],
            "replace it by NaN, which is missing data",
        )
    known = ~missing & ~infinite
    seen = values[known]
    if len(seen) == 0:
        return
    if np.ptp(seen) <= 1e-12 * np.abs(seen).max():
        yield ("constant", column, 1, index[int(known.argmax())], f"always {seen[0]:g}")
        return
    values = np.where(infinite, np.nan, values)
    for sentinel in _sentinels(seen):
        at = values == sentinel
        yield (
            "sentinel",
            column,
            int(at.sum()),
            index[int(at.argmax())],
            f"{sentinel:g} looks like a code for a missing value; replace it by NaN",
        )
        values = np.where(at, np.nan, values)
    place, factor = _scale_break(values)
    if factor > _BREAK:
        yield (
            "scale break",
            column,
            1,
            index[place],
            f"values are {factor:.0f} times as large on one side; check the units",
        )


def _sentinels(seen: FloatArray) -> list[float]:
    """Return extreme values far from all others that are common codes or occur several times."""
    sentinels: list[float] = []
    for extreme in (np.min, np.max):
        rest = seen
        while len(rest) > 10:
            value = float(extreme(rest))
            others = rest[rest != value]
            if len(others) < 10 or len(np.unique(others)) < 3:
                break  # a flag, or a level that jumps
            count = len(rest) - len(others)
            low, high = np.quantile(others, [0.01, 0.99])
            reach = (1 if value in _SENTINELS else _FAR) * max(high - low, 1e-12 * abs(high))
            far = value < min(low - reach, others.min()) or value > max(high + reach, others.max())
            if not far or not (value in _SENTINELS or count >= 3):
                break
            sentinels.append(value)
            rest = others
    return sentinels


def _scale_break(values: FloatArray) -> tuple[int, float]:
    """Return the row of the largest lasting change of scale, and the factor of that change."""
    n = min(_BLOCKS, len(values) // _SHORTEST_BLOCK)
    if n < 4:
        return 0, 1.0
    edges = np.linspace(0, len(values), n + 1).astype(int)
    blocks = np.split(np.abs(values), edges[1:-1])
    sizes = np.array([np.nan if np.isnan(b).all() else np.nanmean(b) for b in blocks])
    floor = np.nanmax(sizes) * 1e-9
    logs = np.log(np.maximum(sizes, floor))
    best, factor = 0, 1.0
    for split in range(2, n - 1):
        before, after = logs[:split], logs[split:]
        before, after = before[~np.isnan(before)], after[~np.isnan(after)]
        if len(before) < 2 or len(after) < 2:
            continue
        # the smallest difference between two blocks of the two sides, so a season is not a break
        gap = max(after.min() - before.max(), before.min() - after.max())
        if np.exp(gap) > factor:
            best, factor = int(edges[split]), float(np.exp(gap))
    return best, factor
