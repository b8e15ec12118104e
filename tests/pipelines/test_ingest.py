"""Tables keep their values: digits, large numbers, and what is gzipped under any name."""

from __future__ import annotations

import gzip

import pytest

from titans_ts.pipelines.ingest import read_frame

DAYS = [f"2024-01-{day:02d}" for day in range(1, 15)]


def read(path):
    return read_frame(path, say=lambda line: None)


def table(path, values, separator=","):
    rows = [f"{day}{separator}{value}" for day, value in zip(DAYS, values, strict=True)]
    path.write_text("\n".join([f"day{separator}v", *rows]))
    return path


@pytest.mark.parametrize("separator", [",", ";"])
def test_small_numbers_keep_their_digits(tmp_path, separator):
    values = [f"0.{'0' * i}8414709848078966" for i in range(14)]
    texts = [v.replace(".", ",") if separator == ";" else v for v in values]
    frame = read(table(tmp_path / "t.csv", texts, separator))
    assert frame["v"].tolist() == [float(v) for v in values]


def test_numbers_beyond_64_bits_are_numbers(tmp_path):
    # pandas reads a column as text if its first value is one of these
    values = ["12687760244744653000000000.0", "", *["-5000000000000000000000000"] * 12]
    frame = read(table(tmp_path / "t.csv", values))
    assert frame["v"].dropna().tolist() == [float(v) for v in values if v]


def test_the_content_says_whether_a_table_is_gzipped(tmp_path):
    plain = table(tmp_path / "t.csv", range(0, 28, 2))
    content = plain.read_bytes()
    (tmp_path / "plain.csv.gz").write_bytes(content)
    (tmp_path / "packed.csv").write_bytes(gzip.compress(content))
    for name in ("plain.csv.gz", "packed.csv"):
        assert read(tmp_path / name).equals(read(plain))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(ValueError, match="cut.csv.gz is truncated; download or compress it again"):
        read(tmp_path / "cut.csv.gz")
