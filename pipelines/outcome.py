"""A forecast as tables: the point, the quantiles and the interval of every series."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from titans_ts.forecasting import TitansForecaster

__all__ = ["Outcome", "forecast_outcome", "plain_records"]


@dataclass(frozen=True)
class Outcome:
    """A forecast of H steps of every series."""

    quantiles: pd.DataFrame
    """`[H, C Q]`, or `[I H, C Q]` for I items, with columns (variate, quantile). The index is the
    time, or item and time."""
    interval: pd.DataFrame | None
    """The same rows, columns (variate, "lower" or "upper"); None if it was not asked for."""
    coverage: float | None
    """The share of values that the interval contains."""
    mean: pd.DataFrame
    """The same rows, a column per variate: the point forecast if there is no median."""
    time: str
    """The name of the time."""

    @property
    def variates(self) -> list[Any]:
        """Names of the variates."""
        return list(self.mean.columns)

    @property
    def long(self) -> bool:
        """Whether the forecast is one of items."""
        return self.mean.index.nlevels == 2

    @property
    def horizon(self) -> int:
        """H."""
        if not self.long:
            return len(self.mean)
        return len(self.mean) // self.mean.index.get_level_values(0).nunique()

    @property
    def series(self) -> list[Any]:
        """Names of the series: variates, or pairs of item and variate."""
        if not self.long:
            return self.variates
        items = self.mean.index.get_level_values(0).unique()
        return [(item, variate) for item in items for variate in self.variates]

    @property
    def points(self) -> pd.DataFrame:
        """The median, or the mean if the median was not forecast; it has the rows of `quantiles`."""
        if 0.5 not in self.quantiles.columns.get_level_values(1):
            return self.mean
        median = self.quantiles.xs(0.5, axis=1, level=1)
        return median[self.variates]

    @property
    def point(self) -> pd.DataFrame:
        """The points in the form of a series: a wide frame, or a long one."""
        return self.points.reset_index() if self.long else self.points

    def band(self) -> pd.DataFrame | None:
        """Return columns (variate, level) of the lower and the upper end of the interval.

        It is the calibrated interval, or that between the outermost quantiles, and contains the point
        forecast. None if there are fewer than two quantiles.
        """
        columns = {}
        for variate in self.variates:
            if self.interval is not None and self.coverage is not None:
                low, high = (self.interval[variate, end] for end in ("lower", "upper"))
                levels = (1 - self.coverage) / 2, (1 + self.coverage) / 2
            else:
                quantiles = self.quantiles[variate]
                if quantiles.shape[1] < 2:
                    return None
                low, high = quantiles.iloc[:, 0], quantiles.iloc[:, -1]
                levels = quantiles.columns[0], quantiles.columns[-1]
            point = self.points[variate]
            columns[variate, round(levels[0], 6)] = np.minimum(low, point)
            columns[variate, round(levels[1], 6)] = np.maximum(high, point)
        return pd.DataFrame(columns, index=self.quantiles.index)

    def table(self) -> pd.DataFrame:
        """Return point, quantiles and interval side by side: `x`, `x_q0.1`, `x_lower90`, `x_upper90`."""
        columns: dict[Any, Any] = {}
        band = self.band() if self.interval is not None else None
        for variate in self.variates:
            columns[variate] = self.points[variate]
            for level, values in self.quantiles[variate].items():
                columns[f"{variate}_q{level:g}"] = values
            if band is not None and self.coverage is not None:
                for end, values in zip(("lower", "upper"), band[variate].items(), strict=True):
                    columns[f"{variate}_{end}{100 * self.coverage:g}"] = values[1]
        frame = pd.DataFrame(columns, index=self.mean.index)
        if not self.long:
            frame = frame.rename_axis(self.time)
        return frame.reset_index()

    def records(self, items: Collection[Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows of the table, or of some items, for a machine: times as text, NaN as None."""
        table = self.table()
        return plain_records(table if items is None else table[table.iloc[:, 0].isin(items)])


def plain_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries of text, numbers and None."""
    text = table.copy()
    for name in text:
        if pd.api.types.is_datetime64_any_dtype(text[name].dtype):
            text[name] = [None if pd.isna(t) else t.isoformat() for t in text[name]]
    cells = text.astype(object).where(text.notna(), None)
    records: list[dict[str, Any]] = cells.to_dict("records")
    return records


def forecast_outcome(
    forecaster: TitansForecaster,
    X: pd.DataFrame | None = None,
    *,
    coverage: float | None = None,
    future: pd.DataFrame | None = None,
) -> Outcome:
    """Forecast the steps after a series.

    Parameters
    ----------
    forecaster : TitansForecaster
        Fitted to a frame.
    X : DataFrame, optional
        The series; default: the one that the forecaster follows.
    coverage : float, optional
        The share of values that calibrated intervals contain (default: no intervals).
    future : DataFrame, optional
        The known covariates of these steps.
    """
    roles = forecaster.roles
    mean = forecaster.predict(X, known_covariates=future)
    if isinstance(mean, pd.Series):
        mean = mean.to_frame()
    if roles.item_id in mean:
        mean = mean.set_index([roles.item_id, roles.timestamp])
    interval = None
    if coverage is not None:
        interval = forecaster.predict_interval(X, coverage=coverage, known_covariates=future)
    time = mean.index.names[-1]
    return Outcome(
        forecaster.predict_quantiles(X, known_covariates=future),
        interval,
        coverage,
        mean,
        str(time) if time is not None else "step",
    )
