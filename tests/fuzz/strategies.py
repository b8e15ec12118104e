"""What users pass, right and wrong: series, frames, tables as text, DNA, and damaged bytes."""

from __future__ import annotations

import gzip
import warnings
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

__all__ = [
    "FREQUENCIES",
    "ZONES",
    "arrays",
    "damaged",
    "dna",
    "long_frames",
    "names",
    "plain_tables",
    "tables",
    "times",
    "values",
    "wide_frames",
]

FREQUENCIES = [
    *(
        "D",
        "h",
        "15min",
        "min",
        "s",
        "W",
        "W-WED",
        "MS",
        "ME",
        "QS",
        "QE-NOV",
        "YS",
        "YE",
        "B",
        "2D",
    ),
    *("BMS", "BME", "2h", "7D", "SMS", "3MS", "ms", "W-SUN", "2W"),
]
ZONES = [None, "UTC", "Europe/Berlin", "America/Santiago", "Asia/Kolkata"]
STARTS = [
    *("1970-01-01", "2024-01-31", "2024-02-29", "2024-03-30 23:00", "1999-12-31 23:59:59"),
    *("2262-03-01", "1700-01-01", "2024-10-27 00:30"),
]
EXTREME = [
    *(0.0, -0.0, 1.0, -1.0, 1e-300, 1e-12, 1e12, 1e30, -1e39, 1e100, 1e101, 1e300, 5e-324),
    *(np.inf, -np.inf, np.nan, np.nan, -9999.0, 2.0**53, 2.0**63),
]
ODD_NAMES = ["item_id", "timestamp", "step", "0", "", None, 1.5, True, ("a", 1), np.nan, "\n"]
names = st.one_of(  # of columns and items
    st.sampled_from([*("a", "b", "c", "y", "sales", "price") * 4, *range(4), *ODD_NAMES]),
    st.sampled_from([*"abcdefgh", 0, 1, 2]),
    st.text(max_size=4),
)


@st.composite
def values(draw: Any, n: int | None = None, sane: bool | None = None) -> np.ndarray:
    """Return one variate `[n]`: a wave, noise, counts, a constant, with some values missing or odd."""
    n = draw(st.integers(0, 40)) if n is None else n
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["wave", "noise", "counts", "constant", "step", "walk"]))
    rows = np.arange(n)
    level = draw(st.sampled_from([0.0, 1.0, -5.0, 1e6, 1e-6, 1e15, 1e-30]))
    scale = draw(st.sampled_from([1.0, 10.0, 1e-3, 1e6, 1e-15, 1e25]))
    made = {
        "wave": np.sin(rows / 3) * scale + level,
        "noise": rng.normal(size=n) * scale + level,
        "counts": rng.poisson(1.5, n).astype(float),
        "constant": np.full(n, level),
        "step": np.where(rows < n // 2, level, scale),
        "walk": rng.normal(size=n).cumsum() * scale,
    }[kind]
    missing = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 0.95, 1.0]))
    made[rng.random(n) < missing] = np.nan
    if not (draw(st.integers(0, 3)) if sane is None else sane):
        for _ in range(draw(st.integers(0, 3))):
            if n:
                made[draw(st.integers(0, n - 1))] = draw(st.sampled_from(EXTREME))
    return made


@st.composite
def arrays(draw: Any, columns: int | None = None) -> Any:
    """Return an array, a list, or something else that numpy would take, of any shape and type."""
    shape = draw(st.sampled_from(["vector", "matrix", "windows", "odd"]))
    n, C = draw(st.integers(0, 40)), draw(st.integers(1, 3)) if columns is None else columns
    if shape == "vector":
        X = draw(values(n))
    elif shape == "matrix":
        X = np.stack([draw(values(n)) for _ in range(C)], 1)
    elif shape == "windows":
        X = np.stack(
            [draw(values(4 * C * 4)).reshape(4, 4, C) for _ in range(draw(st.integers(1, 2)))]
        )
        X = X.reshape(-1, draw(st.sampled_from([4, 16])), C)
    else:
        X = draw(
            st.sampled_from(
                [
                    *(np.zeros(()), np.zeros((3, 0)), np.zeros((2, 2, 2, 2)), np.zeros((0, 2)), []),
                    *([[1.0], [2.0, 3.0]], "abc", b"abc", None, 5, 2.5, {"a": [1.0]}, [None, 1.0]),
                    *(
                        np.array(["1", "2"]),
                        np.array([1j, 2.0]),
                        np.array(["x", 1.0], dtype=object),
                    ),
                    *(
                        [pd.Timestamp("2024-01-01")] * 3,
                        np.array(["2024-01-01"], "M8[D]"),
                        object(),
                    ),
                    *(
                        {1, 2},
                        iter([1.0, 2.0]),
                        [[]],
                        True,
                        range(20),
                        [True, False] * 12,
                        [10**400],
                    ),
                ]
            )
        )
    if isinstance(X, np.ndarray) and X.dtype == float:
        kind = draw(
            st.sampled_from(["float64", "float64", "float32", "float16", "int", "O", "list", "F"])
        )
        if kind == "list":
            return X.tolist()
        if kind == "F":
            return np.asfortranarray(X)[::-1]
        if kind == "int":
            return np.nan_to_num(X, nan=0, posinf=9, neginf=-9).clip(-9e18, 9e18).astype(np.int64)
        with np.errstate(over="ignore"):
            return X.astype(kind)
    return X


@st.composite
def times(draw: Any, n: int) -> pd.Index:
    """Return an index of n rows: regular times, periods, whole numbers, or something broken."""
    kinds = [
        *["times"] * 10,
        *["numbers"] * 3,
        *["text"] * 3,
        "periods",
        "periods",
        "dates",
        "other",
    ]
    kind = draw(st.sampled_from(kinds))
    freq, start = draw(st.sampled_from(FREQUENCIES)), draw(st.sampled_from(STARTS))
    if kind == "numbers":
        step = draw(st.sampled_from([1, 1, 1, 1, 2, 7, -1, 0]))
        index = pd.Index(draw(st.integers(-5, 2000)) + step * np.arange(n))
        kinds = ["int64", "int64", "int32", "uint8", "float64", "O"]
        with np.errstate(invalid="ignore"):
            index = pd.Index(index.to_numpy().astype(draw(st.sampled_from(kinds))))
    elif kind == "periods":
        index = pd.period_range(
            "2020-01", periods=n, freq=draw(st.sampled_from(["M", "D", "h", "Q"]))
        )
    elif kind == "other":
        index = draw(
            st.sampled_from(
                [
                    pd.Index(np.linspace(0, 1, n)),  # none of these is a time
                    pd.Index([f"r{i}" for i in range(n)], dtype=object),
                    pd.timedelta_range("0D", periods=n, freq="h"),
                    pd.Index([None] * n, dtype=object),
                    pd.CategoricalIndex(["a"] * n),
                    pd.Index([True, False] * n, dtype=object)[:n],
                ]
            )
        )
    else:
        try:
            index = pd.date_range(start, periods=n, freq=freq, tz=draw(st.sampled_from(ZONES)))
        except Exception:  # beyond the last time, or pytz's of a time that does not exist
            index = pd.date_range("2024-01-01", periods=n)
        index = index.as_unit(draw(st.sampled_from(["ns", "us", "s"])))
        if kind == "text":
            form = draw(
                st.sampled_from([None, "%d/%m/%Y", "%m/%d/%Y %H:%M", "%Y%m%d", "%Y-%m", "%y.%m.%d"])
            )
            index = pd.Index(
                [str(t) if form is None else t.strftime(form) for t in index], dtype=object
            )
        elif kind == "dates":
            index = pd.Index([t.date() for t in index], dtype=object)
    places = list(range(n))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        if len(places) > 1:
            i, j = draw(st.integers(0, len(places) - 1)), draw(st.integers(0, len(places) - 1))
            how = draw(st.sampled_from(["drop", "repeat", "swap"]))
            if how == "drop":
                places[i:] = places[i + 1 :] + [places[-1] if kind == "other" else places[i]]
            elif how == "repeat":
                places[i] = places[j]
            else:
                places[i], places[j] = places[j], places[i]
    index = index[places]
    if n and draw(st.integers(0, 19)) == 0:
        hole = np.arange(n) == draw(st.integers(0, n - 1))
        if index.dtype.kind in "MO" and not isinstance(index, pd.CategoricalIndex):
            index = index.where(~hole)
    return index


@st.composite
def columns(draw: Any, n: int) -> Any:
    """Return a column of n rows: numbers of some type, or what is no number."""
    number = draw(values(n))
    kind = draw(st.integers(0, 39))
    if kind == 0:
        return pd.Series([f"t{i}" for i in range(n)], dtype=object)
    if kind == 1:
        return pd.Series(number).astype(object)
    if kind == 2:
        return pd.Series(number, dtype="Float64")
    if kind == 3:
        return pd.Series(np.nan_to_num(number) > 0)
    if kind == 4:
        return pd.Series(number).map(str).astype("category")
    if kind == 5:
        return pd.Series(pd.date_range("2024-01-01", periods=n))
    if kind == 6:
        return pd.Series([f"{v:g}" for v in number], dtype=object)
    if kind == 7:
        return pd.Series(number, dtype="double[pyarrow]")
    return pd.Series(number)


@st.composite
def wide_frames(draw: Any, names_of: Any = names) -> Any:
    """Return a frame or a Series with times as its index or in a column."""
    n = draw(st.integers(0, 40))
    index = draw(times(n))
    if draw(st.integers(0, 4)) == 0:
        return pd.Series(draw(columns(n)).array, index, name=draw(names_of))
    least, unique = draw(st.sampled_from([0, 1, 1, 1])), draw(st.integers(0, 7))
    labels = draw(st.lists(names_of, min_size=least, max_size=3, unique_by=str if unique else None))
    frame = pd.concat(
        [draw(columns(n)).rename(i) for i in range(len(labels))] or [pd.Series(dtype=float)], axis=1
    )
    frame = frame.iloc[:n, : len(labels)]
    frame.columns = pd.Index(labels, tupleize_cols=draw(st.booleans()), dtype=object)
    if len(frame) == n:
        frame.index = index
    if draw(st.integers(0, 3)) == 0 and "timestamp" not in frame.columns:
        frame = frame.reset_index(drop=True)
        frame.insert(0, "timestamp", index[: len(frame)])
    return frame


@st.composite
def long_frames(draw: Any) -> pd.DataFrame:
    """Return a frame of items, their times and values, in any order, with some faults."""
    parts = []
    items = draw(st.lists(names, min_size=0, max_size=3, unique_by=str))
    same = draw(st.integers(1, 40)), draw(st.booleans())
    shared = draw(times(same[0]))
    labels = draw(
        st.lists(st.sampled_from(["y", "z", 0, "value"]), min_size=1, max_size=2, unique=True)
    )
    for item in items:
        n = same[0] if same[1] else draw(st.integers(0, 40))
        index = shared if same[1] else draw(times(n))
        part = pd.DataFrame({"item_id": pd.Series([item] * n, dtype=object)})
        part["timestamp"] = index
        for label in labels:
            part[label] = draw(columns(n)) if draw(st.integers(0, 5)) == 0 else draw(values(n))
        parts.append(part)
    if not parts:
        return pd.DataFrame({"item_id": [], "timestamp": [], "y": []})
    parts = [part for part in parts if len(part)] or parts[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of columns without a value
        frame = pd.concat(parts, ignore_index=True)
    if draw(st.integers(0, 4)) == 0:
        frame = frame.sample(frac=1, random_state=0)
    periods = any(isinstance(t, pd.Period) for t in frame["timestamp"])
    if draw(st.integers(0, 6)) == 0 and not periods:
        frame = frame.set_index(["item_id", "timestamp"])
    return frame


CELLS = st.one_of(
    st.sampled_from(
        ["", "NA", "?", "-", "1", "2.5", "-3", "1e5", "1,5", "1.234,5", '"1,234"', "inf"]
    ),
    st.sampled_from(
        ["2024-01-01", "01/02/2024", "12:30", "nan", "1e400", "9" * 25, "x", '"', "'", "\x00"]
    ),
    st.text(max_size=6),
)
DATES = [
    *("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d", "%Y-%m-%d %H:%M", "%d.%m.%Y", "%Y", "%Y%m"),
    *("%H:%M", "%b %Y", "%Y-%m-%dT%H:%M:%S+01:00", "%y-%m-%d", "%s"),
]


@st.composite
def plain_tables(draw: Any) -> tuple[bytes, pd.DataFrame]:
    """Return a regular table as text in some dialect, and the frame that it holds.

    With days before months, the dates of months and years can be read in two ways.
    """
    n, C = draw(st.integers(12, 40)), draw(st.integers(1, 3))
    freq = draw(st.sampled_from(["D", "h", "15min", "MS", "W", "YS", "s", "QS", "ME", "2h"]))
    form = draw(st.sampled_from(["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%d.%m.%Y %H:%M:%S"]))
    zone = "UTC" if form.endswith("Z") else None
    stamps = pd.date_range("2020-02-13", periods=n, freq=freq, tz=zone)
    frame = pd.DataFrame({f"v{i}": draw(values(n, sane=True)) for i in range(C)}, stamps)
    frame = frame.dropna(axis=1, how="all")
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    decimal = "," if separator == ";" and draw(st.booleans()) else "."
    rows = [separator.join(["when", *frame.columns])]
    for stamp, row in zip(stamps, frame.to_numpy(), strict=True):
        # large and small numbers without an exponent, which no decimal comma goes with
        texts = ["" if np.isnan(v) else np.format_float_positional(v, trim="0") for v in row]
        rows.append(
            separator.join([stamp.strftime(form), *(t.replace(".", decimal) for t in texts)])
        )
    order = draw(st.permutations(range(1, n + 1))) if draw(st.booleans()) else range(1, n + 1)
    text = "\n".join([rows[0], *(rows[i] for i in order)]) + draw(st.sampled_from(["", "\n"]))
    content = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "ascii"])))
    return (gzip.compress(content, 1, mtime=0) if draw(st.booleans()) else content), frame


@st.composite
def tables(draw: Any) -> bytes:
    """Return a text file with a header and rows, mostly regular, in an encoding, perhaps damaged."""
    separator = draw(st.sampled_from([",", ",", ",", ";", "\t", "|", " "]))
    n, C = draw(st.integers(0, 30)), draw(st.sampled_from([0, 1, 1, 2, 2, 3]))
    freq = draw(st.sampled_from(FREQUENCIES))
    start = draw(st.sampled_from(["2024-01-01", "1999-12-31", "2023-02-13 12:00"]))
    stamps = pd.date_range(start, periods=n, freq=freq)
    form = draw(st.sampled_from(DATES))
    if form == "%s":
        scale = draw(st.sampled_from([1, 1000]))
        date = [str(int(t.timestamp()) * scale) for t in stamps]
    else:
        date = [t.strftime(form) for t in stamps]
    header = ["date", "a", "OT", "b"][: C + 1]
    rows = [[d] for d in date]
    for _ in range(C):
        column = draw(values(n))
        texts = ["" if np.isnan(v) else f"{v:.6g}" for v in column]
        for row, text in zip(rows, texts, strict=True):
            row.append(text.replace(".", ",") if separator == ";" else text)
    faults = draw(
        st.lists(st.sampled_from(["name", "cell", "order", "row", "gaps", "head"]), max_size=2)
    )
    if "name" in faults:
        header[draw(st.integers(0, C))] = draw(CELLS)
    if "cell" in faults and rows:
        for _ in range(draw(st.integers(1, 3))):
            row = draw(st.sampled_from(rows))
            row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)
    if "order" in faults:
        rows = draw(st.permutations(rows))
    if "row" in faults:
        rows = [*rows]
        rows.insert(draw(st.integers(0, len(rows))), draw(st.lists(CELLS, max_size=5)))
    if "gaps" in faults:
        rows = [row for i, row in enumerate(rows) if i % 7 != 3]
    lines = rows if "head" in faults else [header, *rows]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(separator.join(line) for line in lines) + draw(st.sampled_from(["", end]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    content = text.encode(encoding, "replace")
    return draw(damaged(content)) if draw(st.integers(0, 7)) == 0 else content


@st.composite
def damaged(draw: Any, content: bytes) -> bytes:
    """Return bytes of which some are changed, cut off, repeated or added."""
    data = bytearray(content)
    how = draw(
        st.sampled_from(["flip", "cut", "insert", "repeat", "gzip", "cut gzip", "empty", "zeros"])
    )
    place = draw(st.integers(0, len(data)))
    if how == "flip" and data:
        for _ in range(draw(st.integers(1, 3))):
            i = draw(st.integers(0, len(data) - 1))
            data[i] ^= 1 << draw(st.integers(0, 7))
    elif how == "cut":
        del data[place:]
    elif how == "insert":
        data[place:place] = draw(st.binary(min_size=1, max_size=8))
    elif how == "repeat":
        data += data[place:]
    elif how == "empty":
        data.clear()
    elif how == "zeros":
        data[place : place + 16] = bytes(16)
    elif "gzip" in how:
        packed = gzip.compress(bytes(data), 1, mtime=0)
        return packed[: draw(st.integers(0, len(packed)))] if "cut" in how else packed
    return bytes(data)


@st.composite
def dna(draw: Any, longest: int = 60, odd: bool = True) -> str:
    """Return a sequence, mostly of the four letters."""
    letters = draw(
        st.sampled_from(["ACGT", "ACGT", "acgtACGT", "ACGTN", "ACGTRYSWKMBDHVN-", "N", "ACGU"])
    )
    if odd and draw(st.integers(0, 9)) == 0:
        letters += draw(st.sampled_from(["*", " ", "é", "E", "1", "\n", "\x00", "🧬"]))
    return draw(st.text(alphabet=letters, max_size=longest))
