"""Models that earlier versions saved still load, and predict what they predicted then.

The folders under `saved_models/` were written before version 0.1.0, one of each kind in format 2, a MAC
with a state in format 3, a learned season in format 4 and residual tokens in format 5, with
`expected.npz` beside each. They are small: at most one block of width 8, trained for an epoch or two.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from titans_ts import TitansClassifier, TitansForecaster, TitansRegressor, nucleotide_surprisal
from titans_ts.nn import TitansBackbone, load_model, load_state
from titans_ts.nn.checkpoint import load_directory, save_directory
from titans_ts.nn.migration import upgrade

SAVED = Path(__file__).parent / "saved_models"
KINDS = sorted(path.name for path in SAVED.iterdir() if path.is_dir())


def expected(name):
    with np.load(SAVED / name / "expected.npz") as arrays:
        return dict(arrays)


def assert_same(name, **arrays):
    """Equal but for the rounding of another processor: 1e-4 of the largest value."""
    before = expected(name)
    assert before.keys() == arrays.keys()
    for key, array in arrays.items():
        atol = 1e-4 * np.abs(before[key]).max()
        np.testing.assert_allclose(np.asarray(array, float), before[key], rtol=0, atol=atol)


def frame(name, **options):
    return pd.read_csv(SAVED / name, **options)


def letters():
    return json.loads((SAVED / "sequences.json").read_text())


def forecaster_frame(model):
    plan = frame("plan.csv", index_col=0, parse_dates=True)
    return {
        "mean": model.predict(known_covariates=plan),
        "quantiles": model.predict_quantiles(known_covariates=plan),
        "interval": model.predict_interval(known_covariates=plan, coverage=0.8),
    }


def forecaster_panel(model):
    ahead = frame("ahead.csv", parse_dates=["timestamp"])
    return {
        "mean": model.predict(known_covariates=ahead)["sold"],
        "quantiles": model.predict_quantiles(known_covariates=ahead),
    }


def forecaster_array(model):
    t = np.arange(200)
    X = np.stack([np.sin(t / 5), np.cos(t / 7)], 1)
    return {
        "mean": model.predict(),
        "windows": model.predict(np.stack([X[:16], X[30:46]])),
        "surprise": np.nan_to_num(model.surprise(X, memory="network")),
        "errors": np.nan_to_num(model.detect_anomalies(X, score="error")["score"]),
    }


def forecaster_format3(model):
    t = np.arange(200)
    X = np.stack([np.sin(t / 5), np.cos(t / 7)], 1)
    return {"mean": model.predict(), "surprise": np.nan_to_num(model.surprise(X, memory="network"))}


def forecaster_season(model):
    t = np.arange(120)
    index = pd.date_range("2024-01-01", periods=120, freq="D")
    tenth = 0.1 * np.sin(2 * np.pi * t / 7) + t / 600  # of the rows that were fitted
    X = pd.DataFrame({"y": tenth}, index)
    return {
        "mean": model.predict(),
        "smaller": model.predict(X),
        "quantiles": model.predict_quantiles(X),
    }


PREDICT = {
    "forecaster_season": forecaster_season,
    "forecaster_format3": forecaster_format3,
    "forecaster_frame": forecaster_frame,
    "forecaster_panel": forecaster_panel,
    "forecaster_array": forecaster_array,
    "forecaster_irregular": lambda model: {"mean": model.predict()},
    "classifier": lambda model: {"p": model.predict_proba(letters())},
    "regressor": lambda model: {"v": model.predict(letters())},
}
ESTIMATORS = {
    "forecaster": TitansForecaster,
    "classifier": TitansClassifier,
    "regressor": TitansRegressor,
}


@pytest.mark.parametrize("name", [name for name in KINDS if name.split("_")[0] in ESTIMATORS])
def test_a_saved_estimator_predicts_as_before(name, tmp_path):
    kind = name.split("_")[0]
    predict = PREDICT.get(name) or PREDICT[kind]
    model = ESTIMATORS[kind].load(SAVED / name)
    assert_same(name, **predict(model))
    model.save(tmp_path / "again")  # in today's format
    assert_same(name, **predict(ESTIMATORS[kind].load(tmp_path / "again")))


def test_a_saved_language_model_predicts_as_before(tmp_path):
    genome = tmp_path / "genome.fa"
    genome.write_bytes((SAVED / "genome.fa").read_bytes())  # its index is written beside it
    found = nucleotide_surprisal(SAVED / "letter_model", genome, bin=50, progress_bar=False)
    assert_same("letter_model", nats=found["score"])


def test_a_saved_language_model_still_starts_a_classifier():
    model = TitansClassifier(
        "conv",
        pretrained=SAVED / "letter_model",
        max_epochs=1,
        random_state=0,
        progress_bar=False,
    )
    model.fit(["ACGTTGCA" * 4, "TTTTTTTT" * 4] * 8, ["mixed", "poly-T"] * 8)
    assert model.model_.config.backbone.d_model == 8  # that of the language model


def test_a_saved_backbone_goes_on_from_its_saved_state():
    backbone = load_model(SAVED / "backbone", TitansBackbone).eval()
    state = load_state(SAVED / "backbone_state.safetensors", backbone.initial_state(2))
    x = torch.linspace(-1, 1, 2 * 20 * 8).reshape(2, 20, 8)
    with torch.no_grad():
        y, _ = backbone(x[:, 13:], state)
    assert_same("backbone", y=y)


@pytest.mark.parametrize(
    ("version", "size"), [(2, "fitted"), (3, "fitted"), (4, "fitted"), (5, None)]
)
def test_a_season_is_as_large_as_it_was_when_it_was_saved(version, size):
    config = upgrade({"config": {"season_length": 7}}, version)["config"]
    assert config.get("season_size") == size
    kept = {"config": {"season_length": 7, "season_size": "window"}}
    assert upgrade(kept, version) == kept
    assert upgrade({"config": {"n_outputs": 2}}, version) == {"config": {"n_outputs": 2}}


def test_every_kind_of_saved_model_is_compared():
    compared = {"backbone", "letter_model"}
    assert {name for name in KINDS if name.split("_")[0] not in ESTIMATORS} == compared


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("forecaster_frame", lambda c, t: c["fitted"]["roles"].update(known_covariates=[])),
        ("forecaster_frame", lambda c, t: c["fitted"]["roles"].update(target=2.5)),
        ("forecaster_panel", lambda c, t: c["fitted"]["tail"]["items"].pop()),
        ("forecaster_panel", lambda c, t: c["fitted"]["tail"].update(items=[[], "b"])),
        ("forecaster_panel", lambda c, t: c["fitted"].update(items=["a", {}])),
        ("forecaster_panel", lambda c, t: c["fitted"]["tail"].update(columns=["other"])),
        ("forecaster_array", lambda c, t: t["spread"].fill_(0)),
        ("forecaster_frame", lambda c, t: t["covariate_spread"].fill_(-1)),
        ("forecaster_irregular", lambda c, t: c["fitted"]["tail"].update(kind="panel")),
        ("classifier_kmer", lambda c, t: c["fitted"].update(classes=[])),
    ],
)
def test_parts_that_do_not_fit_are_found_when_a_model_is_loaded(name, change, tmp_path):
    config, tensors = load_directory(SAVED / name)
    change(config, tensors)
    save_directory(tmp_path / "m", config, tensors)
    with pytest.raises(ValueError, match="holds a damaged model: its parts do not fit"):
        ESTIMATORS[name.split("_")[0]].load(tmp_path / "m")
