"""Lengths that follow from the data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.support import small_settings
from titans_ts import TitansForecaster
from titans_ts.forecasting.defaults import Lengths, default_lengths
from titans_ts.forecasting.frequency import usual_season, usual_seasons

FREQUENCIES = [None, "YS", "QS", "MS", "W", "B", "D", "h", "30min", "15min", "min"]


@pytest.mark.parametrize(
    ("freq", "seasons"),
    [
        (None, (1,)),
        ("min", (1440, 10080)),
        ("15min", (96, 672)),
        ("30min", (48, 336)),
        ("h", (24, 168)),
        ("7h", (1,)),
        ("D", (7,)),
        ("2D", (1,)),
        ("B", (5,)),
        ("W", (52,)),
        ("MS", (12,)),
        ("2ME", (6,)),
        ("QE-NOV", (4,)),
        ("YS", (1,)),
        ("2YS", (1,)),
    ],
)
def test_usual_seasons(freq, seasons):
    assert usual_seasons(freq) == seasons
    assert usual_season(freq) == seasons[0]


@pytest.mark.parametrize(
    ("horizon", "freq", "n_rows", "context"),
    [
        (24, "h", 5000, 336),  # two weeks
        (24, "h", 500, 96),  # four days: there are not three weeks
        (24, "h", 150, 48),  # S + H, which is more than a quarter of the rows
        (24, "15min", 60_000, 512),  # two weeks are too many
        (400, "15min", 60_000, 800),  # 2 H
        (12, "MS", 72, 24),
        (12, "MS", 400, 48),
        (8, "QS", 40, 12),
        (6, "YS", 40, 10),
        (6, "YS", 12, 7),
        (6, "YS", 5, 5),
        (30, "B", 7000, 60),
        (24, None, 10_000, 96),
        (60, None, 10_000, 120),
        (24, None, 200, 50),
        (24, None, 60, 25),
    ],
)
def test_the_context_of_a_typical_item(horizon, freq, n_rows, context):
    assert default_lengths(horizon, freq, n_rows).context_length == context


@pytest.mark.parametrize(
    ("freq", "context", "patch"),
    [
        ("h", 336, 24),
        ("h", 48, 12),
        ("MS", 24, 6),
        ("QS", 12, 3),
        ("15min", 512, 48),
        ("D", 60, 7),
        ("YS", 10, 2),
        (None, 96, 12),
        (None, 1, 1),
    ],
)
def test_a_token_is_a_season_or_a_part_of_the_context(freq, context, patch):
    lengths = default_lengths(6, freq, 100, given=Lengths(context))
    assert lengths == (context, patch, max(1, patch // 2))


@pytest.mark.parametrize("freq", FREQUENCIES)
@pytest.mark.parametrize("horizon", [1, 6, 24, 300])
def test_lengths_fit_any_number_of_rows(freq, horizon):
    for n_rows in (0, 1, 5, 12, 30, 100, 1000, 100_000):
        for single in (False, True):
            context, patch, stride = default_lengths(horizon, freq, n_rows, single=single)
            assert 2 <= context <= max(2, min(n_rows, max(512, 2 * horizon)))
            assert 2 <= patch <= min(48, context)
            assert stride == max(1, patch // 2)
            if single and n_rows >= 2 * horizon + 4:  # a window to train on, and validation
                assert n_rows - max(n_rows // 5, horizon) >= context + horizon
            elif single and n_rows >= horizon + 2:
                assert n_rows >= context + horizon


def test_given_lengths_are_kept():
    given = Lengths(context_length=96, patch_stride=5)
    assert default_lengths(24, "h", 5000, given=given) == (96, 24, 5)
    assert default_lengths(24, "h", 5000, given=Lengths(5, 7, 9)) == (5, 7, 9)


def forecaster(horizon=6, **params):
    return TitansForecaster(horizon, **small_settings(**params))


def lengths(fitted):
    config = fitted.model_.config
    return config.context_length, config.patch_length, config.patch_stride


def months(n_rows, start="2015"):
    index = pd.date_range(start, periods=n_rows, freq="MS", name="timestamp")
    return pd.Series(np.sin(np.arange(n_rows) * np.pi / 6), index, name="y")


def test_thirty_rows_are_enough():
    series = months(30)
    fitted = forecaster().fit(series)
    assert lengths(fitted) == default_lengths(6, "MS", 30, single=True)
    assert "validation_loss" in fitted.history_[-1]
    assert np.isfinite(fitted.predict()).all()
    array = forecaster().fit(series.to_numpy())
    assert lengths(array) == default_lengths(6, None, 30, single=True)
    assert array.context_length is None
    assert forecaster(stateful_windows=2).fit(series).predict().shape == (6,)


def test_the_median_item_of_a_long_frame_counts():
    parts = {"a": 20, "b": 72, "c": 400}
    frame = pd.concat({k: months(n).to_frame() for k, n in parts.items()}, names=["item_id"])
    fitted = forecaster(12).fit(frame)
    assert lengths(fitted) == default_lengths(12, "MS", 72)
    assert len(fitted.predict()) == 36


def test_irregular_times_have_no_season():
    series = months(40).to_frame()
    assert lengths(forecaster(freq="irregular").fit(series)) == lengths(
        forecaster().fit(series.to_numpy())
    )


def test_a_backtest_with_fits_needs_no_length():
    backtest = forecaster().backtest(months(30), refit=1)
    context = default_lengths(6, "MS", 30, single=True).context_length
    assert backtest.cutoffs.ravel().tolist() == list(range(24, context + 5, -6))[::-1]
    assert np.isfinite(backtest.forecasts["titans"]).all()


def test_a_loaded_forecaster_has_the_chosen_lengths(tmp_path):
    fitted = forecaster().fit(months(60))
    fitted.save(tmp_path / "m")
    loaded = TitansForecaster.load(tmp_path / "m")
    assert lengths(loaded) == lengths(fitted)
    assert loaded.context_length is None
    assert loaded.fit(months(200)).model_.config.context_length == 48


def test_a_series_can_be_too_short():
    with pytest.raises(ValueError, match="X has 7 rows; at least 8 are needed .* shorten pred"):
        forecaster().fit(np.arange(7.0))
    assert forecaster().fit(np.arange(8.0)).model_.config.context_length == 2
    assert forecaster().fit(np.arange(15.0)).model_.config.context_length == 4  # no validation


@pytest.mark.parametrize("name", Lengths._fields)
def test_a_length_is_a_whole_number_or_none(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be an integer of at least 1"):
        forecaster(**{name: 0}).fit(np.arange(50.0))
