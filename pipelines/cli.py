"""The `titans-ts` command."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from titans_ts.pipelines.commands import COMMANDS
from titans_ts.pipelines.run_options import with_run_options

__all__ = ["app", "main"]


class _Grouped(TyperGroup):
    """A list of commands by product."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for every product."""
        for product, commands in COMMANDS.items():
            with formatter.section(product):
                formatter.write_dl([(command.name, command.line) for command in commands])


app = typer.Typer(
    cls=_Grouped,
    help="Forecast time series and read DNA with models whose memory learns while it reads.",
    epilog="`titans-ts COMMAND --help` shows the options of a command, and examples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (command for commands in COMMANDS.values() for command in commands):
    app.command(short_help=_command.line, epilog=_command.epilog)(with_run_options(_command.run))


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


def main() -> None:
    """Run the command; an error prints one line instead of a traceback.

    The exit status is 0 after success, and 2 after an error that the message explains. It is 1 after
    any other error, and where `check` finds a problem; and 128 plus the number of the signal after
    SIGINT (Ctrl-C: 130) and SIGTERM.
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
    except Exception as error:  # of the program itself
        _leave(
            f"an error that should not happen ({type(error).__name__}: {error}); please report it with "
            "the traceback, which --debug prints",
            1,
        )
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
