"""The pretrained model in the package."""

import numpy as np
import pytest

from titans_ts.forecasting.pretrained import (
    at_levels,
    forecast,
    pretrained_model,
    pretrained_quantiles,
    two_seasons,
)


def noisy_seasons(n=40, length=120, season=12, seed=0):
    """Series `[n, length + season]` of a season, a trend and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(length + season)
    wave = rng.normal(size=(n, season))[:, t % season]
    trend = rng.normal(size=(n, 1)) * t / length
    return 10 + wave + trend + 0.6 * rng.normal(size=(n, length + season))


def test_an_unknown_model_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"'series-0' is not in this version.*series-1"):
        pretrained_model("series-0")


def test_it_is_small_enough_for_a_wheel():
    numbers = sum(p.numel() for p in pretrained_model().parameters())
    assert 4 * numbers <= 4 * 2**20


@pytest.mark.parametrize("season", [1, 4, 12])
def test_series_have_the_same_forecast_alone_and_beside_longer_ones(season):
    past = np.random.default_rng(0).normal(size=(5, 90)).cumsum(1)
    for i, missing in enumerate((0, 3, 50, 89, 90)):
        past[i, :missing] = np.nan
    together = pretrained_quantiles(past, 20, season)
    assert together.shape == (5, 20, 9)
    for i, missing in enumerate((0, 3, 50, 89)):
        alone = pretrained_quantiles(past[i : i + 1, missing:], 20, season)
        np.testing.assert_allclose(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)
    assert np.isnan(together[4]).all()


def test_many_series_are_read_in_parts():
    past = np.random.default_rng(0).normal(size=(1500, 80)).cumsum(1)
    whole = pretrained_quantiles(past, 10, 7)
    parts = [pretrained_quantiles(part, 10, 7) for part in np.split(past, 3)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-4)


def test_it_forecasts_better_than_the_last_season():
    series = noisy_seasons()
    past, actual = series[:, :-12], series[:, -12:]
    quantiles = pretrained_quantiles(past, 12, 12)
    error = np.abs(quantiles[..., 4] - actual).mean()
    assert error < 0.9 * np.abs(past[:, -12:] - actual).mean()
    inside = (quantiles[..., 0] <= actual) & (actual <= quantiles[..., 8])
    assert 0.65 < inside.mean() < 0.92  # of 80 %


def test_levels_of_the_model_are_its_quantiles_and_others_lie_between_and_beyond():
    quantiles = np.arange(9.0)[None, None]
    levels = (0.05, 0.1, 0.45, 0.5, 0.9, 0.99)
    found = at_levels(quantiles, levels)[0, 0]
    np.testing.assert_allclose(found[[1, 3, 4]], [0, 4, 8])
    assert found[0] < 0
    assert 3 < found[2] < 4
    assert found[5] > 8
    each = np.broadcast_to(levels, (1, 1, 6))
    np.testing.assert_array_equal(at_levels(quantiles, each)[0, 0], found)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(1, (1, 1)), (4, (4, 1)), (12, (12, 1)), (52, (52, 1)), (365, (365, 1)), (7, (7, 365))]
    + [(24, (24, 168)), (168, (24, 168)), (96, (96, 672)), (672, (96, 672)), (30, (30, 210))],
)
def test_a_longer_season_follows_from_the_shorter_one(given, expected):
    assert two_seasons(given) == expected


def test_the_model_is_an_argument():
    past = noisy_seasons(3)
    one = forecast(pretrained_model(), past, 5, 12)
    np.testing.assert_array_equal(one, pretrained_quantiles(past, 5, 12))
