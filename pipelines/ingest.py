"""Read a file into a regular wide frame; every change is reported."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np
import pandas as pd

from titans_ts.datasets._files import open_binary
from titans_ts.forecasting.dates import CLOCK, read_dates
from titans_ts.forecasting.frequency import guess_frequency
from titans_ts.forecasting.time_ranges import time_range

__all__ = ["read_frame"]


def read_frame(
    path: str | Path,
    *,
    time_column: str | None = None,
    columns: list[str] | None = None,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Read a CSV or Parquet file into a wide frame with a regular time index.

    Rows are sorted by time, repeated times are averaged, and gaps become missing values (NaN). Columns
    that are not numbers are left out. Each change is reported through `say`.

    Parameters
    ----------
    path : str or Path
        `.csv`, `.csv.gz` or `.parquet`.
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
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of a CSV or Parquet file")
    frame = _read(path, say)
    if frame.empty:
        raise ValueError(f"{path}: it has no rows; give a file with a header and rows")
    if not isinstance(frame.index, pd.DatetimeIndex):
        frame = _set_time(frame, time_column, say)
    frame = _choose(frame, columns, say)
    return _regularise(frame, say) if isinstance(frame.index, pd.DatetimeIndex) else frame


def _read(path: Path, say: Callable[[str], None]) -> pd.DataFrame:
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        return frame if isinstance(frame.index, pd.DatetimeIndex) else frame.reset_index(drop=True)
    with open_binary(path) as file:
        head = file.read(65_536)
    encoding = "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif not _is_utf8(head):
        encoding = "latin-1"
        say("the file is not UTF-8: read as Latin-1")
    try:
        separator = _separator(head.decode(encoding, "ignore").splitlines()[:50], path)
        with warnings.catch_warnings(), open_binary(path) as file:
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # a separator ends each line
            frame = pd.read_csv(
                file,
                sep=separator,
                encoding=encoding,
                index_col=False,
                float_precision="round_trip",  # pandas' default drops digits of small numbers
            )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().replace("\n", " ")
        raise ValueError(
            f"{path}: it cannot be read as a table ({reason}); save it as a CSV file in UTF-8"
        ) from error
    first = frame.columns[0]
    if str(first).startswith("Unnamed") and (frame[first] == np.arange(len(frame))).all():
        frame = frame.drop(columns=first)  # row numbers, as pandas writes them
    frame = frame.apply(_large_numbers)
    return frame if separator == "," else frame.apply(_decimal_commas)


def _is_utf8(head: bytes) -> bool:
    try:
        head[:-4].decode("utf-8")  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _separator(lines: list[str], path: Path) -> str:
    """Return the separator that cuts every line into as many fields as the header."""
    best, most = ",", 1
    for separator in ",;\t|":
        rows = [row for row in csv.reader(lines[:-1] or lines, delimiter=separator) if row]
        counts = [len(row) for row in rows]
        trailing = all(row[-1] == "" for row in rows[1:])
        same = all(c == counts[0] or (c == counts[0] + 1 and trailing) for c in counts)
        if counts and same and counts[0] > most:
            best, most = separator, counts[0]
    if most == 1 and len(lines) > 1:
        counts = [len(row) for row in csv.reader(lines, delimiter=",") if row]
        odd = next((i for i, c in enumerate(counts) if c != counts[0]), None)
        if odd is not None:
            raise ValueError(
                f"{path}: line {odd + 1} has {counts[odd]} fields, the header {counts[0]}; "
                "give a table with one field per column"
            )
    return best


def _large_numbers(column: pd.Series) -> pd.Series:
    """Convert numbers from 2**64 on, which pandas reads as text; return any other column unchanged."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    text = column.astype("string").str.strip()
    number = text.str.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?").fillna(True)
    if not number.all() or not (text.str.len() > 18).any():
        return column
    return _floats(text)


def _floats(text: pd.Series) -> pd.Series:
    """Convert numbers as text to floats, in all their digits, which pandas.to_numeric does not read."""
    return pd.Series(text.to_numpy(object, na_value="nan").astype(float), text.index)


def _decimal_commas(column: pd.Series) -> pd.Series:
    """Convert text such as 1.234,5 to numbers; return any other column unchanged."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    text = column.astype("string").str.strip()
    number = text.str.fullmatch(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?").fillna(True)
    if not number.all() or not text.str.contains(",").any():
        return column
    plain = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    return _floats(plain)


def _set_time(
    frame: pd.DataFrame, time_column: str | None, say: Callable[[str], None]
) -> pd.DataFrame:
    if time_column is not None and time_column not in frame:
        raise ValueError(
            f"there is no column {time_column!r}; the file has {list(frame.columns)}: choose one"
        )
    date_columns: dict[Hashable, pd.Series] = {}
    for name in [time_column] if time_column is not None else list(frame.columns):
        dates = read_dates(frame[name], say)
        if dates is not None:
            date_columns[name] = dates
    if not date_columns:
        if time_column is not None:
            first = frame[time_column].tolist()[0]
            raise ValueError(
                f"column {time_column!r} holds {first!r} in row 0, which is no date; write "
                "dates as YYYY-MM-DD"
            )
        say("no column of dates found: the rows are taken as equally spaced, in order")
        return frame
    # the first column with the finest resolution
    name = max(date_columns, key=lambda column: date_columns[column].nunique())
    stamps = date_columns[name]
    if stamps.isna().any():
        row = int(stamps.isna().argmax())
        raise ValueError(
            f"column {name!r} holds {frame[name].tolist()[row]!r} in row {row}, which is no date; "
            "write a date as in the other rows, or remove the row"
        )
    frame = frame.drop(columns=list(date_columns))
    clock = next((c for c in frame if _is_clock(frame[c])), None)
    if clock is not None and stamps.duplicated().any():
        say(f"the time is taken from {name!r} and {clock!r} together")
        text = frame[clock].astype("string").str.strip()
        stamps = stamps + pd.to_timedelta(text.where(text.str.count(":") == 2, text + ":00"))
        frame = frame.drop(columns=clock)
    repeated = float(stamps.duplicated().mean())
    if repeated > 0.1:
        raise ValueError(
            f"column {name!r} repeats {repeated:.0%} of its dates; give one row a time "
            "(one series a file, or name the column of the time)"
        )
    return frame.set_index(pd.DatetimeIndex(stamps, name=name))


def _is_clock(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column):
        return False
    return bool(column.astype("string").str.strip().str.fullmatch(CLOCK).fillna(False).all())


def _choose(
    frame: pd.DataFrame, columns: list[str] | None, say: Callable[[str], None]
) -> pd.DataFrame:
    if columns is not None:
        unknown = [c for c in columns if c not in frame]
        if unknown:
            raise ValueError(
                f"there is no column {unknown[0]!r}; the file has {list(frame)}: choose some"
            )
        for name in columns:
            if frame[name].isna().all():
                raise ValueError(f"column {name!r} has no value; choose a column that has some")
        return frame[columns]
    numeric = frame.select_dtypes("number")
    left_out = [str(c) for c in frame.columns if c not in numeric and not frame[c].isna().all()]
    if left_out:
        say(f"left out, not numbers: {', '.join(left_out)}")
    empty = [c for c in frame.columns if frame[c].isna().all()]
    if empty:
        say(f"left out, without a value: {', '.join(map(str, empty))}")
    numeric = numeric.drop(columns=empty, errors="ignore")
    if numeric.shape[1] == 0:
        hint = "".join(_thousands(frame[c]) for c in frame.columns)
        raise ValueError(
            f"no column of numbers to forecast; the file has {list(frame)}{hint}; give at least one"
        )
    timed = isinstance(frame.index, pd.DatetimeIndex)
    numbers = [c for c in numeric if not timed and _counts_rows(numeric[c])]
    if numbers and len(numbers) < numeric.shape[1]:
        say(f"left out, row numbers: {', '.join(map(str, numbers))}")
        numeric = numeric.drop(columns=numbers)
    return numeric


def _counts_rows(column: pd.Series) -> bool:
    """Return whether whole numbers rise by one from row to row."""
    whole = pd.api.types.is_integer_dtype(column)
    return bool(whole and len(column) > 2 and (column.diff().dropna() == 1).all())


def _thousands(column: pd.Series) -> str:
    """Return a hint if a column holds numbers with separators of thousands, else an empty text."""
    if pd.api.types.is_numeric_dtype(column):
        return ""
    text = column.astype("string").str.strip()
    found = text[text.str.fullmatch(r"[+-]?\d{1,3}(?:[,' ]\d{3})+(?:\.\d+)?").fillna(False)]
    if found.empty:
        return ""
    return (
        f" ({column.name!r} holds {found.iloc[0]!r}: write numbers without separators of thousands)"
    )


def _regularise(frame: pd.DataFrame, say: Callable[[str], None]) -> pd.DataFrame:
    if not frame.index.is_monotonic_increasing:
        say("the rows were not in order of time: sorted")
        frame = frame.sort_index()
    repeated = int(frame.index.duplicated().sum())
    if repeated:
        say(f"{repeated} repeated stamps: averaged")
        frame = frame.groupby(level=0).mean(numeric_only=True)
    freq = guess_frequency(frame.index)
    if freq is None:
        return frame  # the forecaster raises an error that explains it
    first, last = frame.index[[0, -1]]
    regular = time_range(first, freq, end=last, name=frame.index.name)
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
