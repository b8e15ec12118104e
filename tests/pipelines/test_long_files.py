"""`tune` and `memory` read the files of many series that `forecast` reads."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from titans_ts import TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.pipelines.cli import app


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a long file of other tools' names, and a column that helps."""
    monkeypatch.chdir(tmp_path)
    parts = [
        make_series(60, 1, freq="D", seasons=(7,), random_state=i)
        .rename(columns={"y0": "y"})
        .rename_axis("ds")
        .reset_index()
        .assign(unique_id=name, price=[1.0, 2.0] * 30)
        for i, name in enumerate(("north", "south"))
    ]
    pd.concat(parts).to_csv("sales.csv", index=False)
    return tmp_path


def run(*command):
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output
    return result


def test_a_search_reads_many_series(folder):
    options = ("--n-trials", "1", "--max-epochs", "1", "--preset", "fast", "--quiet", "--json")
    roles = ("--known-covariates", "price", "--calendar", "week", "--save", "model")
    result = run("tune", "sales.csv", "--prediction-length", "3", *roles, *options)
    assert "2 series, 1 variate, 120 rows" in result.stderr
    assert json.loads(result.stdout)["trials"] == {"COMPLETE": 1}
    best = TitansForecaster.load("model")
    assert best.end_.index.tolist() == ["north", "south"]
    assert best.roles.known_covariates == ("price",)
    assert best.calendar == ("week",)
    assert "item_id='unique_id'" in (folder / "best.py").read_text()


def test_the_report_on_a_memory_reads_many_series(folder):
    command = ("forecast", "sales.csv", "--prediction-length", "3", "--preset", "zero-shot")
    run(*command, "--save", "model", "--out", "out")
    result = run("memory", "sales.csv", "--model", "model", "--json")
    content = json.loads(result.stdout)
    assert content["verdict"].startswith("The memory is ")
    assert [row["memory"] for row in content["scores"]] == ["write on", "write off", "no memory"]
    frame = pd.read_csv("sales.csv", parse_dates=["ds"])
    report = TitansForecaster.load("model").memory_report(frame.drop(columns="price"))
    assert content["change"] == pytest.approx(report.change, rel=1e-4)
    assert report.verdict == content["verdict"]
