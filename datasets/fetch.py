"""Read a registered series from a local folder, or from a verified download."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from titans_ts.datasets._messages import unknown_name
from titans_ts.datasets.atomic import atomic_path
from titans_ts.datasets.registry import DATASETS, Dataset

__all__ = ["load_dataset"]

_VARIABLE = "TITANS_TS_DATA"
_GZIP_MAGIC = b"\x1f\x8b"
_TIMEOUT_S = 60
"""Seconds to wait for a server's next bytes."""


def load_dataset(name: str, *, data_home: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Load a registered benchmark series as a wide frame.

    The file ``NAME.csv`` or ``NAME.csv.gz`` is read from `data_home`, or from the folder in the
    environment variable ``TITANS_TS_DATA`` (for both, also from their subfolder ``timeseries``), or
    from the user's cache. If it is in none of these, it is downloaded into the cache. The
    uncompressed content is checked against the registered SHA-256 every time.

    Values are those of the literature; nothing is masked or filled. *weather* keeps the sentinel -9999
    (``frame.mask(frame == -9999)`` removes it), one repeated timestamp and missing timestamps. The
    dates of *exchange_rate* are an artefact (see ``DATASETS[name].note``). Only the unit symbols in
    the header of *weather* are repaired, which are damaged in every copy.

    Parameters
    ----------
    name
        A key of `DATASETS`.
    data_home
        Folder to read from first (default: none).

    Returns
    -------
    pandas.DataFrame
        float64 ``[T, C]``, columns as in the file, `DatetimeIndex` named ``date``.

    Raises
    ------
    ValueError
        If the name is unknown, a folder does not exist, or the content differs from the registered
        content (truncated, changed, another version).
    ConnectionError
        If no local file is found and the download fails.

    Examples
    --------
    >>> load_dataset("etth1")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: name='etth1' is not known; did you mean 'ETTh1'? Known names: ...
    >>> frame = load_dataset("ETTh1")  # doctest: +SKIP
    """
    if name not in DATASETS:
        raise ValueError(unknown_name("name", name, DATASETS))
    dataset = DATASETS[name]
    for path in _local_candidates(dataset, data_home):
        if path.is_file():
            return _parse(_verified(path, dataset, "replace it by an unaltered copy"), dataset)
    return _parse(_cached(dataset), dataset)


def _local_candidates(dataset: Dataset, data_home: str | os.PathLike[str] | None) -> Iterator[Path]:
    named = {"data_home": data_home, _VARIABLE: os.environ.get(_VARIABLE) or None}
    for origin, folder in named.items():
        if folder is None:
            continue
        root = Path(folder).expanduser()
        if not root.is_dir():
            # A download instead of an error would hide a mistyped folder.
            raise ValueError(
                f"{origin}={str(folder)!r} is not a folder; correct it or leave it out."
            )
        for parent in (root, root / "timeseries"):
            yield parent / f"{dataset.name}.csv"
            yield parent / f"{dataset.name}.csv.gz"


def _cached(dataset: Dataset) -> bytes:
    import pooch

    cache = Path(pooch.os_cache("titans-ts"))
    path = cache / dataset.url.rsplit("/", 1)[-1]
    if path.is_file():
        return _verified(path, dataset, "delete it to download it again")
    # The file is checked before it is renamed, so the cache holds only complete files. pooch would
    # hash the downloaded bytes, gzipped or not; this check hashes the uncompressed content.
    with atomic_path(path) as aside:
        _download(dataset, str(aside))
        return _verified(
            aside, dataset, f"it came from {dataset.url}; try again or get it elsewhere"
        )


def _download(dataset: Dataset, target: str) -> None:
    import pooch

    try:
        pooch.HTTPDownloader(timeout=_TIMEOUT_S)(dataset.url, target, None)
    except OSError as error:  # requests raises subclasses of OSError
        raise ConnectionError(
            f"name={dataset.name!r} is not on this machine and {dataset.url} could not be "
            f"downloaded ({error}); put {dataset.name}.csv or {dataset.name}.csv.gz into a folder "
            f"and pass it as data_home or name it in the environment variable {_VARIABLE}."
        ) from error


def _verified(path: Path, dataset: Dataset, hint: str) -> bytes:
    """Return the uncompressed content of `path` if its hash is the registered one."""
    content = path.read_bytes()
    seen = ""
    if content.startswith(_GZIP_MAGIC):  # after a download, the suffix may not fit the content
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            seen = f"damaged gzip ({error})"
    seen = seen or hashlib.sha256(content).hexdigest()
    if seen != dataset.sha256:
        raise ValueError(
            f"{path} is not {dataset.name} as registered: expected sha256 {dataset.sha256}, "
            f"received {seen}; {hint}."
        )
    return content


def _parse(content: bytes, dataset: Dataset) -> pd.DataFrame:
    frame = pd.read_csv(io.BytesIO(content), encoding="utf-8")
    frame["date"] = pd.to_datetime(frame["date"], format=dataset.date_format)
    return frame.set_index("date").rename(columns=_repair_unit).astype("float64")


def _repair_unit(column: str) -> str:
    # U+FFFD replaced the Latin-1 bytes of a micro sign and of a superscript two.
    return column.replace("\ufffdmol", "\u00b5mol").replace("m\ufffd", "m\u00b2")
