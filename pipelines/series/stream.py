"""The command `stream`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from titans_ts.pipelines.options import Threads, TimeColumn, note
from titans_ts.pipelines.series.options import (
    Coverage,
    DateFormat,
    Device,
    Future,
    SavedModel,
    TimeZone,
    columns_of,
    load_forecaster,
)

if TYPE_CHECKING:
    import pandas as pd

    from titans_ts.forecasting import TitansForecaster
    from titans_ts.pipelines.streaming import Progress, RowReader

__all__ = ["stream"]


def stream(
    model: SavedModel,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps the state; the same command continues there after a stop.  "
            "[default: the state is lost at the end]"
        ),
    ] = None,
    every: Annotated[
        int, typer.Option(help="Rows between two forecasts, and between two states on disk.", min=1)
    ] = 1,
    surprise: Annotated[
        bool, typer.Option("--surprise", help="Write the surprise of every new value, too.")
    ] = False,
    future: Future = None,
    coverage: Coverage = None,
    time_column: TimeColumn = None,
    date_format: DateFormat = None,
    timezone: TimeZone = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to append the results to.  [default: the standard output]"),
    ] = None,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Forecast after every row that arrives on the standard input.

    Rows are CSV with a header, or JSON lines, with the columns of the file that MODEL was fitted to. A
    result is a line of JSON: the end of what is known, and the forecast after it.

    Known rows are skipped, so that after a stop, also by `kill -9`, the input may be given again from its
    beginning: with --state, no row is lost or read twice. After `kill -9`, the last line of the standard
    output may come again; that of --out does not.
    """
    import torch

    from titans_ts.pipelines.ingest import columns_of_model, read_plan
    from titans_ts.pipelines.streaming import (
        Progress,
        RowReader,
        load_state,
        read_lines,
        save_state,
    )
    from titans_ts.pipelines.tables import read_table

    torch.set_num_threads(threads)
    kept = None if state is None else load_state(state, device)
    if kept is None:
        forecaster, progress = load_forecaster(model, device), Progress()
    else:
        forecaster, progress = kept
        note(f"continuing after row {progress.rows}, {_last(forecaster)}")
    roles, plan = forecaster.roles, None
    if bool(roles.known_covariates) != (future is not None):
        raise ValueError(
            f"the model knows the covariates {list(roles.known_covariates)}; give their values for all "
            "steps that will be forecast in a file by --future"
            if future is None
            else "--future is given, but the model was fitted without --known-covariates"
        )
    if future is not None:
        table = read_table(future, say=lambda line: None)
        columns = columns_of_model(
            forecaster, table, columns_of(date_format=date_format, timezone=timezone)
        )
        plan = read_plan(
            future,
            columns,
            item_id=roles.item_id if columns.item else None,
            timestamp=roles.timestamp,
            say=note,
        )
    reader = RowReader(forecaster, time_column, date_format, timezone)
    skipped = 0
    waiting: list[dict[str, Any]] = []
    with _output(out, progress.size) as output:
        progress.size = None if out is None else output.tell()
        if state is not None:
            save_state(state, forecaster, progress)
        following = _Following(
            forecaster, reader, progress, state, output, coverage, plan, surprise
        )
        for number, cells in read_lines(sys.stdin):
            row = reader.read(number, cells)
            if not reader.is_new(row, forecaster.end_) or _repeats(row, waiting, roles):
                skipped += 1
                continue
            waiting.append(row)
            if len(waiting) == every:
                following.read(waiting)
                waiting = []
        if waiting:
            following.read(waiting)
    if skipped:
        note(f"{skipped} rows were known already: left out")


@dataclass
class _Following:
    """A forecaster that follows a stream, and where its results and its state go."""

    forecaster: TitansForecaster
    reader: RowReader
    progress: Progress
    state: Path | None
    output: BinaryIO
    coverage: float | None
    plan: pd.DataFrame | None
    surprise: bool

    def read(self, rows: list[dict[str, Any]]) -> None:
        """Read new rows, write a result, and keep the state."""
        from titans_ts.pipelines.continuation import new_rows
        from titans_ts.pipelines.streaming import save_state

        forecaster, progress = self.forecaster, self.progress
        new = new_rows(forecaster, self.reader.frame(rows), note)
        forecaster.update(new)
        line = json.dumps(self._result(rows, new), default=str, allow_nan=False).encode() + b"\n"
        with _uninterrupted():
            self.output.write(line)
            self.output.flush()
            progress.rows += len(rows)
            if progress.size is not None:
                progress.size += len(line)
            if self.state is not None:
                save_state(self.state, forecaster, progress)

    def _result(self, rows: list[dict[str, Any]], new: pd.DataFrame) -> dict[str, Any]:
        from titans_ts.pipelines.outcome import forecast_outcome

        outcome = forecast_outcome(self.forecaster, coverage=self.coverage, future=self.plan)
        items = {row[self.forecaster.roles.item_id] for row in rows} if outcome.long else None
        result: dict[str, Any] = {
            "row": self.progress.rows + len(rows),
            "end": _last(self.forecaster),
        }
        if self.surprise:
            result["surprise"] = _surprise(self.forecaster, new)
        return result | {"forecast": outcome.records(items)}


def _repeats(row: dict[str, Any], waiting: list[dict[str, Any]], roles: Any) -> bool:
    """Return whether a row does not come after the waiting rows of its item."""
    item, time = row.get(roles.item_id), row[roles.timestamp]
    return any(
        other.get(roles.item_id) == item and time <= other[roles.timestamp] for other in waiting
    )


def _last(forecaster: TitansForecaster) -> str:
    import pandas as pd

    end = forecaster.end_
    last = end.max() if isinstance(end, pd.Series) else end
    return last.isoformat() if isinstance(last, pd.Timestamp) else str(last)


def _surprise(forecaster: TitansForecaster, new: pd.DataFrame) -> list[dict[str, Any]]:
    from titans_ts.pipelines.outcome import plain_records

    found = forecaster.watch(new)
    return plain_records(found if forecaster.roles.item_id in found else found.reset_index())


@contextmanager
def _output(path: Path | None, size: int | None) -> Iterator[BinaryIO]:
    """Open the file of results after its first `size` bytes (None: after all), or the standard output."""
    if path is None:
        yield sys.stdout.buffer
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if size is not None:
            if file.tell() < size:
                raise ValueError(
                    f"--out: {path} has {file.tell()} bytes, but {size} were written; give the file that "
                    "the state belongs to"
                )
            file.truncate(size)  # a result whose state was not kept is computed again
            file.seek(size)
        yield file


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the end of the block."""
    arrived: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: arrived.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in arrived[:1]:
            signal.raise_signal(late)
