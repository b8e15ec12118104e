"""Default spaces: what fits the data."""

from __future__ import annotations

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.tuning.cases import classifier, forecaster, search, sequences, wave
from titans_ts import KmerTokenizer, TitansClassifier, TitansForecaster, TitansRegressor
from titans_ts.forecasting.defaults import Lengths
from titans_ts.tuning import default_space

HOURS = pd.DataFrame(
    {"a": wave(120), "b": wave(120)[::-1]}, pd.date_range("2024", periods=120, freq="h")
)


def widest(space):
    return max(space["d_model"].choices), space["n_layers"].high


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [(60, (32, 2)), (20_000, (32, 2)), (100_000, (64, 3)), (10**6, (128, 3))],
)
def test_the_largest_network_grows_with_the_data(n_rows, expected):
    series = np.zeros(n_rows)
    assert widest(default_space(forecaster(d_model=16), series)) == expected
    letters = ["ACGT" * (n_rows // 40)] * 10
    assert widest(default_space(classifier(d_model=16), letters)) == expected
    assert widest(default_space(forecaster(d_model=16), series.reshape(-1, 4))) == expected


@pytest.mark.parametrize(
    ("estimator", "X"),
    [
        (
            TitansForecaster(
                4, 16, d_model=512, n_layers=7, learning_rate=0.5, model_options={"dropout": 0.7}
            ),
            wave(),
        ),
        (
            forecaster(
                variant="swa",
                patch_length=5,
                training_options={"weight_decay": 3.0},
                season_length=7,
            ),
            HOURS,
        ),
        (TitansClassifier(KmerTokenizer(k=7), stride=5, rc="auto", n_layers=0), sequences()),
        (
            TitansRegressor(
                pooling="last", learning_rate=1e-5, model_options={"head_dropout": 0.9}
            ),
            sequences(),
        ),
    ],
)
def test_the_estimators_own_parameters_are_in_its_space(estimator, X):
    space, own = default_space(estimator, X), estimator.get_params()
    for name, distribution in space.items():
        assert distribution._contains(distribution.to_internal_repr(own[name])), name


CASES = {
    "series": (forecaster(), wave()),
    "hours": (
        TitansForecaster(4, 48, patch_length=16, patch_stride=8, max_epochs=1, progress_bar=False),
        HOURS,
    ),
    "any length": (forecaster(**dict.fromkeys(Lengths._fields)), HOURS),
    "unequal": (TitansClassifier(max_epochs=1, progress_bar=False), sequences(12)),
    "equal": (TitansClassifier(max_epochs=1, progress_bar=False), ["ACGTACGTACGTACGT" * 8] * 12),
    "letters": (classifier(max_epochs=1), ["ACGTACGTACGTACGT" * 8] * 12),
}


@pytest.mark.parametrize("case", CASES)
def test_any_draw_of_a_default_space_can_be_fitted(case):
    estimator, X = CASES[case]
    space = default_space(estimator, X)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    for name in ("d_model", "n_layers"):  # the smallest is as good, and quicker
        d = space[name]
        chosen = isinstance(d, CategoricalDistribution)
        low = min(c for c in d.choices if c is not None) if chosen else d.low
        space[name] = CategoricalDistribution([low])
    for _ in range(5):
        params = study.ask(space).params
        y = () if isinstance(estimator, TitansForecaster) else (["a", "b"] * 6,)
        clone(estimator).set_params(**params).fit(X, *y)


def test_a_space_depends_on_the_data():
    hours = default_space(*CASES["hours"])
    assert hours["season_length"].choices == (0, 24)
    assert hours["tokens"].choices == ("patch", "variate", "mixed")
    assert hours["patch_length"].choices == (16, 8, 24)
    assert default_space(*CASES["any length"])["patch_length"].choices == (None, 2, 4, 8)
    vector = default_space(*CASES["series"])
    assert {"season_length", "tokens"}.isdisjoint(vector)
    assert "tokens" not in default_space(TitansForecaster(4, 48, stateful_windows=1), HOURS)
    daily = HOURS.set_axis(pd.date_range("2024", periods=120, freq="D"))
    assert default_space(TitansForecaster(4, 48), daily)["season_length"].choices == (0, 7)
    assert "season_length" not in default_space(TitansForecaster(4, 48, freq="irregular"), daily)
    assert "flatten" in default_space(*CASES["equal"])["pooling"].choices
    assert "flatten" not in default_space(*CASES["unequal"])["pooling"].choices
    assert default_space(*CASES["letters"])["stride"].choices == (1, 2, 4, 8)


def test_what_a_fit_chooses_is_left_to_it_in_the_first_trial():
    space = default_space(*CASES["equal"])
    for name in ("tokenizer", "pooling", "rc", "learning_rate", "n_layers"):
        assert space[name].choices[0] is None, name
    assert not {"stride", "tokenizer__kernel_size"} & set(space)


@pytest.mark.parametrize(
    ("preset", "choices"), [("fast", [None, 1, 2]), ("default", [None, 1, 2]), ("best", [None, 1])]
)
def test_the_number_of_blocks_of_a_preset_is_a_choice(preset, choices):
    tuned = forecaster(preset=preset, n_layers=None)
    space = {"n_layers": default_space(tuned, wave())["n_layers"]}
    assert list(space["n_layers"].choices) == choices
    found = search(tuned, space, n_trials=1, refit=False).fit(wave())
    assert found.cv_results_["params"] == [{"n_layers": None}]


def test_blocks_without_a_variant_are_not_tried_twice():
    tried = [default_space(forecaster(variant=v), wave())["variant"].choices for v in (None, "mag")]
    assert tried == [(None, "mag", "mal", "lmm"), ("mag", "mac", "mal", "lmm")]


def test_a_pretrained_network_keeps_its_sizes():
    space = default_space(classifier(pretrained="somewhere"), sequences())
    assert {"d_model", "n_layers", "variant", "tokenizer", "stride"}.isdisjoint(space)
    assert {"learning_rate", "model_options__dropout", "pooling"} <= set(space)


def test_a_pipelines_space_is_that_of_its_last_step():
    last = forecaster()
    space = default_space(make_pipeline(StandardScaler(), last), wave()[:, None])
    assert space == {f"titansforecaster__{k}": v for k, v in default_space(last, wave()).items()}


def test_other_estimators_have_no_default_space():
    with pytest.raises(
        TypeError, match="space is None, but there is no default space for Logistic"
    ):
        default_space(LogisticRegression(), np.zeros((3, 1)))
