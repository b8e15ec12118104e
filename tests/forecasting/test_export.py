"""An exported forecaster gives what `predict` gives, on a machine with torch alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from titans_ts import TitansForecaster
from titans_ts.kernels.portable import recording

TINY = {
    "prediction_length": 4, "context_length": 32, "patch_length": 8, "patch_stride": 4, "d_model": 8,
    "n_heads": 2, "max_epochs": 1, "random_state": 0, "progress_bar": False, "blend": False,
}  # fmt: skip
SPREAD = np.array([1.0, 50.0])
# Loads a file and the inputs beside it, where this package cannot be imported.
ALONE = """
import sys
sys.path = [p for p in sys.path if p not in ("", sys.argv[3])]
sys.modules["titans_ts"] = None
import torch
program = torch.export.load(sys.argv[1] + ".pt2").module()
inputs = torch.load(sys.argv[1] + ".in", weights_only=True)
torch.save(program(**inputs), sys.argv[2])
assert sys.modules["titans_ts"] is None
"""


def series(n=260, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 2)).cumsum(0) * SPREAD + [0, 1000]


def windows(n_rows, n=4):
    """Fresh windows `[n, n_rows, 2]`: cut ones, one with an empty variate, one with gaps."""
    rng = np.random.default_rng(1)
    found = rng.normal(size=(n, n_rows, 2)).cumsum(1) * SPREAD + [0, 1000]
    found[0, : n_rows // 2] = np.nan
    found[1, :, 1] = np.nan
    found[2][rng.random((n_rows, 2)) < 0.2] = np.nan
    return found


def run(forecaster, **inputs):
    """The module that is recorded, without recording it."""
    module = forecaster._portable().module
    with torch.no_grad(), recording("torch"):
        outputs = module(**{name: torch.from_numpy(x) for name, x in inputs.items()})
    return [x.numpy() for x in outputs]


def assert_same(forecaster, past, outputs):
    mean, quantiles = outputs
    one_by_one = [forecaster.predict(w) for w in past]
    np.testing.assert_allclose(mean / SPREAD, np.stack(one_by_one) / SPREAD, atol=1e-5)
    expected = np.stack([forecaster.predict_quantiles(w) for w in past])
    np.testing.assert_allclose(quantiles / SPREAD[:, None], expected / SPREAD[:, None], atol=1e-5)


@pytest.fixture(scope="module")
def fitted():
    """One trained forecaster for each choice of parameters."""
    made = {}

    def fit(**parameters):
        key = repr(sorted(parameters.items()))
        if key not in made:
            made[key] = TitansForecaster(**TINY | parameters).fit(series())
        return made[key]

    return fit


VARIANTS = [
    {"n_layers": 0},
    {"variant": "lmm", "n_layers": 2},
    {"variant": "lmm", "model_options": {"memory": {"depth": 1}}},
    {"variant": "mac", "model_options": {"segment_length": 5}},
    {"variant": "mac", "model_options": {"memory": {"depth": 1, "error_at": "chunk"}}},
    {"variant": "mag", "model_options": {"window": 3}},
    {"variant": "mal", "model_options": {"n_persistent": 0}},
    {"variant": "swa"},
    {"variant": "lmm", "stateful_windows": 1},
    {"variant": "mag", "tokens": "variate"},
    {"variant": "lmm", "tokens": "mixed", "scaler": "robust"},
    {"variant": "mac", "tokens": "joint", "scaler": "asinh", "output": "normal"},
]


@pytest.mark.parametrize("parameters", VARIANTS, ids=lambda p: "-".join(map(str, p.values())))
def test_module_is_predict(parameters):
    forecaster = TitansForecaster(**TINY | {"n_layers": 1} | parameters)
    forecaster.fit(series(120))
    past = windows(32)
    assert_same(forecaster, past, run(forecaster, past=past))


@pytest.mark.slow
@pytest.mark.parametrize("parameters", VARIANTS, ids=lambda p: "-".join(map(str, p.values())))
def test_file_is_predict(parameters, tmp_path):
    forecaster = TitansForecaster(**TINY | {"n_layers": 1} | parameters).fit(series(120))
    forecaster.export(tmp_path / "one.pt2")
    program = torch.export.load(tmp_path / "one.pt2").module()
    for n in (1, 4):  # the size of the batch is open
        past = windows(32)[:n]
        assert_same(forecaster, past, [x.numpy() for x in program(past=torch.from_numpy(past))])


def test_file_runs_without_the_package(fitted, tmp_path):
    forecaster = fitted(n_layers=0)
    forecaster.export(tmp_path / "one.pt2")
    assert os.listdir(tmp_path) == ["one.pt2"]
    past = windows(32)
    torch.save({"past": torch.from_numpy(past)}, tmp_path / "one.in")
    code = [sys.executable, "-c", ALONE, str(tmp_path / "one"), str(tmp_path / "out"), os.getcwd()]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(code, check=True, cwd=tmp_path, env=environment)
    outputs = torch.load(tmp_path / "out", weights_only=True)
    assert_same(forecaster, past, [x.numpy() for x in outputs])
    notes = {"titans_ts.json": ""}
    torch.export.load(tmp_path / "one.pt2", extra_files=notes)
    described = json.loads(notes["titans_ts.json"])
    assert described["inputs"] == {"past": {"shape": ["batch", 32, 2], "dtype": "float64"}}
    assert described["outputs"] == ["mean", "quantiles"]
    assert (described["rows"], described["prediction_length"]) == (32, 4)
    assert described["quantile_levels"] == [0.1, 0.5, 0.9]
    assert described["targets"] == [0, 1]


@pytest.mark.parametrize(
    "blend",
    [
        ["linear", "last value", "drift", "seasonal naive"],
        ["pretrained", "linear"],
        ["theta", "smoothing", "seasonal smoothing", "multiplicative smoothing"],
    ],
    ids=str,
)
def test_blend_is_included(fitted, blend):
    forecaster = fitted(n_layers=0, blend=blend)
    assert len(forecaster.predictor.blend.weights) > 1
    n_rows = forecaster._portable().inputs["past"].shape[1]
    assert n_rows == 300
    past = windows(n_rows)
    assert_same(forecaster, past, run(forecaster, past=past))


@pytest.mark.slow
def test_file_has_exponential_smoothing(tmp_path):
    forecaster = TitansForecaster(**TINY | {"n_layers": 0, "blend": ["smoothing"]}).fit(series())
    assert "smoothing" in forecaster.predictor.blend.weights
    forecaster.export(tmp_path / "one.pt2")
    program = torch.export.load(tmp_path / "one.pt2").module()
    past = windows(300)
    assert_same(forecaster, past, [x.numpy() for x in program(past=torch.from_numpy(past))])


def test_seasonal_blend_repeats_the_last_observed_season():
    wave = np.tile([1.0, 5.0, 2.0, 9.0], 60) + np.random.default_rng(0).normal(size=240) * 0.05
    forecaster = TitansForecaster(**TINY | {"n_layers": 0, "blend": ["seasonal naive"]}).fit(wave)
    assert forecaster.predictor.blend.season_length == 4
    assert "seasonal naive" in forecaster.predictor.blend.weights
    past = np.stack([wave[-220:], wave[:220]])[..., None]
    past[0, -2] = np.nan
    mean, _ = run(forecaster, past=past)
    np.testing.assert_allclose(mean[..., 0], [forecaster.predict(w[:, 0]) for w in past], atol=1e-5)


def test_forecaster_without_a_fit_is_included():
    forecaster = TitansForecaster.from_pretrained(6)
    past = np.random.default_rng(0).normal(size=(2, 512, 1)).cumsum(1) * 3 + 1e5
    past[1, :300] = np.nan
    forecaster.predict(past[0, :, 0])
    expected = [forecaster.predict(w[:, 0]) for w in past]
    mean, _ = run(forecaster, past=past)
    np.testing.assert_allclose(mean[..., 0], expected, rtol=1e-8)


def test_items_and_covariates_are_inputs():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "item_id": np.repeat(["a", "b"], 80),
            "timestamp": np.tile(pd.date_range("2026", periods=80, freq="D"), 2),
            "target": np.concatenate([rng.normal(size=80), 100 + 9 * rng.normal(size=80)]),
            "seen": rng.normal(size=160),
            "plan": 5 + rng.normal(size=160),
            "kind": np.repeat(["x", "y"], 80),
            "size": np.repeat([1.0, 3.0], 80),
        }
    )
    forecaster = TitansForecaster(
        **TINY | {"n_layers": 1, "variant": "lmm"},
        past_covariates=["seen"],
        known_covariates=["plan"],
        static_covariates=["kind", "size"],
    ).fit(frame)
    ahead = pd.DataFrame(
        {
            "item_id": np.repeat(["a", "b"], 4),
            "timestamp": np.tile(pd.date_range("2026-03-22", periods=4, freq="D"), 2),
            "plan": rng.normal(size=8),
        }
    )
    mean, _ = run(
        forecaster,
        past=np.stack(
            [
                part[["target", "seen", "plan"]].to_numpy()[-32:]
                for _, part in frame.groupby("item_id")
            ]
        ),
        known=ahead.plan.to_numpy().reshape(2, 4, 1),
        item=np.array([0, 1]),
        categories=np.array([[1], [2]]),
        numbers=np.array([[1.0], [3.0]]),
    )
    expected = forecaster.predict(known_covariates=ahead).target.to_numpy().reshape(2, 4)
    np.testing.assert_allclose(mean[..., 0], expected, atol=1e-4)  # the values are about 100
    described = forecaster._portable().description
    assert described["items"] == ["a", "b"]
    assert described["static_covariates"] == [
        {"name": "kind", "categories": ["x", "y"]},
        {"name": "size"},
    ]
    assert described["frequency"] == "D"


def test_item_that_was_not_fitted_is_scaled_by_its_rows():
    frame = pd.DataFrame(
        {
            "item_id": np.repeat(["a", "b"], 80),
            "timestamp": np.tile(pd.date_range("2026", periods=80, freq="D"), 2),
            "target": np.random.default_rng(0).normal(size=160),
        }
    )
    forecaster = TitansForecaster(**TINY | {"n_layers": 0}).fit(frame)
    past = windows(32)[..., :1] * 1e6
    past[3] = 7.0
    mean, _ = run(forecaster, past=past, item=np.full(4, -1))
    expected = forecaster.predict(past)
    np.testing.assert_allclose(mean / 1e6, expected / 1e6, atol=1e-5)
    np.testing.assert_allclose(mean[3], expected[3], atol=1e-5)


def test_value_beyond_float32_gives_nan(fitted):
    forecaster = fitted(n_layers=0)
    past = windows(32)
    past[3, 5, 0] = 1e30
    mean, quantiles = run(forecaster, past=past)
    assert np.isnan(mean[3]).all()
    assert np.isnan(quantiles[3]).all()
    assert np.isfinite(mean[2]).all()


@pytest.mark.parametrize(
    ("parameters", "path", "format", "message"),
    [
        ({}, "one.bin", None, "end"),
        ({}, "one.pt2", "tflite", "format is 'tflite'"),
        ({}, "one.pt2", "onnx", "let it end with .onnx"),
        (
            {"output": "student_t"},
            "one.pt2",
            None,
            "output is 'student_t'.*'quantiles' or 'normal'",
        ),
    ],
)
def test_what_cannot_be_exported_is_named(fitted, tmp_path, parameters, path, format, message):
    forecaster = fitted(n_layers=0, **parameters)
    with pytest.raises(ValueError, match=message):
        forecaster.export(tmp_path / path, format=format)
    assert list(tmp_path.iterdir()) == []


def test_features_of_times_are_refused(tmp_path):
    frame = pd.DataFrame({"y": series()[:, 0]}, pd.date_range("2026", periods=260, freq="h"))
    forecaster = TitansForecaster(**TINY | {"n_layers": 0}, calendar=["day"]).fit(frame)
    with pytest.raises(ValueError, match=r"calendar is \('day',\).*known_covariates"):
        forecaster.export(tmp_path / "one.pt2")


@pytest.mark.slow
@pytest.mark.parametrize("variant", [None, "lmm", "mac", "mag", "mal"])
def test_onnx_is_predict(fitted, tmp_path, variant):
    pytest.importorskip("onnxscript", reason="ONNX needs onnx and onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    forecaster = fitted(n_layers=int(variant is not None), variant=variant)
    forecaster.export(tmp_path / "one.onnx")
    session = runtime.InferenceSession(tmp_path / "one.onnx")
    for n in (1, 4):
        past = windows(32)[:n]
        assert_same(forecaster, past, session.run(None, {"past": past}))
    assert json.loads(session.get_modelmeta().custom_metadata_map["titans_ts"])["rows"] == 32


@pytest.mark.slow
@pytest.mark.parametrize("path", ["one.pt2", "one.onnx"])
def test_default_forecast_is_exported(tmp_path, path):
    wave = np.sin(np.arange(260) * np.pi / 6)[:, None] * SPREAD
    X = pd.DataFrame(series() + 5 * wave, pd.date_range("2026", periods=260, freq="2h"))
    chosen = {k: v for k, v in TINY.items() if k != "blend"}
    forecaster = TitansForecaster(**chosen, n_layers=1, variant="lmm").fit(X)
    assert {"pretrained", "theta"} <= set(forecaster.predictor.blend.weights)
    past = X.to_numpy()[None, -forecaster.predictor.blend_rows :]
    past = np.concatenate([np.full((1, 40, 2), np.nan), past], 1)
    forecaster.export(tmp_path / path)
    if path == "one.pt2":
        program = torch.export.load(tmp_path / path).module()
        mean = program(past=torch.from_numpy(past))[0].numpy()
    else:
        runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
        mean = runtime.InferenceSession(tmp_path / path).run(None, {"past": past})[0]
    np.testing.assert_allclose(mean[0] / SPREAD, forecaster.predict(X) / SPREAD, atol=1e-5)
