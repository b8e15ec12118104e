"""Options that several commands for series share, and functions that read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from titans_ts.pipelines.options import column_list, note

if TYPE_CHECKING:
    import pandas as pd

    from titans_ts.forecasting import TitansForecaster
    from titans_ts.pipelines.ingest import Columns, Series

__all__ = [
    "Calendar",
    "Coverage",
    "DateFormat",
    "Device",
    "Freq",
    "Future",
    "ItemColumn",
    "KnownCovariates",
    "Missing",
    "PastCovariates",
    "Quantiles",
    "SavedModel",
    "SeriesFile",
    "StaticCovariates",
    "Target",
    "TimeZone",
    "calendar_cycles",
    "columns_of",
    "load_forecaster",
    "plan_in_file",
    "quantile_levels",
    "write_table",
]

SeriesFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A .csv, .csv.gz, .parquet or .xlsx file.")
]
SavedModel = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model that `forecast --save` has saved.")
]
ItemColumn = Annotated[
    str | None,
    typer.Option(
        help="For many series in one file: the columns that identify a series, comma-separated.  "
        "[default: item_id or unique_id]"
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        "--columns",
        help="Columns to forecast, comma-separated.  [default: all columns of numbers; with many "
        "series: target or y]",
    ),
]
PastCovariates = Annotated[
    str | None, typer.Option(help="Columns that help and are known up to now, comma-separated.")
]
KnownCovariates = Annotated[
    str | None,
    typer.Option(
        help="Columns that help and are known for the future, too (prices, holidays); needs --future."
    ),
]
StaticCovariates = Annotated[
    str | None,
    typer.Option(help="Columns that are constant for a series (region, kind), text or numbers."),
]
Future = Annotated[
    Path | None,
    typer.Option(help="A file with the known covariates of the steps to forecast."),
]
Calendar = Annotated[
    str | None,
    typer.Option(
        help="Positions in the calendar that help: all, or some of hour, day, week, month and year, "
        "comma-separated.  [default: none]"
    ),
]
Freq = Annotated[
    str | None,
    typer.Option(
        help="Frequency to bring the rows to, such as h, D, W or MS (rows of a step are averaged), or "
        "irregular.  [default: that of the file]"
    ),
]
DateFormat = Annotated[
    str | None,
    typer.Option(help="How dates are written, such as %d/%m/%Y.  [default: it is found out]"),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        help="Zone of the times, such as Europe/Berlin; forecasts then have local times, too. "
        " [default: that of the file]",
    ),
]
Missing = Annotated[
    str | None,
    typer.Option(
        help="Codes of missing values, comma-separated, such as --missing=-9999.  [default: empty "
        "cells, NA, null, ...]"
    ),
]
Quantiles = Annotated[
    str,
    typer.Option(help="Levels of the quantiles to forecast, comma-separated."),
]
Coverage = Annotated[
    float | None,
    typer.Option(
        help="Share of future values that an interval should contain, such as 0.9; it is calibrated on "
        "held-out rows.  [default: no such interval]",
        min=0.01,
        max=0.999,
    ),
]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")]


def columns_of(
    *,
    time_column: str | None = None,
    item_column: str | None = None,
    target: str | None = None,
    past_covariates: str | None = None,
    known_covariates: str | None = None,
    static_covariates: str | None = None,
    freq: str | None = None,
    date_format: str | None = None,
    missing: str | None = None,
    timezone: str | None = None,
) -> Columns:
    """Return the roles of the columns that the options give."""
    from titans_ts.pipelines.ingest import Columns

    return Columns(
        time=time_column,
        item=column_list(item_column),
        target=column_list(target),
        past=column_list(past_covariates) or [],
        known=column_list(known_covariates) or [],
        static=column_list(static_covariates) or [],
        freq=freq,
        date_format=date_format,
        missing=column_list(missing),
        timezone=timezone,
    )


def calendar_cycles(calendar: str | None) -> bool | tuple[str, ...]:
    """Return the parameter `calendar` of a forecaster.

    Examples
    --------
    >>> calendar_cycles("all"), calendar_cycles("day, week"), calendar_cycles(None)
    (True, ('day', 'week'), False)
    """
    if calendar is None or calendar == "all":
        return calendar is not None
    return tuple(column_list(calendar) or ())


def quantile_levels(text: str) -> tuple[float, ...]:
    """Return the levels of the option --quantiles; the median is always one of them.

    Examples
    --------
    >>> quantile_levels("0.9, 0.1")
    (0.1, 0.5, 0.9)
    """
    try:
        levels = {float(part) for part in text.split(",")}
    except ValueError:
        raise ValueError(
            f"--quantiles is {text!r}; give numbers separated by commas, such as 0.1,0.5,0.9"
        ) from None
    return tuple(sorted(levels | {0.5}))


def load_forecaster(model: Path, device: str = "auto") -> TitansForecaster:
    """Load a saved forecaster that was fitted to a frame.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, or it was fitted to an array.
    """
    from titans_ts.forecasting import TitansForecaster

    forecaster = TitansForecaster.load(model, device=device)
    if forecaster.end_ is None:
        raise ValueError(
            f"model {str(model)!r} was fitted to an array without names; fit it to a file by "
            "`titans-ts forecast FILE --save MODEL`, or to a frame"
        )
    return forecaster.set_params(progress_bar=False)


def plan_in_file(
    series: Series | None, known: list[str], prediction_length: int
) -> tuple[Any, pd.DataFrame | None]:
    """Take the last rows of a series, which have no value to forecast, as the plan.

    Parameters
    ----------
    series : Series or None
        The series; None if there is no file.
    known : list of str
        The known covariates; none need no plan.
    prediction_length : int
        Number of steps to forecast.

    Returns
    -------
    tuple
        The series without these rows, and the plan, or None.

    Raises
    ------
    ValueError
        If there are known covariates, but no such rows.
    """
    from titans_ts.pipelines.plan import split_plan

    if not known:
        return series, None
    cut, plan = (None, None) if series is None else split_plan(series, known)
    if cut is None or plan is None:
        raise ValueError(
            f"the known covariates {known} of the next {prediction_length} steps are missing; give them "
            "in a file by --future, or in the last rows of the series, without a value to forecast"
        )
    note(f"{len(plan)} last rows have no value of {', '.join(cut.targets)}: they are the plan")
    return cut, plan


def write_table(table: pd.DataFrame, out: Path | None) -> None:
    """Write a table as CSV to a file, or to the standard output."""
    from titans_ts.datasets.atomic import replace_file

    text = table.to_csv(index=False, float_format="%.10g")
    if out is None:
        typer.echo(text, nl=False)
        return
    replace_file(out, text.encode())
    note(f"wrote {out}")
