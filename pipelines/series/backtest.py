"""The command `backtest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
    column_list,
    echo_json,
    note,
    show_progress,
    warnings_said,
)
from titans_ts.pipelines.series.options import (
    Calendar,
    DateFormat,
    Device,
    Freq,
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
    load_forecaster,
    quantile_levels,
)

__all__ = ["backtest"]

_SHOWN = ["mae", "rmse", "mase", "smape", "wql", "coverage", "width"]


def backtest(
    file: SeriesFile,
    prediction_length: Annotated[
        int | None, typer.Option(help="Steps of a forecast.  [default: those of --model]", min=1)
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A saved model to test; give rows that it was not fitted to.  [default: fit one to the "
            "rows before the first forecast]"
        ),
    ] = None,
    windows: Annotated[int, typer.Option(help="Number of forecasts.", min=1)] = 10,
    stride: Annotated[
        int | None,
        typer.Option(help="Rows between two forecasts.  [default: the steps of a forecast]", min=1),
    ] = None,
    refit: Annotated[
        int | None,
        typer.Option(help="Forecasts between two fits.  [default: one fit for all]", min=1),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Some of item, variate, step and window: a table by these.")
    ] = "",
    season_length: Annotated[
        int | None,
        typer.Option(help="Steps in a season.  [default: usual for the frequency]", min=1),
    ] = None,
    context_length: ContextLength = None,
    target: Target = None,
    time_column: TimeColumn = None,
    item_column: ItemColumn = None,
    past_covariates: PastCovariates = None,
    known_covariates: KnownCovariates = None,
    static_covariates: StaticCovariates = None,
    calendar: Calendar = None,
    freq: Freq = None,
    date_format: DateFormat = None,
    timezone: TimeZone = None,
    missing: Missing = None,
    quantiles: Quantiles = "0.1,0.5,0.9",
    preset: Preset = "default",
    max_epochs: MaxEpochs = None,
    time_limit: TimeLimit = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for metrics.csv, errors.csv and forecasts.csv.  [default: none]"),
    ] = None,
    report: Report = None,
    json: Json = False,
    device: Device = "auto",
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Compare forecasts from rolling origins with what came, and with simple forecasts.

    Every forecast knows the rows before it only. The simple ones are the last value, seasonal naive,
    drift and Theta.
    """
    import torch

    from titans_ts.forecasting import TitansForecaster
    from titans_ts.forecasting.frequency import usual_season
    from titans_ts.pipelines.continuation import read_for_model
    from titans_ts.pipelines.heldout import held_out, with_simple
    from titans_ts.pipelines.ingest import read_series
    from titans_ts.pipelines.outcome import plain_records

    torch.set_num_threads(threads)
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
    notes = Notes()
    options: dict[str, Any] = {"n_windows": windows, "stride": stride}
    if model is not None:
        if refit is not None or prediction_length is not None:
            raise ValueError(
                "--model is given together with --refit or --prediction-length, which belong to a model "
                "that is fitted here; leave them out"
            )
        forecaster = load_forecaster(model, device)
        series, _ = read_for_model(file, forecaster, columns, notes.say)
    else:
        if prediction_length is None:
            raise ValueError("--prediction-length is missing; give it, or a saved model by --model")
        series = read_series(file, columns, say=notes.say)
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
        forecaster.set_params(preset=preset, **series.parameters)
        options["refit"] = refit or windows
    note(series.summary())
    with warnings_said(notes.say):
        found = forecaster.backtest(series.frame, season_length=season_length, **options)
    panel = found.panel
    season = season_length or usual_season(panel.freq if panel.timed else None)
    axes = column_list(by) if by else []
    found = with_simple(found, season)
    metrics = found.metrics(by=tuple(axes or ()))
    horizon = found.actual.shape[2]
    rows = (found.n_windows - 1) * min(found.stride, horizon) + horizon
    compared = held_out(found, season_length=season, n_rows=rows)
    written = []
    if out is not None:
        written = _write(
            out,
            {
                "metrics.csv": metrics.reset_index(),
                "errors.csv": compared.errors.reset_index(),
                "forecasts.csv": found.frame(),
            },
        )
    if report is not None:
        from titans_ts.datasets.atomic import replace_file
        from titans_ts.pipelines.report import backtest_page

        page = backtest_page(found, compared, forecaster, series.summary(), notes)
        replace_file(report, page.encode())
        written.append(report)
    if json:
        echo_json(
            {
                "metrics": plain_records(metrics.reset_index()),
                "comparison": compared.record(),
                "files": [str(path) for path in written],
            }
        )
        return
    typer.echo(
        f"\n{found.n_windows} forecasts of {horizon} steps, every {found.stride} rows (season of "
        f"{season}; coverage of the {compared.level:.0%} interval):\n"
    )
    shown = metrics[_SHOWN].rename_axis(index=[None] * metrics.index.nlevels)
    typer.echo(shown.to_string(float_format="{:.4g}".format, na_rep="-"))
    typer.echo("")
    for sentence in compared.sentences():
        typer.echo(sentence)
    for path in written:
        typer.echo(f"wrote {path}")


def _write(folder: Path, tables: dict[str, Any]) -> list[Path]:
    from titans_ts.datasets.atomic import replace_file

    for name, table in tables.items():
        replace_file(folder / name, table.to_csv(index=False, float_format="%.10g").encode())
    return [folder / name for name in tables]
