"""Series of any size: neighbours, constants, and values beyond what can be computed with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.forecasting.cases import H, L, small

WAVE = np.sin(np.arange(120) / 5)
DAYS = pd.date_range("2024-01-01", periods=120)


def panel(**items):
    parts = [
        pd.DataFrame({"item_id": name, "timestamp": DAYS, "v": v}) for name, v in items.items()
    ]
    return pd.concat(parts, ignore_index=True)


def of(forecast, item):
    return forecast.loc[forecast["item_id"] == item, "v"].to_numpy()


@pytest.mark.parametrize("size", [1e-3, 1e-9, 1e-15])
def test_an_item_is_forecast_as_well_among_larger_ones_as_among_equal_ones(size):
    """Its scale is its own; 1 % of the neighbours' median spread once hid it."""
    large = {"visits": 10 + WAVE, "orders": 5 + WAVE}
    small_one = 3 + 2 * WAVE
    expected = of(small().fit(panel(**large, rate=small_one)).predict(), "rate")
    found = of(small().fit(panel(**large, rate=size * small_one)).predict(), "rate")
    np.testing.assert_allclose(found / size, expected, rtol=1e-4)  # float32 sums in other orders


@pytest.mark.parametrize("value", [1e-12, -1e-6, 1e-3, 5.0, 1e6])
@pytest.mark.parametrize("scaler", ["standard", "robust", "asinh"])
def test_noise_has_the_size_of_a_constant_series(value, scaler):
    fitted = small(scaler=scaler).fit(np.full(120, value))
    np.testing.assert_allclose(fitted.predict(), value, rtol=0.01)
    among = small(scaler=scaler).fit(panel(a=1e3 * WAVE, b=np.full(120, value)))
    np.testing.assert_allclose(of(among.predict(), "b"), value, rtol=0.01)
    new = panel(c=np.full(120, value))  # an item that was not fitted
    np.testing.assert_allclose(of(among.predict(new), "c"), value, rtol=0.01)


def test_an_item_that_never_moved_has_a_narrow_interval():
    fitted = small().fit(panel(a=1e3 * WAVE, b=1e3 * WAVE + 5, c=np.full(120, 0.5)))
    interval = fitted.predict_interval().xs("c")["v"]
    assert ((interval["upper"] - interval["lower"]) < 0.05).all()


def test_what_moves_in_the_held_out_rows_alone_has_a_spread_of_their_size():
    """Its errors would otherwise outweigh those of all other items in the loss."""
    late = np.where(np.arange(120) < 110, 1e-6 * WAVE, 50.0)
    fitted = small().fit(panel(a=WAVE, b=late))
    np.testing.assert_allclose(fitted.scale_[1, 0], 0.01 * late.std(), rtol=1e-6)


BEYOND = [
    lambda f: f.fit(WAVE * 1e155),
    lambda f: f.fit(np.where(np.arange(120) == 30, 1e300, WAVE)),
    lambda f: f.predict(WAVE * 1e39),
    lambda f: f.predict(pd.Series(WAVE * 1e39)),
    lambda f: f.predict(np.full((2, L, 1), 1e300)),
    lambda f: f.predict(np.full((2, L, 1), 1e39)),
    lambda f: f.update(np.full(40, 1e300)),
    lambda f: f.update(np.full(40, 1e39)),
    lambda f: f.backtest(WAVE * 1e39),
    lambda f: f.fit(panel(a=WAVE, b=WAVE * 1e155)),
    lambda f: f.fit(pd.DataFrame({"a": WAVE, "b": WAVE * 1e155})),
]


@pytest.mark.parametrize("use", BEYOND)
def test_values_that_cannot_be_computed_with_are_refused(use):
    fitted = small(max_epochs=1).fit(WAVE)
    before = fitted.predict()
    with pytest.raises(ValueError, match=r"values lie between|spreads of the fitted rows away"):
        use(fitted)
    np.testing.assert_array_equal(fitted.predict(), before)
    assert len(before) == H


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e90])
def test_series_of_extreme_size_are_scaled_by_their_own(size):
    expected = small().fit(WAVE).predict()
    fitted = small().fit(WAVE * size)
    np.testing.assert_allclose(fitted.predict() / size, expected, rtol=1e-4, atol=1e-4)
