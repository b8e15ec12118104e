"""The times of a frame: from a column or the index, and resampled to one frequency."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from titans_ts.forecasting.columns import check_no_repeated
from titans_ts.forecasting.panel import Roles

__all__ = ["check_no_nameless", "resample", "set_times"]


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
    if frame.index.nlevels == 2 and set(frame.index.names) == set(names):
        frame = frame.reset_index()
    if isinstance(frame.columns, pd.MultiIndex) or roles.timestamp not in frame.columns:
        if roles.item_id in frame.columns:
            raise ValueError(
                f"X has the column {roles.item_id!r}, but no column {roles.timestamp!r}; "
                "name the time's by timestamp="
            )
        return frame, False
    check_no_repeated(frame)
    time = frame[roles.timestamp]
    if time.dtype.kind not in "Miu" and not isinstance(time.dtype, pd.PeriodDtype):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the times have several formats
                frame = frame.assign(**{roles.timestamp: pd.to_datetime(time)})
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"column {roles.timestamp!r} holds no times ({error}); convert it by pd.to_datetime"
            ) from error
    if roles.item_id in frame.columns:
        if isinstance(time.dtype, pd.PeriodDtype):
            frame = frame.assign(**{roles.timestamp: time.dt.to_timestamp()})
        return frame, True
    return frame.set_index(roles.timestamp), False


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
    columns = [c for c in timed.columns if not (long and c == roles.item_id)]
    how = {c: "mean" if pd.api.types.is_numeric_dtype(timed[c].dtype) else "first" for c in columns}
    static = [name for name in roles.static_covariates if name in columns]
    how |= dict.fromkeys(static, "first")
    if len(timed) == 0 or not columns:
        return frame  # an error is raised where it is read
    # steps are counted from one fixed time, and not from each frame's own beginning
    if not long:
        return timed.resample(roles.freq, origin="epoch").agg(how)
    return _resampled_items(timed, roles, how, static)


def _resampled_items(
    timed: pd.DataFrame, roles: Roles, how: dict[Any, str], static: list[Any]
) -> pd.DataFrame:
    """Resample all items of a long frame to `roles.freq` in one grouped operation."""
    codes, items = pd.factorize(timed[roles.item_id])
    step = pd.Grouper(freq=roles.freq, origin="epoch")
    groups = [pd.Series(codes, timed.index, name=roles.item_id), step]
    seen = timed[list(how)].groupby(groups, sort=True).agg(how)
    item, place = seen.index.get_level_values(0).to_numpy(), seen.index.get_level_values(1)
    first = np.flatnonzero(np.diff(item, prepend=-1))
    last = np.append(first[1:], len(item)) - 1
    # every step from an item's first to its last: the ranges that pandas' own resampling makes
    steps = pd.Series(0, timed.index).resample(roles.freq, origin="epoch").size().index
    start, stop = steps.get_indexer(place[first]), steps.get_indexer(place[last])
    counts = stop - start + 1
    offsets = np.cumsum(counts) - counts
    within = np.arange(counts.sum()) - np.repeat(offsets, counts)
    even = np.repeat(start, counts) + within  # place in `steps` of every row of the result
    rows = np.repeat(np.arange(len(first)), counts)
    order = np.full(len(even), -1)
    order[offsets[item] + steps.get_indexer(place) - start[item]] = np.arange(len(item))
    frame = seen.reset_index(drop=True).reindex(order).reset_index(drop=True)
    frame.insert(0, roles.timestamp, steps[even])
    frame[roles.item_id] = items.take(rows)
    for name in static:  # a step without a row has the item's
        frame[name] = frame.groupby(rows)[name].ffill()
    return frame


def check_no_nameless(frame: pd.DataFrame, roles: Roles) -> None:
    """Raise a ValueError if a row of a long frame has no item or no time."""
    if frame[roles.item_id].isna().any() or frame[roles.timestamp].isna().any():
        raise ValueError(f"X has rows without {roles.item_id!r} or {roles.timestamp!r}; drop them")
