"""Level and spread of every item's variates, and static covariates as numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting.panel import Panel, category, holds_numbers

__all__ = ["FURTHEST", "STILL", "Scales", "StaticEncoder", "level_and_spread", "season"]

Array = NDArray[np.float64]
_BLOCK = 2**17
"""Number of values that are reduced or scaled at a time, so that temporary copies stay small."""
STILL = 0.01
"""Smallest spread: as a share of the spread with the held-out rows, and of the level if nothing moves."""
FURTHEST = 1e15
"""Largest distance from the level, in spreads: the square of more than 1e19 is infinite in float32."""


def level_and_spread(
    values: Array,
    offsets: NDArray[np.int64],
    use: NDArray[np.bool_] | None = None,
) -> tuple[Array, Array]:
    """Return mean and population deviation of the observed values of every item and column, `[I, F]`.

    Parameters
    ----------
    values : ndarray
        `[N, F]`, the items one after the other; NaN is missing.
    offsets : ndarray
        `[I + 1]`, the first row of every item, and the number of rows.
    use : ndarray, optional
        `[N]` bool, the rows to measure (default: all). A column without a value in them is measured on
        all rows.

    Returns
    -------
    tuple of ndarray
        Means and deviations. The mean of a column without an observed value is NaN. The deviation of a
        column whose values differ by rounding alone is 0.
    """
    shape = len(offsets) - 1, values.shape[1]
    if values.shape[1] == 0:
        return np.empty(shape), np.empty(shape)
    total, known = np.zeros(shape, np.int64), np.zeros(shape, bool)
    first, row = np.zeros(shape), np.full(shape, len(values))  # the first value that counts
    for part in _blocks(offsets, values.shape[1]):
        seen = ~np.isnan(values[part.rows])
        if use is not None:
            known[part.items] |= part.reduce(np.logical_or, seen & use[part.rows, None])
    for part in _blocks(offsets, values.shape[1]):
        seen = _counted(values, part, use, known)
        total[part.items] += part.reduce(np.add, seen, dtype=np.int64)
        place = np.where(seen, np.arange(part.rows.start, part.rows.stop)[:, None], len(values))
        row[part.items] = np.minimum(row[part.items], part.reduce(np.minimum, place))
    first = np.take_along_axis(values, np.minimum(row, len(values) - 1), 0)
    # From the first value on: a column that does not move has a spread of exactly 0.
    shift, square, furthest = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for part in _blocks(offsets, values.shape[1]):
        seen = _counted(values, part, use, known)
        moved = np.where(seen, values[part.rows] - part.repeat(first), 0)
        shift[part.items] += part.reduce(np.add, moved)
        most = part.reduce(np.maximum, np.abs(moved))
        furthest[part.items] = np.maximum(furthest[part.items], most)
    shift /= np.maximum(total, 1)
    unit = np.where(furthest > 0, furthest, 1.0)  # the square of 1e-200 would be 0
    for part in _blocks(offsets, values.shape[1]):
        seen = _counted(values, part, use, known)
        moved = np.where(seen, values[part.rows] - part.repeat(first), 0)
        rest = np.where(seen, (moved - part.repeat(shift)) / part.repeat(unit), 0)
        square[part.items] += part.reduce(np.add, rest**2)
    spread = unit * np.sqrt(square / np.maximum(total, 1))
    level = np.where(total > 0, first + shift, np.nan)
    moves = spread > 1e-12 * np.abs(level)  # less is rounding in float64
    return level, np.where(moves, spread, 0.0)


def _unit(level: Array, spread: Array) -> Array:
    """Return spreads `[I, C]`, with a positive one for what never moved.

    It is 1 % of the level, so that noise has the size of the values. What was always 0 has no size; it
    gets 1 % of the median spread of the items that move, or 1.
    """
    moving = np.where(spread > 0, spread, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a variate that moves in no item
        usual = np.nan_to_num(STILL * np.nanmedian(moving, 0), nan=1.0)
    size = STILL * np.abs(np.nan_to_num(level))
    still: Array = np.where(size > 0, size, usual)
    return np.where(spread > 0, spread, still)


class _Block(NamedTuple):
    """Consecutive rows of a panel, and the items that they belong to."""

    rows: slice
    items: slice
    starts: NDArray[np.int64]
    """Where the items begin within the rows."""

    def reduce(self, function: np.ufunc, values: NDArray[Any], **options: Any) -> NDArray[Any]:
        """Reduce rows `[n, F]` item by item, `[I, F]`."""
        reduced: NDArray[Any] = function.reduceat(values, self.starts, **options)
        return reduced

    def repeat(self, values: NDArray[Any]) -> NDArray[Any]:
        """Repeat values `[I, F]` of all items for their rows in the block, `[n, F]`."""
        counts = np.diff(self.starts, append=self.rows.stop - self.rows.start)
        return np.repeat(values[self.items], counts, 0)


def _blocks(offsets: NDArray[np.int64], n_columns: int) -> Iterator[_Block]:
    """Yield a panel's rows in blocks of a bounded size, so that temporary copies are small."""
    size = max(1, _BLOCK // max(1, n_columns))
    for start in range(0, int(offsets[-1]), size):
        stop = min(start + size, int(offsets[-1]))
        first = int(np.searchsorted(offsets, start, side="right")) - 1
        last = int(np.searchsorted(offsets, stop, side="left"))
        starts = np.maximum(offsets[first:last], start) - start
        yield _Block(slice(start, stop), slice(first, last), starts)


def _counted(
    values: Array, part: _Block, use: NDArray[np.bool_] | None, known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return a mask of the values of a block to measure.

    They are the observed values in `use`, or all observed values of a column that has none there.
    """
    seen = ~np.isnan(values[part.rows])
    if use is None:
        return seen
    counted: NDArray[np.bool_] = seen & (use[part.rows, None] | ~part.repeat(known))
    return counted


def season(values: Array, phase: NDArray[np.int64], spans: NDArray[np.int64], length: int) -> Array:
    """Return the mean distance of a season's steps from the moving mean over a season, `[length, C]`.

    The means are shrunk towards 0 by the share of their variance that their errors explain, so that noise
    gives no season. If there are more than a thousand items, a thousand of them are used.

    Parameters
    ----------
    values : ndarray
        `[N, C]`, the items one after the other; NaN is missing.
    phase : ndarray
        `[N]`, the rows' positions in the season.
    spans : ndarray
        `[I, 2]`, the items' rows.
    length : int
        Number of steps in a season. A step that was observed less than twice gets 0.
    """
    chosen = np.linspace(0, len(spans) - 1, min(len(spans), 1000)).astype(int)
    apart = []
    for first, end in spans[chosen]:
        item = pd.DataFrame(values[first:end], index=phase[first:end])
        item -= item.rolling(length, center=True, min_periods=-(-length // 2)).mean()
        half = length // 2  # a mean over less than a season is no level
        apart.append(item[half : max(half, len(item) - half)])
    steps = pd.concat(apart).groupby(level=0)
    mean, count = steps.mean(), steps.count()
    errors, size = (steps.var() / count)[count > 1].mean(), (mean**2)[count > 1].mean()
    share = (1 - errors / size).clip(lower=0)
    means = (share * mean)[count > 1].reindex(range(length))
    return means.fillna(0).to_numpy()


@dataclass(frozen=True)
class Scales:
    """Level and spread of the fitted rows: of targets for every item, of covariates over all rows."""

    mean: Array
    """`[I, C]`."""
    spread: Array
    """`[I, C]`."""
    covariate_mean: Array
    """`[F - C]`."""
    covariate_spread: Array
    """`[F - C]`."""
    items: pd.Index | None = None
    """Names `[I]` of the items of a long frame."""
    identity: bool = False
    """Whether targets are not scaled (default False)."""
    level: bool = True
    """Whether the mean is subtracted from the targets (default True)."""

    @classmethod
    def fit(
        cls,
        panel: Panel,
        use: NDArray[np.bool_],
        *,
        identity: bool = False,
        level: bool = True,
        n_raw: int = 0,
    ) -> Scales:
        """Measure the rows `use` `[N]`.

        With `identity`, the targets are not scaled. Without `level`, no mean is subtracted from them. The
        last `n_raw` covariates (default 0) are not scaled.
        """
        C = panel.n_targets
        mean, spread = level_and_spread(panel.values[:, :C], panel.starts, use)
        # An item that hardly moved so far and then does would outweigh all others in the loss. The
        # spread of other items says nothing: their values may be larger by any factor.
        _, whole_spread = level_and_spread(panel.values[:, :C], panel.starts)
        spread = _unit(mean, np.maximum(spread, STILL * whole_spread))
        if identity or not level:
            mean = np.where(np.isnan(mean), np.nan, 0.0)
        if identity:
            spread = np.ones_like(spread)
        whole = np.array([0, len(panel.values)])
        covariates, deviation = level_and_spread(panel.values[:, C:], whole, use)
        raw = np.arange(covariates.shape[1]) >= covariates.shape[1] - n_raw
        return cls(
            mean,
            spread,
            np.where(raw, 0, np.nan_to_num(covariates[0])),
            np.where(raw | (deviation[0] == 0), 1, deviation[0]),
            panel.items,
            identity,
            level,
        )

    def by_item(self, values: Array) -> Array:
        """Return values `[I, C]` of the fitted items, or `[C]` if a single series was fitted."""
        return values[0] if self.items is None else values

    def of(self, panel: Panel, ends: NDArray[np.int64] | None = None) -> tuple[Array, Array]:
        """Return level and spread `[I, C]` for the targets of a panel's items.

        They are those of the same item in the fitted panel, or of the single series that was fitted.
        For an item that was not fitted, or a variate without an observed value in the fit, they are
        measured on the panel, before the rows `ends` `[I]` (default: on all rows).
        """
        n, C = panel.n_items, self.mean.shape[1]
        if self.identity:
            return np.zeros((n, C)), np.ones((n, C))
        if self.items is None:
            mean, spread = np.repeat(self.mean, n, 0), np.repeat(self.spread, n, 0)
        else:
            names = pd.Index([None] * n) if panel.items is None else panel.items
            place = self.items.get_indexer(names)
            mean, spread = self.mean[place], self.spread[place]
            mean[place < 0] = np.nan
        new = np.isnan(mean)
        if new.any():
            history = panel if ends is None else panel.head(ends)
            level, deviation = level_and_spread(history.values[:, :C], history.starts)
            deviation = _unit(level, deviation)
            level = level if self.level else np.where(np.isnan(level), np.nan, 0.0)
            mean, spread = np.where(new, level, mean), np.where(new, deviation, spread)
        return mean, spread

    def panel_rows(self, panel: Panel, mean: Array, spread: Array) -> NDArray[np.float32]:
        """A panel's rows `[N, F]` scaled, by levels and spreads of its items `[I, C]`."""
        scaled = np.empty(panel.values.shape, np.float32)
        for part in _blocks(panel.starts, panel.values.shape[1]):
            scaled[part.rows] = self.rows(
                panel.values[part.rows], part.repeat(mean), part.repeat(spread)
            )
        return scaled

    def rows(self, values: Array, mean: Array, spread: Array) -> NDArray[np.float32]:
        """Rows or windows `[..., F]` scaled, the targets by levels and spreads `[..., C]`.

        Raises
        ------
        ValueError
            If a value is so far from the level that float32 cannot hold its square.
        """
        C = self.mean.shape[1]
        scaled = np.empty(values.shape, np.float32)
        scaled[..., :C] = _checked((values[..., :C] - mean) / spread, values[..., :C])
        scaled[..., C:] = self.covariates(values[..., C:])
        return scaled

    def covariates(self, values: Array) -> Array:
        """Covariates `[..., n]`, the last n of them, scaled."""
        n = values.shape[-1]
        first = len(self.covariate_mean) - n
        scaled = (values - self.covariate_mean[first:]) / self.covariate_spread[first:]
        return _checked(scaled, values)


def _checked(scaled: Array, values: Array) -> Array:
    """Return scaled values; raise a ValueError if one is too far from its level."""
    far = np.abs(scaled) > FURTHEST
    if far.any():
        place = np.unravel_index(int(far.argmax()), far.shape)
        raise ValueError(
            f"X has the value {values[place]:g}, which is {abs(scaled[place]):.0e} spreads of the fitted "
            "rows away from their level; replace it, or set NaN for missing"
        )
    return scaled


class StaticEncoder:
    """Static covariates as codes and numbers, by what `fit` saw.

    Text, categories and truth values are categories; numbers are scaled to mean 0 and deviation 1.

    Parameters
    ----------
    columns : list of dict
        Of every column its `name`, and its `categories`, or its `mean` and `scale`.
    """

    def __init__(self, columns: list[dict[str, Any]]) -> None:
        self.columns = columns

    @classmethod
    def fit(cls, frame: pd.DataFrame) -> StaticEncoder:
        """Learn categories, means and deviations of a frame with one row per item."""
        columns: list[dict[str, Any]] = []
        for name in frame:
            values = frame[name]
            if holds_numbers(values):
                numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
                mean, scale = level_and_spread(numbers[:, None], np.array([0, len(numbers)]))
                mean = np.nan_to_num(mean)
                columns.append(
                    {"name": name, "mean": float(mean[0, 0]), "scale": float(scale[0, 0]) or 1.0}
                )
            else:
                kinds = sorted({category(v) for v in values.dropna()})
                columns.append({"name": name, "categories": kinds})
        return cls(columns)

    @property
    def sizes(self) -> tuple[tuple[int, ...], int]:
        """Numbers of categories of every categorical column (plus unknown), number of other columns."""
        sizes = tuple(len(c["categories"]) + 1 for c in self.columns if "categories" in c)
        return sizes, len(self.columns) - len(sizes)

    def __call__(
        self, frame: pd.DataFrame | None, n_items: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return codes `[I, n]` and scaled numbers `[I, m]`.

        A category that is unknown or missing has the code 0; a missing number becomes the mean.
        """
        codes, reals = [], []
        for column in self.columns:
            if "categories" in column:
                code = np.zeros(n_items, np.int64)
                if frame is not None:
                    values = frame[column["name"]]
                    text = [None if pd.isna(v) else category(v) for v in values]
                    code = pd.Index(column["categories"], dtype=object).get_indexer(text) + 1
                codes.append(code)
            else:
                real = np.zeros(n_items)
                if frame is not None:
                    values = _numbers(frame[column["name"]])
                    real = np.nan_to_num((values - column["mean"]) / column["scale"])
                reals.append(real)
        empty = np.zeros((n_items, 0))
        return (
            np.stack(codes, 1) if codes else empty.astype(np.int64),
            (np.stack(reals, 1) if reals else empty).astype(np.float32),
        )


def _numbers(column: pd.Series) -> Array:
    if not pd.api.types.is_numeric_dtype(column.dtype):
        raise TypeError(
            f"the static column {column.name!r} has dtype {column.dtype}, but numbers were fitted"
        )
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
