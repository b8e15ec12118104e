"""Metrics, baselines, frequencies, configurations and logos."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from sklearn import metrics as sk

from titans_ts.config import BackboneConfig, ForecasterConfig, MemoryConfig, from_dict, to_dict
from titans_ts.forecasting import metrics
from titans_ts.forecasting.baselines import drift, seasonal_naive
from titans_ts.forecasting.frequency import (
    calendar_features,
    cycle_phase,
    guess_frequency,
    usual_season,
)
from titans_ts.forecasting.metrics import mean_absolute_error, mean_squared_error
from titans_ts.reporting.logos import NUCLEOTIDES
from titans_ts.reporting.plots import plot_logo
from titans_ts.reporting.plots.common import GREY


def test_errors_are_scikit_learns_without_missing_values():
    rng = np.random.default_rng(0)
    actual, forecast = rng.normal(size=(2, 7, 5, 3))
    flat = actual.reshape(-1, 3), forecast.reshape(-1, 3)
    for ours, theirs in (
        (mean_absolute_error, sk.mean_absolute_error),
        (mean_squared_error, sk.mean_squared_error),
    ):
        expected = theirs(*flat, multioutput="raw_values")
        np.testing.assert_allclose(ours(actual, forecast, axis=(0, 1)), expected)
    actual[:, :, 2] = np.nan
    actual[0, 0, 0] = np.nan
    known = mean_absolute_error(actual, forecast, axis=(0, 1))
    assert np.isnan(known[2])
    first = np.abs(actual - forecast)[:, :, 0].ravel()[1:]
    assert known[0] == pytest.approx(first.mean())
    with pytest.raises(ValueError, match=r"actual has shape \(7, 5, 3\) and forecast \(5, 3\)"):
        mean_absolute_error(actual, forecast[0])


def test_seasonal_naive_repeats_the_last_season_and_looks_further_back_for_what_is_missing():
    past = np.arange(10.0)[:, None] * [1.0, 10.0]
    forecast = seasonal_naive(past, 7, 3)
    np.testing.assert_array_equal(forecast[:, 0], [7, 8, 9, 7, 8, 9, 7])
    np.testing.assert_array_equal(forecast[:, 1], forecast[:, 0] * 10)
    past[8, 0] = past[7, 1] = past[4, 1] = np.nan
    forecast = seasonal_naive(np.stack([past, past]), 3, 3)
    np.testing.assert_array_equal(forecast[1, :, 0], [7, 5, 9])
    np.testing.assert_array_equal(forecast[0, :, 1], [10, 80, 90])
    for season in (0, 11):
        with pytest.raises(ValueError, match=f"season_length is {season}; it must lie between"):
            seasonal_naive(past, 3, season)


@pytest.mark.parametrize(
    "freq", ["15min", "h", "D", "B", "W-SUN", "MS", "ME", "QE", "QS-NOV", "YE", "2h", "2MS"]
)
def test_a_place_in_a_season_goes_up_by_one_a_step_and_depends_on_the_time_alone(freq):
    index = pd.date_range("2019-11-04", periods=40, freq=freq)
    phase = cycle_phase(index, freq, 7)
    assert (np.diff(phase) % 7 == 1).all()
    assert phase.min() >= 0
    np.testing.assert_array_equal(cycle_phase(index[13:], index.freq, 7), phase[13:])
    before = pd.date_range("1950-01-01", periods=40, freq=freq)
    assert (np.diff(cycle_phase(before, freq, 7)) % 7 == 1).all()


@pytest.mark.parametrize(
    ("times", "periods"),
    [("W-WED", "W-WED"), ("QE-NOV", "Q-NOV"), ("YE-JUN", "Y-JUN"), ("ME", "M"), ("BME", "M")]
    + [("MS", "M"), ("B", "B"), ("h", "h"), ("D", "D")],
)
@pytest.mark.filterwarnings("ignore:.*[Pp]eriod.*B.*:FutureWarning")
def test_a_time_and_the_period_it_stands_for_have_the_same_place(times, periods):
    index = pd.date_range("2020-01-06", periods=30, freq=times)
    whole = index.to_period(periods)
    np.testing.assert_array_equal(cycle_phase(index, times, 5), cycle_phase(whole, whole.freq, 5))


def test_steps_that_cannot_be_counted():
    index = pd.date_range("2020-01-06", periods=30, freq="SMS")
    with pytest.raises(
        ValueError, match="season_length is 4, but steps of frequency 'SMS-15' cannot"
    ):
        cycle_phase(index, "SMS", 4)


def test_seasons_of_hours_begin_at_midnight_local_time():
    for zone in (None, "UTC", "Asia/Kolkata"):
        hours = pd.date_range("2024-03-01", periods=50, freq="h", tz=zone)
        np.testing.assert_array_equal(cycle_phase(hours, "h", 24), hours.hour)
    np.testing.assert_array_equal(
        cycle_phase(hours.tz_localize(None).to_period(), "h", 24), hours.hour
    )
    numbers = pd.RangeIndex(6, 30, 2)
    assert cycle_phase(numbers, 2, 5).tolist() == [3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


def test_some_cycles_of_the_calendar():
    hours = pd.date_range("2024-01-01", periods=30, freq="h")
    every = calendar_features(hours, "h")
    np.testing.assert_array_equal(calendar_features(hours, "h", ("day",)), every[:, :2])
    np.testing.assert_array_equal(
        calendar_features(hours, "h", ("week", "year")), every[:, [2, 3, 6, 7]]
    )


def test_scaled_and_relative_errors():
    actual, forecast = np.array([[1.0, 0.0, np.nan, -2.0]]).T, np.array([[3.0, 0.0, 1.0, 2.0]]).T
    assert metrics.mean_absolute_scaled_error(actual, forecast, 4.0) == pytest.approx(0.5)
    assert np.isnan(metrics.mean_absolute_scaled_error(actual, forecast, 0.0))
    smape = metrics.symmetric_mean_absolute_percentage_error(actual, forecast)
    assert smape == pytest.approx((1 + 0 + 2) / 3)
    past = np.array([1.0, 4.0, np.nan, 2.0, 7.0])
    assert metrics.seasonal_error(past, 1) == pytest.approx((3 + 5) / 2)
    assert metrics.seasonal_error(past, 3) == pytest.approx((1 + 3) / 2)
    assert np.isnan(metrics.seasonal_error(past, 5))
    np.testing.assert_allclose(metrics.seasonal_error(np.stack([past, 2 * past], 1), 1), [4, 8])


def test_quantile_errors():
    rng = np.random.default_rng(0)
    levels = np.array([0.1, 0.5, 0.9])
    actual = rng.normal(size=(50, 4))
    quantiles = np.sort(rng.normal(size=(50, 4, 3)), -1)
    pinball = [
        2 * sk.mean_pinball_loss(actual.ravel(), quantiles[..., i].ravel(), alpha=q)
        for i, q in enumerate(levels)
    ]
    crps = metrics.continuous_ranked_probability_score(actual, quantiles, levels)
    assert crps == pytest.approx(np.mean(pinball))
    wql = metrics.weighted_quantile_loss(actual, quantiles, levels)
    assert wql == pytest.approx(np.mean(pinball) * actual.size / np.abs(actual).sum())
    per_variate = metrics.weighted_quantile_loss(actual, quantiles, levels, axis=0)
    np.testing.assert_allclose(
        per_variate[1], metrics.weighted_quantile_loss(actual[:, 1], quantiles[:, 1], levels)
    )
    point = metrics.continuous_ranked_probability_score(actual, quantiles[..., 1:2], [0.5])
    assert point == pytest.approx(np.abs(actual - quantiles[..., 1]).mean())
    gap = actual.copy()
    gap[:, 0] = np.nan  # what is missing does not count, its size neither
    np.testing.assert_allclose(
        metrics.weighted_quantile_loss(gap, quantiles, levels),
        metrics.weighted_quantile_loss(actual[:, 1:], quantiles[:, 1:], levels),
    )
    inside = metrics.coverage([0.0, 1.0, 3.0, np.nan], [0, 0, 0, 0], [1, 1, 1, 1])
    assert inside == pytest.approx(2 / 3)
    assert metrics.interval_width([0, 1, np.nan], [1, 4, 1]) == 2


def test_drift_is_the_line_through_the_ends():
    past = np.array([[np.nan, 1.0, 5.0], [1.0, np.nan, 3.0], [2.0, np.nan, np.nan]])
    past = np.concatenate([past, np.full((3, 1), np.nan)], 1)
    np.testing.assert_allclose(
        drift(past, 2), [[3, 1, -1, np.nan], [4, 1, -3, np.nan]]
    )  # the third's line begins at its last value, two steps before the first forecast
    np.testing.assert_array_equal(drift(np.stack([past, past]), 2)[1], drift(past, 2))


@pytest.mark.parametrize(
    ("freq", "season"),
    [
        ("h", 24), ("30min", 48), ("15min", 96), ("10min", 144), ("D", 7), ("B", 5), ("W", 52),
        ("W-WED", 52), ("MS", 12), ("ME", 12), ("QE", 4), ("QS-OCT", 4), ("YE", 1), ("7h", 1),
        (None, 1),
    ],
)  # fmt: skip
def test_usual_season(freq, season):
    assert usual_season(freq) == season


def test_guess_frequency_forgives_a_gap():
    for freq in ("h", "MS", "B"):
        index = pd.date_range("2024-01-01", periods=60, freq=freq)
        assert guess_frequency(index) == freq
        assert guess_frequency(index.delete([3, 40])) == freq
    rng = np.random.default_rng(0)
    scattered = pd.DatetimeIndex(
        pd.Timestamp("2024") + pd.to_timedelta(rng.random(50).cumsum(), "D")
    )
    assert guess_frequency(scattered) is None
    assert guess_frequency(index[:2]) is None


def test_configurations_go_through_json():
    config = ForecasterConfig(
        quantile_levels=(0.2, 0.8), backbone=BackboneConfig(memory=MemoryConfig(depth=3))
    )
    assert from_dict(ForecasterConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"contxt_length": 3},
            "ForecasterConfig has no key 'contxt_length'; known: backbone, context_length",
        ),
        ({"backbone": {"depth": 3}}, "BackboneConfig has no key 'depth'"),
        ({"backbone": {"memory": {"width": 3}}}, "MemoryConfig has no key 'width'"),
    ],
)
def test_unknown_keys_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(ForecasterConfig, values)


def glyphs(axes):
    """Colour, left end, lower end, width and height of each letter of a logo."""
    letters = axes.collections[0]
    boxes = [path.get_extents() for path in letters.get_paths()]
    bounds = [np.round(box.bounds, 6).tolist() for box in boxes]
    return [(to_hex(c), *b) for c, b in zip(letters.get_facecolors(), bounds, strict=True)]


def test_a_logo_stacks_letters_as_high_as_their_scores():
    scores = np.zeros((12, 4))
    scores[0] = [0.5, -0.25, 2.0, -1.0]
    scores[10] = [0, 0, 0, 0.75]
    axes = plot_logo(scores, start=100, title="cost in $ and $").axes[0]
    a, c, g, t = (NUCLEOTIDES[letter].lower() for letter in "ACGT")
    assert len({a, c, g, t}) == 4
    assert glyphs(axes) == [
        (c, 99.53, -0.25, 0.94, 0.25),  # the largest farthest from the line
        (a, 99.53, 0.0, 0.94, 0.5),
        (t, 99.53, -1.25, 0.94, 1.0),
        (g, 99.53, 0.5, 0.94, 2.0),
        (t, 109.53, 0.0, 0.94, 0.75),
    ]
    upright, upside_down = axes.collections[0].get_paths()[4], axes.collections[0].get_paths()[2]
    crossbar = [  # at the end of a T that is farthest from the line
        np.ptp(p.vertices[np.isclose(p.vertices[:, 1], far), 0])
        for p, far in ((upright, 0.75), (upside_down, -1.25))
    ]
    np.testing.assert_allclose(crossbar, 0.94)
    assert axes.get_ylim() == pytest.approx((-1.25 - 0.15, 2.5 + 0.15))
    assert axes.get_xlim() == pytest.approx((99.4, 111.6))
    assert axes.get_xticks().tolist() == [100, 105, 110]
    assert axes.get_title(loc="left") == "cost in $ and $"


def test_a_logo_of_a_sequence_has_its_letters_in_rows_of_one_scale():
    rng = np.random.default_rng(0)
    scores, sequence = rng.normal(size=240), "".join(rng.choice(list("ACGTuNn-"), 240))
    figure = plot_logo(scores, sequence, start=1_000_000)
    assert len(figure.axes) == 3
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    expected = [
        (
            NUCLEOTIDES.get(letter.upper(), GREY).lower(),
            *np.round([1_000_000 + i - 0.47, min(score, 0), 0.94, abs(score)], 6).tolist(),
        )
        for i, (letter, score) in enumerate(zip(sequence, scores, strict=True))
        if letter != "-"
    ]
    assert [letter for axes in figure.axes for letter in glyphs(axes)] == expected
    assert [axes.get_xlim()[0] for axes in figure.axes] == [999_999.4, 1_000_099.4, 1_000_199.4]
    assert figure.axes[2].get_xticks().max() == 1_000_220  # the sequence ends at 1 000 239
    assert len(plot_logo(scores[:150], sequence[:150]).axes) == 1
    assert len(plot_logo(np.zeros((2000, 4))).axes) == 20


def test_what_no_logo_can_show():
    for scores, sequence, message in (
        (np.zeros((5, 3)), None, r"scores has shape \(5, 3\); it must be \[T, 4\]"),
        (np.zeros(5), None, r"scores has shape \(5,\); .* or \[T\] with a sequence"),
        (np.zeros((5, 4)), "ACGTA", r"scores has shape \(5, 4\) and sequence 5 letters"),
        (np.zeros(5), "ACG", r"scores has shape \(5,\) and sequence 3 letters"),
        (np.zeros((2001, 4)), None, "scores has 2001 positions; a figure has 1 to 2000. Draw"),
        (np.zeros((0, 4)), None, "scores has 0 positions"),
        ([0.0, 1.0, np.nan], "ACG", "scores has NaN or infinite values, the first at position 2"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_logo(scores, sequence)
