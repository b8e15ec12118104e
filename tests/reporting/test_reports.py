"""What the reports of forecasts and classifications show is what the results are."""

from __future__ import annotations

from html import unescape

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from titans_ts import TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.pipelines import run_forecast
from titans_ts.pipelines.report import forecast_page, job_charts
from titans_ts.reporting.charts import Chart, Mark
from titans_ts.reporting.evaluation import (
    class_charts,
    error_charts,
    leaderboard,
    level_chart,
    residual_charts,
    training_chart,
)

H = 4


@pytest.fixture(scope="module")
def jobs():
    wide = make_series(120, 2, freq="D", seasons=(7,), random_state=0)
    first = wide[["y0"]].assign(item_id="<b>a")
    parts = [first, wide[["y0"]].iloc[:60].assign(item_id="b"), first.iloc[:8].assign(item_id="c")]
    long = pd.concat(parts).rename_axis("timestamp").reset_index()
    made = {}
    for name, frame in (("wide", wide), ("long", long)):
        model = TitansForecaster(H, preset="zero-shot", progress_bar=False)
        model.set_params(quantile_levels=(0.05, 0.3, 0.5, 0.7, 0.95))
        coverage = 0.8 if name == "wide" else None
        made[name] = run_forecast(frame, model, test_fraction=0.4, coverage=coverage)
    return made


def of_kind(chart, kind, role="forecast"):
    return [mark for mark in chart.marks if (mark.kind, mark.role) == (kind, role)]


@pytest.mark.parametrize("name", ["wide", "long"])
def test_a_fan_chart_has_the_forecast_its_bands_and_the_last_held_out_one(jobs, name):
    job = jobs[name]
    charts, left_out = job_charts(job, 60)
    assert not left_out
    titles = ["y0", "y1"] if name == "wide" else ["<b>a", "b", "c"]
    assert [chart.title for chart in charts] == titles
    table = job.outcome.table()
    for chart in charts:
        if name == "wide":
            rows, y, ends = table, chart.title, ("lower80", "upper80")
        else:
            rows, y, ends = table[table["item_id"] == chart.title], "y0", ("q0.05", "q0.95")
        (line,) = of_kind(chart, "line")
        assert_allclose(line.y, rows[y])
        outer, inner = of_kind(chart, "band")[:2]
        assert_allclose(outer.low, rows[f"{y}_{ends[0]}"])
        assert_allclose(outer.y, rows[f"{y}_{ends[1]}"])
        assert_allclose(inner.low, rows[f"{y}_q0.3"])
        assert list(line.x) == list(pd.DatetimeIndex(rows.iloc[:, 0 if name == "wide" else 1]))
    past = of_kind(charts[0], "line", "past")[0]
    assert_allclose(past.y, job.backtest.forecasts["titans"][-1, 0, :, 0])
    assert past.x[-1] == charts[0].marks[0].x[-1]
    if name == "long":
        assert not of_kind(charts[2], "line", "past")  # too short to be held out
        few, left_out = job_charts(job, 2)
        assert (len(few), left_out) == (2, 1)


def test_the_page_of_a_forecast_has_every_section(jobs):
    job = jobs["long"]
    page = unescape(forecast_page(job, ["2 gaps <i>"]))
    for title in (
        *("Forecast", "Error on held-out rows", "Where the errors are", "Held-out forecasts"),
        *("Surprise", "Model", "Memory", "Data check", "Values of the forecast"),
        "How this was made",
    ):
        assert f">{title}</h2>" in page, title
    assert "2 gaps <i>." in page
    assert "random_state" in page
    assert "quantile_levels" in page


def test_errors_by_step_and_window_are_those_of_the_backtest(jobs):
    backtest = jobs["wide"].backtest
    board, _ = leaderboard(backtest)
    assert board["MASE"].is_monotonic_increasing
    metrics = backtest.metrics()
    assert_allclose(board.set_index("forecast")["MASE"][metrics.index], metrics["mase"])
    step, window = error_charts(backtest)
    assert [len(mark.x) for mark in step.marks] == [H] * len(metrics)
    by_step = backtest.metrics(by="step")["mase"]["titans"]
    assert_allclose(step.marks[0].y, by_step)
    assert list(window.marks[0].x) == list(backtest.panel.index[backtest.cutoffs[:, 0]])


def test_calibration_counts_the_values_below_each_quantile(jobs):
    backtest = jobs["wide"].backtest
    chart = level_chart(backtest)
    expected = (backtest.actual[..., None] <= backtest.quantiles).mean((0, 1, 2, 3))
    assert_allclose(chart.marks[1].y, expected)
    assert_allclose(chart.marks[1].x, backtest.levels)


def test_residuals_are_observed_minus_forecast(jobs):
    backtest = jobs["wide"].backtest
    errors = backtest.actual - backtest.forecasts["titans"]
    errors = errors / backtest.scale[None, :, None]
    bars, by_step = residual_charts(backtest)
    assert_allclose(bars.marks[0].y.sum(), 100, atol=1)
    assert f"a mean of {errors.mean():.3g}" in bars.words
    assert_allclose(by_step.marks[1].y, np.median(errors, axis=(0, 1, 3)))


def test_curves_of_a_perfect_classifier_and_of_many_classes():
    labels = np.array(["a", "b"] * 20)
    sure = np.where(labels[:, None] == ["a", "b"], 0.9, 0.1)
    charts, confusion = class_charts(labels, sure, ["a", "b"])
    assert "area under the ROC curve 1.000, average precision 1.000, 20 of 40" in charts[0].words
    assert confusion.iloc[:, 1:].to_numpy().tolist() == [[20, 0], [0, 20]]
    assert [chart.title for chart in charts] == [
        *("ROC curve", "Precision and recall", "Calibration")
    ]
    numbers = np.arange(60) % 6
    charts, confusion = class_charts(numbers, np.full((60, 6), 1 / 6), list(range(6)))
    assert len(charts[1].marks) == 5
    assert "area under the ROC curve 0.500" in charts[0].words
    assert confusion["predicted 0"].tolist() == [10] * 6
    one, _ = class_charts(np.zeros(5), np.full((5, 2), 0.5), [0.0, 1.0])
    assert one == []


def test_training_is_drawn_if_there_was_any():
    assert training_chart([]) is None
    rows = [{"train_loss": 2.0, "validation_loss": 3.0, "seconds": 1.0}, {"train_loss": 1.0}]
    chart = training_chart(rows)
    assert [mark.name for mark in chart.marks] == ["training", "validation"]
    assert_allclose(chart.marks[1].y, [3.0, np.nan])


def test_a_thinned_chart_says_so_and_keeps_what_is_shown_first():
    y = np.sin(np.arange(10_000.0))
    y[1_234] = 7
    mark = Mark("line", "y", pd.RangeIndex(10_000), y)
    chart = Chart("y", (mark,), window=(9_900, 9_999)).thinned(200)
    (thin,) = chart.marks
    assert len(thin.x) == 300
    assert list(thin.x[-100:]) == list(range(9_900, 10_000))
    assert thin.y.max() == 7
    assert chart.words.startswith("300 of 10,000 values are drawn")
    assert Chart("y", (mark,)).thinned(20_000).words == ""


@pytest.mark.parametrize(("field", "value"), [("role", "red"), ("kind", "area")])
def test_a_mark_of_an_unknown_kind_or_role_is_refused(field, value):
    parts = {"kind": "line", "name": "", "x": pd.RangeIndex(1), "y": np.zeros(1), field: value}
    with pytest.raises(ValueError, match=f"{field} is '{value}'; choose one of"):
        Chart("", (Mark(**parts),))
