"""Read a file into a regular wide or long frame; every change is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.frame_times import resample
from titans_ts.forecasting.panel import Roles
from titans_ts.pipelines.cells import numbers, readable_numbers, say_sentinels
from titans_ts.pipelines.regular import regular_long, regular_wide
from titans_ts.pipelines.tables import check_names, read_table
from titans_ts.pipelines.times import find_times

__all__ = ["Columns", "Series", "columns_of_model", "read_frame", "read_plan", "read_series"]

_SPELLINGS = (("item_id", "timestamp", "target"), ("unique_id", "ds", "y"))
"""Names of the items, the times and the target in long files of other tools."""
_RESERVED = {"window", "step", "variate", "actual", "value", "score", "threshold", "anomaly"}
"""Columns of results, which a time or an item may not be called."""
_JOINT = "/"
"""What stands between the names of several columns that identify an item, and between their cells."""


@dataclass(frozen=True)
class Columns:
    """The columns of a file and their roles; what is None is found out."""

    time: str | None = None
    item: list[str] | None = None
    """The columns that identify a series in a long file."""
    target: list[str] | None = None
    past: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    freq: str | None = None
    date_format: str | None = None
    missing: list[str] | None = None
    """Codes that mean a missing value."""
    timezone: str | None = None
    """The zone of the times."""
    wide: bool = False
    """Whether the file has one row a time, whatever its columns are called."""

    @property
    def covariates(self) -> list[str]:
        """Past and known covariates."""
        return [*self.past, *self.known]


@dataclass(frozen=True)
class Series:
    """A file as a frame, with the parameters of a forecaster that name its columns."""

    frame: pd.DataFrame
    """Wide, with times or whole numbers as its index, or long, with columns of items and times."""
    parameters: dict[str, Any]
    """Those of :class:`titans_ts.TitansForecaster`: target, covariates, names of columns."""

    @property
    def item_id(self) -> str | None:
        """The column of the items of a long frame; None for a wide one."""
        name = self.parameters.get("item_id", "item_id")
        return name if name in self.frame else None

    @property
    def timestamp(self) -> str:
        """The name of the time."""
        return str(self.parameters.get("timestamp", "timestamp"))

    @property
    def targets(self) -> list[str]:
        """The columns to forecast."""
        return list(self.parameters["target"])

    def summary(self) -> str:
        """Tell the size of the series in a line."""
        C = len(self.targets)
        variates = f"{C} variate" + "s" * (C > 1)
        if self.item_id is None:
            first, last = self.frame.index[[0, -1]]
            return f"{variates}, {len(self.frame)} rows, {first} to {last}"
        times = self.frame[self.timestamp]
        n = self.frame[self.item_id].nunique()
        return f"{n} series, {variates}, {len(self.frame)} rows, {times.min()} to {times.max()}"


def read_frame(
    path: str | Path,
    *,
    time_column: str | None = None,
    columns: list[str] | None = None,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Read a CSV, Parquet or Excel file of one row a time into a wide frame with a regular index.

    Rows are sorted by time, repeated times are averaged, and gaps become missing values (NaN). Columns
    that are not numbers are left out; a few unreadable cells of others are missing values. Each change is
    reported through `say`.

    Parameters
    ----------
    path : str or Path
        `.csv`, `.csv.gz`, `.parquet` or `.xlsx`.
    time_column : str, optional
        The column with the time; default: the first column of dates.
    columns : list of str, optional
        The variates to keep; default: every numeric column.
    say : callable
        Receives one line for every change or assumption (default: `print`).

    Raises
    ------
    FileNotFoundError, ValueError
        If the file, a column or a frequency is missing.
    """
    return _wide(read_table(path, say=say), Columns(time=time_column, target=columns), say).frame


def read_series(
    path: str | Path, columns: Columns | None = None, *, say: Callable[[str], None] = print
) -> Series:
    """Read a file of one or many series, wide or long, with the roles of its columns.

    A file is long if `columns.item` names the columns that identify a series, or if its columns are
    called item_id and timestamp, or unique_id and ds. Rows are mended as by :func:`read_frame`, in every
    series by itself.

    Parameters
    ----------
    path : str or Path
        `.csv`, `.csv.gz`, `.parquet` or `.xlsx`.
    columns : Columns, optional
        The roles of the columns (default: all are found out).
    say : callable
        Receives one line for every change or assumption (default: `print`).

    Raises
    ------
    FileNotFoundError, ValueError
        If the file, a column or a frequency is missing, or what to forecast is unclear.
    """
    columns = columns or Columns()
    table = read_table(path, missing=columns.missing, say=say)
    check_names(table, [columns.time] if columns.time else [], "--time-column")
    check_names(table, columns.target or [], "--target")
    check_names(table, columns.past, "--past-covariates")
    check_names(table, columns.known, "--known-covariates")
    check_names(table, columns.static, "--static-covariates")
    item = columns.item
    spelling = next((s for s in _SPELLINGS if s[0] in table and s[1] in table), None)
    if item is None and spelling is not None and not columns.wide:
        item = [spelling[0]]
    if item is None:
        if columns.static:
            raise ValueError(
                "--static-covariates needs a file of many series; name the column of their names by "
                "--item-column"
            )
        return _wide(table, columns, say)
    if len(item) == 1:
        item = _parts(table, item[0])
    check_names(table, item, "--item-column")
    time = columns.time
    if time is None and spelling is not None and spelling[1] in table:
        time = spelling[1]
    return _long(table, item, time, columns, say)


def columns_of_model(forecaster: TitansForecaster, table: pd.DataFrame, given: Columns) -> Columns:
    """Return the roles of the columns of a file for a fitted forecaster.

    Parameters
    ----------
    forecaster : TitansForecaster
        Fitted to a frame.
    table : DataFrame
        The file, of which only the names of the columns are read.
    given : Columns
        What the user gives; it wins.
    """
    roles, long = forecaster.roles, isinstance(forecaster.end_, pd.Series)
    names = getattr(forecaster, "feature_names_in_", None)
    return replace(
        given,
        time=given.time or (roles.timestamp if roles.timestamp in table else None),
        item=(given.item or [roles.item_id]) if long else None,
        target=None if names is None else [str(name) for name in names],
        past=list(roles.past_covariates),
        known=list(roles.known_covariates),
        static=list(roles.static_covariates),
        freq=roles.freq,
        wide=not long,
        timezone=given.timezone or _zone_of(forecaster),
    )


def _zone_of(forecaster: TitansForecaster) -> str | None:
    """Return the zone of the fitted times, if it has a name."""
    end = forecaster.end_
    last = end.iloc[0] if isinstance(end, pd.Series) else end
    zone = getattr(last, "tzinfo", None)
    return getattr(zone, "key", getattr(zone, "zone", None))


def read_plan(
    path: str | Path,
    columns: Columns,
    *,
    item_id: str | None,
    timestamp: str,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Read the known covariates of future steps, in the form of a series.

    Parameters
    ----------
    path : str or Path
        A file with the columns of the time, of the items (of a long file) and of the known covariates.
    columns : Columns
        The roles that the series was read with.
    item_id, timestamp : str
        The names of the items and of the times in the frame of the series; `item_id` is None for a wide
        one.
    say : callable
        Receives one line for every assumption (default: `print`).

    Raises
    ------
    FileNotFoundError, ValueError
        If the file or a column is missing, or a time is no date.
    """
    table = read_table(path, missing=columns.missing, say=say)
    time: str | None = columns.time or timestamp
    items = [] if item_id is None else (columns.item or [item_id])
    items = _parts(table, items[0]) if len(items) == 1 else items
    check_names(table, [*items, *columns.known], "--future")
    if time not in table:
        time = None  # it is found as in the series
    times, table = find_times(
        table,
        time,
        say,
        date_format=columns.date_format,
        kept=[*items, *columns.known],
        timezone=columns.timezone,
        items=items,
    )
    if times is None:
        raise ValueError(f"--future: {path} has no column of times; give one, named {timestamp!r}")
    plan = pd.DataFrame({name: numbers(table[name], say, "--future") for name in columns.known})
    if item_id is None:
        return plan.set_axis(pd.Index(times, name=timestamp), axis=0)
    plan.insert(0, item_id, _item_names(table, items))
    plan.insert(1, timestamp, times)
    return plan


def _wide(table: pd.DataFrame, columns: Columns, say: Callable[[str], None]) -> Series:
    check_names(table, [columns.time] if columns.time else [])
    named = [*(columns.target or []), *columns.covariates]
    if not isinstance(table.index, pd.DatetimeIndex):
        times, table = find_times(
            table,
            columns.time,
            say,
            date_format=columns.date_format,
            kept=named,
            timezone=columns.timezone,
        )
        if times is None:
            say("no column of dates found: the rows are taken as equally spaced, in order")
        else:
            _check_repeats(times, table)
            table = table.set_axis(pd.Index(times, name=times.name), axis=0)
    check_names(table, named)
    target = _wide_targets(table, columns, say) if columns.target is None else columns.target
    for name in target:
        if table[name].isna().all():
            raise ValueError(f"column {name!r} has no value; choose a column that has some")
    frame = _as_numbers(table, target, columns, say)
    name = "timestamp" if frame.index.name in (None, *_RESERVED) else str(frame.index.name)
    parameters = _parameters(columns, target) | {"timestamp": name}
    if columns.freq is None:
        frame = regular_wide(frame, say)
    elif not isinstance(frame.index, pd.DatetimeIndex):
        raise ValueError(
            f"--freq is {columns.freq!r}, but the file has no column of dates; leave --freq out, or add "
            "one"
        )
    else:
        frame = frame.sort_index()
        frame = resample(frame, Roles(freq=columns.freq), False)
        if columns.freq == "irregular":
            frame = frame.groupby(level=0).mean()
    say_sentinels(frame, say)
    return Series(frame, parameters)


def _long(
    table: pd.DataFrame,
    item: list[str],
    time: str | None,
    columns: Columns,
    say: Callable[[str], None],
) -> Series:
    named = [*item, *(columns.target or []), *columns.covariates, *columns.static]
    item_id = _JOINT.join(item)
    names = _item_names(table, item)
    times, rest = find_times(
        table,
        time,
        say,
        date_format=columns.date_format,
        counters=False,
        kept=named,
        timezone=columns.timezone,
        items=item,
    )
    if times is None:
        raise ValueError("no column of dates found; name the column of the time by --time-column")
    kept = [*columns.covariates, *columns.static]
    target = columns.target
    if target is None:
        target = _long_targets(rest.drop(columns=[c for c in item if c in rest]), kept, say)
    timestamp = "timestamp" if times.name in _RESERVED else str(times.name)
    item_id = "item_id" if item_id in _RESERVED else item_id
    frame = _as_numbers(rest, target, columns, say)
    for name in columns.static:
        frame[name] = table[name]
    frame.insert(0, item_id, names)
    frame.insert(1, timestamp, times)
    parameters = _parameters(columns, target) | {
        "item_id": item_id,
        "timestamp": timestamp,
        "static_covariates": tuple(columns.static),
    }
    roles = Roles(
        tuple(target),
        static_covariates=tuple(columns.static),
        item_id=item_id,
        timestamp=timestamp,
        freq=columns.freq,
    )
    if columns.freq is None:
        frame = regular_long(frame, roles, say)
    else:
        frame = resample(frame.sort_values([item_id, timestamp], kind="stable"), roles, True)
    say_sentinels(frame[[*target, *columns.covariates]], say)
    return Series(frame.reset_index(drop=True), parameters)


def _parameters(columns: Columns, target: list[str]) -> dict[str, Any]:
    return {
        "target": tuple(target),
        "past_covariates": tuple(columns.past),
        "known_covariates": tuple(columns.known),
        "freq": columns.freq,
    }


def _parts(table: pd.DataFrame, item_id: str) -> list[str]:
    """Return the columns that identify an item: one, or those whose names were joined."""
    parts = item_id.split(_JOINT)
    return parts if item_id not in table and all(p in table for p in parts) else [item_id]


def _item_names(table: pd.DataFrame, item: list[str]) -> pd.Series:
    """Return the name of every row's item; several columns are joined."""
    for name in item:
        if table[name].isna().any():
            row = int(table[name].isna().to_numpy().argmax())
            raise ValueError(f"column {name!r} is empty in row {row}; give every row its series")
    if len(item) == 1:
        column = table[item[0]]
        return column.astype(str) if isinstance(column.dtype, pd.CategoricalDtype) else column
    joined = table[item[0]].astype(str)
    for name in item[1:]:
        joined = joined + _JOINT + table[name].astype(str)
    return joined


def _check_repeats(times: pd.Series, table: pd.DataFrame) -> None:
    repeated = float(times.duplicated().mean())
    if repeated <= 0.1:
        return
    text = [c for c in table if not readable_numbers(table[c]) and table[c].notna().all()]
    found = _identifying(times, table, text)
    option = f"--item-column {','.join(found)}" if found else "--item-column"
    raise ValueError(
        f"column {times.name!r} repeats {repeated:.0%} of its dates; give one row a time, or, for many "
        f"series in one file, name the columns that identify a series: {option}"
    )


def _identifying(times: pd.Series, table: pd.DataFrame, columns: list[Any]) -> list[str]:
    """Return the fewest first columns of text that, with the time, tell every row apart; or none."""
    for some in ([[c] for c in columns], [columns]):
        for names in some:
            rows = table[names].assign(**{"\0": times.to_numpy()})
            if names and rows.duplicated().mean() < 0.01:
                return [str(name) for name in names]
    return []


def _as_numbers(
    table: pd.DataFrame, target: list[str], columns: Columns, say: Callable[[str], None]
) -> pd.DataFrame:
    options = dict.fromkeys(columns.target or [], "--target")
    options |= dict.fromkeys(columns.past, "--past-covariates")
    options |= dict.fromkeys(columns.known, "--known-covariates")
    named = dict.fromkeys([*target, *columns.covariates])
    return pd.DataFrame({name: numbers(table[name], say, options.get(name)) for name in named})


def _wide_targets(table: pd.DataFrame, columns: Columns, say: Callable[[str], None]) -> list[str]:
    """Return every column of numbers without another role; what is left out is reported."""
    others = [c for c in table if c not in columns.covariates]
    empty = [c for c in others if table[c].isna().all()]
    target = [c for c in others if c not in empty and readable_numbers(table[c])]
    left_out = [str(c) for c in others if c not in target and c not in empty]
    if left_out:
        say(f"left out, not numbers: {', '.join(left_out)}")
    if empty:
        say(f"left out, without a value: {', '.join(map(str, empty))}")
    if not target:
        raise ValueError(
            f"no column of numbers to forecast; the file has {list(table)}: give at least one"
        )
    flags = [str(c) for c in target if len(target) > 1 and table[c].dropna().isin([0, 1]).all()]
    if flags:
        say(
            f"forecast like the others, though only 0 and 1: {', '.join(flags)} (name what to forecast "
            "by --target, and what helps by --known-covariates or --past-covariates)"
        )
    return target


def _long_targets(table: pd.DataFrame, kept: list[str], say: Callable[[str], None]) -> list[str]:
    """Return the column to forecast of a long file: y or target, or the only one of numbers."""
    numeric = [c for c in table if c not in kept and readable_numbers(table[c])]
    chosen = [c for c in numeric if c in {spelling[2] for spelling in _SPELLINGS}]
    if len(chosen) != 1 and len(numeric) != 1:
        raise ValueError(
            f"what to forecast is unclear; name it by --target (columns of numbers: {numeric})"
        )
    target = chosen if len(chosen) == 1 else numeric
    left_out = [str(c) for c in table if c not in kept and c not in target]
    if left_out:
        say(
            f"left out: {', '.join(left_out)} (name what helps by --known-covariates, "
            "--past-covariates or --static-covariates)"
        )
    return target
