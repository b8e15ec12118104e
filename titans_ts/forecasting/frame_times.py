"""The times of a frame: from a column or the index, and resampled to one frequency."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from titans_ts.forecasting.columns import check_no_repeated
from titans_ts.forecasting.panel import Roles
from titans_ts.forecasting.time_ranges import check_span, in_zone, within_unit
from titans_ts.forecasting.time_values import as_times

__all__ = ["check_no_nameless", "resample", "set_times", "with_plain_index"]

_ORIGIN = "epoch"
"""Steps are counted from one fixed time, and not from each frame's own beginning."""
_NUMBERS = ("integer", "floating", "mixed-integer-float")
"""What pandas infers for objects that are numbers."""
_OF_RESULTS = {
    *("window", "item", "step", "variate", "actual", "titans", "naive", "seasonal_naive", "drift"),
    *("value", "score", "threshold", "anomaly"),
}
"""Columns of the frames that backtests and anomaly detection return."""


def set_times(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, bool]:
    """Find the times of a frame.

    Returns
    -------
    tuple
        The frame, and whether it is long. The times of a long frame are in the column `roles.timestamp`,
        those of a wide frame in its index.

    Raises
    ------
    ValueError
        If the column `roles.timestamp` is missing from a long frame, or cannot be converted to times.
    """
    names = [roles.item_id, roles.timestamp]
    _check_names(roles)
    if frame.index.nlevels == 2 and set(frame.index.names) == set(names):
        frame = frame.reset_index()
    if isinstance(frame.columns, pd.MultiIndex) or roles.timestamp not in frame.columns:
        if roles.item_id in frame.columns:
            raise ValueError(
                f"X has the column {roles.item_id!r}, but no column {roles.timestamp!r}; "
                "give the name of the column of times as timestamp="
            )
        if {"unique_id", "ds"} <= set(frame.columns) - {roles.item_id, roles.timestamp}:
            raise ValueError(
                "X has the columns 'unique_id' and 'ds'; give item_id='unique_id', timestamp='ds' and "
                "target='y'"
            )
        return with_plain_index(frame), False
    check_no_repeated(frame)
    time = as_times(frame[roles.timestamp], f"column {roles.timestamp!r}")
    if roles.item_id in frame.columns:
        if isinstance(time.dtype, pd.PeriodDtype):
            time = time.dt.to_timestamp()
        return frame.assign(**{roles.timestamp: time}), True
    return frame.assign(**{roles.timestamp: time}).set_index(roles.timestamp), False


def _check_names(roles: Roles) -> None:
    """Raise an error if a column of a long frame has the name of a column of results."""
    for parameter in ("item_id", "timestamp"):
        name = getattr(roles, parameter)
        if not isinstance(name, Hashable):
            raise TypeError(f"{parameter} is {name!r}; give the name of one column")
        own = parameter == "item_id" and name == "item"
        if not own and (name in _OF_RESULTS or re.fullmatch(r"q[\d.e-]+", str(name))):
            raise ValueError(
                f"{parameter} is {name!r}, which is a column of the results of backtest or "
                "detect_anomalies; rename the column of X"
            )
    if roles.item_id == roles.timestamp:
        raise ValueError(f"item_id and timestamp are both {roles.item_id!r}; give two columns")


def with_plain_index(X: Any) -> Any:
    """Return a wide frame or a Series with times or whole numbers of numpy as its index.

    Those of pyarrow and floats are converted, and objects that are all numbers.

    Raises
    ------
    TypeError
        If it has a float that is no whole number.
    """
    index = X.index
    if isinstance(index, pd.MultiIndex) or len(index) == 0 or isinstance(index, pd.RangeIndex):
        return X
    other = isinstance(index.dtype, pd.ArrowDtype) or index.dtype.kind == "f"
    if not (other or (index.dtype.kind == "O" and pd.api.types.infer_dtype(index) in _NUMBERS)):
        return X
    times = as_times(pd.Series(index, name=index.name), "the index of X")
    return X.set_axis(pd.Index(times, name=index.name), axis=0)


def resample(frame: pd.DataFrame, roles: Roles, long: bool) -> pd.DataFrame:
    """Resample a frame to `roles.freq`, if that is set.

    Numbers are averaged within a step; of other columns, the first value of a step is used. A step
    without a row becomes NaN; its static columns keep the value of the step before.

    Raises
    ------
    TypeError, ValueError
        If the frame, or one of its rows, has no time.
    """
    if roles.freq is None or roles.irregular:
        return frame
    try:
        offset = to_offset(roles.freq)
    except ValueError as error:
        raise ValueError(
            f"freq is {roles.freq!r}, which is no frequency of pandas; give for instance 'D' or '15min'"
        ) from error
    if offset.n <= 0:
        raise ValueError(f"freq is {roles.freq!r}; a step must be longer than 0, for instance 'D'")
    check_no_repeated(frame)
    if long:
        check_no_nameless(frame, roles)
    timed = frame.set_index(roles.timestamp) if long else frame
    if isinstance(timed.index, pd.PeriodIndex):
        timed = timed.to_timestamp()
    if not isinstance(timed.index, pd.DatetimeIndex):
        raise TypeError(
            f"freq is {roles.freq!r}, but the index of X has dtype {timed.index.dtype}; give times"
        )
    if timed.index.hasnans:
        raise ValueError("the index of X has NaT; drop those rows")
    kept = np.array([not (long and c == roles.item_id) for c in timed.columns], bool)
    if len(timed) == 0 or not kept.any():
        return frame  # an error is raised where it is read
    check_span(timed.index, roles.freq)
    columns = timed.columns[kept]
    values = timed.loc[:, kept].set_axis(range(len(columns)), axis=1)  # pandas drops a name None
    means = [pd.api.types.is_numeric_dtype(dtype) for dtype in values.dtypes]
    how = {i: "mean" if mean else "first" for i, mean in enumerate(means)}
    static = [i for i, name in enumerate(columns) if name in roles.static_covariates]
    how |= dict.fromkeys(static, "first")
    zone = timed.index.tz
    if zone is not None and not isinstance(offset, (pd.offsets.Tick, pd.offsets.Day)):
        # weeks and months follow the local clock, and in some zones a midnight does not exist
        values.index = timed.index.tz_localize(None)
    else:
        zone = None
    with within_unit(timed.index.min()):
        if not long:
            resampled = values.resample(roles.freq, origin=_ORIGIN).agg(how)
            if zone is not None:
                resampled.index = in_zone(resampled.index, zone)
            return resampled.set_axis(columns, axis=1)
        codes, items = pd.factorize(timed[roles.item_id])
        resampled, times, rows = _resampled_items(values, codes, roles.freq, how, static)
    resampled = resampled.set_axis(columns, axis=1)
    resampled.insert(0, roles.timestamp, times if zone is None else in_zone(times, zone))
    resampled[roles.item_id] = items.take(rows)
    return resampled


def _resampled_items(
    values: pd.DataFrame,
    codes: NDArray[np.int64],
    freq: str,
    how: dict[int, str],
    static: list[int],
) -> tuple[pd.DataFrame, pd.DatetimeIndex, NDArray[np.int64]]:
    """Resample all items of a long frame in one grouped operation.

    `codes` `[N]` are the items' numbers. Returned are the values, and for each row its time and its
    item's number.
    """
    step = pd.Grouper(freq=freq, origin=_ORIGIN)
    groups = [pd.Series(codes, values.index), step]
    seen = values.groupby(groups, sort=True).agg(how)
    item, place = seen.index.get_level_values(0).to_numpy(), seen.index.get_level_values(1)
    first = np.flatnonzero(np.diff(item, prepend=-1))
    last = np.append(first[1:], len(item)) - 1
    # every step from an item's first to its last: the ranges that pandas' own resampling makes
    steps = pd.Series(0, values.index).resample(freq, origin=_ORIGIN).size().index
    start, stop = steps.get_indexer(place[first]), steps.get_indexer(place[last])
    counts = stop - start + 1
    offsets = np.cumsum(counts) - counts
    within = np.arange(counts.sum()) - np.repeat(offsets, counts)
    even = np.repeat(start, counts) + within  # place in `steps` of every row of the result
    rows = np.repeat(np.arange(len(first)), counts)
    order = np.full(len(even), -1)
    order[offsets[item] + steps.get_indexer(place) - start[item]] = np.arange(len(item))
    frame = seen.reset_index(drop=True).reindex(order).reset_index(drop=True)
    for name in static:  # a step without a row has the item's
        frame[name] = frame.groupby(rows)[name].ffill()
    return frame, steps[even], rows


def check_no_nameless(frame: pd.DataFrame, roles: Roles) -> None:
    """Raise a ValueError if a row of a long frame has no item or no time."""
    if frame[roles.item_id].isna().any() or frame[roles.timestamp].isna().any():
        raise ValueError(f"X has rows without {roles.item_id!r} or {roles.timestamp!r}; drop them")
