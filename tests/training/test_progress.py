"""One bar for a whole fit, in every encoding."""

from __future__ import annotations

import io
import re

import pytest

from tests.support import small_settings
from titans_ts import TitansForecaster
from titans_ts.datasets import make_series

FRAME = make_series(100, 1, freq="h", seasons=(12,), random_state=0)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_fit_shows_one_bar_in_every_encoding(encoding, monkeypatch):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, write_through=True)
    monkeypatch.setattr("sys.stderr", stream)
    settings = small_settings(max_epochs=2, progress_bar=True)
    forecaster = TitansForecaster(4, 12, **settings).fit(FRAME)
    monkeypatch.undo()
    text = written.getvalue().decode(encoding)
    last = [part for part in re.split(r"[\r\n]+", text) if part.startswith("fit:")][-1]
    assert "100%" in last
    assert "epoch=2/2" in last  # counted from one
    loss = forecaster.history_[-1]["validation_loss"]
    assert f"validation_loss={loss:.4g}" in last
    steps = re.search(r"(\d+)/(\d+) \[", last)
    assert steps[1] == steps[2]
    assert "\u2588" not in text or encoding == "utf-8"


def test_no_bar_is_shown_if_none_is_wanted(capsys):
    quiet = {"progress_bar": True}
    quiet["training_options"] = {"trainer_kwargs": {"enable_progress_bar": False}}
    for settings in (small_settings(), small_settings() | quiet):
        TitansForecaster(4, 12, **settings).fit(FRAME)
        shown = capsys.readouterr()
        assert "fit:" not in shown.err
        assert shown.out == ""
