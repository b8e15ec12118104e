"""The search as an estimator: its contract, its trials, pruning, and what it refuses."""

from __future__ import annotations

import contextlib
import itertools
import pickle

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import StratifiedKFold, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags

from tests.support import Clock
from tests.tuning.cases import (
    PLACES,
    RATES,
    ROWS,
    CountingStorage,
    Probe,
    classifier,
    fitted,
    forecaster,
    probe_search,
    search,
    sequences,
    wave,
)
from titans_ts import TitansRegressor
from titans_ts.tuning import runner
from titans_ts.tuning.folds import forecast_folds, sequence_folds
from titans_ts.tuning.storage import open_storage

LABELS = ["a", "b", "b"] * 10


@pytest.fixture(scope="module")
def forecasts():
    """A search of a forecaster, three trials of two folds."""
    return search(cv=2, n_trials=3, pruner="none").fit(wave())


@pytest.fixture(scope="module")
def classes():
    """A search of a classifier, by the log loss of two folds."""
    found = search(classifier(), cv=2, scoring="neg_log_loss", pruner="none")
    return found.fit(sequences(), LABELS)


def test_the_results_are_scikit_learns(forecasts):
    results, trials = forecasts.cv_results_, forecasts.study_.trials
    assert results["trial"].tolist() == [0, 1, 2]
    assert results["state"].tolist() == ["COMPLETE"] * 3
    assert results["params"] == [t.params for t in trials]
    assert results["param_learning_rate"].tolist() == [t.params["learning_rate"] for t in trials]
    splits = np.stack([results["split0_test_score"], results["split1_test_score"]])
    np.testing.assert_allclose(results["mean_test_score"], splits.mean(0))
    np.testing.assert_allclose(results["std_test_score"], splits.std(0))
    np.testing.assert_allclose(results["mean_test_score"], [t.value for t in trials])
    order = results["mean_test_score"][np.argsort(results["rank_test_score"])]
    assert order.tolist() == sorted(order, reverse=True)
    best = forecasts.best_index_
    assert results["rank_test_score"][best] == 1
    assert forecasts.best_params_ == results["params"][best]
    assert forecasts.best_score_ == pytest.approx(results["mean_test_score"][best])
    assert (results["mean_fit_time"] > 0).all()
    assert (results["mean_score_time"] > 0).all()
    assert forecasts.n_splits_ == 2


def test_the_estimators_own_parameters_are_tried_first(forecasts, classes):
    for found in (forecasts, classes):
        assert found.cv_results_["params"][0] == {"learning_rate": 3e-3}


def test_a_score_is_that_of_a_fit_by_hand(forecasts):
    for i, fold in enumerate(forecast_folds(forecaster(), wave(), 2)):
        for trial, params in enumerate(forecasts.cv_results_["params"]):
            by_hand = forecaster(**params).fit(fold.X).score(fold.test_X)
            assert forecasts.cv_results_[f"split{i}_test_score"][trial] == pytest.approx(by_hand)


def test_the_best_is_fitted_on_all_data_and_predicts(forecasts):
    by_hand = forecaster(**forecasts.best_params_).fit(wave())
    np.testing.assert_array_equal(forecasts.predict(), by_hand.predict())
    np.testing.assert_array_equal(forecasts.predict_quantiles(), by_hand.predict_quantiles())
    np.testing.assert_array_equal(
        forecasts.predict_interval(coverage=0.5), by_hand.predict_interval(coverage=0.5)
    )
    assert forecasts.score(wave()) == pytest.approx(by_hand.score(wave()))
    assert forecasts.best_estimator_.get_params() == by_hand.get_params()
    assert forecasts.n_features_in_ == 1
    assert forecasts.refit_time_ > 0
    assert not hasattr(forecasts, "predict_proba")
    assert not hasattr(forecasts, "classes_")


def test_epochs_report_what_early_stopping_would_keep(forecasts):
    for trial in forecasts.study_.trials:
        expected = {}
        for i, fold in enumerate(forecast_folds(forecaster(), wave(), 2)):
            history = forecaster(**trial.params).fit(fold.X).history_
            best = np.minimum.accumulate([epoch["validation_loss"] for epoch in history])
            expected |= {i * 81 + share: -loss for share, loss in zip((41, 81), best, strict=True)}
        assert list(trial.intermediate_values) == [41, 81, 122, 162], "81 steps a fit"
        assert trial.intermediate_values == pytest.approx(expected)


def test_a_classifier_is_searched_by_any_scorer(classes):
    assert classes.classes_.tolist() == ["a", "b"]
    by_hand = classifier(**classes.best_params_).fit(sequences(), LABELS)
    np.testing.assert_array_equal(
        classes.predict_proba(sequences()), by_hand.predict_proba(sequences())
    )
    np.testing.assert_array_equal(classes.predict(sequences()), by_hand.predict(sequences()))
    assert not hasattr(classes, "predict_quantiles")
    assert -2 < classes.score(sequences(), LABELS) < 0  # the log loss
    assert is_classifier(classes)
    folds = sequence_folds(classifier(), sequences(), LABELS, None, StratifiedKFold(2), 0)
    model = classifier(**classes.best_params_).fit(folds[0].X, folds[0].y)
    chances = model.predict_proba(folds[0].test_X)
    own = chances[np.arange(15), (np.array(folds[0].test_y) == "b").astype(int)]
    score = classes.cv_results_["split0_test_score"][classes.best_index_]
    assert score == pytest.approx(np.log(own).mean())


def test_a_fitted_search_is_pickled_and_cloned(forecasts, classes):
    for found, X in ((forecasts, ()), (classes, (sequences(),))):
        again = pickle.loads(pickle.dumps(found))
        np.testing.assert_array_equal(again.predict(*X), found.predict(*X))
        assert [t.params for t in again.study_.trials] == [t.params for t in found.study_.trials]
        anew = clone(found)
        assert not hasattr(anew, "best_params_")
        assert anew.get_params()["estimator__d_model"] == 8
        assert anew.estimator is not found.estimator
        params = anew.get_params(deep=False)
        assert set(params) == set(found.get_params(deep=False))
        assert params["space"] == found.space


def test_a_search_changes_neither_its_parameters_nor_the_data():
    X, own = (
        wave(),
        forecaster(training_options={"trainer_kwargs": {"callbacks": []}}, progress_bar=True),
    )
    before, params = X.copy(), own.get_params()
    found = search(own, n_trials=1, refit=False)
    settings = found.get_params()
    assert found.fit(X) is found
    assert found.get_params() == settings
    assert own.get_params() == params
    np.testing.assert_array_equal(X, before)


def test_an_unfitted_search_raises():
    found = search()
    assert hasattr(found, "predict")
    assert not hasattr(found, "predict_proba")
    for call in (found.predict, lambda: found.score(wave()), found.importances):
        with pytest.raises(NotFittedError):
            call()
    assert not hasattr(found, "n_features_in_")
    assert is_regressor(probe_search())
    assert get_tags(search(classifier())).input_tags == get_tags(classifier()).input_tags


def test_without_refit_there_are_only_results():
    found = probe_search(refit=False).fit(*ROWS)
    assert set(found.best_params_) == {"x"}
    assert not hasattr(found, "best_estimator_")
    with pytest.raises(AttributeError, match="refit is False"):
        found.predict(ROWS[0])


def test_a_fit_that_fails_leaves_the_search_as_it_was():
    found = probe_search().fit(*ROWS)
    best, study = found.best_params_, found.study_
    found.set_params(scoring=lambda *_: np.nan)
    with pytest.raises(RuntimeError, match=r"no trial completed \(2 started\)"):
        found.fit(*ROWS)
    assert found.best_params_ is best
    assert found.study_ is study


@pytest.mark.parametrize("state", [0, 7])
def test_the_same_seed_repeats_a_search_exactly(state):
    runs = [search(random_state=s, pruner="none", refit=False).fit(wave()) for s in (state, state)]
    first, second = (run.cv_results_ for run in runs)
    assert first["params"] == second["params"]
    np.testing.assert_array_equal(first["mean_test_score"], second["mean_test_score"])
    other = search(random_state=state + 1, pruner="none", refit=False).fit(wave())
    assert other.cv_results_["params"][1] != first["params"][1]


@pytest.mark.parametrize("sampler", ["tpe", "random", optuna.samplers.TPESampler(seed=0)])
def test_a_search_finds_the_optimum(sampler):
    found = probe_search(n_trials=25, sampler=sampler).fit(*ROWS)
    assert found.best_params_["x"] == pytest.approx(0.3, abs=0.05)
    assert found.best_score_ == -((found.best_params_["x"] - 0.3) ** 2)
    assert found.best_estimator_.x == found.best_params_["x"]


def test_a_wide_frame_keeps_its_names_and_times():
    X = pd.DataFrame({"a": wave(), "b": wave()[::-1]}, pd.date_range("2024", periods=80, freq="h"))
    found = search().fit(X)
    assert found.feature_names_in_.tolist() == ["a", "b"]
    answer = found.predict()
    assert list(answer.columns) == ["a", "b"]
    assert answer.index[0] == X.index[-1] + pd.Timedelta("1h")
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("objectives", [("score",), ("score", "latency")])
def test_a_long_frame_with_covariates_is_searched(objectives):
    days = pd.date_range("2024", periods=50, freq="D")
    sales = pd.concat(
        pd.DataFrame({"item_id": shop, "timestamp": days, "sold": wave(50), "price": 1.0 * i})
        for i, shop in enumerate(["north", "south"])
    )
    panel = forecaster(target="sold", known_covariates="price")
    found = search(panel, n_trials=1, objectives=objectives, cv=2).fit(sales)
    assert found.cv_results_["state"].tolist() == ["COMPLETE"]
    plan = sales.groupby("item_id").tail(2)
    plan = plan.assign(timestamp=plan["timestamp"] + pd.Timedelta("2D")).drop(columns="sold")
    answer = found.predict(known_covariates=plan)
    assert answer["item_id"].tolist() == ["north", "north", "south", "south"]


@pytest.mark.parametrize("scoring", ["mae", "crps", None])
def test_the_score_of_an_error_is_its_negative(scoring):
    X = wave()
    found = search(scoring=scoring, n_trials=1).fit(X)
    (fold,) = forecast_folds(forecaster(), X, None)
    model = forecaster().fit(fold.X)
    errors = model.backtest(fold.test_X, stride=1).metrics()
    expected = model.score(fold.test_X) if scoring is None else -errors.loc["titans", scoring]
    assert found.best_score_ == pytest.approx(expected)
    assert found.score(X) == pytest.approx(
        found.best_estimator_.score(X)
        if scoring is None
        else -found.best_estimator_.backtest(X, stride=1).metrics().loc["titans", scoring]
    )


def test_a_regressor_is_tuned_with_whole_groups():
    values, groups = np.arange(30.0), np.repeat(np.arange(6), 5)
    regressor = TitansRegressor(d_model=8, n_heads=1, n_layers=1, max_epochs=1, random_state=0)
    found = search(regressor, n_trials=1).fit(sequences(), values, groups=groups)
    assert found.cv_results_["state"].tolist() == ["COMPLETE"]
    assert found.predict(sequences(3)).shape == (3,)


def identity(X):
    return X


def test_a_pipeline_that_ends_with_a_classifier_is_searched_by_groups():
    steps = make_pipeline(FunctionTransformer(identity), make_pipeline(classifier()))
    space = {f"pipeline__titansclassifier__{k}": d for k, d in RATES.items()}
    groups = np.repeat(np.arange(10), 3)
    found = search(steps, space, n_trials=1).fit(sequences(), LABELS, groups=groups)
    assert set(found.best_params_) == set(space)
    (fold,) = sequence_folds(
        classifier(),
        sequences(),
        LABELS,
        groups,
        None,
        int(np.random.RandomState(0).randint(2**31 - 1)),
    )
    model = classifier(learning_rate=found.best_params_[next(iter(space))])
    model.fit(fold.X, fold.y, groups=fold.groups)
    assert found.best_score_ == pytest.approx(model.score(fold.test_X, fold.test_y))
    assert (
        found.predict(sequences()).tolist() == found.best_estimator_.predict(sequences()).tolist()
    )


def test_a_search_works_in_a_pipeline_and_around_one():
    X = 1000 * wave()[:, None]
    inner = Pipeline([("scale", StandardScaler()), ("model", forecaster())])
    space = {f"model__{k}": d for k, d in RATES.items()}
    found = search(inner, space, pruner="none").fit(X)
    assert found.best_params_.keys() == space.keys()
    assert found.cv_results_["params"][0] == {"model__learning_rate": 3e-3}
    scaled = StandardScaler().fit_transform(X)
    outer = Pipeline([("scale", StandardScaler()), ("search", search(pruner="none"))]).fit(X)
    np.testing.assert_array_equal(outer.predict(X), outer["search"].predict(scaled))
    assert outer.score(X) == pytest.approx(outer["search"].score(scaled))
    assert (
        outer["search"].best_params_["learning_rate"]
        in found.cv_results_["param_model__learning_rate"]
    )
    assert clone(outer).get_params()["search__estimator__d_model"] == 8


def test_a_search_works_in_cross_validation():
    X = wave()[:, None]
    cv = TimeSeriesSplit(2, test_size=20)
    scores = cross_val_score(search(), X, cv=cv, error_score="raise")
    for score, (train, test) in zip(scores, cv.split(X), strict=True):
        assert score == pytest.approx(search().fit(X[train]).score(X[test]))


class Failing(Probe):
    """Ends as it is told."""

    def fit(self, X, y=None):
        if self.x > 0.5:
            raise MemoryError("no room for a model so large")
        if self.x > 0.4:
            raise RuntimeError("CUDA out of memory")
        return super().fit(X, y)

    def score(self, X, y=None):
        return np.nan if self.x < 0.2 else super().score(X, y)


def tried(*values):
    """A space whose trial n draws the n-th value."""
    return lambda trial: {"x": values[trial.number % len(values)]}


def test_failed_trials_are_recorded_with_their_reasons():
    found = search(Failing(), tried(0.9, 0.45, 0.1, 0.25, 0.3), n_trials=5).fit(*ROWS)
    results = found.cv_results_
    assert list(zip(results["state"], results["reason"], strict=True)) == [
        ("FAIL", "MemoryError: no room for a model so large"),
        ("FAIL", "RuntimeError: CUDA out of memory"),
        ("FAIL", "FloatingPointError: the score is nan"),
        ("COMPLETE", ""),
        ("COMPLETE", ""),
    ]
    assert np.isnan(results["mean_test_score"][:3]).all()
    assert results["rank_test_score"].tolist() == [3, 3, 3, 2, 1]
    assert results["params"][3:] == [{"x": 0.25}, {"x": 0.3}]
    assert found.best_params_ == {"x": 0.3}


def test_a_trial_that_diverges_fails_and_the_search_continues():
    found = search(forecaster(), lambda trial: {"learning_rate": [1e30, 3e-3][trial.number]}).fit(
        wave()
    )
    assert found.cv_results_["state"].tolist() == ["FAIL", "COMPLETE"]
    assert found.cv_results_["reason"][0].startswith("FloatingPointError: training diverged")
    assert found.best_params_ == {"learning_rate": 3e-3}


def test_a_search_continues_after_a_grid_is_exhausted():
    grid = {"x": [0.1, 0.2, 0.6]}
    space = {"x": CategoricalDistribution(grid["x"])}
    sampler = optuna.samplers.GridSampler(grid, seed=0)
    found = search(Probe(), space, n_trials=5, sampler=sampler).fit(*ROWS)
    assert set(found.cv_results_["param_x"]) == set(grid["x"])
    assert set(found.cv_results_["state"]) == {"COMPLETE"}


@pytest.mark.parametrize(
    ("values", "n_trials", "message"),
    [
        (
            (0.9, 0.45),
            2,
            "no trial completed \\(2 started\\): MemoryError: no room.*; RuntimeError: CUDA out",
        ),
        (
            (0.9,),
            50,
            "all of 3 trials failed for the same reason: MemoryError: no room for a model so large",
        ),
    ],
)
def test_a_search_without_a_complete_trial_raises(values, n_trials, message):
    with pytest.raises(RuntimeError, match=message):
        search(Failing(), tried(*values), n_trials=n_trials).fit(*ROWS)


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
@pytest.mark.parametrize("storage", [False, True])
def test_a_choice_may_be_a_tuple(tmp_path, storage):
    space = {"blend": CategoricalDistribution([("linear",), ("linear", "drift")])}
    options = {"storage": str(tmp_path / "study.journal")} if storage else {}
    estimator = forecaster(n_layers=0, max_epochs=1, blend=("linear", "drift"))
    found = search(estimator, space, n_trials=2, **options).fit(wave())
    assert found.cv_results_["params"][0] == {"blend": ["linear", "drift"]}  # its own
    assert found.best_estimator_.blend == found.best_params_["blend"]


def test_a_space_may_be_a_function_of_the_trial():
    def space(trial):
        if trial.suggest_categorical("far", [False, True]):
            return {"x": 0.5 + trial.suggest_float("rest", 0, 0.5)}
        return {"x": trial.suggest_float("near", 0, 0.5)}

    found = search(Probe(), space, n_trials=12).fit(*ROWS)
    params = found.cv_results_["params"]
    assert [set(p) for p in params] == [{"x"}] * 12
    for p, trial in zip(params, found.study_.trials, strict=True):
        near, rest = trial.params.get("near"), trial.params.get("rest")
        assert p["x"] == (0.5 + rest if trial.params["far"] else near)
    assert found.best_estimator_.x == found.best_params_["x"]
    assert found.importances().index.tolist() == ["far"]  # what every trial has


GOOD, BAD = 5e-3, 1e-7


def rates(trial):
    """Four good rates, then bad ones, then good ones."""
    bad = 4 <= trial.number < 8
    return {"learning_rate": (BAD if bad else GOOD) * (1 + trial.number / 1000)}


@pytest.mark.parametrize(
    "pruner", ["asha", *(pytest.param(p, marks=pytest.mark.slow) for p in ("median", "hyperband"))]
)
def test_a_bad_trial_is_pruned_before_its_last_epoch(pruner):
    found = search(
        forecaster(n_layers=0, max_epochs=6),
        rates,
        cv=2,
        n_trials=9,
        pruner=pruner,
        study_name="study",
    ).fit(wave())
    trials = found.study_.trials
    bad = [t for t in trials if rates(t)["learning_rate"] < 1e-6]
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    assert trials[0].state == TrialState.COMPLETE
    assert sum(t.state == TrialState.PRUNED for t in bad) >= 2
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in pruned:
        assert 1 <= len(trial.intermediate_values) < 2 * 6
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            assert trial.last_step > 81, "some of the second fold, which may stop early"
    places = [t.number for t in pruned]
    assert np.isnan(found.cv_results_["mean_test_score"][places]).all()
    assert found.best_params_["learning_rate"] > 1e-6


def test_without_a_pruner_every_trial_completes():
    found = search(forecaster(max_epochs=3), rates, n_trials=6, pruner="none").fit(wave())
    assert set(found.cv_results_["state"]) == {"COMPLETE"}
    assert {len(t.intermediate_values) for t in found.study_.trials} == {3}


def test_both_trainings_of_one_fit_report_their_epochs_once():
    found = search(classifier(rc="auto"), n_trials=1).fit(sequences(), LABELS)
    (trial,) = found.study_.trials
    assert list(trial.intermediate_values) == [41, 81]


@pytest.mark.slow
def test_every_pruning_step_is_reported_once_with_many_epochs():
    estimator = forecaster(n_layers=0, max_epochs=100, training_options={"patience": 100})
    found = search(estimator, n_trials=1).fit(wave())
    steps = list(found.study_.trials[0].intermediate_values)
    assert steps == list(range(1, 82))


def sizes(trial):
    return {"d_model": trial.suggest_categorical("d_model", [8, 16, 32])}


def test_the_pareto_front_holds_the_trials_that_no_other_dominates():
    names = ("score", "latency", "size")
    found = search(forecaster(max_epochs=1), sizes, n_trials=6, objectives=names).fit(wave())
    assert set(found.cv_results_["state"]) == {"COMPLETE"}
    values = np.array([t.values for t in found.study_.trials]) * [-1, 1, 1]
    beaten = [any((o <= v).all() and (o < v).any() for o in values) for v in values]
    expected = [t.number for t, b in zip(found.study_.trials, beaten, strict=True) if not b]
    assert sorted(found.pareto_front_.index) == expected
    assert list(found.pareto_front_.columns) == [*names, "d_model"]
    assert found.pareto_front_["score"].is_monotonic_decreasing
    assert (found.pareto_front_["latency"] > 0).all()
    for _, row in found.pareto_front_.iterrows():
        model = forecaster(max_epochs=1, d_model=int(row["d_model"])).fit(wave()).model_
        assert row["size"] == sum(p.numel() for p in model.parameters())
    assert found.best_score_ == found.cv_results_["mean_test_score"].max()
    assert found.best_params_["d_model"] == found.best_estimator_.d_model


@pytest.mark.parametrize("objective", ["size", "latency"])
def test_a_single_objective_may_be_size_or_latency(objective):
    found = search(forecaster(max_epochs=1), sizes, n_trials=3, objectives=(objective,))
    found.fit(wave())
    assert found.study_.direction == optuna.study.StudyDirection.MINIMIZE
    assert set(found.cv_results_["state"]) == {"COMPLETE"}
    assert not hasattr(found, "pareto_front_")


def test_the_best_of_a_warm_start_study_are_tried_first(tmp_path):
    storage = tmp_path / "journal"
    former = probe_search(storage=storage, study_name="former", n_trials=8).fit(*ROWS)
    order = np.argsort(former.cv_results_["rank_test_score"], kind="stable")[:5]
    best = [former.cv_results_["params"][i] for i in order]
    own = {"x": 0.5}
    for given in ("former", former.study_):
        found = probe_search(
            storage=storage, study_name=f"later {type(given)}", n_trials=8, warm_start_study=given
        ).fit(*ROWS)
        expected = [own, *(p for p in best if p != own)]
        assert found.cv_results_["params"][: len(expected)] == expected
        assert found.best_score_ >= former.best_score_
        assert clone(found).fit(*ROWS).best_score_ == found.best_score_
    space = {"x": FloatDistribution(0.9, 1.0)}
    far = search(Probe(), space, warm_start_study=former.study_, n_trials=3).fit(*ROWS)
    assert min(p["x"] for p in far.cv_results_["params"]) >= 0.9


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_any_optuna_study_can_be_a_warm_start(direction):
    former = optuna.create_study(direction=direction)
    former.optimize(
        lambda trial: trial.suggest_float("x", 0, 1) + 0 * trial.suggest_int("z", 0, 1), 9
    )
    found = probe_search(warm_start_study=former, n_trials=3).fit(*ROWS)
    assert found.cv_results_["params"][1] == {"x": former.best_params["x"]}


def test_a_timeout_ends_a_search(tmp_path, monkeypatch):
    log, clock = tmp_path / "log", Clock()
    monkeypatch.setattr(runner, "monotonic", clock)

    def one_second(estimator, X, y=None):
        clock.now += 1
        return estimator.score(X)

    found = probe_search(log=log, n_trials=None, timeout=5.5, scoring=one_second).fit(*ROWS)
    assert len(found.cv_results_["params"]) == 6  # the last one starts after five seconds
    assert len(fitted(log)) == 6 + 1  # and the best parameters on all data
    found = probe_search(n_trials=100, timeout=3.5, scoring=one_second).fit(*ROWS)
    assert len(found.cv_results_["params"]) == 4
    monkeypatch.setattr(runner, "monotonic", itertools.count(0, 10).__next__)
    with pytest.raises(RuntimeError, match=r"no trial completed \(0 started\): timeout reached"):
        probe_search(timeout=5).fit(*ROWS)


@pytest.mark.parametrize(("sampler", "expected"), [("random", 1), ("tpe", 2)])
def test_a_trial_reads_the_study_once_and_the_sampler_once_if_it_needs_to(sampler, expected):
    n_reads = {}
    for n_trials in (15, 40):  # "tpe" draws at random before it has ten trials
        storage = CountingStorage()
        probe_search(storage=storage, n_trials=n_trials, sampler=sampler).fit(*ROWS)
        n_reads[n_trials] = storage.n_reads
    assert n_reads[40] - n_reads[15] <= expected * (40 - 15)


def test_parameters_have_an_importance():
    space = PLACES | {"hold": CategoricalDistribution([None, "nowhere"])}
    found = search(Probe(), space, n_trials=20).fit(*ROWS)
    importances = found.importances()
    assert importances.index[0] == "x"
    assert importances["x"] > 0.8
    assert importances.sum() == pytest.approx(1)
    assert search(Probe(), tried(0.5), n_trials=2).fit(*ROWS).importances().empty


def test_progress_is_shown(capsys):
    probe_search(progress_bar=True, n_trials=3).fit(*ROWS)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "best=" in shown
    assert "Trial" not in shown  # Optuna's own log


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_trials": 0}, ValueError, "n_trials is 0; it must be an integer of at least 1"),
        ({"n_trials": 2.5}, ValueError, "n_trials is 2.5; it must be an integer"),
        ({"n_trials": None}, ValueError, "n_trials and timeout are both None; give one"),
        ({"timeout": 0}, ValueError, "timeout is 0; it must be a positive number"),
        (
            {"objectives": "score"},
            ValueError,
            r"objectives is 'score'; give a sequence with some of \['score'",
        ),
        (
            {"objectives": ("score", "cost")},
            ValueError,
            "objectives is .*'cost'.; give a sequence with some of",
        ),
        ({"objectives": ()}, ValueError, r"objectives is \(\); give a sequence with some of"),
        ({"sampler": "tpa"}, ValueError, r"sampler is 'tpa'; choose one of \['tpe', 'random'\]"),
        ({"sampler": None}, ValueError, r"sampler is None; choose one of"),
        ({"pruner": "ashen"}, ValueError, r"pruner is 'ashen'; choose one of \['asha'"),
        ({"storage": 5}, ValueError, "storage is 5; give a URL"),
        ({"storage": "no://where"}, ValueError, "storage is 'no://where', which cannot be opened"),
        (
            {"storage": optuna.storages.InMemoryStorage(), "n_jobs": 2},
            ValueError,
            "storage is in memory and n_jobs is 2, .*; use storage=None",
        ),
        ({"space": [1]}, TypeError, r"space is \[1\]; give a dict of optuna.distributions, a func"),
        ({"space": {}}, TypeError, "space is {}; give a dict"),
        ({"space": {"x": [1, 2]}}, TypeError, r"space\['x'\] is \[1, 2\]; give one of optuna"),
        (
            {"space": {"width": IntDistribution(1, 2)}},
            ValueError,
            r"space has 'width', which is no parameter of Probe; choose from \['hold', 'log', 'x'\]",
        ),
        ({"space": None}, TypeError, "space is None, but there is no default space for Probe"),
        ({"scoring": "niceness"}, ValueError, "'scoring' parameter .* Got 'niceness'"),
        ({"scoring": ["r2"]}, ValueError, r"scoring is \['r2'\]; give the name of one scorer"),
        (
            {"warm_start_study": "nothing"},
            ValueError,
            "warm_start_study is 'nothing', and storage has no such",
        ),
        ({"cv": 1}, ValueError, "n_splits=1"),
        ({"cv": []}, ValueError, "cv is .*, which gives no folds"),
        (
            {"estimator": forecaster(), "scoring": "r2"},
            ValueError,
            "scoring is 'r2'; for a forecaster",
        ),
        (
            {"estimator": make_pipeline(forecaster()), "scoring": "mae", "space": None},
            ValueError,
            "scoring is 'mae'; for a forecaster .* None .for a pipeline only",
        ),
    ],
)
def test_a_bad_parameter_is_named_before_anything_runs(params, error, message, tmp_path):
    log, storage = tmp_path / "log", tmp_path / "journal"
    settings = {"estimator": Probe(log=log), "space": PLACES, "storage": storage} | params
    if isinstance(settings["estimator"], type(forecaster())) and "space" not in params:
        settings["space"] = RATES
    with pytest.raises(error, match=message):
        search(**settings).fit(*ROWS)
    assert fitted(log) == []
    assert optuna.get_all_study_names(open_storage(storage)) == []  # nor is a study begun


def test_groups_of_a_series_and_a_worker_without_storage_are_refused():
    with pytest.raises(ValueError, match="groups are given, but a series is split in time"):
        search().fit(wave(), groups=np.zeros(80))
    with pytest.raises(ValueError, match="storage is None; give the storage in which fit created"):
        probe_search().run_worker(*ROWS)


def test_a_space_that_returns_no_dict_raises():
    with pytest.raises(RuntimeError, match="space returned 3; it must return a dict"):
        search(Probe(), lambda trial: 3).fit(*ROWS)
    with contextlib.suppress(RuntimeError):
        search(Probe(), lambda trial: {"y": 3}).fit(*ROWS)
