"""Forecasts of the pretrained model without a fit, by `from_pretrained` and by a preset."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

from titans_ts import TitansForecaster
from titans_ts.forecasting.pretrained import pretrained_quantiles

H = 6
HOURS = pd.date_range("2024-01-01", periods=300, freq="h")


def wave(n=300, seed=0):
    t = np.arange(n)
    noise = np.random.default_rng(seed).normal(size=(n, 2))
    return 10 + np.sin(2 * np.pi * t / 24)[:, None] * [1, 5] + 0.1 * noise


def frame(n=300):
    return pd.DataFrame(wave(n), HOURS[:n], ["a", "b"])


def panel():
    parts = []
    for item, n in (("x", 200), ("y", 3), ("z", 60)):
        part = {"item_id": item, "timestamp": HOURS[:n], "target": wave(n)[:, 0]}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def pretrained(**options):
    return TitansForecaster.from_pretrained(H, progress_bar=False, **options)


def test_its_quantiles_are_those_of_the_model():
    levels = tuple(round(0.1 * i, 1) for i in range(1, 10))
    found = pretrained(quantile_levels=levels).predict_quantiles(frame())
    expected = pretrained_quantiles(wave().T, H, 24)  # [C, H, Q]
    np.testing.assert_allclose(
        found.to_numpy().reshape(H, 2, 9), expected.swapaxes(0, 1), rtol=1e-6
    )


@pytest.mark.parametrize("X", [wave(), wave()[:, 0], frame(), frame()["a"], panel()], ids=type)
def test_every_kind_of_series_is_forecast_and_another_kind_after_it(X):
    forecaster = pretrained()
    forecaster.predict(wave()[:40])
    forecast = np.asarray(forecaster.predict(X)).reshape(len(forecaster.predict(X)), -1)
    n_items = 3 if isinstance(X, pd.DataFrame) and "item_id" in X else 1
    assert len(forecast) == n_items * H
    assert np.isfinite(forecast[:, -1].astype(float)).all()


def test_windows_of_any_length_are_forecast():
    windows = np.stack([wave(50, seed) for seed in range(3)])
    forecast = pretrained().predict(windows)
    assert forecast.shape == (3, H, 2)
    np.testing.assert_allclose(forecast[1], pretrained().predict(windows[1]), rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_few_rows_are_enough(n):
    assert np.isfinite(pretrained().predict(wave(n))).all()


def test_missing_values_and_constant_series_have_finite_forecasts():
    X = wave()
    X[50:90, 0] = np.nan
    X[:, 1] = 3.0
    forecast = pretrained().predict(X)
    assert np.isfinite(forecast).all()
    np.testing.assert_allclose(forecast[:, 1], 3.0, atol=0.1)


def test_without_a_series_nothing_is_forecast():
    with pytest.raises(NotFittedError):
        pretrained().predict()
    with pytest.raises(NotFittedError):
        pretrained().update(wave())


def test_forecasts_continue_the_last_series_and_updates_follow_it():
    forecaster = pretrained()
    forecaster.predict(frame(250))
    forecaster.update(frame().iloc[250:270]).update(frame().iloc[270:])
    pd.testing.assert_frame_equal(forecaster.predict(), pretrained().predict(frame()))


def test_intervals_samples_and_backtests():
    forecaster = pretrained(quantile_levels=(0.1, 0.9))
    assert forecaster.predict_interval(frame(), coverage=0.8).shape == (H, 4)
    assert forecaster.sample(frame(), n_samples=7, random_state=0).shape == (H, 14)
    errors = forecaster.backtest(frame(), n_windows=5).metrics()
    assert errors.loc["titans", "mae"] < errors.loc["naive", "mae"]
    assert forecaster.detect_anomalies(frame())["score"].notna().any()
    with pytest.raises(ValueError, match="nothing to calibrate with: .*too short"):
        forecaster.predict_interval(frame(8))


def test_a_watched_stream_is_the_same_for_any_split():
    forecaster = pretrained()
    parts = [forecaster.watch(frame().iloc[:100]), forecaster.watch(frame().iloc[100:])]
    pd.testing.assert_frame_equal(pd.concat(parts), pretrained().watch(frame()), check_freq=False)


def test_it_is_saved(tmp_path):
    forecaster = pretrained()
    expected = forecaster.predict(frame())
    forecaster.save(tmp_path / "m")
    loaded = TitansForecaster.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(), expected)


def test_the_preset_is_the_same_and_a_fit_trains_a_network():
    preset = TitansForecaster(H, preset="zero-shot", progress_bar=False).fit(frame())
    pd.testing.assert_frame_equal(preset.predict(), pretrained().predict(frame()))
    assert preset.history_ == []
    assert list(preset.blend_["weight"]) == [1.0]
    forecaster = pretrained(max_epochs=1, d_model=8, n_heads=1, random_state=0).fit(frame())
    assert len(forecaster.history_) == 1
    assert {"titans", "pretrained"} <= set(forecaster.blend_.index)
    with pytest.raises(ValueError, match="expecting 2 features"):
        forecaster.predict(wave()[:, :1])


def test_what_the_model_cannot_do_is_refused():
    X = frame().assign(price=1.0)
    with pytest.raises(ValueError, match=r"\['price'\] are covariates, but the pretrained model"):
        pretrained(known_covariates="price").predict(X)
    with pytest.raises(ValueError, match="output is 'normal', but the pretrained model"):
        pretrained(output="normal").predict(frame())
    with pytest.raises(ValueError, match="blend is False, but the pretrained model"):
        pretrained(blend=False).predict(frame())
    with pytest.raises(ValueError, match="batch of 0 windows"):
        pretrained().predict(np.zeros((0, 10, 1)))
    with pytest.raises(ValueError, match="no network with a memory was fitted"):
        pretrained().surprise(frame(), memory="network")


def test_before_the_first_value_there_is_no_forecast():
    X = wave()[:, :1]
    X[:100] = np.nan
    forecasts = pretrained().backtest(X, stride=50, progress_bar=False).frame()
    early = forecasts[forecasts["cutoff"] < 100] if "cutoff" in forecasts else forecasts.iloc[:H]
    assert early["titans"].isna().all()


def test_a_short_series_has_the_season_of_its_frequency():
    months = pd.date_range("2022-01-01", periods=18, freq="MS")
    values = 10 + 5 * np.sin(2 * np.pi * np.arange(18 + H) / 12)
    forecast = pretrained().predict(pd.Series(values[:18], months))
    assert np.abs(forecast.to_numpy() - values[18:]).mean() < 1.5


def test_an_update_lets_a_season_show():
    X = wave()[:, :1]
    forecaster = pretrained()
    forecaster.predict(X[:30])
    np.testing.assert_array_equal(forecaster.update(X[30:]).predict(), pretrained().predict(X))


@pytest.mark.parametrize("offset", [1e6, 1e9, -1e9])
def test_a_series_far_from_zero_is_forecast_as_well(offset):
    X = wave()[:-H, :1]
    error = np.abs(pretrained().predict(X) - wave()[-H:, :1]).mean()
    far = np.abs(pretrained().predict(X + offset) - offset - wave()[-H:, :1]).mean()
    assert far < 1.3 * error + 1e-6 * abs(offset) / 1e6


def test_forecasts_leave_a_stream_a_calibration_and_random_numbers_as_they_are():
    forecaster = pretrained()
    forecaster.watch(frame().iloc[:100])
    forecaster.predict(frame())
    part = forecaster.watch(frame().iloc[100:])
    pd.testing.assert_frame_equal(part, pretrained().watch(frame()).iloc[100:], check_freq=False)
    noisy = frame() + np.random.default_rng(0).normal(size=(300, 2)) * 20
    forecaster.calibrate(noisy)
    wide, usual = (f.predict_interval(frame()) for f in (forecaster, pretrained()))
    width = [np.diff(x.to_numpy()[:, :2], axis=1).mean() for x in (wide, usual)]
    assert width[0] > 1.3 * width[1]
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    forecaster.predict(frame())
    assert torch.rand(1) == expected


def test_anomalies_are_errors_of_the_pretrained_model():
    X = frame()
    X.iloc[200, 0] += 8
    scores = pretrained().detect_anomalies(X, score="error")
    again = pretrained().detect_anomalies(X, score="error")
    pd.testing.assert_frame_equal(scores, again)
    one = scores[scores["variate"] == "a"].reset_index(drop=True)
    assert one["score"].idxmax() == 200


def test_a_saved_one_still_takes_any_series(tmp_path):
    forecaster = pretrained()
    forecaster.predict(frame())
    forecaster.save(tmp_path / "m")
    loaded = TitansForecaster.load(tmp_path / "m")
    assert loaded.predict(wave()[:, 0]).shape == (H,)


def test_another_default_dtype_changes_nothing():
    expected = pretrained().predict(wave())
    torch.set_default_dtype(torch.float64)
    try:
        found = pretrained().predict(wave())
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
