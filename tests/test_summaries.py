"""What an estimator shows of itself at the prompt and in a notebook."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.support import small_dna_settings, small_settings
from titans_ts import TitansClassifier, TitansForecaster
from titans_ts.datasets import make_series
from titans_ts.reporting.summary import EstimatorSummary


def test_the_horizon_is_always_shown():
    assert repr(TitansForecaster()) == "TitansForecaster(prediction_length=24)"
    assert (
        repr(TitansForecaster(24, random_state=0))
        == "TitansForecaster(prediction_length=24, random_state=0)"
    )
    assert (
        repr(TitansForecaster(12, 36))
        == "TitansForecaster(context_length=36, prediction_length=12)"
    )
    assert repr(TitansClassifier()) == "TitansClassifier()"
    assert repr(TitansClassifier(rc="none")) == "TitansClassifier(rc='none')"


def test_a_forecaster_says_what_was_fitted_and_how_good_it_is():
    frame = make_series(120, 2, freq="h", seasons=(12,), random_state=0)
    forecaster = TitansForecaster(4, 16, **small_settings(max_epochs=2))
    summary = forecaster.summary()
    assert summary.title == "TitansForecaster, not fitted"
    assert "n_layers=1" in summary.rows["settings"]
    assert list(summary.rows) == ["settings"]
    rows = forecaster.fit(frame).summary().rows
    assert rows["fitted to"] == "2 variates (y0, y1); frequency h, up to 2024-01-05 23:00:00"
    assert rows["network"].startswith("1 MAC blocks, width 16; reads 16 steps")
    weights = sum(p.numel() for p in forecaster.model_.parameters())
    assert rows["weights"] == f"{weights:,}"
    assert rows["training"].startswith("2 epochs in ")
    best = min(row["validation_loss"] for row in forecaster.history_)
    assert rows["training"].endswith(f"smallest validation loss {best:.4g}")
    losses = forecaster.blend_["loss"].drop(["titans", "pretrained"])
    change, name = 1 / losses.min() - 1, losses.idxmin()
    word = "lower" if change < 0 else "higher"
    assert rows["validation"].startswith(
        f"quantile loss {abs(change):.1%} {word} than that of {name}"
    )
    shown = [part.rpartition(" ") for part in rows["forecasts"].split(", ")]
    assert sum(float(weight) for _, _, weight in shown) == pytest.approx(1, abs=0.03)  # two digits


def test_a_notebook_shows_a_small_table():
    forecaster = TitansForecaster.from_pretrained(4)
    forecaster.predict(np.arange(50.0))
    both = forecaster._repr_mimebundle_()
    assert both["text/plain"] == repr(forecaster)
    page = both["text/html"]
    assert page == forecaster._repr_html_()
    assert len(page) < 2000
    assert "<script" not in page
    assert re.findall(r'<th scope="row"[^>]*>(\w+)', page) == ["settings", "follows", "network"]
    assert "&lt;b&gt;" in EstimatorSummary("x", {"a": "<b>"})._repr_html_()


def test_a_classifier_says_what_it_has_chosen():
    sequences, labels = ["ACGTTGCA", "TTTTTTTT", "ACGTTGCAAC", "TTTTTT"] * 8, ["a", "b"] * 16
    settings = {k: v for k, v in small_dna_settings().items() if k != "pooling"}
    classifier = TitansClassifier(**settings).fit(sequences, labels)
    rows = classifier.summary().rows
    assert rows["fitted to"] == "2 classes (a, b)"
    assert f"pooling={classifier.chosen_['pooling']!r}" in rows["chosen"]
    assert str(classifier.summary()).startswith("TitansClassifier, fitted\n  settings   ")
