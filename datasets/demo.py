"""The small real series that comes with the package."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

__all__ = ["DEMO_SEASON_LENGTH", "load_demo"]

DEMO_SEASON_LENGTH = 24
"""Rows in the season of `load_demo`: the day of an hourly series."""


def load_demo() -> pd.DataFrame:
    """Load hourly weather at New York's JFK airport, April to September 2013.

    Real measurements, read from the package without a network. The day (24 rows) is the season:
    yesterday's values beat repeating the last one, and a linear model beats both. Seven to ten
    hours per variate were not measured and are NaN. The temperature of 2013-05-08 21:00, -10.5
    between 13.9 and 14.0, is a faulty reading of the source, left in for anomaly scores to find.

    Returns
    -------
    pandas.DataFrame
        float64 ``[4392, 3]``: ``temperature`` (degree Celsius), ``humidity`` (relative, percent)
        and ``wind_speed`` (m/s), with an hourly `DatetimeIndex` named ``date`` in Eastern
        Standard Time all year round (UTC-5), so that no hour is skipped or repeated.

    Notes
    -----
    Source: table ``weather`` of *nycflights13* (Wickham, 2013-), collected by the ASOS stations
    of the US National Weather Service through the Iowa Environmental Mesonet. Licence: CC0 1.0.
    Changed: one station and half a year of it, units made metric, one decimal, missing hours
    written as empty.

    Examples
    --------
    >>> frame = load_demo()
    >>> frame.shape, list(frame.columns)
    ((4392, 3), ['temperature', 'humidity', 'wind_speed'])
    """
    resource = files("titans_ts.datasets") / "data" / "new_york_weather.csv.gz"
    with resource.open("rb") as stream:
        frame = pd.read_csv(stream, compression="gzip")
    frame["date"] = pd.to_datetime(frame["date"], format="%Y-%m-%dT%H")
    # Every hour has its row, so this only attaches the frequency to the index.
    return frame.set_index("date").asfreq("h")
