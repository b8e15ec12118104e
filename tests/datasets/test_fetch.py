from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_ts.datasets import DATASETS, Dataset, load_dataset

CONTENT = "date,a,rain (W/m\ufffd),b (\ufffdmol/m\ufffd/s)\r\n2020-01-01 00:00:00,1,2.5,-9999\r\n"
CONTENT += "2020-01-01 00:10:00,3,,4\r\n"
RAW = CONTENT.encode()


class Server:
    """A web server on this machine that counts what it is asked for."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                body = server.bodies.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path) -> Dataset:
    """Register a dataset served from this machine; the cache is tmp_path/cache."""
    monkeypatch.delenv("TITANS_TS_DATA", raising=False)
    for proxy in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(proxy, "127.0.0.1")
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    entry = Dataset(
        name="toy",
        url=f"{server.url}/toy.csv",
        sha256=hashlib.sha256(RAW).hexdigest(),
        n_rows=2,
        n_variates=3,
        frequency="10min",
        season_length=1,
        source="this test",
        licence="none",
    )
    monkeypatch.setitem(DATASETS, "toy", entry)
    return entry


def cached(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "cache" / "titans-ts"))


def check(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == ["a", "rain (W/m\u00b2)", "b (\u00b5mol/m\u00b2/s)"]
    assert frame.index.name == "date"
    assert list(frame.index) == [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01 00:10")]
    assert (frame.dtypes == "float64").all()
    np.testing.assert_array_equal(frame.to_numpy(), [[1, 2.5, -9999], [3, np.nan, 4]])


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("body", [RAW, gzip.compress(RAW)], ids=["plain", "gzip"])
def test_downloads_once_and_keeps_it(server: Server, tmp_path: Path, body: bytes) -> None:
    server.bodies["/toy.csv"] = body
    check(load_dataset("toy"))
    check(load_dataset("toy"))
    assert server.asked == ["/toy.csv"]
    assert cached(tmp_path) == ["toy.csv"]


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (RAW[:-5], hashlib.sha256(RAW[:-5]).hexdigest()),
        (b"<html>", hashlib.sha256(b"<html>").hexdigest()),
        (gzip.compress(RAW)[:-9], "damaged gzip"),
        (gzip.compress(RAW[:-5]), hashlib.sha256(RAW[:-5]).hexdigest()),
    ],
    ids=["truncated", "error page", "truncated gzip", "altered gzip"],
)
def test_a_corrupted_download_is_refused_and_not_kept(
    server: Server, toy: Dataset, tmp_path: Path, body: bytes, seen: str
) -> None:
    server.bodies["/toy.csv"] = body
    with pytest.raises(ValueError, match="is not toy as registered") as caught:
        load_dataset("toy")
    assert toy.sha256 in str(caught.value)
    assert seen in str(caught.value)
    assert toy.url in str(caught.value)
    assert cached(tmp_path) == []
    server.bodies["/toy.csv"] = RAW
    check(load_dataset("toy"))


@pytest.mark.usefixtures("toy")
def test_a_failed_download_says_what_to_do(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"404.*data_home.*TITANS_TS_DATA"):
        load_dataset("toy")
    server.close()
    with pytest.raises(ConnectionError, match=r"/toy\.csv could not be downloaded"):
        load_dataset("toy")
    assert cached(tmp_path) == []


@pytest.mark.usefixtures("toy")
def test_a_spoilt_cache_is_named(server: Server, tmp_path: Path) -> None:
    server.bodies["/toy.csv"] = RAW
    load_dataset("toy")
    path = tmp_path / "cache" / "titans-ts" / "toy.csv"
    path.write_bytes(RAW[:-1])
    with pytest.raises(ValueError, match=r"toy\.csv is not toy.*delete it"):
        load_dataset("toy")
    path.unlink()
    check(load_dataset("toy"))


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("place", ["toy.csv", "toy.csv.gz", "timeseries/toy.csv.gz"])
@pytest.mark.parametrize("by", ["data_home", "environment"])
def test_local_files_come_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, by: str
) -> None:
    path = tmp_path / "home" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(RAW) if place.endswith("gz") else RAW)
    if by == "environment":
        monkeypatch.setenv("TITANS_TS_DATA", str(tmp_path / "home"))
        check(load_dataset("toy"))
    else:
        check(load_dataset("toy", data_home=tmp_path / "home"))
    path.write_bytes(b"date,a\n")
    monkeypatch.setenv("TITANS_TS_DATA", str(tmp_path / "home"))
    with pytest.raises(ValueError, match=r"home.*toy\.csv.* is not toy as registered"):
        load_dataset("toy")
    assert server.asked == []


@pytest.mark.usefixtures("toy")
def test_data_home_comes_before_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, content in {"first": RAW, "second": b"wrong"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "toy.csv").write_bytes(content)
    monkeypatch.setenv("TITANS_TS_DATA", str(tmp_path / "second"))
    check(load_dataset("toy", data_home=tmp_path / "first"))
    (tmp_path / "first" / "toy.csv").unlink()
    with pytest.raises(ValueError, match="second"):
        load_dataset("toy", data_home=tmp_path / "first")
    assert server.asked == []


@pytest.mark.usefixtures("toy")
def test_a_mistyped_folder_is_not_hidden_by_a_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.bodies["/toy.csv"] = RAW
    with pytest.raises(ValueError, match=r"data_home='.*nowhere' is not a folder"):
        load_dataset("toy", data_home=tmp_path / "nowhere")
    monkeypatch.setenv("TITANS_TS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"TITANS_TS_DATA='.*nowhere' is not a folder"):
        load_dataset("toy")
    assert server.asked == []


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"name='wether'.*'weather'\? Known names: ETTh1, ETTh2"):
        load_dataset("wether")
    with pytest.raises(ValueError, match=r"name='zzz' is not known\. Known names"):
        load_dataset("zzz")


def test_registry_entries_are_whole() -> None:
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert dataset.url.startswith("https://")
        assert len(bytes.fromhex(dataset.sha256)) == 32
        assert len(pd.date_range("2020-01-01", periods=3, freq=dataset.frequency)) == 3
        assert dataset.season_length >= 1
        assert dataset.source
        assert dataset.licence
        with pytest.raises(dataclasses.FrozenInstanceError):
            dataset.name = "other"  # type: ignore[misc]


@pytest.mark.skipif(
    not os.environ.get("TITANS_TS_DATA"),
    reason="needs the real files: name their folder in TITANS_TS_DATA",
)
@pytest.mark.parametrize("name", sorted(DATASETS))
def test_real_files(name: str) -> None:
    dataset = DATASETS[name]
    frame = load_dataset(name)
    assert frame.shape == (dataset.n_rows, dataset.n_variates)
    assert (frame.dtypes == "float64").all()
    assert not frame.isna().to_numpy().any()
    assert "\ufffd" not in "".join(frame.columns)
    if name == "weather":
        assert "max. PAR (\u00b5mol/m\u00b2/s)" in frame.columns
        sentinels = (frame == -9999).sum()
        assert sentinels[sentinels > 0].to_dict() == {
            "wv (m/s)": 1,
            "max. PAR (\u00b5mol/m\u00b2/s)": 30,
            "OT": 50,
        }
        assert (np.diff(frame.index) != np.timedelta64(10, "m")).sum() == 2
        assert frame.index[-1] == pd.Timestamp("2021-01-01")
    else:
        ideal = pd.date_range(frame.index[0], periods=len(frame), freq=dataset.frequency)
        assert (frame.index == ideal).all()
        assert frame.columns[-1] == "OT"
    if name == "ETTh1":
        assert frame["OT"].iloc[0] == pytest.approx(30.5310001373291, rel=1e-12)
        assert frame.index[-1] == pd.Timestamp("2018-06-26 19:00")
    if name == "exchange_rate":
        assert frame.index[-1] == pd.Timestamp("2010-10-10")
