"""The known covariates of the steps to forecast, where they stand in the last rows of the file itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from titans_ts.pipelines.ingest import Series

__all__ = ["split_plan"]


def split_plan(series: Series, known: list[str]) -> tuple[Series, pd.DataFrame | None]:
    """Cut off the last rows that have no value to forecast, of every item: they are the plan.

    Parameters
    ----------
    series : Series
        The rows in the order of time.
    known : list of str
        The known covariates.

    Returns
    -------
    tuple
        The series without these rows, and their known covariates in its form; None if there are none. A
        series without any value stays as it is.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=3)
    >>> frame = pd.DataFrame({"sold": [1.0, 2.0, np.nan], "price": [3, 3, 4]}, index=days)
    >>> cut, plan = split_plan(Series(frame, {"target": ("sold",)}), ["price"])
    >>> len(cut.frame), plan["price"].tolist()
    (2, [4])
    """
    frame, item_id = series.frame, series.item_id
    seen = frame[series.targets].notna().any(axis=1)
    item = frame[item_id].to_numpy() if item_id is not None else np.zeros(len(frame))
    groups = pd.Series(seen.to_numpy()).iloc[::-1].groupby(item[::-1], sort=False)
    last = groups.cumsum().sort_index() > 0  # a value stands in this row or in a later one
    empty = ~groups.transform("any").sort_index()
    kept = (last | empty).to_numpy()
    if kept.all():
        return series, None
    columns = known if item_id is None else [item_id, series.timestamp, *known]
    cut = frame[kept] if item_id is None else frame[kept].reset_index(drop=True)
    return replace(series, frame=cut), frame[~kept][columns]
