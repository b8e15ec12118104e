"""What a fit chooses if no parameter is given: from lengths, numbers and the validation part."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from tests.support import random_dna, small_settings
from titans_ts import (
    ConvTokenizer,
    KmerModel,
    KmerTokenizer,
    NucleotideTokenizer,
    ResidualTokenizer,
    TitansClassifier,
    TitansRegressor,
)
from titans_ts.config import SEQUENCE_PRESETS, SequenceCandidate, TrainingConfig
from titans_ts.datasets import reverse_complement
from titans_ts.genomics import sequence_estimator as module
from titans_ts.genomics.dataset import SequenceDataset
from titans_ts.genomics.defaults import (
    Look,
    default_epochs,
    default_kmer_model,
    network_defaults,
    quick_look,
)
from titans_ts.genomics.kmer_model import fit_linear
from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.nn.dna.nucleotides import encode_nucleotides

MOTIF = "TTGACATC"
SMALL = small_settings(d_model=8, n_heads=1)
STEPS = "training_options__max_steps_per_epoch"
OPEN = {"tokenizer", "stride", "position", "rc", "pooling", "kmer_model", "learning_rate"}


def planted(n, how, length=60, seed=0):
    """Return sequences and classes; class 1 has a motif, class 0 another one.

    `how` is "one strand", "either strand" (a reverse complement half of the time), or "position": both
    classes have the motif, at different positions.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    sequences = []
    for letters, label in zip(random_dna(n, length, seed=rng), labels, strict=True):
        motif, place = MOTIF, int(rng.integers(0, length - len(MOTIF)))
        if how == "position":
            place = 10 if label else 40
        elif how == "one strand":
            motif = motif if label else reverse_complement(motif)
        else:
            motif = motif if label else "GGCATTAC"
            motif = motif if rng.random() < 0.5 else reverse_complement(motif)
        sequences.append(letters[:place] + motif + letters[place + len(motif) :])
    return sequences, labels


def look_at(how, length=60):
    sequences, labels = planted(600, how, length)
    codes = [encode_nucleotides(s) for s in sequences]
    parts = SequenceDataset(codes[:400], labels[:400]), SequenceDataset(codes[400:], labels[400:])
    return quick_look(*parts, "classes", 2, seed=0)


@pytest.mark.parametrize(
    ("how", "strands", "with_positions"),
    [("one strand", "none", False), ("either strand", "average", False), ("position", None, True)],
)
def test_a_look_finds_strands_and_positions(how, strands, with_positions):
    look = look_at(how)
    assert (look.n, look.length, look.equal) == (400, 60, True)
    assert set(look.losses) == {
        f"{strand}{more}"
        for strand in ("both strands", "one strand")
        for more in ("", ", positions")
    }
    assert strands is None or look.strands == strands
    assert (look.gain(look.strands) > 0.1) == with_positions
    positions = default_kmer_model(look, look.strands).positions
    assert positions == 60 if with_positions else positions in (0, 60)


def test_few_held_out_sequences_do_not_decide_alone():
    """20 of another kind among 220: the other sequences take part, in folds."""
    parts = []
    for n, how in ((200, "either strand"), (20, "one strand")):
        sequences, labels = planted(n, how)
        parts.append(SequenceDataset([encode_nucleotides(s) for s in sequences], labels))
    alone = fit_linear(
        KmerVectorizer(6, 0, True),
        *((part.sequences, part.target) for part in parts),
        "classes",
        2,
        refit=False,
    )
    look = quick_look(*parts, "classes", 2, seed=0)
    assert look.losses["both strands"] < 0.8 * alone.loss
    assert look == quick_look(*parts, "classes", 2, seed=0)
    others = quick_look(*parts, "classes", 2, seed=0, drawn=False)
    np.testing.assert_allclose(others.losses["both strands"], alone.loss, rtol=1e-3)


@pytest.mark.parametrize("given", ["groups", "validation"])
def test_held_out_sequences_of_another_kind_decide_alone(monkeypatch, given):
    """Relatives in several folds, or another species: what the folds show does not carry over."""
    drawn = []

    def look(*args, **kwargs):
        drawn.append(kwargs["drawn"])
        return quick_look(*args, **kwargs)

    monkeypatch.setattr(module, "quick_look", look)
    X, y = planted(80, "either strand")
    more = {"groups": np.arange(80) // 4, "validation": planted(40, "either strand", seed=1)}
    options = SMALL | {"kmer_model": None, "max_epochs": 1}
    TitansClassifier(**options).fit(X, y)
    TitansClassifier(**options).fit(X, y, **{given: more[given]})
    assert drawn == [True, False]


def test_a_look_needs_no_class_in_every_fold():
    sequences, labels = planted(300, "either strand", length=20)
    labels[0] = 2
    codes = [encode_nucleotides(s) for s in sequences]
    parts = SequenceDataset(codes[:280], labels[:280]), SequenceDataset(codes[280:], labels[280:])
    look = quick_look(*parts, "classes", 3, seed=0)
    assert np.isfinite(list(look.losses.values())).all()
    assert len(look.losses) == 4


def test_a_look_without_enough_held_out_sequences_decides_nothing():
    codes = [encode_nucleotides("ACGT" * 5)] * 40
    data = SequenceDataset(codes, np.arange(40) % 2)
    look = quick_look(data, SequenceDataset(codes[:4], np.arange(4) % 2), "classes", 2, seed=0)
    assert look == Look(40, 20, True)
    assert (look.strands, look.gain("none"), look.gain("average")) == ("none", 0.0, 0.0)


PLACED = {"one strand": 0.5, "one strand, positions": 0.2}


@pytest.mark.parametrize(
    ("look", "rc", "expected"),
    [
        (Look(25_000, 101), "average", (ResidualTokenizer(), 4, "max", True, 0.003)),
        (Look(24_999, 101), "average", (ConvTokenizer(256, init="kmers"), 4, "max", True, 0.005)),
        (Look(2000, 101), "average", (ConvTokenizer(512, init="kmers"), 4, "max", True, 0.003)),
        (Look(5000, 70, True, PLACED), "none", (NucleotideTokenizer(11), 1, "attention", True, 0.003)),
        (
            Look(5000, 500, True, PLACED),
            "none",
            (ConvTokenizer(256, init="kmers"), 8, "flatten", True, 0.005),
        ),
        (
            Look(30_000, 300, True, PLACED),
            "none",
            (ConvTokenizer(256, init="kmers"), 4, "flatten", True, 0.005),
        ),
        (Look(500, 2000), "none", (KmerTokenizer(6, all_offsets=True), 3, "mean", False, 0.01)),
        (Look(500, 9000), "none", (KmerTokenizer(6, all_offsets=True), 6, "mean", False, 0.01)),
    ],
)  # fmt: skip
def test_a_network_suits_the_sequences(look, rc, expected):
    found = network_defaults(look, rc)
    names = ("tokenizer", "stride", "pooling", "position", "learning_rate")
    assert tuple(found[name] for name in names) == expected
    assert found["max_length"] == {2000: 3072, 9000: 12_288}.get(look.length)


@pytest.mark.parametrize(("length", "stride"), [(101, 4), (800, 8)])
def test_a_tokenizer_that_is_given_has_its_own_settings(length, stride):
    look = Look(30_000, length)
    expected = {"tokenizer": "residual", "stride": stride, "pooling": "max", "position": True}
    expected |= {"learning_rate": 0.003, "max_length": None}
    assert network_defaults(look, "average", "residual") == expected


@pytest.mark.parametrize("n", [1, 40, 1000, 30_000, 10**6])
@pytest.mark.parametrize("length", [50, 300, 12_000])
@pytest.mark.parametrize(("tokenizer", "stride"), [("nucleotide", 1), ("conv", 8), ("kmer", 6)])
def test_training_reads_no_more_letters_than_the_preset_allows(n, length, tokenizer, stride):
    training, candidate = TrainingConfig(), SequenceCandidate()
    found = default_epochs([length] * n, tokenizer, stride, candidate, training)
    epochs = found.get("max_epochs") or training.schedule(-(-n // 64))[0]
    steps = found.get(STEPS, 1000)
    read = epochs * min(n, 64 * steps) * length
    factor = {"nucleotide": 1, "conv": 2, "kmer": 3}[tokenizer]
    assert read <= max(factor * candidate.letters, 3 * 64 * length) * 1.01
    assert epochs >= 3


def fitted(how="either strand", n=80, **params):
    X, y = planted(n, how)
    return TitansClassifier(**SMALL | params).fit(X, y), X, y


def test_what_was_chosen_can_be_read_repeated_and_saved(tmp_path):
    classifier, X, y = fitted()
    chosen = classifier.chosen_
    assert set(chosen) == OPEN  # the number of blocks and of epochs was given
    config = classifier.model_.config
    assert (config.tokenizer, config.stride) == ("conv", chosen["stride"])
    assert (config.rc, config.pooling) == (chosen["rc"], chosen["pooling"])
    assert classifier.kmer_model_.vectorizer.gaps == chosen["kmer_model"].gaps == 2
    assert all(classifier.get_params(deep=False)[name] in (None, "auto") for name in OPEN)
    found = classifier.predict_proba(X)
    again = clone(classifier).set_params(**chosen).fit(X, y)
    assert again.chosen_ == {}
    np.testing.assert_array_equal(again.predict_proba(X), found)
    classifier.save(tmp_path / "m")
    loaded = TitansClassifier.load(tmp_path / "m")
    assert loaded.chosen_ == chosen
    np.testing.assert_allclose(loaded.predict_proba(X), found, rtol=1e-6)


def test_a_given_value_is_kept_and_the_others_are_chosen_for_it():
    given = {"tokenizer": "kmer", "rc": "none", "kmer_model": KmerModel(3), "stride": 7}
    classifier, *_ = fitted(**given)
    config = classifier.model_.config
    assert (config.tokenizer, config.rc, config.stride) == ("kmer", "none", 7)
    assert classifier.kmer_model_.vectorizer.get_params() == {
        "k": 3,
        "gaps": 0,
        "both_strands": False,
        "positions": 0,
        "merged": True,
    }
    assert set(classifier.chosen_) == OPEN - set(given)
    assert config.pooling == "mean"  # what suits k-mers
    classifier, *_ = fitted(kmer_model=None, learning_rate=0.5)
    assert classifier.kmer_model_ is None
    assert not {"kmer_model", "learning_rate"} & set(classifier.chosen_)


def test_positions_decide_about_pooling_unless_parts_are_read():
    classifier, *_ = fitted("position", n=200)
    assert classifier.chosen_["kmer_model"] == KmerModel(gaps=2, positions=60)
    assert isinstance(classifier.chosen_["tokenizer"], NucleotideTokenizer)
    X, y = planted(200, "position", length=150)
    classifier = TitansClassifier(**SMALL, kmer_model=None).fit(X, y)
    assert classifier.model_.config.pooling == "flatten"
    cropped = TitansClassifier(**SMALL, kmer_model=None, max_length=100).fit(X, y)
    assert cropped.model_.config.pooling == "max"


def test_a_line_shows_what_was_chosen(capsys):
    _, X, y = fitted()
    assert "chosen" not in capsys.readouterr().err
    TitansClassifier(**SMALL | {"progress_bar": True}).fit(X, y)
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("chosen: "))
    assert "tokenizer=ConvTokenizer(n_filters=512, init='kmers'), stride=4" in line
    assert "kmer_model=KmerModel(gaps=2" in line


@pytest.mark.slow
def test_presets_differ_in_blocks_and_letters_and_the_best_network_is_kept(monkeypatch):
    X, y = planted(1000, "either strand")
    free = {k: v for k, v in SMALL.items() if k not in ("n_layers", "max_epochs")}
    tried = []

    def trained(self, data, held_out, time_limit, *rest):
        tried.append((self.n_layers, self.max_epochs, time_limit))
        losses = {1: 0.5, 0: 0.4}
        return original(self.set_params(max_epochs=1), data, held_out, None, *rest)[0], [
            {"validation_loss": losses[self.n_layers]}
        ]

    original = module.SequenceEstimator._trained
    monkeypatch.setattr(module.SequenceEstimator, "_trained", trained)
    for preset, expected in (("fast", [0]), ("default", [1]), ("best", [1, 0])):
        tried.clear()
        classifier = TitansClassifier(**free, preset=preset, time_limit=50).fit(X, y)
        assert [n for n, *_ in tried] == expected
        kept = classifier.chosen_["n_layers"]
        assert kept == classifier.model_.config.backbone.n_layers == expected[-1]
        assert all(0 < limit <= 50 / len(expected) for *_, limit in tried)
    tried.clear()
    TitansClassifier(**free | {"n_layers": 1, "max_epochs": 1}, preset="best").fit(X, y)
    assert tried == [(1, 1, None)]  # the two are the same
    # a single network of residual tokens has no block
    for preset, expected in (("fast", [0]), ("default", [0]), ("best", [1, 0])):
        tried.clear()
        TitansClassifier("residual", **free, preset=preset).fit(X, y)
        assert [n for n, *_ in tried] == expected
    tried.clear()
    TitansClassifier("residual", **free | {"n_layers": 1}).fit(X, y)
    assert [n for n, *_ in tried] == [1]
    letters = [SEQUENCE_PRESETS[name][-1].letters for name in ("fast", "default", "best")]
    assert letters == sorted(set(letters))
    with pytest.raises(ValueError, match="preset is 'zero-shot'; choose one of"):
        TitansClassifier(preset="zero-shot").fit(X, y)


def test_residual_tokens_without_a_block_read_twice_as_many_letters():
    epochs = [
        default_epochs([101] * 32_000, tokenizer, 4, SequenceCandidate(n_layers), TrainingConfig())
        for tokenizer, n_layers in (("conv", 0), ("residual", 1), ("residual", 0))
    ]
    assert epochs == [{"max_epochs": 3}, {"max_epochs": 3}, {"max_epochs": 6}]


def test_the_chosen_epochs_are_made(monkeypatch):
    monkeypatch.setattr(module, "default_epochs", lambda *_, **__: {"max_epochs": 4, STEPS: 2})
    X, y = planted(320, "either strand")
    free = {k: v for k, v in SMALL.items() if k != "max_epochs"}
    classifier = TitansClassifier(**free, training_options={"patience": 9}).fit(X, y)
    assert len(classifier.history_) == classifier.chosen_["max_epochs"] == 4
    assert classifier.options("training_options").max_steps_per_epoch == 1000  # is not changed
    assert classifier.max_epochs is None


def test_without_a_validation_part_there_is_no_k_mer_model():
    classifier, X, _ = fitted(training_options={"validation_fraction": 0})
    assert classifier.kmer_model_ is None
    assert classifier.chosen_["kmer_model"] is None
    assert np.isfinite(classifier.predict_proba(X)).all()


def test_few_long_sequences_are_classified_by_their_composition():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    X = []
    for label in y:  # of the same letters; every eighth pair differs
        pairs = rng.choice(["AC", "GT", "CA", "TG"], 1000)
        marked = rng.random(1000) < 0.12
        X.append("".join(np.where(marked, "ACAC" if label else "CACA", pairs)))
    classifier = TitansClassifier(**SMALL).fit(X[:60], y[:60])
    assert classifier.chosen_["tokenizer"] == KmerTokenizer(k=6, all_offsets=True)
    assert classifier.chosen_["max_length"] == 3072
    assert classifier.score(X[60:], y[60:]) == 1.0


def test_a_regressor_chooses_too_and_leaves_the_bins_of_a_track_alone():
    X, y = planted(80, "either strand")
    regressor = TitansRegressor(**SMALL).fit(X, y.astype(float))
    assert regressor.chosen_["kmer_model"].gaps == 2
    assert regressor.kmer_model_ is not None
    track = TitansRegressor(**SMALL).fit(X, np.repeat(y, 4).reshape(-1, 4, 1).astype(float))
    assert track.kmer_model_ is None
    assert (track.model_.config.tokenizer, track.model_.config.stride) == ("nucleotide", 1)
    assert track.predict(X).shape == (80, 4, 1)


def test_pretrained_tokens_are_kept_and_k_mers_are_added(tmp_path):
    X, y = planted(80, "either strand")
    TitansClassifier("kmer", **SMALL, stride=3).fit(X, y).save(tmp_path / "m")
    tuned = TitansClassifier(pretrained=tmp_path / "m", **SMALL).fit(X, y)
    assert (tuned.model_.config.tokenizer, tuned.model_.config.stride) == ("kmer", 3)
    assert tuned.kmer_model_ is not None


@pytest.mark.parametrize("preset", ["fast", "default", "best"])
def test_what_is_pretrained_is_trained_for_the_blocks_that_it_has(monkeypatch, tmp_path, preset):
    """Residual tokens read more letters without a block than with one, whatever the preset has."""
    X, y = planted(80, "either strand")
    TitansClassifier("residual", **SMALL, stride=4).fit(X, y).save(tmp_path / "m")
    found = []

    def epochs(lengths, tokenizer, stride, candidate, training, **options):
        found.append((tokenizer, stride, candidate.n_layers))
        return {"max_epochs": 1}

    monkeypatch.setattr(module, "default_epochs", epochs)
    free = {k: v for k, v in SMALL.items() if k not in ("n_layers", "max_epochs")}
    TitansClassifier(**free, preset=preset, pretrained=tmp_path / "m").fit(X, y)
    assert found == [("residual", 4, SMALL["n_layers"])]


@pytest.mark.parametrize(
    ("kind", "given", "pooling", "learning_rate"),
    [
        ("position", {}, "flatten", 0.001),
        ("position", {"max_length": 40}, "max", 0.003),
        ("position", {"pooling": "max"}, "max", 0.003),
        ("either strand", {}, "max", 0.003),
        ("either strand", {"pooling": "flatten"}, "flatten", 0.001),
    ],
)
def test_what_is_pretrained_learns_at_the_rate_of_its_pooling(kind, given, pooling, learning_rate):
    X, y = planted(120, kind)
    options = {"max_epochs": 1, "freeze": "backbone", "random_state": 0, "progress_bar": False}
    options |= {"rc": "none", "kmer_model": None} | given
    tuned = TitansClassifier(pretrained="dna-small", **options).fit(X, y)
    assert tuned.model_.config.pooling == pooling
    assert tuned.chosen_["learning_rate"] == learning_rate
