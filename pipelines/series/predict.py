"""The command `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from titans_ts.pipelines.options import Json, Threads, TimeColumn, echo_json, note, warnings_said
from titans_ts.pipelines.series.options import (
    Coverage,
    DateFormat,
    Device,
    Future,
    ItemColumn,
    Missing,
    SavedModel,
    TimeZone,
    columns_of,
    load_forecaster,
    plan_in_file,
    quantile_levels,
    write_table,
)

__all__ = ["predict"]


def predict(
    model: SavedModel,
    new: Annotated[
        Path | None,
        typer.Argument(
            metavar="NEW",
            help="A file with the rows after those that the model knows; known ones are left out.",
        ),
    ] = None,
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            help="Forecast from the rows of NEW alone, such as those of another series.",
        ),
    ] = False,
    prediction_length: Annotated[
        int | None,
        typer.Option(
            help="Steps to forecast; more than those of the fit follow from forecasts.  [default: those "
            "of the fit]",
            min=1,
        ),
    ] = None,
    quantiles: Annotated[
        str | None,
        typer.Option(help="Levels of the quantiles, comma-separated.  [default: those of the fit]"),
    ] = None,
    future: Future = None,
    time_column: TimeColumn = None,
    item_column: ItemColumn = None,
    date_format: DateFormat = None,
    timezone: TimeZone = None,
    missing: Missing = None,
    coverage: Coverage = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the table.  [default: the standard output]")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Save the model, which knows the new rows, to this folder.")
    ] = None,
    json: Json = False,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Forecast from a saved model, after new rows have arrived; nothing is trained.

    It prints a table: the median and the quantiles of every step. MODEL stays as it is, unless --save
    names it.
    """
    import torch

    from titans_ts.nn.checkpoint import check_replaceable
    from titans_ts.pipelines.continuation import continue_series, read_for_model
    from titans_ts.pipelines.ingest import columns_of_model, read_plan
    from titans_ts.pipelines.outcome import forecast_outcome
    from titans_ts.pipelines.tables import read_table

    if history and new is None:
        raise ValueError("--history is given, but no NEW; give the file to forecast from")
    if save is not None:
        check_replaceable(save)
    torch.set_num_threads(threads)
    forecaster = load_forecaster(model, device)
    roles = forecaster.roles
    if future is not None and not roles.known_covariates:
        raise ValueError("--future is given, but the model was fitted without --known-covariates")
    given = columns_of(
        time_column=time_column,
        item_column=item_column,
        date_format=date_format,
        missing=missing,
        timezone=timezone,
    )
    series = plan = None
    if new is not None:
        series, _ = read_for_model(new, forecaster, given, note)
    if future is None:
        known = list(roles.known_covariates)
        series, plan = plan_in_file(
            series, known, prediction_length or forecaster.prediction_length
        )
    if series is not None and not history:
        rows = continue_series(forecaster, series.frame, note)
        note(f"{rows} new rows" if rows else "no new rows")
    if future is not None:
        table = read_table(future, missing=given.missing, say=lambda line: None)
        columns = columns_of_model(forecaster, table, given)
        item_id = roles.item_id if columns.item else None
        plan = read_plan(future, columns, item_id=item_id, timestamp=roles.timestamp, say=note)
    levels = None if quantiles is None else quantile_levels(quantiles)
    with warnings_said(note):
        outcome = forecast_outcome(
            forecaster,
            series.frame if history and series is not None else None,
            coverage=coverage,
            future=plan,
            horizon=prediction_length,
            quantile_levels=levels,
        )
    if save is not None:
        forecaster.save(save)
        note(f"wrote {save}/")
    if json:
        echo_json({"forecast": outcome.records()})
        return
    write_table(outcome.table(), out)
