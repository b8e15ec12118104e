"""Borders of the train, validation and test parts of a series.

The borders are those of the long-horizon forecasting literature (Informer, Autoformer and their
successors), so that results can be compared row by row.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import SupportsIndex

from titans_ts.datasets._messages import unknown_name

__all__ = ["Split", "literature_split", "ratio_split"]

# 12, 4 and 4 months of 30 days; the literature does not use the later rows.
_FIXED_BORDERS = {
    "ETTh1": (8640, 11520, 14400),
    "ETTh2": (8640, 11520, 14400),
    "ETTm1": (34560, 46080, 57600),
    "ETTm2": (34560, 46080, 57600),
}
_BY_RATIO = ("electricity", "exchange_rate", "national_illness", "solar", "traffic", "weather")


@dataclass(frozen=True)
class Split:
    """Three consecutive parts of a series, as slices of its rows.

    Attributes
    ----------
    train, validation, test
        ``slice(start, stop)`` of *target* rows, which are forecast in this part.

    Raises
    ------
    ValueError
        If a slice has a step or a negative or missing border, or if the parts overlap.

    Examples
    --------
    >>> split = ratio_split(100, 0.7, 0.1, 0.2)
    >>> split.test
    slice(80, 100, None)
    >>> split.with_context(12).test
    slice(68, 100, None)
    """

    train: slice
    validation: slice
    test: slice

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            rows = getattr(self, part)
            borders = isinstance(rows.start, int) and isinstance(rows.stop, int)
            if not borders or rows.step is not None or not 0 <= rows.start <= rows.stop:
                raise ValueError(
                    f"{part}={rows} is not a range of rows; give slice(start, stop) with "
                    "0 <= start <= stop and no step."
                )
        if not self.train.stop <= self.validation.stop <= self.test.stop:
            raise ValueError(
                f"train, validation, test={self.train}, {self.validation}, {self.test} are not "
                "in time order; give them in time order."
            )

    def with_context(self, context_length: int) -> Split:
        """Return the split whose validation and test parts begin `context_length` rows early.

        The first window of a part then has its first target on the part's first row, as in the
        literature: ``SlidingWindows(values[split.with_context(L).test], L, H)`` contains every test
        window. The train part keeps its rows, and an empty part stays empty.

        Parameters
        ----------
        context_length
            Rows of history that the model reads before its first target, at least 0.

        Raises
        ------
        ValueError
            If `context_length` is negative or reaches before row 0.
        """
        length = operator.index(context_length)
        if length < 0:
            raise ValueError(f"context_length={length} is negative; give 0 or more rows.")
        return Split(
            self.train,
            _early("validation", self.validation, length),
            _early("test", self.test, length),
        )


def literature_split(name: str, n_rows: int) -> Split:
    """Return the split under which the literature reports results for a benchmark.

    ETTh1/ETTh2 use rows 0, 8640, 11520 and 14400 as borders, and ETTm1/ETTm2 four times these rows
    (12, 4 and 4 months of 30 days; later rows are unused). Every other series uses its first
    ``int(0.7 n)`` rows for training, its last ``int(0.2 n)`` for testing and the rest for validation.
    Published errors are means over all stride-1 windows of ``with_context(L).test``, on series z-scored
    with mean and population standard deviation of the train rows.

    Parameters
    ----------
    name
        ETTh1, ETTh2, ETTm1, ETTm2, electricity, exchange_rate, national_illness, solar, traffic
        or weather.
    n_rows
        Rows of the series.

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If the name is unknown or the series is shorter than the borders.

    Examples
    --------
    >>> literature_split("ETTh1", 17420).test
    slice(11520, 14400, None)
    >>> literature_split("weather", 52696).test
    slice(42157, 52696, None)
    """
    if name in _FIXED_BORDERS:
        train, validation, test = _FIXED_BORDERS[name]
        if _rows(n_rows) < test:
            raise ValueError(
                f"n_rows={n_rows} is less than the {test} rows of the split of {name}; "
                "pass the whole series, or use ratio_split."
            )
        return Split(slice(0, train), slice(train, validation), slice(validation, test))
    if name in _BY_RATIO:
        return ratio_split(n_rows, 0.7, 0.1, 0.2)
    known = (*_FIXED_BORDERS, *_BY_RATIO)
    raise ValueError(
        unknown_name("name", name, known, "For any other series use ratio_split(n_rows, ...).")
    )


def ratio_split(n_rows: int, train: float, validation: float, test: float) -> Split:
    """Split a series into consecutive parts by shares of its rows.

    The train part is the first ``int(train * n_rows)`` rows, and the test part the last
    ``int(test * n_rows)``. Rows left by rounding go to validation (to test if `validation` is 0), as in
    the literature.

    Parameters
    ----------
    n_rows
        Rows of the series, at least 1.
    train, validation, test
        Shares that sum to 1; train is positive, the others may be 0.

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If the shares are negative or do not sum to 1, or a positive share gets no row.

    Examples
    --------
    >>> ratio_split(10, 0.5, 0.25, 0.25)
    Split(train=slice(0, 5, None), validation=slice(5, 8, None), test=slice(8, 10, None))
    """
    rows = _rows(n_rows)
    shares = {"train": train, "validation": validation, "test": test}
    for part, share in shares.items():
        if not 0 <= share <= 1 or (part == "train" and share == 0):
            raise ValueError(f"{part}={share} is not a share; give a number from 0 to 1.")
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9):
        raise ValueError(
            f"train + validation + test={sum(shares.values()):g}; give shares that sum to 1."
        )
    first = int(train * rows)
    second = rows - int(test * rows) if validation else first
    split = Split(slice(0, first), slice(first, second), slice(second, rows))
    for part, share in shares.items():
        part_rows = getattr(split, part)
        if share and part_rows.start == part_rows.stop:
            raise ValueError(
                f"n_rows={rows} leaves no row for {part}={share}; give more rows or a larger share."
            )
    return split


def _early(part: str, rows: slice, context_length: int) -> slice:
    if rows.start == rows.stop:
        return rows
    if context_length > rows.start:
        raise ValueError(
            f"context_length={context_length} reaches before row 0: {part} starts at row "
            f"{rows.start}; give at most {rows.start}."
        )
    return slice(rows.start - context_length, rows.stop)


def _rows(n_rows: SupportsIndex) -> int:
    rows = operator.index(n_rows)
    if rows < 1:
        raise ValueError(f"n_rows={rows} is too small; give the length of a series with rows.")
    return rows
