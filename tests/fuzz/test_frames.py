"""Any array, wide frame or long frame is read into a panel that keeps its values, or refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.properties import REFUSED, examples, outcome
from tests.fuzz.strategies import FREQUENCIES, arrays, long_frames, wide_frames
from titans_ts.forecasting.panel import Roles
from titans_ts.forecasting.parse import read_panel

USUAL = [None] * 50 + ["irregular"] * 10
WRONG = ["", "x", "0D", 5, "-1D"]
freqs = st.sampled_from([*USUAL, *FREQUENCIES, *WRONG])
targets = st.sampled_from([None] * 40 + [("y",), ("a",), (0,), ("a", "a"), (), (None,), (1.5,)])


@st.composite
def roles(draw):
    return Roles(
        target=draw(targets),
        past_covariates=draw(st.sampled_from([(), (), (), (), (), (), ("z",), (1,)])),
        static_covariates=draw(st.sampled_from([(), (), (), (), (), (), ("z",)])),
        freq=draw(freqs),
        calendar=draw(st.sampled_from([(), (), (), (), ("day", "week")])),
        season_length=draw(st.sampled_from([0, 0, 0, 0, 7])),
    )


def observed(X):
    """Return the number of values of an array or a frame that are not missing."""
    frame = X if isinstance(X, (pd.DataFrame, pd.Series)) else pd.DataFrame(np.atleast_1d(X))
    return int(frame.notna().to_numpy().sum())


@examples(60)
@given(X=st.one_of(arrays(), wide_frames(), long_frames()), roles=roles())
def test_a_panel_is_regular(X, roles):
    panel = outcome(lambda: read_panel(X, roles, min_rows=1))
    if panel is REFUSED:
        return
    targets = panel.values[:, : panel.n_targets]
    assert panel.values.ndim == 2
    assert panel.n_targets >= 1
    assert not np.isinf(panel.values).any()
    assert len(targets) >= 1
    if panel.index is not None:
        assert len(panel.index) == len(panel.values)
        assert not panel.index.hasnans
    if panel.items is not None:
        assert len(panel.items) == panel.n_items
        assert (np.diff(panel.starts) > 0).all()
    for first, end in panel.spans:
        if panel.index is not None:
            assert (panel.index[first + 1 : end] > panel.index[first : end - 1]).all()
    if roles.freq is None and panel.kind in ("array", "vector", "series"):
        assert (
            np.isfinite(targets).sum() == observed(X)
            or roles.target is not None
            or (roles.covariates)
        )


@examples(40)
@given(X=wide_frames(names_of=st.sampled_from(["a", "b", "y"])), steps=st.integers(1, 40))
def test_a_regular_index_continues(X, steps):
    panel = outcome(lambda: read_panel(X, Roles(), min_rows=1))
    if panel is REFUSED or panel.index is None or panel.freq is None:
        return
    ahead = outcome(lambda: panel.future(steps))
    if ahead is REFUSED:
        return
    assert len(ahead) == steps
    assert ahead[0] > panel.index[-1]
    assert (ahead[1:] > ahead[:-1]).all()
