"""Rolling forecasts: which rows they see, beside what they stand, and how errors are summed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.forecasting.cases import H, L, small
from tests.support import rounding
from titans_ts.datasets import make_series
from titans_ts.forecasting.backtest import METRICS
from titans_ts.forecasting.baselines import drift, seasonal_naive


def wide(n_rows=200):
    return make_series(n_rows, 2, random_state=1, seasons=(12,))


def long(sizes=(200, 90, 9)):
    frame = wide()[["y0"]].reset_index(names="timestamp")
    return pd.concat(
        [frame[-size:].assign(item_id=f"i{size}") for size in sizes], ignore_index=True
    )


@pytest.mark.parametrize("carried", [0, 2])
@pytest.mark.parametrize("form", ["frame", "array", "panel", "known"])
def test_every_forecast_is_that_from_the_rows_before_it(form, carried):
    X = long() if form == "panel" else wide().to_numpy() if form == "array" else wide()
    params = {"target": "y0", "known_covariates": "y1"} if form == "known" else {}
    fitted = small(stateful_windows=carried, **params).fit(X)
    backtest = fitted.backtest(X, stride=3, n_windows=20, season_length=12)
    assert backtest.n_windows == 20
    for window in (0, 7, 19):
        back = (19 - window) * 3 + H
        for item in range(backtest.actual.shape[1]):
            part = X if form != "panel" else X[X["item_id"] == f"i{(200, 90, 9)[item]}"]
            rows = np.asarray(part[["y0"]] if form in ("panel", "known") else part, dtype=float)
            past, future = part[: len(part) - back], rows[len(part) - back :][:H]
            actual = backtest.actual[window, item]
            if len(past) < (1 if window == 19 else L):
                assert np.isnan(actual).all()
                assert np.isnan(backtest.forecasts["titans"][window, item]).all()
                continue
            np.testing.assert_array_equal(actual, future)
            known = {"known_covariates": X[len(past) : len(past) + H]} if form == "known" else {}
            expected = fitted.predict(past, **known)
            expected = expected[["y0"]] if form == "panel" else expected
            found = backtest.forecasts["titans"][window, item]
            np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-4)
            quantiles = np.asarray(fitted.predict_quantiles(past, **known)).reshape(H, -1, 3)
            np.testing.assert_allclose(
                backtest.quantiles[window, item], quantiles, rtol=1e-4, atol=1e-4
            )
            before = rows[: len(past)]
            season = min(12, len(before))
            naive = seasonal_naive(before, H, season)
            np.testing.assert_array_equal(backtest.forecasts["seasonal_naive"][window, item], naive)
            np.testing.assert_array_equal(
                backtest.forecasts["naive"][window, item], before[-1:].repeat(H, 0)
            )
            np.testing.assert_allclose(backtest.forecasts["drift"][window, item], drift(before, H))


def test_errors_by_any_axis():
    frame = wide()
    frame.iloc[150:155, 0] = np.nan
    backtest = small().fit(frame).backtest(frame, n_windows=10, season_length=12)
    whole = backtest.metrics()
    assert list(whole.index) == ["titans", "naive", "seasonal_naive", "drift"]
    assert list(whole.columns) == list(METRICS)
    error = np.abs(backtest.actual - backtest.forecasts["naive"])
    assert whole["mae"]["naive"] == pytest.approx(np.nanmean(error))
    assert whole["rmse"]["naive"] == pytest.approx(np.sqrt(np.nanmean(error**2)))
    history = frame.to_numpy()[: -10 * H]
    scale = np.nanmean(np.abs(history[12:] - history[:-12]), 0)
    assert whole["mase"]["naive"] == pytest.approx(np.nanmean(error / scale))
    assert whole["crps"]["naive"] == pytest.approx(whole["mae"]["naive"])
    assert whole["coverage"].notna().tolist() == [True, False, False, False]
    by_variate = backtest.metrics(by="variate")
    assert by_variate.index.names == ["model", "variate"]
    assert by_variate["mae"]["drift", "y1"] == pytest.approx(
        np.abs(backtest.actual - backtest.forecasts["drift"])[..., 1].mean()
    )
    by_both = backtest.metrics(by=("variate", "step"))  # in the order of the axes
    assert by_both.index.names == ["model", "step", "variate"]
    assert by_both["mae"]["naive", 3, "y1"] == pytest.approx(error[:, 0, 2, 1].mean())
    with pytest.raises(ValueError, match=r"by is \('day',\); give any of"):
        backtest.metrics(by="day")


def test_every_forecast_as_a_row():
    frame = long()
    backtest = small().fit(frame).backtest(frame, n_windows=3, stride=3)
    rows = backtest.frame()
    assert list(rows.columns) == [
        *("window", "item_id", "step", "timestamp", "variate", "actual"),
        *("titans", "naive", "seasonal_naive", "drift", "q0.1", "q0.5", "q0.9"),
    ]
    assert len(rows) == 3 * 3 * H - 2 * H  # the shortest has its last window alone
    told = rows.merge(frame, on=["item_id", "timestamp"])
    assert len(told) == len(rows)
    np.testing.assert_array_equal(told["actual"], told["y0"])
    mean = rows.assign(e=(rows["actual"] - rows["titans"]).abs()).groupby("step")["e"].mean()
    np.testing.assert_allclose(backtest.metrics(by="step")["mae"]["titans"], mean)
    plain = small().fit(wide().to_numpy()).backtest(wide().to_numpy(), n_windows=2).frame()
    assert "item" not in plain
    np.testing.assert_array_equal(plain["timestamp"].unique(), np.arange(192, 200))


def test_refitting_sees_the_rows_before_alone():
    frame = wide()
    backtest = small().backtest(frame, n_windows=4, refit=2)
    for window in range(4):
        fitted = small().fit(frame[: 200 - (4 - window // 2 * 2) * H])
        expected = fitted.predict(frame[: 200 - (4 - window) * H])
        found = backtest.forecasts["titans"][window, 0]
        np.testing.assert_allclose(found, expected, **rounding(expected))
    panel = long()
    assert np.isfinite(small().backtest(panel, n_windows=2, refit=1).metrics()["mae"]).all()


def test_refitting_a_panel_sees_no_item_s_future():
    early, late = long((60,)), long((60,))
    late["timestamp"] += pd.Timedelta("900D")
    frame = pd.concat([early.assign(item_id="early"), late.assign(item_id="late")])
    moved = frame.assign(y0=frame["y0"] + 100 * (frame["item_id"] == "late"))
    ours, theirs = (small().backtest(f, n_windows=2, refit=1) for f in (frame, moved))
    np.testing.assert_array_equal(ours.forecasts["titans"][:, 0], theirs.forecasts["titans"][:, 0])


def test_refitting_begins_where_a_window_can_be_trained_on():
    backtest = small().backtest(wide(60), refit=5)
    assert backtest.cutoffs[0, 0] >= L + H
    assert np.isfinite(backtest.forecasts["titans"]).all()


@pytest.mark.parametrize("sizes", [(200,), (200, 90, 9)])
def test_adaptive_intervals_do_not_know_what_comes(sizes):
    frame = long(sizes)
    fitted = small().fit(frame)
    before = fitted.backtest(frame, stride=1, n_windows=60).adaptive_interval(
        calibration_windows=20
    )
    cut = 200 - (60 - 20) - H + 1  # what window 20 forecasts first
    changed = frame.copy()
    changed.loc[changed.index[cut:200], "y0"] += 50
    after = fitted.backtest(changed, stride=1, n_windows=60).adaptive_interval(
        calibration_windows=20
    )
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(ours[0, 0], theirs[0, 0])
        assert not np.array_equal(ours[20, 0], theirs[20, 0])


def test_all_models_are_compared_on_the_same_values():
    frame = wide()
    frame.iloc[100:130, 0] = np.nan  # longer than a season
    backtest = small().fit(frame).backtest(frame, stride=1, season_length=12)
    for name in ("naive", "seasonal_naive", "drift"):
        assert np.isfinite(backtest.forecasts[name]).all(), name
    known = ~np.isnan(backtest.actual)
    backtest.forecasts["drift"][:50] = np.nan  # as if it had no answer there
    known[:50] = False
    expected = np.abs(backtest.actual - backtest.forecasts["titans"])[known].mean()
    assert backtest.metrics()["mae"]["titans"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"season_length": 2.5}, "season_length is 2.5; it must be an integer of at least 1"),
        ({"stride": True}, "stride is True; it must be an integer"),
        ({"stride": 0}, "stride is 0; it must be an integer of at least 1"),
        ({"n_windows": 1.5}, "n_windows is 1.5"),
        ({"refit": -1}, "refit is -1"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        small().backtest(wide(), **params)


def test_too_short():
    fitted = small().fit(wide())
    with pytest.raises(ValueError, match="X has 19 rows; at least 20"):
        fitted.backtest(wide()[:19])
    with pytest.raises(
        ValueError, match="X has 4 rows; a window needs 16 rows and 4 to compare with"
    ):
        small().fit(long()).backtest(long().groupby("item_id").head(H))
