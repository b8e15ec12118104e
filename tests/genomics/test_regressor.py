"""TitansRegressor: values of sequences, several at once, and tracks along them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score

from tests.support import small_dna_settings
from titans_ts import BPETokenizer, TitansRegressor

SETTINGS = small_dna_settings(max_epochs=15, batch_size=32, learning_rate=0.01)


def small(**params):
    return TitansRegressor(**(SETTINGS | params))


@pytest.fixture(scope="module")
def sequences():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.1, 0.9, 300)
    return ["".join(rng.choice(list("AG"), 48, p=[1 - g, g])) for g in share]


def counts(sequences, letter):
    return np.array([s.count(letter) for s in sequences], float)


def test_it_learns_a_value_in_its_own_units(sequences, tmp_path):
    values = 1000 + 5 * counts(sequences, "G")
    fitted = small(pooling="mean").fit(sequences[:250], values[:250])
    assert fitted.score(sequences[250:], values[250:]) > 0.9
    assert fitted.predict(sequences).shape == (300,)
    fitted.save(tmp_path / "m")
    loaded = TitansRegressor.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(sequences), fitted.predict(sequences))


def test_several_values_at_once_some_of_them_missing(sequences):
    values = np.stack([counts(sequences, "G"), -3 * counts(sequences, "A")], 1)
    values[::3, 1] = np.nan
    fitted = small(pooling="mean", n_layers=0).fit(sequences, values)
    predicted = fitted.predict(sequences)
    assert np.corrcoef(predicted[:, 0], counts(sequences, "G"))[0, 1] > 0.95
    assert np.corrcoef(predicted[:, 1], -counts(sequences, "A"))[0, 1] > 0.95
    # what is missing does not count: another value there changes nothing
    np.testing.assert_allclose(fitted.mean_, np.nanmean(values, 0))


def test_a_track_along_the_sequence(sequences):
    bins = np.array([[s[i : i + 8].count("G") for i in range(0, 48, 8)] for s in sequences])
    fitted = small(bidirectional="shared").fit(sequences[:250], bins[:250, :, None])
    predicted = fitted.predict(sequences[250:])
    assert predicted.shape == (50, 6, 1)
    assert np.corrcoef(predicted.ravel(), bins[250:].ravel())[0, 1] > 0.9
    assert fitted.score(sequences[250:], bins[250:, :, None]) > 0.8
    with pytest.raises(ValueError, match="max_length is 16, but a track's bins need whole"):
        small(max_length=16).fit(sequences, bins[:, :, None])
    with pytest.raises(ValueError, match="not 6 bins of whole tokens; give a length that is a"):
        small(stride=5).fit(sequences, bins[:, :, None])
    with pytest.raises(ValueError, match="tokenizer is 'bpe', whose tokens make no equal bins"):
        small(tokenizer=BPETokenizer(n_merges=4)).fit(sequences, bins[:, :, None])
    with pytest.raises(ValueError, match=r"X\[0\] has 24 letters, not 48; a track"):
        fitted.predict(["ACGTAC" * 4])


def test_a_validation_part_may_be_given(sequences):
    values = counts(sequences, "G")
    fitted = small(max_epochs=2).fit(
        sequences[:200], values[:200], validation=(sequences[200:], values[200:])
    )
    assert len(fitted.history_) == 2
    assert "validation_loss" in fitted.history_[0]
    assert clone(fitted).get_params() == fitted.get_params()


def test_what_is_held_out_has_values(sequences):
    values = counts(sequences, "G")
    values[3:] = np.nan
    few = small(max_epochs=2).fit(sequences, values)
    assert "validation_loss" not in few.history_[0]  # three sequences are there, and none to spare
    values[:40] = counts(sequences, "G")[:40]
    some = small(max_epochs=2).fit(sequences, values, groups=np.arange(300) // 10)
    only = small(max_epochs=2).fit(sequences[:40], values[:40], groups=np.arange(40) // 10)
    assert [e["validation_loss"] for e in some.history_] == [
        e["validation_loss"] for e in only.history_
    ]
    assert min(e["validation_loss"] for e in some.history_) > 0
    with pytest.raises(ValueError, match="validation y has no value; give some"):
        small().fit(sequences, values, validation=(sequences[:2], [np.nan, np.nan]))
    # a batch of validation in which nothing is known says nothing
    fitted = small(max_epochs=1, batch_size=1, training_options={"max_steps_per_epoch": 100})
    X, y = sequences[:8], np.append(values[:1], [np.nan] * 7)
    fitted.fit(sequences[:40], values[:40], validation=(X, y))
    few = small(max_epochs=1, batch_size=1, training_options={"max_steps_per_epoch": 2})
    assert "validation_loss" in few.fit(sequences[:40], values[:40], validation=(X, y)).history_[0]
    alone = small(max_epochs=1, batch_size=1, training_options={"max_steps_per_epoch": 100})
    alone.fit(sequences[:40], values[:40], validation=(X[:1], y[:1]))
    one, other = fitted.history_[0], alone.history_[0]
    np.testing.assert_allclose(one["validation_loss"], other["validation_loss"], rtol=1e-5)


def test_the_score_is_of_what_is_known(sequences):
    values = np.stack([counts(sequences, "G"), counts(sequences, "A")], 1)
    fitted = small(max_epochs=4).fit(sequences, values)
    told = fitted.predict(sequences)
    assert fitted.score(sequences, values) == pytest.approx(r2_score(values, told))
    weight = np.linspace(0, 1, 300)
    assert fitted.score(sequences, values, weight) == pytest.approx(
        r2_score(values, told, sample_weight=weight)
    )
    gaps = values.copy()
    gaps[::3, 1] = np.nan
    known = ~np.isnan(gaps[:, 1])
    parts = r2_score(gaps[:, 0], told[:, 0]), r2_score(gaps[known, 1], told[known, 1])
    assert fitted.score(sequences, gaps) == pytest.approx(np.mean(parts))
    with pytest.raises(ValueError, match=r"y has shape \(300,\), but \(300, 2\) is predicted"):
        fitted.score(sequences, values[:, 0])
    with pytest.raises(ValueError, match="y has no column with two values to compare with"):
        fitted.score(sequences, np.full((300, 2), np.nan))
    gaps[1:, 1] = np.nan  # a value of one sequence says nothing
    assert fitted.score(sequences, gaps) == pytest.approx(parts[0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.score(sequences, values, weight[:3])


GOOD = ["ACGT", "TTTT"], [0.0, 1.0]
BAD = {
    "count": ((["ACGT"], [1, 2]), r"y has shape \(2,\), but there are 1 sequences"),
    "text": ((["ACGT"], ["x"]), "y cannot be read as numbers"),
    "infinite": ((["ACGT", "A"], [1, np.inf]), "y has an infinite value"),
    "nothing": ((["ACGT", "A"], [[1, np.nan], [2, np.nan]]), "y has a column without a value"),
    "uneven": ((["ACGT", "ACG"], np.zeros((2, 2, 1))), r"X\[1\] has 3 letters, not 4; a track"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values(name):
    (X, y), message = BAD[name]
    with pytest.raises(ValueError, match=message):
        small(training_options={"validation_fraction": 0}).fit(X, y)
    with pytest.raises(ValueError, match="give the same values"):
        small().fit(*GOOD, validation=(["A"], [[1.0, 2.0]]))
    with pytest.raises(NotFittedError):
        small().predict(["ACGT"])
