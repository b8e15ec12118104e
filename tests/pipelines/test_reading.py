"""Long files, covariates and messy cells, as the command line reads them."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from titans_ts.datasets import make_series
from titans_ts.pipelines import read_frame
from titans_ts.pipelines.ingest import Columns, read_plan, read_series


def shops(n=40, **columns):
    """A long frame of two shops by day."""
    days = pd.date_range("2024-01-01", periods=n)
    return pd.DataFrame(
        {
            "shop": np.repeat(["north", "south"], n),
            "day": [*days, *days],
            "sold": np.arange(2.0 * n) % 7,
            "price": np.arange(2 * n) % 3,
            "region": np.repeat(["n", "s"], n),
            **columns,
        }
    )


def write(path, frame):
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("names", [("item_id", "timestamp", "target"), ("unique_id", "ds", "y")])
def test_spellings_of_other_tools_are_recognised(names, tmp_path):
    frame = shops().rename(columns=dict(zip(("shop", "day", "sold"), names, strict=True)))
    said = []
    series = read_series(write(tmp_path / "x.csv", frame), say=said.append)
    assert (series.item_id, series.timestamp, series.targets) == (*names[:2], [names[2]])
    assert said == [
        "left out: price, region (name what helps by --known-covariates, --past-covariates or "
        "--static-covariates)"
    ]
    pd.testing.assert_frame_equal(series.frame, frame[list(names)], check_dtype=False)


def test_rows_of_every_item_are_sorted_averaged_and_filled(tmp_path):
    frame = shops()
    messy = frame.drop([7, 8, 50]).sample(frac=1, random_state=0)
    messy = pd.concat([messy, messy.tail(1).assign(sold=lambda f: f["sold"] + 2)])
    columns = Columns(item=["shop"], target=["sold"], known=["price"], static=["region"])
    said = []
    path = write(tmp_path / "x.csv", messy)
    read = read_series(path, columns, say=said.append).frame.sort_values(["shop", "day"])
    assert said == [
        "1 repeated stamps: averaged",
        "3 rows missing at frequency 'D', in 2 series: taken as missing values",
    ]
    assert list(read["day"]) == list(frame["day"])
    assert list(read["region"]) == list(frame["region"])
    missing = read["sold"].isna().to_numpy()
    assert missing.nonzero()[0].tolist() == [7, 8, 50]
    changed = int(messy.index[-1])
    expected = frame["sold"] + np.where(frame.index == changed, 1, 0)
    np.testing.assert_allclose(read["sold"].to_numpy()[~missing], expected[~missing])


def test_several_columns_identify_a_series(tmp_path):
    frame = shops()
    two = pd.concat([frame.assign(kind="a"), frame.assign(kind="b")])
    path = write(tmp_path / "x.csv", two)
    with pytest.raises(ValueError, match="many series in one file, name .* --item-column shop,"):
        read_series(path, say=lambda line: None)
    with pytest.raises(ValueError, match="50% of the rows repeat a time of their series"):
        read_series(path, Columns(item=["shop"], target=["sold"]), say=lambda line: None)
    series = read_series(path, Columns(item=["shop", "kind"], target=["sold"]))
    assert series.item_id == "shop/kind"
    assert set(series.frame["shop/kind"]) == {"north/a", "north/b", "south/a", "south/b"}


def test_what_to_forecast_must_be_clear(tmp_path):
    path = write(tmp_path / "x.csv", shops())
    with pytest.raises(
        ValueError, match=r"name it by --target \(columns of numbers: \['sold', 'pr"
    ):
        read_series(path, Columns(item=["shop"]), say=lambda line: None)
    for role in ("target", "past", "known", "static"):
        with pytest.raises(
            ValueError, match=r"--\w+.*: there is no column 'prize' .*; the file has"
        ):
            read_series(path, Columns(**{role: ["prize"]}, item=["shop"]))
    with pytest.raises(ValueError, match="--known-covariates: column 'region' holds 'n'"):
        read_series(path, Columns(item=["shop"], target=["sold"], known=["region"]))


def test_a_plan_has_the_form_of_the_series(tmp_path):
    frame = shops(50)
    now, later = frame["day"] < "2024-02-10", frame["day"] >= "2024-02-10"
    columns = Columns(item=["shop"], target=["sold"], known=["price"])
    series = read_series(write(tmp_path / "x.csv", frame[now]), columns)
    names = {"item_id": series.item_id, "timestamp": series.timestamp}
    path = write(tmp_path / "p.csv", frame[later].drop(columns="sold"))
    plan = read_plan(path, columns, **names)
    assert list(plan) == ["shop", "day", "price"]
    assert plan["day"].min() == pd.Timestamp("2024-02-10")
    with pytest.raises(ValueError, match="--future: there is no column 'price'"):
        read_plan(write(tmp_path / "q.csv", frame[["shop", "day"]]), columns, **names)
    wide = frame[frame["shop"] == "north"][["day", "sold", "price"]]
    columns = Columns(target=["sold"], known=["price"])
    series = read_series(write(tmp_path / "w.csv", wide.head(40)), columns)
    path = write(tmp_path / "v.csv", wide.tail(10)[["day", "price"]])
    plan = read_plan(path, columns, item_id=None, timestamp=series.timestamp)
    assert list(plan.index) == list(wide["day"].tail(10))


def test_hours_with_a_gap_of_seventeen_are_no_business_hours(tmp_path):
    index = pd.date_range("2024-01-01", periods=800, freq="h")
    frame = pd.DataFrame({"t": index, "x": np.sin(np.arange(800.0))}).drop(range(300, 316))
    said = []
    read = read_frame(write(tmp_path / "x.csv", frame), say=said.append)
    assert said == ["16 rows missing at frequency 'h': taken as missing values"]
    assert list(read.index) == list(index)
    office = index[(index.dayofweek < 5) & (index.hour >= 9) & (index.hour < 17)]
    frame = pd.DataFrame({"t": office, "x": np.sin(np.arange(len(office)))})
    assert list(read_frame(write(tmp_path / "y.csv", frame)).index) == list(office)


@pytest.mark.parametrize(("start", "step"), [(0, 1), (100, 5)])
def test_a_column_that_rises_by_a_constant_step_is_the_time(start, step, tmp_path):
    t = start + step * np.arange(60)
    path = write(tmp_path / "x.csv", pd.DataFrame({"y": np.sin(t), "t": t}))
    said = []
    read = read_frame(path, say=said.append)
    assert said == [f"column 't' rises by {step} from row to row: taken as the time"]
    assert list(read.index) == list(t)
    assert list(read) == ["y"]
    assert list(read_frame(path, columns=["y", "t"])) == ["y", "t"]  # unless it is a target


def test_a_few_unreadable_cells_are_said_and_missing(tmp_path):
    frame = pd.DataFrame({"x": np.arange(600.0) % 9, "y": np.arange(600.0) % 5})
    text = frame.astype(str)
    text.loc[::50, "x"] = "?"
    text.loc[1::300, "y"] = ["n. a.", "-"]
    said = []
    read = read_frame(write(tmp_path / "x.csv", text), say=said.append)
    assert said[1:] == [
        "column 'x': 12 of 600 values are not numbers ('?'); taken as missing",
        "column 'y': 2 of 600 values are not numbers ('n. a.', '-'); taken as missing",
    ]
    assert read["x"].isna().sum() == 12
    np.testing.assert_allclose(read["x"].dropna(), frame["x"][read["x"].notna()])
    series = read_series(tmp_path / "x.csv", Columns(missing=["?", "-", "n. a."]), say=said.append)
    assert len(said) == 4  # the codes are known
    assert series.frame.isna().sum().tolist() == [12, 2]
    (tmp_path / "s.csv").write_text("a;b\n" + "1.000,5;1\n" * 20 + "?;2\n")
    assert read_frame(tmp_path / "s.csv")["a"].tolist()[:20] == [1000.5] * 20


def test_codes_of_missing_values_are_named(tmp_path):
    x = np.sin(np.arange(300.0))
    x[::40] = -9999
    path, said = write(tmp_path / "x.csv", pd.DataFrame({"x": x})), []
    read_frame(path, say=said.append)
    assert "column 'x': 8 values are -9999, which looks like a code for a missing value" in said[1]
    read = read_series(path, Columns(missing=["-9999"])).frame
    assert read["x"].isna().sum() == 8


def test_dates_in_a_given_format(tmp_path):
    frame = make_series(12, 1, freq="D", random_state=0)
    text = frame.assign(t=frame.index.strftime("%m-%Y-%d"))[["t", "y0"]]
    path = write(tmp_path / "x.csv", text)
    read = read_series(path, Columns(date_format="%m-%Y-%d")).frame
    assert list(read.index) == list(frame.index)


def test_a_frequency_that_is_given_brings_rows_to_it(tmp_path):
    index = pd.DatetimeIndex(["2024-01-01 00:10", "2024-01-01 00:50", "2024-01-01 02:20"])
    path = write(tmp_path / "x.csv", pd.DataFrame({"t": index, "x": [1.0, 3.0, 5.0]}))
    series = read_series(path, Columns(freq="h"))
    assert series.frame["x"].fillna(-1).tolist() == [2, -1, 5]
    assert series.parameters["freq"] == "h"
    assert len(read_series(path, Columns(freq="irregular")).frame) == 3


def test_a_workbook_is_read_by_openpyxl_or_refused_clearly(tmp_path, monkeypatch):
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04")
    (tmp_path / "x.csv").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="it is a zip archive or an Excel workbook"):
        read_frame(tmp_path / "x.csv")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="save it as CSV, or pip install openpyxl"):
        read_frame(tmp_path / "x.xlsx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    sheets = {"first": pd.DataFrame({"a": [1, 2, 4]}), "second": pd.DataFrame()}
    monkeypatch.setattr(pd, "read_excel", lambda *_, **__: sheets)
    said = []
    assert read_frame(tmp_path / "x.xlsx", say=said.append)["a"].tolist() == [1, 2, 4]
    assert said[0] == "the workbook has 2 sheets: read 'first', the first one"


def test_times_without_a_usual_distance_ask_for_a_frequency(tmp_path):
    minutes = np.cumsum(np.random.default_rng(0).integers(1, 9, 60))
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, "min")
    frame = pd.DataFrame({"day": times, "sold": 1.0, "shop": "a"})
    for item in (None, ["shop"]):
        columns = Columns(item=item, target=["sold"])
        with pytest.raises(ValueError, match="no usual distance .* give --freq, the frequency"):
            read_series(write(tmp_path / "x.csv", frame), columns, say=lambda line: None)


def test_flags_that_are_forecast_are_named(tmp_path):
    frame = pd.DataFrame({"y": np.arange(30.0) % 7, "promo": np.arange(30) % 2})
    path, said = write(tmp_path / "x.csv", frame), []
    read_frame(path, say=said.append)
    assert said[1].startswith("forecast like the others, though only 0 and 1: promo")
    said.clear()
    read_series(path, Columns(target=["y"], known=["promo"]), say=said.append)
    assert len(said) == 1


def test_a_name_that_is_near_is_proposed(tmp_path):
    path = write(tmp_path / "x.csv", shops())
    with pytest.raises(ValueError, match=r"no column 'prize' \(did you mean 'price'\?\)"):
        read_series(path, Columns(target=["prize"]))
