from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from titans_ts.datasets import make_series

PLAIN = {"trend": 0.0, "regime_changes": 0, "noise": 0.0}


def test_same_seed_same_series() -> None:
    first = make_series(300, 3, missing=0.1, random_state=5)
    pd.testing.assert_frame_equal(first, make_series(300, 3, missing=0.1, random_state=5))
    generator = np.random.default_rng(5)
    pd.testing.assert_frame_equal(first, make_series(300, 3, missing=0.1, random_state=generator))
    assert not first.equals(make_series(300, 3, missing=0.1, random_state=6))


def test_index_and_columns() -> None:
    frame = make_series(5, 2, freq="D", start="2020-02-27")
    assert list(frame.columns) == ["y0", "y1"]
    assert frame.index.name == "date"
    assert frame.index.freqstr == "D"
    assert frame.index[-1] == pd.Timestamp("2020-03-02")


def test_seasons_alone_repeat_with_their_length_and_differ_in_phase() -> None:
    values = make_series(400, 2, seasons=(24, 7), **PLAIN).to_numpy()
    np.testing.assert_allclose(values[168:], values[:-168], atol=1e-9)
    assert np.abs(values[24:] - values[:-24]).max() > 0.1
    spectrum = np.abs(np.fft.rfft(values[:336] - values[:336].mean(0), axis=0))  # 2 x 168 rows
    assert set(np.argsort(spectrum[:, 0])[-2:]) == {336 // 24, 336 // 7}
    assert spectrum[14, 0] == pytest.approx(2 * spectrum[48, 0], rel=1e-6)
    angles = np.angle(np.fft.rfft(values[:336], axis=0)[14])
    assert abs(angles[0] - angles[1]) > 0.1


def test_trend_alone_is_a_line_per_variate() -> None:
    options = PLAIN | {"trend": 3.0}
    values = make_series(100, 4, seasons=(), **options).to_numpy()
    np.testing.assert_allclose(np.diff(values, n=2, axis=0), 0.0, atol=1e-12)
    rise = values[-1] - values[0]
    assert len(set(rise)) == 4
    assert 0.1 < np.abs(rise).max() <= 3.0


def test_regimes_change_level_at_common_rows() -> None:
    options = PLAIN | {"regime_changes": 3}
    values = make_series(500, 2, seasons=(), **options).to_numpy()
    jumps = np.diff(values, axis=0) != 0
    assert jumps.sum(0).tolist() == [3, 3]
    np.testing.assert_array_equal(jumps[:, 0], jumps[:, 1])


def test_regimes_change_amplitude() -> None:
    options = PLAIN | {"regime_changes": 1}
    values = make_series(4000, 1, seasons=(10,), **options)["y0"].to_numpy()
    ranges = np.ptp(values[:4000].reshape(-1, 10), axis=1)
    assert len(set(np.round(ranges, 6))) in (2, 3)  # two amplitudes, and a season in between


def test_noise_is_autoregressive_of_the_asked_size() -> None:
    options = PLAIN | {"noise": 2.0}
    values = make_series(40_000, 2, seasons=(), **options).to_numpy()
    noise = values - values.mean(0)
    # 40 000 rows at correlation 0.7 are worth 7000 independent ones: 3 % is over three sigma.
    np.testing.assert_allclose(noise.std(0), 2.0, rtol=0.03)
    for column in noise.T:
        assert np.corrcoef(column[1:], column[:-1])[0, 1] == pytest.approx(0.7, abs=0.02)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.06
    assert 0.5 < np.abs(noise[:200]).mean() < 3.0  # stationary from the first row on


def test_missing_hides_values_and_changes_no_other() -> None:
    whole = make_series(5000, 2)
    holed = make_series(5000, 2, missing=0.2)
    assert not whole.isna().to_numpy().any()
    assert holed.isna().to_numpy().mean() == pytest.approx(0.2, abs=0.02)
    seen = holed.notna().to_numpy()
    np.testing.assert_array_equal(holed.to_numpy()[seen], whole.to_numpy()[seen])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rows": 0}, "n_rows=0"),
        ({"n_variates": 0}, "n_variates=0"),
        ({"regime_changes": 50}, r"regime_changes=50.*= 49"),
        ({"regime_changes": -1}, "regime_changes=-1"),
        ({"seasons": (24, 1)}, "holds 1"),
        ({"trend": -1.0}, r"trend=-1\.0"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"missing": 1.0}, r"missing=1\.0"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_series(**({"n_rows": 50} | options))
