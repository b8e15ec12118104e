"""The list of commands, their help and their examples."""

from __future__ import annotations

import shlex

import pytest
import typer
from typer.testing import CliRunner

from titans_ts.pipelines.cli import app
from titans_ts.pipelines.commands import COMMANDS
from titans_ts.pipelines.options import show_progress

ALL = [command for commands in COMMANDS.values() for command in commands]


def test_the_commands_are_listed_by_product():
    lines = CliRunner().invoke(app, ["--help"]).output.splitlines()
    places = [lines.index(f"{product}:") for product in COMMANDS]
    assert places == sorted(places)
    for place, commands in zip(places, COMMANDS.values(), strict=True):
        listed = [line.split()[0] for line in lines[place + 1 : place + 1 + len(commands)]]
        assert listed == [command.name for command in commands]
    commands = dict(typer.main.get_command(app).commands)
    dna = commands.pop("dna").commands  # `titans-ts dna scan` is `titans-ts scan`
    assert set(dna) == {command.name for command in COMMANDS["DNA"]}
    assert all(
        [p.opts for p in dna[name].params] == [p.opts for p in commands[name].params]
        for name in dna
    )
    assert {command.name for command in ALL} == set(commands)


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_a_command_shows_two_examples_that_are_right(command):
    text = CliRunner().invoke(app, [command.name, "--help"]).output
    assert len(command.examples) >= 2
    known = typer.main.get_command(app).commands[command.name].params
    options = {name: p for p in known for name in (*p.opts, *p.secondary_opts)}
    required = {p.opts[0] for p in known if p.required and p.opts[0].startswith("--")}
    for example in command.examples:
        for line in example.split("\n"):
            assert line.strip() in text
        words = shlex.split(example.replace("\\\n", " ").split(" < ")[0].split(" > ")[0])
        assert words[0] == command.name
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= set(options)
        assert required <= given


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(terminal, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert show_progress(quiet=False) == terminal
    assert not show_progress(quiet=True)
