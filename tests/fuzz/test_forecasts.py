"""Any series has forecasts of the right shape, finite wherever there are values, or is refused."""

from __future__ import annotations

import functools
from copy import deepcopy

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tests.forecasting.cases import H, L, small
from tests.fuzz.properties import REFUSED, examples, outcome
from tests.fuzz.strategies import FREQUENCIES, arrays, long_frames, values, wide_frames
from titans_ts import TitansForecaster
from titans_ts.forecasting.parse import read_panel

series = st.one_of(arrays(), wide_frames(), long_frames())
freqs = st.sampled_from([None] * 40 + ["irregular"] * 5 + FREQUENCIES)


def check(panel, forecasts):
    """Check forecasts `[I, H, C, ...]`: finite for variates of items with a value."""
    I, C = panel.n_items, panel.n_targets
    assert forecasts.shape[0] == I
    assert forecasts.shape[2] == C
    for i, (first, end) in enumerate(panel.spans):
        first = max(first, end - 8192)  # earlier rows are not read; a warning names the variate
        seen = np.isfinite(panel.values[first:end, :C]).any(0)
        assert np.isfinite(forecasts[i][:, seen]).all(), "NaN where there are values"


def by_item(panel, result, steps):
    """Return a result in the form of the input as `[I, H, C, ...]`."""
    if isinstance(result, pd.DataFrame) and isinstance(result.columns, pd.MultiIndex):
        values = result.to_numpy(float).reshape(len(result), panel.n_targets, -1)
    elif isinstance(result, pd.DataFrame):
        values = result.iloc[:, -panel.n_targets :].to_numpy(float)  # after items and times
    else:
        values = np.asarray(result, float)
    if panel.kind == "windows":
        return values
    if panel.kind in ("vector", "series"):
        values = values.reshape(steps, 1, -1)
    return values.reshape(panel.n_items, steps, *values.shape[1:])


METHODS = {
    "predict": lambda f, X: f.predict(X),
    "predict_quantiles": lambda f, X: f.predict_quantiles(X),
    "predict_interval": lambda f, X: f.predict_interval(X, coverage=0.8),
}


@examples(60)
@given(X=series, method=st.sampled_from(sorted(METHODS)), freq=freqs)
def test_forecasts_without_a_fit(X, method, freq):
    forecaster = TitansForecaster.from_pretrained(3, freq=freq)
    result = outcome(lambda: METHODS[method](forecaster, X))
    if result is REFUSED:
        return
    windows = np.ndim(X) == 3 and not isinstance(X, pd.DataFrame)
    if windows:
        assert np.asarray(result).shape[:2] == (len(X), 3)
        return
    panel = read_panel(X, forecaster.roles, min_rows=1)
    check(panel, by_item(panel, result, 3))


@functools.cache
def fitted(kind):
    """Return a small forecaster that was fitted to a series of a kind, and its rows."""
    t = np.arange(80)
    X = np.stack([np.sin(t / 3), 5 + np.cos(t / 5)], 1)
    days = pd.date_range("2024-01-01", periods=80)
    frame = pd.DataFrame(X, days, ["a", "b"])
    if kind == "frame":
        return small().fit(frame), frame
    if kind == "panel":
        long = pd.concat(
            [pd.DataFrame({"item_id": i, "timestamp": days, "y": X[:, i]}) for i in (0, 1)]
        )
        return small().fit(long), long
    if kind == "adapt":
        return small(adapt=True).fit(X), X
    if kind == "blend":
        return small(blend=True).fit(X), X
    if kind == "counts":
        return small(output="negative_binomial").fit(np.round(X + 2)), np.round(X + 2)
    if kind == "zero-shot":
        forecaster = TitansForecaster.from_pretrained(H)
        forecaster.predict(X)
        return forecaster, X
    return small(variant="mac", stateful_windows=2 if kind == "stateful" else 0).fit(X), X


KINDS = ["array", "frame", "panel", "adapt", "stateful", "blend", "counts", "zero-shot"]


@st.composite
def next_rows(draw, kind):
    """Return rows that follow those of `fitted`, right in form, with any values."""
    n = draw(st.integers(1, 50))
    X = np.stack([draw(values(n)), draw(values(n))], 1)
    if kind == "frame":
        start = draw(st.sampled_from(["2024-03-21", "2024-03-21", "2024-03-22", "2024-03-01"]))
        return pd.DataFrame(X, pd.date_range(start, periods=n), ["a", "b"])
    if kind == "panel":
        items = draw(st.sampled_from([(0, 1), (1,), (0, 2)]))
        days = pd.date_range("2024-03-21", periods=n)
        return pd.concat(
            [pd.DataFrame({"item_id": i, "timestamp": days, "y": X[:, i % 2]}) for i in items]
        )
    return X


@st.composite
def kinds_and_rows(draw):
    kind = draw(st.sampled_from(KINDS))
    if draw(st.integers(0, 3)) == 0:
        return kind, draw(series)
    return kind, draw(next_rows(kind))


CHANGES = {
    "update": lambda f, X: f.update(X),
    "set_history": lambda f, X: f.set_history(X),
    "calibrate": lambda f, X: f.calibrate(X),
    "watch": lambda f, X: f.watch(X),
}


@examples(60)
@given(data=kinds_and_rows(), change=st.sampled_from(["update", *CHANGES]))
def test_a_change_is_followed_by_forecasts_or_changes_nothing(data, change):
    kind, X = data
    model, _ = fitted(kind)
    before = np.asarray(model.predict())
    changed = deepcopy(model)
    result = outcome(lambda: CHANGES[change](changed, X))
    after = outcome(lambda: changed.predict())
    assert after is not REFUSED
    if result is REFUSED:
        assert (np.asarray(after) == before).all()
        return
    if change == "set_history" or (kind == "zero-shot" and change != "update"):
        return
    C = 1 if kind == "panel" else 2
    numbers = np.asarray(after[["y"]] if kind == "panel" else after, float)
    assert numbers.shape == ((2 * H, 1) if kind == "panel" else (H, C))
    assert np.isfinite(numbers).all(), "NaN although the fitted rows have values"


USES = {
    **METHODS,
    "surprise": lambda f, X: f.surprise(X),
    "watch": lambda f, X: f.watch(X),
    "anomalies": lambda f, X: f.detect_anomalies(X),
    "error": lambda f, X: f.detect_anomalies(X, score="error", method="evt"),
    "score": lambda f, X: f.score(X),
    "backtest": lambda f, X: f.backtest(X, progress_bar=False),
    "calibrate": lambda f, X: f.calibrate(X).predict_interval(),
    "sample": lambda f, X: f.sample(X, 4, random_state=0),
    "set_history": lambda f, X: f.set_history(X).predict(),
}


@st.composite
def histories(draw):
    kind = draw(st.sampled_from(KINDS))
    if draw(st.integers(0, 3)) == 0:
        return kind, draw(series)
    rows, (_, X) = draw(next_rows(kind)), fitted(kind)
    join = draw(st.booleans())
    if isinstance(X, pd.DataFrame):
        return kind, pd.concat([X, rows]) if join else rows
    return kind, np.concatenate([X, rows]) if join else rows


@examples(80)
@given(data=histories(), use=st.sampled_from(sorted(USES)))
def test_a_history_is_used_or_refused(data, use):
    kind, X = data
    model = deepcopy(fitted(kind)[0])
    result = outcome(lambda: USES[use](model, X))
    if result is REFUSED:
        return
    if use == "anomalies":
        scored = result["value"].notna() & result["score"].notna()
        assert result.loc[scored, "threshold"].notna().all()
        assert result.loc[result["value"].isna(), "score"].isna().all()
    elif use == "backtest":
        frame = outcome(result.frame)
        table = outcome(result.metrics)
        assert isinstance(frame, pd.DataFrame)
        assert isinstance(table, pd.DataFrame)
        if kind != "zero-shot":  # which has no fitted values to fall back on
            assert frame["titans"].notna().all()
    elif use in METHODS and np.ndim(X) == 2 and not isinstance(X, pd.DataFrame):
        assert np.isfinite(result[:, np.isfinite(np.asarray(X, float)[-L:]).any(0)]).all()
