"""Operations on many items at once give what the same operation gives item by item."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.forecasting.cases import H, L, small
from titans_ts.forecasting.backtest import baselines
from titans_ts.forecasting.baselines import drift, seasonal_naive
from titans_ts.forecasting.cutoffs import cutoffs
from titans_ts.forecasting.panel import Panel, Roles
from titans_ts.forecasting.parse import read_panel
from titans_ts.nn import TitansBackbone


def ragged(lengths, n_variates=2, missing=0.3, seed=0):
    """A long frame whose items have other lengths, with values missing at random."""
    rng = np.random.default_rng(seed)
    parts = []
    for item, length in enumerate(lengths):
        values = rng.normal(size=(length, n_variates)).cumsum(0)
        values[rng.random(values.shape) < missing] = np.nan
        times = pd.date_range("2024-01-01", periods=length, freq="h")
        part = pd.DataFrame(values, columns=[f"y{i}" for i in range(n_variates)])
        parts.append(part.assign(item_id=f"i{item}", timestamp=times))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("season", [1, 5, 24])
@pytest.mark.parametrize("missing", [0.0, 0.3, 0.9])
def test_baselines_of_all_windows_are_those_of_each(season, missing):
    panel = read_panel(ragged((60, 17, 9, 41), missing=missing), Roles())
    cuts = cutoffs(panel, 6, H, 3)
    forecasts = baselines(panel, cuts, H, season)
    for item, first in enumerate(panel.starts[:-1]):
        for window, cut in enumerate(cuts[:, item]):
            if cut < 0:
                assert all(np.isnan(f[window, item]).all() for f in forecasts.values())
                continue
            past = panel.values[first:cut]
            expected = {
                "naive": seasonal_naive(past, H, 1),
                "seasonal_naive": seasonal_naive(past, H, min(season, len(past))),
                "drift": drift(past, H),
            }
            for name, forecast in forecasts.items():
                np.testing.assert_array_equal(forecast[window, item], expected[name], name)


@pytest.mark.parametrize("freq", ["h", "2h", "5h", "D", "W", "MS", "ME", "QE", "B"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_resampling_a_panel_is_resampling_every_item(freq, zone):
    rng = np.random.default_rng(1)
    parts, expected = [], []
    for item, length in enumerate((80, 3, 1, 50)):
        times = pd.Timestamp("2024-03-28", tz=zone) + pd.to_timedelta(
            np.sort(rng.integers(0, 60 * 24 * 40, length)), "min"
        )
        values = np.where(rng.random(length) < 0.2, np.nan, rng.normal(size=length))
        part = pd.DataFrame({"y": values, "region": f"r{item}"}, index=times)
        even = part.resample(freq, origin="epoch").agg({"y": "mean", "region": "first"})
        expected.append(even.assign(region=even["region"].ffill(), item_id=item))
        parts.append(part.assign(item_id=item))
    frame = pd.concat(parts).rename_axis("timestamp").reset_index()
    frame = frame.sample(frac=1, random_state=0).sort_values("item_id", kind="stable")
    panel = read_panel(frame, Roles(static_covariates=("region",), freq=freq))
    whole = pd.concat(expected)
    # the rows of a step are added in another order
    np.testing.assert_allclose(panel.values[:, 0], whole["y"], rtol=1e-12, atol=1e-15)
    assert list(panel.index) == list(whole.index)
    assert list(panel.items.repeat(np.diff(panel.starts))) == list(whole["item_id"])
    assert list(panel.static["region"]) == [f"r{i}" for i in range(4)]


def test_windows_are_a_panel_of_items():
    X = np.arange(40.0).reshape(20, 2)
    fitted = small(context_length=8, patch_length=4).fit(np.sin(np.arange(60.0)).reshape(30, 2))
    windows = np.stack([X[:8], X[5:13]])
    panel = fitted.predictor.read_history(windows, None)
    assert isinstance(panel, Panel)
    assert (panel.kind, panel.n_items, panel.n_targets) == ("windows", 2, 2)
    np.testing.assert_array_equal(panel.windows(8), windows)
    one = np.stack([fitted.predict(w) for w in windows])
    np.testing.assert_allclose(fitted.predict(windows), one, atol=1e-6)


def test_input_is_checked_before_the_network_runs(monkeypatch):
    frame = ragged((3 * L + H, 3 * L), n_variates=1, missing=0.0).assign(x=1.0)
    fitted = small(target="y0", known_covariates="x", stateful_windows=1).fit(frame)

    def fail(*args, **kwargs):
        raise AssertionError("the network ran before the input was checked")

    monkeypatch.setattr(TitansBackbone, "run", fail)
    for predict in (fitted.predict, fitted.predict_quantiles, fitted.predict_interval):
        with pytest.raises(ValueError, match="known_covariates is None, but the model was fitted"):
            predict(frame)
