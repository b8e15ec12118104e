from __future__ import annotations

import numpy as np
import pytest

from titans_ts.datasets import DATASETS, SlidingWindows, Split, literature_split, ratio_split


@pytest.mark.parametrize(
    ("name", "n_rows", "n_windows"),
    [
        ("ETTh1", 17420, 2785),
        ("ETTh2", 17420, 2785),
        ("ETTm1", 69680, 11425),
        ("ETTm2", 69680, 11425),
        ("weather", 52696, 10444),
        ("exchange_rate", 7588, 1422),
    ],
)
def test_number_of_test_windows_is_the_literatures(name: str, n_rows: int, n_windows: int) -> None:
    assert DATASETS[name].n_rows == n_rows
    values = np.arange(n_rows, dtype=np.float32)
    split = literature_split(name, n_rows)
    context, horizon = 336, 96
    windows = SlidingWindows(values[split.with_context(context).test], context, horizon)
    assert len(windows) == n_windows
    assert windows[0][1][0, 0] == split.test.start  # first target = first row of the part
    assert windows[-1][1][-1, 0] == split.test.stop - 1


def test_borders() -> None:
    hourly = literature_split("ETTh2", 17420)
    assert hourly == Split(slice(0, 8640), slice(8640, 11520), slice(11520, 14400))
    quarter = literature_split("ETTm1", 69680)
    assert quarter == Split(slice(0, 34560), slice(34560, 46080), slice(46080, 57600))
    assert literature_split("national_illness", 966) == Split(
        slice(0, 676), slice(676, 773), slice(773, 966)
    )


def test_every_registered_dataset_has_a_split() -> None:
    for name, dataset in DATASETS.items():
        assert literature_split(name, dataset.n_rows).test.stop <= dataset.n_rows


def test_parts_touch_and_cover() -> None:
    for n_rows in range(10, 60):
        split = ratio_split(n_rows, 0.6, 0.2, 0.2)
        rows = np.arange(n_rows)
        parts = [rows[split.train], rows[split.validation], rows[split.test]]
        np.testing.assert_array_equal(np.concatenate(parts), rows)
        assert len(parts[0]) == int(0.6 * n_rows)
        assert len(parts[2]) == int(0.2 * n_rows)


def test_without_validation_no_row_is_lost() -> None:
    split = ratio_split(7, 0.8, 0.0, 0.2)
    assert split == Split(slice(0, 5), slice(5, 5), slice(5, 7))
    assert split.with_context(3) == Split(slice(0, 5), slice(5, 5), slice(2, 7))


def test_with_context_keeps_train_and_moves_the_others() -> None:
    split = ratio_split(100, 0.7, 0.1, 0.2)
    assert split.with_context(0) == split
    assert split.with_context(70) == Split(slice(0, 70), slice(0, 80), slice(10, 100))
    with pytest.raises(ValueError, match=r"context_length=71 reaches.*validation starts at row 70"):
        split.with_context(71)
    with pytest.raises(ValueError, match="context_length=-1 is negative"):
        split.with_context(-1)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((100, 0.7, 0.1, 0.1), r"train \+ validation \+ test=0\.9"),
        ((100, 1.2, -0.1, -0.1), r"train=1\.2"),
        ((100, 0.9, -0.1, 0.2), r"validation=-0\.1"),
        ((100, 0.0, 0.5, 0.5), r"train=0\.0"),
        ((100, float("nan"), 0.5, 0.5), "train=nan"),
        ((4, 0.7, 0.1, 0.2), r"n_rows=4 leaves no row for test=0\.2"),
        ((0, 0.7, 0.1, 0.2), "n_rows=0"),
    ],
)
def test_bad_shares(shares: tuple[int, float, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_split(*shares)


def test_bad_names_and_lengths() -> None:
    with pytest.raises(ValueError, match=r"name='etth1'.*did you mean 'ETTh1'.*ratio_split"):
        literature_split("etth1", 17420)
    with pytest.raises(ValueError, match="n_rows=14399 is less than the 14400 rows"):
        literature_split("ETTh1", 14399)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((slice(0, 5), slice(5, 8), slice(8, 10, 2)), "test=.*no step"),
        ((slice(None, 5), slice(5, 8), slice(8, 10)), "train=slice"),
        ((slice(0, 5), slice(8, 5), slice(8, 10)), "validation="),
        ((slice(8, 10), slice(5, 8), slice(0, 5)), "not in time order"),
    ],
)
def test_bad_slices(parts: tuple[slice, slice, slice], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(*parts)
