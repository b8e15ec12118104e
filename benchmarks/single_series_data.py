"""Six single series, and the rolling origins from which they are forecast.

A series is `[T]`, regular in time and without missing values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from leaderboard import Set
from record import data_file

from titans_ts.datasets import load_dataset

__all__ = ["ORIGINS", "SERIES", "Series", "lags", "origins"]

ORIGINS = 3


class Series(NamedTuple):
    """A series and its forecasting task."""

    read: Callable[[], pd.Series]
    """Returns the values; the index has their times, or row numbers where the dates are wrong."""
    horizon: int
    """Number of steps to forecast."""
    seasons: tuple[int, ...]
    """Steps of its seasons, the shortest first; it scales the MASE and is the naive forecast's."""
    freq: str | int
    """Time between two rows, as pandas and mlforecast name it."""
    dates: tuple[str, ...]
    """Date features for LightGBM: attributes of a `DatetimeIndex`."""
    once: bool
    """Fit before the first origin only, because fitting before each costs too much."""


def air_passengers() -> pd.Series:
    """144 months of passengers, 1949 to 1960."""
    frame = pd.read_csv(data_file("AirPassengers.csv"), parse_dates=["Month"], index_col="Month")
    return frame["#Passengers"].astype(float)


def taxi() -> pd.Series:
    """Half-hourly taxi rides in New York: the last 10 000 rows, up to January 2015."""
    path = data_file("taxi_new_york_passengers.csv")
    frame = pd.read_csv(path, parse_dates=["time"], index_col="time")
    return frame["#Passengers"].astype(float).asfreq("30min")[-10_000:]


def pjme() -> pd.Series:
    """Hourly load of PJM East, MW, 2002 to 2018.

    The rows of the file are not in order. Four hours have two rows, which are averaged; 30 hours have
    none and are interpolated.
    """
    frame = pd.read_csv(data_file("PJME_hourly.csv.gz"), parse_dates=["Datetime"])
    return frame.groupby("Datetime")["PJME_MW"].mean().asfreq("h").interpolate()


def weather() -> pd.Series:
    """Hourly means of the air temperature in Jena, degree Celsius, 2020.

    The hours end at their times. An hour without measurement is interpolated.
    """
    frame = load_dataset("weather")
    values = frame["T (degC)"].mask(frame["T (degC)"] == -9999)
    return values.resample("h", closed="right", label="right").mean().interpolate()


def illness() -> pd.Series:
    """Weekly share of visits for influenza-like illness, percent, 2002 to June 2020."""
    return load_dataset("national_illness")["% WEIGHTED ILI"]


def exchange() -> pd.Series:
    """Daily exchange rate, the column OT. Its dates are an artefact, so rows are numbered."""
    return load_dataset("exchange_rate")["OT"].reset_index(drop=True)


SERIES = {
    "AirPassengers": Series(air_passengers, 12, (12,), "MS", ("month",), False),
    "ILI": Series(illness, 24, (52,), "7D", ("month", "dayofyear"), False),
    "exchange rate": Series(exchange, 30, (1,), 1, (), False),
    "weather": Series(weather, 24, (24,), "h", ("hour", "dayofyear"), True),
    "taxi": Series(taxi, 48, (48, 336), "30min", ("hour", "minute", "dayofweek"), True),
    "PJME": Series(pjme, 24, (24, 168), "h", ("hour", "dayofweek", "dayofyear"), True),
}


def origins(values: pd.Series, horizon: int, season: int) -> list[Set]:
    """Split a series at its last horizons, which do not overlap; the earliest comes first.

    Parameters
    ----------
    values : Series
        `[T]`.
    horizon, season : int
        Numbers of steps.

    Returns
    -------
    list of Set
        The train part of each is all rows before its test part `[1, horizon]`.
    """
    frame = pd.DataFrame(
        {"item_id": "series", "timestamp": values.index, "target": values.to_numpy()}
    )
    found = []
    for back in range(ORIGINS, 0, -1):
        start = len(frame) - back * horizon
        test = values.to_numpy()[None, start : start + horizon]
        found.append(Set(frame[:start], test, season))
    return found


def lags(seasons: tuple[int, ...]) -> list[int]:
    """Return lags for LightGBM: all of the shortest season, at least twelve, and the longer seasons.

    Examples
    --------
    >>> lags((24, 168))[-3:]
    [23, 24, 168]
    """
    return [*range(1, max(12, seasons[0]) + 1), *seasons[1:]]
