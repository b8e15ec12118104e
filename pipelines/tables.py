"""Read a file as a table, whatever its separator, decimal mark and encoding."""

from __future__ import annotations

import csv
import difflib
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from titans_ts.datasets._files import open_binary

__all__ = ["check_names", "read_table"]

_WORKBOOKS = (".xlsx", ".xlsm")


def read_table(
    path: str | Path, *, missing: list[str] | None = None, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """Read a CSV, Parquet or Excel file as it is.

    Parameters
    ----------
    path : str or Path
        `.csv`, `.csv.gz`, `.parquet` or `.xlsx`.
    missing : list of str, optional
        Codes that mean a missing value, beside those of pandas (an empty cell, NA, null, ...).
    say : callable
        Receives one line for every assumption (default: `print`).

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError, ValueError
        If there is no such file, or it cannot be read as a table.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of a table")
    if path.suffix.lower() in _WORKBOOKS:
        frame = _read_workbook(path, missing, say)
    elif path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        if missing:
            frame = _without_codes(frame, missing)
        if not isinstance(frame.index, pd.DatetimeIndex):
            frame = frame.reset_index(drop=frame.index.names == [None])
    else:
        frame = _read_text(path, missing, say)
    if frame.empty:
        raise ValueError(f"{path}: it has no rows; give a file with a header and rows")
    return frame


def check_names(frame: pd.DataFrame, names: list[str], option: str | None = None) -> None:
    """Raise a ValueError if a table lacks one of the columns that an option names."""
    for name in names:
        if name not in frame:
            where = "" if option is None else f"{option}: "
            near = difflib.get_close_matches(name, list(map(str, frame)), 1, 0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"{where}there is no column {name!r}{hint}; the file has {list(frame)}: choose one"
            )


def _without_codes(frame: pd.DataFrame, missing: list[str]) -> pd.DataFrame:
    """Replace codes, as text or as numbers, by NaN."""
    codes: list[str | float] = list(missing)
    for code in missing:
        try:
            codes.append(float(code))
        except ValueError:
            continue
    return frame.mask(frame.isin(codes))


def _read_workbook(
    path: Path, missing: list[str] | None, say: Callable[[str], None]
) -> pd.DataFrame:
    if importlib.util.find_spec("openpyxl") is None:
        raise ModuleNotFoundError(
            f"{path}: it is an Excel workbook; save it as CSV, or pip install openpyxl"
        )
    sheets = pd.read_excel(path, sheet_name=None, na_values=missing)
    name, frame = next(iter(sheets.items()))
    if len(sheets) > 1:
        say(f"the workbook has {len(sheets)} sheets: read {name!r}, the first one")
    return frame


def _read_text(path: Path, missing: list[str] | None, say: Callable[[str], None]) -> pd.DataFrame:
    with open_binary(path) as file:
        head = file.read(65_536)
    if head.startswith(b"PK\x03\x04"):
        raise ValueError(
            f"{path}: it is a zip archive or an Excel workbook; name it .xlsx, or save it as CSV"
        )
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
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # some cells are no numbers
            frame = pd.read_csv(
                file,
                sep=separator,
                encoding=encoding,
                index_col=False,
                na_values=missing,
                float_precision="round_trip",  # pandas' default drops digits of small numbers
            )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().replace("\n", " ")
        raise ValueError(
            f"{path}: it cannot be read as a table ({reason}); save it as a CSV file in UTF-8"
        ) from error
    frame.columns = [str(name).strip() for name in frame.columns]
    if not frame.empty:
        first = frame.columns[0]
        if first.startswith("Unnamed") and (frame[first] == np.arange(len(frame))).all():
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
    """Convert text such as 1.234,5 to numbers, or to text of numbers if some cells are none."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    text = column.astype("string").str.strip()
    number = text.str.fullmatch(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?").fillna(True)
    if number.mean() < 0.8 or not text[number].str.contains(",").any():
        return column
    plain = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    if not number.all():
        return column.where(~number, plain)
    return _floats(plain)
