from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from titans_ts.datasets import SlidingWindows


def series(rows: int, variates: int = 3) -> np.ndarray:
    return np.arange(rows * variates, dtype=np.float32).reshape(rows, variates)


def naive(
    values: np.ndarray, context: int, horizon: int, stride: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    start = 0
    while start + context + horizon <= len(values):
        middle = start + context
        pairs.append((values[start:middle], values[middle : middle + horizon]))
        start += stride
    return pairs


@pytest.mark.parametrize(
    ("rows", "context", "horizon", "stride"),
    [(20, 5, 3, 1), (20, 5, 3, 4), (21, 5, 3, 4), (8, 5, 3, 1), (8, 5, 3, 7), (30, 1, 1, 2)],
)
def test_equals_the_naive_loop(rows: int, context: int, horizon: int, stride: int) -> None:
    values = series(rows)
    expected = naive(values, context, horizon, stride)
    windows = SlidingWindows(values, context, horizon, stride=stride)
    assert len(windows) == len(expected)
    for i, (past, future) in enumerate(expected):
        np.testing.assert_array_equal(windows[i][0], past)
        np.testing.assert_array_equal(windows[i][1], future)
        np.testing.assert_array_equal(windows[i - len(expected)][1], future)
    past, future = windows[:]
    np.testing.assert_array_equal(past, np.stack([p for p, _ in expected]))
    np.testing.assert_array_equal(future, np.stack([f for _, f in expected]))
    assert len(list(windows)) == len(expected)  # iteration ends at the IndexError


def test_slices_and_arrays_choose_like_a_list() -> None:
    windows = SlidingWindows(series(40), 6, 2, stride=3)
    pairs = [windows[i] for i in range(len(windows))]
    for chosen in (slice(2, 7), slice(None, None, -2), slice(-3, None), slice(5, 5)):
        past, future = windows[chosen]
        assert past.shape == (len(pairs[chosen]), 6, 3)
        for i, pair in enumerate(pairs[chosen]):
            np.testing.assert_array_equal(past[i], pair[0])
            np.testing.assert_array_equal(future[i], pair[1])
    order = np.array([4, 0, -1, 4])
    past, future = windows[order]
    for row, i in enumerate(order):
        np.testing.assert_array_equal(past[row], pairs[i][0])
        np.testing.assert_array_equal(future[row], pairs[i][1])
    assert windows[[]][0].shape == (0, 6, 3)
    np.testing.assert_array_equal(windows[np.int64(2)][0], pairs[2][0])


def test_results_are_contiguous_float32_copies() -> None:
    values = series(30)
    before = values.copy()
    windows = SlidingWindows(values, 4, 2)
    for index in (0, slice(0, 1), slice(3, 9), np.array([1, 2])):
        for part in windows[index]:
            assert part.dtype == np.float32
            assert part.flags.c_contiguous
            assert not np.shares_memory(part, windows.values)
            part += 1000.0
    np.testing.assert_array_equal(values, before)


def test_keeps_a_float32_array_and_converts_others() -> None:
    values = series(30)
    kept = SlidingWindows(values, 4, 2).values
    assert kept.__array_interface__["data"] == values.__array_interface__["data"]
    doubles = values.astype(np.float64)
    np.testing.assert_array_equal(SlidingWindows(doubles, 4, 2).values, values)
    np.testing.assert_array_equal(SlidingWindows(values[::2], 4, 2)[1][0], values[2:10:2])
    flat = SlidingWindows(np.arange(10), 3, 2)
    np.testing.assert_array_equal(flat[0][1], [[3.0], [4.0]])


def test_nan_is_kept() -> None:
    values = series(12)
    values[4, 1] = np.nan
    past, future = SlidingWindows(values, 3, 2)[:]
    assert np.isnan(past).sum() == 3
    assert np.isnan(future).sum() == 2
    np.testing.assert_array_equal(np.argwhere(np.isnan(past)), [[2, 2, 1], [3, 1, 1], [4, 0, 1]])


def test_memory_is_that_of_the_series() -> None:
    values = np.zeros((1_000_000, 4), dtype=np.float32)  # 16 MB; all windows: 6.9 GB
    tracemalloc.start()
    try:
        windows = SlidingWindows(values, 336, 96)
        past, _ = windows[np.array([0, 500_000, -1])]
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert past.shape == (3, 336, 4)
    assert len(windows) == 1_000_000 - 432 + 1
    assert held < 1e6
    assert peak < values.nbytes / 2  # the check for inf takes one byte per value


def test_pickle_carries_the_series_only() -> None:
    windows = SlidingWindows(series(5000), 300, 50, stride=2)
    data = pickle.dumps(windows)
    assert len(data) < windows.values.nbytes + 1000
    again = pickle.loads(data)
    np.testing.assert_array_equal(again[7][1], windows[7][1])
    assert repr(again) == repr(windows)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"values": series(7)}, ValueError, r"values has 7 rows.*5 \+ 3 = 8"),
        ({"values": np.zeros((0, 3))}, ValueError, "values has 0 rows"),
        ({"values": np.zeros((9, 0))}, ValueError, "at least one column"),
        ({"values": np.zeros((2, 9, 3))}, ValueError, r"shape \(2, 9, 3\)"),
        ({"values": np.float32(1.0)}, ValueError, r"shape \(\)"),
        ({"values": np.array(["a"] * 9)}, TypeError, "values has dtype"),
        ({"values": np.zeros(9, dtype=complex)}, TypeError, "complex128"),
        ({"context_length": 0}, ValueError, "context_length=0"),
        ({"prediction_length": -2}, ValueError, "prediction_length=-2"),
        ({"prediction_length": 2.5}, TypeError, r"prediction_length=2\.5"),
        ({"stride": 0}, ValueError, "stride=0"),
    ],
)
def test_bad_arguments(changed: dict, error: type[Exception], message: str) -> None:
    arguments = {"values": series(9), "context_length": 5, "prediction_length": 3} | changed
    with pytest.raises(error, match=message):
        SlidingWindows(**arguments)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e300])
def test_infinite_values_are_named(bad: float) -> None:
    values = np.zeros((9, 3))
    values[4, 2] = bad
    with pytest.raises(ValueError, match=r"values\[4, 2\]=.*infinite"):
        SlidingWindows(values, 5, 3)


def test_bad_index() -> None:
    windows = SlidingWindows(series(10), 5, 3)
    for index in (3, -4, [0, 3], [-4, 1]):
        with pytest.raises(IndexError, match=r"index=(3|-4) is out of range; use -3 to 2"):
            windows[index]
    with pytest.raises(IndexError, match=r"shape \(1, 2\)"):
        windows[[[0, 1]]]
    for index in ([True, False, True], 1.0, "a"):
        with pytest.raises(TypeError, match="index has dtype"):
            windows[index]


def test_windows_of_a_panel_stay_inside_their_series():
    values = np.arange(20.0)
    spans = np.array([[0, 7], [7, 11], [11, 13], [13, 20]])
    windows = SlidingWindows(values, 3, 2, spans=spans)
    expected = [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]
    expected += [[np.nan, 7, 8, 9, 10]]  # shorter than a window; the third is too short for any
    expected += [[13, 14, 15, 16, 17], [14, 15, 16, 17, 18], [15, 16, 17, 18, 19]]
    past, future = windows[:]
    np.testing.assert_array_equal(np.concatenate([past, future], 1)[..., 0], expected)
    np.testing.assert_array_equal(windows.items(np.arange(len(windows))), [0, 0, 0, 1, 3, 3, 3])
    np.testing.assert_array_equal(windows[-1][0], past[-1])
    sparse = SlidingWindows(values, 3, 2, stride=2, spans=spans)
    np.testing.assert_array_equal(sparse[:][1][:, -1, 0], [4, 6, 10, 17, 19])
    for bad in ([0, 20], [[0, 21]], [[5, 4]], [[-1, 4]], [[0.0, 4.0]]):
        with pytest.raises(ValueError, match="are not ranges of the 20 rows"):
            SlidingWindows(values, 3, 2, spans=bad)
