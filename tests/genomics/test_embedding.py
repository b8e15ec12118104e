"""Embeddings of a pretrained model: one vector a sequence, whatever is beside it, and how it is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.support import small_dna_settings
from titans_ts import SequenceEmbedding, TitansClassifier, TitansRegressor
from titans_ts.datasets import reverse_complement
from titans_ts.genomics import inference, sequence_estimator
from titans_ts.genomics.pretraining import load_body
from titans_ts.nn.dna.nucleotides import encode_nucleotides


@pytest.fixture(scope="module")
def sequences():
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), n)) for n in (30, 81, 81, 7, 200, 1)]


@pytest.fixture(scope="module")
def vectors(sequences):
    return SequenceEmbedding().fit_transform(sequences)


def expected(body, sequence, strands=(str, reverse_complement)):
    """Return the mean of the backbone's outputs over the tokens, and over the strands."""
    means = []
    for strand in strands:
        codes = torch.from_numpy(encode_nucleotides(strand(sequence))).long()[None]
        with torch.inference_mode():
            outputs, _ = body.hidden(codes, torch.tensor([len(sequence)]))
        means.append(torch.cat(outputs, -1).mean(1)[0].numpy())
    return np.mean(means, 0)


def test_it_is_the_mean_of_the_backbone_on_both_strands(sequences, vectors):
    body = load_body("dna-small").eval()
    for sequence, vector in zip(sequences, vectors, strict=True):
        assert_allclose(vector, expected(body, sequence), atol=1e-5)


def test_the_other_strand_has_the_same_vector_unless_one_is_asked_for(sequences, vectors):
    other = [reverse_complement(s) for s in sequences]
    assert_allclose(SequenceEmbedding().fit_transform(other), vectors, atol=1e-5)
    one = SequenceEmbedding(both_strands=False).fit(sequences)
    changed = np.abs(one.transform(sequences) - one.transform(other)).max(1)
    assert (changed > 1e-3).all()


def test_a_sequence_has_one_vector_in_any_company(sequences, vectors):
    assert_allclose(SequenceEmbedding().fit_transform(sequences[3:4]), vectors[3:4], atol=1e-5)
    assert_allclose(SequenceEmbedding().fit_transform(sequences[::-1]), vectors[::-1], atol=1e-5)


def test_a_long_sequence_is_read_in_pieces(sequences, vectors, monkeypatch):
    monkeypatch.setattr(inference, "BATCH_TOKENS", 64)
    assert_allclose(SequenceEmbedding().fit_transform(sequences), vectors, atol=1e-4)


def test_it_is_a_part_of_a_pipeline(sequences):
    X, y = sequences * 3, [0, 1, 0, 1, 0, 1] * 3
    model = make_pipeline(SequenceEmbedding(), LogisticRegression(C=1e3, max_iter=10_000))
    assert clone(model).fit(X, y).predict(X).tolist() == y


@pytest.mark.parametrize(
    "params",
    [
        {"rc": "equivariant", "tokenizer": "conv", "stride": 4},
        {"rc": "none", "pooling": "flatten", "bidirectional": "separate"},
        {"tokenizer": "bpe"},
        {"n_layers": 0},
    ],
)
def test_what_an_estimator_saved_can_embed(sequences, tmp_path, params):
    settings = small_dna_settings(max_epochs=1) | params
    TitansClassifier(**settings).fit(sequences, [0, 1, 0, 1, 0, 1]).save(tmp_path / "m")
    body = load_body(tmp_path / "m").eval()
    found = SequenceEmbedding(tmp_path / "m").fit_transform(sequences)
    for sequence, vector in zip(sequences, found, strict=True):
        assert_allclose(vector, expected(body, sequence), atol=1e-5)


def test_a_model_of_tracks_can_embed(sequences, tmp_path):
    settings = small_dna_settings(max_epochs=1)
    track = TitansRegressor(**settings).fit([s[:1] * 8 for s in sequences], np.zeros((6, 2, 1)))
    track.save(tmp_path / "t")
    body = load_body(tmp_path / "t").eval()
    found = SequenceEmbedding(str(tmp_path / "t"), both_strands=False).fit_transform(sequences)
    assert_allclose(found[1], expected(body, sequences[1], (str,)), atol=1e-5)


def test_letters_that_are_unknown_or_lower_case(sequences, vectors):
    lower = SequenceEmbedding().fit_transform([s.lower() for s in sequences])
    assert_allclose(lower, vectors, atol=1e-6)
    unknown = SequenceEmbedding().fit_transform(["N" * 30, "RYKM"])
    assert np.isfinite(unknown).all()


def test_columns_have_names(sequences):
    embedding = SequenceEmbedding().set_output(transform="pandas")
    names = embedding.fit_transform(sequences).columns.tolist()
    assert names[:2] == ["sequenceembedding0", "sequenceembedding1"]
    assert len(names) == 128


def test_it_leaves_random_numbers_and_the_default_type_alone(sequences, vectors):
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        found = SequenceEmbedding().fit_transform(sequences)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_allclose(found, vectors, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_embedded(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="dna-big.*or one of the package .'dna-small'."):
        SequenceEmbedding("dna-big").fit(["ACGT"])
    with pytest.raises(ValueError, match="device is 'gpu'"):
        SequenceEmbedding(device="gpu").fit(["ACGT"])
    with pytest.raises(ValueError, match="has 'J'"):
        SequenceEmbedding().fit_transform(["ACGJ"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="dna-small"):
        SequenceEmbedding(Path("dna-small")).fit(["ACGT"])  # a path, not a name


def test_a_classifier_begins_with_the_model_of_the_package(sequences):
    y = [0, 1, 0, 1, 0, 1]
    options = {"max_epochs": 1, "freeze": "backbone", "random_state": 0, "progress_bar": False}
    classifier = TitansClassifier(pretrained="dna-small", **options).fit(sequences, y)
    body = load_body("dna-small")
    weights = classifier.model_.backbone.state_dict()
    for name, value in body.backbone.state_dict().items():
        torch.testing.assert_close(weights[name], value)
    config, own = classifier.model_.config, body.config
    assert (config.tokenizer, config.stride) == (own.tokenizer, own.stride)
    assert not {"tokenizer", "stride", "position", "n_layers"} & set(classifier.chosen_)


def test_a_preset_trains_one_pretrained_network(sequences):
    X, y = sequences * 4, [0, 1, 0, 1, 0, 1] * 4
    options = {"pretrained": "dna-small", "freeze": "backbone", "time_limit": 1}
    for preset in ("fast", "best"):
        classifier = TitansClassifier(
            preset=preset, **options, random_state=0, progress_bar=False
        ).fit(X, y)
        assert classifier.model_.config.backbone.n_layers == 2
        assert "n_layers" not in classifier.chosen_


def test_a_track_says_what_was_chosen(sequences):
    options = {"max_epochs": 1, "freeze": "backbone", "random_state": 0, "progress_bar": False}
    X, y = [s[:1] * 6 for s in sequences], np.zeros((6, 6, 1))
    regressor = TitansRegressor(pretrained="dna-small", **options).fit(X, y)
    assert not {"tokenizer", "stride", "position", "n_layers"} & set(regressor.chosen_)
    assert not regressor.model_.config.position


def test_a_wrong_model_is_found_before_anything_is_fitted(sequences, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("fitted")

    monkeypatch.setattr(sequence_estimator, "fit_linear", fail)
    monkeypatch.setattr(sequence_estimator, "quick_look", fail)
    for params, message in (
        ({"pretrained": "dna-smal"}, "or one of the package"),
        ({"pretrained": "dna-small", "soft_masked": "mask"}, "soft_masked is 'mask'"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            TitansClassifier(**params, progress_bar=False).fit(sequences, [0, 1] * 3)
