"""An exported classifier or regressor gives what `predict_proba` or `predict` gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from titans_ts import KmerModel, TitansClassifier, TitansRegressor
from titans_ts.kernels.portable import recording
from titans_ts.nn.dna.nucleotides import pad_codes

LENGTH = 48
TINY = {
    "d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 1, "random_state": 0,
    "progress_bar": False, "tokenizer": "nucleotide", "kmer_model": None,
}  # fmt: skip


def sequences(n=48, seed=0):
    rng = np.random.default_rng(seed)
    share = [0.22, 0.22, 0.22, 0.22, 0.03, 0.03, 0.03, 0.03]
    return [
        "".join(rng.choice(list("ACGTN-cg"), p=share, size=rng.integers(24, 41))) for _ in range(n)
    ]


def labels(found):
    return ["many" if s.count("G") > s.count("C") else "few" for s in found]


def inputs(estimator, fresh, length=LENGTH):
    codes, lengths = pad_codes(estimator._read_fitted(fresh))
    return {
        "codes": torch.nn.functional.pad(codes, (0, length - codes.shape[1])),
        "lengths": lengths,
    }


def run(estimator, fresh, length=LENGTH):
    """The module that is recorded, without recording it."""
    portable = estimator._portable(length=length)
    with torch.no_grad(), recording("torch"):
        return portable.module(**inputs(estimator, fresh, length)).numpy()


CHOICES = [
    {
        "variant": "mac",
        "tokenizer": "kmer",
        "rc": "average",
        "kmer_model": KmerModel(4, 1, positions=32),
    },
    {
        "variant": "mal",
        "tokenizer": "conv",
        "stride": 4,
        "rc": "equivariant",
        "bidirectional": "shared",
    },
    {"variant": "lmm", "tokenizer": "residual", "stride": 4},
    {"variant": "lmm", "pooling": "last", "soft_masked": "flag", "bidirectional": "separate"},
    {"variant": "mag", "pooling": "attention", "position": True, "kmer_model": KmerModel(3)},
    {"variant": "lmm", "pooling": "max", "model_options": {"memory": {"depth": 1}}},
    {"n_layers": 0},
]


@pytest.mark.parametrize("parameters", CHOICES, ids=lambda p: "-".join(map(str, p)))
def test_module_is_predict_proba(parameters):
    found = sequences()
    classifier = TitansClassifier(**TINY | parameters).fit(found, labels(found))
    fresh = sequences(9, seed=1)
    np.testing.assert_allclose(run(classifier, fresh), classifier.predict_proba(fresh), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parameters", CHOICES, ids=lambda p: "-".join(map(str, p)))
def test_file_is_predict_proba(parameters, tmp_path):
    found = sequences()
    classifier = TitansClassifier(**TINY | parameters).fit(found, labels(found))
    classifier.export(tmp_path / "one.pt2", LENGTH)
    notes = {"titans_ts.json": ""}
    program = torch.export.load(tmp_path / "one.pt2", extra_files=notes).module()
    fresh = sequences(9, seed=1)
    for n in (1, 9):
        probabilities = program(**inputs(classifier, fresh[:n])).numpy()
        np.testing.assert_allclose(probabilities, classifier.predict_proba(fresh[:n]), atol=1e-5)
    described = json.loads(notes["titans_ts.json"])
    assert (described["columns"], described["length"]) == (["few", "many"], LENGTH)


def test_labels_values_and_tracks_are_exported():
    found, fresh = sequences(), sequences(9, seed=1)
    many = np.array([s.count("G") > 6 for s in found])
    classifier = TitansClassifier(**TINY).fit(found, np.stack([many, ~many], 1).astype(int))
    np.testing.assert_allclose(run(classifier, fresh), classifier.predict_proba(fresh), atol=1e-5)
    regressor = TitansRegressor(**TINY).fit(found, [100.0 + s.count("G") for s in found])
    np.testing.assert_allclose(run(regressor, fresh)[:, 0], regressor.predict(fresh), rtol=1e-5)
    equal = [s.replace("-", "A")[:24] for s in found]
    values = np.random.default_rng(0).normal(size=(len(equal), 4, 1))
    track = TitansRegressor(**TINY | {"rc": "none"}).fit(equal, values)
    result = run(track, equal[:5], 24)
    np.testing.assert_allclose(result, track.predict(equal[:5]).reshape(result.shape), atol=1e-5)


def test_what_cannot_be_exported_is_named(tmp_path):
    found = sequences()
    classifier = TitansClassifier(**TINY).fit(found, labels(found))
    with pytest.raises(ValueError, match=r"length is None.*longest sequence"):
        classifier.export(tmp_path / "one.pt2")
    with pytest.raises(ValueError, match="length is 0"):
        classifier.export(tmp_path / "one.pt2", 0)
    assert list(tmp_path.iterdir()) == []


def test_bpe_is_refused(tmp_path):
    pytest.importorskip("tokenizers", reason="BPE needs tokenizers")
    found = sequences()
    classifier = TitansClassifier(**TINY | {"tokenizer": "bpe"}).fit(found, labels(found))
    with pytest.raises(ValueError, match=r"'bpe'.*'kmer'"):
        classifier.export(tmp_path / "one.pt2", LENGTH)


@pytest.mark.slow
def test_onnx_is_predict_proba(tmp_path):
    pytest.importorskip("onnxscript", reason="ONNX needs onnx and onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    found, fresh = sequences(), sequences(9, seed=1)
    classifier = TitansClassifier(**TINY | {"kmer_model": KmerModel(3)}).fit(found, labels(found))
    classifier.export(tmp_path / "one.onnx", LENGTH)
    session = runtime.InferenceSession(tmp_path / "one.onnx")
    given = {name: x.numpy() for name, x in inputs(classifier, fresh).items()}
    (probabilities,) = session.run(None, given)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(fresh), atol=1e-5)
