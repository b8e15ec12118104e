"""Any number of steps and any quantile levels at the time of a forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.support import small_settings
from titans_ts import TitansForecaster
from titans_ts.datasets import make_series

FRAME = make_series(160, 2, freq="h", seasons=(12,), random_state=0)


@pytest.fixture(scope="module")
def fitted():
    return TitansForecaster(8, 24, **small_settings()).fit(FRAME)


def test_fewer_steps_are_the_first_ones(fitted):
    pd.testing.assert_frame_equal(fitted.predict(horizon=3), fitted.predict().iloc[:3])
    first = fitted.predict_quantiles().iloc[:3]
    pd.testing.assert_frame_equal(fitted.predict_quantiles(horizon=3), first)


def test_later_steps_follow_from_the_forecasts_and_say_so(fitted):
    with pytest.warns(UserWarning, match="fit with prediction_length=20"):
        longer = fitted.predict(horizon=20)
    assert list(longer.index) == list(pd.date_range(FRAME.index[-1], periods=21, freq="h")[1:])
    pd.testing.assert_frame_equal(longer.iloc[:8], fitted.predict())
    by_hand = FRAME
    for _ in range(3):  # the forecasts are read as rows
        by_hand = pd.concat([by_hand, fitted.predict(by_hand)])
    # float32 models
    np.testing.assert_allclose(longer, by_hand.iloc[160:180], rtol=1e-5, atol=1e-5)
    with pytest.warns(UserWarning, match="horizon is 20"):
        array = fitted.predict_quantiles(FRAME, horizon=20)
    assert array.shape == (20, 6)


def test_the_pretrained_model_forecasts_any_number_of_steps():
    forecaster = TitansForecaster.from_pretrained(8)
    longer = forecaster.predict(FRAME, horizon=50)
    expected = TitansForecaster.from_pretrained(50).predict(FRAME)
    pd.testing.assert_frame_equal(longer, expected)
    assert forecaster.predict().shape == (8, 2)


def test_other_levels_lie_between_and_beyond_the_fitted_ones(fitted):
    levels = [0.9, 0.05, 0.1, 0.5, 0.3]
    table = fitted.predict(quantile_levels=levels)
    assert table["y0"].columns.tolist() == sorted(levels)
    for name in FRAME:
        assert (np.diff(table[name].to_numpy()) > 0).all()
    known = fitted.predict_quantiles()
    same = table.loc[:, known.columns]
    np.testing.assert_allclose(same, known, rtol=1e-5, atol=1e-5)
    pd.testing.assert_frame_equal(fitted.predict_quantiles(quantile_levels=levels), table)


def test_a_panel_with_covariates_goes_on(tmp_path):
    days = pd.date_range("2024-01-01", periods=70, freq="D")
    rng = np.random.default_rng(0)
    price = rng.choice([1.0, 2.0], 70)
    sold = 10 / price + 0.1 * rng.normal(size=70)
    frame = pd.concat(
        pd.DataFrame({"item_id": i, "timestamp": days, "price": price, "sold": sold * (i + 1)})
        for i in range(2)
    )
    past, future = frame[frame["timestamp"] < days[50]], frame[frame["timestamp"] >= days[50]]
    settings = small_settings() | {"max_epochs": 2}
    forecaster = TitansForecaster(
        6, 12, target="sold", known_covariates="price", calendar=["week"], **settings
    )
    forecaster.fit(past)
    plan = future.drop(columns="sold")
    with pytest.warns(UserWarning, match="horizon is 20"):
        table = forecaster.predict(known_covariates=plan, horizon=20)
    assert len(table) == 40
    assert table["timestamp"].max() == days[-1]
    first = forecaster.predict(known_covariates=plan)
    merged = first.merge(table, on=["item_id", "timestamp"])
    np.testing.assert_array_equal(merged["sold_x"], merged["sold_y"])
    short = forecaster.predict(known_covariates=plan.groupby("item_id").head(2), horizon=2)
    assert len(short) == 4
    with pytest.raises(ValueError, match="known_covariates"):
        forecaster.predict(known_covariates=plan.groupby("item_id").head(2), horizon=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.predict(24), "horizon=24"),
        (lambda f: f.predict_quantiles(None, [0.05, 0.95]), "quantile_levels=\\[0.05, 0.95\\]"),
        (lambda f: f.predict(horizon=0), "horizon is 0"),
        (lambda f: f.predict(horizon=2.5), "horizon is 2.5"),
        (lambda f: f.predict(quantile_levels=[5]), "quantile_levels is \\[5\\]"),
        (lambda f: f.predict(quantile_levels=[]), "quantile_levels is \\[\\]"),
        (lambda f: f.predict(np.zeros((2, 24, 2)), horizon=9), "batch of windows"),
    ],
)
def test_errors_name_the_right_parameter(call, message, fitted):
    forecaster = fitted
    if "windows" in message:
        forecaster = TitansForecaster(8, 24, **small_settings()).fit(FRAME.to_numpy())
    with pytest.raises((TypeError, ValueError), match=message):
        call(forecaster)
