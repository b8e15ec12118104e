"""Many items, covariates, static columns, calendars: what a long frame and roles of columns do."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tests.forecasting.cases import H, L, small
from tests.support import rounding
from titans_ts import TitansForecaster
from titans_ts.forecasting.parse import read_panel
from titans_ts.forecasting.scaling import StaticEncoder, level_and_spread, season
from titans_ts.nn import SCALERS, TOKENS


def long(lengths=(60, 45, 10), freq="D", columns=("target",), seed=0):
    """Items of unequal lengths that end on different days."""
    rng = np.random.default_rng(seed)
    items = []
    for i, length in enumerate(lengths):
        times = pd.date_range("2024-01-31", periods=length + 3 * i, freq=freq)[3 * i :]
        values = {c: rng.normal(10.0 * i, 1 + i, length) for c in columns}
        items.append(pd.DataFrame({"item_id": f"item {i}", "timestamp": times, **values}))
    return pd.concat(items, ignore_index=True)


@pytest.fixture(scope="module")
def frame():
    return long()


@pytest.fixture(scope="module")
def fitted(frame):
    return small().fit(frame)


def test_the_answer_has_the_form_of_the_panel(frame, fitted):
    forecast = fitted.predict()
    assert list(forecast.columns) == ["item_id", "timestamp", "target"]
    for item, rows in frame.groupby("item_id"):
        answer = forecast[forecast["item_id"] == item]
        expected = pd.date_range(rows["timestamp"].iloc[-1], periods=H + 1, freq="D")[1:]
        assert list(answer["timestamp"]) == list(expected)
        assert abs(answer["target"].mean() - rows["target"].mean()) < 5 * rows["target"].std()
    quantiles = fitted.predict_quantiles()
    assert quantiles.index.names == ["item_id", "timestamp"]
    assert list(quantiles.columns) == [("target", q) for q in (0.1, 0.5, 0.9)]
    assert (np.diff(quantiles.to_numpy(), axis=1) >= 0).all()
    assert fitted.mean_.shape == fitted.scale_.shape == (3, 1)


def test_order_of_rows_and_form_of_the_frame_do_not_matter(frame, fitted):
    expected = fitted.predict(frame)
    pd.testing.assert_frame_equal(expected, fitted.predict())
    shuffled = frame.sample(frac=1, random_state=0)
    same = fitted.predict(shuffled).set_index(["item_id", "timestamp"])
    wanted = expected.set_index(["item_id", "timestamp"])
    pd.testing.assert_frame_equal(same.loc[wanted.index], wanted, **rounding(wanted))
    indexed = frame.set_index(["item_id", "timestamp"])
    pd.testing.assert_frame_equal(fitted.predict(indexed), expected)
    pd.testing.assert_frame_equal(
        fitted.predict(pl.from_pandas(frame)), expected, check_dtype=False
    )
    text = frame.assign(timestamp=frame["timestamp"].astype(str))
    pd.testing.assert_frame_equal(fitted.predict(text), expected, check_dtype=False)
    renamed = small(item_id="shop", timestamp="day").fit(
        frame.rename(columns={"item_id": "shop", "timestamp": "day"})
    )
    assert list(renamed.predict().columns) == ["shop", "day", "target"]
    np.testing.assert_array_equal(renamed.predict()["target"], expected["target"])


def test_an_item_does_not_depend_on_the_others(frame, fitted):
    expected = fitted.predict(frame).set_index("item_id")["target"]
    for item, rows in frame.groupby("item_id"):
        forecast = fitted.predict(rows)["target"]
        np.testing.assert_allclose(forecast, expected[item], **rounding(expected[item]))


def test_an_unseen_item_has_its_own_scale(frame, fitted):
    rows = frame[frame["item_id"] == "item 1"]
    new = rows.assign(item_id="new")
    larger = new.assign(target=1000 * new["target"])
    np.testing.assert_allclose(
        fitted.predict(larger)["target"], 1000 * fitted.predict(new)["target"], rtol=1e-3
    )
    single = rows.set_index("timestamp")[["target"]]  # one series, wide
    expected = fitted.predict(new)["target"]
    np.testing.assert_allclose(fitted.predict(single)["target"], expected, **rounding(expected))


@pytest.mark.parametrize("freq", ["h", "B", "W", "MS", "ME", "QE", "YE"])
def test_frequencies_of_items(freq, tmp_path):
    frame = long((30, 24), freq=freq)
    forecaster = small(context_length=8, patch_length=4).fit(frame)
    forecast = forecaster.predict()
    last = frame.groupby("item_id")["timestamp"].last()
    for item, rows in forecast.groupby("item_id"):
        expected = pd.date_range(last[item], periods=H + 1, freq=freq)[1:]
        assert list(rows["timestamp"]) == list(expected)
    forecaster.save(tmp_path / "m")
    pd.testing.assert_frame_equal(TitansForecaster.load(tmp_path / "m").predict(), forecast)


def test_times_with_a_zone_and_whole_numbers(tmp_path):
    zoned = long()
    zoned["timestamp"] = zoned["timestamp"].dt.tz_localize("Europe/Berlin")
    numbers = long()
    numbers["timestamp"] = 5 * np.arange(len(numbers))
    numbers["item_id"] = numbers["item_id"].str[-1].astype(int)
    for i, frame in enumerate((zoned, numbers)):
        forecaster = small().fit(frame)
        forecast = forecaster.predict()
        last = frame["timestamp"].iloc[-1]
        step = pd.Timedelta("1D") if i == 0 else 5
        assert list(forecast["timestamp"].iloc[-H:]) == [last + k * step for k in range(1, H + 1)]
        forecaster.save(tmp_path / str(i))
        pd.testing.assert_frame_equal(TitansForecaster.load(tmp_path / str(i)).predict(), forecast)


def test_known_future_covariates_are_used(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"y": 0.0, "price": rng.normal(size=600), "flag": rng.random(600) > 0.5},
        pd.date_range("2024-01-01", periods=600, freq="h"),
    )
    frame["y"] = 3 * frame["price"] + frame["flag"] + 0.1 * rng.normal(size=600)
    train, test = frame[:-H], frame[-H:]
    settings = {"target": "y", "n_layers": 0, "max_epochs": 12, "learning_rate": 0.01}
    forecaster = small(**settings, known_covariates=["price", "flag"]).fit(train)
    forecast = forecaster.predict(known_covariates=test[["flag", "price"]])  # in any order
    assert list(forecast.columns) == ["y"]
    assert np.abs(forecast["y"] - test["y"]).mean() < 0.5 < np.abs(test["y"]).mean()
    pd.testing.assert_frame_equal(
        forecaster.set_history(train).predict(known_covariates=test), forecast
    )
    assert forecaster.end_ == train.index[-1]
    # later steps are left out, an array will do, and it is saved
    both = forecaster.predict(train, known_covariates=test)
    pd.testing.assert_frame_equal(both, forecast)
    values = test[["price", "flag"]].to_numpy(float)
    np.testing.assert_allclose(
        forecaster.predict(known_covariates=values), forecast, **rounding(forecast)
    )
    forecaster.save(tmp_path / "m")
    loaded = TitansForecaster.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(known_covariates=test), forecast)
    # windows of an array: targets, then covariates
    window = train[["y", "price", "flag"]].to_numpy(float)[None, -L:]
    alone = forecaster.predict(window, values[None])[0]
    np.testing.assert_allclose(alone, forecast, **rounding(forecast))
    assert forecaster.score(frame) > 0.8 > small(**settings).fit(train[["y"]]).score(frame[["y"]])


def test_past_covariates_are_used_and_need_no_future():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=800)
    y = np.zeros(800)
    y[H:] = signal[:-H] + 0.1 * rng.normal(size=800 - H)  # what comes was announced H steps ago
    X = np.column_stack([signal, y])
    options = {"target": 1, "n_layers": 0, "max_epochs": 12, "learning_rate": 0.01}
    informed = small(**options, past_covariates=0).fit(X)
    assert informed.predict().shape == (H, 1)
    assert informed.score(X) > 0.7
    assert small(**options).fit(X[:, 1:].repeat(2, 1)).score(X[:, 1:].repeat(2, 1)) < 0.3


def test_static_covariates_are_used():
    rng = np.random.default_rng(0)
    items = []
    for i in range(40):
        up = i % 2
        y = rng.normal(size=24) * 0.1
        y[-H:] += 2 if up else -2  # what the item is decides where it goes
        times = pd.date_range("2024-01-01", periods=24)
        items.append(
            pd.DataFrame(
                {
                    "item_id": i,
                    "timestamp": times,
                    "y": y,
                    "kind": "up" if up else "down",
                    "size": i,
                }
            )
        )
    frame = pd.concat(items)
    forecaster = small(
        context_length=L,
        static_covariates=["kind", "size"],
        target="y",
        n_layers=0,
        max_epochs=60,
        learning_rate=0.01,
        training_options={"validation_fraction": 0.0},
    ).fit(frame)
    ahead = frame.groupby("item_id").head(L + 4)
    forecast = forecaster.predict(ahead).groupby("item_id")["y"].mean()
    assert (forecast[1::2] > 0.5).all()
    assert (forecast[0::2] < -0.5).all()
    unknown = ahead[ahead["item_id"] == 1].assign(kind="sideways", size=np.nan)
    assert np.isfinite(forecaster.predict(unknown)["y"]).all()


def test_a_calendar_tells_the_day_of_the_week():
    times = pd.date_range("2024-01-01", periods=400)
    rng = np.random.default_rng(0)
    y = np.where(times.dayofweek == 6, 5.0, 0.0) + 0.1 * rng.normal(size=400)
    frame = pd.DataFrame({"y": y}, times)
    options = {"context_length": 3, "patch_length": 3, "max_epochs": 30, "learning_rate": 0.01}
    options["n_layers"] = 0
    options["scaler"] = "none"  # three quiet days do not tell how far a Sunday is away
    told = small(**options, calendar=True).fit(frame)
    assert told.score(frame) > 0.8 > small(**options).fit(frame).score(frame) + 0.2
    assert told.predict().shape == (H, 1)


def test_a_learned_season_begins_at_the_means_of_its_steps(tmp_path):
    times = pd.date_range("2024-01-01", periods=400)
    rng = np.random.default_rng(0)
    season = np.array([0, 0, 0, 1, 0, 2, 9.0])
    y = 3 + season[times.dayofweek] + 0.1 * rng.normal(size=400)
    frame = pd.DataFrame({"y": y}, times)
    options = {"context_length": 3, "patch_length": 3, "scaler": "none", "max_epochs": 5}
    learned = small(**options, season_length=7).fit(frame)
    assert learned.score(frame) > 0.8 > small(**options).fit(frame).score(frame) + 0.2
    # the place in the season follows from the time, wherever a series begins
    for start in range(4):
        future = learned.predict(frame[start : 40 + start])
        np.testing.assert_allclose(future["y"], 3 + season[future.index.dayofweek], atol=1)
    learned.save(tmp_path / "model")
    again = TitansForecaster.load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.predict(), learned.predict())
    assert again.roles == learned.roles
    with pytest.raises(ValueError, match="season_length is 7, but X has no times; .* counts"):
        learned.predict(y[:40])
    with pytest.raises(ValueError, match="season_length needs them"):
        learned.predict(np.zeros((2, 3, 1)))
    numbered = small(**options, season_length=7).fit(frame.reset_index(drop=True))
    assert numbered.score(frame.reset_index(drop=True)) > 0.8


@pytest.mark.parametrize(
    ("tokens", "scaler"),
    [
        pytest.param(
            tokens,
            scaler,
            marks=pytest.mark.slow if tokens != "patch" and scaler != "standard" else (),
        )
        for tokens in TOKENS
        for scaler in SCALERS
    ],
)
def test_missing_values_under_every_option(tokens, scaler):
    frame = long((60, 50, 10), columns=("a", "b"))
    frame.loc[[3, 20, 21, 70], "a"] = np.nan
    frame.loc[60:, "b"] = np.nan  # never observed in the second item
    options = {"tokens": tokens, "scaler": scaler, "calendar": ["week"]}
    for cycle, carried in ((7, 0), (7, 1), (0, 0)):
        fitted = small(season_length=cycle, stateful_windows=carried, **options).fit(frame)
        future = fitted.predict()
        missing = future["item_id"] != frame["item_id"].iloc[0]
        assert np.isfinite(future["a"]).all()
        assert (np.isnan(future["b"]) == missing).all()


def test_what_is_measured_of_a_season():
    rng = np.random.default_rng(0)
    steps = np.arange(500)
    wave = np.sin(steps / 24 * 2 * np.pi)
    values = np.column_stack([wave + steps / 10 + 0.1 * rng.normal(size=500), rng.normal(size=500)])
    values[5:9] = np.nan
    found = season(values, steps % 24, np.array([[0, 300], [300, 500]]), 24)
    np.testing.assert_allclose(found[:, 0], wave[:24], atol=0.15)  # whatever the trend
    assert np.abs(found[:, 1]).max() < 0.2
    for n in (10, 30):  # less than two seasons
        assert not season(values[:n], steps[:n] % 24, np.array([[0, n]]), 24).any()
    assert not season(np.full((99, 1), 3.0), np.arange(99) % 7, np.array([[0, 99]]), 7).any()


def test_no_season_is_learned_where_there_is_none():
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=300, freq="h")
    noise = rng.normal(size=300)
    for y in (np.arange(300) / 50 + 0.1 * noise, noise.cumsum(), noise):
        fitted = small(season_length=24, learning_rate=1e-9).fit(pd.DataFrame({"y": y}, times))
        assert np.abs(fitted.model_.cycle.detach().numpy()).max() < 0.4
    # a season that was seen less than twice is none yet
    y = 9 * (np.arange(300) % 168 == 5)
    fitted = small(season_length=168, learning_rate=1e-9).fit(pd.DataFrame({"y": y}, times))
    assert np.abs(fitted.model_.cycle.detach().numpy()).max() < 1e-6


def test_times_are_told_in_the_zone_that_was_fitted():
    times = pd.date_range("2024-01-01", periods=100, freq="h", tz="Asia/Tokyo")
    frame = pd.DataFrame({"y": np.sin(np.arange(100))}, times)
    fitted = small(season_length=24, calendar=["day"]).fit(frame[:80])
    expected = fitted.predict(frame[:90])
    elsewhere = frame.tz_convert("UTC")
    pd.testing.assert_frame_equal(fitted.predict(elsewhere[:90]), expected)
    pd.testing.assert_frame_equal(fitted.update(elsewhere[80:90]).predict(), expected, atol=1e-5)
    with pytest.raises(ValueError, match="X has no time zone, but the fitted one Asia/Tokyo"):
        fitted.predict(frame.tz_localize(None))
    with pytest.raises(
        ValueError, match="frequency <2 \\* Hours>, but the fitted series has <Hour>"
    ):
        fitted.predict(frame[::2])


@pytest.mark.parametrize("scaler", SCALERS)
def test_a_new_item_is_scaled_as_it_would_have_been(scaler):
    frame = long((60, 60))
    frame["target"] += 20
    fitted = small(scaler=scaler, training_options={"validation_fraction": 0}).fit(frame)
    known = fitted.predict(frame)
    new = fitted.predict(
        frame.replace({"item_id": {n: f"new {n}" for n in frame["item_id"].unique()}})
    )
    np.testing.assert_allclose(new["target"], known["target"], **rounding(known["target"]))


def test_the_mean_scaler_keeps_zero_where_it_is():
    frame = long((60, 50))
    forecaster = small(scaler="mean").fit(frame)
    assert (forecaster.mean_ == 0).all()
    nothing = frame.assign(target=0.0)
    assert np.isfinite(forecaster.predict(nothing)["target"]).all()


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("carried", [0, 1])
def test_every_kind_of_token_with_covariates_and_a_season(tokens, carried):
    frame = long((60, 50), columns=("a", "b", "x", "z"))
    options = {
        "season_length": 7,
        "stateful_windows": carried,
        "static_covariates": ["kind"],
        "calendar": ["day"],
    }
    frame["kind"] = frame["item_id"]
    forecaster = small(
        tokens=tokens, target=["b", "a"], past_covariates="x", known_covariates="z", **options
    )
    forecaster.fit(frame)
    future = forecaster.predict(known_covariates=_future(frame, "z"))
    assert list(future.columns) == ["item_id", "timestamp", "b", "a"]
    assert np.isfinite(future[["a", "b"]]).all(None)


def test_categories_are_the_same_in_any_type(tmp_path):
    frame = long((60, 50, 40))
    codes = frame["item_id"].str[-1].astype(int)
    kinds = {
        "int": pd.Categorical(codes + 1),
        "float": pd.Categorical((codes + 1).astype(float)),
        "text": (codes + 1).astype(str),
        "string": (codes + 1).astype(str).astype("string"),
    }
    fitted = {
        k: small(static_covariates="kind").fit(frame.assign(kind=v)) for k, v in kinds.items()
    }
    expected = fitted["text"].predict()
    for name, forecaster in fitted.items():
        pd.testing.assert_frame_equal(forecaster.predict(), expected)
        for other in kinds.values():
            pd.testing.assert_frame_equal(forecaster.predict(frame.assign(kind=other)), expected)
        forecaster.save(tmp_path / name)
        pd.testing.assert_frame_equal(TitansForecaster.load(tmp_path / name).predict(), expected)
    missing = frame.assign(
        kind=kinds["string"].where(codes > 0), size=codes.astype("Int64").where(codes > 1)
    )
    forecaster = small(static_covariates=["kind", "size"]).fit(missing)
    forecaster.save(tmp_path / "missing")
    again = TitansForecaster.load(tmp_path / "missing").predict()
    pd.testing.assert_frame_equal(again, forecaster.predict())
    with pytest.raises(TypeError, match="the static column 'size' has dtype object, but numbers"):
        forecaster.predict(missing.assign(size="large"))


def test_names_of_items_and_columns_survive_a_file(tmp_path):
    for i, kind in enumerate(("category", "string", "Int64")):
        frame = long()
        names = frame["item_id"].str[-1].astype(int) if kind == "Int64" else frame["item_id"]
        frame = frame.assign(item_id=names.astype(kind)).rename(columns={"target": 0})
        frame[1] = 1.0
        forecaster = small(target=np.int64(0), static_covariates=1).fit(frame)
        forecaster.save(tmp_path / str(i))
        loaded = TitansForecaster.load(tmp_path / str(i))
        pd.testing.assert_frame_equal(loaded.predict(), forecaster.predict())


def test_an_item_or_variate_first_seen_later_is_forecast():
    frame = long((60, 50))
    blank = frame.assign(target=frame["target"].where(frame["item_id"] == "item 0"))
    fitted = small().fit(blank)
    forecast = fitted.predict(frame).set_index("item_id")["target"]
    assert forecast["item 1"].notna().all()
    renamed = frame.replace({"item_id": {"item 1": "new"}})
    expected = fitted.predict(renamed).set_index("item_id")["target"]["new"]
    np.testing.assert_allclose(forecast["item 1"], expected, **rounding(expected))
    assert fitted.predict().set_index("item_id")["target"]["item 1"].isna().all()


def test_the_spread_of_items_that_do_not_move_follows_from_their_level():
    frame = long((60, 60, 60, 60))
    frame["target"] = np.where(frame["item_id"] == "item 3", 7e-5 * np.sin(np.arange(240)), 5.0)
    fitted = small().fit(frame)
    np.testing.assert_allclose(fitted.scale_[:3, 0], 0.05)  # 1 % of 5
    assert fitted.scale_[3, 0] < 1e-4
    zeros = frame.replace({"target": {5.0: 0.0}})  # what is 0 has no size: 1 % of the median spread
    fitted = small().fit(zeros)
    np.testing.assert_allclose(fitted.scale_[:3, 0], 0.01 * fitted.scale_[3, 0])


def test_zones_with_clock_changes_and_periods():
    frame = long((100, 90))
    zoned = frame.assign(
        timestamp=pd.date_range("2024-02-01", periods=100, tz="Europe/Berlin").append(
            pd.date_range("2024-02-05", periods=90, tz="Europe/Berlin")
        )
    )
    forecast = small().fit(zoned).predict()  # over the 31st of March
    assert forecast["timestamp"].iloc[0] == pd.Timestamp("2024-05-11", tz="Europe/Berlin")
    periods = frame.assign(timestamp=frame["timestamp"].dt.to_period("D"), x=1.0)
    fitted = small(target="target", known_covariates="x").fit(periods)
    future = _future(frame, "x")
    future["timestamp"] = future["timestamp"].dt.to_period("D")
    assert fitted.predict(known_covariates=future)["target"].notna().all()
    swapped = frame.set_index(["timestamp", "item_id"])
    assert len(small().fit(swapped).predict()) == 2 * H


def test_a_single_row_off_the_grid_is_refused():
    frame = long((30,), freq="MS")
    odd = pd.DataFrame(
        {"item_id": ["odd"], "timestamp": [pd.Timestamp("2024-05-15")], "target": [1.0]}
    )
    with pytest.raises(
        ValueError, match="item 'odd' of X has 2024-05-15.*no time of frequency 'MS'"
    ):
        small(context_length=8).fit(pd.concat([frame, odd]))


def test_intervals_of_a_panel(tmp_path):
    frame = long((200, 150, 120))
    fitted = small().fit(frame)
    interval = fitted.predict_interval(coverage=0.8)
    assert interval.index.names == ["item_id", "timestamp"]
    low, high = interval["target"]["lower"], interval["target"]["upper"]
    assert (low < high).all()
    margins = fitted.interval_margins(0.8)
    assert margins.shape == (3, H, 1)
    ends = fitted.predict_quantiles()["target"]
    np.testing.assert_allclose(low, ends[0.1] - margins.ravel(), rtol=1e-6)
    np.testing.assert_allclose(high, ends[0.9] + margins.ravel(), rtol=1e-6)
    last = frame.groupby("item_id")["timestamp"].max()
    assert fitted.end_.to_dict() == last.to_dict()
    width = (high - low).groupby("item_id").mean()
    assert width["item 2"] > 2 * width["item 0"]  # three times the noise
    backtest = fitted.backtest(frame, n_windows=20, stride=1)
    actual = backtest.actual[-1]
    assert actual.shape == (3, H, 1)
    with pytest.raises(ValueError, match="X has no observed value to calibrate with"):
        fitted.calibrate(frame.assign(target=np.nan))
    pd.testing.assert_frame_equal(fitted.predict_interval(coverage=0.8), interval)


def test_a_fit_whose_calibration_fails_leaves_the_model(frame, monkeypatch):
    fitted = small().fit(frame)
    expected = fitted.predict()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("titans_ts.forecasting.fitting.calibrate", fail)
    with pytest.raises(MemoryError):
        fitted.fit(frame.assign(target=frame["target"] + 5))
    pd.testing.assert_frame_equal(fitted.predict(), expected)


def test_irregular_times_are_brought_to_a_frequency():
    rng = np.random.default_rng(0)
    exact = pd.date_range("2024-01-01", periods=200, freq="h")
    frame = pd.DataFrame({"y": rng.normal(size=200)}, exact)
    late = exact + pd.to_timedelta(rng.integers(0, 59, 200), unit="min")
    irregular = frame.set_axis(late).drop(index=late[[20, 21, 50]])
    irregular = pd.concat([irregular, irregular.iloc[60:61].set_axis([exact[62]])]).sort_index()
    expected = frame.copy()
    expected.iloc[[20, 21, 50]] = np.nan
    row = irregular.index.get_loc(exact[62])
    expected.loc[exact[62]] = irregular["y"].iloc[[row, row + 1]].mean()
    with pytest.raises(ValueError, match="the index of X"):
        small().fit(irregular)
    forecast = small(freq="h").fit(irregular).predict()
    pd.testing.assert_frame_equal(forecast, small().fit(expected).predict())
    long = pd.concat(
        [
            irregular.reset_index(names="timestamp").assign(item_id=item, kind=item)
            for item in ("b", "a")
        ]
    )
    even = pd.concat(
        [
            expected.reset_index(names="timestamp").assign(item_id=item, kind=item)
            for item in ("b", "a")
        ]
    )
    panel = small(freq="h", static_covariates="kind").fit(long)
    pd.testing.assert_frame_equal(
        panel.predict(), small(static_covariates="kind").fit(even).predict()
    )
    series = small(freq="h").fit(irregular["y"]).predict()
    np.testing.assert_array_equal(series, forecast["y"])
    with pytest.raises(ValueError, match="rows without 'item_id' or 'timestamp'"):
        small(freq="h").fit(long.assign(item_id=long["item_id"].where(long.index != 3)))
    with pytest.raises(ValueError, match="the column 'y' more than once"):
        small(freq="h").fit(irregular[["y", "y"]])
    with pytest.raises(ValueError, match="X lacks the column 'shop'"):
        small(freq="h", static_covariates="shop").fit(long)
    with pytest.raises(TypeError, match="freq is 'h', but the index of X has dtype int64"):
        small(freq="h").fit(frame.reset_index(drop=True))
    with pytest.raises(ValueError, match="freq is .fortnight., which is no frequency"):
        small(freq="fortnight").fit(frame)


@pytest.mark.parametrize("freq", ["5h", "7h", "D"])
def test_steps_of_a_frequency_do_not_depend_on_where_a_frame_begins(freq):
    frame = long((400,), freq="h").assign(x=1.0)
    frame["timestamp"] += pd.Timedelta("9h")
    border = pd.DatetimeIndex(frame["timestamp"]).floor(freq)
    cut = int(np.flatnonzero(border[1:] != border[:-1])[-5]) + 1
    parts = frame.iloc[:cut], frame.iloc[cut:]
    options = {"context_length": 8, "patch_length": 4, "freq": freq}
    fitted = small(**options, target="target", known_covariates="x").fit(parts[0])
    fitted.update(parts[1])
    known = _future(frame, "x", steps=30 * H, freq="h")
    pd.testing.assert_frame_equal(
        fitted.predict(known_covariates=known),
        fitted.predict(frame, known_covariates=known),
        atol=1e-5,
    )


def _future(frame, *columns, steps=H, freq="D"):
    rows = []
    for item, part in frame.groupby("item_id"):
        times = pd.date_range(part["timestamp"].iloc[-1], periods=steps + 1, freq=freq)[1:]
        rows.append(
            pd.DataFrame({"item_id": item, "timestamp": times, **dict.fromkeys(columns, 1.0)})
        )
    return pd.concat(rows)


def drop(frame, row):
    return frame.drop(index=row)


BAD = {
    "gap": (lambda f: drop(f, 70), {}, "item 'item 1' of X has .* after .*; the frequency is 'D'"),
    "gap in the longest": (lambda f: drop(f, 7), {}, "item 'item 0': .*lacks 2024-02-07"),
    "twice": (lambda f: pd.concat([f, f.iloc[70:71]]), {}, "item 'item 1' of X has .* twice"),
    "another frequency": (
        lambda f: f.assign(
            timestamp=f["timestamp"].where(
                f["item_id"] != "item 1", pd.Timestamp(0) + 2 * (f["timestamp"] - pd.Timestamp(0))
            )
        ),
        {},
        "item 'item 1' of X has .* the frequency is 'D'",
    ),
    "no time": (lambda f: f.drop(columns="timestamp"), {}, "no column 'timestamp'"),
    "bad time": (lambda f: f.assign(timestamp="then"), {}, "column 'timestamp' holds no times"),
    "nameless item": (
        lambda f: f.assign(item_id=f["item_id"].where(f.index != 3)),
        {},
        "rows without 'item_id' or 'timestamp'; drop them",
    ),
    "unknown column": (
        lambda f: f,
        {"known_covariates": "price"},
        "X lacks the column 'price'; it has",
    ),
    "named twice": (
        lambda f: f,
        {"target": "target", "past_covariates": "target"},
        "named more than once",
    ),
    "nothing to forecast": (
        lambda f: f,
        {"past_covariates": "target"},
        "X has no column to forecast",
    ),
    "static that moves": (
        lambda f: f.assign(s=range(len(f))),
        {"static_covariates": "s"},
        "static column 's' changes within item 'item 0'",
    ),
    "static of a wide frame": (
        lambda f: f[f["item_id"] == "item 0"].set_index("timestamp")[["target"]].assign(s=1.0),
        {"static_covariates": "s"},
        "only a long frame has static columns",
    ),
    "calendar of an array": (
        lambda f: f[["target"]].to_numpy(),
        {"calendar": True},
        "has no times",
    ),
    "calendar": (lambda f: f, {"calendar": "yes"}, "calendar is 'yes'"),
    "too short": (
        lambda f: f.groupby("item_id").head(H),
        {},
        "values has 12 rows, but one window needs",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_panels(frame, name):
    make, params, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        small(**params).fit(make(frame))


def test_bad_futures(frame):
    frame = frame.assign(x=1.0)
    forecaster = small(target="target", known_covariates="x").fit(frame)
    future = _future(frame, "x")
    for bad, message in (
        (None, "known_covariates is None, but the model was fitted with \\['x'\\]"),
        (future.drop(columns="x"), "known_covariates lacks the column 'x'"),
        (
            future[future["item_id"] != "item 1"],
            r"known_covariates lacks \('item 1', .*give the 4 steps",
        ),
        (pd.concat([future, future]), "twice"),
        (np.ones((3, H - 1, 1)), r"known_covariates has shape \(3, 3, 1\); give \[3, 4, 1\]"),
        (np.full((3, H, 1), np.inf), "known_covariates is infinite"),
        (future.set_index("timestamp")[["x"]], "known_covariates is a wide frame"),
    ):
        with pytest.raises(ValueError, match=message):
            forecaster.predict(known_covariates=bad)
    assert np.isfinite(forecaster.predict(known_covariates=future)["target"]).all()
    with pytest.raises(ValueError, match="fitted without such columns"):
        small().fit(frame[["item_id", "timestamp", "target"]]).predict(known_covariates=future)


def test_level_and_spread_of_every_item():
    values = np.array(
        [[1.0], [3.0], [np.nan], [5.0], [5.0], [np.nan], [np.nan], [0.1], [0.1], [7.0]]
    )
    offsets = np.array([0, 3, 5, 6, 10])
    level, spread = level_and_spread(values, offsets)
    np.testing.assert_allclose(level[:, 0], [2, 5, np.nan, np.mean([0.1, 0.1, 7.0])])
    np.testing.assert_allclose(spread[:, 0], [1, 0, 0, np.std([0.1, 0.1, 7.0])])
    use = np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 0], bool)
    level, spread = level_and_spread(values, offsets, use)
    np.testing.assert_allclose(level[:, 0], [1, 5, np.nan, 0.1])
    np.testing.assert_allclose(spread[:, 0], 0)


def test_static_columns_become_codes_and_numbers():
    frame = pd.DataFrame({"a": ["x", None, "y"], "b": [1.0, np.nan, 3.0], "c": [True, False, True]})
    encoder = StaticEncoder.fit(frame)
    assert encoder.sizes == ((3, 3), 1)
    codes, numbers = encoder(frame, 3)
    np.testing.assert_array_equal(codes, [[1, 2], [0, 1], [2, 2]])
    np.testing.assert_allclose(numbers, [[-1], [0], [1]])
    codes, numbers = encoder(None, 2)
    np.testing.assert_array_equal(codes, 0)
    np.testing.assert_array_equal(numbers, 0)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_hundred_thousand_items_are_read_in_seconds(shuffled):
    n_items, length = 100_000, 20
    frame = pd.DataFrame(
        {
            "item_id": np.repeat(np.arange(n_items), length),
            "timestamp": np.tile(pd.date_range("2024-01-01", periods=length).to_numpy(), n_items),
            "target": np.arange(n_items * length, dtype=float),
        }
    )
    frame = frame.sample(frac=1, random_state=0) if shuffled else frame
    start = time.process_time()
    panel = read_panel(frame)
    level_and_spread(panel.values, panel.starts)
    assert time.process_time() - start < 8  # takes 0.4 s and 1.3 s on a quiet machine
    assert panel.n_items == n_items
    first = panel.values[panel.starts[:-1], 0]
    np.testing.assert_array_equal(np.sort(first), np.arange(n_items) * length)


def irregular(n_rows=200, columns=("y",)):
    """A sine that is looked at now and then."""
    rng = np.random.default_rng(0)
    minutes = np.cumsum(1 + rng.exponential(9, n_rows)).round()
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, unit="min")
    values = {c: np.sin(minutes / 30 + i) for i, c in enumerate(columns)}
    return pd.DataFrame(values, pd.DatetimeIndex(times, name="when"))


def halves(frame):
    parts = [frame[i::2].reset_index(names="timestamp").assign(item_id=i) for i in (0, 1)]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    "form", [lambda f: f, lambda f: f["y"], halves, lambda f: f.tz_localize("CET")]
)
@pytest.mark.parametrize("carried", [0, 1])
def test_irregular_times_are_read_as_they_are(form, carried, tmp_path):
    frame = irregular()
    X, some, start = form(frame), form(frame[:160]), form(frame[:120])
    forecaster = small(freq="irregular", stateful_windows=carried, calendar=["day"]).fit(start)
    assert forecaster.model_.config.n_past == 1
    expected = forecaster.predict(some)
    for rows in (form(frame[120:142]), form(frame[142:160])):
        forecaster.update(rows)  # the gap before the first of them counts too
    series = isinstance(expected, pd.Series)
    check = pd.testing.assert_series_equal if series else pd.testing.assert_frame_equal
    check(forecaster.predict(), expected, atol=1e-5)
    forecaster.save(tmp_path / "model")
    check(TitansForecaster.load(tmp_path / "model").predict(), forecaster.predict())
    ahead = expected["timestamp"][:H] if "timestamp" in expected else expected.index
    assert len(set(np.diff(pd.DatetimeIndex(ahead)))) == 1  # the usual one
    assert len(forecaster.backtest(X).frame()) > 0
    assert forecaster.surprise(X).shape[0] == len(X)


def test_time_gaps_tell_what_values_do_not():
    frame = irregular(800)
    waited = np.log(frame.index.to_series().diff().dt.total_seconds().to_numpy())
    frame = frame[2:].assign(y=waited[1:-1])  # how long it took to come to the row before
    options = {"max_epochs": 15, "learning_rate": 0.01, "patch_length": 4, "patch_stride": 2}
    options |= {"prediction_length": 1, "scaler": "none", "n_layers": 0}
    told = small(freq="irregular", **options).fit(frame[:600])
    numbered = small(**options).fit(frame[:600].to_numpy())
    assert told.score(frame[600:]) > 0.7
    assert numbered.score(frame[600:].to_numpy()) < 0.2


def test_irregular_times_have_to_rise():
    frame = irregular(60, ("y", "z"))
    for wrong in (frame.iloc[[*range(30), 29, *range(30, 60)]], frame[::-1]):
        with pytest.raises(ValueError, match="X has .* after .*; sort it and drop duplicates"):
            small(freq="irregular").fit(wrong)
    with pytest.raises(ValueError, match="item 1 of X has .* after"):
        small(freq="irregular").fit(pd.concat([halves(frame), halves(frame).tail(1)]))
    with pytest.raises(ValueError, match="freq is 'irregular', but X has no times"):
        small(freq="irregular").fit(frame.to_numpy())
    with pytest.raises(
        ValueError, match=r"season_length is 24, .*; use calendar, for instance \['day'\]"
    ):
        small(freq="irregular", season_length=24).fit(frame)
    with pytest.raises(ValueError, match="X has 0 rows"):
        small(freq="irregular").fit(frame[:0])
    numbers = frame.set_axis(np.arange(60, dtype=np.uint64)[::-1])
    with pytest.raises(ValueError, match="X has 58 after 59"):
        small(freq="irregular").fit(numbers)
    numbered = small(freq="irregular").fit(numbers[::-1].rename_axis("n"))
    assert numbered.predict().index.name == "n"
    with pytest.raises(
        TypeError, match="the index of X has dtype datetime64.*, but 1 is the fitted"
    ):
        numbered.predict(frame)
    with pytest.raises(ValueError, match="no regular frequency .* or freq='irregular'"):
        small().fit(frame)
    fitted = small(freq="irregular", target="y", known_covariates="z").fit(frame[:50])
    with pytest.raises(ValueError, match="begin at .*, which does not come after"):
        fitted.update(frame[49:])
    with pytest.raises(TypeError, match=r"freq is 'irregular', so .* give an array \[1, 4, 1\]"):
        fitted.predict(known_covariates=frame[["z"]][50:])
    assert fitted.predict(known_covariates=frame[["z"]][50 : 50 + H].to_numpy()).shape == (H, 1)
