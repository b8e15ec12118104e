"""The pages and the examples are true: their code runs as it stands, what they name exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from titans_ts.pipelines.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md")])
EXAMPLES = [
    pytest.param(path, marks=pytest.mark.slow if path.name == "two_processes.py" else ())
    for path in sorted((ROOT / "examples").glob("*.py"))
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What an example must say, and between which numbers the first group of it must lie. Both are trained
# on one thread with a fixed seed; the bounds leave room for another processor's rounding.
PROOF = {
    "dna_quickstart.py": (r"accuracy on 200 unseen sequences: ([\d.]+)% \(chance 50.0%\)", 80, 100),
    "two_processes.py": (r"largest difference ([\d.]+)", 0, 1e-4),
    "forecast_quickstart.py": (r"on average ([\d.]+)% lower than seasonal naive", 5, 100),
}


def name(path):
    return path.relative_to(ROOT).as_posix()


def blocks(path, language):
    """Code blocks of a page, each behind as many empty lines as stand before it there."""
    text = path.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] == language:
            yield "\n" * (text.count("\n", 0, match.start(2))) + match[2]


def test_the_pages_are_there():
    expected = {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    assert expected | {"kernels/README.md", "datasets/README.md"} <= {name(p) for p in PAGES}


@pytest.mark.parametrize("path", [p for p in PAGES if any(blocks(p, "python"))], ids=name)
def test_python_of_a_page_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for code in blocks(path, "python"):
        exec(compile(code, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_of_a_page_exist(path):
    """Targets of `make`, commands of `titans-ts` and their options."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = typer.main.get_command(app).commands
    for line in "\n".join(blocks(path, "bash")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, line
        if words[:1] == ["titans-ts"]:
            options = {o for p in commands[words[1]].params for o in p.opts} | {"--help"}
            assert {w for w in words if w.startswith("--")} <= options, line


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path):
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_example_runs_and_learns(path, tmp_path):
    assert path.name in PROOF, "say what the new example must print"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    pattern, low, high = PROOF[path.name]
    said = re.search(pattern, result.stdout)
    assert said, result.stdout
    assert low <= float(said[1]) <= high
    assert "the same: True" in result.stdout  # after saving and loading
    assert not any(tmp_path.iterdir())  # it leaves nothing behind
