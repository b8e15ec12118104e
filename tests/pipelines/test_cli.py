"""The command line as a person uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support import small_settings
from titans_ts import TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.pipelines import read_frame
from titans_ts.pipelines.cli import app, main

TINY = ["--prediction-length", "4", "--max-epochs", "1", "--quiet"]


@pytest.fixture
def csv(tmp_path):
    frame = make_series(200, 2, freq="h", seasons=(12,), random_state=0)
    path = tmp_path / "data.csv"
    frame.rename_axis("when").assign(note="x").to_csv(path)
    return path


def test_forecast_writes_table_picture_report_and_model(csv, tmp_path):
    out, report, model = (tmp_path / name for name in ("out", "page/report.html", "model"))
    result = CliRunner().invoke(
        app,
        ["forecast", str(csv), *TINY, "--out", str(out), "--report", str(report)]
        + ["--save", str(model)],
    )
    assert result.exit_code == 0, result.output
    assert "left out, not numbers: note" in result.output
    assert "seasonal naive" in result.output
    table = pd.read_csv(out / "forecast.csv", index_col=0, parse_dates=True)
    assert list(table)[:4] == ["y0", "y0_q0.1", "y0_q0.5", "y0_q0.9"]
    index = pd.read_csv(csv, index_col=0, parse_dates=True).index
    assert list(table.index) == list(pd.date_range(index[-1], periods=5, freq="h")[1:])
    assert (out / "forecast.png").read_bytes().startswith(b"\x89PNG")
    page = report.read_text()
    assert 'src="http' not in page
    assert "seasonal naive repeats the last" in page
    assert "Left out, not numbers: note" in page
    loaded = TitansForecaster.load(model)
    frame = read_frame(csv)
    median = loaded.predict_quantiles(frame)["y0", 0.5]
    np.testing.assert_allclose(median, table["y0"])
    assert list(loaded.predict().index) == list(table.index)
    assert (table["y0"].between(table["y0_q0.1"], table["y0_q0.9"])).all()


def test_the_context_follows_from_the_data_unless_it_is_given(csv, tmp_path):
    command = ["forecast", str(csv), *TINY, "--out", str(tmp_path)]
    for option, line in (
        ([], "a forecast reads 45 steps, 11 in a token"),
        (["--context-length", "16"], "a forecast reads 16 steps, 4 in a token"),
    ):
        result = CliRunner().invoke(app, [*command, *option])
        assert result.exit_code == 0, result.output
        assert line in result.output.splitlines()


def test_the_preset_reaches_the_model(csv, tmp_path):
    command = ["forecast", str(csv), *TINY, "--preset", "fast", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--save", str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    loaded = TitansForecaster.load(tmp_path / "model")
    assert (loaded.preset, loaded.model_.config.backbone.n_layers) == ("fast", 0)


def test_a_forecast_without_a_fit_has_a_picture_of_the_history(csv, tmp_path):
    out = tmp_path / "out"
    command = ["forecast", str(csv), "--prediction-length", "8", "--preset", "zero-shot"]
    result = CliRunner().invoke(app, [*command, "--out", str(out), "--report", str(out / "r.html")])
    assert result.exit_code == 0, result.output
    assert "nothing was fitted" in result.output
    assert (out / "forecast.png").stat().st_size > 10_000
    assert "pretrained, not fitted" in (out / "r.html").read_text()


def test_memory_reports_on_a_saved_forecaster(csv, tmp_path):
    model, plot = tmp_path / "model", tmp_path / "memory.png"
    idle = {"memory": {"write": False}}
    forecaster = TitansForecaster(
        4, 16, **small_settings(patch_length=8, patch_stride=4), model_options=idle
    )
    forecaster.fit(read_frame(csv)).save(model)
    result = CliRunner().invoke(
        app, ["memory", str(csv), "--model", str(model), "--plot", str(plot)]
    )
    assert result.exit_code == 0, result.output
    assert "Memory of a TitansForecaster with 1 MAC blocks; " in result.output
    assert (
        "The memory is idle: with its write off the outputs change by 0.0 %, and" in result.output
    )
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_same_seed_same_table(csv, tmp_path):
    tables = []
    for name in ("a", "b"):
        arguments = ["forecast", str(csv), *TINY, "--out", str(tmp_path / name)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        tables.append((tmp_path / name / "forecast.csv").read_text())
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv", *TINY], "titans-ts: absent.csv: no such file"),
        (
            ["{csv}", *TINY, "--columns", "y7"],
            "there is no column 'y7' (did you mean 'y",
        ),
        (["{csv}", *TINY, "--time-column", "t"], "there is no column 't'"),
        (["{csv}", *TINY, "--time-column", "note"], "holds 'x' in row 0, which is no date"),
        (["{csv}", *TINY, "--variant", "mab"], "variant is 'mab'; choose one of"),
        (["{csv}", *TINY, "--preset", "good"], "preset is 'good'; choose one of"),
        (
            ["{csv}", "--prediction-length", "100", "--quiet"],
            "the series has 200 rows; holding out",
        ),
    ],
)
def test_mistakes_end_in_one_line(csv, arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = [a.format(csv=csv) for a in arguments]
    monkeypatch.setattr(sys, "argv", ["titans-ts", "forecast", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    *notes, last = error.splitlines()
    assert message in last
    assert last.startswith("titans-ts: ")
    assert not any(line.startswith(("titans-ts", "Traceback")) for line in notes)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv"]


def test_files_as_they_come(tmp_path):
    """Unsorted, repeated and missing stamps are mended, and each is said."""
    frame = make_series(50, 1, freq="h", random_state=0).rename_axis("t").reset_index()
    rows = [3, 1, 2, 0, 0, *range(4, 20), *range(22, 50)]
    messy = frame.iloc[rows].copy()
    messy.iloc[4, 1] += 2.0
    messy.to_csv(tmp_path / "m.csv.gz", index=False)
    lines = []
    read = read_frame(tmp_path / "m.csv.gz", say=lines.append)
    assert [line.split(":")[0] for line in lines] == [
        "the rows were not in order of time",
        "1 repeated stamps",
        "2 rows missing at frequency 'h'",
    ]
    assert read["y0"].isna().sum() == 2
    assert read.index.equals(pd.date_range("2024-01-01", periods=50, freq="h", name="t"))
    assert read["y0"].iloc[0] == pytest.approx(frame["y0"].iloc[0] + 1.0)
    np.testing.assert_allclose(read["y0"].iloc[22:], frame["y0"].iloc[22:])

    frame.drop(columns="t").to_csv(tmp_path / "n.csv", index=False)
    lines.clear()
    assert isinstance(read_frame(tmp_path / "n.csv", say=lines.append).index, pd.RangeIndex)
    assert lines == ["no column of dates found: the rows are taken as equally spaced, in order"]

    odd = frame.assign(t=frame["t"].where(frame.index != 7, frame["t"] + pd.Timedelta("7min")))
    odd.to_csv(tmp_path / "o.csv", index=False)
    with pytest.raises(ValueError, match="1 stamps, the first 2024-01-01 07:07:00, do not lie on"):
        read_frame(tmp_path / "o.csv")


def write(path, frame, form="%Y-%m-%d", **options):
    frame = frame.rename_axis("t").reset_index()
    frame.assign(t=frame["t"].dt.strftime(form)).to_csv(path, index=False, **options)


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d %b %Y"])
@pytest.mark.parametrize("freq", ["D", "MS"])
def test_dates_are_read_in_one_way_throughout(form, freq, tmp_path):
    frame = make_series(300, 1, freq=freq, random_state=0, start="2000-01-01")
    write(tmp_path / "d.csv", frame, form)
    lines = []
    read = read_frame(tmp_path / "d.csv", say=lines.append)
    assert lines == []
    assert list(read.index) == list(frame.index)


def test_dates_that_can_be_read_in_two_ways_are_refused(tmp_path):
    (tmp_path / "d.csv").write_text("t,x\n01/02/2024,1\n05/03/2024,2\n04/07/2024,3\n")
    with pytest.raises(
        ValueError, match="holds '01/02/2024', whose day, month and year can be read in"
    ):
        read_frame(tmp_path / "d.csv")


def test_separators_decimals_encodings_and_row_numbers(tmp_path):
    frame = make_series(40, 2, freq="D", random_state=0)
    write(tmp_path / "a.csv", frame.rename(columns={"y0": "Größe"}), sep=";", decimal=",")
    (tmp_path / "b.csv").write_bytes((tmp_path / "a.csv").read_text().encode("latin-1"))
    frame.reset_index(names="t").to_csv(tmp_path / "c.csv", sep="\t")  # with pandas' row numbers
    for name, said in (("a.csv", 0), ("b.csv", 1), ("c.csv", 0)):
        lines = []
        read = read_frame(tmp_path / name, say=lines.append)
        np.testing.assert_allclose(read.to_numpy(), frame.to_numpy(), rtol=1e-6)
        assert len(lines) == said, lines
    assert read_frame(tmp_path / "b.csv").columns[0] == "Größe"
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(ValueError, match=r"e.csv: it cannot be read as a table \(No columns"):
        read_frame(tmp_path / "e.csv")
    (tmp_path / "f.csv").write_text("t,x\n2024-01-01,1\n,2\n2024-01-03,3\n2024-01-04,3\n")
    with pytest.raises(ValueError, match="column 't' holds nan in row 1, which is no date"):
        read_frame(tmp_path / "f.csv")


def test_scattered_stamps_do_not_become_millions_of_rows(tmp_path):
    fine = pd.date_range("2024-01-01", periods=12, freq="s")
    index = fine.append(pd.date_range("2024-01-02", periods=300, freq="D"))
    write(tmp_path / "s.csv", pd.DataFrame({"x": np.arange(312.0)}, index), "%Y-%m-%d %H:%M:%S")
    with pytest.raises(ValueError, match="do not lie on the usual frequency 'D'"):
        read_frame(tmp_path / "s.csv")


FORMS = {
    "year of two digits, day first": ("%d/%m/%y", "D"),
    "year of two digits, month first": ("%m/%d/%y", "D"),
    "year of two digits first": ("%y-%m-%d", "D"),
    "day first with the time": ("%d.%m.%Y %H:%M", "h"),
    "one number": ("%Y%m%d", "D"),
    "ISO with a zone": ("%Y-%m-%dT%H:%M:%S+00:00", "h"),
}


@pytest.mark.parametrize("name", FORMS)
def test_other_ways_to_write_a_time(name, tmp_path):
    form, freq = FORMS[name]
    frame = make_series(400, 1, freq=freq, random_state=0, start="2001-01-01")
    write(tmp_path / "d.csv", frame, form)
    read = read_frame(tmp_path / "d.csv", say=lambda line: None)
    assert list(read.index.tz_localize(None)) == list(frame.index)
    assert list(read.columns) == ["y0"]


def test_the_offset_may_change_within_a_column(tmp_path):
    index = pd.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"t": [s.isoformat() for s in index], "x": np.arange(60.0)})
    frame.to_csv(tmp_path / "d.csv", index=False)
    assert list(read_frame(tmp_path / "d.csv").index) == list(index.tz_convert("UTC"))


def test_date_and_time_of_day_in_two_columns_in_any_order(tmp_path):
    frame = make_series(400, 1, freq="15min", random_state=0)
    date, clock = frame.index.strftime("%Y-%m-%d"), frame.index.strftime("%H:%M")
    table = pd.DataFrame({"time": clock, "date": date, "x": frame["y0"].to_numpy()})
    for columns in (["time", "date", "x"], ["date", "time", "x"]):
        table[columns].to_csv(tmp_path / "d.csv", index=False)
        lines = []
        read = read_frame(tmp_path / "d.csv", say=lines.append)
        assert lines == ["the time is taken from 'date' and 'time' together"]
        assert list(read.index) == list(frame.index)
        assert list(read.columns) == ["x"]
    table[["time", "x"]].to_csv(tmp_path / "d.csv", index=False)
    assert isinstance(read_frame(tmp_path / "d.csv").index, pd.RangeIndex)  # no day, no date


def test_the_finest_column_of_dates_is_the_time_and_several_series_are_refused(tmp_path):
    frame = make_series(40, 1, freq="D", random_state=0).rename_axis("date").reset_index()
    frame.insert(0, "updated", "2025-01-01")
    frame.to_csv(tmp_path / "d.csv", index=False)
    assert list(read_frame(tmp_path / "d.csv").index) == list(frame["date"])
    both = pd.concat([frame.assign(item="a"), frame.assign(item="b")])
    both.to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(ValueError, match="'date' repeats 50% of its dates; give one row a time"):
        read_frame(tmp_path / "d.csv")


TABLES = {
    "German": ("date;price;count\n01.01.2024;0,5;0\n02.01.2024;1.001,5;1\n13.01.2024;7;2\n", ";"),
    "tab": ("date\tprice\tcount\n2024-01-01\t0,5\t0\n2024-01-02\t1001,5\t1\n2024-01-13\t7\t2\n", ""),
    "commas in a name": (
        'date;"price";count\n2024-01-01;0,5;0\n2024-01-02;1001,5;1\n2024-01-13;7;2\n', ""
    ),
    "separators in quotes": (
        'date,price,count,note\n2024-01-01,0.5,0,"a;b;c;d"\n2024-01-02,1001.5,1,"a;b;c;d"\n'
        '2024-01-13,7,2,"a;b;c;d"\n', ""
    ),
    "a separator at the end": (
        "date,price,count\n2024-01-01,0.5,0,\n2024-01-02,1001.5,1,\n2024-01-13,7,2,\n", ""
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_as_programs_write_them(name, tmp_path):
    (tmp_path / "d.csv").write_text(TABLES[name][0])
    read = read_frame(tmp_path / "d.csv", say=lambda line: None).dropna()
    assert read["price"].tolist() == [0.5, 1001.5, 7.0]
    assert read["count"].tolist() == [0, 1, 2]
    assert read.index[-1] == pd.Timestamp("2024-01-13")


def test_rows_that_do_not_fit_the_header_are_refused(tmp_path):
    (tmp_path / "d.csv").write_text("date,a\n2024-01-01,1,2\n2024-01-02,1,2\n2024-01-03,3,4\n")
    with pytest.raises(ValueError, match="line 2 has 3 fields, the header 2"):
        read_frame(tmp_path / "d.csv")


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="pandas reads Parquet through pyarrow")
    frame = make_series(40, 2, freq="h", random_state=0)
    frame.to_parquet(tmp_path / "p.parquet")
    pd.testing.assert_frame_equal(read_frame(tmp_path / "p.parquet"), frame, check_freq=False)


def test_awkward_columns_and_a_season_longer_than_the_context(tmp_path):
    """A constant column, a name with dollars, large levels; the season is never shortened."""
    frame = make_series(300, 1, freq="h", seasons=(24,), random_state=0)
    frame = frame.rename(columns={"y0": r"50% $\foo$"}).assign(flat=3.0)
    frame["large"] = 1e7 + frame.iloc[:, 0]
    write(tmp_path / "a.csv", frame, "%Y-%m-%d %H:%M")
    arguments = ["forecast", str(tmp_path / "a.csv"), *TINY, "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "season of 24" in result.output
    assert "inf" not in result.output
    table = pd.read_csv(tmp_path / "forecast.csv", index_col=0)
    assert table["large"].nunique() == 4
    assert (tmp_path / "forecast.png").is_file()


def test_a_folder_that_cannot_take_the_model_is_refused_before_training(csv, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    where = ["--save", str(tmp_path / "mine"), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["forecast", str(csv), *TINY, *where])
    assert isinstance(result.exception, ValueError)
    assert "is not a saved model" in str(result.exception)
    assert "seasonal naive" not in result.output


@pytest.mark.slow
def test_the_demo_beats_the_seasonal_naive_forecast(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--quiet", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "% lower than seasonal naive" in result.output
    names = {path.name for path in tmp_path.iterdir()}
    results = {"forecast.csv", "errors.csv", "forecast.png", "report.html"}
    assert names == results | {"demo.options.yaml"}


def test_a_missing_month_is_a_missing_value(tmp_path):
    frame = make_series(60, 1, freq="MS", random_state=0).rename_axis("t")
    frame.drop(frame.index[30]).to_csv(tmp_path / "m.csv")
    lines = []
    read = read_frame(tmp_path / "m.csv", say=lines.append)
    assert lines == ["1 rows missing at frequency 'MS': taken as missing values"]
    assert read["y0"].isna().to_numpy().nonzero()[0].tolist() == [30]


def test_help_and_version():
    help_text = CliRunner().invoke(app, ["forecast", "--help"]).output
    assert "--prediction-length" in help_text
    assert "--report" in help_text
    assert "default: two seasons" in " ".join(help_text.split())
    assert CliRunner().invoke(app, ["--version"]).output.startswith("titans-ts ")


def test_the_installed_command_runs():
    command = Path(sys.executable).parent / "titans-ts"
    result = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "forecast" in result.stdout
    assert "demo" in result.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_status_and_one_line(
    number, status, csv, tmp_path, monkeypatch, capsys
):
    before = signal.getsignal(number)
    monkeypatch.setattr(TitansForecaster, "fit", lambda *_: os.kill(os.getpid(), number))
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["titans-ts", "forecast", str(csv), *TINY, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert capsys.readouterr().err.endswith(f"\ntitans-ts: stopped by {number.name}\n")
    assert not (out / "forecast.csv").exists()
    assert signal.getsignal(number) == before


def table(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("given", [None, "when"])
@pytest.mark.parametrize(
    ("numbers", "first", "freq"),
    [
        (np.arange(1950, 2020), "1950-01-01", "YS-JAN"),
        (np.arange(1800, 2000, 5), "1800-01-01", "5YS-JAN"),
        ([y * 100 + m for y in range(2018, 2022) for m in range(1, 13)], "2018-01-01", "MS"),
    ],
)
def test_years_and_months_as_numbers(numbers, first, freq, given, tmp_path):
    said = []
    path = table(tmp_path / "x.csv", when=numbers, v=np.arange(len(numbers)) % 7)
    frame = read_frame(path, time_column=given, say=said.append)
    assert list(frame) == ["v"]
    assert list(frame.index) == list(pd.date_range(first, periods=len(numbers), freq=freq))
    assert "'when' is taken as " in said[0]


def test_columns_without_a_value_or_with_row_numbers_are_left_out(tmp_path):
    said, n = [], np.arange(30)
    path = table(tmp_path / "x.csv", row=n + 1, v=n % 7, empty=np.full(30, np.nan))
    assert list(read_frame(path, say=said.append)) == ["v"]
    assert "left out, without a value: empty" in said
    assert "column 'row' rises by 1 from row to row: taken as the time" in said
    with pytest.raises(ValueError, match="column 'empty' has no value"):
        read_frame(path, columns=["v", "empty"])
    assert list(read_frame(table(tmp_path / "y.csv", v=n))) == ["v"]


def test_messages_show_plain_numbers_and_separators_of_thousands(tmp_path):
    path = table(tmp_path / "x.csv", when=[3, 1, 2] * 10, v=np.arange(30) % 7)
    with pytest.raises(ValueError, match="column 'when' repeats 90% of its dates"):
        read_frame(path, time_column="when")
    path = table(tmp_path / "z.csv", when=[0.5, 1.5] * 10, v=np.arange(20) % 7)
    with pytest.raises(ValueError, match="column 'when' holds 0.5 in row 0, which is no date"):
        read_frame(path, time_column="when")
    said = []
    path = table(tmp_path / "y.csv", v=["1,005.20", "2,000.00", "999.00"])
    assert read_frame(path, say=said.append)["v"].tolist() == [1005.2, 2000, 999]
    assert said[1] == "column 'v': '1,005.20' has separators of thousands"
