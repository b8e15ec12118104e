"""A forecaster that goes on learning: update, reset, surprise, and what is kept of a stream."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest

from tests.forecasting import cases
from tests.forecasting.cases import H, L
from tests.support import rounding
from titans_ts import TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.forecasting.windows import PanelWindows
from titans_ts.nn.state import flatten_state
from titans_ts.training import forecast_loss

small = partial(cases.small, stateful_windows=2)


def wide(n_rows=300):
    return make_series(n_rows, 2, random_state=1)


def panel(frame, sizes=(300, 150, 5)):
    parts = [
        frame[["y0"]].iloc[:size].reset_index(names="timestamp").assign(item_id=f"i{size}")
        for size in sizes
    ]
    return pd.concat(parts, ignore_index=True)


FORMS = {
    "frame": (lambda f: f, {}),
    "array": (lambda f: f.to_numpy(), {}),
    "series": (lambda f: f["y0"], {}),
    "joint": (lambda f: f, {"tokens": "joint", "scaler": "robust"}),
    "variate": (lambda f: f, {"tokens": "variate"}),
    "mixed": (lambda f: f, {"tokens": "mixed", "scaler": "asinh"}),
    "cycle": (lambda f: f, {"season_length": 24}),
    "lmm": (lambda f: f, {"variant": "lmm"}),
    "mag": (lambda f: f, {"variant": "mag"}),
    "known": (lambda f: f, {"target": "y0", "known_covariates": "y1"}),
    "calendar": (lambda f: f, {"calendar": True}),
}


@pytest.fixture(scope="module", params=FORMS)
def case(request):
    make, params = FORMS[request.param]
    X = make(wide())
    return small(**params).fit(X[:200]), X


def again(forecaster):
    return pickle.loads(pickle.dumps(forecaster))


def ahead(forecaster, X, end):
    known = X[["y1"]][end : end + H] if forecaster.known_covariates == "y1" else None
    return forecaster.predict(known_covariates=known)


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param([260], marks=pytest.mark.slow),
        pytest.param([201, 203, 250, 260], marks=pytest.mark.slow),
        [201, 216, 232, 260],
        [*range(201, 261)],
        pytest.param([215, 216, 232, 260], marks=pytest.mark.slow),
    ],
)
def test_any_cut_of_the_stream_gives_the_same_forecast(case, cuts):
    fitted, X = case
    whole = fitted.predict(X[:260], X[["y1"]][260:264] if fitted.known_covariates else None)
    stream, start = again(fitted), 200
    for end in cuts:
        stream.update(X[start:end])
        start = end
    forecast = ahead(stream, X, 260)
    np.testing.assert_allclose(forecast, whole, rtol=1e-4, atol=1e-4)
    if isinstance(X, (pd.DataFrame, pd.Series)):
        assert forecast.index.equals(X.index[260:264])


def test_items_of_a_panel_are_updated_each_on_its_own():
    frame = wide()
    long = panel(frame)
    fitted = small().fit(long)
    new = panel(frame.iloc[150:190], (40,)).assign(item_id="i150")
    stream = again(fitted).update(new.iloc[:1]).update(new.iloc[1:])
    longer = panel(frame, (300, 190, 5)).replace("i190", "i150")
    expected = fitted.predict(longer)
    forecast = stream.predict()
    assert list(forecast["item_id"].unique()) == ["i300", "i150", "i5"]
    pd.testing.assert_frame_equal(forecast, expected, **rounding(expected["y0"], 1e-4))
    both = pd.concat([panel(frame.iloc[5:50], (45,)).assign(item_id="i5"), new]).sample(frac=1)
    stream = again(fitted).update(both)  # in any order
    expected = fitted.predict(panel(frame, (300, 190, 50)).replace({"i190": "i150", "i50": "i5"}))
    pd.testing.assert_frame_equal(stream.predict(), expected, **rounding(expected["y0"], 1e-4))


def test_the_memory_holds_what_lies_before_the_window(case):
    fitted, X = case
    if fitted.known_covariates:
        pytest.skip("the same without covariates")
    other = X[:260].copy()
    other[:150] = np.asarray(other[:150])[::-1]  # long before the window
    same = fitted.predict(X[:260]) - fitted.predict(other)
    assert np.abs(np.asarray(same)).max() > 1e-6
    stateless = again(fitted).update(X[200:260]).reset_memory()
    window = np.asarray(X[244:260], dtype=float)
    batch = window[None] if window.ndim == 2 else window[None, :, None]
    if not (fitted.calendar or fitted.season_length):
        expected = fitted.predict(batch)[0]  # a window alone has no memory
        np.testing.assert_allclose(
            np.asarray(stateless.predict()).reshape(expected.shape), expected, **rounding(expected)
        )


def test_without_carried_windows_the_window_moves_on():
    frame = wide()
    fitted = small(stateful_windows=0).fit(frame[:200])
    expected = fitted.predict(frame[:260])
    pd.testing.assert_frame_equal(
        fitted.update(frame[200:230]).update(frame[230:260]).predict(), expected, atol=1e-5
    )
    assert len(fitted._tail.values) == L


def test_what_is_kept_does_not_grow_and_is_saved(case, tmp_path):
    fitted, X = case
    stream = again(fitted).update(X[200:260])
    size = {k: v.shape for k, v in flatten_state(fitted._state).items()}
    assert {k: v.shape for k, v in flatten_state(stream._state).items()} == size
    assert len(stream._tail.values) < 2 * L
    stream.save(tmp_path / "m")
    loaded = TitansForecaster.load(tmp_path / "m")
    np.testing.assert_array_equal(ahead(loaded, X, 260), ahead(stream, X, 260))
    loaded.update(X[260:290])  # and it goes on
    np.testing.assert_array_equal(ahead(loaded, X, 290), ahead(stream.update(X[260:290]), X, 290))


def test_missing_rows_are_absent():
    frame = wide()
    fitted = small().fit(frame[:200])
    state = flatten_state(fitted._state)
    gap = pd.DataFrame(np.nan, frame.index[200:248], frame.columns)
    stream = again(fitted).update(gap)
    assert np.isfinite(stream.predict()).all(None)
    filled = again(fitted).update(frame[200:248])
    moved = flatten_state(filled._state)
    assert any((moved[k] - v).abs().max() > 1e-6 for k, v in state.items() if v.is_floating_point())
    # two windows later all that was read of the gap is nothing
    stream.update(pd.DataFrame(np.nan, frame.index[248:280], frame.columns))
    one = flatten_state(stream._state)
    stream.update(pd.DataFrame(np.nan, frame.index[280:300], frame.columns))
    for key, value in flatten_state(stream._state).items():
        np.testing.assert_array_equal(value, one[key])


def test_bad_updates(case):
    fitted, X = case
    before = ahead(fitted, X, 200)
    if isinstance(X, (pd.DataFrame, pd.Series)):
        with pytest.raises(ValueError, match="of the series have .* where .* is expected"):
            fitted.update(X[201:])
        with pytest.raises(ValueError, match="have .* where .* is expected"):
            fitted.update(X[199:])
    with pytest.raises(ValueError, match="infinite"):
        fitted.update(X[200:210] * np.inf)
    np.testing.assert_array_equal(ahead(fitted, X, 200), before)


@pytest.mark.parametrize("form", ["frame", "panel", "numbers"])
def test_an_update_at_another_frequency_is_refused(form):
    frame = wide()
    if form == "numbers":
        frame = frame.reset_index(drop=True)
    X, new = frame[:200], frame[200:212:3]
    if form == "panel":
        X, new = (f[["y0"]].reset_index(names="timestamp").assign(item_id="a") for f in (X, new))
    fitted = small().fit(X)
    expected = fitted.predict()
    with pytest.raises(ValueError, match="where .* is expected"):
        fitted.update(new)
    pd.testing.assert_frame_equal(fitted.predict(), expected)


def test_an_update_in_another_form_is_refused():
    frame = wide()
    with pytest.raises(ValueError, match="X is a array, but a frame was fitted"):
        small().fit(frame[:200]).update(frame[200:].to_numpy())
    with pytest.raises(ValueError, match="X is a frame, but a array was fitted"):
        small().fit(frame[:200].to_numpy()).update(frame[200:])


def test_validation_counts_the_last_window_alone():
    frame = wide()
    fitted = small(stateful_windows=2).fit(frame)
    panel = fitted.predictor.read(frame, 1, fitted._tail)
    rows, static = fitted.predictor.scaled(panel)
    windows = PanelWindows(panel, rows, fitted.predictor.config, panel.spans, static, in_a_row=3)
    batch, model = windows[[0, 5]], fitted.predictor.network
    in_training, count = forecast_loss(model.train(), batch)
    assert count == 3 * 2 * H * 2  # three windows in a row, two samples, two variates
    held_out, count = forecast_loss(model.eval(), batch)
    assert count == 2 * H * 2
    past, future, _ = batch
    changed = past.clone()
    changed[:, L : 2 * L] = changed[:, L : 2 * L].flip(
        1
    )  # what the first window forecasts, and the second reads
    assert forecast_loss(model, (changed, future, static))[0] != held_out
    assert in_training != held_out


@pytest.mark.parametrize("carried", [0, 2])
def test_the_score_is_of_every_window(carried):
    frame = wide()
    fitted = small(stateful_windows=carried).fit(frame[:200])
    part = frame[200:250]
    backtest = fitted.backtest(part, stride=1)
    assert backtest.n_windows == 50 - L - H + 1
    actual, error = (
        backtest.actual[:, 0],
        backtest.actual[:, 0] - backtest.forecasts["titans"][:, 0],
    )
    flat = actual.reshape(-1, 2)
    r2 = 1 - (error.reshape(-1, 2) ** 2).sum(0) / ((flat - flat.mean(0)) ** 2).sum(0)
    assert fitted.score(part) == pytest.approx(r2.mean(), abs=1e-6)


def test_a_panel_too_short_for_an_error_is_refused():
    frame = panel(wide(), (L, 5))
    fitted = small(stateful_windows=0).fit(panel(wide()))
    with pytest.raises(ValueError, match="X has no value to score: an error needs 16 rows"):
        fitted.detect_anomalies(frame)


def test_bad_updates_of_a_panel():
    frame = wide()
    fitted = small().fit(panel(frame))
    with pytest.raises(ValueError, match="item 'new' is not one of the series"):
        fitted.update(panel(frame, (9,)).assign(item_id="new"))
    with pytest.raises(ValueError, match="new rows of item 'i150' have .* where .* is expected"):
        fitted.update(panel(frame[:160], (160,)).iloc[151:].assign(item_id="i150"))
    with pytest.raises(ValueError, match="X is a frame, but a panel was fitted"):
        fitted.update(frame[["y0"]])


def test_the_networks_surprise_has_the_form_of_the_series_and_falls_as_the_memory_learns():
    season = np.sin(np.arange(640) * np.pi / 4)  # the same eight values over and over
    frame = pd.DataFrame({"y": season}, pd.date_range("2024-01-01", periods=640, freq="h"))
    fitted = small(max_epochs=10, learning_rate=0.01).fit(frame[:400])
    surprise = fitted.surprise(frame, memory="network")
    assert surprise.index.equals(frame.index)
    assert surprise.columns.equals(frame.columns)
    assert (surprise > 0).all(None)
    # it learns within a few tokens, of eight steps; what it forgets between two visits remains
    assert surprise["y"][-64:].mean() < 0.75 * surprise["y"][:8].mean()
    frame.iloc[300:340] = np.nan
    gap = fitted.surprise(frame, memory="network")["y"]
    assert gap.iloc[308:332].isna().all()
    assert gap.iloc[344:].notna().all()
    long = frame.reset_index(names="timestamp").assign(item_id="a")[:37]
    items = pd.concat([long, long[:5].assign(item_id="b")])
    found = small().fit(items).surprise(items, memory="network")
    assert list(found.columns) == ["item_id", "timestamp", "y"]
    assert len(found) == 42
    assert (found["y"] > 0).all()


def spiked(n_rows=400):
    frame = make_series(n_rows, 2, random_state=0, seasons=(8,), noise=0.1, regime_changes=0)
    frame.iloc[300, 0] += 3
    frame.iloc[350, 1] -= 3
    return frame


@pytest.mark.parametrize("form", ["frame", "array", "panel"])
@pytest.mark.parametrize("method", ["quantile", "evt"])
def test_anomalies_are_found_where_they_are(form, method):
    frame = spiked()
    fitted = small(stateful_windows=0, n_layers=0, max_epochs=20, learning_rate=0.01)
    if form == "panel":
        long = frame.stack().rename("value").rename_axis(["timestamp", "item_id"]).reset_index()
        found = fitted.fit(long).detect_anomalies(long, risk=2e-3, method=method)
        found = found.rename(columns={"item_id": "variate", "variate": "target"})
    else:
        X = frame if form == "frame" else frame.to_numpy()
        found = fitted.fit(X).detect_anomalies(X, risk=2e-3, method=method)
        if form == "array":
            np.testing.assert_array_equal(found["timestamp"], np.arange(400).repeat(2))
            found["timestamp"] = frame.index[found["timestamp"]]
            found["variate"] = frame.columns[found["variate"].astype(int)]
    assert len(found) == 800
    marked = {(row.timestamp, row.variate) for row in found[found["anomaly"]].itertuples()}
    assert {(frame.index[300], "y0"), (frame.index[350], "y1")} <= marked
    assert len(marked) <= 4
    assert found["score"].isna().sum() == 2 * L  # the first rows have no forecast


def test_thresholds_come_from_a_reference_and_gaps_have_no_score():
    frame = spiked()
    fitted = small(stateful_windows=0, max_epochs=20, learning_rate=0.01).fit(frame[:250])
    frame.iloc[320:325] = np.nan
    found = fitted.detect_anomalies(frame[250:], reference=frame[:250], risk=1e-3)
    assert found["score"][found["value"].isna()].isna().all()
    assert not found["anomaly"][found["value"].isna()].any()
    marked = set(found[found["anomaly"]]["timestamp"])
    assert {frame.index[300], frame.index[350]} <= marked
    own = fitted.detect_anomalies(frame[250:], risk=1e-3)
    assert set(own["threshold"]).isdisjoint(found["threshold"])
    memory = fitted.detect_anomalies(frame[250:], score="surprise", risk=0.01)
    surprise = fitted.surprise(frame[250:])
    pd.testing.assert_series_equal(
        memory["score"].dropna(),
        pd.Series(surprise.to_numpy().ravel(), name="score")[memory["score"].notna()],
    )
    for params, message in (
        ({"score": "x"}, "score is 'x'; choose 'both', 'error' or 'surprise'"),
        ({"risk": 0}, "risk is 0; it must lie between 0 and 1"),
        ({"method": "x"}, "method is 'x'; choose 'quantile' or 'evt'"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.detect_anomalies(frame, **params)


def test_segments_are_windows():
    frame = wide()
    config = small(max_epochs=1).fit(frame).model_.config
    assert config.backbone.segment_length == 3  # patches of a window
    own = small(max_epochs=1, model_options={"segment_length": 5}).fit(frame).model_.config
    assert own.backbone.segment_length == 5
    default = small(max_epochs=1, stateful_windows=0).fit(frame).model_.config
    assert default.backbone.segment_length == 32
