"""scikit-learn's own checks of every estimator, and its tools at work with them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from inspect import signature
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import sklearn
from optuna.distributions import FloatDistribution
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
    learning_curve,
)
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data
from torch import cuda

from tests.support import rounding, small_settings
from titans_ts import (
    NucleotideTokenizer,
    TitansClassifier,
    TitansForecaster,
    TitansRegressor,
    TitansSearch,
)
from titans_ts.genomics.sequence_estimator import SequenceEstimator

SMALL = small_settings(
    variant="swa",  # the quickest
    d_model=8,
    n_heads=1,
    batch_size=32,
    learning_rate=0.01,
    device="cpu",
)


class Spelled:
    """An estimator for DNA that spells numbers as letters; all else is its own.

    But for float64: an answer is to be the same in any batch to 1e-7, which is about float32's rounding.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = False
        tags.input_tags.two_d_array = True
        return tags

    def _fit(self, *args, **kwargs):
        super()._fit(*args, **kwargs)
        self.model_.double()

    def _read(self, X, name="X"):
        return super()._read(spell(validate_data(self, X)), name)

    def _read_fitted(self, X, name="X"):
        return super()._read_fitted(spell(validate_data(self, X, reset=False)), name)


class SpelledClassifier(Spelled, TitansClassifier):
    pass


class SpelledRegressor(Spelled, TitansRegressor):
    pass


def searching(estimator, name):
    """A search, of what costs nothing."""
    space = {name: FloatDistribution(0.1, 10)}
    return TitansSearch(estimator, space, n_trials=2, random_state=0, progress_bar=False)


def spell(rows):
    """The larger a number, the more A and the fewer C of four letters."""
    counts = np.clip(np.round(rows + 2), 0, 4).astype(int)
    return ["".join("A" * n + "C" * (4 - n) for n in row) for row in counts]


# what learns enough for the checks of accuracy (0.83; here 0.88) and R^2 (0.5; here 0.7)
LEARNS = SMALL | {"pooling": "flatten", "max_epochs": 8}
TOKENS = {"tokenizer": NucleotideTokenizer(11), "rc": "none"}  # as a fit chooses, in no time

_A_TRIALS = "what a trial meets is noted, and told in a RuntimeError if none comes to its end"
_IN_TRIALS = (
    "check_dtype_object",
    "check_estimators_empty_data_messages",
    "check_estimators_nan_inf",
    "check_fit1d",
)
_A_SERIES = "rows are a series: a forecast is of what follows the last one, and not one for each"
EXPECTED = {
    TitansForecaster: {
        "check_methods_sample_order_invariance": _A_SERIES,
        "check_methods_subset_invariance": _A_SERIES,
        "check_fit1d": "an array [T] is a series of one variate",
    },
    Ridge: dict.fromkeys(
        [*_IN_TRIALS, "check_complex_data", "check_supervised_y_no_nan"], _A_TRIALS
    ),
    LogisticRegression: dict.fromkeys(
        [*_IN_TRIALS, "check_classifiers_one_label", "check_classifiers_regression_target"],
        _A_TRIALS,
    ),
}
# scikit-learn 1.8 and later: what is expected to fail must do so
STRICT = {"xfail_strict": True}
RULES = parametrize_with_checks(
    [
        TitansForecaster(1, 4, patch_length=2, patch_stride=2, **SMALL),
        SpelledClassifier(**LEARNS | TOKENS | {"max_epochs": 4, "kmer_model": None}),
        SpelledRegressor(**LEARNS),
        searching(Ridge(), "alpha"),
        searching(LogisticRegression(), "C"),
    ],
    # of a search, those of what is searched
    expected_failed_checks=lambda e: EXPECTED.get(type(getattr(e, "estimator", e)), {}),
    **STRICT if "xfail_strict" in signature(parametrize_with_checks).parameters else {},
)


def marked(case):
    """Slow: what repeats a training of seconds, and the second estimator of the same base."""
    case = case if isinstance(case, type(pytest.param())) else pytest.param(*case)
    estimator, check = case.values
    repeats = "_train" in str(check) and getattr(check, "keywords", None)
    repeats = repeats or isinstance(estimator, SpelledRegressor)
    marks = [*case.marks, pytest.mark.slow] if repeats else case.marks
    return pytest.param(estimator, check, marks=marks)


# a list of them: older ones are a generator, which pytest 9.1 refuses
@pytest.mark.parametrize(RULES.args[0], [*map(marked, RULES.args[1])], **RULES.kwargs)
def test_it_keeps_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


def test_tags_say_what_is_true():
    forecaster, classifier, regressor = (
        get_tags(estimator(**SMALL))
        for estimator in (TitansForecaster, TitansClassifier, TitansRegressor)
    )
    assert forecaster.input_tags.allow_nan
    assert forecaster.input_tags.two_d_array
    assert not forecaster.target_tags.required
    assert forecaster.estimator_type is None
    for tags in (classifier, regressor):
        assert tags.input_tags.string
        assert tags.input_tags.one_d_array
        assert not tags.input_tags.two_d_array
        assert tags.target_tags.required
    assert classifier.classifier_tags.multi_label
    assert regressor.target_tags.multi_output
    for device, repeats in (("cpu", True), ("cuda:0", False), ("auto", not cuda.is_available())):
        assert get_tags(TitansForecaster(device=device)).non_deterministic is not repeats


def letters(n=48):
    """Sequences of A and C, or of G and T, in turn."""
    rng = np.random.default_rng(0)
    kinds = ("AC", "GT") * (n // 2)
    return pd.Series(["".join(rng.choice(list(kind), rng.integers(5, 20))) for kind in kinds])


def series(n=80):
    values = np.sin(np.arange(n)[:, None] / [3.0, 5.0]) * [1.0, 100.0]
    return pd.DataFrame(values, pd.date_range("2024", periods=n, freq="h"), ["sun", "wind"])


FORECASTER = TitansForecaster(2, 6, patch_length=3, patch_stride=3, blend=False, **SMALL)
CLASSIFIER = TitansClassifier(**SMALL | {"max_epochs": 3, "kmer_model": None})
SEQUENCES = letters()
LABELS = np.array(["ac", "gt"] * 24)
CASES = {  # estimator, X, y, splits
    "forecaster": (FORECASTER, series(), None, TimeSeriesSplit(2, test_size=12)),
    "classifier": (CLASSIFIER, SEQUENCES, LABELS, StratifiedKFold(2)),
    "regressor": (
        TitansRegressor(**SMALL),
        SEQUENCES,
        SEQUENCES.str.count("[AG]").to_numpy(float),
        KFold(2),
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def by_hand(estimator, X, y, pairs):
    """Scores of pairs of training and test rows, without scikit-learn's tools."""
    scores = []
    for train, test in pairs:
        fitted = clone(estimator).fit(X.iloc[train], None if y is None else y[train])
        scores.append(fitted.score(X.iloc[test], None if y is None else y[test]))
    return scores


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_cross_validation_scores_every_split_in_any_process(case, n_jobs):
    estimator, X, y, splits = case
    scores = cross_val_score(estimator, X, y, cv=splits, n_jobs=n_jobs, error_score="raise")
    # float32; a worker may have other threads, which sum in another order
    np.testing.assert_allclose(
        scores, by_hand(estimator, X, y, splits.split(X, y)), rtol=1e-4, atol=1e-4
    )


RATES = {"learning_rate": [1e-3, 3e-2]}
SEARCHES = {
    "grid": (GridSearchCV, RATES, {}),
    "random": (
        RandomizedSearchCV,
        {"learning_rate": loguniform(1e-3, 1e-1)},
        {"n_iter": 2, "random_state": 0},
    ),
    "halving": (
        HalvingGridSearchCV,
        RATES,
        # epochs, for a share of the rows would be drawn at random, and be no series
        {"resource": "max_epochs", "min_resources": 1, "max_resources": 2, "factor": 2},
    ),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_search_finds_the_best_and_fits_it(case, kind):
    estimator, X, y, splits = case
    kind_of_search, values, options = SEARCHES[kind]
    search = kind_of_search(estimator, values, cv=splits, error_score="raise", **options)
    best = search.fit(X, y).best_estimator_
    assert best.max_epochs == (2 if kind == "halving" else estimator.max_epochs)
    results = pd.DataFrame(search.cv_results_)
    last = results[results["iter"] == results["iter"].max()] if kind == "halving" else results
    assert search.best_score_ == last["mean_test_score"].max()
    assert search.best_score_ == pytest.approx(np.mean(by_hand(best, X, y, splits.split(X, y))))
    np.testing.assert_array_equal(search.predict(X), clone(best).fit(X, y).predict(X))


def test_a_halving_search_may_begin_with_few_sequences():
    search = HalvingGridSearchCV(CLASSIFIER, RATES, cv=2, min_resources=24, factor=2)
    search.fit(SEQUENCES, LABELS)
    assert search.n_resources_ == [24, 48]
    assert search.score(SEQUENCES, LABELS) > 0.9


def test_a_learning_curve_grows_with_what_is_learned_from(case):
    estimator, X, y, splits = case
    sizes, _, scores = learning_curve(
        estimator, X, y, train_sizes=[0.7, 1.0], cv=splits, error_score="raise"
    )
    pairs = list(splits.split(X, y))
    fewest = len(pairs[0][0])
    assert sizes.tolist() == [int(0.7 * fewest), fewest]
    for size, row in zip(sizes, scores, strict=True):
        first = [(train[:size], test) for train, test in pairs]
        np.testing.assert_allclose(row, by_hand(estimator, X, y, first))


@pytest.fixture(scope="module")
def worker():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def test_a_spawned_worker_answers_the_same(case, worker):
    estimator, X, y, _ = case
    fitted = clone(estimator).fit(X, y)
    told = worker.submit(fitted.predict, X).result()
    assert type(told) is type(fitted.predict(X))
    own = np.asarray(fitted.predict(X))
    if own.dtype.kind == "f":  # the worker may have other threads, which sum in another order
        np.testing.assert_allclose(told, own, **rounding(own))
    else:
        np.testing.assert_array_equal(told, own)


@pytest.mark.parametrize("form", ["default", "pandas", "polars"])
def test_a_forecaster_reads_what_a_scaler_hands_on(form):
    X = series()
    pipeline = make_pipeline(StandardScaler().set_output(transform=form), FORECASTER).fit(X)
    forecast = pipeline.predict(X)
    scaled = (X - X.mean()) / X.std(ddof=0)
    expected = clone(FORECASTER).fit(scaled).predict()
    # the two ways to scale may differ in the last digit, which training amplifies
    np.testing.assert_allclose(forecast, expected, **rounding(expected, 1e-4))
    assert pipeline.score(X) == pytest.approx(clone(FORECASTER).fit(scaled).score(scaled), abs=1e-4)
    if form == "pandas":
        pd.testing.assert_index_equal(forecast.index, expected.index)
        assert forecast.columns.tolist() == ["sun", "wind"]


def test_a_forecaster_behind_other_steps_is_told_what_is_known_ahead():
    X = series().assign(holiday=(np.arange(80) % 7 == 0).astype(float))
    steps = ColumnTransformer(
        [("scaled", StandardScaler(), ["wind", "sun"]), ("as it is", "passthrough", ["holiday"])],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    forecaster = clone(FORECASTER).set_params(known_covariates="holiday")
    ahead = np.array([[0.0], [1.0]])
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            steps, clone(forecaster).set_predict_request(known_covariates=True)
        )
        forecast = pipeline.fit(X).predict(X, known_covariates=ahead)
    by_itself = forecaster.fit(clone(steps).fit_transform(X))
    pd.testing.assert_frame_equal(forecast, by_itself.predict(known_covariates=ahead))
    assert not by_itself.predict(known_covariates=1 - ahead).equals(forecast)


def test_groups_are_routed_to_the_fit_of_every_split(monkeypatch):
    seen, trained = [], SequenceEstimator._trained

    def record(self, data, held_out, *rest):
        seen.append((set(data.lengths), set(held_out.lengths)))
        return trained(self, data, held_out, *rest)

    monkeypatch.setattr(SequenceEstimator, "_trained", record)
    groups = np.repeat(np.arange(8), 6)
    X = pd.Series(["ACGTACGT"[: 1 + group] for group in groups])  # a length a group
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = clone(CLASSIFIER).set_params(training_options__validation_fraction=0.3)
        pipeline = make_pipeline(FunctionTransformer(), classifier.set_fit_request(groups=True))
        search = GridSearchCV(pipeline, {"titansclassifier__stride": [1, 2]}, cv=GroupKFold(2))
        search.fit(X, LABELS, groups=groups)
    assert len(seen) == 5
    for kept, held_out in seen:
        assert held_out
        assert not kept & held_out
    assert [len(kept | held_out) for kept, held_out in seen] == [4, 4, 4, 4, 8]


COLUMNS = {
    "array": lambda frame: frame.to_numpy(),
    "pandas": lambda frame: frame,
    "polars": lambda frame: pytest.importorskip("polars").from_pandas(frame),
    "polars series": lambda frame: pytest.importorskip("polars").from_pandas(frame)["dna"],
}


@pytest.mark.parametrize("form", COLUMNS)
def test_a_column_is_read_as_a_list(form):
    column = COLUMNS[form](SEQUENCES.to_frame("dna"))
    expected = clone(CLASSIFIER).fit(list(SEQUENCES), LABELS).predict_proba(list(SEQUENCES))
    fitted = clone(CLASSIFIER).fit(column, LABELS)
    np.testing.assert_array_equal(fitted.predict_proba(column), expected)
    assert fitted.score(column, LABELS) > 0.9


@pytest.mark.parametrize("form", ["default", "pandas"])
def test_a_classifier_reads_the_column_that_a_transformer_selects(form):
    frame = pd.DataFrame({"length": SEQUENCES.str.len(), "dna": SEQUENCES})
    select = ColumnTransformer([("dna", "passthrough", ["dna"])]).set_output(transform=form)
    fitted = make_pipeline(select, CLASSIFIER).fit(frame, LABELS)
    expected = clone(CLASSIFIER).fit(SEQUENCES, LABELS).predict_proba(SEQUENCES)
    np.testing.assert_array_equal(fitted.predict_proba(frame), expected)
    with pytest.raises(ValueError, match=r"X has shape \(48, 2\); give N >= 1 sequences"):
        clone(CLASSIFIER).fit(frame, LABELS)


@pytest.mark.parametrize("form", [list, np.array, pd.Series, pd.DataFrame])
def test_probabilities_can_be_calibrated(form):
    X = form(SEQUENCES)
    calibrated = CalibratedClassifierCV(CLASSIFIER, cv=2).fit(X, LABELS)
    p = calibrated.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (calibrated.predict(X) == LABELS).mean() > 0.9


def test_classifiers_can_vote():
    words = make_pipeline(CountVectorizer(analyzer="char"), MultinomialNB())
    voters = [("titans", CLASSIFIER), ("words", words)]
    together = VotingClassifier(voters, voting="soft").fit(SEQUENCES, LABELS)
    each = [clone(voter).fit(SEQUENCES, LABELS).predict_proba(SEQUENCES) for _, voter in voters]
    np.testing.assert_allclose(together.predict_proba(SEQUENCES), np.mean(each, 0), rtol=1e-6)
    assert (together.predict(SEQUENCES) == LABELS).mean() > 0.9


def test_a_regressor_learns_a_transformed_target():
    regressor, X, y, _ = CASES["regressor"]
    logarithmic = TransformedTargetRegressor(regressor, func=np.log1p, inverse_func=np.expm1)
    expected = np.expm1(clone(regressor).fit(X, np.log1p(y)).predict(X))
    np.testing.assert_allclose(logarithmic.fit(X, y).predict(X), expected)
