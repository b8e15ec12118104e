"""Any CSV file is read into a regular frame that keeps its values, or refused by name."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.properties import REFUSED, examples, outcome
from tests.fuzz.strategies import plain_tables, tables
from titans_ts.pipelines.ingest import read_frame


@examples(60)
@given(content=tables(), suffix=st.sampled_from(["csv", "csv", "csv.gz"]), choice=st.integers(0, 9))
def test_a_table_is_read_or_refused(content, suffix, choice):
    options = {"time_column": "date"} if choice == 0 else {"columns": ["a"]} if choice == 1 else {}
    said: list[str] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{suffix}"
        path.write_bytes(content)
        frame = outcome(lambda: read_frame(path, say=said.append, **options))
        assert list(path.parent.iterdir()) == [path]
    if frame is REFUSED:
        return
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) > 0
    assert frame.shape[1] > 0
    numbers = frame.select_dtypes("number")
    if not options:
        assert numbers.shape == frame.shape
        assert numbers.notna().any().all(), "a column without a value was kept"
    assert frame.index.is_monotonic_increasing
    assert not frame.index.has_duplicates
    if isinstance(frame.index, pd.DatetimeIndex):
        assert not frame.index.hasnans
    assert all(isinstance(line, str) and line for line in said)


@examples(20)
@given(table=plain_tables())
def test_a_regular_table_keeps_its_values(table):
    content, expected = table
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content)
        frame = outcome(lambda: read_frame(path, say=lambda line: None))
    if expected.empty:
        assert frame is REFUSED
        return
    if frame is REFUSED:  # days and months that can be read in two ways
        assert expected.index.day.max() <= 12
        return
    assert list(frame) == list(expected)
    np.testing.assert_allclose(frame.to_numpy(float), expected.to_numpy(), rtol=1e-12)
    assert (frame.index == expected.index).all()
