"""Simple forecasters, and the blend of the network with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.forecasting.cases import H, L, small
from titans_ts import TitansForecaster
from titans_ts.forecasting.blend import SIMPLE, fit_blend, season_of
from titans_ts.forecasting.linear import fit_linear
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.smoothing import exponential_smoothing
from titans_ts.forecasting.theta import theta

MONTHS = pd.date_range("2000-01-01", periods=200, freq="MS")


def monthly(n_rows=200, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n_rows)
    season = np.sin(2 * np.pi * t / 12)[:, None] * [3.0, 30.0] + t[:, None] * [0.05, 1.0]
    values = 50 + season + rng.normal(size=(n_rows, 2)) * [0.3, 3.0]
    return pd.DataFrame(values, MONTHS[:n_rows], ["a", "b"])


def long_frame(n_items=6):
    parts = []
    for i in range(n_items):
        part = monthly(60 + 10 * i, seed=i)[["a"]].reset_index(names="timestamp")
        parts.append(part.assign(item_id=f"i{i}"))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("season", [1, 4])
def test_a_simple_forecast_is_the_same_alone_and_beside_longer_series(name, season):
    """Missing values before the beginning of a series change nothing."""
    rng = np.random.default_rng(0)
    past = 5 + rng.random((3, 40)).cumsum(1)
    for i, missing in enumerate((0, 25, 36)):
        past[i, :missing] = np.nan
    forecast = SIMPLE[name](past, 6, season)
    for i, missing in enumerate((0, 25, 36)):
        alone = SIMPLE[name](past[i : i + 1, missing:], 6, season)
        np.testing.assert_allclose(forecast[i : i + 1], alone, rtol=1e-9)


@pytest.mark.parametrize("name", ["theta", "smoothing", "seasonal smoothing", "drift"])
def test_units_do_not_matter(name):
    past = np.random.default_rng(0).random((2, 50)) * 10 - 5
    forecast = SIMPLE[name](past, 5, 4)
    other = SIMPLE[name](past * 1e6 - 1e9, 5, 4)  # a season of positive series may be multiplied
    np.testing.assert_allclose(other, forecast * 1e6 - 1e9, rtol=1e-9)


def test_smoothing_follows_a_trend_and_a_season():
    t = np.arange(60.0)
    season = np.tile([0.0, 3, 1, 7], 30)
    past = (season[:60] + 0.5 * t)[None]
    forecast = exponential_smoothing(past, 8, 4)
    np.testing.assert_allclose(forecast[0], season[60:68] + 0.5 * np.arange(60, 68), atol=1.0)
    flat = exponential_smoothing(np.full((1, 30), 3.0), 5, 4)
    np.testing.assert_allclose(flat, 3.0)


def test_smoothing_passes_over_missing_values():
    past = np.tile([1.0, 5, 2, 8], 15)[None]
    gaps = past.copy()
    gaps[0, [20, 33, 34]] = np.nan
    np.testing.assert_allclose(
        exponential_smoothing(gaps, 4, 4), exponential_smoothing(past, 4, 4), atol=0.1
    )


def test_theta_is_the_level_and_half_of_the_trend():
    """Of a line, whose level is followed at once, it forecasts half of the slope."""
    past = 10 + 2.0 * np.arange(50)[None]
    forecast = theta(past, 3)[0]
    np.testing.assert_allclose(np.diff(forecast), 1.0, rtol=1e-6)
    np.testing.assert_allclose(forecast[0], past[0, -1] + 1, atol=0.1)


def test_theta_multiplies_the_season_of_positive_series():
    factors = np.tile([0.5, 1.0, 1.5, 1.0], 20)
    past = (factors[:60] * 100)[None]
    np.testing.assert_allclose(theta(past, 4, 4)[0], [50, 100, 150, 100], rtol=1e-6)
    np.testing.assert_allclose(theta(past - 100, 4, 4)[0], [-50, 0, 50, 0], atol=1e-6)


def test_the_season_is_found_without_a_frequency():
    rng = np.random.default_rng(0)
    t = np.arange(300)
    wave = np.sin(2 * np.pi * t / 24)[:, None] + 0.1 * rng.normal(size=(300, 1))
    assert season_of(Panel(wave, 1, "array"), None) == 24
    noise = rng.normal(size=(300, 1))
    assert season_of(Panel(noise, 1, "array"), None) == 1
    assert season_of(Panel(noise.cumsum(0), 1, "array"), None) == 1
    assert season_of(Panel(wave, 1, "array"), (7, 24)) == 24
    assert season_of(Panel(wave[:20], 1, "array"), (24,)) == 1
    minutes = np.tile(wave[:252], (120, 1))  # a week is 40 times as long
    assert season_of(Panel(minutes, 1, "array"), (1440, 10080)) == 1440


def test_items_too_short_for_a_season_have_no_say_in_it():
    """Ten items have three days of hours; one has three weeks of them, which grow."""
    rows = [504, *[72] * 10]
    time = np.concatenate([np.arange(n) for n in rows])[:, None]
    values = np.sin(2 * np.pi * time / 24) + 0.001 * time
    offsets = np.cumsum([0, *rows])
    panel = Panel(values, 1, "panel", offsets=offsets, items=pd.RangeIndex(len(rows)))
    assert season_of(panel, (24, 168)) == 24


@pytest.mark.parametrize("value", [0.0, 5.0])
@pytest.mark.parametrize("form", [np.asarray, pd.DataFrame])
def test_a_series_that_never_changes(value, form):
    forecaster = small(blend=True).fit(form(np.full((100, 1), value)))
    np.testing.assert_allclose(forecaster.predict(), value, atol=0.1)
    assert np.isfinite(forecaster.blend_.to_numpy()).all()


def test_the_loss_of_a_perfect_blend_divides_nothing():
    panel, cuts = Panel(np.full((100, 1), 5.0), 1, "array"), np.arange(50, 90)[:, None]
    shape = (40, 1, 4, 1)
    far = np.full((*shape, 1), 1e3)
    learned = panel, np.array([50]), 8
    found = fit_blend(panel, cuts, np.full(shape, 5.0), far, (0.5,), 1, 40, learned)
    assert "titans" not in found.weights
    assert np.isfinite(list(found.losses.values())).all()


def test_an_item_of_zeros_has_the_unit_of_the_network():
    """The errors of simple forecasters are in usual differences, of which it has none."""
    frame = long_frame(4)
    frame["a"] *= np.where(frame["item_id"] == "i1", 0, 1e-6)
    forecaster = small(blend=True).fit(frame)
    found = forecaster.predict_quantiles().loc["i1"]
    assert np.abs(found).max(axis=None) < 1e-6


@pytest.mark.parametrize("missing", [[-1], [-4, -3, -2], slice(-60, -4)])
def test_missing_values_around_the_only_validation_window(missing):
    X = monthly()
    X.iloc[missing] = np.nan
    forecaster = small(blend=True, training_options={"validation_fraction": H / 200}).fit(X)
    assert np.isfinite(forecaster.predict_quantiles()).all(None)


def test_the_linear_map_needs_a_window_and_an_observed_context():
    panel = Panel(monthly()[["a"]].to_numpy(), 1, "array")
    past, target = np.full((2, 30), np.nan), np.ones((2, 4))
    past[:, 0] = 1.0
    assert fit_linear(panel, np.array([150]), 8, (past, target)) is None
    past[1, -1] = 1.0
    assert fit_linear(panel, np.array([150]), 8, (past, target)).shape == (9, 4)
    assert fit_linear(panel, np.array([7]), 8, (past, target)) is None


@pytest.fixture(scope="module")
def blended():
    return small(blend=True).fit(monthly())


def test_the_weights_are_those_of_the_validation_part(blended):
    found = blended.blend_
    assert list(found.columns) == ["weight", "loss"]
    assert found["weight"].sum() == pytest.approx(1)
    assert found["weight"].idxmax() not in ("titans", "last value", "drift", "smoothing")
    assert found.loc["titans", "weight"] < 0.2  # one epoch
    assert found.loc["last value", "weight"] == 0
    assert (found["loss"] > 0.9).all()
    assert small().fit(monthly()).blend_.empty


def test_it_is_better_than_an_unfinished_network(blended):
    frame = monthly(seed=1)
    errors = blended.backtest(frame, n_windows=20, progress_bar=False).metrics()
    alone = small().fit(monthly()).backtest(frame, n_windows=20, progress_bar=False).metrics()
    for metric in ("mase", "wql"):
        assert errors.loc["titans", metric] < 0.7 * alone.loc["titans", metric]
    assert errors.loc["titans", "mase"] < errors.loc["seasonal_naive", "mase"]


def test_the_network_has_the_weight_where_it_knows_more():
    """Where a known covariate decides, no simple forecaster helps."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=600)
    frame = pd.DataFrame({"y": z, "z": z}, pd.date_range("2024", periods=600, freq="h"))
    options = {"n_layers": 0, "max_epochs": 30, "learning_rate": 0.01}
    forecaster = small(blend=True, known_covariates=["z"], **options).fit(frame)
    assert forecaster.blend_.loc["titans", "weight"] > 0.8


@pytest.mark.parametrize("stateful", [0, 2])
@pytest.mark.parametrize("form", ["frame", "array", "panel"])
def test_a_stream_is_the_same_for_any_split(form, stateful, tmp_path):
    if form == "panel":
        whole = long_frame()
        last = whole.groupby("item_id").cumcount(ascending=False)
        first, second = whole[last >= 9], whole[last < 9]
        parts = [second[second.groupby("item_id").cumcount() < 4]]
        parts.append(second.drop(parts[0].index))
    else:
        whole = monthly() if form == "frame" else monthly().to_numpy()
        first, parts = whole[:170], [whole[170:171], whole[171:190], whole[190:]]
        second = whole[170:]
    stream = small(blend=True, stateful_windows=stateful).fit(first)
    stream.predictor.blend.weights["titans"] = 0.5  # after one epoch it has hardly any
    stream.save(tmp_path / "m")
    assert stream.blend_["weight"].drop("titans").max() > 0.1
    expected = stream.predict_quantiles(whole)
    once = TitansForecaster.load(tmp_path / "m").update(second)
    pd.testing.assert_frame_equal(once.blend_, stream.blend_)
    for part in parts:
        stream.update(part)
    for found in (stream, once):
        np.testing.assert_allclose(found.predict_quantiles(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(
        stream.sample(n_samples=20, random_state=0), once.sample(n_samples=20, random_state=0)
    )


def test_the_linear_map_reads_the_window_and_is_saved(tmp_path):
    """Of a rule of the last three values it learns the coefficients, through all units of the items."""
    rng = np.random.default_rng(0)
    parts = []
    for item, (level, unit) in enumerate([(0, 1), (50, 1), (-3000, 100)]):
        y = [0.0, 0.0, 0.0]
        for noise in rng.normal(size=250):
            y.append(1.6 * y[-1] - 0.9 * y[-2] + noise)
        values = {"item_id": item, "timestamp": np.arange(250), "y": level + unit * np.array(y[3:])}
        parts.append(pd.DataFrame(values))
    frame = pd.concat(parts)
    forecaster = small(blend=True).fit(frame)
    assert forecaster.blend_["loss"].idxmin() == "linear"
    assert forecaster.blend_.loc["linear", "weight"] > 0.5
    weights = forecaster.predictor.blend.linear
    assert weights.shape == (L + 1, H)
    np.testing.assert_allclose(weights[-4:-1, 0], [0, -0.9, 1.6], atol=0.25)
    forecaster.save(tmp_path / "m")
    loaded = TitansForecaster.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict_quantiles(), forecaster.predict_quantiles())


def test_what_is_kept_does_not_grow():
    stream = small(blend=True).fit(monthly().to_numpy())
    tall = np.tile(monthly().to_numpy(), (5, 1))
    sizes = {len(stream.update(part)._tail.values) for part in np.split(tall, 5)}
    assert max(sizes) <= 300


def test_samples_and_intervals_follow_the_blend(blended):
    quantiles = blended.predict_quantiles().to_numpy().reshape(H, 2, 3)
    drawn = blended.sample(n_samples=2000, random_state=0).to_numpy().reshape(H, 2, 2000)
    spread = quantiles[..., 2] - quantiles[..., 0]
    for i, level in enumerate((0.1, 0.5, 0.9)):
        distance = np.abs(np.quantile(drawn, level, axis=-1) - quantiles[..., i])
        assert (distance < 0.15 * spread).all()
    frame = monthly(seed=2)
    backtest = blended.backtest(frame, stride=1, progress_bar=False)
    assert 0.65 < backtest.metrics().loc["titans", "coverage"] < 0.92


def test_short_histories_and_series_without_values():
    frame = long_frame()
    short = frame.groupby("item_id").head(L)
    forecaster = small(blend=True).fit(frame)
    assert np.isfinite(forecaster.predict(short)["a"]).all()
    one = frame[frame["item_id"] == "i0"].head(1)
    assert np.isfinite(forecaster.predict(one)["a"]).all()
    empty = frame.assign(a=frame["a"].where(frame["item_id"] != "i3"))
    assert np.isfinite(forecaster.predict(empty)["a"]).sum() >= 5 * H


def test_rolling_forecasts_are_those_from_the_rows_before():
    frame = long_frame()
    forecaster = small(blend=True).fit(frame)
    backtest = forecaster.backtest(frame, n_windows=3, progress_bar=False)
    last = frame.groupby("item_id").cumcount(ascending=False)
    before = forecaster.predict_quantiles(frame[last >= H]).to_numpy().reshape(-1, H, 3)
    np.testing.assert_allclose(backtest.quantiles[-1][:, :, 0], before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", ["normal", "student_t"])
def test_distributions_are_blended_and_counts_are_not(output):
    blended = small(blend=True, output=output).fit(monthly())
    assert not blended.blend_.empty
    assert np.isfinite(blended.sample(n_samples=5, random_state=0)).all(None)
    counts = monthly().round()
    forecaster = small(blend=True, output="negative_binomial", scaler="mean").fit(counts)
    assert forecaster.blend_.empty


def test_without_quantiles_or_a_validation_part():
    forecaster = small(blend=True, quantile_levels=()).fit(monthly())
    assert forecaster.predict_quantiles().shape == (H, 0)
    assert not forecaster.blend_.empty
    none = small(blend=True, training_options={"validation_fraction": 0}).fit(monthly())
    assert none.blend_["weight"].to_dict() == {"titans": 0.2, "pretrained": 0.8}
    assert none.blend_["loss"].isna().all()
    assert np.isfinite(none.predict()).all(None)
    names = ["theta", "linear"]  # nothing tells their weights
    options = {"validation_fraction": 0}
    assert small(blend=names, training_options=options).fit(monthly()).blend_.empty


def test_blend_is_a_switch():
    with pytest.raises(ValueError, match="blend is 'no'; give True, False or some of"):
        small(blend="no").fit(monthly())


def test_some_forecasters_can_be_chosen(tmp_path):
    names = ["pretrained", "theta"]
    fitted = TitansForecaster(
        12, blend=names, n_layers=0, max_epochs=1, random_state=0, progress_bar=False
    ).fit(monthly())
    assert list(fitted.blend_.index) == ["titans", *names]
    fitted.save(tmp_path / "m")
    loaded = TitansForecaster.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict_quantiles(), fitted.predict_quantiles())


@pytest.mark.parametrize("wrong", ["theta", ["thetas"], [1], [["theta"]], 3, None])
def test_names_that_are_not_forecasters_are_refused(wrong):
    with pytest.raises(ValueError, match="blend is .*; give True, False or some of"):
        TitansForecaster(12, blend=wrong, progress_bar=False).fit(monthly())
