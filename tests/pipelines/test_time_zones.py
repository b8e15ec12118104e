"""Local times with summer time: a change of the offset is said, and forecasts have local times."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from titans_ts.pipelines.cli import app
from titans_ts.pipelines.ingest import Columns, read_plan, read_series

BERLIN = "Europe/Berlin"
AUTUMN = pd.date_range("2024-10-20", periods=200, freq="h", tz=BERLIN)  # an hour comes twice


def write(path, times, **columns):
    frame = pd.DataFrame({"when": times, "y": np.sin(np.arange(len(times)) / 4), **columns})
    frame.to_csv(path, index=False)
    return path


def test_a_change_of_the_offset_is_said(tmp_path):
    path = write(tmp_path / "x.csv", AUTUMN)
    said = []
    frame = read_series(path, say=said.append).frame
    assert any("offsets +01:00 and +02:00 from UTC: taken as UTC" in line for line in said)
    pd.testing.assert_index_equal(frame.index, AUTUMN.tz_convert("UTC"), check_names=False)


@pytest.mark.parametrize("written", ["offsets", "local"])
def test_times_in_a_zone_are_complete_on_both_sides_of_summer_time(written, tmp_path):
    times = AUTUMN if written == "offsets" else AUTUMN.tz_localize(None)
    path = write(tmp_path / "x.csv", times)
    said = []
    frame = read_series(path, Columns(timezone=BERLIN), say=said.append).frame
    assert said == []  # no hour is missing, and none is repeated
    pd.testing.assert_index_equal(frame.index, AUTUMN, check_names=False)
    np.testing.assert_allclose(frame["y"], np.sin(np.arange(200) / 4))


def test_an_hour_comes_twice_in_every_series(tmp_path):
    local = AUTUMN.tz_localize(None)
    frame = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": local, "y": np.arange(200.0)}) for name in "ab"
    )
    frame.to_csv(path := tmp_path / "x.csv", index=False)
    said = []
    series = read_series(path, Columns(timezone=BERLIN), say=said.append)
    assert said == []
    for _, part in series.frame.groupby("unique_id"):
        assert list(part["ds"]) == list(AUTUMN)
    plan = pd.DataFrame({"unique_id": "a", "ds": ["2024-10-28 10:00"], "p": [1.0]})
    plan.to_csv(path, index=False)
    columns = Columns(item=["unique_id"], known=["p"], timezone=BERLIN)
    read = read_plan(path, columns, item_id="unique_id", timestamp="ds")
    assert read["ds"].tolist() == [pd.Timestamp("2024-10-28 10:00", tz=BERLIN)]


def test_forecasts_of_local_times_are_local(tmp_path):
    path = write(tmp_path / "x.csv", AUTUMN.tz_localize(None)[:165])
    out, model = tmp_path / "out", tmp_path / "model"
    command = ["forecast", str(path), "--prediction-length", "8", "--preset", "zero-shot"]
    command += ["--timezone", BERLIN, "--out", str(out), "--save", str(model)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    written = pd.read_csv(out / "forecast.csv")["when"].tolist()
    assert written == [str(time) for time in AUTUMN[165:173]]
    later = write(tmp_path / "later.csv", AUTUMN.tz_localize(None)[:180])  # the saved zone is known
    result = CliRunner().invoke(app, ["predict", str(model), str(later)])
    assert result.exit_code == 0, result.output
    assert "15 new rows" in result.stderr
    assert result.stdout.splitlines()[1].startswith(str(AUTUMN[180]))
    rows = "when,y\n" + "".join(f"{time},1\n" for time in AUTUMN.tz_localize(None)[165:168])
    result = CliRunner().invoke(app, ["stream", str(model)], input=rows)
    assert result.exit_code == 0, result.output
    assert f'"end": "{AUTUMN[167].isoformat()}"' in result.stdout.splitlines()[-1]


def test_a_zone_that_is_not_known_is_named(tmp_path):
    path = write(tmp_path / "x.csv", AUTUMN)
    with pytest.raises(ValueError, match="timezone is 'Berlin'"):
        read_series(path, Columns(timezone="Berlin"))
