"""GluonTS: its data sets, its evaluation, its files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("gluonts", reason="needs GluonTS: pip install 'titans-ts[gluonts]'")

from gluonts.dataset.common import ListDataset
from gluonts.dataset.pandas import PandasDataset
from gluonts.evaluation import Evaluator, make_evaluation_predictions
from gluonts.model.predictor import Predictor

from tests.forecasting.cases import SETTINGS, H
from titans_ts import TitansForecaster
from titans_ts.forecasting import metrics
from titans_ts.forecasting.defaults import Lengths, default_lengths
from titans_ts.forecasting.gluonts import TitansEstimator, TitansPredictor, to_dataset

# GluonTS' own, with pandas 2.3: nothing of ours
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:gluonts"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gluonts"),
    pytest.mark.filterwarnings("ignore:Period.*B.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*masked element.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning:gluonts"),
]


def dataset(freq="h", lengths=(120, 80, 30), **fields):
    rng = np.random.default_rng(0)
    return ListDataset(
        [
            {
                "start": "2024-01-31",
                "item_id": f"i{i}",
                "target": 10 * i + np.sin(np.arange(length) / 2) + 0.1 * rng.normal(size=length),
                **{k: v(i, length, rng) for k, v in fields.items()},
            }
            for i, length in enumerate(lengths)
        ],
        freq=freq,
    )


def test_gluonts_evaluates_our_forecasts_and_our_metrics_are_its_own():
    data = dataset()
    predictor = TitansEstimator(H, **SETTINGS).train(data)
    found, series = make_evaluation_predictions(data, predictor=predictor)
    forecasts, series = list(found), list(series)
    levels = [i / 10 for i in range(1, 10)]
    evaluator = Evaluator(quantiles=levels, num_workers=0, seasonality=12)
    theirs, _ = evaluator(iter(series), iter(forecasts))
    actual = np.stack([s.to_numpy()[-H:, 0] for s in series])
    quantiles = np.stack([[f.quantile(q) for q in levels] for f in forecasts]).swapaxes(1, 2)
    middle = quantiles[..., 4]
    wql = metrics.weighted_quantile_loss(actual, quantiles, levels)
    assert theirs["mean_wQuantileLoss"] == pytest.approx(wql)
    scale = np.array([metrics.seasonal_error(s.to_numpy()[:-H, 0], 12) for s in series])
    mase = metrics.mean_absolute_scaled_error(actual, middle, scale[:, None], axis=1)
    assert theirs["MASE"] == pytest.approx(mase.mean())
    smape = metrics.symmetric_mean_absolute_percentage_error(actual, middle)
    assert theirs["sMAPE"] == pytest.approx(smape)
    mean = np.stack([f.mean for f in forecasts])
    assert theirs["MSE"] == pytest.approx(metrics.mean_squared_error(actual, mean))
    share = [(actual <= quantiles[..., i]).mean() for i in range(9)]
    assert theirs["Coverage[0.1]"] == pytest.approx(share[0], abs=1e-9)
    assert theirs["Coverage[0.9]"] == pytest.approx(share[8], abs=1e-9)


@pytest.mark.parametrize("freq", ["15min", "h", "D", "B", "W", "M", "Q", "Y"])
def test_frequencies(freq):
    data = dataset(freq, (40, 30))
    predictor = TitansEstimator(H, calendar=True, **SETTINGS).train(data)
    for entry, forecast in zip(data, predictor.predict(data), strict=True):
        assert forecast.start_date == entry["start"] + len(entry["target"])
        assert forecast.start_date.freq == entry["start"].freq
        assert np.isfinite(forecast.quantile(0.5)).all()
        assert list(forecast.index) == [forecast.start_date + i for i in range(H)]


def test_a_preset_of_the_estimator(tmp_path):
    data = dataset()
    settings = SETTINGS | {"n_layers": None}
    predictor = TitansEstimator(H, preset="fast", **settings).train(data)
    assert predictor.forecaster.model_.config.backbone.n_layers == 0
    predictor.serialize(tmp_path)
    loaded = Predictor.deserialize(tmp_path)
    for one, other in zip(predictor.predict(data), loaded.predict(data), strict=True):
        np.testing.assert_array_equal(one.quantile(0.5), other.quantile(0.5))


@pytest.mark.parametrize("freq", ["D", "ME", "QE", "YE", "W-SUN"])
def test_frames_become_data_sets(freq):
    index = pd.date_range("2000-01-31", periods=40, freq=freq)
    wide = pd.DataFrame({"a": np.arange(40.0), "b": 2.0 * np.arange(40)}, index)
    data = to_dataset(wide)
    assert [e["item_id"] for e in data] == ["a", "b"]
    np.testing.assert_array_equal(data[1]["target"], wide["b"])
    ends = pd.period_range(data[0]["start"], periods=40, freq=data[0]["start"].freq).end_time
    assert list(ends.normalize()) == list(index)
    forecast = list(TitansEstimator(H, **SETTINGS).train(data).predict(data))[1]
    after = pd.date_range(index[-1], periods=2, freq=freq)[1]
    assert forecast.start_date.end_time.normalize() == after
    long = wide.rename_axis("timestamp").reset_index().melt("timestamp", var_name="item_id")
    long = long.assign(kind=long["item_id"], price=1.0, past=2.0)
    roles = {
        "known_covariates": "price",
        "past_covariates": "past",
        "static_covariates": "kind",
        "target": "value",
    }
    data = to_dataset(long, **roles)
    assert [e["feat_static_cat"].tolist() for e in data] == [[1], [2]]
    np.testing.assert_array_equal(data[1]["feat_dynamic_real"], np.ones((1, 40)))
    np.testing.assert_array_equal(data[1]["past_feat_dynamic_real"], 2 * np.ones((1, 40)))
    np.testing.assert_array_equal(data[1]["target"], wide["b"])
    assert data[0]["start"] == pd.Period(index[0], data[0]["start"].freq)
    with pytest.raises(TypeError, match="X is an array"):
        to_dataset(wide.to_numpy())


def features(i, length, rng):
    return rng.normal(size=(2, length + H))


def test_features_reach_the_model(tmp_path):
    fields = {
        "feat_dynamic_real": features,
        "past_feat_dynamic_real": lambda i, length, rng: rng.normal(size=(1, length)),
        "feat_static_cat": lambda i, length, rng: [i, 0],
        "feat_static_real": lambda i, length, rng: [float(i)],
    }
    data = dataset(**fields)
    predictor = TitansEstimator(H, **SETTINGS).train(data)
    config = predictor.forecaster.model_.config
    assert (config.n_known, config.n_past, config.n_static) == (2, 1, 1)
    assert config.static_categories == (4, 2)
    expected = [f.mean for f in predictor.predict(data)]
    for name in fields:
        changed = [dict(entry) for entry in data]
        for entry in changed:
            value = np.array(entry[name])
            entry[name] = (value + 1) % 3 if name == "feat_static_cat" else value + 3
        moved = [f.mean for f in predictor.predict(changed)]
        assert not np.allclose(expected, moved, atol=1e-6), name
    predictor.serialize(tmp_path)
    loaded = Predictor.deserialize(tmp_path)
    assert isinstance(loaded, TitansPredictor)
    for ours, theirs in zip(loaded.predict(data), expected, strict=True):
        np.testing.assert_array_equal(ours.mean, theirs)
    cut = [{**e, "feat_dynamic_real": e["feat_dynamic_real"][:, :-H]} for e in data]
    with pytest.raises(ValueError, match="entry 0 has feat_dynamic_real up to step 120; .* to 124"):
        list(predictor.predict(cut))


def assert_same(actual, expected):
    """Equal but for float32 rounding, which is relative to the largest of the values, not to each."""
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("scaler", ["standard", "none"])
def test_an_item_keeps_its_scale_wherever_it_stands(scaler):
    data = [
        {**entry, "target": np.asarray(entry["target"]) * 10 ** (4 * i)}
        for i, entry in enumerate(dataset(lengths=(60, 60)))
    ]
    settings = SETTINGS | {"scaler": scaler}
    predictor = TitansEstimator(H, **settings).train(data)
    first, second = (f.mean for f in predictor.predict(data))
    again = [f.mean for f in predictor.predict(data[::-1])]
    assert_same(again[1], first)
    assert_same(again[0], second)
    assert_same(next(iter(predictor.predict(data[1:]))).mean, second)
    # an entry without a name, or with a name that others have too, is a new item
    nameless = [{k: v for k, v in e.items() if k != "item_id"} for e in data]
    alone = [next(iter(predictor.predict([e]))).mean for e in nameless]
    for twice, once in zip(predictor.predict([*data, *data]), [*alone, *alone], strict=True):
        assert_same(twice.mean, once)


def test_several_variates():
    rng = np.random.default_rng(0)
    data = ListDataset(
        [{"start": "2024-01-01", "target": rng.normal(size=(3, 60))} for _ in range(2)],
        freq="D",
        one_dim_target=False,
    )
    forecast = next(iter(TitansEstimator(H, **SETTINGS).train(data).predict(data)))
    assert forecast.mean.shape == (H, 3)
    assert forecast.copy_dim(1).quantile(0.5).shape == (H,)


def test_lengths_follow_from_the_frequency_of_the_entries():
    settings = SETTINGS | dict.fromkeys(Lengths._fields)
    for freq, context in (("h", 28), ("D", 20)):
        config = TitansEstimator(H, **settings).train(dataset(freq)).forecaster.model_.config
        assert config.context_length == context == default_lengths(H, freq, 80).context_length


def test_a_fitted_forecaster_becomes_a_predictor():
    index = pd.date_range("2024-01-01", periods=100, freq="h")
    frame = pd.DataFrame({"y": np.sin(np.arange(100) / 2)}, index)
    forecaster = TitansForecaster(H, stateful_windows=1, **SETTINGS).fit(frame)
    data = PandasDataset(frame, target="y")
    forecast = next(iter(TitansPredictor(forecaster).predict(data)))
    assert_same(forecast.mean, forecaster.predict()["y"])
    quantiles = forecaster.predict_quantiles()["y"]
    assert_same(forecast.quantile(0.9), quantiles[0.9])


def test_validation_data_are_held_out():
    data = dataset()
    longer = dataset(lengths=(124, 84, 34))
    estimator = TitansEstimator(H, **SETTINGS)
    history = estimator.train(data, longer).forecaster.history_
    assert "validation_loss" in history[-1]
    again = TitansEstimator.from_hyperparameters(prediction_length=H, **SETTINGS)
    assert again.train(data, longer).forecaster.history_[-1]["validation_loss"] == pytest.approx(
        history[-1]["validation_loss"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: [], "the data set has no entry"),
        (lambda e: [{**e[0], "target": []}], "entry 0 .* has an empty target"),
        (lambda e: [{**e[0], "target": [np.inf]}], "entry 0 .* infinite value in target"),
        (lambda e: [*e, {**e[0], "start": pd.Period("2024", "D")}], "entry 3 .* frequency 'D'"),
        (lambda e: [e[0], {**e[1], "target": np.zeros((2, 50))}], "entry 1 .* has 2 variates, 1"),
        (
            lambda e: [{**e[0], "feat_static_cat": [1]}, e[1]],
            "entry 1 has 0 static features; expected 1",
        ),
        (
            lambda e: [{**e[0], "feat_dynamic_real": np.zeros((1, 124))}, e[1]],
            r"entry 1 \(i1\) has feat_dynamic_real of shape \(0, 80\); give \[1, 80\]",
        ),
    ],
)
def test_bad_data_sets(change, message):
    with pytest.raises(ValueError, match=message):
        TitansEstimator(H, **SETTINGS).train(change(list(dataset())))


@pytest.mark.parametrize("freq", ["W-WED", "QE-NOV", "ME", "MS", "B", "h"])
def test_times_mean_to_gluonts_what_they_did_when_fitted(freq):
    index = pd.date_range("2020-01-06", periods=60, freq=freq)
    frame = pd.DataFrame({"y": np.arange(60) % 4 == 2}, index).astype(float)
    forecaster = TitansForecaster(4, **SETTINGS, season_length=4, calendar=True).fit(frame)
    forecast = next(TitansPredictor(forecaster).predict(to_dataset(frame)))
    assert_same(forecast.mean, forecaster.predict()["y"])


def test_what_a_data_set_says_itself_is_no_parameter():
    for name in ("target", "freq", "static_covariates"):
        with pytest.raises(
            ValueError, match=f"{name} is 'x', but the fields of a GluonTS data set"
        ):
            TitansEstimator(4, **{name: "x"})
