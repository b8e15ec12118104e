"""The command `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from titans_ts.pipelines.options import Json, TimeColumn, echo_json, note
from titans_ts.pipelines.series.options import (
    DateFormat,
    Freq,
    ItemColumn,
    KnownCovariates,
    Missing,
    PastCovariates,
    SeriesFile,
    StaticCovariates,
    Target,
    TimeZone,
    columns_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from titans_ts.pipelines.ingest import Series

__all__ = ["check"]

_SHOWN = 30
"""Number of problems that are printed."""


def check(
    file: SeriesFile,
    target: Target = None,
    time_column: TimeColumn = None,
    item_column: ItemColumn = None,
    past_covariates: PastCovariates = None,
    known_covariates: KnownCovariates = None,
    static_covariates: StaticCovariates = None,
    freq: Freq = None,
    date_format: DateFormat = None,
    timezone: TimeZone = None,
    missing: Missing = None,
    json: Json = False,
) -> None:
    """Look for problems of a file before it is forecast.

    FILE is read as by `forecast`: what would be changed or assumed is reported. Then its values are
    looked at: missing ones, codes of missing ones (-9999), constant columns, changes of scale. The exit
    status is 1 if there is a problem.
    """
    from titans_ts.pipelines.ingest import read_series
    from titans_ts.pipelines.outcome import plain_records

    changes: list[str] = []
    columns = columns_of(
        time_column=time_column,
        item_column=item_column,
        target=target,
        past_covariates=past_covariates,
        known_covariates=known_covariates,
        static_covariates=static_covariates,
        freq=freq,
        date_format=date_format,
        missing=missing,
        timezone=timezone,
    )
    series = read_series(file, columns, say=changes.append)
    problems = _problems(series)
    if json:
        content = {
            "series": series.summary(),
            "reading": changes,
            "problems": plain_records(problems),
        }
        echo_json(content)
    else:
        for line in changes:
            note(line)
        typer.echo(series.summary())
        if problems.empty:
            typer.echo("no problem found")
        else:
            shown = problems.head(_SHOWN).fillna("-").to_string(index=False)
            typer.echo(f"\n{shown}")
            if len(problems) > _SHOWN:
                typer.echo(f"... and {len(problems) - _SHOWN} more")
    if len(problems):
        raise typer.Exit(1)


def _problems(series: Series) -> pd.DataFrame:
    from titans_ts.datasets import check_frame

    frame = series.frame
    numbers = [*series.targets, *series.parameters["past_covariates"]]
    numbers += series.parameters["known_covariates"]
    if series.item_id is None:
        return check_frame(frame[numbers])
    names = {"item_id": series.item_id, "timestamp": series.timestamp}
    return check_frame(frame[[*names.values(), *numbers]], **names)
