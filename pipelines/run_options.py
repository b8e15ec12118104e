"""Options of a run in a YAML file: read by `--config`, and written beside every result."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from titans_ts.datasets.atomic import replace_file

__all__ = ["read_options", "with_run_options", "write_options"]

_SUFFIX = ".options.yaml"
_ABOUT = ("command", "version")
"""What such a file has beside the options."""
_LEFT_OUT = ("json", "quiet", "config", "debug")
"""Options that change no result."""
_PASSWORD = re.compile(r"://[^/@]*:[^/]*@")
_RESULTS = ("out", "plot", "save", "report")
"""Options that name where a result goes; the file of options is written beside the first one given."""


def read_options(path: str | Path, command: str, known: dict[str, bool]) -> dict[str, Any]:
    """Read the options of a command from a YAML file.

    Parameters
    ----------
    path : str or Path
        A file with a line `name: value` for every option, such as `prediction-length: 24`; the name may
        have `_` in place of `-`. Values are those of the command line; several may be a list. The names
        of arguments are lower-case. `command` is checked, if it is there, and `version` is not read.
    command : str
        The name of the command.
    known : dict of str
        Names of its parameters, and whether each can be given several times.

    Returns
    -------
    dict
        Text, or a list of text, by the names of parameters. Options without a value are left out.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file cannot be read, or has a name that is not known.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"--config: {path} is no file; give a YAML file of options")
    try:
        # the base loader keeps all as text, as it is on the command line: a `no` is no truth value
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"--config: {path} is no YAML file ({reason}); write `name: value`"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"--config: {path} has no options; write a line `name: value` for each")
    if content.get("command", command) != command:
        raise ValueError(
            f"--config: {path} has options of `titans-ts {content['command']}`, not of `{command}`; "
            "give it to that command"
        )
    options: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name in _ABOUT or value in ("", "null", "~"):
            continue
        if name in _LEFT_OUT:
            raise ValueError(
                f"--config: {path} has {key!r}, which changes no result; give it on the command line"
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0].replace('_', '-')!r}?)" if near else ""
            raise ValueError(
                f"--config: {path} has {key!r}, which is no option of `titans-ts {command}`{hint}; "
                "remove it"
            )
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str) for part in parts):
            raise ValueError(
                f"--config: {path} has more than texts for {key!r}; give a value, or a list of them"
            )
        if known[name]:
            options[name] = value if isinstance(value, list) else [value]
        else:
            options[name] = ",".join(value) if isinstance(value, list) else value
    return options


def write_options(command: str, options: dict[str, Any]) -> Path | None:
    """Write the options of a run beside its result, so that `--config` repeats it.

    Parameters
    ----------
    command : str
        The name of the command.
    options : dict
        Its parameters and their values. Paths are made absolute, so that the file works everywhere. A
        URL with a password is left out.

    Returns
    -------
    Path or None
        `COMMAND.options.yaml` in a folder of results, `NAME.options.yaml` beside a file or a model;
        None if the command wrote no result to a file.
    """
    import yaml

    result = next((options[name] for name in _RESULTS if options.get(name) is not None), None)
    if result is None or not Path(result).exists():
        return None
    result = Path(result)
    if result.is_dir() and not (result / "config.json").is_file():  # a folder, and no model
        path = result / f"{command}{_SUFFIX}"
    else:
        path = result.with_name(f"{result.name}{_SUFFIX}")
    content = {"command": command, "version": version("titans-ts")}
    for name, value in options.items():
        secret = isinstance(value, str) and _PASSWORD.search(value) is not None
        if name not in _LEFT_OUT and value is not None and value != [] and not secret:
            content[name.replace("_", "-")] = _plain(value)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    head = f"# The run again: titans-ts {command} --config {path.name}\n"
    replace_file(path, (head + text).encode())
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def with_run_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options --config and --debug to a command, and let it write its options.

    Parameters
    ----------
    function : callable
        The command, with annotations of typer.
    """
    hints = get_type_hints(function, include_extras=True)
    own = inspect.signature(function).parameters.values()
    parameters = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
    for name, hint, default in (
        ("context", typer.Context, inspect.Parameter.empty),
        ("config", _Config, None),
        ("debug", _Debug, False),
    ):
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, keyword, default=default, annotation=hint))

    @functools.wraps(function)
    def run(*, context: typer.Context, config: Path | None, debug: bool, **options: Any) -> None:
        given = context.default_map or {}
        for parameter in context.command.params:  # an argument of several values has no default
            name = str(parameter.name)
            if parameter.nargs == -1 and not options[name] and name in given:
                options[name] = [Path(value) for value in given[name]]
        try:
            function(**options)
        except Exception:
            if debug:
                traceback.print_exc()
            raise
        if not options.get("worker"):  # a worker of a search has no result of its own
            write_options(str(context.info_name), options)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _read(context: typer.Context, config: Path | None) -> Path | None:
    """Let the options of a file be the defaults of the command."""
    if config is not None and not context.resilient_parsing:
        command = context.command
        known = {
            str(p.name): p.nargs == -1 or getattr(p, "multiple", False) for p in command.params
        }
        own = {name: several for name, several in known.items() if name not in (*_LEFT_OUT, "help")}
        context.default_map = read_options(config, str(context.info_name), own)
    return config


_Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=_read,
        help="Read options from this YAML file, such as the one beside a result; options that are given "
        "here win.",
    ),
]
_Debug = Annotated[
    bool, typer.Option("--debug", help="Print the traceback of an error, too.", is_eager=True)
]
