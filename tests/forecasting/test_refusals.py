"""Arguments and values that were once ignored, or led to results without a meaning."""

from __future__ import annotations

import decimal
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from tests.forecasting.cases import H, L, small
from titans_ts import TitansForecaster
from titans_ts.forecasting.frequency import cycle_phase, usual_season
from titans_ts.forecasting.metrics import seasonal_error

N = 80
WAVE = np.sin(np.arange(N) / 5)
DAYS = pd.date_range("2024-01-01", periods=N)
COUNTS = np.random.default_rng(0).poisson(1.5, (N, 2)).astype(float)


def long(**names):
    frame = pd.DataFrame({"item_id": "a", "timestamp": DAYS, "v": WAVE})
    frame = pd.concat([frame, frame.assign(item_id="b", v=WAVE * 2)], ignore_index=True)
    return frame.rename(columns=names)


@pytest.fixture(scope="module")
def counting():
    return small(output="negative_binomial").fit(COUNTS)


@pytest.mark.parametrize("coverage", [0.5, 0.99, np.float32(0.99)])
def test_intervals_of_counts_do_not_go_below_zero(counting, coverage):
    interval = counting.predict_interval(coverage=coverage)
    assert interval.min() >= 0
    assert (interval[..., 0] <= interval[..., 1]).all()
    backtest = counting.backtest(COUNTS, stride=1)
    low, high = backtest.adaptive_interval(coverage, calibration_windows=20)
    assert low.min() >= 0
    assert (low <= high).all()


@pytest.mark.parametrize(
    "use",
    [
        lambda f: f.predict(COUNTS + 0.5),
        lambda f: f.predict(-COUNTS),
        lambda f: f.predict(np.full((3, L, 2), 0.5)),
        lambda f: f.update(COUNTS[:3] + 0.5),
        lambda f: f.backtest(COUNTS + 0.5),
        lambda f: f.set_history(COUNTS + 0.5),
    ],
)
def test_what_are_no_counts_is_refused_after_the_fit_too(counting, use):
    with pytest.raises(ValueError, match="counts are whole numbers of at least 0"):
        use(counting)


RESULTS = ["step", "variate", "actual", "titans", "window", "value", "score", "q0.5"]


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("role", ["item_id", "timestamp"])
def test_columns_of_results_are_no_names_of_items_and_times(role, name):
    with pytest.raises(ValueError, match=f"{role} is '{name}', which is a column of the results"):
        small(**{role: name}).fit(long(**{role: name}))


def test_items_may_be_called_item():
    frame = long(item_id="item")
    fitted = small(item_id="item").fit(frame)
    assert list(fitted.backtest(frame).frame())[:4] == ["window", "item", "step", "timestamp"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"random_state": 3.5}, ValueError, "random_state is 3.5; give a whole number"),
        ({"random_state": "x"}, ValueError, "random_state is 'x'; give a whole number"),
        ({"freq": 10**30}, ValueError, "freq is 10+, which is no frequency of pandas"),
        ({"item_id": ["a"]}, TypeError, r"item_id is \['a'\]; give the name of one column"),
        ({"item_id": "timestamp"}, ValueError, "item_id and timestamp are both 'timestamp'"),
    ],
)
def test_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        small(**options).fit(long())


@pytest.mark.parametrize("season_length", [0, -1, 1.5])
def test_a_seasonal_error_needs_a_season(season_length):
    with pytest.raises(ValueError, match="season_length is"):
        seasonal_error([1.0, 2.0, 4.0, 9.0], season_length)


@pytest.mark.parametrize(
    ("freq", "season"), [("BME", 12), ("BMS", 12), ("BQE", 4), ("BQS", 4), ("BYE", 1), ("CBMS", 12)]
)
def test_business_months_and_quarters_have_the_season_of_months_and_quarters(freq, season):
    assert usual_season(freq) == season
    times = pd.date_range("2020-01-01", periods=30, freq=freq)
    phase = cycle_phase(times, freq, 12)
    np.testing.assert_array_equal(np.diff(phase) % 12, 1)


def test_a_variate_without_a_value_is_named():
    X = np.stack([WAVE, WAVE * np.nan], 1)
    with pytest.warns(UserWarning, match=r"no value in the columns \[1\]; their forecasts are NaN"):
        fitted = small().fit(X)
    assert np.isnan(fitted.predict()[:, 1]).all()
    frame = pd.DataFrame(X, DAYS, ["a", "b"])
    with pytest.warns(UserWarning, match=r"columns \['b'\]"):
        small().fit(frame)


def test_levels_are_the_numbers_that_were_meant():
    fitted = small(quantile_levels=np.linspace(0.1, 0.9, 9)).fit(pd.DataFrame({"a": WAVE}, DAYS))
    assert list(fitted.predict_quantiles()["a"]) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_ids_of_another_type_are_new_items_with_a_warning():
    frame = long()
    frame["item_id"] = (frame["item_id"] == "b") + 1
    fitted = small().fit(frame)
    with pytest.warns(UserWarning, match="item '1' of X is taken as a new one: .* item is 1, of"):
        fitted.predict(frame.assign(item_id=frame["item_id"].astype(str)))
    with pytest.raises(ValueError, match="item 7 is not one of the series"):
        fitted.update(frame[-3:].assign(item_id=7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.predict(frame[:N].assign(item_id=7))


def test_tuples_are_names_of_items():
    frame = long()
    frame["item_id"] = [(name, 1) for name in frame["item_id"]]
    forecast = small().fit(frame).predict()
    assert list(forecast["item_id"]) == [("a", 1)] * H + [("b", 1)] * H


def test_frames_of_polars_and_decimals_and_tensors():
    frame = pl.from_pandas(long())
    with pytest.raises(TypeError, match=r"X is a LazyFrame, which has no values yet; give X.coll"):
        small().fit(frame.lazy())
    expected = small().fit(frame.with_columns(pl.col("v").round(3))).predict()
    for decimals in (
        frame.with_columns(pl.col("v").round(3).cast(pl.Decimal(10, 3))),
        long().assign(v=[decimal.Decimal(f"{v:.3f}") for v in long()["v"]]),
    ):
        pd.testing.assert_frame_equal(small().fit(decimals).predict(), expected)
    expected = small().fit(WAVE).predict()
    learning = torch.tensor(WAVE, requires_grad=True)
    fitted = small().fit(learning)
    np.testing.assert_array_equal(fitted.predict(), expected)
    np.testing.assert_array_equal(fitted.predict(learning), expected)
    fitted.update(torch.tensor(WAVE[:3]).bfloat16().requires_grad_())


def test_a_fit_is_in_float32_and_with_gradients_whatever_is_set():
    expected = small().fit(WAVE).predict()
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(small().fit(WAVE).predict(), expected)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        np.testing.assert_array_equal(small().fit(WAVE).predict(), expected)


def test_the_column_of_the_time_is_named():
    frame = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=40), "x": np.arange(40.0)})
    for column in (frame["day"], frame["day"].astype(str)):
        with pytest.raises(TypeError, match="column 'day' holds times .* give timestamp='day'"):
            small().fit(frame.assign(day=column))
    nixtla = frame.rename(columns={"day": "ds", "x": "y"}).assign(unique_id="a")
    with pytest.raises(ValueError, match="give item_id='unique_id', timestamp='ds' and target='y'"):
        small().fit(nixtla)
    with pytest.raises(TypeError, match="or as item_id if it names the series"):
        small(timestamp="day").fit(frame.assign(shop="north"))


ALONE = pd.DataFrame({"v": [1.0]}, pd.DatetimeIndex(["2024-01-01"]))
FAR = pd.DataFrame({"v": [1.0, 2.0]}, pd.DatetimeIndex(["1700-01-01", "2200-01-01"]))
LATE = pd.Series(WAVE[:9], pd.date_range("2262-01-26", periods=9, freq="W"))
MIXED = [
    pd.Timestamp("2024-01-01", tz="UTC"),
    "2024-01-02",
    pd.Timestamp("2024-01-03", tz="Asia/Tokyo"),
]


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        ([[1.0], [2.0, 3.0]], {}, "X is a list that is not numeric"),
        ([10**400, 1], {}, "X is a list that is not numeric"),
        (pd.Series([], dtype=float), {}, "X has 0 rows; give at least one"),
        (ALONE.iloc[:0], {"season_length": 7}, "X has 0 rows; give at least one"),
        (ALONE, {"season_length": 7}, "X has 1 row, which has no frequency; give more rows"),
        (ALONE, {"target": []}, r"target is \(\); give at least one column"),
        (ALONE.set_axis([np.nan], axis=1), {}, "X has a column called nan; rename it"),
        (ALONE, {"freq": "0D"}, "freq is '0D'; a step must be longer than 0"),
        (ALONE, {"freq": "-1D"}, "freq is '-1D'; a step must be longer than 0"),
        (FAR, {"freq": "s"}, "steps of frequency 's'; give a longer step as freq"),
        (FAR.assign(item_id="a", timestamp=FAR.index), {"freq": "s"}, "give a longer step as freq"),
        (LATE, {}, "beyond the times of unit 'ns' .*; give a shorter series, or times of unit 's'"),
        (pd.DataFrame({"timestamp": MIXED, "v": 1.0}), {}, "column 'timestamp' holds"),
    ],
)
def test_series_without_a_fit_are_refused_by_name(X, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TitansForecaster.from_pretrained(H, **options).predict(X)


def test_a_column_may_have_no_name_and_be_resampled():
    hours = pd.date_range("2024-01-01", periods=96, freq="h")
    frame = pd.DataFrame({"a": np.arange(96.0), "b": True}, hours)
    frame.columns = pd.Index([None, 1.5], dtype=object)
    found = TitansForecaster.from_pretrained(H, freq="D").predict(frame)
    named = TitansForecaster.from_pretrained(H, freq="D").predict(
        frame.set_axis(["a", "b"], axis=1)
    )
    assert list(found) == [None, 1.5]
    np.testing.assert_array_equal(found, named)


def test_a_history_that_no_forecast_can_follow_is_refused():
    fitted = small().fit(WAVE)
    before = fitted.predict()
    with pytest.raises(ValueError, match=r"X has the value 1e\+40, which is"):
        fitted.set_history(np.append(WAVE, 1e40))
    np.testing.assert_array_equal(fitted.predict(), before)


def test_a_refused_call_keeps_the_series_that_is_followed_without_a_fit():
    forecaster = TitansForecaster.from_pretrained(H)
    before = forecaster.predict(WAVE)
    for refused in (
        lambda: forecaster.calibrate(np.full(30, np.nan)),
        lambda: forecaster.predict_interval(WAVE[:30], coverage=2),
        lambda: forecaster.backtest(WAVE[:30], season_length=0.5),
        lambda: forecaster.predict(WAVE[:30], known_covariates=WAVE[:4]),
    ):
        with pytest.raises((TypeError, ValueError)):
            refused()
        np.testing.assert_array_equal(forecaster.predict(), before)


def test_forecasts_without_a_value_to_start_from_give_a_warning():
    X = np.stack([WAVE, WAVE * np.nan], 1)
    with pytest.warns(UserWarning, match="column 1 has no value among the latest rows"):
        found = TitansForecaster.from_pretrained(H).predict(X)
    assert np.isnan(found).tolist() == [[False, True]] * H
