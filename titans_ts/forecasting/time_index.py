"""Check that the index of a series has one frequency, and continue it into the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from titans_ts.forecasting.frequency import guess_frequency
from titans_ts.forecasting.time_ranges import check_span, local_clock, time_range

__all__ = [
    "continued",
    "extended",
    "item_at",
    "regular",
    "regular_items",
    "rising_items",
    "time_gaps",
    "whole_numbers",
]


def regular(index: pd.Index, fitted: Any = None) -> tuple[pd.Index, Any]:
    """Return an index (a RangeIndex for whole numbers), and its frequency or step.

    Parameters
    ----------
    index : Index
        Times, periods or whole numbers.
    fitted : offset or int, optional
        The frequency or the step of the same series, for an index that is too short to have one.

    Raises
    ------
    TypeError, ValueError
        If it is of another kind, or does not increase at one frequency; the message says where.
    """
    stamps = _stamps(index)
    for i in np.flatnonzero(stamps[1:] <= stamps[:-1])[:1]:
        place = "twice" if index[i] == index[i + 1] else f"before {index[i + 1]}"
        raise ValueError(
            f"the index of X has {index[i]} {place}; sort it and drop duplicates "
            "(X[~X.index.duplicated()].sort_index())"
        )
    if isinstance(index, pd.DatetimeIndex):
        is_offset = isinstance(fitted, pd.offsets.BaseOffset)
        return _with_frequency(index, fitted if is_offset else None)
    if isinstance(index, pd.PeriodIndex):
        _check_steps(index, np.diff(index.asi8), index.freq.n)
        return index, index.freq
    step = fitted if isinstance(fitted, int) else 1
    if len(index) > 1:
        steps = np.diff(index.to_numpy())
        kinds, counts = np.unique(steps, return_counts=True)
        step = int(kinds[counts.argmax()])
        _check_steps(index, steps, step)
    return pd.RangeIndex(int(index[0]), int(index[-1]) + step, step, name=index.name), step


def regular_items(
    index: pd.Index, offsets: NDArray[np.int64], items: pd.Index, fitted: Any = None
) -> Any:
    """Return the common frequency of many items' times: an offset, or the step between whole numbers.

    Parameters
    ----------
    index : Index
        Times of all items' rows, one item after the other, in increasing order within an item.
    offsets : ndarray
        `[I + 1]`, the first row of every item, and the number of rows.
    items : Index
        Their names `[I]`, for messages.
    fitted : optional
        The frequency to use if every item is too short to have one.

    Raises
    ------
    ValueError
        If an item repeats a time, has a gap, or another frequency; the message names it.
    """
    longest = int(np.diff(offsets).argmax())
    rows = slice(offsets[longest], offsets[longest + 1])
    places = index.asi8 if isinstance(index, pd.DatetimeIndex) else index.to_numpy()
    inside = np.ones(len(index), bool)
    inside[offsets[:-1]] = False  # rows that follow another of their item
    inside = inside[1:]
    _check_items(index, offsets, items, inside & (places[1:] == places[:-1]), "has {1} twice")
    if not isinstance(index, pd.DatetimeIndex):
        step = fitted if fitted is not None else 1
        if rows.stop - rows.start > 1:
            kinds, counts = np.unique(np.diff(places[rows]), return_counts=True)
            step = int(kinds[counts.argmax()])
        odd = inside & (np.diff(places) != step)
        _check_items(index, offsets, items, odd, f"has {{1}} after {{0}}; the step is {step}")
        return step
    try:
        freq = _with_frequency(index[rows], fitted)[1]
    except ValueError as error:
        raise ValueError(f"item {_name(items, longest)}: {error}") from error
    if freq is None:
        raise ValueError(
            "no item of X is long enough to tell its frequency (the longest, "
            f"{_name(items, longest)}, has {rows.stop - rows.start} rows); give longer ones"
        )
    if isinstance(freq, pd.offsets.Tick) and not (index.tz and isinstance(freq, pd.offsets.Day)):
        step = pd.Timedelta(freq).as_unit(index.unit)._value
        odd = inside & (np.diff(places) != step)
    else:
        grid = _grid(index.sort_values(), freq)
        place = grid.get_indexer(index)
        none = f"has {{0}}, which is no time of frequency {freq.freqstr!r}"
        _check_items(index, offsets, items, place < 0, none)
        odd = inside & (np.diff(place) != 1)
    _check_items(
        index, offsets, items, odd, f"has {{1}} after {{0}}; the frequency is {freq.freqstr!r}"
    )
    return freq


def _stamps(index: pd.Index) -> pd.Index:
    """Check the type of an index, and return it, with periods replaced by their start times."""
    stamps: pd.Index = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
    if isinstance(stamps, pd.MultiIndex) or stamps.dtype.kind not in "Miu":
        raise TypeError(
            f"the index of X has dtype {index.dtype}; "
            "give a DatetimeIndex (pd.to_datetime), a PeriodIndex or whole numbers"
        )
    if stamps.hasnans:
        raise ValueError("the index of X has NaT; drop those rows")
    return stamps


def rising_items(
    index: pd.Index, offsets: NDArray[np.int64], items: pd.Index | None, fitted: Any = None
) -> Any:
    """Return the usual step of irregular times that increase within each item.

    It is an offset, or a whole number.

    Parameters
    ----------
    index, offsets, items, fitted
        As for :func:`regular_items`; `items` is None for a single series.

    Raises
    ------
    TypeError, ValueError
        If the index is of another kind, or an item's times do not increase; the message says where.
    """
    index = _stamps(index)
    times = isinstance(index, pd.DatetimeIndex)
    if fitted is not None and times != isinstance(fitted, pd.offsets.BaseOffset):
        raise TypeError(
            f"the index of X has dtype {index.dtype}, but {fitted!r} is the fitted step"
        )
    index = index if times else index.astype(np.int64)  # unsigned differences would not fall
    if len(index) == 0:
        raise ValueError("X has 0 rows; give at least two")
    inside = np.ones(len(index), bool)
    inside[offsets[:-1]] = False
    steps = (index[1:] - index[:-1])[inside[1:]]
    if len(steps) and steps.min() <= 0 * steps[0]:
        row = int(np.flatnonzero(inside[1:] & (index[1:] <= index[:-1]))[0])
        what = "X" if items is None else f"item {_name(items, item_at(offsets, row))} of X"
        raise ValueError(
            f"{what} has {index[row + 1]} after {index[row]}; sort it and drop duplicates"
        )
    if fitted is not None:
        return fitted
    if not len(steps):
        raise ValueError(
            "X has one row per item, so that the usual step is unknown; give more rows"
        )
    usual = steps.sort_values()[len(steps) // 2]
    return to_offset(usual) if times else int(usual)


def time_gaps(index: pd.Index, usual: Any) -> NDArray[np.float64]:
    """Return the logarithm of the time since the previous row, in usual steps, `[N]`; first 0.

    The value at the first row of a later item has no meaning.
    """
    step = pd.Timedelta(usual) if isinstance(index, pd.DatetimeIndex) else usual
    gaps = np.asarray((index[1:] - index[:-1]) / step, dtype=np.float64)
    return np.concatenate([[0.0], np.log(np.where(gaps > 0, gaps, 1.0))])


def item_at(offsets: NDArray[np.int64], row: int) -> int:
    """Return the number of the item that has a row; items begin at `offsets` `[I + 1]`."""
    return int(np.searchsorted(offsets, row, side="right")) - 1


def _name(items: pd.Index, i: int) -> str:
    """Return the name of item i as text for a message."""
    return repr(items[i : i + 1].tolist()[0])


def _check_items(
    index: pd.Index, offsets: NDArray[np.int64], items: pd.Index, odd: NDArray[np.bool_], what: str
) -> None:
    if odd.any():
        row = int(odd.argmax())
        raise ValueError(
            f"item {_name(items, item_at(offsets, row))} of X {what.format(*index[row : row + 2])}; "
            "make every item regular (add rows of NaN, which is missing data, or drop some)"
        )


def _check_steps(index: pd.Index, steps: NDArray[np.int64], usual: int) -> None:
    odd = np.flatnonzero(steps != usual)
    if len(odd):
        raise ValueError(
            f"the index of X has a gap: {index[odd[0] + 1]} follows {index[odd[0]]}; "
            "reindex it so that the rows between are NaN, which is missing data"
        )


def _grid(index: pd.DatetimeIndex, freq: Any) -> pd.DatetimeIndex:
    """Return all times of a frequency from the first to the last time of an index."""
    check_span(index, freq)
    start, zone = local_clock(index, 0, freq)
    grid = time_range(start, freq, zone=zone, end=index[-1], name=index.name)
    if len(grid) and grid[-1] < index[-1]:  # its last step begins later than usual
        longer = time_range(start, freq, zone=zone, periods=len(grid) + 1, name=index.name)
        return longer if longer[-1] == index[-1] else grid
    return grid


def _with_frequency(index: pd.DatetimeIndex, freq: Any) -> tuple[pd.DatetimeIndex, Any]:
    """Return the index and its frequency; an index that is too short to have one gets `freq`."""
    if index.freq is not None:
        return index, index.freq
    if len(index) < 3 and freq is None:
        if len(index) < 2:
            return index, None
        index = pd.DatetimeIndex(index, freq=index[1] - index[0])
        return index, index.freq
    guess = (guess_frequency(index) if len(index) > 2 else None) or freq
    if guess is None:
        raise ValueError(
            f"the index of X has no regular frequency ({index[0]}, {index[1]}, {index[2]}, ...); "
            "give freq=, the frequency to bring it to, or freq='irregular'"
        )
    expected = _grid(index, guess)
    missing, extra = expected.difference(index), index.difference(expected)
    if len(missing) or len(extra):
        what = f"lacks {missing[0]}" if len(missing) else f"has {extra[0]} between two steps"
        raise ValueError(
            f"the index of X {what} at frequency {guess!r}; make it regular "
            f"(X.asfreq({guess!r}) sets the rows between to NaN, which is missing data)"
        )
    return expected, to_offset(guess)


def continued(index: pd.Index | None, steps: int, freq: Any) -> pd.Index:
    """Return the next `steps` times of a regular index of a frequency."""
    if isinstance(index, pd.PeriodIndex):
        return pd.period_range(index[-1] + 1, periods=steps, freq=index.freq, name=index.name)
    if isinstance(index, pd.DatetimeIndex):
        start, zone = local_clock(index, -1, freq)
        return time_range(start, freq, zone=zone, periods=steps + 1, name=index.name)[1:]
    assert isinstance(index, pd.RangeIndex)
    start = index[-1] + index.step
    return pd.RangeIndex(start, start + steps * index.step, index.step, name=index.name)


def whole_numbers(index: pd.Index, unit: str = "ns") -> NDArray[np.int64]:
    """Return times as whole numbers: dates in a unit, and the numbers of periods."""
    times: Any = index.as_unit(unit).asi8 if isinstance(index, pd.DatetimeIndex) else index
    return np.asarray(times, np.int64)


def extended(index: pd.Index, steps: int, freq: Any) -> pd.Index:
    """Return a regular index of a frequency, followed by its next `steps` times."""
    n = len(index) + steps
    if isinstance(index, pd.PeriodIndex):
        return pd.period_range(index[0], periods=n, freq=index.freq, name=index.name)
    if isinstance(index, pd.DatetimeIndex):
        start, zone = local_clock(index, 0, freq)
        return time_range(start, freq, zone=zone, periods=n, name=index.name)
    assert isinstance(index, pd.RangeIndex)
    return pd.RangeIndex(index.start, index.start + n * index.step, index.step, name=index.name)
