"""The comparison with simple forecasts: true numbers, and nothing claimed from too few of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from titans_ts import TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.forecasting.theta import theta
from titans_ts.pipelines import run_forecast


def job(frame, horizon=4, **options):
    forecaster = TitansForecaster(horizon, preset="zero-shot", progress_bar=False)
    forecaster.set_params(**options.pop("parameters", {}))
    return run_forecast(frame, forecaster, **options)


@pytest.fixture(scope="module")
def weekly():
    return make_series(120, 2, freq="D", seasons=(7,), random_state=0)


def test_errors_are_those_of_the_forecasts(weekly):
    found = job(weekly, season_length=7)
    held_out = found.held_out
    assert (held_out.n_rows, held_out.n_windows, held_out.n_independent) == (12, 9, 3)
    values = weekly["y1"].to_numpy()
    errors = {"last value": [], "seasonal naive": [], "theta": [], "titans": []}
    for cut in range(108, 117):
        past, actual = values[:cut], values[cut : cut + 4]
        errors["last value"].append(actual - past[-1])
        errors["seasonal naive"].append(actual - past[-7:-3])
        errors["theta"].append(actual - theta(past[None], 4, 7)[0])
        quantiles = found.forecaster.predict_quantiles(weekly.iloc[:cut])
        errors["titans"].append(actual - quantiles["y1", 0.5].to_numpy())
    row = held_out.errors.loc["y1"]
    for name, values in errors.items():
        assert row[name] == pytest.approx(np.abs(values).mean(), rel=1e-4), name
    least = min(row[name] for name in held_out.simple)
    assert row[row["best simple"]] == least
    assert row["change"] == pytest.approx(row["titans"] / least - 1)
    assert held_out.change() == pytest.approx(
        np.exp(np.log(1 + held_out.errors["change"]).mean()) - 1
    )


def test_too_few_forecasts_tell_nothing(weekly):
    assert next(job(weekly).held_out.sentences()) == (
        "too few to tell: 3 forecasts without overlap, and 10 are needed"
    )
    enough = list(job(weekly, test_fraction=0.4).held_out.sentences())
    assert not any("too few" in sentence for sentence in enough)
    assert enough[0].endswith("than seasonal naive")
    assert any("the best simple forecast of each series" in sentence for sentence in enough)


def test_a_series_that_a_simple_forecast_knows_exactly_is_named(weekly):
    frame = weekly.assign(weekday=weekly.index.dayofweek.astype(float))
    held_out = job(frame, test_fraction=0.4).held_out
    assert held_out.errors.loc["weekday", "seasonal naive"] == 0
    assert np.isnan(held_out.errors.loc["weekday", "change"])
    named = "not in these averages, because a simple forecast makes no error: weekday"
    assert named in list(held_out.sentences())
    others = job(weekly, test_fraction=0.4).held_out
    assert held_out.change() == pytest.approx(others.change())
    assert held_out.record()["series"][2]["change"] is None


def test_intervals_are_calibrated_named_and_contain_the_point(weekly):
    found = job(weekly, test_fraction=0.4, coverage=0.6)
    held_out, table = found.held_out, found.outcome.table()
    for name in ("y0", "y1"):
        assert table[name].between(table[f"{name}_lower60"], table[f"{name}_upper60"]).all()
        np.testing.assert_array_equal(table[name], table[f"{name}_q0.5"])
    line = list(held_out.sentences())[-1]
    assert line == f"{held_out.covered:.1%} of the values lie in the 60% interval (calibrated)"
    assert 0.3 < held_out.covered < 0.9
    interval = found.forecaster.predict_interval(coverage=0.6)
    quantiles = found.forecaster.predict_quantiles()
    margins = found.forecaster.interval_margins(0.6)[0]
    lower = quantiles.xs(0.1, axis=1, level=1).to_numpy() - margins
    np.testing.assert_allclose(interval.xs("lower", axis=1, level=1), lower, rtol=1e-6)
    plain = list(job(weekly, test_fraction=0.4).held_out.sentences())[-1]
    assert "in the 80% interval (not calibrated)" in plain


def test_a_series_too_short_to_calibrate_is_refused(weekly):
    options = {"preset": "fast", "max_epochs": 1, "random_state": 0}
    with pytest.raises(
        ValueError, match=r"--coverage is 0.9, but an interval cannot be calibrated"
    ):
        job(weekly.head(20), horizon=6, coverage=0.9, parameters=options)


def test_every_item_of_a_panel_is_compared(weekly):
    long = pd.concat(
        [
            weekly[["y0"]].assign(item_id="a"),
            weekly[["y0"]].iloc[:60].assign(item_id="b"),
            weekly[["y0"]].iloc[:8].assign(item_id="short"),
        ]
    )
    found = job(long.rename_axis("timestamp").reset_index(), parameters={"target": ("y0",)})
    assert list(found.held_out.errors.index) == ["a", "b"]
    assert found.held_out.n_rows == 6  # a tenth of the median number of rows
    assert found.held_out.n_independent == 2
    assert len(found.outcome.table()) == 12  # the short one is forecast, too
    last = found.backtest.cutoffs[-1, 0] + found.outcome.horizon
    assert found.backtest.panel.index[last - 1] == weekly.index[-1]
