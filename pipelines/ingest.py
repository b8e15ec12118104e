"""From a file to a regular wide frame; whatever is changed on the way is said."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from titans_ts.frequency import guess_frequency

__all__ = ["read_frame"]


def read_frame(
    path: str | Path,
    *,
    time_column: str | None = None,
    columns: list[str] | None = None,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Read a CSV or Parquet file into a wide frame with a regular time index.

    Rows are sorted by time, repeated stamps averaged, and gaps become missing values (NaN); each is
    reported through `say`. Columns that are not numbers are left out, and named.

    Parameters
    ----------
    path : str or Path
        `.csv`, `.csv.gz` or `.parquet`.
    time_column : str, optional
        The column with the time; default: the first whose values are dates.
    columns : list of str, optional
        The variates to keep; default: every numeric column.
    say : callable
        Receives one line for everything worth knowing.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file, a column or a frequency is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    frame = _read(path, say)
    if frame.empty:
        raise ValueError(f"{path}: it has no rows")
    if not isinstance(frame.index, pd.DatetimeIndex):
        frame = _set_time(frame, time_column, say)
    frame = _choose(frame, columns, say)
    return _regularise(frame, say) if isinstance(frame.index, pd.DatetimeIndex) else frame


def _read(path: Path, say: Callable[[str], None]) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        head = file.read(65_536)
    encoding = "utf-8-sig"
    try:
        head.decode(encoding, "strict" if len(head) < 65_536 else "ignore")
        header = head.decode(encoding, "ignore").split("\n")[0]
    except UnicodeDecodeError:
        encoding, header = "latin-1", head.decode("latin-1").split("\n")[0]
        say("the file is not UTF-8: read as Latin-1")
    separator = max(",;\t|", key=header.count)
    decimal = "," if separator == ";" and b"." not in head and head.count(b",") else "."
    try:
        frame = pd.read_csv(path, sep=separator, decimal=decimal, encoding=encoding)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().replace("\n", " ")
        raise ValueError(f"{path}: it cannot be read as a table ({reason})") from error
    first = frame.columns[0] if len(frame.columns) else ""
    if str(first).startswith("Unnamed") and (frame[first] == np.arange(len(frame))).all():
        frame = frame.drop(columns=first)  # row numbers, as pandas writes them
    return frame


def _set_time(
    frame: pd.DataFrame, time_column: str | None, say: Callable[[str], None]
) -> pd.DataFrame:
    if time_column is not None and time_column not in frame:
        raise ValueError(f"there is no column {time_column!r}; the file has {list(frame.columns)}")
    for name in [time_column] if time_column is not None else list(frame.columns):
        if time_column is None and pd.api.types.is_numeric_dtype(frame[name]):
            continue
        stamps = _dates(frame[name])
        unread = stamps.isna()
        if not unread.any():
            return frame.drop(columns=name).set_index(pd.DatetimeIndex(stamps, name=name))
        if time_column is not None or unread.mean() < 0.5:
            row = int(unread.argmax())
            raise ValueError(
                f"column {name!r} holds {frame[name].iloc[row]!r} in row {row}, which is no date"
            )
    say("no column of dates found: the rows are taken as equally spaced, in order")
    return frame


def _dates(column: pd.Series) -> pd.Series:
    """A column as dates, read in one way throughout: ISO, or with the month or the day first.

    Where both of the last read every cell, the one that gives rows in order at one frequency is right.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return column
    text = column.astype("string")
    iso = pd.to_datetime(text, errors="coerce", format="ISO8601")
    if iso.notna().mean() > 0.5:
        return iso
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it falls back to a parser of its own
        ways = [
            pd.to_datetime(text, errors="coerce", dayfirst=dayfirst) for dayfirst in (False, True)
        ]
    ways.sort(key=lambda stamps: stamps.isna().sum())  # stable: the month first, all else equal
    complete = [stamps for stamps in ways if stamps.notna().all()]
    if len(complete) == 2 and not complete[0].equals(complete[1]):
        regular = [w for w in complete if guess_frequency(pd.DatetimeIndex(w.sort_values()))]
        if len(regular) != 1:
            example = str(column.iloc[int((complete[0] != complete[1]).argmax())])
            raise ValueError(
                f"column {column.name!r} holds {example!r}, which may have the day or the month "
                "first; write dates as YYYY-MM-DD"
            )
        return regular[0]
    return ways[0]


def _choose(
    frame: pd.DataFrame, columns: list[str] | None, say: Callable[[str], None]
) -> pd.DataFrame:
    if columns is not None:
        unknown = [c for c in columns if c not in frame]
        if unknown:
            raise ValueError(f"there is no column {unknown[0]!r}; the file has {list(frame)}")
        return frame[columns]
    numeric = frame.select_dtypes("number")
    left_out = [str(c) for c in frame.columns if c not in numeric]
    if left_out:
        say(f"left out, not numbers: {', '.join(left_out)}")
    if numeric.shape[1] == 0:
        raise ValueError(f"no column of numbers to forecast; the file has {list(frame)}")
    return numeric


def _regularise(frame: pd.DataFrame, say: Callable[[str], None]) -> pd.DataFrame:
    if not frame.index.is_monotonic_increasing:
        say("the rows were not in order of time: sorted")
        frame = frame.sort_index()
    repeated = int(frame.index.duplicated().sum())
    if repeated:
        say(f"{repeated} repeated stamps: averaged")
        frame = frame.groupby(level=0).mean()
    freq = guess_frequency(frame.index)
    if freq is None:
        return frame  # the forecaster says what is wrong with it
    regular = pd.date_range(frame.index[0], frame.index[-1], freq=freq, name=frame.index.name)
    misplaced = frame.index.difference(regular)
    if len(misplaced):
        raise ValueError(
            f"{len(misplaced)} stamps, the first {misplaced[0]}, do not lie on the usual frequency "
            f"{freq!r}; resample the file first"
        )
    if len(regular) > len(frame):
        say(
            f"{len(regular) - len(frame)} rows missing at frequency {freq!r}: taken as missing values"
        )
    return frame.reindex(regular)
