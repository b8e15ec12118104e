"""Reading what a user calls a series: arrays, wide frames, long frames of many items."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse

from titans_ts.forecasting.frequency import calendar_features, cycle_phase
from titans_ts.forecasting.panel import Panel, Roles
from titans_ts.forecasting.time_index import (
    item_at,
    regular,
    regular_items,
    rising_items,
    step_of,
    time_gaps,
)

__all__ = ["column_names", "read_known", "read_panel", "read_windows", "with_times"]

Array = NDArray[np.float64]


def column_names(given: Any) -> tuple[Any, ...]:
    """One column or several, as a tuple."""
    if isinstance(given, (list, tuple, pd.Index, np.ndarray)):
        return tuple(c.item() if isinstance(c, np.generic) else c for c in given)
    return (given.item() if isinstance(given, np.generic) else given,)


def read_panel(
    X: Any, roles: Roles | None = None, *, min_rows: int = 2, like: Panel | None = None
) -> Panel:
    """Read an array `[T]` or `[T, F]`, a pandas Series, a wide DataFrame or a long one of many items.

    A frame with the columns `roles.item_id` and `roles.timestamp` (or an index of these two levels) is
    long: a row for every item and time, in any order. A wide one has a row for every time, which is its
    index or its column `roles.timestamp`. Whatever has a `to_pandas` method (polars, pyarrow) is a frame.

    Parameters
    ----------
    X : array, Series or DataFrame
        NaN is missing.
    roles : Roles, optional
        What the columns are.
    min_rows : int
        Rows needed of a single series.
    like : Panel, optional
        The one that was fitted: a frame must have its columns, and is put in their order; an index too
        short to tell its frequency has that one's.

    Raises
    ------
    TypeError, ValueError
        If X is of another kind, not numeric, infinite, too short, or its times are not regular; the
        message names what was found and how to mend it.
    """
    roles = roles or Roles()
    if hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if isinstance(X, pd.DataFrame):
        X, long = _timed(X, roles)
        X = _resampled(X, roles, long)
        panel = _read_long(X, roles, like) if long else _read_wide(X, roles, like)
    elif isinstance(X, pd.Series):
        _no_roles(roles, "a Series")
        X = _resampled(X.to_frame(), roles, False).iloc[:, 0].rename(X.name)
        panel = Panel(_numeric(X)[:, None], 1, "series", (X.name,))
        panel = _placed(panel, X.index, roles, like)
    else:
        panel = _read_array(X, roles, like)
    columns = None if panel.columns is None else (*panel.columns, *roles.covariates)
    _check_finite(panel.values, columns, "X")
    panel = with_times(replace(panel, roles=roles))
    if panel.kind != "panel" and len(panel.values) < min_rows:
        raise ValueError(
            f"X has {len(panel.values)} rows; at least {min_rows} are needed "
            f"(n_samples = {len(panel.values)}; give more history, or shorten context_length or "
            "prediction_length)"
        )
    return panel


def with_times(panel: Panel) -> Panel:
    """The panel with the covariates that its roles compute from the time, if any."""
    features = _time_features(panel.index, panel)
    if features is None:
        return panel
    C, parts = panel.n_targets, [panel.values, features]
    if panel.roles.irregular:
        assert panel.index is not None
        gaps = time_gaps(panel.index, panel.freq)
        gaps[panel.starts[:-1]] = 0
        parts = [panel.values[:, :C], gaps[:, None], panel.values[:, C:], features]
    return replace(panel, values=np.concatenate(parts, 1))


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
    values = _array(X)
    if values.ndim != 3 or values.shape[1:] != (context_length, n_columns) or len(values) == 0:
        raise ValueError(
            f"X has shape {values.shape}; a batch of windows is [N, {context_length}, {n_columns}]"
        )
    rows = values.reshape(-1, n_columns)
    _check_finite(rows, None, "X")
    offsets = np.arange(len(values) + 1) * context_length
    return Panel(rows, n_targets, "windows", offsets=offsets, roles=roles)


def read_known(known_covariates: Any, panel: Panel, steps: int) -> Array | None:
    """Read the known covariates of the steps to forecast, `[I, steps, K]`; None without any.

    Parameters
    ----------
    known_covariates : array [H, K] or [I, H, K], or DataFrame
        A frame has the covariates as columns, and the next steps of the panel as its times; a long one
        for every item. Later steps are ignored.
    panel : Panel
        The history that they continue.
    steps : int
        H.

    Raises
    ------
    TypeError, ValueError
        If it is missing, of another form, or lacks a step.
    """
    parts = []
    if panel.roles.known_covariates:
        parts.append(_given_known(known_covariates, panel, steps))
    elif known_covariates is not None:
        raise ValueError("known_covariates is given, but the model was fitted without such columns")
    ahead = _time_features(panel.future(steps), panel)
    if ahead is not None and ahead.shape[1]:
        parts.append(ahead.reshape(panel.n_items, steps, -1))
    return np.concatenate(parts, -1) if parts else None


def _given_known(known_covariates: Any, panel: Panel, steps: int) -> Array:
    """The known covariates that the user gives, `[I, steps, K]`."""
    roles, n = panel.roles, panel.n_items
    names, n_known = list(roles.known_covariates), len(roles.known_covariates)
    if known_covariates is None:
        raise ValueError(
            f"known_covariates is None, but the model was fitted with {names}; give their values for the "
            f"next {steps} steps"
        )
    if hasattr(known_covariates, "to_pandas"):
        known_covariates = known_covariates.to_pandas()
    if not isinstance(known_covariates, (pd.DataFrame, pd.Series)):
        values = _array(known_covariates, "known_covariates")
        values = values[None] if values.ndim == 2 else values
        if values.shape[:1] + values.shape[2:] != (n, n_known) or values.shape[1] < steps:
            raise ValueError(
                f"known_covariates has shape {values.shape}; give [{n}, {steps}, {n_known}]"
                + (f", or [{steps}, {n_known}]" if n == 1 else "")
            )
        _check_finite(values.reshape(-1, n_known), None, "known_covariates")
        return np.ascontiguousarray(values[:, :steps])
    if panel.index is None:
        raise TypeError("known_covariates is a frame, but X is an array; give an array [N, H, K]")
    if panel.irregular:
        raise TypeError(
            "known_covariates is a frame, but freq is 'irregular', so the times of the next rows are "
            f"unknown; give an array [{n}, {steps}, {n_known}]"
        )
    frame = (
        known_covariates.to_frame() if isinstance(known_covariates, pd.Series) else known_covariates
    )
    frame, long = _timed(frame, roles)
    frame = _resampled(frame, roles, long)
    if long != (panel.items is not None):
        raise ValueError(
            f"known_covariates is a {'long' if long else 'wide'} frame, but the series is not; give "
            "the same"
        )
    _check_columns(frame, names, "known_covariates")
    future = panel.future(steps)
    assert future is not None
    if long:
        assert panel.items is not None
        frame = frame.set_index([roles.item_id, roles.timestamp])
        future = pd.MultiIndex.from_arrays([panel.items.repeat(steps), future])
    if frame.index.has_duplicates:
        twice = frame.index[frame.index.duplicated()][0]
        raise ValueError(f"known_covariates has {twice} twice; drop one")
    places = frame.index.get_indexer(future)
    if (places < 0).any():
        raise ValueError(
            f"known_covariates lacks {future[int((places < 0).argmax())]}; "
            f"give the {steps} steps after the end of the series"
        )
    values = np.column_stack([_numeric(frame[c]) for c in names])[places]
    _check_finite(values, tuple(names), "known_covariates")
    return np.ascontiguousarray(values.reshape(n, steps, n_known))


def _time_features(index: pd.Index | None, panel: Panel) -> Array | None:
    """Covariates computed from the times of rows, `[N, F]`; None if the roles name none."""
    roles = panel.roles
    if roles.timed is None:
        return None
    times = isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex))
    if index is None or (roles.calendar and not times):
        raise ValueError(
            f"{roles.timed} is {getattr(roles, roles.timed)!r}, but X has no times; give a frame with a "
            "DatetimeIndex"
        )
    parts = [np.empty((len(index), 0))]
    if roles.calendar:
        parts.append(
            calendar_features(index, None if panel.irregular else panel.freq, roles.calendar)
        )
    if roles.season_length:
        parts.append(cycle_phase(index, panel.freq, roles.season_length)[:, None].astype(float))
    return np.concatenate(parts, 1)


def _placed(panel: Panel, index: pd.Index, roles: Roles, like: Panel | None) -> Panel:
    """A single series with its index and frequency, that of `like` if it is too short to tell."""
    if not roles.irregular:
        index = regular(index, None if like is None or like.items is not None else like.index)
        return replace(panel, index=_local(index, like), freq=step_of(index))
    index = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
    freq = rising_items(index, panel.starts, None, None if like is None else like.freq)
    return replace(panel, index=_local(index, like), freq=freq, irregular=True)


def _local(index: pd.Index, like: Panel | None) -> pd.Index:
    """Times in the zone of those that were fitted: what the time tells is told in that."""
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


def _timed(frame: pd.DataFrame, roles: Roles) -> tuple[pd.DataFrame, bool]:
    """The frame with its time where it belongs, and whether it is long."""
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
    _no_repeated(frame)
    time = frame[roles.timestamp]
    if time.dtype.kind not in "Miu" and not isinstance(time.dtype, pd.PeriodDtype):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that no one format fits all
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


def _resampled(frame: pd.DataFrame, roles: Roles, long: bool) -> pd.DataFrame:
    """The frame at `roles.freq`, if given: numbers averaged within a step, NaN where it has no row."""
    if roles.freq is None or roles.irregular:
        return frame
    _no_repeated(frame)
    if long:
        _no_nameless(frame, roles)
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
        return frame  # refused elsewhere
    # steps are counted from one fixed time, and not from each frame's own beginning
    if not long:
        return timed.resample(roles.freq, origin="epoch").agg(how)
    return _resampled_items(timed, roles, how, static)


def _resampled_items(
    timed: pd.DataFrame, roles: Roles, how: dict[Any, str], static: list[Any]
) -> pd.DataFrame:
    """All items of a long frame at `roles.freq`, by one grouped operation."""
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


def _no_nameless(frame: pd.DataFrame, roles: Roles) -> None:
    if frame[roles.item_id].isna().any() or frame[roles.timestamp].isna().any():
        raise ValueError(f"X has rows without {roles.item_id!r} or {roles.timestamp!r}; drop them")


def _read_array(X: Any, roles: Roles, like: Panel | None) -> Panel:
    values = _array(X)
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
    _no_nameless(frame, roles)
    codes, items = pd.factorize(frame[roles.item_id])
    time = frame[roles.timestamp]
    places = time.array.view("i8") if time.dtype.kind == "M" else time.to_numpy()
    same = codes[1:] == codes[:-1]
    if (codes[1:] < codes[:-1]).any() or (same & (places[1:] < places[:-1])).any():
        order = np.lexsort((places, codes))
        frame, codes, time = frame.iloc[order], codes[order], time.iloc[order]
    counts = np.bincount(codes, minlength=len(items))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    items = pd.Index(list(items), name=roles.item_id)  # of one dtype, however they came
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
            index, offsets, items, None if like is None else like.freq
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
            item = panel.items[item_at(panel.offsets, int(moved.argmax()))]
            raise ValueError(
                f"the static column {name!r} changes within item {item!r}; name it in past_covariates or "
                "known_covariates instead"
            )
    first = frame[list(roles.static_covariates)].iloc[panel.offsets[:-1]].reset_index(drop=True)
    return replace(panel, static=first)


def _targets(frame: pd.DataFrame, roles: Roles, like: Panel | None = None) -> tuple[Any, ...]:
    """The columns to forecast; the others are there too."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError("X has columns of several levels; flatten them to one name a variate")
    _no_repeated(frame)
    others = (*roles.covariates, *roles.static_covariates)
    given = others if roles.target is None else (*roles.target, *others)
    for i, name in enumerate(given):
        if name in given[:i]:
            raise ValueError(f"column {name!r} is named more than once; give it one role")
    _check_columns(frame, list(others), "X")
    if roles.target is not None:
        _check_columns(frame, list(roles.target), "X")
        return roles.target
    rest = [c for c in frame.columns if c not in others]
    rest = [c for c in rest if c not in (roles.item_id, roles.timestamp)]
    if not rest:
        raise ValueError("X has no column to forecast; give at least one variate")
    if like is None or like.kind not in ("frame", "panel"):
        return tuple(rest)
    assert like.columns is not None
    _check_columns(frame, list(like.columns), "X", like.columns)
    for name in rest:
        if name not in like.columns:
            raise ValueError(f"X has the unknown column {name!r}; fit saw {list(like.columns)}")
    return like.columns


def _values(frame: pd.DataFrame, targets: tuple[Any, ...], roles: Roles) -> Array:
    columns = [_numeric(frame[c]) for c in (*targets, *roles.covariates)]
    return np.ascontiguousarray(np.column_stack(columns))


def _no_repeated(frame: pd.DataFrame) -> None:
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"X has the column {repeated[0]!r} more than once; rename or drop one")


def _no_static(roles: Roles) -> None:
    if roles.static_covariates:
        raise ValueError(
            f"static_covariates is {list(roles.static_covariates)!r}; only a long frame has static "
            "columns"
        )


def _no_roles(roles: Roles, what: str) -> None:
    for name in (*(roles.target or ()), *roles.covariates, *roles.static_covariates):
        raise ValueError(f"X is {what}, which has no column {name!r}; give a frame")


def _check_columns(
    frame: pd.DataFrame, names: list[Any], what: str, fitted: tuple[Any, ...] | None = None
) -> None:
    for name in names:
        if name not in frame.columns:
            has = f"fit saw {list(fitted)}" if fitted else f"it has {list(frame.columns)}"
            raise ValueError(f"{what} lacks the column {name!r}; {has}")


def _array(X: Any, name: str = "X") -> Array:
    if isinstance(X, (str, bytes)) or X is None:
        raise TypeError(f"{name} is {X!r}; give an array [T, C], a Series or a wide DataFrame")
    if issparse(X):
        raise TypeError(f"{name} is sparse; give {name}.toarray()")
    try:
        values = np.ma.filled(X.astype(float), np.nan) if np.ma.isMaskedArray(X) else np.asarray(X)
        if values.dtype.kind == "O":  # numbers beside text that a step before took out
            values = values.astype(float)
        if values.dtype.kind not in "fiubc":
            raise TypeError(f"dtype {values.dtype}")
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} is a {type(X).__name__} that is not numeric ({error}); "
            "give an array [T, C], a Series or a wide DataFrame of numbers"
        ) from error
    if values.dtype.kind == "c":
        raise ValueError(
            f"{name} is complex. Complex data not supported; give its parts as variates"
        )
    return np.ascontiguousarray(values, dtype=np.float64)


def _numeric(column: pd.Series) -> Array:
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    raise TypeError(
        f"column {column.name!r} has dtype {column.dtype}; convert it to numbers, "
        "set it as the index if it holds the time, or drop it"
    )


def _check_finite(values: Array, columns: tuple[Any, ...] | None, what: str) -> None:
    infinite = np.isinf(values)
    if infinite.any():
        row, column = np.unravel_index(int(infinite.argmax()), values.shape)
        name = column if columns is None else columns[column]
        raise ValueError(
            f"{what} is infinite in row {row}, column {name!r}; replace it, or set NaN for missing"
        )
