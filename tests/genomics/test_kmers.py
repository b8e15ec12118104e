"""Words counted one by one, and those that tell what is wanted."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support import small_dna_settings
from titans_ts import ConvTokenizer, TitansClassifier, TitansRegressor
from titans_ts.config import SequenceConfig
from titans_ts.datasets import FastaRegions, reverse_complement
from titans_ts.genomics.kmers import KmerVectorizer, informative_kmers
from titans_ts.nn.dna.nucleotides import encode_nucleotides
from titans_ts.nn.dna.tokenizers import ConvTokens

TINY = small_dna_settings(n_layers=0)
del TINY["max_epochs"]


def by_hand(sequence, k, gaps):
    counts = Counter()
    for i, rest in enumerate(combinations(range(1, k + gaps), k - 1)):
        places = (0, *rest)
        for start in range(len(sequence) - places[-1]):
            word = [sequence[start + p].upper() for p in places]
            if set(word) <= set("ACGT"):
                counts[i * 4**k + sum("ACGT".index(c) * 4**j for j, c in enumerate(word))] += 1
    return counts


def random_letters(rng, n, letters="ACGT"):
    return "".join(rng.choice(list(letters), n))


def with_motif(n, motif, seed=0, length=30):
    """Random sequences, every second with a motif somewhere, and which have it."""
    rng = np.random.default_rng(seed)
    sequences = []
    for i in range(n):
        letters, place = random_letters(rng, length), rng.integers(length - len(motif) + 1)
        planted = letters[:place] + motif + letters[place + len(motif) :]
        sequences.append(planted if i % 2 else letters)
    return np.array(sequences), np.arange(n) % 2


def spelt(word):
    letters = [
        "ACGT"[i] if there else "." for i, there in zip(word.argmax(0), word.sum(0), strict=True)
    ]
    return "".join(letters).rstrip(".")


@pytest.mark.parametrize(("k", "gaps"), [(1, 0), (3, 0), (2, 2)])
@pytest.mark.parametrize("both", [False, True])
def test_a_long_sequence_is_counted_a_stretch_at_a_time(monkeypatch, k, gaps, both):
    rng = np.random.default_rng(0)
    counter = KmerVectorizer(k, gaps, both).fit([])
    for n in (19, 20, 21, 23, 24, 40, 41, 43, 99):
        sequences = ["ACGT", random_letters(rng, n, "ACGTN"), "TT"]
        expected = counter.transform(sequences)
        with monkeypatch.context() as patch:
            patch.setattr("titans_ts.genomics.kmers.BLOCK_LETTERS", 20)
            counted = counter.transform(sequences)
        assert (counted != expected).nnz == 0
        assert counted.dtype == expected.dtype


@pytest.mark.parametrize(("k", "gaps"), [(1, 0), (3, 0), (2, 1), (3, 2), (8, 1), (9, 0)])
@pytest.mark.parametrize("both", [False, True])
def test_words_are_counted(k, gaps, both):
    rng = np.random.default_rng(0)
    sequences = [random_letters(rng, n, "ACGTNacgtR") for n in (1, 2, 5, 60)]
    counts = KmerVectorizer(k, gaps, both).fit(sequences).transform(sequences)
    assert counts.shape == (4, KmerVectorizer(k, gaps, both).fit(sequences).n_features_)
    for row, sequence in zip(counts.toarray(), sequences, strict=True):
        expected = by_hand(sequence, k, gaps)
        if both:
            expected += by_hand(reverse_complement(sequence), k, gaps)
        assert {i: row[i] for i in np.flatnonzero(row)} == dict(expected)


@pytest.mark.parametrize("positions", [0, 20])
@pytest.mark.parametrize(("k", "gaps"), [(1, 0), (2, 2), (4, 1), (9, 0)])
def test_a_kmer_and_its_reverse_complement_may_share_a_column(k, gaps, positions, monkeypatch):
    rng = np.random.default_rng(0)
    sequences = [random_letters(rng, n, "ACGTNacgt") for n in (1, 30, 60, 200)]
    apart = KmerVectorizer(k, gaps, positions=positions).fit([])
    merged = KmerVectorizer(k, gaps, positions=positions, merged=True).fit([])
    counts, fewer = apart.transform(sequences), merged.transform(sequences)
    assert fewer.shape == (4, merged.n_features_) < counts.shape
    assert (apart.per_letter, merged.per_letter) == (2 * len(apart.offsets()), len(apart.offsets()))
    np.testing.assert_allclose((fewer @ fewer.T).toarray(), (counts @ counts.T).toarray(), 1e-5)
    weight = rng.normal(size=(2, merged.n_features_)).astype(np.float32)
    full = merged.unmerged(weight)
    np.testing.assert_allclose(counts @ full.T, fewer @ weight.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(full), np.linalg.norm(weight), rtol=1e-5)
    named = apart.kmer_of_column()[merged.kmer_of_column()]
    own = np.ceil(fewer.toarray()[:, : len(named)])
    assert ((own > 0) == (counts.toarray()[:, named] > 0)).all()
    monkeypatch.setattr("titans_ts.genomics.kmers.BLOCK_LETTERS", 40)
    np.testing.assert_allclose(merged.transform(sequences).toarray(), fewer.toarray(), 1e-4)


def test_many_sequences_of_long_kmers_are_counted():
    rng = np.random.default_rng(0)
    sequences = [random_letters(rng, 12) for _ in range(5000)]
    counter = KmerVectorizer(10, both_strands=False)
    counts = counter.fit_transform(sequences)
    assert counts.shape[0] * counts.shape[1] > 2**32
    assert (counts.sum(1) == 3).all()
    alone = [counter.transform([sequences[i]]).indices for i in (0, 4321, 4999)]
    for i, columns in zip((0, 4321, 4999), alone, strict=True):
        np.testing.assert_array_equal(counts[[i]].indices, columns)


def test_one_strand_has_nothing_to_merge():
    one = KmerVectorizer(3, both_strands=False).fit([])
    same = KmerVectorizer(3, both_strands=False, merged=True).fit([])
    assert one.n_features_ == same.n_features_ == 64
    assert (one.transform(["ACGTTN"]) != same.transform(["ACGTTN"])).nnz == 0
    weight = np.ones((1, 64), np.float32)
    assert same.unmerged(weight) is weight


def test_many_sequences_are_counted_as_each_alone_and_codes_as_letters():
    rng = np.random.default_rng(1)
    sequences = [random_letters(rng, n) for n in rng.integers(1, 9, 5000)]
    counter = KmerVectorizer(2, 1)
    together = counter.transform(sequences)
    some = [0, 2047, 2048, 4999]
    alone = np.vstack([counter.transform([sequences[i]]).toarray() for i in some])
    np.testing.assert_array_equal(together[some].toarray(), alone)
    codes = [encode_nucleotides(s) for s in sequences]
    assert (counter.transform(codes) != together).nnz == 0
    assert counter.transform([]).shape == (0, counter.fit([]).n_features_)


def test_the_words_that_tell_are_those_of_the_motif():
    sequences, labels = with_motif(400, "TGACGTAC")
    codes = [encode_nucleotides(s) for s in sequences]
    motif = ("TGACGTAC", reverse_complement("TGACGTAC"))
    words = informative_kmers(codes, np.eye(2)[labels], 6, k=5, gaps=2)
    assert words.shape == (6, 4, 7)
    for word in map(spelt, words):
        fits = [
            all(c in (".", m[i + j]) for j, c in enumerate(word))
            for m in motif
            for i in range(len(m) - len(word) + 1)
        ]
        assert any(fits), word
    alone = informative_kmers(codes, np.eye(2)[labels], 10**6, k=2, gaps=0)
    assert len(alone) == 10, "16 words of two letters, of each pair of strands one"
    assert informative_kmers(codes, np.ones((400, 1)), 5).shape == (0, 4, 8)


def test_a_filter_that_begins_as_a_word_answers_to_it():
    torch.manual_seed(0)
    tokenizer = ConvTokens(SequenceConfig(tokenizer="conv", kernel_size=9, n_filters=3))
    untouched = tokenizer.conv.weight[2].clone()
    word = np.zeros((4, 6), np.float32)
    for place, letter in enumerate("TG.CAT"):
        word["ACGT".find(letter), place] = letter != "."
    tokenizer.begin_with(np.stack([word, word]))
    torch.testing.assert_close(tokenizer.conv.weight[2], untouched)

    def answer(text):
        codes = torch.from_numpy(encode_nucleotides(text).astype(np.int64))[None]
        return tokenizer.conv(tokenizer.one_hot(codes, codes < 4)).amax(-1)[0, 0]

    background = "A" * 12
    whole, less, none = (
        answer(background + middle + background) for middle in ("TGGCAT", "TGGCAA", "CCGTTA")
    )
    assert whole > less > none
    assert whole > 0


def test_few_sequences_lead_to_more_with_words_to_begin_with():
    X, y = with_motif(120, "TGACGTACCA")
    asked, wanted = with_motif(200, "TGACGTACCA", seed=1)
    options = TINY | {"pooling": "max", "max_epochs": 12, "learning_rate": 0.003}
    scores = {}
    for init in ("random", "kmers"):
        tokenizer = ConvTokenizer(n_filters=16, kernel_size=11, init=init)
        model = TitansClassifier(**options | {"tokenizer": tokenizer}).fit(X, y)
        scores[init] = model.score(asked, wanted)
    assert scores["kmers"] > max(0.8, scores["random"] + 0.1), scores


@pytest.mark.parametrize("n_bins", [0, 3])
def test_values_labels_and_tracks_can_begin_with_words(n_bins):
    X, y = with_motif(40, "TGACGT")
    options = TINY | {"tokenizer": ConvTokenizer(init="kmers"), "max_epochs": 1}
    values = y[:, None, None] * np.ones((1, n_bins, 1)) if n_bins else y.astype(float)
    assert np.isfinite(TitansRegressor(**options).fit(X, values).predict(X)).all()
    labels = np.stack([y, 1 - y], 1)
    assert TitansClassifier(**options).fit(X, labels).predict(X).shape == (40, 2)


def test_bad_filter_init_is_named(tmp_path):
    with pytest.raises(ValueError, match="init is 'motifs'; choose one of"):
        ConvTokenizer(init="motifs")
    X, y = with_motif(20, "TGACGT")
    TitansClassifier(**TINY | {"tokenizer": "conv"}, max_epochs=1).fit(X, y).save(tmp_path / "m")
    tokenizer = ConvTokenizer(init="kmers")
    with pytest.raises(ValueError, match="the filters come from the pretrained model"):
        TitansClassifier(tokenizer=tokenizer, pretrained=tmp_path / "m").fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 11}, "k is 11"),
        ({"gaps": -1}, "gaps is -1"),
    ],
)
def test_bad_words_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        KmerVectorizer(**params).fit(["ACGT"])


class Columnar:
    def __init__(self, values):
        self._values = values

    def to_pandas(self):
        return self._values


def test_sequences_are_taken_as_classifiers_take_them(tmp_path):
    listed = ["ACGTTGCA", "TTTTTTTT", "GGNACGTA"]
    expected = KmerVectorizer(3).transform(listed)
    frame = pd.DataFrame({"sequence": listed}, index=[7, 8, 9])
    column = frame["sequence"]
    ways = [np.array(listed), np.array(listed, object)[:, None], column, pd.Index(listed), frame]
    ways += [column.astype("string"), column.astype("category"), Columnar(frame), Columnar(column)]
    ways += [tuple(listed), np.array([encode_nucleotides(s) for s in listed])]
    for way in ways:
        assert (KmerVectorizer(3).transform(way) != expected).nnz == 0
    pytest.importorskip("pyfaidx")
    path = tmp_path / "g.fa"
    path.write_text(">one\n" + "".join(listed) + "\n")
    places = pd.DataFrame({"chrom": "one", "start": [0, 8, 16], "end": [8, 16, 24]})
    assert (KmerVectorizer(3).transform(FastaRegions(path, places)) != expected).nnz == 0


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("ACGT", TypeError, "X is a str; give a list, array or Series of str"),
        ({"ACGT"}, TypeError, "X is a set; give a list"),
        (pd.DataFrame({"a": ["AC"], "b": ["GT"]}), ValueError, r"X has shape \(1, 2\); give N"),
        (pd.DataFrame({"a": [1]}), TypeError, r"X\[0\] is 1, a int; give a str"),
        (["ACGT", None], TypeError, r"X\[1\] is None, a NoneType; give a str"),
        (["ACGT", "ACE"], ValueError, r"X\[1\]: the sequence has 'E' at position 2"),
    ],
)
def test_what_is_no_sequence_is_named(X, error, message):
    with pytest.raises(error, match=message):
        KmerVectorizer(3).transform(X)


def test_marked_letters_and_missing_values_tell_too():
    sequences, labels = with_motif(400, "TGACGTAC")
    codes = [encode_nucleotides(s) for s in sequences]
    marked = [encode_nucleotides(s.lower(), "flag") for s in sequences]
    words = informative_kmers(codes, np.eye(2)[labels], 6, k=5, gaps=2)
    np.testing.assert_array_equal(
        informative_kmers(marked, np.eye(2)[labels], 6, k=5, gaps=2), words
    )
    some = labels.astype(float)[:, None]
    some[::7] = np.nan
    known = ~np.isnan(some[:, 0])
    found = informative_kmers(codes, some, 6, k=5, gaps=2)
    alone = informative_kmers(
        [c for c, k in zip(codes, known, strict=True) if k], some[known], 6, k=5
    )
    assert {spelt(w) for w in found} & {spelt(w) for w in alone}


def test_letters_are_counted_in_bounded_parts(monkeypatch):
    rng = np.random.default_rng(2)
    sequences = [random_letters(rng, n) for n in (90, 3, 250, 10, 10)]
    whole = KmerVectorizer(3).transform(sequences)
    monkeypatch.setattr("titans_ts.genomics.kmers.BLOCK_LETTERS", 60)
    assert (KmerVectorizer(3).transform(sequences) != whole).nnz == 0


def pairs_and_parts(sequence, positions):
    """The features of positions of one sequence, letter by letter, each kind with a norm of 1."""
    pairs, parts = np.zeros((positions, 16)), np.zeros((16, 256))
    sequence = sequence.upper()[:positions]
    for k, found, n in ((2, pairs, positions), (4, parts, 16)):
        for i in range(len(sequence) - k + 1):
            word = sequence[i : i + k]
            if set(word) <= set("ACGT"):
                number = sum("ACGT".index(c) * 4 ** (k - 1 - j) for j, c in enumerate(word))
                found[i * n // positions, number] += 1
    return pairs, parts


@pytest.mark.parametrize("both", [False, True])
def test_positions_are_features_beside_the_counts(both, monkeypatch):
    rng = np.random.default_rng(0)
    sequences = [random_letters(rng, n, "ACGTNacgt") for n in (1, 3, 40, 55, 200)]
    counter = KmerVectorizer(2, 1, both, positions=48).fit([])
    counts = KmerVectorizer(2, 1, both).fit_transform(sequences).toarray()
    features = counter.transform(sequences).toarray()
    assert features.shape == (5, counter.n_features_)
    np.testing.assert_array_equal(features[:, : counts.shape[1]], counts)
    for row, sequence, own in zip(features[:, counts.shape[1] :], sequences, counts, strict=True):
        pairs, parts = pairs_and_parts(sequence, 48)
        if both:
            other = pairs_and_parts(reverse_complement(sequence), 48)
            pairs, parts = pairs + other[0], parts + other[1]
        norm = np.linalg.norm(pairs)
        parts = parts * (norm / max(np.linalg.norm(parts), 1e-12))
        expected = np.concatenate([pairs.ravel(), parts.ravel()])
        expected *= np.linalg.norm(own) / max(np.linalg.norm(expected), 1e-12)
        np.testing.assert_allclose(row, expected, atol=1e-5)
    monkeypatch.setattr("titans_ts.genomics.kmers.BLOCK_LETTERS", 20)
    np.testing.assert_allclose(counter.transform(sequences).toarray(), features, atol=1e-5)
    with pytest.raises(ValueError, match="positions is -1; it must not be negative"):
        KmerVectorizer(positions=-1).fit([])
