"""Any sequences become tokens, counts and predictions of the right shape, or are refused by name."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.properties import REFUSED, examples, outcome
from tests.fuzz.strategies import dna
from tests.support import random_dna, small_dna_settings
from titans_ts import TitansClassifier, TitansRegressor
from titans_ts.datasets import check_splits, reverse_complement
from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.genomics.parse import encode_sequences

ODD = [
    *(
        None,
        "ACGT",
        b"ACGT",
        [],
        [None],
        [b"ACGT"],
        [1],
        ["ACGT", None],
        [["A", "C"], ["G"]],
        5,
        {},
    ),
    *(
        np.zeros(3),
        np.array(["A", "C"]),
        pd.DataFrame({"a": ["A"], "b": ["C"]}),
        {"ACGT"},
        [np.nan],
    ),
    *(pd.Series(["A", None]), pd.DataFrame({"a": ["ACGT"]}), [["ACGT"]], object(), [""]),
]


@st.composite
def sequences(draw):
    """Return sequences in some container, or something that is none."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(ODD))
    listed = draw(st.lists(dna(odd=draw(st.integers(0, 4)) == 0), min_size=1, max_size=5))
    kind = draw(st.sampled_from(["list", "tuple", "array", "object", "Series", "frame"]))
    makers = {
        "list": list,
        "tuple": tuple,
        "array": np.array,
        "object": lambda x: np.array(x, dtype=object),
        "Series": lambda x: pd.Series(x, index=range(7, 7 + len(x))),
        "frame": lambda x: pd.DataFrame({"s": x}),
    }
    return makers[kind](listed)


@examples(40)
@given(X=sequences(), soft_masked=st.sampled_from(["keep", "flag", "mask"]))
def test_sequences_become_codes(X, soft_masked):
    codes = outcome(lambda: encode_sequences(X, soft_masked))
    if codes is REFUSED:
        return
    texts = list(np.asarray(X, dtype=object).ravel())
    assert [len(c) for c in codes] == [len(text) for text in texts]
    assert all(c.dtype == np.uint8 and (c < 32).all() for c in codes)


@examples(40)
@given(
    X=sequences(),
    k=st.integers(0, 4),
    gaps=st.integers(-1, 2),
    both=st.booleans(),
    positions=st.sampled_from([0, 0, 8, -1]),
)
def test_kmers_are_counted(X, k, gaps, both, positions):
    counts = outcome(lambda: KmerVectorizer(k, gaps, both, positions).fit(X).transform(X))
    if counts is REFUSED:
        return
    texts = list(np.asarray(X, dtype=object).ravel())
    assert counts.shape[0] == len(texts)
    assert np.isfinite(counts.data).all()
    if gaps == 0 and positions == 0 and not both:
        known = [
            sum(set(t[i : i + k].upper()) <= set("ACGTU") for i in range(len(t) - k + 1))
            for t in texts
        ]
        assert np.asarray(counts.sum(1)).ravel().astype(int).tolist() == known


@functools.cache
def fitted(kind):
    X = random_dna(24, (10, 30))
    y = np.arange(24) % 2
    settings = small_dna_settings(max_epochs=1)
    tokenizer = {"bpe": "bpe", "kmer": "kmer", "conv": "conv", "residual": "residual"}.get(
        kind, "nucleotide"
    )
    if kind == "regressor":
        return TitansRegressor(**settings).fit(X, y + 0.5)
    if kind == "both":
        return TitansClassifier(**settings | {"rc": "average", "kmer_model": 3}).fit(X, y)
    return TitansClassifier(**settings | {"tokenizer": tokenizer}).fit(X, y)


KINDS = ["nucleotide", "bpe", "kmer", "conv", "residual", "regressor", "both"]


@examples(40)
@given(X=sequences(), kind=st.sampled_from(KINDS))
def test_sequences_are_predicted(X, kind):
    model = fitted(kind)
    predict = model.predict if kind == "regressor" else model.predict_proba
    result = outcome(lambda: predict(X))
    if result is REFUSED:
        return
    n = len(np.asarray(X, dtype=object).ravel())
    assert result.shape == ((n,) if kind == "regressor" else (n, 2))
    assert np.isfinite(result).all()
    if kind != "regressor":
        np.testing.assert_allclose(result.sum(1), 1, rtol=1e-5)
    if kind == "both":
        flipped = model.predict_proba(
            [reverse_complement(x) for x in np.asarray(X, object).ravel()]
        )
        np.testing.assert_allclose(result, flipped, atol=1e-4)


@examples(20)
@given(
    sequence=st.one_of(dna(), st.sampled_from([None, 5, ["A"], b"ACG"])),
    kind=st.sampled_from(KINDS),
)
def test_letters_have_effects(sequence, kind):
    model = fitted(kind)
    for tool, shape in ((model.mutagenesis, 2), (model.saliency, 2)):
        result = outcome(lambda tool=tool: tool(sequence))
        if result is not REFUSED:
            assert result.shape[0] == len(sequence)
            assert result.ndim == shape


@examples(20)
@given(train=sequences(), test=sequences(), k=st.integers(0, 12))
def test_splits_are_compared(train, test, k):
    labels = [np.arange(len(x)) % 2 if hasattr(x, "__len__") else None for x in (train, test)]
    found = outcome(lambda: check_splits(train, labels[0], test, labels[1], k=k))
    assert found is REFUSED or isinstance(found, pd.DataFrame)


@examples(20)
@given(data=st.data(), X=sequences())
def test_a_fit_learns_or_refuses(data, X):
    n = len(X) if hasattr(X, "__len__") else 2
    labels = st.sampled_from(
        [[0, 1], [0, 1], ["a", "b"], [True, False], [0, 1.5, "a", None, np.nan]]
    )
    few = data.draw(st.sampled_from([n, n, n, n, max(0, n - 1)]))
    y = data.draw(st.lists(st.sampled_from(data.draw(labels)), min_size=few, max_size=few))
    model = TitansClassifier(**small_dna_settings(d_model=8, n_heads=1, max_epochs=1))
    result = outcome(lambda: model.fit(X, y))
    assert result is REFUSED or hasattr(result, "classes_")
    assert result is REFUSED or all(p.isfinite().all() for p in model.model_.parameters())
