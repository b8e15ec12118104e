"""The surprise of the memory that reads a series: what it means, and what is kept of a stream."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.forecasting.cases import small
from titans_ts import TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.forecasting.anomalies import rarity
from titans_ts.nn.series.memory import (
    BOUND,
    HALF_LIFE,
    KEY,
    STEP,
    horizons,
    series_surprise,
    start_series,
)

LENGTH = 12
ROUNDING = 1e-9
"""Of float64, over some hundred steps."""


def series(n_streams=3, n_rows=400):
    return make_series(n_rows, n_streams, random_state=0, seasons=(24,)).to_numpy().T


def naive(x):
    """Return the surprise of one stream `[T]`, a value after the other, as its definition says."""
    a = 0.5 ** (1 / HALF_LIFE)
    back = horizons(LENGTH)
    weights = {m: np.zeros(2 * KEY) for m in back}
    usual = {m: [] for m in ("change", *back, *(("error", m) for m in back))}
    changes = [0.0] * (2 * LENGTH + 3 * KEY)

    def bounded(r):
        return r / np.sqrt(1 + (r / BOUND) ** 2)

    def ratio(value, name):
        usual[name].append(abs(value))
        size = np.average(usual[name], weights=a ** np.arange(len(usual[name]))[::-1])
        return (value / size if size else 0.0), size

    found = []
    for t in range(len(x)):
        changes.append(bounded(ratio(x[t] - x[max(0, t - 1)], "change")[0]))
        last, parts = len(changes), []
        for m in back:
            end = last - m
            early = last - max(m, LENGTH - KEY // 2)
            key = np.array(changes[end - KEY : end] + changes[early - KEY : early])
            key /= np.linalg.norm(key) or 1
            difference = x[t] - x[max(0, t - m)]
            r, size = ratio(difference, m)
            miss = bounded(r) - key @ weights[m]
            parts.append(ratio(difference - key @ weights[m] * size, ("error", m))[0])
            weights[m] += STEP * miss * key
        found.append(np.mean(np.abs(parts)))
    return np.array(found)


def test_the_surprise_is_as_defined():
    x = series(2, 150)
    found, _ = series_surprise(x, start_series(2, LENGTH))
    assert_allclose(found, np.stack([naive(row) for row in x]), rtol=ROUNDING)


@pytest.mark.parametrize("sizes", [(1,), (7, 100), (0, 250, 3)])
def test_any_split_gives_the_same(sizes):
    x = series()
    x[0, 50:80] = np.nan
    x[1, ::3] = np.nan
    x[2, :10] = np.nan
    whole, end = series_surprise(x, start_series(3, LENGTH))
    state, parts, start = start_series(3, LENGTH), [], 0
    while start < x.shape[1]:
        for size in sizes:
            part, state = series_surprise(x[:, start : start + size], state)
            parts.append(part)
            start += size
    assert_allclose(np.concatenate(parts, 1), whole, rtol=ROUNDING, atol=ROUNDING)
    for found, expected in zip(state, end, strict=True):
        assert (
            found.shape == expected.shape == start_series(3, LENGTH)[0].shape[:1] + found.shape[1:]
        )
        assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)


def test_a_missing_value_is_absent():
    x = series(2)
    holes = np.random.default_rng(0).random(x.shape[1]) < 0.3
    broken = np.where([holes, ~holes], np.nan, x)
    found, _ = series_surprise(broken, start_series(2, LENGTH))
    assert_array_equal(np.isnan(found), np.isnan(broken))
    for row, kept, values in zip(found, (~holes, holes), x, strict=True):
        alone, _ = series_surprise(values[None, kept], start_series(1, LENGTH))
        assert_allclose(row[kept], alone[0], rtol=ROUNDING, atol=ROUNDING)
    nothing, state = series_surprise(np.full((2, 5), np.nan), start_series(2, LENGTH))
    assert np.isnan(nothing).all()
    for part in state:
        assert not part.any()


@pytest.mark.parametrize("factor", [1000, -1e-9, 1e12])
def test_a_multiple_and_an_offset_change_nothing(factor):
    x = series()
    found, _ = series_surprise(x, start_series(3, LENGTH))
    scaled, _ = series_surprise(factor * x, start_series(3, LENGTH))
    assert_allclose(scaled, found, rtol=ROUNDING, atol=ROUNDING)
    moved, _ = series_surprise(x + 100, start_series(3, LENGTH))
    assert_allclose(moved, found, rtol=1e-6, atol=1e-6)


def test_the_unit_is_the_usual_error():
    """Of noise and of a random walk alike, whatever the share of either that can be predicted."""
    noise = np.random.default_rng(0).normal(size=(4, 6000))
    found, _ = series_surprise(np.concatenate([noise, noise.cumsum(1)]), start_series(8, 24))
    # the first errors, before anything is learned, are larger and are still among the usual ones
    assert_allclose(found[:, 1000:].mean(1), 1, atol=0.05)


def test_a_spike_ranks_first_and_a_shift_is_surprising_for_some_time():
    x = series(1, 2000)
    deviation = np.diff(x[0]).std()
    spiked, shifted = x.copy(), x.copy()
    spiked[0, 1500] += 6 * deviation
    found, _ = series_surprise(spiked, start_series(1, 24))
    assert found[0].argmax() == 1500
    shifted[0, 1500:1520] += 6 * deviation
    found, _ = series_surprise(shifted, start_series(1, 24))
    assert found[0, 1500:1520].min() > np.quantile(found[0, 500:1500], 0.9)


def test_still_and_odd_streams_are_finite():
    x = np.zeros((4, 3000))
    x[1, 2000:] = 1
    x[2, ::50] = 1
    x[3] = 2.0 ** np.arange(3000).clip(0, 900)
    found, _ = series_surprise(x, start_series(4, LENGTH))
    assert not found[0].any()
    assert np.isfinite(found).all()
    assert found[1].argmax() == 2000
    assert found[1, 2000] <= 2001  # at most as many as there were values


# forecaster


@pytest.fixture(scope="module")
def fitted():
    return small().fit(make_series(200, 2, random_state=0))


def again(forecaster):
    return pickle.loads(pickle.dumps(forecaster))


def test_watching_in_pieces_saved_and_loaded(fitted, tmp_path):
    frame = make_series(500, 2, random_state=0)
    whole = fitted.surprise(frame)
    assert whole.index.equals(frame.index)
    forecaster = again(fitted)
    parts = [forecaster.watch(frame[:210])]
    forecaster.save(tmp_path)
    forecaster = TitansForecaster.load(tmp_path)
    parts += [forecaster.watch(frame[210:211]), forecaster.watch(frame[211:])]
    pd.testing.assert_frame_equal(pd.concat(parts), whole, check_freq=False, rtol=ROUNDING)
    with pytest.raises(ValueError, match="X begins at .*, which was watched before"):
        forecaster.watch(frame[490:])
    begun = forecaster.reset_memory().watch(frame)
    pd.testing.assert_frame_equal(begun, whole, check_freq=False)


def test_watching_items_of_a_panel(tmp_path):
    frame = make_series(200, 3, random_state=1)
    long = frame.stack().rename("y").rename_axis(["timestamp", "item_id"]).reset_index()
    fitted = small().fit(long)
    first = long[(long["timestamp"] < frame.index[90]) & (long["item_id"] != "y2")]
    second = long[(long["timestamp"] >= frame.index[90]) | (long["item_id"] == "y2")]
    parts = [fitted.watch(first)]
    fitted.save(tmp_path)
    fitted = TitansForecaster.load(tmp_path)
    parts.append(fitted.watch(second[second["item_id"] != "y0"]))  # with a new one
    parts.append(fitted.watch(second[second["item_id"] == "y0"]))
    found = pd.concat(parts).sort_values(["item_id", "timestamp"], ignore_index=True)
    whole = fitted.surprise(long).sort_values(["item_id", "timestamp"], ignore_index=True)
    pd.testing.assert_frame_equal(found, whole, rtol=ROUNDING)
    with pytest.raises(ValueError, match="item 'y0' begins at .*, which was watched before"):
        fitted.watch(long)


def test_watching_arrays_and_vectors():
    x = make_series(200, 1, random_state=1).to_numpy()[:, 0]
    fitted = small().fit(x)
    parts = [fitted.watch(x[:77]), fitted.watch(x[77:])]
    assert_allclose(np.concatenate(parts), fitted.surprise(x), rtol=ROUNDING)


def test_both_memories_and_a_bad_name(fitted):
    frame = make_series(200, 2, random_state=0)
    network = fitted.surprise(frame, memory="network")
    assert network.shape == frame.shape
    assert not np.allclose(network, fitted.surprise(frame))
    with pytest.raises(ValueError, match="memory is 'x'; choose 'series' or 'network'"):
        fitted.surprise(frame, memory="x")


@pytest.mark.parametrize("changes", [{"n_layers": 0}, {"variant": "swa"}])
def test_a_network_without_a_memory_has_no_surprise(changes):
    frame = make_series(100, 1, random_state=0)
    with pytest.raises(ValueError, match="no network with a memory was fitted; choose 'series'"):
        small(**changes).fit(frame).surprise(frame, memory="network")


def test_rarity_of_tails_and_of_few_scores():
    rng = np.random.default_rng(0)
    usual = rng.exponential(size=(20_000, 1))
    found = rarity(np.array([[0.0], [np.log(10)], [np.log(1e7)], [np.nan]]), usual)[:, 0]
    assert (np.abs(found[:3] - [0, 1, 7]) < [1e-4, 0.02, 1.0]).all()
    assert np.isnan(found[3])
    few = rarity(np.array([[0.0], [5.0], [9.0]]), np.arange(9.0)[:, None])[:, 0]
    assert_allclose(few, -np.log10([1, 0.5, 0.1]))
    assert np.isnan(rarity(np.ones((1, 1)), np.full((3, 1), np.nan))).all()
    same = rarity(np.ones((1, 1)), np.ones((100, 1)))
    assert_allclose(same, 0)
