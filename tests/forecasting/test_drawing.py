"""Pictures of forecasts and backtests, and how a backtest is shown."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from titans_ts import TitansForecaster

pytest.importorskip("matplotlib")
H = 4


def wide(n=60):
    t = np.arange(n)
    values = {"a$b": np.sin(t), "c": np.cos(t) + 5}
    return pd.DataFrame(values, pd.date_range("2024", periods=n, freq="h"))


def long():
    frame = wide().melt(ignore_index=False, var_name="item_id").reset_index(names="timestamp")
    return pd.concat([frame[frame["item_id"] == "a$b"].iloc[-20:], frame[frame["item_id"] == "c"]])


@pytest.fixture(scope="module")
def model():
    return TitansForecaster.from_pretrained(H, progress_bar=False)


def lines(axes, label):
    return [line.get_ydata() for line in axes.lines if line.get_label() == label]


@pytest.mark.parametrize(
    "X", [wide(), wide().to_numpy(), wide()["c"], wide()["c"].to_numpy()], ids=repr
)
def test_a_picture_has_the_last_rows_and_the_forecast(model, X):
    figure = model.plot(X, n_history=10)
    values = np.asarray(X).reshape(len(X), -1)
    forecast = np.asarray(model.predict(X)).reshape(H, -1)
    assert len(figure.axes) == values.shape[1]
    for i, axes in enumerate(figure.axes):
        assert_allclose(lines(axes, "observed"), [values[-10:, i]])
        assert_allclose(lines(axes, "forecast"), [forecast[:, i]])
        assert len(axes.collections) == 1  # the band


def test_an_item_of_many_and_a_window_of_a_batch(model):
    (axes,) = model.plot(long(), item="c").axes
    assert_allclose(lines(axes, "observed"), [wide()["c"]])
    forecast = model.predict(long())
    wanted = forecast.loc[forecast["item_id"] == "c", "value"]
    assert_allclose(lines(axes, "forecast"), [wanted])
    (first,) = model.plot(long()).axes
    assert_allclose(lines(first, "observed"), [wide()["a$b"].iloc[-20:]])
    batch = np.stack([wide().to_numpy()[:20], wide().to_numpy()[20:40]])
    axes = model.plot(batch, item=1).axes[1]
    assert_allclose(lines(axes, "observed"), [batch[1, :, 1]])
    for item in ("x", 2):
        with pytest.raises(ValueError, match=f"item is {item!r}, which is not among the items"):
            model.plot(long() if item == "x" else batch, item=item)
    with pytest.raises(ValueError, match="n_history is 0"):
        model.plot(wide(), n_history=0)


def test_a_fitted_model_draws_what_follows_its_rows():
    fitted = TitansForecaster(H, preset="zero-shot").fit(wide())
    axes = fitted.plot(max_variates=1).axes
    assert len(axes) == 1
    assert_allclose(lines(axes[0], "forecast"), [fitted.predict()["a$b"]])


@pytest.mark.parametrize("frame", [wide(), long()], ids=["wide", "long"])
def test_a_backtest_is_drawn_without_overlaps_and_shown_as_a_table(model, frame):
    model.predict(frame)
    backtest = model.backtest(frame, stride=1)
    item = "c" if "item_id" in frame else None
    axes = backtest.plot(item=item, n_windows=np.int64(3)).axes[-1]
    drawn = lines(axes, "forecast")
    rows = [len(wide()) - H * k for k in (3, 2, 1)]
    assert len(drawn) == 3
    table = backtest.frame()
    table = table[table["item_id"] == "c"] if item else table[table["variate"] == "c"]
    for row, values in zip(rows, drawn, strict=True):
        window = table[table["timestamp"] == wide().index[row]].query("step == 1")["window"]
        assert_allclose(values, table[table["window"] == window.item()]["titans"])
    assert_allclose(lines(axes, "observed"), [wide()["c"].iloc[rows[0] - 2 * H :]])
    with pytest.raises(ValueError, match="n_windows is 0"):
        backtest.plot(n_windows=0)
    n_windows = backtest.n_windows
    for text in (repr(backtest), backtest._repr_html_()):
        assert f"Backtest: {n_windows} windows, " in text
        assert "4 steps" in text
        assert "seasonal_naive" in text
        assert len(text) < 3000


def test_one_step_is_seen():
    model = TitansForecaster.from_pretrained(1, progress_bar=False)
    for figure in (model.plot(wide()), model.backtest(wide()).plot()):
        for axes in figure.axes:
            line = next(line for line in axes.lines if line.get_label() == "forecast")
            assert line.get_marker() == "o"
            assert axes.collections[0].get_linewidth()[0] > 1  # a bar instead of an area


def test_an_item_without_a_forecast(model):
    frame = long()
    frame = pd.concat([frame[frame["item_id"] == "a$b"].iloc[-3:], frame[frame["item_id"] == "c"]])
    model.predict(frame)
    backtest = model.backtest(frame)
    (axes,) = backtest.plot().axes  # that of the other item
    assert lines(axes, "forecast")
    with pytest.raises(ValueError, match=r"item is 'a\$b', which is too short"):
        backtest.plot(item="a$b")


@pytest.mark.parametrize("columns", [[("a", 1), ("b", 2)], [1, "1"], [None, "x"]], ids=repr)
def test_any_names_of_columns(model, columns):
    frame = wide().set_axis(pd.Index(columns, tupleize_cols=False), axis=1)
    titles = [axes.get_title(loc="left") for axes in model.plot(frame).axes]
    assert len(set(titles)) == 2


@pytest.mark.parametrize(
    "index",
    [
        pd.period_range("2020", periods=60, freq="M"),
        pd.RangeIndex(100, 160),
        pd.date_range("2024", periods=60, freq="h", tz="Asia/Tokyo"),
    ],
    ids=["periods", "numbers", "zone"],
)
def test_any_index(model, index):
    frame = wide().set_axis(index)
    frame.iloc[::2, 0] = np.nan
    figure = model.plot(frame, n_history=12)
    figure.canvas.draw()
    texts = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    if isinstance(index, pd.DatetimeIndex):  # local times: the last row is at 11 o'clock
        assert "12:00" in texts
    assert len(lines(figure.axes[0], "forecast")[0]) == H


def test_levels_are_not_rounded():
    levels = (0.025, 0.5, 0.975)
    model = TitansForecaster.from_pretrained(H, quantile_levels=levels)
    labels = [text.get_text() for text in model.plot(wide()).legends[0].get_texts()]
    assert "2.5 % to 97.5 % quantile" in labels
    alone = TitansForecaster.from_pretrained(H, quantile_levels=(0.5,))
    assert not alone.plot(wide()).axes[0].collections


def anomalies(X):
    return TitansForecaster.from_pretrained(1, progress_bar=False).detect_anomalies(
        X, score="surprise", risk=0.02
    )


@pytest.mark.parametrize("X", [wide(), wide().to_numpy(), wide().to_period("h")["c"]])
def test_a_picture_of_anomalies_has_the_values_and_the_scores(X):
    found = anomalies(X)
    figure = found.plot()
    names = list(dict.fromkeys(map(str, found["variate"])))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [n for n in names for _ in "vs"]
    for name, (values, scores) in zip(names, np.array(figure.axes).reshape(-1, 2), strict=True):
        rows = pd.DataFrame(found[found["variate"].astype(str) == name])
        assert_allclose(lines(values, "value")[0], rows["value"])
        assert_allclose(lines(values, "anomaly")[0], rows["value"][rows["anomaly"]])
        assert_allclose(lines(scores, "score")[0], rows["score"])
        assert_allclose(lines(scores, "threshold")[0], rows["threshold"].iloc[:2])
        assert_allclose(lines(scores, "anomaly")[0], rows["score"][rows["anomaly"]])
    assert len(found.plot(max_variates=1).axes) == 2


def test_a_picture_of_an_item_with_anomalies():
    frame = long().rename(columns={"item_id": "shop"})
    forecaster = TitansForecaster.from_pretrained(1, item_id="shop", progress_bar=False)
    found = forecaster.detect_anomalies(frame, score="surprise", risk=0.02)
    found.loc[found["shop"] == "a$b", "anomaly"] = True
    drawn, other = found.plot().axes[0], found.copy().plot(item="c").axes[0]
    assert drawn.get_title(loc="left") == "a$b value"
    assert len(lines(drawn, "value")[0]) == 20
    assert len(lines(other, "value")[0]) == 60
    for item in ("x", ["c"]):
        with pytest.raises(ValueError, match="which is not among the items 'a.b', 'c'; choose one"):
            found.plot(item=item)
    assert len(pickle.loads(pickle.dumps(found)).plot(item="c").axes) == 2
    with pytest.raises(ValueError, match="max_variates"):
        found.plot(max_variates=0)
    assert type(found[found["anomaly"]]) is pd.DataFrame  # a part of the table has no such picture


def test_a_picture_of_anomalies_of_a_series_without_a_name():
    found = anomalies(pd.Series(wide()["c"].to_numpy(), wide().index))
    for interactive in (False, True):
        found.plot(interactive=interactive)
    assert found.plot().axes[0].get_title(loc="left") == "value"


@pytest.mark.parametrize("index", ["hours", "periods", "numbers"])
def test_an_interactive_picture_of_one_step_has_its_interval(index):
    X = wide() if index == "hours" else wide().to_period("h")
    X = X.reset_index(drop=True) if index == "numbers" else X
    forecaster = TitansForecaster.from_pretrained(1, progress_bar=False)
    for draw in (forecaster.plot, lambda X, **how: forecaster.backtest(X).plot(**how)):
        plain, figure = draw(X), draw(X, interactive=True)
        labels = [text.get_text() for text in plain.legends[0].get_texts()]
        shown = [trace.legendgroup for trace in figure.data if trace.showlegend]
        assert sorted(shown) == sorted(labels)


def test_an_interactive_picture_has_the_same_lines(model):
    pictures = {
        "forecast": lambda **how: model.plot(wide(), **how),
        "backtest": lambda **how: model.backtest(wide()).plot(**how),
        "anomalies": lambda **how: anomalies(wide()).plot(**how),
    }
    for draw in pictures.values():
        drawn, figure = draw(), draw(interactive=True)
        for row, axes in enumerate(drawn.axes):
            label = axes.lines[0].get_label()
            traces = [t for t in figure.data if t.yaxis == f"y{row + 1 if row else ''}"]
            found = next(t.y for t in traces if t.legendgroup == label)
            assert_allclose(np.array(found, float), lines(axes, label)[0], rtol=1e-6)
        shown = [trace.legendgroup for trace in figure.data if trace.showlegend]
        assert len(shown) == len(set(shown))
        assert {a.get_title(loc="left") for a in drawn.axes} == {
            a.text for a in figure.layout.annotations
        }
        figure.to_html()
