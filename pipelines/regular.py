"""Bring the rows of one or many series to a regular distance; every change is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from titans_ts.forecasting.frequency import guess_frequency
from titans_ts.forecasting.panel import Roles
from titans_ts.forecasting.time_ranges import time_range

__all__ = ["regular_long", "regular_wide"]

_MOST_GUESSES = 50
"""Number of series whose frequency is looked at."""
_FEWEST = 10
"""Fewest rows without a usual distance that are refused here; the forecaster explains fewer ones."""
_ADVICE = "give --freq, the frequency to bring them to, or --freq irregular"


def regular_wide(frame: pd.DataFrame, say: Callable[[str], None], step: Any = None) -> pd.DataFrame:
    """Sort the rows of a wide frame, average repeated times, and add rows of NaN for gaps.

    `step` is the frequency, or the step between whole numbers (default: the usual one).

    Raises
    ------
    ValueError
        If times lie between the steps of the usual frequency.
    """
    index = frame.index
    if isinstance(index, pd.RangeIndex) or (
        index.name is None and not isinstance(index, pd.DatetimeIndex)
    ):
        return frame
    if not index.is_monotonic_increasing:
        say("the rows were not in order of time: sorted")
        frame = frame.sort_index()
    repeated = int(frame.index.duplicated().sum())
    if repeated:
        say(f"{repeated} repeated stamps: averaged")
        frame = frame.groupby(level=0).mean()
    grid = _grid(frame.index, _step([frame.index]) if step is None else step)
    if grid is None:
        _check_short(frame.index)
        return frame
    regular, freq = grid
    _check_on_grid(frame.index, regular, freq)
    if len(regular) > len(frame):
        missing = len(regular) - len(frame)
        say(f"{missing} rows missing at frequency {_shown(freq)}: taken as missing values")
    return frame.reindex(regular)


def regular_long(
    frame: pd.DataFrame, roles: Roles, say: Callable[[str], None], step: Any = None
) -> pd.DataFrame:
    """As :func:`regular_wide`, for every item of a long frame; static columns are filled.

    Raises
    ------
    ValueError
        If times lie between the steps of the usual frequency, or repeat often within items.
    """
    item_id, timestamp = roles.item_id, roles.timestamp
    keys = [item_id, timestamp]
    repeated = frame.duplicated(keys)
    if repeated.mean() > 0.1:
        first = frame[repeated].iloc[0]
        raise ValueError(
            f"{repeated.mean():.0%} of the rows repeat a time of their series (the first: "
            f"{first[item_id]!r} at {first[timestamp]}); name all columns that identify a series by "
            "--item-column, separated by commas"
        )
    if repeated.any():
        say(f"{int(repeated.sum())} repeated stamps: averaged")
        static = list(roles.static_covariates)
        how = {c: "first" if c in static else "mean" for c in frame if c not in keys}
        frame = frame.groupby(keys, sort=False, as_index=False, observed=True).agg(how)
    codes, _ = pd.factorize(frame[item_id])
    order = np.lexsort((frame[timestamp].to_numpy(), codes))
    frame, codes = frame.iloc[order].reset_index(drop=True), codes[order]
    counts = np.bincount(codes)
    ends = np.cumsum(counts)
    longest = np.argsort(-counts, kind="stable")[:_MOST_GUESSES]
    times = pd.Index(frame[timestamp])
    usual = _step([times[ends[i] - counts[i] : ends[i]] for i in longest])
    grid = _grid(times.unique().sort_values(), usual if step is None else step)
    if grid is None:
        _check_short(times)
        return frame
    regular, freq = grid
    place = regular.get_indexer(times)
    _check_on_grid(times, regular, freq)
    begin, end = place[ends - counts], place[ends - 1]
    rows = end - begin + 1
    missing = int(rows.sum()) - len(frame)
    if not missing:
        return frame
    gaps = int((rows > counts).sum())
    say(
        f"{missing} rows missing at frequency {_shown(freq)}, in {gaps} series: taken as missing values"
    )
    item = np.repeat(np.arange(len(counts)), rows)
    at = np.arange(len(item)) - np.repeat(np.cumsum(rows) - rows, rows) + begin[item]
    source = np.full(len(item), -1)
    source[(np.cumsum(rows) - rows)[codes] + place - begin[codes]] = np.arange(len(frame))
    filled = frame.reindex(source).reset_index(drop=True)
    filled[timestamp] = regular[at]
    for name in (item_id, *roles.static_covariates):
        filled[name] = frame[name].to_numpy()[(ends - 1)[item]]
    return filled


def _step(indices: list[pd.Index]) -> Any:
    """Return the commonest frequency of some indices, or the commonest step between whole numbers."""
    found: Counter[Any] = Counter()
    for index in indices:
        if isinstance(index, pd.DatetimeIndex):
            guess = guess_frequency(index)
            if guess is not None:
                found[guess] += 1
        elif len(index) > 1:
            steps, counts = np.unique(np.diff(index.to_numpy()), return_counts=True)
            found[int(steps[counts.argmax()])] += 1
    return found.most_common(1)[0][0] if found else None


def _grid(times: pd.Index, step: Any) -> tuple[pd.Index, Any] | None:
    """Return all times of a frequency, or whole numbers of a step, from the first to the last."""
    if step is None:
        return None
    first, last = times[0], times[-1]
    if isinstance(times, pd.DatetimeIndex):
        return time_range(first, step, end=last, name=times.name), step
    return pd.RangeIndex(int(first), int(last) + 1, step, name=times.name), step


def _check_short(times: pd.Index) -> None:
    """Raise a ValueError unless times without a usual distance are too few to have one."""
    if len(times) >= _FEWEST:
        shown = ", ".join(str(time) for time in times[:3])
        raise ValueError(f"the times have no usual distance ({shown}, ...); {_ADVICE}")


def _check_on_grid(times: pd.Index, regular: pd.Index, freq: Any) -> None:
    misplaced = times.difference(regular)
    if len(misplaced):
        raise ValueError(
            f"{len(misplaced)} stamps, the first {misplaced[0]}, do not lie on the usual frequency "
            f"{_shown(freq)}; {_ADVICE}"
        )


def _shown(freq: Any) -> str:
    """Return a frequency as text for a message."""
    return repr(getattr(freq, "freqstr", freq))
