"""Baselines for DNA: words counted one by one, and models that find a motif."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from titans_ts.datasets import reverse_complement
from titans_ts.dna_baselines import KmerCounts, cnn_classifier, kmer_classifier
from titans_ts.nn.nucleotides import encode_nucleotides


def by_hand(sequence, k, gaps):
    counts = Counter()
    for i, rest in enumerate(combinations(range(1, k + gaps), k - 1)):
        places = (0, *rest)
        for start in range(len(sequence) - places[-1]):
            word = [sequence[start + p].upper() for p in places]
            if set(word) <= set("ACGT"):
                counts[i * 4**k + sum("ACGT".index(c) * 4**j for j, c in enumerate(word))] += 1
    return counts


@pytest.mark.parametrize(("k", "gaps"), [(1, 0), (3, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("both", [False, True])
def test_words_are_counted(k, gaps, both):
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGTNacgtR"), n)) for n in (1, 2, 5, 60)]
    counts = KmerCounts(k, gaps, both).fit(sequences).transform(sequences)
    assert counts.shape == (4, KmerCounts(k, gaps, both).fit(sequences).n_features_)
    for row, sequence in zip(counts.toarray(), sequences, strict=True):
        expected = by_hand(sequence, k, gaps)
        if both:
            expected += by_hand(reverse_complement(sequence), k, gaps)
        assert {i: row[i] for i in np.flatnonzero(row)} == dict(expected)


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
    for options in ({}, {"gaps": 2}, {"gaps": 2, "model": "svm"}):
        words = kmer_classifier(k=4, **options)
        assert cross_val_score(words, np.array(sequences), labels).mean() > 0.8, options
    assert clone(kmer_classifier(k=4)).get_params()["kmercounts__k"] == 4


def test_a_small_network_finds_a_motif():
    rng = np.random.default_rng(0)
    sequences = []
    for label in (labels := np.arange(400) % 2):
        letters = "".join(rng.choice(list("ACGT"), rng.integers(20, 40)))
        sequences.append(letters + "TGACGTCA" + letters[:7] if label else letters + "ACGTAACC")
    options = {"n_filters": 16, "kernel_size": 8, "max_epochs": 10, "batch_size": 32}
    cnn = cnn_classifier(random_state=0, progress_bar=False, **options)
    assert cnn.fit(sequences[:300], labels[:300]).score(sequences[300:], labels[300:]) > 0.9
    assert len(cnn.model_.backbone.blocks) == 0
    # in pieces and whole, alone and beside others
    p = cnn.predict_proba(sequences[:2])
    np.testing.assert_allclose(cnn.predict_proba(sequences[:1]), p[:1], atol=1e-6)
    codes = encode_nucleotides(sequences[0])
    np.testing.assert_allclose(cnn.model_.read(codes, 5).softmax(-1).tolist(), p[0], atol=1e-6)


def test_an_unknown_model_is_named():
    with pytest.raises(ValueError, match="model is 'forest'; choose one of"):
        kmer_classifier(model="forest")


@pytest.mark.parametrize(
    ("params", "message"),
    [({"k": 0}, "k is 0; it must lie"), ({"gaps": -1}, "gaps is -1; it must not")],
)
def test_bad_words(params, message):
    with pytest.raises(ValueError, match=message):
        KmerCounts(**params).fit(["ACGT"])
