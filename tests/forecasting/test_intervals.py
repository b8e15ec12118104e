"""Conformal margins: the coverage they promise, and what they know when."""

from __future__ import annotations

import numpy as np
import pytest

from tests.forecasting.cases import small
from titans_ts.forecasting.intervals import conformity, dependent_levels, margin, rolling_margins


def test_conformity_is_the_distance_outside():
    np.testing.assert_allclose(conformity([0.0, 2.0, 5.0, np.nan], 1.0, 4.0), [1, -1, 1, np.nan])


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("n", [40, 400])
def test_new_values_are_covered_as_promised(coverage, n):
    rng = np.random.default_rng(0)
    scores = rng.gumbel(size=(n + 1, 20_000))
    inside = (scores[-1] <= margin(scores[:-1], coverage)).mean()
    assert coverage - 0.01 < inside < coverage + 1 / n + 0.01


def test_margins_of_few_or_no_scores():
    assert margin([1.0, 2.0], 0.99) == 2  # the largest there is
    np.testing.assert_array_equal(margin([[np.nan, 1.0], [np.nan, np.nan]], 0.5), [0, 1])
    with pytest.raises(ValueError, match="coverage is 1; it must lie between 0 and 1"):
        margin([1.0], 1)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_rolling_margins_know_what_has_come(stride):
    rng = np.random.default_rng(0)
    before, scores = rng.normal(size=(5, 4)), rng.normal(size=(30, 4))
    found = rolling_margins(scores, before, 0.7, stride)
    everything = np.concatenate([before, scores])
    for w in (0, 1, 2, 7, 29):
        for h in range(4):
            known = [everything[i, h] for i in range(5 + w) if (5 + w - i) * stride >= h + 1]
            assert found[w, h] == margin(np.array(known[-5:]).reshape(-1), 0.7)
    # what has not come yet changes nothing
    later = scores.copy()
    later[10:] = 100
    np.testing.assert_array_equal(rolling_margins(later, before, 0.7, stride)[:11], found[:11])


def test_rolling_margins_follow_a_shift():
    rng = np.random.default_rng(0)
    before, scores = rng.normal(size=(200, 2, 3)), 3 * rng.normal(size=(3000, 2, 3))
    fixed = (scores <= margin(before, 0.9)).mean()
    rolling = (scores <= rolling_margins(scores, before, 0.9, every=10)).mean()
    assert fixed < 0.7
    assert abs(rolling - 0.9) < 0.02


def test_levels_are_uniform_and_hang_together_as_errors_did():
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(400, 6, 2)).cumsum(1)  # errors that add up over the steps
    walk[..., 1] = -walk[..., 0]  # and are opposite in the two variates
    levels = dependent_levels(walk, 2000, rng)
    assert ((levels > 0) & (levels < 1)).all()
    np.testing.assert_allclose(np.quantile(levels, [0.1, 0.5, 0.9], axis=0)[0], 0.1, atol=0.02)
    np.testing.assert_allclose(np.quantile(levels, 0.9, axis=0), 0.9, atol=0.02)
    assert np.corrcoef(levels[:, 4, 0], levels[:, 5, 0])[0, 1] > 0.8
    assert np.corrcoef(levels[:, 5, 0], levels[:, 5, 1])[0, 1] < -0.9
    walk[:, :3] = np.nan  # nothing known: any order
    free = dependent_levels(walk, 2000, rng)
    assert abs(np.corrcoef(free[:, 0, 0], free[:, 1, 0])[0, 1]) < 0.1
    np.testing.assert_allclose(free.mean(0), 0.5, atol=0.03)


@pytest.mark.parametrize("scale", [0.1, 1, 10])
def test_half_missing_errors_of_independent_steps_give_independent_levels(scale):
    rng = np.random.default_rng(0)
    errors = scale * rng.normal(size=(4000, 2))
    errors[rng.random(4000) < 0.5] = np.nan
    levels = dependent_levels(errors, 4000, rng)
    assert abs(np.corrcoef(levels.T)[0, 1]) < 0.08
    np.testing.assert_allclose(np.quantile(levels, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


@pytest.mark.parametrize("output", ["quantiles", "negative_binomial"])
def test_an_interval_contains_the_mean(output):
    X = np.random.default_rng(0).negative_binomial(1, 0.1, (160, 2)).astype(float)
    fitted = small(output=output).fit(X)
    for coverage in (0.01, 0.5, 0.9):
        low, high = np.moveaxis(fitted.predict_interval(coverage=coverage), -1, 0)
        mean = fitted.predict()
        assert (low <= mean).all()
        assert (mean <= high).all()
    backtest = fitted.backtest(X, stride=1)
    low, high = backtest.adaptive_interval(0.01, calibration_windows=50)
    mean = backtest.forecasts["titans"][50:]
    assert (low <= mean).all()
    assert (mean <= high).all()
