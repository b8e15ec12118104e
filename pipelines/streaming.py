"""Rows of a stream, and a state on disk from which a stopped stream continues."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from titans_ts.datasets.atomic import atomic_directory, restore_directory
from titans_ts.forecasting import TitansForecaster

__all__ = ["Progress", "RowReader", "load_state", "read_lines", "save_state"]

_PROGRESS, _MODEL = "progress.json", "model"


@dataclass
class Progress:
    """How far a stream has come."""

    rows: int = 0
    """Number of rows that the model has read."""
    size: int | None = None
    """Number of bytes of the file of results; None if there is none."""


def load_state(folder: Path, device: str) -> tuple[TitansForecaster, Progress] | None:
    """Return the model and the progress of a stream, or None if the folder does not exist.

    Raises
    ------
    ValueError
        If the folder holds something else.
    """
    restore_directory(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    path = folder / _PROGRESS
    if not path.is_file():
        raise ValueError(f"--state: {folder} exists and is no state of a stream; choose another")
    progress = Progress(**json.loads(path.read_text()))
    return TitansForecaster.load(folder / _MODEL, device=device), progress


def save_state(folder: Path, forecaster: TitansForecaster, progress: Progress) -> None:
    """Replace the model and the progress in a folder in one step."""
    with atomic_directory(folder) as aside:
        forecaster.save(aside / _MODEL)
        (aside / _PROGRESS).write_text(json.dumps(asdict(progress)))


def read_lines(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of every line and its row, from CSV with a header or from JSON lines.

    Raises
    ------
    ValueError
        If a line cannot be read; the message has its number.

    Examples
    --------
    >>> list(read_lines(["t,x", "2024-01-01,3"]))
    [(2, {'t': '2024-01-01', 'x': '3'})]
    >>> list(read_lines(['{"t": "2024-01-01", "x": null}']))
    [(1, {'t': '2024-01-01', 'x': None})]
    """
    header: list[str] | None = None
    for number, line in enumerate(lines, 1):
        text = line.strip().lstrip("\ufeff")
        if not text:
            continue
        if header is None and text.startswith("{"):
            try:
                row = json.loads(text)
            except ValueError as error:
                raise ValueError(
                    f"line {number} is no JSON object ({error}); write one object in a line"
                ) from error
            yield number, row
            continue
        cells = [cell.strip() for cell in next(csv.reader([text]))]
        if header is None:
            header = cells
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"line {number} has {len(cells)} fields, the header {len(header)}; give one field per "
                "column"
            )
        yield number, dict(zip(header, cells, strict=True))


class RowReader:
    """Turns rows into frames in the form of the series that a forecaster follows.

    Parameters
    ----------
    forecaster : TitansForecaster
        Fitted to a frame with times.
    time_column : str, optional
        The column of the time (default: that of the fitted file).
    date_format : str, optional
        How dates are written (default: ISO 8601).
    timezone : str, optional
        The zone of times without an offset from UTC (default: that of the fitted times).
    """

    def __init__(
        self,
        forecaster: TitansForecaster,
        time_column: str | None = None,
        date_format: str | None = None,
        timezone: str | None = None,
    ) -> None:
        roles, end = forecaster.roles, forecaster.end_
        self._roles, self._long = roles, isinstance(end, pd.Series)
        self._time = time_column or roles.timestamp
        self._format = date_format or "ISO8601"
        names = getattr(forecaster, "feature_names_in_", ())
        self._numbers = [*map(str, names), *roles.covariates]
        last = end.iloc[0] if self._long else end
        self._zone = last.tzinfo if isinstance(last, pd.Timestamp) else None
        self._local = timezone or self._zone
        self._dated = isinstance(last, pd.Timestamp)

    def read(self, number: int, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its time, its item and its numbers under the fitted names.

        Raises
        ------
        ValueError
            If a column is missing, or a cell cannot be read; the message has the line's number.
        """
        roles = self._roles
        read: dict[str, Any] = {roles.timestamp: self._when(number, row)}
        if self._long:
            read[roles.item_id] = self._item(number, row)
        for name in self._numbers:
            read[name] = _number(number, name, _cell(number, row, name))
        for name in roles.static_covariates:
            read[name] = _cell(number, row, name)
        return read

    def is_new(self, row: dict[str, Any], end: Any) -> bool:
        """Return whether a row comes after the end of its series."""
        roles = self._roles
        last = end.get(row[roles.item_id]) if self._long else end
        if last is None:
            raise ValueError(
                f"item {row[roles.item_id]!r} is not one of the {len(end)} series of the model; leave it "
                "out, or fit a model with it"
            )
        return bool(row[roles.timestamp] > last)

    def frame(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Return rows as a wide or long frame."""
        frame = pd.DataFrame(rows)
        return frame if self._long else frame.set_index(self._roles.timestamp)

    def _when(self, number: int, row: dict[str, Any]) -> Any:
        if self._time not in row:
            raise ValueError(
                f"line {number} has no column {self._time!r} for its time; it has {list(row)} (name the "
                "column of the time by --time-column)"
            )
        cell = row[self._time]
        try:
            if not self._dated:
                return int(cell)
            time = pd.to_datetime(cell, format=self._format)
            if self._zone is not None and time.tzinfo is None:
                time = time.tz_localize(self._local)  # refuses an hour that comes twice
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"line {number}: column {self._time!r} holds {cell!r}, which is no time; give YYYY-MM-DD "
                "HH:MM:SS (with the offset from UTC where an hour comes twice), or --date-format"
            ) from error
        if self._zone is None:
            return time.tz_localize(None) if time.tzinfo is not None else time
        return time.tz_convert(self._zone)

    def _item(self, number: int, row: dict[str, Any]) -> Any:
        name = self._roles.item_id
        parts = name.split("/")
        if name in row or not all(part in row for part in parts):
            return _cell(number, row, name)
        return "/".join(str(row[part]) for part in parts)


def _cell(number: int, row: dict[str, Any], name: str) -> Any:
    if name not in row:
        raise ValueError(f"line {number} has no {name!r}; it has {list(row)}: add it")
    return row[name]


def _number(number: int, name: str, cell: Any) -> float:
    if cell is None or cell == "":
        return float("nan")
    try:
        return float(cell)
    except (ValueError, TypeError):
        raise ValueError(
            f"line {number}: column {name!r} holds {cell!r}; give a number, or nothing if it is missing"
        ) from None
