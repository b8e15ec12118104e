"""Known covariates of the steps to forecast: from the user, and from the time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting.columns import (
    check_columns,
    check_finite,
    numeric_array,
    numeric_column,
    to_pandas,
)
from titans_ts.forecasting.frame_times import resample, set_times
from titans_ts.forecasting.frequency import calendar_features, cycle_phase
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.time_index import time_gaps

__all__ = ["read_known", "with_times"]

Array = NDArray[np.float64]


def with_times(panel: Panel) -> Panel:
    """Return the panel with the covariates that its roles compute from the time, if any."""
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


def read_known(known_covariates: Any, panel: Panel, steps: int) -> Array | None:
    """Read the known covariates of the steps to forecast, `[I, steps, K]`; None without any.

    Parameters
    ----------
    known_covariates : array [H, K] or [I, H, K], or DataFrame
        A frame has the covariates as columns, and the next steps of the panel as its times; a long frame
        has these rows for every item. Later steps are ignored.
    panel : Panel
        The history before these steps.
    steps : int
        H, number of steps to forecast.

    Raises
    ------
    TypeError, ValueError
        If it is missing, of another form, or lacks a step.
    """
    parts = []
    if panel.roles.known_covariates:
        parts.append(_given_known(known_covariates, panel, steps))
    elif known_covariates is not None:
        raise ValueError(
            "known_covariates is given, but the model was fitted without such columns; leave it out"
        )
    ahead = _time_features(panel.future(steps), panel)
    if ahead is not None and ahead.shape[1]:
        parts.append(ahead.reshape(panel.n_items, steps, -1))
    return np.concatenate(parts, -1) if parts else None


def _given_known(known_covariates: Any, panel: Panel, steps: int) -> Array:
    """Return the known covariates that the user gave, `[I, steps, K]`."""
    roles, n = panel.roles, panel.n_items
    names, n_known = list(roles.known_covariates), len(roles.known_covariates)
    if known_covariates is None:
        raise ValueError(
            f"known_covariates is None, but the model was fitted with {names}; give their values for the "
            f"next {steps} steps"
        )
    known_covariates = to_pandas(known_covariates, "known_covariates")
    if not isinstance(known_covariates, (pd.DataFrame, pd.Series)):
        values = numeric_array(known_covariates, "known_covariates")
        values = values[None] if values.ndim == 2 else values
        if values.shape[:1] + values.shape[2:] != (n, n_known) or values.shape[1] < steps:
            raise ValueError(
                f"known_covariates has shape {values.shape}; give [{n}, {steps}, {n_known}]"
                + (f", or [{steps}, {n_known}]" if n == 1 else "")
            )
        check_finite(values.reshape(-1, n_known), None, "known_covariates")
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
    frame, long = set_times(frame, roles)
    frame = resample(frame, roles, long)
    if long != (panel.items is not None):
        raise ValueError(
            f"known_covariates is a {'long' if long else 'wide'} frame, but the series is not; give "
            "the same"
        )
    check_columns(frame, names, "known_covariates")
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
    values = np.column_stack([numeric_column(frame[c]) for c in names])[places]
    check_finite(values, tuple(names), "known_covariates")
    return np.ascontiguousarray(values.reshape(n, steps, n_known))


def _time_features(index: pd.Index | None, panel: Panel) -> Array | None:
    """Return the covariates that are computed from the times of rows, `[N, F]`; None without any."""
    roles = panel.roles
    if roles.timed is None:
        return None
    times = isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex))
    if index is None or (roles.calendar and not times):
        whole = ", or an index that counts the rows" if roles.timed == "season_length" else ""
        raise ValueError(
            f"{roles.timed} is {getattr(roles, roles.timed)!r}, but X has no times; give a frame with a "
            f"DatetimeIndex{whole}"
        )
    if roles.season_length and panel.freq is None:
        raise ValueError(
            f"season_length is {roles.season_length}, but X has {len(index)} row, which has no "
            "frequency; give more rows"
        )
    parts = [np.empty((len(index), 0))]
    if roles.calendar:
        parts.append(
            calendar_features(index, None if panel.irregular else panel.freq, roles.calendar)
        )
    if roles.season_length:
        parts.append(cycle_phase(index, panel.freq, roles.season_length)[:, None].astype(float))
    return np.concatenate(parts, 1)
