"""Pictures of forecasts and backtests, and how a backtest is shown."""

from __future__ import annotations

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
    axes = backtest.plot(item, n_windows=3).axes[-1]
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
