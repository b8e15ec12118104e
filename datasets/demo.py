"""The small real series that is part of the package."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

__all__ = ["DEMO_SEASON_LENGTH", "load_demo"]

DEMO_SEASON_LENGTH = 24
"""Season length of `load_demo` in rows: one day of an hourly series."""


def load_demo() -> pd.DataFrame:
    """Load hourly weather at New York's JFK airport, April to September 2013.

    These are real measurements, read from the package without a network. The season is a day (24 rows):
    yesterday's values forecast better than the last value, and a linear model is better than both. Seven
    to ten hours per variate were not measured and are NaN. The temperature of 2013-05-08 21:00, -10.5
    between 13.9 and 14.0, is a faulty reading of the source. It is kept as an example of an anomaly.

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
    Changes: one station and half a year are selected, units are converted to metric, values are
    rounded to one decimal, and missing hours are empty.

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
