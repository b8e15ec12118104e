"""The public benchmark series that `load_dataset` knows."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DATASETS", "Dataset"]

_RAW = "https://raw.githubusercontent.com"
_ETT = f"{_RAW}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small"
_READYTENSOR = (
    f"{_RAW}/readytensor/rt-datasets-long-horizon-forecasting"
    "/8ccebe8ead987bc2017f777dd4d444120ca8e1c2/datasets/raw"
)
_AUTOCON = (
    f"{_RAW}/junwoopark92/Self-Supervised-Contrastive-Forecsating"
    "/e20c108114cf68d451c938712ad28dac5f83ef6e/dataset"
)


@dataclass(frozen=True)
class Dataset:
    """Description of one series: its source, its hash and its meaning.

    Attributes
    ----------
    name
        The name that `load_dataset` accepts; the file is ``NAME.csv`` or ``NAME.csv.gz``.
    url
        The file at a fixed commit, plain or gzipped.
    sha256
        Hash of the *uncompressed* content.
    n_rows, n_variates
        Shape of the frame.
    frequency
        pandas offset alias of the time step in the file.
    season_length
        Season length in rows for a seasonal-naive baseline; 1 means no season.
    date_format
        ``strftime`` format of the date column.
    source, licence
        The publisher, and the licence that the source states.
    note
        Remarks to read before use; may be empty.
    """

    name: str
    url: str
    sha256: str
    n_rows: int
    n_variates: int
    frequency: str
    season_length: int
    source: str
    licence: str
    note: str = ""
    date_format: str = "%Y-%m-%d %H:%M:%S"


def _ett(name: str, sha256: str) -> Dataset:
    hourly = name.startswith("ETTh")
    return Dataset(
        name=name,
        url=f"{_ETT}/{name}.csv",
        sha256=sha256,
        n_rows=17420 if hourly else 69680,
        n_variates=7,
        frequency="h" if hourly else "15min",
        season_length=24 if hourly else 96,
        source="Zhou et al. 2021 (Informer), https://github.com/zhouhaoyi/ETDataset",
        licence="CC BY-ND 4.0",
        note="Oil temperature (OT) and six loads of an electricity transformer, 2016-2018. "
        "The licence forbids passing on a modified copy.",
    )


DATASETS: dict[str, Dataset] = {
    entry.name: entry
    for entry in (
        _ett("ETTh1", "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"),
        _ett("ETTh2", "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b"),
        _ett("ETTm1", "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e"),
        _ett("ETTm2", "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd"),
        Dataset(
            name="exchange_rate",
            url=f"{_AUTOCON}/exchange_rate/exchange_rate.csv",
            sha256="d55e7aa2641009814a18ba3279431b13f6d413b0eab195b9ff21988d8cf94e97",
            n_rows=7588,
            n_variates=8,
            frequency="D",
            season_length=1,  # close to a random walk: the last value is the baseline to beat
            source="Lai et al. 2018 (LSTNet), "
            "https://github.com/laiguokun/multivariate-time-series-data",
            licence="none stated",
            note="The dates are an artefact: business days up to 2016 were relabelled as "
            "consecutive calendar days from 1990 on.",
            date_format="%Y/%m/%d %H:%M",
        ),
        Dataset(
            name="national_illness",
            url=f"{_AUTOCON}/illness/national_illness.csv",
            sha256="8594cecb98c6f2f9dc014eca11c4d5d1e38ad5ce6ed0592d4abe65b146fce395",
            n_rows=966,
            n_variates=7,
            frequency="7D",
            season_length=52,
            source="US CDC FluView",
            licence="public domain",
            note="Weekly influenza-like illness. The literature uses horizons 24, 36, 48 and 60.",
        ),
        Dataset(
            name="weather",
            url=f"{_READYTENSOR}/weather/weather.csv.gz",
            sha256="34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63",
            n_rows=52696,
            n_variates=21,
            frequency="10min",
            season_length=144,
            source="Max Planck Institute for Biogeochemistry, Jena, roof station 2020",
            licence="free with attribution",
            note="Contains the sentinel -9999 (wv 1, max. PAR 30, OT 50 times), one repeated time "
            "and one gap of 1 h 40 min.",
        ),
    )
}
"""Every series that `load_dataset` can load, by name."""
