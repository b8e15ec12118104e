"""The prior over time series that a forecaster is pretrained on."""

import numpy as np
import pytest

from titans_ts.datasets import SERIES_KINDS, random_series


def draw(n=64, length=200, seed=0):
    return random_series(n, length, np.random.default_rng(seed))


def test_a_state_of_the_generator_gives_the_same_series():
    one, two, other = draw(), draw(), draw(seed=1)
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.seasons, two.seasons)
    assert not np.array_equal(one.values, other.values, equal_nan=True)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 700])
def test_series_of_every_length_are_finite_or_missing(length):
    values, seasons = draw(300, length)
    assert values.shape == (300, length)
    assert values.dtype == np.float32
    assert seasons.shape == (300, 2)
    assert seasons.min() >= 1
    assert not np.isinf(values).any()
    assert np.isnan(values).mean() < 0.1


@pytest.mark.parametrize("kind", SERIES_KINDS)
def test_every_kind_varies_and_has_no_missing_values(kind):
    draw_kind, share = SERIES_KINDS[kind]
    seasons = np.array([1, 4, 12, 24, 96] * 20)
    values = draw_kind(seasons, 300, np.random.default_rng(0))
    assert share > 0
    assert values.shape == (100, 300)
    assert np.isfinite(values).all()
    assert (values.std(1) > 0).mean() > 0.9


def test_series_repeat_after_their_season_more_closely_than_half_a_season_later():
    seasons = np.full(300, 24)
    values = SERIES_KINDS["structural"][0](seasons, 480, np.random.default_rng(0))
    after, half = (np.abs(values[:, s:] - values[:, :-s]).mean(1) for s in (24, 12))
    assert np.median(after / half) < 0.9


def test_hours_follow_the_days_of_a_week():
    """A week later is closer than a day and six days later are on average, less the trend's part."""
    seasons = np.full(600, 24)
    values = SERIES_KINDS["structural"][0](seasons, 1344, np.random.default_rng(0))
    error = {s: np.abs(values[:, s:] - values[:, :-s]).mean(1) for s in (144, 168, 192)}
    nearer = error[168] < (error[144] + error[192]) / 2
    assert nearer.mean() > 0.6


def test_numbers_that_are_not_positive_are_refused():
    with pytest.raises(ValueError, match="n is 0"):
        draw(0)
    with pytest.raises(ValueError, match="length 0"):
        draw(3, 0)
