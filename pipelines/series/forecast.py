"""The commands `forecast` and `demo`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from titans_ts.pipelines.memory import echo_idle_memory
from titans_ts.pipelines.options import (
    ContextLength,
    Json,
    MaxEpochs,
    Notes,
    Preset,
    Quiet,
    Report,
    Seed,
    Threads,
    TimeColumn,
    TimeLimit,
    echo_json,
    note,
    show_progress,
)
from titans_ts.pipelines.series.options import (
    Calendar,
    Coverage,
    DateFormat,
    Device,
    Freq,
    Future,
    ItemColumn,
    KnownCovariates,
    Missing,
    PastCovariates,
    Quantiles,
    SeriesFile,
    StaticCovariates,
    Target,
    TimeZone,
    calendar_cycles,
    columns_of,
    plan_in_file,
    quantile_levels,
)

if TYPE_CHECKING:
    import pandas as pd

    from titans_ts.forecasting import TitansForecaster
    from titans_ts.pipelines.forecast import ForecastJob
    from titans_ts.pipelines.ingest import Series

__all__ = ["demo", "forecast"]

_SHOWN = 10
"""Number of series whose errors are printed."""


def forecast(
    file: SeriesFile,
    prediction_length: Annotated[int, typer.Option(help="Steps to forecast.", min=1)],
    context_length: ContextLength = None,
    target: Target = None,
    time_column: TimeColumn = None,
    item_column: ItemColumn = None,
    past_covariates: PastCovariates = None,
    known_covariates: KnownCovariates = None,
    future: Future = None,
    static_covariates: StaticCovariates = None,
    calendar: Calendar = None,
    freq: Freq = None,
    date_format: DateFormat = None,
    timezone: TimeZone = None,
    missing: Missing = None,
    quantiles: Quantiles = "0.1,0.5,0.9",
    coverage: Coverage = None,
    season_length: Annotated[
        int | None,
        typer.Option(
            help="Steps in a season, of the simple forecasts to compare with.  [default: usual for the "
            "frequency]",
            min=1,
        ),
    ] = None,
    preset: Preset = "default",
    variant: Annotated[
        str | None,
        typer.Option(help="Blocks of the network: mac, mag, mal, lmm or swa.  [default: none]"),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Let a saved model go on learning from its errors when rows arrive (one row a time, "
            "without known covariates).",
        ),
    ] = False,
    max_epochs: MaxEpochs = None,
    time_limit: TimeLimit = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for forecast.csv, errors.csv and (with matplotlib) forecast.png."
        ),
    ] = Path("."),
    report: Report = None,
    save: Annotated[Path | None, typer.Option(help="Save the model to this folder.")] = None,
    json: Json = False,
    device: Device = "auto",
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Forecast the series of a file, and measure the error on a held-out tail.

    FILE has one row a time (wide: every column of numbers is a series), or one row a time and series
    (long). A tail of the rows is held out: the model trains without it, and its forecasts of the tail are
    compared with simple ones. Then it forecasts the steps after the last row.
    """
    from titans_ts.forecasting import TitansForecaster
    from titans_ts.pipelines.ingest import read_plan, read_series

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
    if future is not None and not columns.known:
        raise ValueError("--future is given, but no --known-covariates; name its columns")
    forecaster = TitansForecaster(
        prediction_length,
        context_length,
        calendar=calendar_cycles(calendar),
        quantile_levels=quantile_levels(quantiles),
        max_epochs=max_epochs,
        time_limit=time_limit,
        device=device,
        random_state=seed,
        progress_bar=show_progress(quiet),
    )
    forecaster.set_params(preset=preset, variant=variant, adapt=adapt)
    notes = Notes()
    series = read_series(file, columns, say=notes.say)
    if future is not None:
        plan = read_plan(
            future, columns, item_id=series.item_id, timestamp=series.timestamp, say=notes.say
        )
    else:
        series, plan = plan_in_file(series, columns.known, prediction_length)
    forecaster.set_params(**series.parameters)
    _run(series, forecaster, season_length, out, report, save, threads, coverage, plan, json, notes)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    json: Json = False,
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Forecast a day of the weather of New York from the hours before, in about a minute, offline."""
    from titans_ts.datasets import DEMO_SEASON_LENGTH, load_demo
    from titans_ts.forecasting import TitansForecaster
    from titans_ts.pipelines.ingest import Series

    forecaster = TitansForecaster(
        prediction_length=24,
        context_length=168,
        patch_length=24,
        patch_stride=12,
        d_model=32,
        max_epochs=6,
        learning_rate=2e-3,
        random_state=seed,
        progress_bar=show_progress(quiet),
    )
    frame = load_demo()
    series = Series(frame, {"target": tuple(frame.columns)})
    report = out / "report.html"
    _run(series, forecaster, DEMO_SEASON_LENGTH, out, report, None, threads, json=json)


def _run(
    series: Series,
    forecaster: TitansForecaster,
    season_length: int | None,
    out: Path,
    report: Path | None,
    save: Path | None,
    threads: int,
    coverage: float | None = None,
    plan: pd.DataFrame | None = None,
    json: bool = False,
    notes: Sequence[str] = (),
) -> None:
    """Fit, evaluate, and write the results; both commands call this function."""
    import torch

    from titans_ts.nn.checkpoint import check_replaceable
    from titans_ts.pipelines.forecast import run_forecast, write_forecast

    if save is not None:
        check_replaceable(save)
    for folder in (out, report.parent if report is not None else out):
        folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    note(series.summary())
    job = run_forecast(
        series.frame, forecaster, season_length=season_length, coverage=coverage, future=plan
    )
    model = forecaster.model_.config
    if forecaster.history_:
        note(f"a forecast reads {model.context_length} steps, {model.patch_length} in a token")
    else:
        note("forecasts of the pretrained model; nothing was fitted")
    if not json:
        _echo_errors(job)
    echo_idle_memory(forecaster)
    written = write_forecast(job, out, report, notes)
    if save is not None:
        forecaster.save(save)
    if json:
        files = [str(path) for path in written + ([] if save is None else [save])]
        echo_json(
            {
                "forecast": job.outcome.records(),
                "held_out": job.held_out.record(),
                "files": files,
            }
        )
        return
    for path in written:
        typer.echo(f"wrote {path}")
    if save is not None:
        typer.echo(f"wrote {save}/")


def _echo_errors(job: ForecastJob) -> None:
    held_out = job.held_out
    n, horizon = held_out.n_windows, held_out.horizon
    typer.echo(
        f"\nmean absolute error of {n} forecast{'s' * (n > 1)} of {horizon} step{'s' * (horizon > 1)} in "
        f"the last {held_out.n_rows} rows, which were held out (season of {held_out.season_length}):\n"
    )
    errors = held_out.errors
    formats = {"change": "{:+.1%}".format, "interval": "{:.0%}".format}
    shown = errors.head(_SHOWN).rename_axis(index=[None] * errors.index.nlevels)
    typer.echo(shown.to_string(formatters=formats, float_format="{:.4g}".format, na_rep="-"))
    if len(errors) > _SHOWN:
        typer.echo(f"... and {len(errors) - _SHOWN} more series, see errors.csv")
    typer.echo("")
    for sentence in held_out.sentences():
        typer.echo(sentence)
    typer.echo("")
