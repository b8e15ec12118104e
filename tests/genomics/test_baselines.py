"""Baselines for DNA: models that find a motif."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from tests.support import rounding
from titans_ts.genomics.baselines import cnn_classifier, kmer_classifier
from titans_ts.nn.dna.nucleotides import encode_nucleotides


def test_a_linear_model_of_words_finds_a_motif():
    rng = np.random.default_rng(0)
    sequences, labels = [], np.arange(200) % 2
    for label in labels:
        letters = "".join(rng.choice(list("ACGT"), 40))
        motif = "TGACGTCA" if rng.random() < 0.5 else "TGACTTCA"  # one letter differs
        place = rng.integers(32)
        sequences.append(
            letters[:place] + motif + letters[place:] if label else letters + "ACGTAACC"
        )
    for options in (
        {},
        {"gaps": 2},
        {"gaps": 2, "model": "svm"},
    ):
        words = kmer_classifier(k=4, **options)
        assert cross_val_score(words, np.array(sequences), labels).mean() > 0.8, options
    assert clone(kmer_classifier(k=4)).get_params()["kmervectorizer__k"] == 4


def test_a_small_network_finds_a_motif():
    rng = np.random.default_rng(0)
    sequences = []
    for label in (labels := np.arange(400) % 2):
        letters = "".join(rng.choice(list("ACGT"), rng.integers(20, 40)))
        sequences.append(letters + "TGACGTCA" + letters[:7] if label else letters + "ACGTAACC")
    options = {
        "n_filters": 16,
        "kernel_size": 8,
        "max_epochs": 10,
        "batch_size": 32,
    }
    cnn = cnn_classifier(random_state=0, progress_bar=False, **options)
    assert cnn.fit(sequences[:300], labels[:300]).score(sequences[300:], labels[300:]) > 0.9
    assert len(cnn.model_.backbone.blocks) == 0
    # in pieces and whole, alone and beside others
    p = cnn.predict_proba(sequences[:2])
    np.testing.assert_allclose(cnn.predict_proba(sequences[:1]), p[:1], **rounding(1))
    codes = encode_nucleotides(sequences[0])
    pieces = cnn.model_.read(codes, 5).softmax(-1).tolist()
    np.testing.assert_allclose(pieces, p[0], **rounding(1))


def test_a_frame_is_read_as_by_the_classifier():
    frame = pd.DataFrame({"sequence": ["ACGTTGCA", "TTTTTTTT"] * 6})
    words = kmer_classifier(k=3).fit(frame, [0, 1] * 6)
    expected = kmer_classifier(k=3).fit(list(frame["sequence"]), [0, 1] * 6)
    asked = ["TTTTTTT", "CGTTGC"]
    np.testing.assert_array_equal(words.predict_proba(asked), expected.predict_proba(asked))


def test_how_much_a_linear_model_is_held_back_is_chosen_by_what_is_held_out():
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 40)) for _ in range(300)]
    weak = (np.array([s.count("G") for s in sequences]) + rng.normal(0, 2, 300) > 10).astype(int)
    labels = np.where(np.arange(300) == 0, "a rare one", np.where(weak, "many G", "few G"))
    words = kmer_classifier(k=4).fit(sequences, labels)
    assert words[-1].best_params_ == {"C": 1.0}
    assert len(words.classes_) == 3
    assert words.score(sequences, labels) == np.mean(words.predict(sequences) == labels)
    clear = [
        s[:20] + "TGACGTCA" * int(label) + s[20:] for s, label in zip(sequences, weak, strict=True)
    ]
    assert kmer_classifier(k=4).fit(clear, weak)[-1].best_params_["C"] >= 30
    tried = words[-1].cv_results_
    assert [params["C"] for params in tried["params"]] == [1, 3]  # and none after one that is worse
    assert np.diff(tried["mean_test_score"]) < 0
    assert kmer_classifier(k=4, C=0.5).fit(sequences, labels)[-1].C == 0.5


@pytest.mark.parametrize("model", ["logistic", "svm"])
def test_a_class_of_one_sequence_is_never_held_out(model):
    sequences = ["ACGTTGCA" + letter for letter in "ACGTAACC"] + ["TTTTTTTT"]
    for place in range(9):  # wherever it stands
        others = sequences[:-1]
        X = others[:place] + sequences[-1:] + others[place:]
        words = kmer_classifier(k=3, model=model).fit(
            X, ["T" if x == "TTTTTTTT" else "A" for x in X]
        )
        assert list(words.classes_) == ["A", "T"]
    assert len(kmer_classifier(k=3, model=model).fit(["ACGT", "TTTT"], [0, 1]).classes_) == 2


def test_an_unknown_model_is_named():
    with pytest.raises(ValueError, match="model is 'forest'; choose one of"):
        kmer_classifier(model="forest")
