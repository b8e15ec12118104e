"""Times of every type, zone and unit: what they are read as, and how forecasts continue them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.forecasting.cases import small
from titans_ts import TitansForecaster
from titans_ts.forecasting.parse import read_panel

N = 52
DAYS = pd.date_range("2024-01-01", periods=N)
VALUES = np.sin(np.arange(N) / 3)


def clock_days(start, n, freq, zone):
    """Days of a local clock, written here by hand: the first time of each that exists."""
    days = pd.date_range(start, periods=n, freq=freq)
    return days.tz_localize(zone, ambiguous=np.ones(n, bool), nonexistent="shift_forward")


def forms(times, values=VALUES):
    """The same times as an index, a column and a column of a long frame."""
    frame = pd.DataFrame({"timestamp": times, "v": values})
    yield frame
    yield frame.assign(item_id="a")
    if not isinstance(times, list):
        yield frame.set_index("timestamp")
        yield frame.set_index("timestamp")["v"]


ARROW = ["timestamp[ns][pyarrow]", "timestamp[us][pyarrow]", pd.ArrowDtype(pa.date32())]


@pytest.mark.parametrize("dtype", ARROW, ids=str)
def test_times_of_pyarrow(dtype):
    days = DAYS.date if "date" in str(dtype) else DAYS
    for X in forms(pd.Series(days, dtype=dtype)):
        future = read_panel(X).future(3)
        np.testing.assert_array_equal(future, pd.date_range("2024-02-22", periods=3))


@pytest.mark.parametrize("dtype", ["float64", "Float64", "Int64", "object", "int64[pyarrow]"])
@pytest.mark.parametrize("first", [0, 1900])
def test_whole_numbers_of_any_type_count_steps(dtype, first):
    """They were read as nanoseconds since 1970."""
    for X in forms(pd.Series(np.arange(first, first + N)).astype(dtype)):
        assert list(read_panel(X).future(2)) == [first + N, first + N + 1]


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf])
def test_numbers_that_are_neither_times_nor_whole_are_refused(bad):
    numbers = np.arange(float(N))
    numbers[7] = bad
    for X in forms(numbers):
        with pytest.raises(TypeError, match="in row 7, which is neither a time nor a whole number"):
            read_panel(X)


def day_first(n):
    return [f"01/{m % 12 + 1:02d}/{2020 + m // 12}" for m in range(n)]


@pytest.mark.parametrize("options", [{}, {"freq": "MS"}])
def test_texts_are_read_in_the_order_that_makes_them_regular(options):
    for X in forms(day_first(48), np.arange(48.0)):
        forecast = small(**options).fit(X).predict()
        times = forecast.get("timestamp", forecast.index)
        assert list(times) == list(pd.date_range("2024-01-01", periods=4, freq="MS"))
        with pytest.raises(ValueError, match="'01/01/2020', whose day, month and year can be read"):
            read_panel(X[:12])


def test_texts_with_several_offsets_from_utc_are_refused():
    texts = [str(t) for t in pd.date_range("2024-03-25", periods=N, tz="Europe/Berlin")]
    for X in forms(texts):
        with pytest.raises(ValueError, match=r"several offsets from UTC \(\+01:00, \+02:00\)"):
            read_panel(X)


def test_a_cell_without_a_time_is_named():
    texts = [str(day.date()) for day in DAYS]
    texts[5] = "soon"
    for X in forms(texts):
        with pytest.raises(ValueError, match="'timestamp' holds no times .'soon' in row 5"):
            read_panel(X)


ZONES = [
    ("America/Santiago", "2024-07-15", "D"),  # the clocks jump over a midnight of the forecast
    ("America/Santiago", "2024-08-15", "D"),  # ... of the history
    ("America/Santiago", "2024-09-08", "D"),  # ... which is its first row
    ("America/Santiago", "2024-07-19", "D"),  # ... its last one
    ("America/Havana", "2024-09-20", "D"),  # a day with two midnights
    ("Africa/Cairo", "2024-03-10", "D"),
    ("Asia/Beirut", "2023-04-09", "W"),
    ("Europe/Berlin", "2024-02-15", "2D"),
]


@pytest.mark.parametrize(("zone", "start", "freq"), ZONES)
def test_days_without_a_midnight_or_with_two(zone, start, freq, tmp_path):
    days = clock_days(start, N + 8, freq, zone)
    for X in forms(days[:N]):
        fitted = small().fit(X)
        forecast = fitted.predict()
        times = forecast.get("timestamp", forecast.index)
        assert list(times) == list(days[N : N + 4])
        new = [x for x in forms(days[N : N + 4], VALUES[:4]) if type(x) is type(X)]
        new = [x for x in new if x.shape[1:] == X.shape[1:]][-1]
        if "timestamp" not in X:
            fitted.update(new)
            assert list(fitted.predict().index) == list(days[N + 4 :])
    fitted.save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    pd.testing.assert_series_equal(loaded.predict(), fitted.predict(), check_freq=False)


def test_hours_over_the_change_of_clocks():
    hours = pd.date_range("2024-10-26", periods=60, freq="h", tz="Europe/Berlin")
    for n in range(40, 56):
        assert list(read_panel(pd.Series(np.arange(n), hours[:n])).future(3)) == list(
            hours[n : n + 3]
        )


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_forecasts_have_the_unit_of_the_times(unit, tmp_path):
    for X in forms(DAYS.as_unit(unit)):
        fitted = small().fit(X)
        fitted.save(tmp_path / "model")
        for model in (fitted, TitansForecaster.load(tmp_path / "model")):
            forecast = model.predict()
            times = forecast.get("timestamp", forecast.index)
            assert times.dtype == f"datetime64[{unit}]"


@pytest.mark.parametrize("start", ["1000-01-01", "2262-03-01", "2300-01-01"])
def test_years_that_nanoseconds_cannot_hold(start):
    days = np.datetime64(start) + np.arange(N + 1)
    forecast = small().fit(pd.Series(VALUES, days[:-1].astype("M8[s]"))).predict()
    assert forecast.index[0] == days[-1]


def test_a_frequency_needs_times():
    for X in (VALUES, VALUES[:, None]):
        with pytest.raises(ValueError, match="freq is 'D', but X is an array, which has no times"):
            small(freq="D").fit(X)


@pytest.mark.parametrize("long", [False, True])
def test_weeks_of_a_zone_whose_clocks_change_at_midnight(long):
    # there is no Sunday midnight on 2024-09-08: the week begins at 01:00
    days = pd.date_range("2024-08-01 12:00", periods=51, tz="America/Santiago")
    frame = pd.DataFrame({"v": np.arange(51.0)}, days)
    if long:
        frame = frame.assign(item_id="a", timestamp=days)
    forecaster = TitansForecaster.from_pretrained(2, freq="W-SUN")
    found = forecaster.predict(frame)
    plain = forecaster.predict(
        frame.assign(timestamp=days.tz_localize(None)) if long else frame.tz_localize(None)
    )
    np.testing.assert_allclose(found["v"], plain["v"])
    times = pd.DatetimeIndex(found["timestamp"]) if long else found.index
    assert [str(t) for t in times] == ["2024-09-29 00:00:00-03:00", "2024-10-06 00:00:00-03:00"]
