"""TitansClassifier: learning, unequal lengths, labels, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import VotingClassifier

from tests.support import rounding, small_dna_settings
from titans_ts import (
    BPETokenizer,
    ConvTokenizer,
    KmerTokenizer,
    NucleotideTokenizer,
    TitansClassifier,
)
from titans_ts.config import BackboneConfig, SequenceConfig
from titans_ts.datasets import FastaRegions, reverse_complement
from titans_ts.nn import DNA_TOKENIZERS
from titans_ts.nn.dna.nucleotides import SHARES, encode_nucleotides, other_strand


def small(**params):
    return TitansClassifier(**(small_dna_settings(max_epochs=2) | params))


def planted(n, rng, motif="TATAAT"):
    """Random sequences of 20 to 60 letters; every second holds the motif somewhere."""
    sequences, labels = [], np.arange(n) % 2
    for label in labels:
        letters = rng.choice(list("ACGT"), rng.integers(20, 60))
        if label:
            place = rng.integers(0, len(letters) - len(motif))
            letters[place : place + len(motif)] = list(motif)
        sequences.append("".join(letters))
    return sequences, labels


@pytest.fixture(scope="module")
def fitted():
    sequences, labels = planted(60, np.random.default_rng(0))
    return small().fit(sequences, np.where(labels, "promoter", "other"))


def test_it_finds_a_planted_motif():
    rng = np.random.default_rng(0)
    sequences, labels = planted(900, rng)
    classifier = small(max_epochs=8, learning_rate=0.01, batch_size=32).fit(sequences, labels)
    assert classifier.score(*planted(300, rng)) > 0.9


def test_probabilities_do_not_depend_on_what_stands_beside_a_sequence(fitted):
    """Padding is masked: alone, in a batch and in another order, the answer is the same."""
    sequences = ["ACGTACGT", "A", "GGGTATAATCC" * 9, "TTTTTTTTTTTTTTTTTTTTTTTT"]
    together = fitted.predict_proba(sequences)
    np.testing.assert_allclose(together.sum(1), 1)
    alone = np.concatenate([fitted.predict_proba([s]) for s in sequences])
    np.testing.assert_allclose(together, alone, **rounding(1))  # float32 sums in another order
    np.testing.assert_allclose(fitted.predict_proba(sequences[::-1])[::-1], together, **rounding(1))
    assert list(fitted.predict(sequences)) == list(fitted.classes_[together.argmax(1)])


def test_case_u_and_ambiguous_letters(fitted):
    forms = ["ACGTTNN", "acgttnn", "ACGUUnN"]
    p = fitted.predict_proba(forms)
    np.testing.assert_allclose(p, p[[0, 0, 0]], atol=1e-6)  # rows may be summed in other orders
    np.testing.assert_array_equal(encode_nucleotides("ACGTNacgtnUuRYSWKMBDHV")[10:12], [3, 3])
    # a letter counts as a share of all that it may stand for
    shares = SHARES[encode_nucleotides("ARNB-")]
    expected = [[1, 0, 0, 0], [0.5, 0, 0.5, 0], [0.25] * 4, [0, 1 / 3, 1 / 3, 1 / 3], [0] * 4]
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_places_that_are_not_there_are_not_seen(fitted):
    whole = fitted.predict_proba(["ACGTTACG"])
    np.testing.assert_allclose(fitted.predict_proba(["ACGTTACG---"]), whole, **rounding(1))
    # in front they only move the rest on, and are no N
    masked, unknown = fitted.predict_proba(["----ACGTTACG", "NNNNACGTTACG"])
    assert not np.allclose(masked, unknown, atol=1e-5)


def test_the_other_strand():
    sequences = ["AACCGTRYKMBDHVSWN-", "ACG"]
    codes = [encode_nucleotides(s) for s in sequences]
    padded = torch.zeros(2, 18, dtype=torch.long)
    for row, code in zip(padded, codes, strict=True):
        row[: len(code)] = torch.from_numpy(code.astype(int))
    lengths = torch.tensor([18, 3])
    back = other_strand(padded, lengths)
    for row, sequence in zip(back, sequences, strict=True):
        expected = encode_nucleotides(reverse_complement(sequence))
        assert row[: len(sequence)].tolist() == expected.tolist()
    assert torch.equal(other_strand(back, lengths), padded)


def stranded(n, motif, strands):
    """Random sequences; in every second one a motif, on either strand or on the first."""
    rng = np.random.default_rng(0)
    sequences = []
    for i in range(n):
        letters = "".join(rng.choice(list("ACGT"), 30))
        word = motif if strands == 1 or rng.random() < 0.5 else reverse_complement(motif)
        sequences.append(letters[:9] + word + letters[9:] if i % 2 else letters + "ACGTAA")
    return sequences, np.arange(n) % 2


def test_both_strands_have_one_answer():
    sequences, labels = stranded(40, "TTGACA", 2)
    fitted = small(rc="average", max_epochs=2).fit(sequences, labels)
    other = [reverse_complement(s) for s in sequences]
    p = fitted.predict_proba(sequences)
    np.testing.assert_allclose(fitted.predict_proba(other), p, **rounding(1))
    np.testing.assert_allclose(p.sum(1), 1)
    alone = small(rc="augment", max_epochs=2).fit(sequences, labels)
    assert not np.allclose(alone.predict_proba(other), alone.predict_proba(sequences), atol=1e-4)


def test_the_strand_is_chosen_by_what_is_held_out():
    # the label is which strand the motif is on: whoever averages both cannot tell
    sequences, _ = stranded(200, "TTGACATTGACA", 1)
    some = [s for s in sequences if "TTGACATTGACA" in s]
    mixed = some + [reverse_complement(s) for s in some]
    labels = np.repeat([0, 1], len(some))
    options = {
        "max_epochs": 15,
        "learning_rate": 0.01,
        "training_options": {"validation_fraction": 0.3},
    }
    chosen = small(rc="auto", **options).fit(mixed, labels)
    assert chosen.model_.config.rc == "none"
    assert chosen.score(mixed, labels) > 0.9
    with pytest.raises(ValueError, match="rc is 'auto', which needs a validation part, but none"):
        small(rc="auto", training_options={"validation_fraction": 0}).fit(mixed, labels)


def test_rare_classes_may_count_more():
    rng = np.random.default_rng(0)
    letters = rng.choice(list("ACGT"), (440, 20))  # nothing to learn from but how many there are
    sequences, unseen = np.split(np.array(["".join(row) for row in letters]), [240])
    labels = np.array(["rare", *["common"] * 5] * 40)
    for weight, share in ((None, 1 / 6), ("balanced", 1 / 2), ({"rare": 15}, 3 / 4)):
        options = {
            "max_epochs": 8,
            "learning_rate": 0.005,
            "training_options": {"validation_fraction": 0},
        }
        fitted = small(class_weight=weight, **options).fit(sequences, labels)
        assert fitted.predict_proba(unseen)[:, 1].mean() == pytest.approx(share, abs=0.06)


def test_seeds_are_averaged_by_scikit_learn(fitted):
    sequences, labels = planted(60, np.random.default_rng(0))
    labels = np.where(labels, "promoter", "other")
    seeds = [(str(n), small(random_state=n)) for n in (0, 1)]
    together = VotingClassifier(seeds, voting="soft").fit(sequences, labels)
    shares = [one.predict_proba(sequences[:5]) for one in together.estimators_]
    np.testing.assert_array_equal(shares[0], fitted.predict_proba(sequences[:5]))
    assert not np.allclose(shares[0], shares[1])
    np.testing.assert_allclose(together.predict_proba(sequences[:5]), np.mean(shares, 0))
    expected = together.classes_[np.mean(shares, 0).argmax(1)]
    np.testing.assert_array_equal(together.predict(sequences[:5]), expected)


def test_weights_that_weigh_nothing():
    for weight in ({0: -1}, {0: 0}, {0: np.nan}):
        with pytest.raises(
            ValueError, match="class_weight is .*; weights must be positive and finite"
        ):
            small(class_weight=weight).fit(*GOOD)


def test_places_of_a_genome_are_sequences(tmp_path):
    pytest.importorskip("pyfaidx")
    path = tmp_path / "small.fa"
    sequences, labels = stranded(20, "TTGACA", 1)
    path.write_text(">one\n" + "".join(sequences) + "\n")
    start = 36 * np.arange(20)
    places = pd.DataFrame({"chrom": "one", "start": start, "end": start + 36})
    regions = FastaRegions(path, places)
    fitted = small().fit(regions, labels)
    np.testing.assert_array_equal(fitted.predict_proba(regions), fitted.predict_proba(sequences))


def test_list_array_and_series_are_the_same(fitted):
    sequences = ["ACGT", "TTTTAA"]
    expected = fitted.predict_proba(sequences)
    for form in (np.array(sequences), np.array(sequences, dtype=object), pd.Series(sequences)):
        np.testing.assert_array_equal(fitted.predict_proba(form), expected)


@pytest.mark.parametrize("labels", [[0, 1, 2] * 8, [True, False, True] * 8, list("xyz") * 8])
def test_labels_of_any_kind_come_back(labels, tmp_path):
    sequences = ["ACGT", "TTTTAA", "GGGGGGG"] * 8
    classifier = small(max_epochs=1).fit(sequences, labels)
    np.testing.assert_array_equal(classifier.classes_, np.unique(labels))
    classifier.save(tmp_path / "m")
    loaded = TitansClassifier.load(tmp_path / "m")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(sequences), classifier.predict(sequences))
    assert set(loaded.predict(sequences)) <= set(labels)


def test_a_class_with_one_sequence_trains():
    classifier = small(max_epochs=1).fit(["ACGT"] * 10 + ["TTTT"], ["a"] * 10 + ["b"])
    assert list(classifier.classes_) == ["a", "b"]


def test_a_token_sees_its_nucleotide_and_those_before_it():
    config = SequenceConfig(kernel_size=3, backbone=BackboneConfig(d_model=8))
    tokenizer = DNA_TOKENIZERS["nucleotide"](config)
    codes = torch.tensor([[0, 1, 2, 3, 0, 1]])
    there = torch.ones_like(codes, dtype=torch.bool)
    before, _ = tokenizer(codes, there)
    codes[0, 3] = 2
    moved = (tokenizer(codes, there)[0] - before).abs().amax((0, 2)) > 0
    assert moved.tolist() == [False, False, False, True, True, True]


GOOD = ["ACGT", "TTTT"], [0, 1]
FIT = {
    "string": ("ACGT", [0], TypeError, "X is a str; give a list, array or Series"),
    "not str": (["ACGT", 3], [0, 1], TypeError, r"X\[1\] is 3, a int; give a str"),
    "nan": (["ACGT", np.nan], [0, 1], TypeError, r"X\[1\] is nan"),
    "none": ([], [], ValueError, r"X has shape \(0,\); give N >= 1 sequences"),
    "empty": (["ACGT", ""], [0, 1], ValueError, r"X\[1\]: the sequence is empty; drop it"),
    "letter": (["AC*T", "A"], [0, 1], ValueError, r"X\[0\]: the sequence has '\*' at position 2"),
    "gaps": (
        ["ACT", "--"],
        [0, 1],
        ValueError,
        r"X\[1\]: the sequence is nothing but \"-\"; drop it",
    ),
    "unicode": (["ACGT", "AĀ"], [0, 1], ValueError, r"X\[1\]: the sequence has 'Ā' at position 1"),
    "count": (["A", "C"], [0, 1, 1], ValueError, r"y has shape \(3,\), but X has 2 sequences"),
    "label": (["A", "C"], [0, np.nan], ValueError, r"y\[1\] is missing"),
    "one class": (
        ["A", "C"],
        [1, 1],
        ValueError,
        "y has only one class, .*1.*; give at least two",
    ),
    "continuous": (["A", "C"], [0.1, 0.7], ValueError, "continuous"),
}


def test_labels_of_a_validation_part_are_as_those_of_training():
    X, y = ["ACGT"] * 4, [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"validation y has shape \(\), for 4 sequences; give one"):
        small().fit(X, y, validation=(X, 3))
    with pytest.raises(ValueError, match=r"validation y has shape \(4, 2\); give one label each"):
        small().fit(X, y, validation=(X, [[0, 1]] * 4))
    many = pd.DataFrame([[0, 1], [1, 0], [1, 1], [0, 0]], columns=["a", "a"])
    with pytest.raises(
        ValueError, match="y has several columns 'a'; give every label another name"
    ):
        small().fit(X, many)


@pytest.mark.parametrize("name", FIT)
def test_bad_sequences_and_labels(name):
    X, y, error, message = FIT[name]
    with pytest.raises(error, match=message):
        small().fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"tokenizer": "wordpiece"},
            r"tokenizer is 'wordpiece'; choose one of \['bpe', 'conv', 'kmer'",
        ),
        ({"tokenizer": NucleotideTokenizer(kernel_size=0)}, "kernel_size is 0"),
        ({"rc": "both"}, r"rc is 'both'; choose one of \['none', 'augment', 'average', 'equiv"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        small(**params).fit(*GOOD)


def test_several_labels_a_sequence(tmp_path):
    rng = np.random.default_rng(0)
    sequences, labels = [], rng.integers(0, 2, (300, 2))
    for row in labels:
        letters = "".join(rng.choice(list("ACGT"), 30))
        motifs = "".join(
            m if there else "ACACAC" for m, there in zip(("TATAAT", "GGGCGG"), row, strict=True)
        )
        sequences.append(letters[:15] + motifs + letters[15:])
    frame = pd.DataFrame(labels, columns=["tata", "gc"])
    options = {"n_layers": 0, "max_epochs": 12, "learning_rate": 0.01, "batch_size": 32}
    fitted = small(**options).fit(sequences, frame)
    assert list(fitted.classes_) == ["tata", "gc"]
    p = fitted.predict_proba(sequences)
    np.testing.assert_array_equal(fitted.predict(sequences), p > 0.5)
    assert ((p > 0.5) == labels).mean() > 0.9
    fitted.save(tmp_path / "m")
    loaded = TitansClassifier.load(tmp_path / "m")
    np.testing.assert_allclose(loaded.predict_proba(sequences), p, atol=1e-6)
    rare = np.stack([np.arange(60) % 6 == 0, np.arange(60) % 2], 1).astype(int)
    letters = ["".join(rng.choice(list("ACGT"), 20)) for _ in rare]
    options = {
        "max_epochs": 20,
        "learning_rate": 0.005,
        "training_options": {"validation_fraction": 0},
    }
    p = small(class_weight="balanced", **options).fit(letters, rare).predict_proba(letters)
    np.testing.assert_allclose(p.mean(0), 0.5, atol=0.12)
    with pytest.raises(ValueError, match=r"class_weight is \{0: 1\}; for several labels"):
        small(class_weight={0: 1}).fit(letters, rare)
    with pytest.raises(ValueError, match="give a row of 2 values, 0 or 1, per sequence"):
        small().fit(letters, rare + 1)


def test_whole_groups_are_held_out(monkeypatch):
    from titans_ts.genomics import sequence_estimator as module

    seen = []
    monkeypatch.setattr(
        module.SequenceEstimator,
        "_trained",
        lambda self, data, held_out, *rest: (
            seen.append((data.lengths, held_out.lengths))
            or (torch.nn.Identity(), [{"validation_loss": 1.0}])
        ),
    )
    chromosomes = np.repeat(list("abcdefghij"), 4)
    labels = np.arange(40) % 2
    small().fit(["A" * (1 + i // 4) for i in range(40)], labels, groups=chromosomes)
    kept, held_out = (set(lengths) for lengths in seen[0])  # a length a chromosome
    assert len(held_out) == 2
    assert not kept & held_out
    with pytest.raises(ValueError, match=r"groups has shape \(3,\), but X has 40 sequences"):
        small().fit(["ACGT"] * 40, labels, groups=[1, 2, 3])
    with pytest.raises(ValueError, match="groups are all 'a'; a part cannot be held out"):
        small().fit(["ACGT"] * 40, labels, groups=["a"] * 40)


def test_a_validation_part_may_be_given():
    sequences, labels = stranded(60, "TTGACATTGACA", 1)
    options = {"max_epochs": 6, "learning_rate": 0.01}
    wrong = small(**options).fit(sequences, labels, validation=(sequences, 1 - labels))
    right = small(**options).fit(sequences, labels, validation=(sequences, labels))
    best = [np.argmin([h["validation_loss"] for h in f.history_]) for f in (wrong, right)]
    assert best[0] < best[1]  # what the other labels like least is learning
    with pytest.raises(
        ValueError, match="validation y has '6', which is none of the classes; drop it"
    ):
        small().fit(sequences, labels, validation=(sequences, labels + 6))
    with pytest.raises(ValueError, match=r"validation y has shape \(1,\), for 60"):
        small().fit(sequences, labels, validation=(sequences, [0]))
    with pytest.raises(TypeError, match=r"validation X\[0\] is 3"):
        small().fit(sequences, labels, validation=([3], [0]))


def test_long_sequences_are_cropped_in_training_and_read_in_pieces(monkeypatch):
    from titans_ts.genomics import dataset as module
    from titans_ts.genomics import inference

    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list(letters), 900)) for letters in ("ACGT", "AACT") * 20]
    longest = []
    plain = module.pad_codes
    monkeypatch.setattr(
        module, "pad_codes", lambda s: longest.append(max(len(x) for x in s)) or plain(s)
    )
    options = {"stride": 4, "max_length": 100, "max_epochs": 8, "learning_rate": 0.01}
    fitted = small(training_options={"validation_fraction": 0}, **options).fit(
        sequences, [0, 1] * 20
    )
    assert set(longest) == {100}
    whole = fitted.predict_proba(sequences)
    assert (whole.argmax(1) == [0, 1] * 20).mean() > 0.9
    monkeypatch.setattr(inference, "BATCH_TOKENS", 64)
    monkeypatch.setattr(inference, "pad_codes", None)  # not needed: a sequence comes alone
    np.testing.assert_allclose(fitted.predict_proba(sequences), whole, atol=1e-5)
    with pytest.raises(ValueError, match="max_length is 0; give a whole number"):
        small(max_length=0).fit(*GOOD)


@pytest.mark.parametrize(
    "params",
    [
        {"tokenizer": ConvTokenizer(n_filters=8), "stride": 2},
        {"tokenizer": KmerTokenizer(k=3)},
        {"tokenizer": BPETokenizer(n_merges=8)},
        {"pooling": "flatten", "bidirectional": "separate", "soft_masked": "flag"},
    ],
)
def test_every_kind_is_saved_whole(params, tmp_path):
    sequences, labels = planted(40, np.random.default_rng(0))
    fitted = small(**params).fit(sequences, labels)
    fitted.save(tmp_path / "m")
    loaded = TitansClassifier.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict_proba(sequences), fitted.predict_proba(sequences))


@pytest.mark.parametrize("pooling", ["attention", "max", "mean", "last"])
def test_a_stretch_with_nothing_in_it_is_learned_from_in_peace(pooling):
    rng = np.random.default_rng(0)
    sequences = [
        "ACGTACGTAC" + "n" * 100 + "".join(rng.choice(list("ACGT"), 10)) for _ in range(16)
    ]
    options = {"soft_masked": "mask", "max_length": 16, "pooling": pooling}
    fitted = small(**options).fit(sequences, [0, 1] * 8)
    assert np.isfinite(fitted.predict_proba(sequences)).all()


def test_a_longer_sequence_may_be_held_out():
    sequences = ["ACGT" * n for n in range(1, 13)]
    for seed in range(4):
        small(pooling="flatten", max_epochs=1, random_state=seed).fit(sequences, [0, 1] * 6)


def test_the_held_out_part_is_cropped_too(monkeypatch):
    from titans_ts.genomics import dataset as module

    longest, plain = [], module.pad_codes
    monkeypatch.setattr(
        module, "pad_codes", lambda s: longest.append(max(len(x) for x in s)) or plain(s)
    )
    small(max_length=50).fit(["ACGT" * 100] * 20, [0, 1] * 10)
    assert set(longest) == {50}


def test_groups_of_unequal_size():
    from titans_ts.genomics.splitting import hold_out

    groups = np.repeat(list("abcdefghij"), [1000, *[100] * 9])
    for seed in range(8):
        _, held_out = hold_out(len(groups), 380, seed, groups=groups)
        assert 300 <= len(held_out) <= 400
        _, held_out = hold_out(51, 1, seed, groups=np.array(["a"] * 50 + ["b"]))
        assert held_out.tolist() == [50]
    classes = np.repeat([0, 1, 2], 10)
    with pytest.raises(ValueError, match="groups hold out every sequence of a class"):
        hold_out(30, 10, 0, classes=classes, groups=classes.astype(str))
    sequences, labels = ["ACGT"] * 30, classes
    with pytest.raises(ValueError, match="groups and validation both define the validation part"):
        small().fit(sequences, labels, groups=classes, validation=(sequences, labels))


def test_the_only_group_of_a_class_is_not_held_out():
    from titans_ts.genomics.splitting import hold_out

    groups, classes = np.repeat(list("abcde"), 4), np.resize([0, 1], 20)
    classes[0] = 2  # in group a alone
    for seed in range(20):
        kept, held_out = hold_out(20, 4, seed, classes=classes, groups=groups)
        assert len(held_out) == 4
        assert set(classes[kept]) == {0, 1, 2}


def test_groups_are_held_out_though_a_share_is_less_than_a_sequence(monkeypatch):
    seen = []
    monkeypatch.setattr(
        TitansClassifier,
        "_trained",
        lambda self, data, held_out, *rest: (
            seen.append(len(held_out)) or (torch.nn.Identity(), [{}])
        ),
    )
    groups = np.repeat(list("abcdefghij"), 2)
    for fraction, expected in ((0.01, 2), (0, 0)):
        small(training_options={"validation_fraction": fraction}).fit(
            ["ACGT"] * 20, [0, 1] * 10, groups=groups
        )
        assert seen.pop() == expected
    with pytest.raises(ValueError, match=r"groups\[3\] is missing; give every sequence one"):
        small().fit(["ACGT"] * 20, [0, 1] * 10, groups=["a", "b", "c", None] * 5)


def test_what_is_held_out_is_thinned_at_random():
    from titans_ts.genomics.dataset import SequenceDataset

    labelled = SequenceDataset([np.zeros(3, np.uint8)] * 100, np.arange(100) % 2)
    assert len(labelled.subsample(100, 0)) == 100
    some = labelled.subsample(50, 0)
    assert len(some) == 50
    assert 10 < some.target.sum() < 40


def test_the_longest_sequence_is_known_though_it_is_not_asked():
    X, y = ["ACGT" * 5] * 39 + ["ACGT" * 8], [0, 1] * 20
    options = {
        "pooling": "flatten",
        "training_options": {"max_steps_per_epoch": 1, "validation_fraction": 0.5},
        "batch_size": 2,
    }
    for seed in range(4):
        fitted = small(
            **options,
            random_state=seed,
            max_epochs=1,
        )
        assert fitted.fit(X, y).predict(X).shape == (40,)


def test_a_class_that_is_too_rare_to_be_drawn_by_is_learned():
    from titans_ts.genomics.splitting import hold_out

    classes = np.array([2, *[0, 1] * 10])
    for seed in range(20):
        kept, held_out = hold_out(21, 5, seed, classes=classes)
        assert 0 in kept
        assert 4 <= len(held_out) <= 5
        assert sorted([*kept, *held_out]) == list(range(21))


def test_weights_of_numbered_classes_are_saved(tmp_path):
    fitted = small(class_weight={0: 1, 1: 2}).fit(["ACGT", "TTTT"] * 10, [0, 1] * 10)
    fitted.save(tmp_path / "m")
    assert TitansClassifier.load(tmp_path / "m").class_weight == {0: 1, 1: 2}


def test_what_was_fitted_reads_as_it_was_fitted(fitted):
    before = fitted.predict_proba(["acgtACGT"])
    again = TitansClassifier(**fitted.get_params(deep=False)).set_params(soft_masked="mask")
    for name in ("model_", "classes_", "history_", "kmer_model_"):
        setattr(again, name, getattr(fitted, name))
    np.testing.assert_array_equal(again.predict_proba(["acgtACGT"]), before)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_length": 10.5}, "max_length is 10.5; give a whole number"),
        ({"max_length": 10, "pooling": "flatten"}, "but the pooling 'flatten' need whole"),
        ({"freeze": "backbone"}, "freeze is 'backbone', but there is no pretrained model"),
    ],
)
def test_parameters_that_do_not_go_together(params, message):
    with pytest.raises(ValueError, match=message):
        small(**params).fit(*GOOD)
