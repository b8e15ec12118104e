"""Find the time of every row of a table: a column of dates, or one that rises by a constant step."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

import pandas as pd

from titans_ts.forecasting.dates import CLOCK, read_dates

__all__ = ["Times", "find_times"]

_FEWEST = 10
"""Fewest rows in which a constant step is no coincidence."""
_LAST_DAY = 2100_12_31
"""Larger whole numbers are no days, months or years."""


class Times(NamedTuple):
    """The times of the rows of a table."""

    values: pd.Series | None
    """Dates or whole numbers, named as their column; None if the table has no time."""
    rest: pd.DataFrame
    """The table without the columns that hold times."""


def find_times(
    frame: pd.DataFrame,
    time_column: str | None,
    say: Callable[[str], None],
    *,
    date_format: str | None = None,
    counters: bool = True,
    kept: list[str] | None = None,
    timezone: str | None = None,
    items: list[str] | None = None,
) -> Times:
    """Find the time of every row.

    Parameters
    ----------
    frame : DataFrame
        The table.
    time_column : str or None
        The column with the time; None: the column of dates with the most different ones, or else the
        first column of whole numbers that rise by a constant step, beside other numbers.
    say : callable
        Receives one line for every assumption.
    date_format : str, optional
        How dates are written, such as ``"%d/%m/%Y"`` (default: it is found out).
    counters : bool
        Whether a column that rises by a constant step may be the time (default True).
    kept : list of str, optional
        Columns that stay in the table even if they hold dates (default: none).
    timezone : str, optional
        The zone of the times (default: that of the column). Times without an offset from UTC are local
        ones; an hour that is repeated when summer time ends is the second one in its second row.
    items : list of str, optional
        Columns that identify a series (default: none; there is one).

    Raises
    ------
    ValueError
        If a cell of the time is no date, or dates can be read in two ways.
    """
    candidates = (
        [c for c in frame if c not in (kept or [])] if time_column is None else [time_column]
    )
    dates: dict[Hashable, pd.Series] = {}
    assumed: dict[Hashable, list[str]] = {}
    for name in candidates:
        assumed[name] = []
        found = _dates(frame[name], date_format, assumed[name].append)
        if found is not None:
            dates[name] = found
            if timezone is None and date_format is None and (offsets := _offsets(frame[name])):
                assumed[name].append(
                    f"column {name!r} has times with the offsets {offsets} from UTC: taken as UTC (give "
                    "--timezone, to have local ones)"
                )
    if not dates:
        return _counted(frame, time_column, say, counters, kept or [])
    # the first column with the finest resolution
    name = max(dates, key=lambda column: dates[column].nunique())
    for line in assumed[name]:
        say(line)
    stamps = dates[name]
    if stamps.isna().any():
        row = int(stamps.isna().to_numpy().argmax())
        raise ValueError(
            f"column {name!r} holds {frame[name].tolist()[row]!r} in row {row}, which is no date; "
            "write a date as in the other rows, or remove the row"
        )
    frame = frame.drop(columns=list(dates))
    clock = next((c for c in frame if _is_clock(frame[c])), None)
    if clock is not None and stamps.duplicated().any():
        say(f"the time is taken from {name!r} and {clock!r} together")
        text = frame[clock].astype("string").str.strip()
        stamps = stamps + pd.to_timedelta(text.where(text.str.count(":") == 2, text + ":00"))
        frame = frame.drop(columns=clock)
    if timezone is not None:
        stamps = _in_zone(stamps, timezone, frame[items or []])
    return Times(stamps.rename(name), frame)


def _in_zone(stamps: pd.Series, timezone: str, items: pd.DataFrame) -> pd.Series:
    """Return times in a zone."""
    try:
        if stamps.dt.tz is not None:
            return stamps.dt.tz_convert(timezone)
        again = items.assign(**{"\0": stamps.to_numpy()}).duplicated().to_numpy()
        return stamps.dt.tz_localize(timezone, ambiguous=~again, nonexistent="shift_forward")
    except (KeyError, ValueError, OSError) as error:  # the names of zones are keys
        raise ValueError(
            f"--timezone is {timezone!r}, which is no known zone; give one such as Europe/Berlin or UTC"
        ) from error


def _offsets(column: pd.Series) -> str:
    """Return the offsets from UTC of times as text, if there are several."""
    if not (pd.api.types.is_string_dtype(column.dtype) or column.dtype == object):
        return ""
    found = column.astype("string").str.extract(r":\d{2}(?:\.\d+)? ?([+-]\d{2}:?\d{2}|Z)$")[0]
    offsets = sorted(found.dropna().unique())
    return " and ".join(offsets[:3]) if len(offsets) > 1 else ""


def _dates(
    column: pd.Series, date_format: str | None, say: Callable[[str], None]
) -> pd.Series | None:
    """Read a column as dates; equal cells are read once."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if date_format is not None:
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            return column
        text = column.astype("string").str.strip()
        dates = pd.to_datetime(text, format=date_format, errors="coerce")
        return dates if dates.notna().mean() > 0.5 else None
    whole = pd.api.types.is_integer_dtype(column.dtype)
    if not whole or column.is_unique or column.max() > _LAST_DAY:
        return read_dates(column, say)
    cells = column.drop_duplicates().sort_values()  # the same years in every item
    dates = read_dates(cells.reset_index(drop=True), say)
    if dates is None:
        return None
    return column.map(pd.Series(dates.to_numpy(), cells.to_numpy()))


def _counted(
    frame: pd.DataFrame,
    time_column: str | None,
    say: Callable[[str], None],
    counters: bool,
    kept: list[str],
) -> Times:
    """Take whole numbers as the time: those of the named column, or that rise by a constant step."""
    if time_column is not None:
        column = frame[time_column]
        if not pd.api.types.is_integer_dtype(column.dtype) or column.isna().any():
            raise ValueError(
                f"column {time_column!r} holds {column.tolist()[0]!r} in row 0, which is no date; write "
                "dates as YYYY-MM-DD"
            )
        return Times(column, frame.drop(columns=time_column))
    numeric = [c for c in frame if pd.api.types.is_numeric_dtype(frame[c].dtype)]
    for name in numeric if counters and len(numeric) > 1 else ():
        step = _constant_step(frame[name])
        if step and name not in kept:
            say(f"column {name!r} rises by {step} from row to row: taken as the time")
            return Times(frame[name].astype("int64"), frame.drop(columns=name))
    return Times(None, frame)


def _constant_step(column: pd.Series) -> int:
    """Return the step by which whole numbers rise from row to row; 0 if there is none."""
    if len(column) < _FEWEST or column.isna().any() or (column != column.round()).any():
        return 0
    steps = column.diff().iloc[1:]
    first = steps.iloc[0]
    return int(first) if first > 0 and (steps == first).all() else 0


def _is_clock(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return False
    return bool(column.astype("string").str.strip().str.fullmatch(CLOCK).fillna(False).all())
