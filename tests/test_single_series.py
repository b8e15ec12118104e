"""The benchmark of single series: its origins, its methods and the limit on their CPU seconds."""

from __future__ import annotations

import importlib.util
from collections import Counter

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.usefixtures("benchmarks_on_the_path")

SEASON, HORIZON = 4, 3


def waves(rows=40):
    index = pd.date_range("2020-01-01", periods=rows, freq="h")
    return pd.Series(np.arange(rows) % SEASON + np.arange(rows) / 10, index)


def task(once):
    from single_series_data import Series

    return Series(waves, HORIZON, (SEASON,), "h", ("hour",), once)


def test_the_origins_are_the_last_three_horizons():
    from single_series_data import origins

    values = waves()
    parts = origins(values, HORIZON, SEASON)
    assert [len(part.train) for part in parts] == [31, 34, 37]
    for part in parts:
        rows = len(part.train)
        assert part.train["timestamp"].tolist() == values.index[:rows].tolist()
        assert np.array_equal(part.train["target"], values[:rows])
        assert np.array_equal(part.test, values.to_numpy()[None, rows : rows + HORIZON])
        assert part.season == SEASON


@pytest.mark.parametrize(
    ("seasons", "expected"),
    [
        ((1,), [*range(1, 13)]),
        ((12,), [*range(1, 13)]),
        ((24, 168), [*range(1, 25), 168]),
    ],
)
def test_lags(seasons, expected):
    from single_series_data import lags

    assert lags(seasons) == expected


@pytest.mark.parametrize(("once", "fits"), [(False, [31, 34, 37]), (True, [31])])
def test_a_method_is_fitted_before_each_origin_or_once(once, fits, monkeypatch):
    """A forecast that is 1 too high everywhere has a MASE of 1 / the seasonal error, here 1 / 0.4."""
    import single_series

    fitted, known = [], []

    class Method:
        def __init__(self, series, seed):
            pass

        def fit(self, data):
            fitted.append(len(data.train))

        def forecast(self, data):
            known.append(len(data.train))
            return np.repeat(data.test[..., None] + 1, 9, 2)

    monkeypatch.setitem(single_series.SERIES, "waves", task(once))
    monkeypatch.setitem(single_series.METHODS, "one too high", Method)
    row = single_series.run("waves", "one too high", 0, threads=1)
    assert fitted == fits
    assert known == [31, 34, 37]
    assert row["mase"] == pytest.approx(2.5)


def test_the_seasonal_naive_method_repeats_the_season_before_the_origin():
    from single_series_data import origins
    from single_series_methods import METHODS, NAIVE

    values = waves().to_numpy()
    method = METHODS[NAIVE](task(once=True), 0)
    first, _, last = origins(waves(), HORIZON, SEASON)
    method.fit(first)
    quantiles = method.forecast(last)
    assert quantiles.shape == (1, HORIZON, 9)
    assert np.array_equal(quantiles[0, :, 4], values[37 - SEASON : 37 - SEASON + HORIZON])


def test_our_method_forecasts_from_the_rows_it_is_given():
    from leaderboard import LEVELS
    from single_series_data import origins
    from single_series_methods import Titans

    tiny = {"context_length": 8, "patch_length": 4, "patch_stride": 4, "max_epochs": 1}
    tiny |= {"n_layers": 0, "d_model": 8, "n_heads": 1}
    first, _, last = origins(waves(), HORIZON, SEASON)
    method = Titans(tiny, task(once=True), 0)
    method.fit(first)
    expected = method.forecaster.predict_quantiles(last.train).to_numpy()
    assert np.array_equal(method.forecast(last)[0], expected)
    assert expected.shape == (HORIZON, len(LEVELS))
    fitted = method.forecaster.predict_quantiles().to_numpy()
    assert np.array_equal(method.forecast(first)[0], fitted)


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch):
    import single_series_methods as methods

    monkeypatch.setattr(methods, "EXTRAS", ("surely_not_installed",))
    methods.check_installed(["default", "seasonal_naive"])
    with pytest.raises(
        SystemExit, match=r"surely_not_installed .*pip install \"\.\[benchmarks\]\""
    ):
        methods.check_installed(["default", "AutoETS"])


@pytest.mark.skipif(
    importlib.util.find_spec("statsforecast") is None, reason="needs the benchmarks extra"
)
def test_the_quantiles_of_a_statistical_model_rise_around_its_mean():
    from single_series_data import origins
    from single_series_methods import METHODS

    first, _, last = origins(waves(), HORIZON, SEASON)
    method = METHODS["AutoTheta"](task(once=True), 0)
    method.fit(first)
    quantiles = method.forecast(last)
    assert quantiles.shape == (1, HORIZON, 9)
    assert (np.diff(quantiles, axis=-1) > 0).all()
    assert np.abs(quantiles[0, :, 4] - last.test[0]).max() < 0.5


def test_the_table_has_every_model_and_the_limit_where_it_was_reached():
    from single_series import table

    def row(model, seed=0, **figures):
        return {"series": "ILI", "model": model, "seed": seed, **figures}

    text = table(
        [
            row("seasonal_naive", mase=2.0, wql=0.2, seconds=0.1),
            row("default", 0, mase=1.0, wql=0.1, seconds=4.0),
            row("default", 1, mase=2.0, wql=0.3, seconds=6.0),
            row("AutoARIMA", limit=300),
        ]
    )
    assert text.splitlines()[2:] == [
        "| **default** | 1.500 / 0.2000 / 5.0 s |",
        "| seasonal_naive | 2.000 / 0.2000 / 0.1 s |",
        "| AutoARIMA | > 300 s |",
    ]


def test_a_call_apart_returns_its_result_or_ends_at_the_limit():
    from cpu_limit import TooSlowError, call_apart

    assert call_apart(60, Counter, "aab") == {"a": 2, "b": 1}
    with pytest.raises(TooSlowError, match="no end after 1 CPU s"):
        call_apart(1, pow, 7, 10**8)
