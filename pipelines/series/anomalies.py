"""The command `anomalies`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from titans_ts.pipelines.options import Json, Notes, Report, Threads, TimeColumn, echo_json, note
from titans_ts.pipelines.series.options import (
    DateFormat,
    Device,
    Freq,
    ItemColumn,
    Missing,
    SeriesFile,
    Target,
    TimeZone,
    columns_of,
    load_forecaster,
    write_table,
)

__all__ = ["anomalies"]


def anomalies(
    file: SeriesFile,
    model: Annotated[
        Path | None,
        typer.Option(help="A saved model that forecasts.  [default: the pretrained one]"),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="A file of usual values, for the threshold.  [default: FILE]"),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="error (of the forecast one step ahead), surprise (of a memory that reads FILE) or "
            "both.  [default: both with --model, otherwise surprise]"
        ),
    ] = None,
    risk: Annotated[
        float, typer.Option(help="Share of usual values that may be called anomalies.")
    ] = 1e-3,
    method: Annotated[
        str, typer.Option(help="quantile, or evt (extreme value theory) for small risks.")
    ] = "quantile",
    all_rows: Annotated[
        bool, typer.Option("--all", help="Write every value with its score.")
    ] = False,
    target: Target = None,
    time_column: TimeColumn = None,
    item_column: ItemColumn = None,
    freq: Freq = None,
    date_format: DateFormat = None,
    timezone: TimeZone = None,
    missing: Missing = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the table.  [default: the standard output]")
    ] = None,
    report: Report = None,
    json: Json = False,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Find unusual values of series.

    It prints a table of the anomalies, each with its score and the threshold of its series.
    """
    import torch

    from titans_ts.forecasting import TitansForecaster
    from titans_ts.pipelines.continuation import read_for_model
    from titans_ts.pipelines.ingest import read_series
    from titans_ts.pipelines.outcome import plain_records

    torch.set_num_threads(threads)
    columns = columns_of(
        time_column=time_column,
        item_column=item_column,
        target=target,
        freq=freq,
        date_format=date_format,
        missing=missing,
        timezone=timezone,
    )
    notes = Notes()
    if model is not None:
        forecaster = load_forecaster(model, device)
        series, columns = read_for_model(file, forecaster, columns, notes.say)
    else:
        series = read_series(file, columns, say=notes.say)
        forecaster = TitansForecaster.from_pretrained(1, device=device, **series.parameters)
    note(series.summary())
    if score is None:
        score = "surprise" if model is None else "both"
    usual = None
    if reference is not None:
        usual = read_series(reference, columns, say=note).frame
    table = forecaster.detect_anomalies(
        series.frame, score=score, risk=risk, method=method, reference=usual
    )
    found = table[table["anomaly"]]
    note(f"{len(found)} anomalies among {int(table['score'].notna().sum())} values")
    if report is not None:
        from titans_ts.datasets.atomic import replace_file
        from titans_ts.pipelines.report import anomaly_page

        page = anomaly_page(table, forecaster, series.summary(), notes)
        replace_file(report, page.encode())
        note(f"wrote {report}")
    table = table if all_rows else found
    if json:
        echo_json({"anomalies": plain_records(table)})
        return
    write_table(table, out)
