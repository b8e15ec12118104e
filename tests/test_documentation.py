"""The pages and the examples are true: their code runs as it stands, what they name exists."""

from __future__ import annotations

import ast
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
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md"), *ROOT.glob("docs/*/*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What an example must say, and between which numbers the first group of it must lie. They are trained
# on one thread with a fixed seed; the bounds leave room for another processor's rounding.
PROOF = {
    "01_forecast_quickstart.py": (r"on average ([\d.]+)% lower than seasonal naive", 5, 100),
    "02_panel_with_covariates.py": (r"prices and promotions lower the error by ([\d.]+)%", 50, 100),
    "03_stream_with_drift.py": (r"learned from the stream lowers it by ([\d.]+)%", 50, 100),
    "04_anomalies.py": (r"called unusual; (\d) of the 6 wrong ones\n.* finds 0 of them", 5, 6),
    "05_zero_shot.py": (r"its MASE is ([\d.]+)% lower than that of seasonal naive", 10, 100),
    "06_gluonts_backtest.py": (r"the MASE of titans is ([\d.]+)% lower", 10, 100),
    "07_tuning.py": (r"lower by ([\d.]+)%", 30, 100),
    "08_dna_quickstart.py": (
        r"accuracy on 200 unseen sequences: ([\d.]+)% \(chance 50.0%\)",
        80,
        100,
    ),
    "09_dna_from_csv.py": (r"accuracy of the classifier: ([\d.]+)% \(chance 50.0%\)", 80, 100),
    "10_fasta_and_bed.py": (r"not read before: ([\d.]+)% \(chance 50.0%\)", 75, 100),
    "11_scan_a_genome.py": (r"(\d+) of 12 sites lie in the 24 best windows", 10, 12),
    "12_variant_effects.py": (r"the greater effect in ([\d.]+)% of all pairs", 90, 100),
    "13_pretrain_and_fine_tune.py": (r"pretraining adds (-?[\d.]+) points", 5, 100),
    "14_layers_on_a_toy_task.py": (r"with a memory: ([\d.]+)% after 100 tokens", 80, 100),
    "15_custom_block.py": (r"this block is (-?[\d.]+)% better than seasonal naive", 5, 100),
    "16_two_processes.py": (r"largest difference ([\d.]+)", 0, 1e-3),
}
FAST = {"05_zero_shot.py"}
"""The example that `make test` runs, too; `make test-all` runs the others, which take seconds each."""
_GENOMES = (
    "10_fasta_and_bed",
    "11_scan_a_genome",
    "12_variant_effects",
    "13_pretrain_and_fine_tune",
)
NEEDS = {"06_gluonts_backtest.py": "gluonts", "07_tuning.py": "optuna"}
NEEDS |= {f"{name}.py": "pyfaidx" for name in _GENOMES}
"""The package of an extra that an example needs."""


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
            command = commands[words[1]]
            if hasattr(command, "commands"):  # a group, such as `titans-ts dna scan`
                command = command.commands[words[2]]
            params = command.params
            options = {o for p in params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
            assert {w for w in words if w.startswith("--")} <= options, line


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path):
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_examples_are_numbered_and_have_titles():
    """`NN_name.py`, with a docstring that begins with a title and ends with the command that runs it."""
    assert set(PROOF) == {path.name for path in EXAMPLES}, "say what a new example must print"
    for path in EXAMPLES:
        assert re.fullmatch(r"\d\d_\w+\.py", path.name), path.name
        lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
        assert re.fullmatch(r"[A-Z].{20,90}\.", lines[0]), path.name
        assert lines[1] == "", path.name
        assert lines[-1] == f"    python examples/{path.name}"


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.name in FAST else pytest.mark.slow) for p in EXAMPLES],
    ids=name,
)
def test_example_runs_and_learns(path, tmp_path):
    if path.name in NEEDS:
        pytest.importorskip(NEEDS[path.name])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"PYTHONWARNINGS": "error::DeprecationWarning:__main__"}
    result = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    pattern, low, high = PROOF[path.name]
    said = re.search(pattern, result.stdout)
    assert said, result.stdout
    assert low <= float(said[1]) <= high
    assert "the same: False" not in result.stdout  # what it compares, such as a saved model
    assert not any(tmp_path.iterdir())  # it leaves nothing behind
