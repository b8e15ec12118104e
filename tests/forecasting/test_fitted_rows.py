"""Forecasts of rows that a model was fitted to are counted, and a warning says so."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from tests.forecasting.cases import H, L, small
from titans_ts import TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.nn.checkpoint import load_directory, save_directory

N = 120


def frame(zone=None, n=N):
    found = make_series(n, 2, random_state=1, seasons=(12,))
    return found if zone is None else found.tz_localize("UTC").tz_convert(zone)


def long(n=N):
    parts = [frame(n=n)[["y0"]].reset_index(names="timestamp").assign(item_id=i) for i in "ab"]
    return pd.concat(parts, ignore_index=True)


FORMS = {
    "frame": frame(),
    "zone": frame("Europe/Madrid"),
    "periods": frame().to_period("h"),
    "numbers": frame().reset_index(drop=True),
    "series": frame()["y0"],
    "array": frame().to_numpy(),
    "vector": frame()["y0"].to_numpy(),
    "float32": frame().to_numpy(np.float32),
}


def counted(forecaster, X, **options):
    """Return the number of forecasts of fitted rows, and that of all; a warning says the same."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        backtest = forecaster.backtest(X, **options)
    n = int((backtest.cutoffs >= 0).sum())
    said = [str(w.message) for w in warned]
    if backtest.n_fitted:
        assert len(said) == 1
        assert said[0].startswith(f"{backtest.n_fitted} of {n} forecasts begin")
        assert warned[0].filename == __file__  # the line of the user, not one of the package
        assert said[0] in repr(backtest)
        assert said[0] in backtest._repr_html_()
    else:
        assert not said
        assert "look too good" not in repr(backtest)
    return backtest.n_fitted, n


@pytest.mark.parametrize("form", FORMS)
def test_forecasts_of_fitted_rows_are_counted(form):
    X = FORMS[form]
    fitted = small().fit(X[:80])
    within = 80 - L  # forecasts of the first 80 rows that have a window before them
    assert counted(fitted, X, stride=1) == (within, N - L - H + 1)
    assert counted(fitted, X[:80], stride=1) == (within - H + 1, within - H + 1)
    assert counted(fitted, X[30:], stride=1) == (within - 30, N - 30 - L - H + 1)
    assert counted(fitted, X[60:], stride=1)[0] == 20 - L
    assert counted(fitted, X[80 - L :], stride=1)[0] == 0
    assert counted(fitted, X, stride=1, refit=100, season_length=12)[0] == 0


def test_rows_before_the_fit_are_no_fitted_ones():
    for form in ("frame", "array", "numbers"):
        X = FORMS[form]
        fitted = small().fit(X[60:])
        assert counted(fitted, X[:60], stride=1)[0] == 0
        assert counted(fitted, X, stride=1)[0] == N - 60 - H + 1
    before = long()[long()["timestamp"] < frame().index[60]]
    fitted = small().fit(long()[long()["timestamp"] >= frame().index[60]])
    assert counted(fitted, before, stride=1)[0] == 0


def test_other_series_of_the_same_row_numbers_are_no_fitted_ones():
    X = FORMS["numbers"]
    fitted = small().fit(X[:80])
    assert counted(fitted, X[80 - L :].reset_index(drop=True), stride=1)[0] == 0
    assert counted(fitted, X[::-1].reset_index(drop=True), stride=1)[0] == 0


@pytest.mark.parametrize("form", ["frame", "periods", "numbers", "array"])
@pytest.mark.parametrize("other", ["frame", "periods", "numbers", "array"])
def test_a_series_may_come_in_another_form(form, other):
    fitted, X = small().fit(FORMS[form][:80]), FORMS[other]
    try:
        fitted.score(X)
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error)):
            fitted.backtest(X, stride=1)
        return
    assert counted(fitted, X, stride=1)[0] == 80 - L


def test_a_single_series_and_a_long_frame_have_no_row_in_common():
    wide, panel = frame()[["y0"]], long()
    assert counted(small().fit(panel), wide, stride=1)[0] == 0
    for X in (wide, wide.to_numpy()):
        assert counted(small().fit(X), panel, stride=1)[0] == 0


def test_rows_after_the_fit_are_no_fitted_ones():
    X = frame()
    fitted = small().fit(X[:80]).update(X[80:])
    assert counted(fitted, X, stride=1)[0] == 80 - L


def test_each_item_has_an_end_of_its_own():
    X = long()
    early = X[(X["item_id"] == "b") | (X["timestamp"] < frame().index[60])]
    fitted = small().fit(early)
    n = N - L - H + 1
    assert counted(fitted, X, stride=1) == (60 - L + n, 2 * n)
    a_new_one = X[X["item_id"] == "a"].assign(item_id="new")
    assert counted(fitted, a_new_one, stride=1)[0] == 0
    assert counted(fitted, pd.concat([a_new_one, X]), stride=1)[0] == 60 - L + n


def test_a_part_of_the_fitted_rows_is_known_by_its_times_alone():
    X = frame()
    assert counted(small().fit(X), X[:70], stride=1)[0] == 70 - L - H + 1
    array = X.to_numpy()
    assert counted(small().fit(array), array[:70], stride=1)[0] == 0


def test_rows_that_repeat_are_not_taken_for_fitted_ones():
    X = np.tile(np.arange(40.0), 4)
    assert counted(small().fit(X[:80]), X, stride=1)[0] == 0
    assert counted(small().fit(np.r_[X[:80], np.full(40, np.nan)]), X, stride=1)[0] == 0
    missing = X.copy()
    missing[75] = np.nan
    fitted = small().fit(missing[:80])
    assert counted(fitted, missing, stride=1)[0] == 80 - L
    assert counted(fitted, X, stride=1)[0] == 0


@pytest.mark.parametrize("form", ["frame", "array", "panel"])
def test_the_end_is_saved(form, tmp_path):
    X = long() if form == "panel" else FORMS[form]
    fitted = small().fit(X)
    fitted.save(tmp_path / "model")
    assert counted(TitansForecaster.load(tmp_path / "model"), X) == counted(fitted, X)


def test_forged_ends_are_refused(tmp_path):
    small().fit(frame()).save(tmp_path / "model")
    config, tensors = load_directory(tmp_path / "model")
    for name, forged in {
        "times": torch.zeros(2, 3, dtype=torch.int64),
        "values": torch.zeros(4, 5, dtype=torch.float64),
    }.items():
        save_directory(tmp_path / "forged", config, tensors | {f"fitted_rows.{name}": forged})
        with pytest.raises(ValueError, match="damaged model"):
            TitansForecaster.load(tmp_path / "forged")


def test_without_a_fit_no_row_is_a_fitted_one():
    assert counted(TitansForecaster.from_pretrained(H, progress_bar=False), frame())[0] == 0
    zero_shot = TitansForecaster(H, preset="zero-shot", progress_bar=False).fit(frame())
    assert counted(zero_shot, frame())[0] == 0
