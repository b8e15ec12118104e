"""Options in a file, written beside a result; statuses, tracebacks and completion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml
from typer.testing import CliRunner

from titans_ts.datasets import make_series
from titans_ts.pipelines import cli
from titans_ts.pipelines.cli import app, main
from titans_ts.pipelines.run_options import read_options, write_options

KNOWN = {"prediction_length": False, "target": False, "contigs": True, "freq": False}


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "data.csv"
    frame = make_series(200, 2, freq="h", seasons=(12,), random_state=0)
    frame.rename_axis("when").to_csv(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_run_repeats_from_the_folder_of_its_result(csv, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.chdir(tmp_path)
    command = ("forecast", "data.csv", "--prediction-length", "4", "--preset", "zero-shot")
    result = run(*command, "--target", "y1", "--quantiles", "0.05,0.95", "--out", "first")
    assert result.exit_code == 0, result.output
    monkeypatch.chdir(first)
    content = yaml.safe_load(Path("forecast.options.yaml").read_text())
    assert content["command"] == "forecast"
    assert content["file"] == str(csv)  # a path that is right from everywhere
    assert (content["target"], content["prediction-length"]) == ("y1", 4)
    again = run("forecast", "--config", "forecast.options.yaml", "--out", second)
    assert again.exit_code == 0, again.output
    assert (second / "forecast.csv").read_bytes() == (first / "forecast.csv").read_bytes()
    third = tmp_path / "third"  # an option that is given wins
    options = ("--prediction-length", "6", "--out", third, "--json")
    result = run("forecast", "--config", "forecast.options.yaml", *options)
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(third / "forecast.csv")) == 6


def test_values_of_a_file_are_those_of_the_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("prediction-length: 24\ntarget: [a, 'b c']\ncontigs: chr1\nfreq: no\n")
    expected = {"prediction_length": "24", "target": "a,b c", "contigs": ["chr1"], "freq": "no"}
    assert read_options(path, "forecast", KNOWN) == expected
    path.write_text("command: forecast\nversion: 9.9\nprediction_length: 24\ntarget:\nfreq: null\n")
    assert read_options(path, "forecast", KNOWN) == {"prediction_length": "24"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("predictionlength: 3", "did you mean 'prediction-length'"),
        ("command: scan", "options of `titans-ts scan`"),
        ("- 3", "has no options"),
        ("a: [", "no YAML file"),
        ("target: {a: 1}", "more than texts for 'target'"),
        ("target: [a, {b: c}]", "more than texts for 'target'; give a value, or a list"),
        ("contigs: [a, [b]]", "more than texts for 'contigs'"),
        ("quiet: true", "'quiet', which changes no result; give it on the command line"),
    ],
)
def test_files_that_are_wrong(text, message, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_options(path, "forecast", KNOWN)
    with pytest.raises(FileNotFoundError, match="is no file"):
        read_options(tmp_path / "none.yaml", "forecast", KNOWN)


def test_the_options_stand_beside_a_result(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "track.bed").write_text("")
    for options, name in (
        ({"out": tmp_path}, "scan.options.yaml"),
        ({"out": tmp_path / "track.bed"}, "track.bed.options.yaml"),
        ({"out": tmp_path / "model"}, "model.options.yaml"),
        ({"out": None, "save": tmp_path / "model"}, "model.options.yaml"),
    ):
        path = write_options("scan", {**options, "contigs": ["a"], "json": True, "label": None})
        assert path == tmp_path / name
        content = yaml.safe_load(path.read_text())
        assert content["contigs"] == ["a"]
        assert not {"json", "label", "quiet", "debug"} & set(content)
    assert write_options("scan", {"out": None}) is None
    report = tmp_path / "page.html"
    report.write_text("")
    assert write_options("memory", {"report": report}) == tmp_path / "page.html.options.yaml"


def test_no_password_is_written_beside_a_result(tmp_path):
    for storage, kept in (
        ("postgresql://user:secret@host/base", False),
        ("postgresql://user@host/base", True),
        ("sqlite:///study.db", True),
    ):
        path = write_options("tune", {"out": tmp_path, "storage": storage, "n_trials": 3})
        assert "secret" not in path.read_text()
        content = yaml.safe_load(path.read_text())
        assert (content.get("storage") == storage) == kept
        assert content["n-trials"] == 3


def test_every_command_has_the_common_options():
    commands = dict(typer.main.get_command(app).commands)
    commands |= commands.pop("dna").commands
    for name, command in commands.items():
        options = {option for p in command.params for option in p.opts}
        assert {"--config", "--debug"} <= options, name
        assert "--json" in options or name == "stream", name  # whose results are JSON always


def test_an_argument_of_several_values_comes_from_the_file(tmp_path):
    (tmp_path / "run.yaml").write_text("genomes: [a.fa, b.fa]\nout: model\n")
    result = run("pretrain", "--config", tmp_path / "run.yaml")
    assert isinstance(result.exception, FileNotFoundError)
    assert "a.fa" in str(result.exception)
    assert "no FASTA to read" in str(run("pretrain", "--out", tmp_path / "m").exception)


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_of_the_program_has_status_1_and_a_traceback_with_debug(
    debug, csv, monkeypatch, capsys
):
    def fail(*arguments, **options):
        raise IndexError("seven")

    monkeypatch.setattr("titans_ts.pipelines.ingest.read_series", fail)
    monkeypatch.setattr(sys, "argv", ["titans-ts", "check", str(csv)] + ["--debug"] * debug)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    shown = capsys.readouterr().err
    assert "should not happen (IndexError: seven)" in shown
    assert ("Traceback" in shown) == debug


@pytest.mark.parametrize(
    ("words", "place", "completed"),
    [("titans-ts fore", 1, "forecast"), ("titans-ts forecast --prediction", 2, "--prediction-")],
)
def test_a_shell_completes_commands_and_options(words, place, completed, monkeypatch):
    result = CliRunner().invoke(
        app,
        env={
            "_TITANS_TS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(place),
        },
        prog_name="titans-ts",
    )
    assert completed in result.output


def test_check_names_problems_by_its_status(csv, tmp_path):
    good = run("check", csv)
    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, "no problem found")
    frame = pd.read_csv(csv)
    frame.loc[[3, 70, 90], "y1"] = -9999
    frame = frame.drop(index=[20, 21])
    bad = tmp_path / "bad.csv"
    frame.to_csv(bad, index=False)
    result = run("check", bad, "--json")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    kinds = {(row["kind"], row["column"]): row["count"] for row in content["problems"]}
    assert kinds["sentinel", "y1"] == 3
    assert kinds["missing", "y0"] == 2
    assert any("2 rows missing at frequency 'h'" in line for line in content["reading"])
    assert "sentinel" in run("check", bad).stdout


def test_check_reads_long_files(tmp_path):
    frame = pd.concat(
        make_series(60, 1, freq="D", random_state=i).reset_index().assign(shop=f"s{i}")
        for i in range(2)
    )
    frame.loc[frame["shop"] == "s1", "y0"] = 7.0
    path = tmp_path / "long.csv"
    frame.to_csv(path, index=False)
    content = json.loads(run("check", path, "--item-column", "shop", "--json").stdout)
    assert [(row["item"], row["kind"]) for row in content["problems"]] == [("s1", "constant")]
    assert content["series"].startswith("2 series")


def test_info_describes_the_installation_and_a_model(csv, tmp_path):
    content = json.loads(run("info", "--json").stdout)
    assert content["pandas"] == pd.__version__
    model = tmp_path / "model"
    command = ("forecast", csv, "--prediction-length", "4", "--preset", "zero-shot")
    assert run(*command, "--save", model, "--out", tmp_path / "out").exit_code == 0
    content = json.loads(run("info", model, "--json").stdout)
    assert content["estimator"] == "TitansForecaster"
    assert "prediction_length=4" in content["settings"]
    assert "2 variates (y0, y1); frequency h, up to 2024-01-09 07:00:00" in content["follows"]
    assert "nothing was fitted" in run("info", model).stdout


def test_the_installed_command_leaves_with_its_status(csv):
    code = "import sys; from titans_ts.pipelines.cli import main; main()"
    options = {"capture_output": True, "text": True, "check": False}
    result = subprocess.run([sys.executable, "-c", code, "check", str(csv)], **options)
    assert result.returncode == 0, result.stderr
    assert cli.__all__ == ["app", "main"]
