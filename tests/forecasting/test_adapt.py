"""Forecasts that keep learning after the fit."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from tests.forecasting.cases import small
from titans_ts import TitansForecaster
from titans_ts.config import ForecasterConfig
from titans_ts.forecasting import error_memory
from titans_ts.forecasting.error_memory import WINDOW, begin, read_rows, start_memory

H, L = 4, 16
ROUNDING = 1e-6


def started(n_variates, season_length=1, horizon=H):
    """An empty memory."""
    config = ForecasterConfig(prediction_length=horizon, n_variates=n_variates)
    return start_memory(config, season_length)


def changing(n=900, seed=0):
    """Two variates with a day of 24 hours; the second one changes its shape after 500 rows."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    day = np.sin(2 * np.pi * t / 24)
    other = np.where(t < 500, day, np.abs(np.cos(2 * np.pi * t / 24)) * 2)
    values = np.stack([day, other], 1) + 0.1 * rng.normal(size=(n, 2))
    return pd.DataFrame(values, pd.date_range("2024", periods=n, freq="h"), columns=["a", "b"])


def adapting(**changes):
    settings = {"n_layers": 0, "max_epochs": 2, "blend": False, "adapt": True} | changes
    return small(prediction_length=H, context_length=L, **settings)


@pytest.fixture(scope="module")
def fitted():
    return adapting().fit(changing()[:400])


def mse(model, frame):
    return model.backtest(frame, stride=1).metrics()["mse"]["titans"]


def test_errors_fall_after_a_change(fitted):
    frozen = adapting(adapt=False).fit(changing()[:400])
    assert_array_equal(
        frozen.model_.head.point.weight.detach(), fitted.model_.head.point.weight.detach()
    )
    late = changing()[600:]
    assert mse(fitted, late) < 0.8 * mse(frozen, late)
    # what was learned before is worth something
    learned = deepcopy(fitted).update(changing()[400:600])
    assert mse(learned, changing()[600:680]) < mse(fitted, changing()[600:680])


def test_any_split_of_the_rows_is_the_same(fitted):
    whole, parts = deepcopy(fitted), deepcopy(fitted)
    whole.update(changing()[400:520])
    for start, end in ((400, 401), (401, 407), (407, 500), (500, 520)):
        parts.update(changing()[start:end])
    assert_allclose(whole.predict(), parts.predict(), atol=ROUNDING)
    assert_allclose(whole.predict_quantiles(), parts.predict_quantiles(), atol=ROUNDING)
    assert not np.allclose(
        whole.predict(), whole.predict(changing()[:520])
    )  # which is not corrected


def test_the_forecasts_of_a_backtest_are_those_of_a_stream(fitted):
    frame = changing()
    tested = fitted.backtest(frame[300:440], n_windows=1).frame()
    # a backtest begins two horizons before its first forecast
    stream = deepcopy(fitted).set_history(frame[: 440 - 3 * H]).update(frame[440 - 3 * H : 440 - H])
    forecast = tested.pivot(index="timestamp", columns="variate", values="titans")
    assert_allclose(forecast, stream.predict(), atol=ROUNDING)
    assert not np.allclose(forecast, fitted.predict(frame[: 440 - H]))


def knows_the_future(fitted, ahead):
    """Whether a forecast changes with values after it, if values are known `ahead` rows too early."""
    frame = changing()[400:460]
    other = frame.copy()
    other.iloc[30:] += 100.0
    found = []
    for rows in (frame, other):
        panel = fitted.predictor.read(rows, 1, fitted._tail)
        panel = replace(panel, values=np.roll(panel.values, -ahead, 0))
        memory = begin(fitted._errors, panel, L)
        cuts = L + 1 + np.arange(len(rows) - L)
        point, _, added = read_rows(memory, fitted.predictor, panel, L, cuts)
        found.append(point + added)
    last = 29 - L  # the forecast after row 29
    assert not np.allclose(found[0][last + 1], found[1][last + 1])
    return not np.array_equal(found[0][: last + 1], found[1][: last + 1])


def test_a_label_is_never_used_before_its_time(fitted):
    assert not knows_the_future(fitted, 0)
    assert knows_the_future(fitted, 1)


def test_saved_models_go_on(fitted, tmp_path):
    model = deepcopy(fitted).update(changing()[400:450])
    model.save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    for one in (model, loaded):
        one.update(changing()[450:470])
    assert_array_equal(model.predict(), loaded.predict())


def test_size_and_numbers_stay_bounded():
    memory = started(3, 24)
    sizes = {name: getattr(memory, name).shape for name in error_memory.NAMES}
    rng = np.random.default_rng(0)
    values = rng.standard_t(2, size=(3000, 3)) * np.array([1e-9, 1.0, 1e9])
    values[500:900, 1] = 0.0
    values[rng.random(values.shape) < 0.1] = np.nan
    values[1000:1200] = np.nan
    scale = np.array([1e-9, 1.0, 1e9])
    for row in range(WINDOW, len(values)):
        forecast = np.where(row % 7 == 0, np.nan, np.nan_to_num(values[row - H : row]))
        ends = np.stack([forecast - scale, forecast + scale])
        found = memory.read(values[row - WINDOW : row], forecast, ends, scale)
        assert np.isfinite(found).all()
        assert (np.abs(found) <= 5 * (np.nanmax(np.abs(values), 0) + scale)).all()
    assert sizes == {name: getattr(memory, name).shape for name in error_memory.NAMES}
    assert np.linalg.eigvalsh(memory.covariance).min() > 0


def test_the_write_is_that_of_least_squares(monkeypatch):
    """Without forgetting, M is the ridge regression of all errors on all keys."""
    monkeypatch.setattr(error_memory, "_RETENTION", (1.0, 1.0))
    rng = np.random.default_rng(0)
    values, memory, pairs = rng.normal(size=(300, 2)), started(2), []
    forecasts = rng.normal(size=(300, H, 2)) / 5
    for row in range(WINDOW, 300):
        ends = np.full((2, H, 2), np.nan)
        memory.read(values[row - WINDOW : row], forecasts[row], ends, np.ones(2))
        slot = (memory.place[2] - 1) % H
        if row + H < 300:
            error = (values[row : row + H] - forecasts[row]) / memory.units[slot]
            pairs.append((memory.keys[slot].copy(), np.clip(error, -5, 5).T))
    keys, errors = (np.stack(list(part), 1) for part in zip(*pairs, strict=True))  # [C, n, D | H]
    for weights, k, v in (
        (memory.weights[0], np.concatenate(keys), np.concatenate(errors)),
        (memory.weights[1], keys[0], errors[0]),
        (memory.weights[2], keys[1], errors[1]),
    ):
        expected = np.linalg.solve(k.T @ k + np.eye(k.shape[1]), k.T @ v)
        assert_allclose(weights, expected, atol=1e-8)


@pytest.mark.parametrize("every", [1, 16])
def test_what_forgets_is_least_squares_of_what_is_left(monkeypatch, every):
    """An error of age a counts by the retention to the power of a, and so does the first M."""
    monkeypatch.setattr(error_memory, "_EVERY", every)
    rng = np.random.default_rng(0)
    memory = started(1, horizon=1)
    D = memory.keys.shape[2]
    keys, errors = rng.normal(size=(400, D)), rng.normal(size=(400, 1))
    for row, (k, v) in enumerate(zip(keys, errors, strict=True)):
        if row and row % every == 0:
            memory._forget()
        memory._learn(k[None], (v - k @ memory.weights[0])[None])
        memory._learn_one(1, k, v - k @ memory.weights[1])
    turns = (len(keys) - 1) // every - np.arange(len(keys)) // every  # so often it lost weight
    for i, retention in enumerate(error_memory._RETENTION):
        left = retention ** (every * turns)[:, None]
        products = (keys * left).T @ keys + left[0] * np.eye(D)
        expected = np.linalg.solve(products, (keys * left).T @ errors)
        assert_allclose(memory.weights[i], expected, atol=1e-9)
        size = np.abs(memory.covariance[i]).max()
        assert_allclose(memory.covariance[i], memory.covariance[i].T, atol=1e-14 * size)
    memory.covariance[:, 0, 1] += 1e-9  # as rounding does on some processors
    memory._forget()
    assert_array_equal(memory.covariance, memory.covariance.swapaxes(1, 2))


def test_shares_are_those_that_would_have_been_best():
    """Compared with a search over a grid of shares that are not negative and at most 1 together."""
    rng = np.random.default_rng(0)
    memory = started(1)
    grid = np.linspace(0, 1, 101)
    for _ in range(20):
        read = rng.normal(size=(2, 30)) * rng.uniform(0.1, 3, (2, 1))
        error = rng.normal(size=2) @ read + rng.normal(size=30)
        memory.evidence[:] = read @ np.vstack([read, error]).T
        left = {
            (a, b): np.square(error - a * read[0] - b * read[1]).sum()
            for a in grid
            for b in grid[grid <= 1 - a + 1e-9]
        }
        assert_allclose(memory.shares, min(left, key=left.get), atol=0.011)


def test_missing_values_and_variates(fitted):
    frame = changing()
    frame.iloc[420:430] = np.nan
    frame.iloc[440:, 1] = np.nan
    model = deepcopy(fitted).update(frame[400:600])
    assert np.isfinite(model.predict()).all(axis=None)


@pytest.mark.parametrize("changes", [{"calendar": True}, {"season_length": 24}, {"blend": True}])
def test_other_parts_of_a_forecast(changes):
    model = adapting(**changes).fit(changing()[:300])
    parts = deepcopy(model)
    model.update(changing()[300:330])
    parts.update(changing()[300:311]).update(changing()[311:330])
    assert_allclose(model.predict(), parts.predict(), atol=1e-4)
    low, high = (model.predict_interval().xs(name, axis=1, level=1) for name in ("lower", "upper"))
    assert (low <= high).all(axis=None)
    shift = model.predict() - model.set_params(adapt=False).predict()
    assert shift.eq(0).all(axis=None)  # what was fitted counts, not the parameter


def covered(model, frame, start, end, coverage=0.8):
    """Share of values in intervals of a stream, and their mean width, of each variate."""
    inside, widths = [], []
    for row in range(start, end, H):
        interval = model.predict_interval(coverage=coverage)
        low, high = (interval.xs(name, axis=1, level=1) for name in ("lower", "upper"))
        actual = frame[row : row + H].to_numpy()
        inside.append((low.to_numpy() <= actual) & (actual <= high.to_numpy()))
        widths.append((high - low).to_numpy())
        model.update(frame[row : row + H])
    return np.mean(inside, (0, 1)), np.mean(widths, (0, 1))


def test_intervals_adapt_with_the_forecasts(fitted):
    frame = changing(1100)
    model = deepcopy(fitted).update(frame[400:800])
    share, width = covered(model, frame, 800, 1100)
    assert (np.abs(share - 0.8) < 0.08).all()
    frozen = adapting(adapt=False).fit(frame[:400]).calibrate(frame[484:800])
    _, wide = covered(frozen.update(frame[400:800]), frame, 800, 840)
    assert width[1] < 0.8 * wide[1]


def test_intervals_without_a_fit_are_those_of_corrected_forecasts():
    model = TitansForecaster(H, preset="zero-shot", adapt=True).fit(changing()[:300])
    latest = model._errors.calibration()
    added = latest.margin(0.9) * model.scale_
    quantiles = model.predict_quantiles().to_numpy().reshape(H, 2, -1)
    interval = model.predict_interval(coverage=0.9).xs("upper", axis=1, level=1)
    assert_allclose(interval, quantiles[..., -1] + added)


def test_errors_of_intervals_are_those_that_a_stream_had(fitted):
    """Whoever forecasts, waits and compares has the same scores; no order of calls changes them."""
    frame, model = changing(), deepcopy(fitted)
    made = []
    for row in range(400, 460):
        quantiles = model.predict_quantiles().to_numpy().reshape(H, 2, -1)
        made.append((row, model.predict().to_numpy(), quantiles[..., 0], quantiles[..., -1]))
        model.update(frame[row : row + 1])
    found = model._errors.calibration()
    expected = [
        (frame[row : row + H].to_numpy() - mean) / model.scale_
        for row, mean, _, _ in made
        if row + H <= 460
    ]
    assert_allclose(found.errors[-len(expected) :], expected, atol=1e-5)
    expected = [
        np.maximum(low - actual, actual - high) / model.scale_
        for row, _, low, high in made
        if row + H <= 460
        for actual in [frame[row : row + H].to_numpy()]
    ]
    assert_allclose(found.scores[-len(expected) :], expected, atol=1e-5)
    other = changing(seed=1)[:400]  # which is not corrected, and has its own calibration
    before = model.predict_interval(other)
    model._errors = None
    assert_array_equal(before, model.predict_interval(other))


def test_the_latest_errors_replace_the_oldest():
    memory = started(1)
    memory.scores, memory.errors = memory.scores[:30], memory.errors[:30]
    rng = np.random.default_rng(0)
    values = rng.normal(size=(WINDOW + 100, 1))
    for row in range(WINDOW, len(values)):
        assert (memory.calibration() is None) == (row - H - WINDOW < error_memory._ENOUGH)
        forecast = np.full((H, 1), float(row))
        memory.read(values[row - WINDOW : row], forecast, np.full((2, H, 1), np.nan), np.ones(1))
    rows = sorted(-np.round(memory.calibration().errors[:, 0, 0]))
    assert_allclose(rows, np.arange(len(values) - H - 30, len(values) - H), atol=8)
    assert np.isnan(memory.scores).all()  # without quantiles


def test_a_variate_that_the_fit_did_not_see_is_left_as_it_is():
    frame = changing().assign(c=lambda rows: rows["a"] * 50)
    frame.iloc[:300, 2] = np.nan
    with pytest.warns(UserWarning, match="X has no value in the columns"):
        model = adapting().fit(frame[:300])
    parts, early = deepcopy(model), frame.copy()
    early.iloc[420:, 2] *= 1000
    whole = deepcopy(model).update(frame[300:430])
    for row in range(300, 430, 13):
        parts.update(frame[row : row + 13])
    assert_allclose(whole.predict()[["a", "b"]], parts.predict()[["a", "b"]], atol=ROUNDING)
    found = [
        model.backtest(rows[300:450], stride=1).frame().query("variate != 'c'")
        for rows in (frame, early)
    ]
    before = found[0]["timestamp"] < frame.index[420]
    assert_array_equal(found[0]["titans"][before], found[1]["titans"][before])


def test_what_another_version_saved_is_refused(fitted, tmp_path):
    model = deepcopy(fitted)
    model._errors.units = model._errors.units[:, :1]
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="has no array 'units' of the shape"):
        TitansForecaster.load(tmp_path / "model")


def test_arrays_vectors_and_without_a_fit():
    values = changing().to_numpy()
    model = adapting().fit(values[:300]).update(values[300:320])
    assert model.predict().shape == (H, 2)
    vector = adapting().fit(values[:300, 0]).update(values[300:320, 0])
    assert vector.sample(n_samples=3, random_state=0).shape == (3, H)
    unfitted = TitansForecaster(H, preset="zero-shot", adapt=True).fit(changing()[:200])
    before = unfitted.predict()
    assert not np.allclose(unfitted.update(changing()[200:260]).predict(), before)


def test_without_a_fit_any_split_is_the_same():
    frame = changing()
    frame.iloc[300:] *= 3
    model = TitansForecaster(H, preset="zero-shot", adapt=True).fit(frame[:200])
    parts = deepcopy(model)
    model.update(frame[200:330])
    for start in range(200, 330, 26):
        parts.update(frame[start : start + 26])
    assert_allclose(model.predict(), parts.predict(), atol=1e-4)
    assert_allclose(model._errors.weights, parts._errors.weights, atol=1e-4)


def test_what_was_fitted_counts_and_not_the_parameter(fitted):
    whole = deepcopy(fitted).set_params(adapt=False).update(changing()[400:440])
    parts = deepcopy(fitted).set_params(adapt=False)
    for row in range(400, 440):
        parts.update(changing()[row : row + 1])
    assert_allclose(whole.predict(), parts.predict(), atol=ROUNDING)
    assert whole.reset_memory()._errors is not None


def test_a_fit_that_fails_leaves_the_model(fitted, monkeypatch):
    model = deepcopy(fitted)
    before = model.predict()
    monkeypatch.setattr("titans_ts.forecasting.forecaster.learned", None)
    with pytest.raises(TypeError):
        model.fit(changing()[:300])
    assert_array_equal(model.predict(), before)
    with pytest.raises(TypeError):
        model.set_params(preset="zero-shot", blend=True).fit(changing()[:300])
    assert_array_equal(model.predict(), before)


def test_days_keep_their_week_from_year_to_year():
    days = changing(800).set_axis(pd.date_range("2020-01-01", periods=800, freq="D"))
    model = adapting().fit(days[:300]).update(days[300:])
    assert model._errors.seasons.tolist() == [7, 365]
    again = deepcopy(model).set_history(days)
    assert_array_equal(model._errors.place[:2], again._errors.place[:2])


def test_rows_without_values_leave_the_evidence():
    memory = started(1)
    memory.evidence[:] = [[2.0, 0.0, 1.0], [0.0, 2.0, 0.0]]
    for _ in range(50):
        nothing = np.full((2, H, 1), np.nan)
        memory.read(np.full((WINDOW, 1), np.nan), nothing[0], nothing, np.ones(1))
    assert_allclose(memory.shares, [0.5, 0], atol=1e-3)
    memory.evidence[:] = 0.0
    assert_array_equal(memory.shares, [0, 0])
    memory.evidence[:] = 1e20  # both memories say the same, and are right
    assert_allclose(memory.shares.sum(), 1, atol=1e-5)


def test_long_streams_are_read_in_parts(fitted, monkeypatch):
    whole = fitted.backtest(changing()[400:500], stride=3).frame()
    monkeypatch.setattr(error_memory, "_NUMBERS", 7 * H * 2 * 4)
    parts = fitted.backtest(changing()[400:500], stride=3).frame()
    assert_allclose(whole["titans"], parts["titans"], atol=ROUNDING)


def test_the_memory_can_be_emptied(fitted):
    model = deepcopy(fitted)
    assert np.abs(model._errors.weights).max() > 0
    model.reset_memory()
    assert np.abs(model._errors.weights).max() == 0
    assert_allclose(model.predict(), model.predict(changing()[:400]), atol=ROUNDING)
    assert clone(model).get_params()["adapt"]


def test_what_cannot_adapt_is_refused():
    long = changing().melt(ignore_index=False).reset_index()
    long.columns = ["timestamp", "item_id", "y"]
    for X, changes, message in (
        (long, {}, "adapt is True, but X is a long frame; give a wide one, or set adapt=False"),
        (changing(), {"adapt": 1}, "adapt is 1; give True or False"),
        (changing(), {"stateful_windows": 1, "n_layers": 1}, "stateful_windows is 1; choose one"),
        (changing(), {"freq": "irregular"}, "freq is 'irregular'; resample"),
        (changing(), {"known_covariates": "b"}, "known_covariates are .*; leave them out"),
    ):
        with pytest.raises(ValueError, match=message):
            adapting(**changes).fit(X)
    with pytest.raises(ValueError, match="adapt is True, but forecasts without a fit do not learn"):
        TitansForecaster.from_pretrained(H, adapt=True).predict(changing())
