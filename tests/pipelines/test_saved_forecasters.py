"""Saved forecasters from the shell: predict, backtest, anomalies and stream."""

from __future__ import annotations

import json
import os
import signal
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.forecasting.cases import small
from tests.support import rounding, small_settings
from titans_ts import TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.pipelines import streaming
from titans_ts.pipelines.cli import app, main

LAST = 100
"""Number of rows that the saved model knows."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a saved model of one file and the rows after it, and one of a panel."""
    monkeypatch.chdir(tmp_path)
    frame = make_series(130, 2, freq="h", seasons=(12,), random_state=0).rename_axis("when")
    frame.to_csv("all.csv")
    frame.iloc[LAST - 5 :].to_csv("new.csv")
    model(adapt=True, timestamp="when").fit(frame.head(LAST)).save("model")
    return tmp_path


def model(horizon=4, **parameters):
    return TitansForecaster(
        horizon, preset="zero-shot", random_state=0, progress_bar=False, **parameters
    )


def run(*command, text=None):
    result = CliRunner().invoke(app, list(map(str, command)), input=text)
    if result.exception is not None:
        raise result.exception
    return result.output.splitlines()


def series():
    return pd.read_csv("all.csv", index_col=0, parse_dates=True).asfreq("h")


def test_predict_follows_the_new_rows(folder):
    *notes, last = run("predict", "model", "new.csv", "--out", "f.csv", "--save", "later")
    assert notes == [
        "5 rows up to 2024-01-05 03:00:00 are known already: left out",
        "30 new rows",
        "wrote later/",
    ]
    assert last == "wrote f.csv"
    table = pd.read_csv("f.csv", index_col=0, parse_dates=True)
    known = TitansForecaster.load("model").update(series().iloc[LAST:])
    expected = known.predict_quantiles()["y1", 0.5]
    np.testing.assert_allclose(table["y1"], expected)
    assert list(table.index) == list(expected.index)
    assert run("predict", "later", "--json")[0] == run("predict", "later", "new.csv", "--json")[-1]
    content = json.loads(run("predict", "model", "--coverage", "0.9", "--json")[0])["forecast"]
    assert content[0]["when"] == "2024-01-05T04:00:00"
    assert content[0]["y0_lower90"] <= content[0]["y0"] <= content[0]["y0_upper90"]
    of_file = run("predict", "model", "all.csv", "--history", "--json")[-1]
    assert json.loads(of_file)["forecast"][0]["when"] == "2024-01-06T10:00:00"


def test_predict_forecasts_other_steps_and_levels(folder):
    options = ("--prediction-length", "9", "--quantiles", "0.05,0.95")
    run("predict", "model", *options, "--out", "f.csv")
    table = pd.read_csv("f.csv", index_col=0, parse_dates=True)
    assert len(table) == 9
    assert list(table)[:4] == ["y0", "y0_q0.05", "y0_q0.5", "y0_q0.95"]
    assert (table["y0_q0.05"] < table["y0"]).all()
    usual = TitansForecaster.load("model").predict_quantiles()["y0", 0.5]
    np.testing.assert_allclose(
        table["y0"].iloc[:4], usual, rtol=1e-5
    )  # corrected, as the usual one
    with pytest.raises(ValueError, match="leave out --coverage"):
        run("predict", "model", *options, "--coverage", "0.9")


def test_predict_says_that_later_steps_follow_from_forecasts(folder):
    fitted = TitansForecaster(4, 16, timestamp="when", **small_settings())
    fitted.fit(series()).save("fitted")
    *notes, _ = run("predict", "fitted", "--prediction-length", "6", "--out", "f.csv")
    assert len(notes) == 1
    assert "horizon is 6, but the model was fitted for 4 steps" in notes[0]


def test_predict_fills_gaps_and_refuses_what_it_cannot_know(folder):
    series().drop(series().index[[LAST, LAST + 1, 120]]).to_csv("gaps.csv")
    notes = run("predict", "model", "gaps.csv", "--out", "f.csv")
    assert "3 rows missing at frequency 'h': taken as missing values" in notes
    for command, message in (
        (["predict", "absent"], "path 'absent' has no config.json; give a saved model"),
        (["predict", "model", "--history"], "--history is given, but no NEW"),
        (["predict", "model", "--future", "new.csv"], "fitted without --known-covariates"),
        (["backtest", "new.csv"], "--prediction-length is missing; give it, or a saved model"),
        (["backtest", "new.csv", "--model", "model", "--refit", "1"], "leave them out"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            run(*command)


def test_a_panel_with_covariates_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wide = make_series(60, 1, freq="D", random_state=0)
    parts = [wide.assign(a=f"s{i}", b=1, promo=i, y0=wide["y0"] + 10 * i) for i in range(3)]
    frame = pd.concat(parts).rename_axis("day").reset_index()
    frame["a/b"] = frame["a"] + "/1"
    first = frame["day"] < "2024-02-10"
    roles = {"item_id": "a/b", "timestamp": "day", "target": "y0", "known_covariates": ("promo",)}
    fitted = frame[first][["a/b", "day", "y0", "promo"]]
    small = TitansForecaster(4, 8, max_epochs=1, preset="fast", progress_bar=False, **roles)
    small.set_params(random_state=0).fit(fitted).save("model")
    columns = ["a", "b", "day", "y0", "promo"]
    frame[(frame["day"] < "2024-02-20") & (frame["a"] != "s2")][columns].to_csv("new.csv")
    frame[~first][["a", "b", "day", "promo"]].to_csv("plan.csv", index=False)
    run("predict", "model", "new.csv", "--future", "plan.csv", "--out", "f.csv")
    table = pd.read_csv("f.csv")
    begins = table.groupby("a/b")["day"].min().to_dict()
    assert begins == {"s0/1": "2024-02-20", "s1/1": "2024-02-20", "s2/1": "2024-02-10"}
    frame[frame["a"] == "s2"].assign(a="new")[columns].to_csv("other.csv")
    with pytest.raises(ValueError, match="item 'new/1' is not one of the 3 series of the model"):
        run("predict", "model", "other.csv", "--future", "plan.csv")
    with pytest.raises(ValueError, match=r"the known covariates \['promo'\] of the next 4 steps"):
        run("predict", "model", "new.csv")
    frame[columns].to_csv("all.csv", index=False)
    content = json.loads(
        run("backtest", "all.csv", "--model", "model", "--by", "item", "--json")[-1]
    )
    assert {row["item"] for row in content["metrics"]} == {"s0/1", "s1/1", "s2/1"}
    rows = frame[~first & (frame["a"] == "s1")][columns].head(2).to_csv(index=False)
    lines = run("stream", "model", "--future", "plan.csv", text=rows)
    results = [json.loads(line) for line in lines]
    assert [r["forecast"][0]["day"] for r in results] == [
        "2024-02-11T00:00:00",
        "2024-02-12T00:00:00",
    ]
    assert {row["a/b"] for r in results for row in r["forecast"]} == {"s1/1"}


def test_a_backtest_has_the_simple_forecasts_beside(folder):
    lines = run(
        *("backtest", "all.csv", "--prediction-length", "4", "--preset", "zero-shot"),
        *("--windows", "12", "--out", "tested", "--report", "page.html"),
    )
    assert "Error by window" in (folder / "page.html").read_text()
    text = "\n".join(lines)
    assert (
        "12 forecasts of 4 steps, every 4 rows (season of 24; coverage of the 80% interval)" in text
    )
    assert any(line.endswith("than seasonal naive") for line in lines)
    metrics = pd.read_csv("tested/metrics.csv", index_col="model")
    assert list(metrics.index) == ["titans", "last value", "seasonal naive", "drift", "theta"]
    table = pd.read_csv("tested/forecasts.csv")
    assert len(table) == 12 * 4 * 2
    error = (table["actual"] - table["theta"]).abs().mean()
    assert metrics.loc["theta", "mae"] == pytest.approx(error)
    content = json.loads(
        run("backtest", "all.csv", "--model", "model", "--by", "step", "--json")[-1]
    )
    assert [row["step"] for row in content["metrics"][:4]] == [1, 2, 3, 4]
    assert content["comparison"]["forecasts"] == 10
    lines = run("backtest", "all.csv", "--model", "model", "--report", "page.html")
    assert "Parts of the forecast" in (folder / "page.html").read_text()
    known = "forecasts begin within the rows that the model was fitted to, and look too good"
    page = (folder / "page.html").read_text()
    assert known not in page + "\n".join(lines)  # no network was fitted
    small(timestamp="when").fit(series().head(LAST)).save("fitted")
    lines = run("backtest", "all.csv", "--model", "fitted", "--report", "page.html")
    assert known in lines[1]
    assert known in (folder / "page.html").read_text()


def test_anomalies_are_found_with_a_model_and_without(folder):
    frame = series()
    frame.iloc[120, 1] += 20
    frame.to_csv("odd.csv")
    for options in ([], ["--model", "model"], ["--score", "error"]):
        content = json.loads(run("anomalies", "odd.csv", "--json", *options)[-1])["anomalies"]
        found = [(row["when"], row["variate"]) for row in content]
        assert ("2024-01-06T00:00:00", "y1") in found
    more = ["--reference", "all.csv", "--report", "page.html"]
    run("anomalies", "odd.csv", "--all", "--out", "scores.csv", *more)
    assert "among 260 values." in (folder / "page.html").read_text()
    assert len(pd.read_csv("scores.csv")) == 260


ROWS = 12


def rows(form="csv"):
    frame = series().iloc[LAST - 2 : LAST + ROWS]
    if form == "csv":
        return frame.to_csv()
    records = frame.reset_index().assign(when=lambda f: f["when"].astype(str))
    return records.to_json(orient="records", lines=True)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_stream_is_forecast_row_by_row(form, folder):
    *lines, skipped = run("stream", "model", "--surprise", text=rows(form))
    assert skipped == "2 rows were known already: left out"
    results = [json.loads(line) for line in lines]
    assert [r["row"] for r in results] == list(range(1, ROWS + 1))
    known = TitansForecaster.load("model")
    for result, number in zip(results, range(LAST, LAST + ROWS), strict=True):
        new = series().iloc[number : number + 1]
        expected = known.update(new).predict_quantiles()["y0", 0.5]
        assert result["end"] == new.index[0].isoformat()
        values = [row["y0"] for row in result["forecast"]]
        np.testing.assert_allclose(values, expected)
        assert result["surprise"][0]["y1"] == pytest.approx(known.watch(new)["y1"].iloc[0])
    few = run("stream", "model", "--every", "5", text=rows(form))
    assert [json.loads(line)["row"] for line in few[:-1]] == [5, 10, 12]
    same = [row["y0"] for row in json.loads(few[-2])["forecast"]]
    np.testing.assert_allclose(same, values, **rounding(values))


class Killed(BaseException):
    """The end of a process that nothing can catch."""


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kill_at", [2, 8])
def test_a_killed_stream_continues_without_loss_or_repetition(kill_at, before, folder, monkeypatch):
    run("stream", "model", "--out", "whole.jsonl", text=rows())
    calls, save = [], streaming.save_state

    def save_state(*arguments):
        calls.append(arguments)
        if len(calls) == kill_at and before:
            raise Killed
        save(*arguments)
        if len(calls) == kill_at:
            raise Killed

    monkeypatch.setattr(streaming, "save_state", save_state)
    command = ["stream", "model", "--state", "state", "--out", "parts.jsonl"]
    with pytest.raises(Killed):
        run(*command, text=rows())
    lines = (folder / "parts.jsonl").read_text().splitlines()
    assert len(lines) == kill_at - 1  # the first state has no line, the last line may have no state
    run(*command, text=rows())
    assert (folder / "parts.jsonl").read_text() == (folder / "whole.jsonl").read_text()
    before_again = (folder / "parts.jsonl").stat().st_size
    run(*command, text=rows())  # nothing new
    assert (folder / "parts.jsonl").stat().st_size == before_again
    run("stream", "model", "--state", "state", text=rows())  # without a file of results
    (folder / "other.jsonl").write_text("mine")
    run("stream", "model", "--state", "state", "--out", "other.jsonl", text=rows())
    assert (folder / "other.jsonl").read_text() == "mine"
    run(*command, text=rows())
    (folder / "parts.jsonl").write_text("")
    with pytest.raises(ValueError, match="give the file that the state belongs to"):
        run(*command, text=rows())
    with pytest.raises(ValueError, match="exists and is no state of a stream"):
        run("stream", "model", "--state", "model", text=rows())


def test_a_signal_waits_for_the_state(folder, monkeypatch, capsysbinary):
    save = streaming.save_state

    def save_state(*arguments):
        if arguments[-1].rows:
            os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)

    monkeypatch.setattr(streaming, "save_state", save_state)
    (folder / "rows.csv").write_text(rows())
    monkeypatch.setattr(sys, "argv", ["titans-ts", "stream", "model", "--state", "state"])
    with (folder / "rows.csv").open() as text:
        monkeypatch.setattr(sys, "stdin", text)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 143
    out = capsysbinary.readouterr().out
    assert json.loads(out)["row"] == 1
    assert json.loads((folder / "state" / "progress.json").read_text())["rows"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when,y0,y1\n2024-02-01 00:00,1\n", "line 2 has 2 fields, the header 3"),
        ("when,y0,y1\n2024-02-01,1,a\n", "line 2: column 'y1' holds 'a'; give a number"),
        ("when,y0\n2024-02-01,1\n", "line 2 has no 'y1'; it has"),
        ("y0,y1\n1,2\n", "line 2 has no column 'when' for its time"),
        ("when,y0,y1\nsoon,1,2\n", "line 2: column 'when' holds 'soon', which is no time"),
        ('{"when": "2024-02-01", "y0": 1, "y1": \n', "line 1 is no JSON object"),
    ],
)
def test_lines_that_cannot_be_read_are_named(text, message, folder):
    with pytest.raises(ValueError, match=message):
        run("stream", "model", text=text)
