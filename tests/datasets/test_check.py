"""What is wrong with a frame is found, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from titans_ts.datasets import check_frame, make_series

ROWS = 400


def clean(freq="h"):
    return make_series(ROWS, 2, freq=freq, seasons=(24,), random_state=0)


def kinds(frame, **names):
    found = check_frame(frame, **names)
    return {(row.kind, row.column): row for row in found.itertuples()}


@pytest.mark.parametrize("freq", ["h", "D", "B", "W", "MS", "ME", "QE"])
def test_a_clean_frame_has_no_finding(freq):
    assert check_frame(clean(freq)).empty
    assert check_frame(clean(freq).reset_index(names="timestamp")).empty


def test_times():
    frame = clean()
    found = kinds(frame.drop(frame.index[[50, 51, 90]]))
    assert set(found) == {("gap", None)}
    assert found["gap", None].count == 3
    assert found["gap", None].first == frame.index[52]
    twice = kinds(frame.iloc[[*range(10), 9, *range(10, ROWS)]])
    assert twice["duplicate", None].first == frame.index[9]
    assert set(twice) == {("duplicate", None)}
    assert set(kinds(frame[::-1])) == {("unsorted", None)}
    odd = frame.set_axis(
        frame.index.where(np.arange(ROWS) != 7, frame.index[7] + pd.Timedelta("7min"))
    )
    found = kinds(odd)
    assert found["irregular", None].count == 2
    assert found["irregular", None].first == odd.index[7]
    numbers = clean().set_axis([*range(200), *range(205, 405)])
    assert kinds(numbers)["gap", None].count == 5
    text = clean().reset_index(names="timestamp").astype({"timestamp": str})
    assert check_frame(text).empty


def test_values():
    frame = clean()
    frame["same"] = 0.1
    frame["never"] = np.nan
    frame["text"] = "a"
    frame.iloc[3, 0] = np.inf
    frame.iloc[5:25, 1] = np.nan
    found = kinds(frame)
    assert set(found) == {
        *(("constant", "same"), ("all missing", "never"), ("text", "text")),
        *(("infinite", "y0"), ("missing", "y1")),
    }
    assert found["missing", "y1"].count == 20
    assert found["missing", "y1"].detail == "5.0% of rows"
    assert found["infinite", "y0"].first == frame.index[3]


@pytest.mark.parametrize(("value", "times"), [(-9999, 1), (999, 2), (-99, 1), (31337, 3)])
def test_sentinels(value, times):
    frame = clean()
    frame.iloc[40 : 40 + times, 0] = value
    found = kinds(frame)
    assert set(found) == {("sentinel", "y0")}
    assert found["sentinel", "y0"].count == times
    assert found["sentinel", "y0"].first == frame.index[40]


def test_what_is_no_sentinel():
    frame = clean()
    frame.iloc[40, 0] = 31337  # an outlier, once
    assert check_frame(frame).empty
    counts = pd.DataFrame({"n": np.random.default_rng(0).poisson(1.0, ROWS)})
    assert check_frame(counts).empty
    frame["wide"] = np.linspace(-9999, 9999, ROWS)
    assert check_frame(frame).empty


def test_flags_missing_months_and_other_forms():
    frame = clean("MS")
    frame["flag"] = np.arange(ROWS) // 7 % 2
    assert check_frame(frame).empty
    found = kinds(frame.drop(frame.index[[9, 20]]))
    assert set(found) == {("gap", None)}
    assert found["gap", None].count == 2
    assert check_frame(frame.to_period("M")).empty
    assert check_frame(frame[:0]).empty
    assert check_frame(pl.from_pandas(frame.reset_index(names="timestamp"))).empty
    long = frame.reset_index(names="timestamp").assign(item_id=None)
    assert check_frame(long).empty
    assert check_frame(long.assign(item_id="a").set_index(["item_id", "timestamp"])).empty
    assert check_frame(long[:0]).columns[0] == "item"
    with pytest.raises(ValueError, match="the times of frame cannot be read"):
        check_frame(frame.set_axis([f"day {i}" for i in range(ROWS)]))


def test_a_change_of_units_is_a_break_and_a_season_is_none():
    frame = clean() + 5
    frame.iloc[250:, 1] *= 1000
    found = kinds(frame)
    assert set(found) == {("scale break", "y1")}
    assert abs(frame.index.get_loc(found["scale break", "y1"].first) - 250) <= 20
    season = pd.DataFrame({"y": np.exp(5 * np.sin(np.arange(2000) / 100))})
    assert check_frame(season).empty


def test_items_of_a_long_frame_are_checked_each_on_its_own():
    parts = [clean().reset_index(names="day").assign(shop=shop) for shop in "ab"]
    parts[1].loc[9, "y0"] = -9999
    long = pd.concat([parts[0].drop(index=30), parts[1]])
    found = check_frame(long, item_id="shop", timestamp="day")
    assert found[["item", "kind"]].to_numpy().tolist() == [["a", "gap"], ["b", "sentinel"]]
    with pytest.raises(TypeError, match="frame is a list"):
        check_frame([1, 2])


@pytest.mark.skipif(
    not os.environ.get("TITANS_TS_DATA"), reason="TITANS_TS_DATA does not name the real data sets"
)
def test_the_known_defects_of_jena_weather():
    path = next(Path(os.environ["TITANS_TS_DATA"]).rglob("weather.csv.gz"))
    frame = pd.read_csv(path)
    frame = frame.set_index(pd.to_datetime(frame.pop("date")))
    found = check_frame(frame).set_index("kind")["count"]
    assert found["duplicate"] == 1
    assert found["gap"] == 9
    assert sorted(found["sentinel"]) == [1, 30, 50]
    assert len(found) == 5
