"""The k-mer model that is ensembled with a network."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from tests.support import random_dna, rounding, small_dna_settings
from titans_ts import KmerModel, TitansClassifier, TitansRegressor
from titans_ts.datasets import reverse_complement
from titans_ts.genomics.inference import network_logits
from titans_ts.genomics.kmer_model import (
    FittedKmerModel,
    KmerRegression,
    cross_validated_loss,
    fit_kmer_model,
    fit_linear,
)
from titans_ts.genomics.kmers import KmerVectorizer
from titans_ts.nn.dna.nucleotides import encode_nucleotides

TINY = small_dna_settings(max_epochs=2, kmer_model=3)
COUNTER = KmerVectorizer(3, 1)


def random_sequences(n, seed=0, length=40):
    return random_dna(n, length, seed=seed)


def codes(sequences):
    return [encode_nucleotides(s) for s in sequences]


def learn(wanted, output, network=None, weight=None, n=300, counter=COUNTER):
    """A k-mer model fitted on two thirds of random sequences, of which the rest is held out."""
    sequences = codes(random_sequences(n))
    cut = 2 * n // 3
    columns = int(wanted.max()) + 1 if wanted.ndim == 1 else wanted.shape[1]
    network = np.zeros((n - cut, columns)) if network is None else network[cut:]
    data, held_out = (sequences[:cut], wanted[:cut]), (sequences[cut:], wanted[cut:])
    return fit_kmer_model(counter, data, held_out, network, output, weight, refit=False)


def classes_by_letters(n=300, n_classes=3):
    sequences = random_sequences(n)
    return np.array([[s.count(c) for c in "AGC"[:n_classes]] for s in sequences]).argmax(1)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n", [7, 60, 200, 201])
def test_a_fit_of_few_sequences_is_that_of_any(n, n_classes, monkeypatch):
    sequences = random_sequences(n)
    sequences[1] = sequences[0]  # equal rows, whose products have no inverse
    counter = KmerVectorizer(5, 1)
    X = counter.fit_transform(sequences).astype(float)
    y, weight = np.arange(n) % n_classes, np.linspace(0.5, 2, n)
    precise = {"C": 3.0, "tol": 1e-9, "max_iter": 5000}
    sizes, original = [], LogisticRegression.fit
    monkeypatch.setattr(
        LogisticRegression,
        "fit",
        lambda self, X, *rest: sizes.append(X.shape) or original(self, X, *rest),
    )
    ours = KmerRegression(**precise).fit(X, y, weight)
    assert sizes == [(n, n) if n <= 200 else X.shape]
    expected = LogisticRegression(**precise).fit(X, y, weight)
    assert ours.coef_.shape == expected.coef_.shape
    np.testing.assert_allclose(ours.predict_proba(X), expected.predict_proba(X), atol=1e-5)
    other = counter.transform(random_sequences(30, seed=1))
    np.testing.assert_allclose(ours.predict_proba(other), expected.predict_proba(other), atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_fit_may_begin_at_another(n_classes):
    X = Normalizer().transform(COUNTER.fit_transform(random_sequences(300))).astype(float)
    y = np.arange(300) % n_classes
    model = KmerRegression(C=3.0, tol=1e-9, max_iter=5000)
    expected = model.fit(X, y).predict_proba(X)
    start, n_steps = (model.coef_.copy(), model.intercept_.copy()), model.n_iter_[0]
    again = model.fit(X, y, start=start)
    np.testing.assert_allclose(again.predict_proba(X), expected, atol=1e-6)
    assert again.n_iter_[0] < n_steps / 2
    other = KmerRegression(C=30.0, tol=1e-9, max_iter=5000)
    np.testing.assert_allclose(
        clone(other).fit(X, y, start=start).predict_proba(X),
        other.fit(X, y).predict_proba(X),
        atol=1e-4,
    )
    few = Normalizer().transform(KmerVectorizer(5, 1).fit_transform(random_sequences(50)))
    model.fit(few, y[:50])  # a smaller problem, which begins at zero
    assert model.coef_.shape[1] == few.shape[1]


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_predicts_as_a_linear_model_of_scikit_learn(n_classes, merged):
    wanted = classes_by_letters(n_classes=n_classes)
    weight = np.arange(1.0, n_classes + 1)
    counter = KmerVectorizer(3, 1, merged=merged)
    kmer_model = learn(wanted, "classes", weight=weight, counter=counter)
    sequences = random_sequences(300)
    asked = codes(sequences[200:])
    counts = Normalizer().transform(COUNTER.fit_transform(sequences)).astype(float)
    losses = []
    for C in (1, 3, 10, 30, 100):
        each = (weight / weight[wanted[:200]].mean())[wanted[:200]]
        exact = LogisticRegression(C=C, tol=1e-10, max_iter=10_000)
        shares = exact.fit(counts[:200], wanted[:200], each).predict_proba(counts[200:])
        losses.append(log_loss(wanted[200:], shares, sample_weight=weight[wanted[200:]]))
        if losses[-1] == min(losses):
            best = shares
    # counts in float32 end a fit so far from the minimum, wherever it starts
    np.testing.assert_allclose(softmax(kmer_model.logits(asked), 1), best, atol=1e-3)


def test_mixing_weights_follow_what_each_model_predicts():
    rng = np.random.default_rng(1)
    wanted = classes_by_letters()
    network = 3.0 * np.eye(3)[wanted] + rng.normal(size=(300, 3))
    noise = rng.normal(size=(300, 3))
    shares = learn(wanted, "classes", noise).mixing_weights
    assert (shares[1] > 5 * shares[0]).all()
    same = learn(wanted, "classes", noise, weight=np.full(3, 1000.0)).mixing_weights
    np.testing.assert_allclose(same, shares)  # it is their ratio that counts
    shuffled = rng.permutation(wanted)  # k-mers predict nothing of them
    shuffled_logits = 3.0 * np.eye(3)[shuffled] + rng.normal(size=(300, 3))
    kmer_model = learn(shuffled, "classes", shuffled_logits)
    asked = codes(random_sequences(300)[200:])
    alone = log_loss(shuffled[200:], softmax(shuffled_logits[200:], 1))
    together = softmax(kmer_model.combine(shuffled_logits[200:], asked), 1)
    assert log_loss(shuffled[200:], together) < alone + 0.01
    kmer_model = learn(wanted, "classes", network)
    assert kmer_model.mixing_weights.min() > 0.3
    together = log_loss(wanted[200:], softmax(kmer_model.combine(network[200:], asked), 1))
    assert together < log_loss(wanted[200:], softmax(network[200:], 1))
    assert together < log_loss(wanted[200:], softmax(kmer_model.logits(asked), 1))


@pytest.mark.parametrize("letters", [10, 60, 119, 120, 121, 10**6])
def test_answers_of_many_letters_are_those_of_each_sequence(monkeypatch, letters):
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 4, n).astype(np.uint8) for n in (60, 60, 5, 200, 60, 60)]
    counter = KmerVectorizer(2).fit([])
    weight = rng.normal(size=(3, counter.n_features_)).astype(np.float32)
    kmer_model = FittedKmerModel(counter, weight, np.zeros(3), np.ones((2, 3)))
    expected = np.concatenate([kmer_model.logits([s]) for s in sequences])
    monkeypatch.setattr("titans_ts.genomics.kmers.BLOCK_LETTERS", letters)
    for n in range(1, 7):
        np.testing.assert_allclose(kmer_model.logits(sequences[:n]), expected[:n], atol=1e-5)


def test_models_of_earlier_versions_have_a_column_for_every_kmer():
    merged = learn(classes_by_letters(), "classes", counter=KmerVectorizer(3, 1, merged=True))
    params, tensors = merged.to_tensors()
    assert params.pop("merged")
    tensors["kmer_model.weight"] = torch.from_numpy(merged.unmerged().weight)
    earlier = FittedKmerModel.from_tensors(params, tensors)
    asked = codes(random_sequences(50, seed=1))
    assert earlier.weight.shape[1] == COUNTER.fit([]).n_features_ > merged.weight.shape[1]
    np.testing.assert_allclose(earlier.logits(asked), merged.logits(asked), atol=1e-5)


def test_labels_and_values_have_a_column_each():
    sequences = random_sequences(300)
    counts = np.array([[s.count("A"), s.count("G")] for s in sequences], np.float32)
    labels = np.stack([counts[:, 0] > 10, np.zeros(300), np.ones(300)], 1).astype(np.float32)
    each = 1 + labels[:, 0]
    asked = codes(sequences[200:])
    kmer_model = learn(labels, "labels", weight=np.array([2.0, 1, 1]))
    logits = kmer_model.logits(asked)
    models = [
        make_pipeline(COUNTER, Normalizer(), LogisticRegression(C=C, tol=1e-6, max_iter=1000)).fit(
            sequences[:200], labels[:200, 0], logisticregression__sample_weight=each[:200]
        )
        for C in (1, 3, 10, 30, 100)
    ]
    shares = [m.predict_proba(sequences[200:])[:, 1] for m in models]
    best = min(shares, key=lambda p: log_loss(labels[200:, 0], p, sample_weight=each[200:]))
    np.testing.assert_allclose(expit(logits[:, 0]), best, atol=1e-4)
    np.testing.assert_allclose(expit(logits[:, 1]), 0.5 / 201, rtol=1e-6)  # of a float32 logit
    np.testing.assert_allclose(expit(logits[:, 2]), 200.5 / 201, rtol=1e-6)
    values = (counts - counts.mean(0)) / counts.std(0)
    values[::3, 0] = np.nan
    kmer_model = learn(values, "values")
    predicted = kmer_model.logits(asked)
    missing = np.isnan(values[:200, 0])
    known = [s for s, m in zip(sequences[:200], missing, strict=True) if not m]
    found = [
        make_pipeline(COUNTER, Normalizer(), Ridge(alpha=alpha))
        .fit(known, values[:200, 0][~missing])
        .predict(sequences[200:])
        for alpha in (10, 10 / 3, 1, 1 / 3, 0.1)
    ]
    best = min(found, key=lambda f: np.nanmean((f - values[200:, 0]) ** 2))
    np.testing.assert_allclose(predicted[:, 0], best, atol=1e-3)
    assert np.corrcoef(predicted[:, 1], values[200:, 1])[0, 1] > 0.5
    assert kmer_model.mixing_weights[1, 1] > 0.5
    values[:, 0] = np.nan  # nothing is known of it
    kmer_model = learn(values, "values")
    assert not kmer_model.logits(asked)[:, 0].any()
    np.testing.assert_allclose(
        kmer_model.logits(asked)[:, 1], predicted[:, 1], **rounding(predicted[:, 1])
    )


@pytest.mark.parametrize("output", ["classes", "labels", "values"])
def test_a_cross_validated_loss_is_the_mean_over_sequences_that_were_not_read(output):
    sequences = random_sequences(120)
    numbers = np.array([[s.count("A"), s.count("G")] for s in sequences], np.float32)
    target = {
        "classes": classes_by_letters(120, 2),
        "labels": (numbers > numbers.mean(0)).astype(np.float32),
        "values": numbers,
    }[output]
    rows = codes(sequences)

    def part(chosen):
        return [rows[i] for i in chosen], target[chosen]

    whole, held = np.arange(100), np.arange(100, 120)
    folds = [(np.arange(40, 100), np.arange(40)), (np.arange(90), np.arange(90, 100))]
    pairs = [(whole, held), *folds]
    losses = [fit_linear(COUNTER, part(a), part(b), output, 2, refit=False).loss for a, b in pairs]
    arguments = COUNTER, part(whole), part(held), output, 2
    np.testing.assert_allclose(cross_validated_loss(*arguments), losses[0])
    expected = (20 * losses[0] + 40 * losses[1] + 10 * losses[2]) / 70
    np.testing.assert_allclose(cross_validated_loss(*arguments, folds=folds), expected)


@pytest.mark.parametrize("given", [False, True])
def test_what_was_held_out_is_learned_from_at_the_end_unless_it_was_given(given):
    X, y = random_sequences(120), classes_by_letters(120, 2)
    validation = (X[90:], y[90:]) if given else None
    X, y = (X[:90], y[:90]) if given else (X, y)
    kmer_model = TitansClassifier(**TINY).fit(X, y, validation=validation).kmer_model_
    assert not kmer_model.vectorizer.both_strands
    expected = [
        make_pipeline(
            KmerVectorizer(3, both_strands=False), Normalizer(), LogisticRegression(C=C, tol=1e-6)
        )
        .fit(X, y)
        .decision_function(X)
        for C in (1, 3, 10, 30, 100)
    ]
    predicted = np.diff(kmer_model.logits(codes(X)))[:, 0]
    # log odds up to 14, where the optimiser stops by the float32 loss; other values of C are 4 away
    assert min(np.abs(predicted - e).max() for e in expected) < 1e-3 * np.abs(predicted).max()


@pytest.fixture(scope="module")
def fitted():
    sequences, labels = random_sequences(120), classes_by_letters(120, 2)
    labels = np.array(["A", "G"])[labels]
    return TitansClassifier(
        **TINY | {"kmer_model": KmerModel(np.int64(3), np.int64(1)), "rc": "average"}
    ).fit(sequences, labels), sequences


def test_a_classifier_combines_both(fitted, tmp_path):
    classifier, sequences = fitted
    found = classifier.predict_proba(sequences)
    kmer_model = classifier.kmer_model_
    network = network_logits(classifier.model_, codes(sequences))
    kmer_logits = kmer_model.logits(codes(sequences))
    assert kmer_model.vectorizer.get_params() == {
        "k": 3,
        "gaps": 1,
        "both_strands": True,
        "positions": 0,
        "merged": True,
    }
    assert kmer_model.mixing_weights.shape == (2, 2)
    assert kmer_model.mixing_weights[1].min() > 0
    both = kmer_model.mixing_weights[0] * network + kmer_model.mixing_weights[1] * kmer_logits
    np.testing.assert_allclose(found, softmax(both, 1), rtol=1e-6)
    other = [reverse_complement(s) for s in sequences]
    np.testing.assert_allclose(classifier.predict_proba(other), found, rtol=1e-4)
    np.testing.assert_allclose(classifier.predict_proba(sequences[3:4]), found[3:4], rtol=1e-4)
    classifier.save(tmp_path / "m")
    again = TitansClassifier.load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict_proba(sequences), found)
    again.fit(sequences, np.arange(120) % 2)
    assert again.kmer_model_ is not kmer_model
    again.set_params(kmer_model=None).fit(sequences, np.arange(120) % 2)
    assert again.kmer_model_ is None


def test_genome_tools_use_the_k_mer_model_too(fitted, tmp_path):
    classifier, sequences = fitted
    (tmp_path / "g.fa").write_text(">c\n" + "".join(sequences[:4]) + "\n")
    scan = classifier.scan(tmp_path / "g.fa", window=40, label="G")
    expected = classifier.predict_proba(sequences[:4])[:, 1]
    np.testing.assert_allclose(scan["score"], expected, rtol=1e-5)
    variants = pd.DataFrame({"chrom": "c", "start": [60], "ref": sequences[1][20], "alt": ["GGG"]})
    effect = classifier.variant_effect(tmp_path / "g.fa", variants, window=40).iloc[0]
    other = (sequences[1][:20] + "GGG" + sequences[1][21:])[:40]
    pair = classifier.predict_proba([sequences[1], other])
    np.testing.assert_allclose(
        effect["effect"], np.diff(np.log(pair[:, 1] / pair[:, 0]))[0], rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="a k-mer model, whose counts have no gradient"):
        classifier.saliency(sequences[0])


def test_a_scan_is_not_resumed_with_other_mixing_weights(fitted):
    classifier, _ = fitted
    before = classifier._fingerprint("G")
    assert classifier._fingerprint("G") == before
    mixing = classifier.kmer_model_.mixing_weights
    mixing += 0.1
    assert classifier._fingerprint("G") != before
    mixing -= 0.1


def test_values_and_several_labels_are_fitted(tmp_path):
    sequences = random_sequences(120)
    counts = np.array([[s.count("A"), s.count("G")] for s in sequences], float)
    regressor = TitansRegressor(**TINY).fit(sequences, counts)
    assert regressor.kmer_model_.vectorizer.both_strands is False
    assert regressor.score(sequences, counts) > 0.5
    regressor.save(tmp_path / "m")
    predicted = TitansRegressor.load(tmp_path / "m").predict(sequences)
    np.testing.assert_array_equal(predicted, regressor.predict(sequences))
    classifier = TitansClassifier(**TINY, class_weight="balanced")
    classifier.fit(sequences, (counts > 10).astype(int))
    assert (classifier.predict(sequences) == (counts > 10)).mean() > 0.8


def test_of_many_words_some_sequences_tell_them_and_no_class_is_missed(monkeypatch):
    monkeypatch.setattr("titans_ts.genomics.dataset.MAX_COUNTS", 1000)
    sequences, labels = random_sequences(120), classes_by_letters(120)
    labels[:2] = 3
    counted = []
    whole = KmerVectorizer.transform
    monkeypatch.setattr(
        KmerVectorizer, "transform", lambda self, X: counted.append(len(X)) or whole(self, X)
    )
    classifier = TitansClassifier(**TINY).fit(sequences, labels)
    assert counted[:2] == [25, 24]
    assert classifier.predict_proba(sequences).shape == (120, 4)
    regressor = TitansRegressor(**TINY).fit(sequences, labels)
    assert counted[-2:] == [25, 24]
    assert regressor.predict(sequences).shape == (120,)


def test_with_the_strands_what_is_counted_is_chosen():
    X, y = random_sequences(60), classes_by_letters(60, 2)
    classifier = TitansClassifier(**TINY | {"rc": "auto"}).fit(X, y)
    both = classifier.kmer_model_.vectorizer.both_strands
    assert both == (classifier.model_.config.rc == "average")


def test_letters_that_are_absent_are_in_no_k_mer():
    X = [x[:20] + "acgtacgt--N" + x[20:] for x in random_sequences(60)]
    classifier = TitansClassifier(**TINY, soft_masked="mask").fit(X, classes_by_letters(60, 2))
    upper = [x.replace("acgtacgt", "--------") for x in X]
    np.testing.assert_allclose(classifier.predict_proba(upper), classifier.predict_proba(X))
    whole = [x.replace("acgtacgt", "ACGTACGT") for x in X]
    assert not np.allclose(classifier.predict_proba(whole), classifier.predict_proba(X))


def test_a_fit_that_fails_leaves_the_k_mer_model_as_it_was(monkeypatch):
    X, y = random_sequences(60), classes_by_letters(60, 2)
    classifier = TitansClassifier(**TINY).fit(X, y)
    model, kmer_model = classifier.model_, classifier.kmer_model_
    monkeypatch.setattr("titans_ts.genomics.sequence_estimator.fit_linear", lambda *_, **__: [][0])
    with pytest.raises(IndexError):
        classifier.fit(X, y)
    assert (classifier.model_, classifier.kmer_model_) == (model, kmer_model)


def test_rare_classes_are_learned_though_their_counts_are_small():
    rng = np.random.default_rng(0)
    X, wanted = random_sequences(600, length=60), (rng.random(600) < 0.06).astype(int)
    some = codes(X)
    counter = KmerVectorizer(6, 2)
    kmer_model = fit_kmer_model(
        counter,
        (some[:450], wanted[:450]),
        (some[450:], wanted[450:]),
        np.zeros((150, 2)),
        "classes",
    )
    counts = Normalizer().transform(counter.transform(X))
    found = [
        LogisticRegression(C=C, tol=1e-9, max_iter=1000).fit(counts, wanted).coef_[0]
        for C in (1, 3, 10, 30, 100)
    ]
    assert min(np.abs(kmer_model.weight[1] - f).max() / np.abs(f).max() for f in found) < 0.02


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kmer_model": 11}, "k is 11; it must be an integer from 1 to 10"),
        ({"kmer_model": True}, "kmer_model is True; give a KmerModel, its k, or None"),
        (
            {"training_options": {"validation_fraction": 0}},
            "kmer_model is 3, but no sequence is held out",
        ),
        (
            {"kmer_model": KmerModel(10, 2)},
            r"kmer_model is KmerModel\(k=10, gaps=2\): 57671680 k-mers for each of 2 outputs are more",
        ),
    ],
)
def test_a_kmer_model_that_cannot_be_fitted_is_named(params, message):
    with pytest.raises(ValueError, match=message):
        TitansClassifier(**TINY | params).fit(random_sequences(20), [0, 1] * 10)


def test_options_of_a_kmer_model_are_parameters():
    classifier = TitansClassifier(kmer_model=4).set_params(kmer_model__gaps=2)
    assert clone(classifier).get_params()["kmer_model__k"] == 4
    assert classifier.options("kmer_model") == KmerModel(4, 2)
    assert TitansClassifier().set_params(kmer_model__k=3).kmer_model == KmerModel(3)
    with pytest.raises(ValueError, match="gaps is -1; it must be an integer from 0 to 10"):
        classifier.set_params(kmer_model__gaps=-1)


def test_bins_of_a_track_have_no_k_mer_model():
    with pytest.raises(ValueError, match="but k-mer counts of a whole sequence cannot"):
        TitansRegressor(**TINY).fit(random_sequences(20), np.zeros((20, 4, 1)))
