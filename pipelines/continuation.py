"""New rows of the series that a saved forecaster follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.panel import Roles
from titans_ts.pipelines.ingest import Columns, Series, columns_of_model, read_series
from titans_ts.pipelines.regular import regular_long, regular_wide
from titans_ts.pipelines.tables import read_table

__all__ = ["continue_series", "new_rows", "read_for_model"]


def read_for_model(
    path: str | Path,
    forecaster: TitansForecaster,
    given: Columns,
    say: Callable[[str], None] = print,
) -> tuple[Series, Columns]:
    """Read a file in the form of the series that a forecaster was fitted to.

    Parameters
    ----------
    path : str or Path
        `.csv`, `.csv.gz`, `.parquet` or `.xlsx`.
    forecaster : TitansForecaster
        Fitted to a frame.
    given : Columns
        What the user gives: `time`, `item`, `date_format` and `missing`.
    say : callable
        Receives one line for every change or assumption (default: `print`).

    Returns
    -------
    tuple
        The series, whose columns have the forecaster's names, and the roles that it was read with.
    """
    columns = columns_of_model(forecaster, read_table(path, say=lambda line: None), given)
    series = read_series(path, columns, say=say)
    roles, frame = forecaster.roles, series.frame
    names: dict[Any, Any] = {series.timestamp: roles.timestamp}
    if series.item_id is not None:
        names[series.item_id] = roles.item_id
        frame = frame.rename(columns=names)
    names = {"item_id": roles.item_id, "timestamp": roles.timestamp}
    return replace(series, frame=frame, parameters=series.parameters | names), columns


def continue_series(
    forecaster: TitansForecaster, frame: pd.DataFrame, say: Callable[[str], None] = print
) -> int:
    """Append the rows of a frame that the forecaster does not know yet, and return their number.

    Parameters
    ----------
    forecaster : TitansForecaster
        Fitted to a frame.
    frame : DataFrame
        In the form of the fitted frame.
    say : callable
        Receives a line about rows that are left out or missing (default: `print`).

    Raises
    ------
    ValueError
        If an item is unknown, or times lie between two steps.
    """
    new = new_rows(forecaster, frame, say)
    if len(new):
        forecaster.update(new)
    return len(new)


def new_rows(
    forecaster: TitansForecaster, frame: pd.DataFrame, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """Return the rows after the end of a forecaster's series, with rows of NaN for missing steps.

    Parameters and errors are those of :func:`continue_series`.
    """
    roles, end = forecaster.roles, forecaster.end_
    regular = roles.freq != "irregular"
    if not isinstance(end, pd.Series):
        if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
            return frame.set_axis(frame.index + (int(end) + 1), axis=0)
        _check_times(frame.index, end)
        after = frame[frame.index > end]
        _say_known(len(frame) - len(after), end, say)
        if len(after) and regular:
            last = pd.DataFrame(index=pd.Index([end], name=frame.index.name), columns=frame.columns)
            after = pd.concat([last.astype(float), after])
            after = regular_wide(after, say, forecaster.freq_).iloc[1:]
        return after
    unknown = frame[~frame[roles.item_id].isin(end.index)]
    if len(unknown):
        raise ValueError(
            f"item {unknown[roles.item_id].iloc[0]!r} is not one of the {len(end)} series of the model; "
            "give --history, to forecast from the rows of the file alone"
        )
    times = pd.Index(frame[roles.timestamp])
    _check_times(times, end.iloc[0])
    after = frame[times > pd.Index(frame[roles.item_id].map(end))]
    _say_known(len(frame) - len(after), end.max(), say)
    if len(after) and regular:
        after = _filled(after, end, roles, forecaster.freq_, say)
    return after


def _filled(
    after: pd.DataFrame, end: pd.Series, roles: Roles, freq: Any, say: Callable[[str], None]
) -> pd.DataFrame:
    """Add rows of NaN between the end of every item and its new rows, and within these."""
    seen = end[end.index.isin(after[roles.item_id])]
    ends = pd.DataFrame({roles.item_id: seen.index, roles.timestamp: seen.to_numpy()})
    if isinstance(end.dtype, pd.DatetimeTZDtype):
        ends[roles.timestamp] = seen.array
    both = regular_long(pd.concat([ends, after], ignore_index=True), roles, say, freq)
    first = both.groupby(roles.item_id).cumcount() == 0
    return both[~first].reset_index(drop=True)


def _check_times(times: pd.Index, end: Any) -> None:
    if isinstance(times, pd.DatetimeIndex) == isinstance(end, pd.Timestamp):
        return
    first = times[0] if len(times) else "none"
    raise ValueError(
        f"the file has times such as {first}, but the series of the model ends at {end}; name the "
        "column of the time by --time-column"
    )


def _say_known(rows: int, end: Any, say: Callable[[str], None]) -> None:
    if rows:
        say(f"{rows} rows up to {end} are known already: left out")
