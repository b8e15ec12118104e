"""Reading a series from an array, a wide frame, or a long frame of many items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from titans_ts.forecasting.columns import (
    check_columns,
    check_finite,
    check_no_repeated,
    numeric_array,
    numeric_column,
    to_pandas,
)
from titans_ts.forecasting.covariates import with_times
from titans_ts.forecasting.frame_times import (
    check_no_nameless,
    resample,
    set_times,
    with_plain_index,
)
from titans_ts.forecasting.panel import Panel, Roles
from titans_ts.forecasting.time_index import (
    item_at,
    regular,
    regular_items,
    rising_items,
)

__all__ = ["read_panel", "read_windows"]

Array = NDArray[np.float64]


def read_panel(
    X: Any, roles: Roles | None = None, *, min_rows: int = 2, like: Panel | None = None
) -> Panel:
    """Read an array `[T]` or `[T, F]`, a pandas Series, a wide DataFrame or a long one of many items.

    A frame with the columns `roles.item_id` and `roles.timestamp` (or an index of these two levels) is
    long: it has a row for every item and time, in any order. Any other frame is wide: it has a row for
    every time, and the times are its index or its column `roles.timestamp`. An object with a
    `to_pandas` method (polars, pyarrow) is converted to a frame.

    Parameters
    ----------
    X : array, Series or DataFrame
        NaN is missing.
    roles : Roles, optional
        The roles of the columns (default: all columns are targets).
    min_rows : int
        Number of rows that a single series needs (default 2).
    like : Panel, optional
        The panel that was fitted. A frame must have its columns, and its columns are put in that order.
        An index that is too short to have a frequency gets that of this panel.

    Raises
    ------
    TypeError, ValueError
        If X is of another kind, not numeric, infinite, too short, or its times are not regular; the
        message names the problem and how to fix it.
    """
    roles = roles or Roles()
    X = to_pandas(X, "X")
    if isinstance(X, pd.DataFrame):
        X, long = set_times(X, roles)
        X = resample(X, roles, long)
        panel = _read_long(X, roles, like) if long else _read_wide(X, roles, like)
    elif isinstance(X, pd.Series):
        _no_roles(roles, "a Series")
        X = resample(with_plain_index(X).to_frame(), roles, False).iloc[:, 0].rename(X.name)
        panel = Panel(numeric_column(X)[:, None], 1, "series", (X.name,))
        panel = _placed(panel, X.index, roles, like)
    else:
        panel = _read_array(X, roles, like)
    columns = None if panel.columns is None else (*panel.columns, *roles.covariates)
    check_finite(panel.values, columns, "X")
    if panel.kind != "panel" and len(panel.values) < min_rows:
        raise ValueError(
            f"X has {len(panel.values)} rows; at least {min_rows} are needed "
            f"(n_samples = {len(panel.values)}; give more history, or shorten prediction_length or "
            "context_length)"
        )
    return with_times(replace(panel, roles=roles))


def read_windows(
    X: Any, context_length: int, n_targets: int, n_columns: int, roles: Roles
) -> Panel:
    """Read a batch of windows `[N, context_length, F]`: a panel whose items are the windows.

    Raises
    ------
    TypeError, ValueError
        If X is not numeric, of another shape or infinite, or the roles need times.
    """
    if roles.timed is not None:
        raise ValueError(f"X is a batch of windows, which has no times; {roles.timed} needs them")
    values = numeric_array(X)
    if values.ndim != 3 or values.shape[1:] != (context_length, n_columns) or len(values) == 0:
        raise ValueError(
            f"X has shape {values.shape}; a batch of windows is [N, {context_length}, {n_columns}]: "
            "give that, or one series"
        )
    rows = values.reshape(-1, n_columns)
    check_finite(rows, None, "X")
    offsets = np.arange(len(values) + 1) * context_length
    return Panel(rows, n_targets, "windows", offsets=offsets, roles=roles)


def _placed(panel: Panel, index: pd.Index, roles: Roles, like: Panel | None) -> Panel:
    """A single series with its index and frequency, that of `like` if it is too short to tell."""
    if len(index) == 0:
        raise ValueError("X has 0 rows; give at least one")
    if not roles.irregular:
        known = None if like is None or like.items is not None else like.freq
        index, freq = regular(index, known or _given(roles))
        return replace(panel, index=_local(index, like), freq=freq)
    index = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
    freq = rising_items(index, panel.starts, None, None if like is None else like.freq)
    return replace(panel, index=_local(index, like), freq=freq, irregular=True)


def _given(roles: Roles) -> Any:
    """Return the frequency that rows were resampled to, or None."""
    return None if roles.freq is None or roles.irregular else to_offset(roles.freq)


def _local(index: pd.Index, like: Panel | None) -> pd.Index:
    """Return times in the time zone of the fitted times, because calendar features depend on it."""
    fitted = None if like is None else like.index
    if not isinstance(index, pd.DatetimeIndex) or not isinstance(fitted, pd.DatetimeIndex):
        return index
    if (index.tz is None) != (fitted.tz is None):
        has = "no time zone" if index.tz is None else f"the time zone {index.tz}"
        raise ValueError(
            f"the index of X has {has}, but the fitted one {fitted.tz or 'none'}; give the same "
            "(tz_localize sets or drops it)"
        )
    return index if index.tz is None else index.tz_convert(fitted.tz)


def _read_array(X: Any, roles: Roles, like: Panel | None) -> Panel:
    if like is None and roles.freq is not None and not roles.irregular:
        raise ValueError(
            f"freq is {roles.freq!r}, but X is an array, which has no times; give a frame, or freq=None"
        )
    values = numeric_array(X)
    if values.ndim not in (1, 2):
        raise ValueError(f"X has shape {values.shape}; give a series [T] or [T, C]")
    if values.shape[1:] == (0,):
        raise ValueError(
            f"X has 0 feature(s) (shape={values.shape}) while a minimum of 1 is required."
        )
    if values.ndim == 1 and like is not None and like.n_targets > 1:
        raise ValueError(
            f"X has shape {values.shape}, but {like.n_targets} variates were fitted. "
            f"Reshape your data to [T, {like.n_targets}]"
        )
    if values.size == 0:
        raise ValueError(f"X has shape {values.shape}; give at least one row and one variate")
    if values.ndim == 1:
        _no_roles(roles, "an array [T]")
        return Panel(values[:, None], 1, "vector")
    _no_static(roles)
    if roles.target is None and not roles.covariates:
        return Panel(values, values.shape[1], "array")
    frame = pd.DataFrame(values)
    targets = _targets(frame, roles)
    return Panel(_values(frame, targets, roles), len(targets), "array")


def _read_wide(frame: pd.DataFrame, roles: Roles, like: Panel | None) -> Panel:
    _no_static(roles)
    targets = _targets(frame, roles, like)
    values = _values(frame, targets, roles)
    panel = Panel(values, len(targets), "frame", targets)
    return _placed(panel, frame.index, roles, like)


def _read_long(frame: pd.DataFrame, roles: Roles, like: Panel | None) -> Panel:
    if len(frame) == 0:
        raise ValueError("X has no row; give at least one item")
    targets = _targets(frame, roles, like)
    check_no_nameless(frame, roles)
    codes, items = pd.factorize(frame[roles.item_id])
    time = frame[roles.timestamp]
    places = time.array.view("i8") if time.dtype.kind == "M" else time.to_numpy()
    same = codes[1:] == codes[:-1]
    if (codes[1:] < codes[:-1]).any() or (same & (places[1:] < places[:-1])).any():
        order = np.lexsort((places, codes))
        frame, codes, time = frame.iloc[order], codes[order], time.iloc[order]
    counts = np.bincount(codes, minlength=len(items))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    # of one dtype, however they came; tuples are names, and no levels
    items = pd.Index(list(items), name=roles.item_id, tupleize_cols=False)
    index = pd.Index(time, name=roles.timestamp)
    panel = Panel(
        _values(frame, targets, roles),
        len(targets),
        "panel",
        targets,
        _local(index, like),
        offsets,
        items,
        (rising_items if roles.irregular else regular_items)(
            index, offsets, items, _given(roles) if like is None else like.freq
        ),
        irregular=roles.irregular,
    )
    return panel if not roles.static_covariates else _with_static(panel, frame, roles)


def _with_static(panel: Panel, frame: pd.DataFrame, roles: Roles) -> Panel:
    assert panel.offsets is not None
    assert panel.items is not None
    counts = np.diff(panel.offsets)
    for name in roles.static_covariates:
        codes = pd.factorize(frame[name])[0]
        moved = codes != np.repeat(codes[panel.offsets[:-1]], counts)
        if moved.any():
            item = panel.items.tolist()[item_at(panel.offsets, int(moved.argmax()))]
            raise ValueError(
                f"the static column {name!r} changes within item {item!r}; name it in past_covariates or "
                "known_covariates instead"
            )
    first = frame[list(roles.static_covariates)].iloc[panel.offsets[:-1]].reset_index(drop=True)
    return replace(panel, static=first)


def _targets(frame: pd.DataFrame, roles: Roles, like: Panel | None = None) -> tuple[Any, ...]:
    """Return the columns to forecast, and check that the other columns exist."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError("X has columns of several levels; flatten them to one name per variate")
    check_no_repeated(frame)
    if any(isinstance(name, float) and np.isnan(name) for name in frame.columns):
        raise ValueError("X has a column called nan; rename it")  # which is not equal to itself
    others = (*roles.covariates, *roles.static_covariates)
    named = others if roles.target is None else (*roles.target, *others)
    for i, name in enumerate(named):
        if name in named[:i]:
            raise ValueError(f"column {name!r} is named more than once; give it one role")
    check_columns(frame, list(others), "X")
    if roles.target == ():
        raise ValueError("target is (); give at least one column, or None for all")
    if roles.target is not None:
        check_columns(frame, list(roles.target), "X")
        return roles.target
    rest = [c for c in frame.columns if c not in others]
    rest = [c for c in rest if c not in (roles.item_id, roles.timestamp)]
    if not rest:
        raise ValueError("X has no column to forecast; give at least one variate")
    if like is None or like.kind not in ("frame", "panel"):
        return tuple(rest)
    assert like.columns is not None
    check_columns(frame, list(like.columns), "X", like.columns)
    for name in rest:
        if name not in like.columns:
            raise ValueError(f"X has the unknown column {name!r}; fit saw {list(like.columns)}")
    return like.columns


def _values(frame: pd.DataFrame, targets: tuple[Any, ...], roles: Roles) -> Array:
    columns = [numeric_column(frame[c]) for c in (*targets, *roles.covariates)]
    return np.ascontiguousarray(np.column_stack(columns))


def _no_static(roles: Roles) -> None:
    if roles.static_covariates:
        raise ValueError(
            f"static_covariates is {list(roles.static_covariates)!r}; only a long frame has static "
            "columns: give one, or no static_covariates"
        )


def _no_roles(roles: Roles, what: str) -> None:
    for name in (*(roles.target or ()), *roles.covariates, *roles.static_covariates):
        raise ValueError(f"X is {what}, which has no column {name!r}; give a frame")
