"""The `titans-ts` command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from titans_ts.pipelines.dna.classify import classify
from titans_ts.pipelines.dna.pretrain import pretrain
from titans_ts.pipelines.dna.scan import scan
from titans_ts.pipelines.dna.surprise import surprisal, surprise
from titans_ts.pipelines.dna.variants import variants
from titans_ts.pipelines.memory import echo_idle_memory, memory
from titans_ts.pipelines.options import (
    Columns,
    ContextLength,
    MaxEpochs,
    Preset,
    Quiet,
    Seed,
    Threads,
    TimeColumn,
    TimeLimit,
    check_matplotlib,
    column_list,
)
from titans_ts.pipelines.tune import tune

if TYPE_CHECKING:
    import pandas as pd

    from titans_ts.forecasting import TitansForecaster

__all__ = ["app", "demo", "forecast", "main"]

app = typer.Typer(
    help="Forecast time series and read DNA with models whose memory learns while it reads.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.")
    ] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"titans-ts {installed('titans-ts')}")
        raise typer.Exit


@app.command(short_help="Forecast every column of a file.")
def forecast(
    csv: Annotated[Path, typer.Argument(metavar="CSV", help="A .csv, .csv.gz or .parquet file.")],
    prediction_length: Annotated[int, typer.Option(help="Steps to forecast.", min=1)],
    context_length: ContextLength = None,
    time_column: TimeColumn = None,
    columns: Columns = None,
    season_length: Annotated[
        int | None,
        typer.Option(help="Steps in a season.  [default: usual for the frequency]", min=1),
    ] = None,
    preset: Preset = "default",
    variant: Annotated[
        str | None,
        typer.Option(help="Blocks of the network: mac, mag, mal, lmm or swa.  [default: none]"),
    ] = None,
    max_epochs: MaxEpochs = None,
    time_limit: TimeLimit = None,
    out: Annotated[Path, typer.Option(help="Folder for forecast.csv and forecast.png.")] = Path(
        "."
    ),
    report: Annotated[
        Path | None, typer.Option(help="Write a self-contained HTML report to this file.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Save the model to this folder.")] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Forecast every column of a file, and measure the error on a held-out tail.

    A tail of the rows is held out: the model trains without it, and its forecasts of the tail are
    compared with repeating the last season. Then it forecasts the steps after the last row.
    """
    from titans_ts.forecasting import TitansForecaster
    from titans_ts.pipelines.ingest import read_frame

    frame = read_frame(csv, time_column=time_column, columns=column_list(columns), say=typer.echo)
    forecaster = TitansForecaster(
        prediction_length=prediction_length,
        context_length=context_length,
        max_epochs=max_epochs,
        time_limit=time_limit,
        random_state=seed,
        progress_bar=not quiet,
    )
    forecaster.set_params(preset=preset, variant=variant)
    _run(frame, forecaster, season_length, out, report, save, threads)


@app.command(short_help="Run an example: forecast New York's weather, offline, in a minute.")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Forecast a day of the weather of New York from the hours before, in about a minute, offline."""
    from titans_ts.datasets import DEMO_SEASON_LENGTH, load_demo
    from titans_ts.forecasting import TitansForecaster

    forecaster = TitansForecaster(
        prediction_length=24,
        context_length=168,
        patch_length=24,
        patch_stride=12,
        d_model=32,
        max_epochs=6,
        learning_rate=2e-3,
        random_state=seed,
        progress_bar=not quiet,
    )
    _run(load_demo(), forecaster, DEMO_SEASON_LENGTH, out, out / "report.html", None, threads)


for command, short_help in (
    (classify, "Classify the DNA sequences of a file."),
    (pretrain, "Train a language model on genomes without labels."),
    (scan, "Score windows along a genome."),
    (variants, "Score the effects of variants."),
    (surprise, "Write a memory's surprise along a genome."),
    (surprisal, "Write the surprisal of a genome's nucleotides."),
    (tune, "Search for good parameters."),
    (memory, "Report whether a saved model uses its memory."),
):
    app.command(short_help=short_help)(command)


def _run(
    frame: pd.DataFrame,
    forecaster: TitansForecaster,
    season_length: int | None,
    out: Path,
    report: Path | None,
    save: Path | None,
    threads: int,
) -> None:
    """Fit, evaluate, and write the results; both commands call this function."""
    check_matplotlib("picture")
    import torch

    from titans_ts.nn.checkpoint import check_replaceable
    from titans_ts.pipelines.forecast import run_forecast, write_forecast

    if save is not None:
        check_replaceable(save)
    for folder in (out, report.parent if report is not None else out):
        folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    typer.echo(
        f"{frame.shape[1]} variates, {len(frame)} rows, {frame.index[0]} to {frame.index[-1]}"
    )
    job = run_forecast(frame, forecaster, season_length=season_length)
    model = forecaster.model_.config
    if forecaster.history_:
        typer.echo(
            f"a forecast reads {model.context_length} steps, {model.patch_length} in a token"
        )
    else:
        typer.echo("forecasts of the pretrained model; nothing was fitted")
    typer.echo(
        f"\nmean absolute error of {job.n_windows} forecasts of {len(job.forecast)} steps "
        f"in the held-out tail (season of {job.season_length}):\n"
    )
    typer.echo(job.errors.to_string(float_format="{:.4g}".format))
    if job.improvement == job.improvement:
        word = "lower" if job.improvement > 0 else "higher"
        typer.echo(f"\non average {abs(job.improvement):.1%} {word} than seasonal naive\n")
    echo_idle_memory(forecaster)
    for path in write_forecast(job, out, report):
        typer.echo(f"wrote {path}")
    if save is not None:
        forecaster.save(save)
        typer.echo(f"wrote {save}/")


def main() -> None:
    """Run the command; an error prints one line instead of a traceback.

    The exit status is 2 after an error, and 128 plus the number of the signal after SIGINT (Ctrl-C) and
    SIGTERM.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, _stop) for number in signals]
    try:
        app()
    except _Stopped as stopped:
        _leave(f"stopped by {stopped.number.name}", 128 + stopped.number)
    except KeyError as error:  # its str is the repr of the message
        _leave(error.args[0])
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, FloatingPointError) as error:
        _leave(error)
    finally:
        for number, handler in zip(signals, handlers, strict=True):
            signal.signal(number, handler)


class _Stopped(BaseException):
    """A signal that ends the command; neither Lightning nor typer handles this class in its own way."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number


def _stop(number: int, _: object) -> NoReturn:
    raise _Stopped(signal.Signals(number))


def _leave(error: object, status: int = 2) -> NoReturn:
    typer.echo(f"titans-ts: {error}", err=True)
    sys.exit(status)
