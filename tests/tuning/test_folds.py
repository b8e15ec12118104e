"""What is fitted and what is scored: no leak, and every forecast of a fold counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.tuning.cases import classifier, forecaster, wave
from titans_ts import TitansRegressor
from titans_ts.tuning.folds import final_step, forecast_folds, sequence_folds

L, H = 8, 2


def steps(part):
    """The places in time that a part of a series 0, 1, 2, ... holds."""
    return np.asarray(part).ravel().astype(int).tolist()


FORMS = {
    "vector": np.arange,
    "array": lambda n: np.arange(n)[:, None],
    "series": lambda n: pd.Series(range(n), pd.date_range("2024", periods=n, freq="h")),
    "frame": lambda n: pd.DataFrame(
        {"a": range(n)}, pd.date_range("2024", periods=n, freq="h", tz="UTC")
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("cv", "borders"),
    [
        (None, [(0, 40, 50)]),
        (2, [(0, 18, 34), (0, 34, 50)]),
        (TimeSeriesSplit(2, test_size=5, max_train_size=15), [(25, 40, 45), (30, 45, 50)]),
        (TimeSeriesSplit(2, test_size=5, gap=3), [(0, 37, 40, 45), (0, 42, 45, 50)]),
        ([(range(12), range(12, 20))], [(0, 12, 20)]),
    ],
    ids=["default", "count", "rolling", "gap", "listed"],
)
def test_test_parts_follow_training_parts_and_start_with_the_context(form, cv, borders):
    X = FORMS[form](50)
    cv = [tuple(np.array(part) for part in split) for split in cv] if isinstance(cv, list) else cv
    folds = forecast_folds(forecaster(), X, cv)
    assert len(folds) == len(borders)
    for fold, (start, *border, end) in zip(folds, borders, strict=True):
        assert steps(fold.X) == list(range(start, border[0]))
        assert steps(fold.test_X) == list(range(border[-1] - L, end))
        assert type(fold.X) is type(fold.test_X) is type(X)
        assert (fold.y, fold.groups, fold.test_y) == (None, None, None)


@pytest.mark.parametrize("form", FORMS)
def test_a_context_of_none_is_that_of_the_training_part(form):
    X = FORMS[form](200)
    estimator = forecaster(context_length=None)
    folds = forecast_folds(estimator, X, 2)
    contexts = []
    for fold, first in zip(folds, (68, 134), strict=True):
        contexts.append(clone(estimator).fit(fold.X).model_.config.context_length)
        assert steps(fold.test_X)[0] == first - contexts[-1]
    assert contexts == ([17, 33] if form in ("vector", "array") else [26, 33])
    with pytest.raises(ValueError, match="cv leaves 3 training steps in fold 0 .* at least 4 are"):
        forecast_folds(estimator, X[:9], [(np.arange(3), np.arange(3, 9))])


def long_frame(ends, begins=None, n=50):
    """Items whose values are the hours since the first, shuffled."""
    begins = begins or dict.fromkeys(ends, 0)
    parts = [
        pd.DataFrame(
            {
                "item_id": item,
                "timestamp": pd.date_range("2024", periods=n, freq="h")[begins[item] : end],
                "value": range(begins[item], end),
            }
        )
        for item, end in ends.items()
    ]
    return pd.concat(parts).sample(frac=1, random_state=0)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("indexed", [False, True])
def test_all_items_of_a_long_frame_are_split_at_one_time(indexed, as_text):
    frame = long_frame({"all": 50, "ended": 30, "late": 50}, {"all": 0, "ended": 0, "late": 36})
    if as_text:
        frame["timestamp"] = frame["timestamp"].dt.strftime("%b %d %Y %H:%M")
    (fold,) = forecast_folds(
        forecaster(), frame.set_index(["item_id", "timestamp"]) if indexed else frame, None
    )
    fitted = fold.X.reset_index().groupby("item_id")["value"].agg(["min", "max"])
    scored = fold.test_X.reset_index().groupby("item_id")["value"].agg(["min", "max"])
    assert fitted.loc[["all", "ended", "late"], "max"].tolist() == [39, 29, 39]
    assert scored.loc["all"].tolist() == [32, 49]
    assert scored.loc["late"].tolist() == [36, 49]
    assert forecaster(max_epochs=1).fit(fold.X).score(fold.test_X) > -np.inf


def test_items_whose_times_differ_have_a_whole_context_each():
    frame = long_frame({"a": 50, "b": 50})
    late = frame["item_id"] == "b"
    frame.loc[late, "timestamp"] += pd.Timedelta("30min")
    (fold,) = forecast_folds(forecaster(), frame, None)
    for item in "ab":
        rows = sorted(fold.test_X.loc[fold.test_X["item_id"] == item, "value"])
        assert rows == list(range(40 - L, 50))


@pytest.mark.parametrize("form", ["index", "column", "polars", "long"])
def test_folds_count_the_steps_of_a_frequency(form):
    times = pd.date_range("2024", periods=100, freq="30min").delete([3, 75, 76, 77])
    frame = pd.DataFrame({"value": np.arange(100.0)[np.delete(np.arange(100), [3, 75, 76, 77])]})
    if form == "index":
        frame.index = times
    else:
        frame["timestamp"] = times
    if form == "long":
        frame = frame.assign(item_id="a").sample(frac=1, random_state=0)
    if form == "polars":
        frame = polars.from_pandas(frame)
    (fold,) = forecast_folds(forecaster(freq="h"), frame, None)  # 50 hours
    assert (fold.X["value"].min(), fold.X["value"].max()) == (0, 79)
    assert (fold.test_X["value"].min(), fold.test_X["value"].max()) == (80 - 2 * L, 99)
    fitted = forecaster(freq="h", max_epochs=1).fit(fold.X)
    assert fitted.backtest(fold.test_X, stride=1).n_windows == 10 - H + 1


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (9, r"cv leaves 5 training steps in fold 0 and 5 .* 10 are needed \(use fewer folds"),
        (
            TimeSeriesSplit(2, test_size=1),
            "cv leaves 1 test steps in fold 0; .*, 2, are needed",
        ),
        (KFold(2), "cv leaves 25 training steps in fold 0 and 0 steps before its test"),
        (
            [(np.arange(30, 50), np.arange(20, 30))],
            "training steps 30 to 49 and test steps 20 to 29",
        ),
        (
            [(np.arange(30), np.arange(20, 40))],
            "training steps 0 to 29 and test steps 20 to 39",
        ),
        ([(np.r_[0:20, 25:30], np.arange(30, 40))], "fold 0 .* both must be without gaps"),
        ([(np.arange(30), np.r_[30:35, 38:45])], "fold 0 .* test steps must come later"),
    ],
)
def test_folds_that_leak_or_are_too_short_are_refused(cv, message):
    with pytest.raises(ValueError, match=message):
        forecast_folds(forecaster(), np.arange(50), cv)


def test_a_series_too_short_for_a_fold_is_refused():
    for n in (0, 3, 11):
        with pytest.raises(ValueError, match="cv leaves"):
            forecast_folds(forecaster(), np.arange(float(n)), None)


X = np.array([f"s{i}" for i in range(40)])
Y = np.array(["a", "a", "a", "b"] * 10)
GROUPS = np.repeat(np.arange(8), 5)


def shares(folds):
    return [(len(f.y), len(f.test_y), float(np.mean(np.array(f.test_y) == "b"))) for f in folds]


@pytest.mark.parametrize("kind", [list, np.array, pd.Series])
@pytest.mark.parametrize(
    ("cv", "expected"),
    [
        (None, [(32, 8, 0.25)]),
        (4, [(30, 10, 0.2), (30, 10, 0.2), (30, 10, 0.3), (30, 10, 0.3)]),
        (StratifiedKFold(2), [(20, 20, 0.25), (20, 20, 0.25)]),
    ],
)
def test_folds_of_a_classifier_are_stratified(kind, cv, expected):
    folds = sequence_folds(classifier(), kind(X), kind(Y), None, cv, 0)
    assert sorted(shares(folds)) == sorted(expected)
    for fold in folds:
        assert sorted([*fold.X, *fold.test_X]) == sorted(X)
        assert [Y[int(x[1:])] for x in fold.X] == list(fold.y)
        assert [Y[int(x[1:])] for x in fold.test_X] == list(fold.test_y)
        assert fold.groups is None


@pytest.mark.parametrize(("cv", "n"), [(None, 1), (4, 4)])
def test_groups_are_held_out_whole(cv, n):
    folds = sequence_folds(classifier(), X, Y, GROUPS, cv, 0)
    assert len(folds) == n
    for fold in folds:
        held_out = {GROUPS[int(x[1:])] for x in fold.test_X}
        assert held_out
        assert held_out.isdisjoint(fold.groups)
        assert [GROUPS[int(x[1:])] for x in fold.X] == list(fold.groups)
        assert 5 <= len(fold.test_X) <= 10


@pytest.mark.parametrize("n_groups", [3, 4])
def test_few_groups_are_enough_to_hold_one_out(n_groups):
    groups = np.arange(40) * n_groups // 40
    for seed in range(5):
        (fold,) = sequence_folds(classifier(), X, Y, groups, None, seed)
        assert len({groups[int(x[1:])] for x in fold.test_X}) == 1


def test_two_groups_are_too_few_for_early_stopping():
    groups = np.arange(40) // 20
    with pytest.raises(ValueError, match="there are 2 groups, and a fold trains on one of them"):
        sequence_folds(classifier(), X, Y, groups, None, 0)
    assert (
        len(
            sequence_folds(
                classifier(training_options={"validation_fraction": 0}), X, Y, groups, 2, 0
            )
        )
        == 2
    )


def test_folds_may_be_given_as_lists():
    splits = [(range(30), list(range(30, 40)))]
    (fold,) = forecast_folds(forecaster(), wave(40), splits)
    assert len(fold.X) == 30


def test_folds_of_values_and_of_several_labels_are_drawn_at_random():
    values = np.arange(40.0)
    (fold,) = sequence_folds(TitansRegressor(), X, values, None, None, 0)
    assert (len(fold.y), len(fold.test_y)) == (32, 8)
    (again,) = sequence_folds(TitansRegressor(), X, values, None, None, 0)
    (other,) = sequence_folds(TitansRegressor(), X, values, None, None, 1)
    assert list(again.test_y) == list(fold.test_y) != list(other.test_y)
    (fold,) = sequence_folds(TitansRegressor(), X, values, GROUPS, None, 0)
    assert set(fold.test_y // 5).isdisjoint(fold.y // 5)
    labels = np.stack([values > 20, values % 2 > 0], 1).astype(int)
    folds = sequence_folds(classifier(), X, labels, None, 2, 0)
    assert [f.test_y.shape for f in folds] == [(20, 2), (20, 2)]


@pytest.mark.parametrize(
    ("y", "groups", "cv", "message"),
    [
        (None, None, None, "y is None; give the target of each sequence"),
        (Y[:10], None, None, "inconsistent numbers of samples"),
        (Y, np.zeros(40), None, "cv is None and there are 1 groups; give at least two groups"),
        (Y, GROUPS, 9, "cv is 9 and there are 8 groups"),
        (Y, GROUPS, 1, "cv is 1 and there are 8 groups"),
    ],
)
def test_impossible_folds_are_refused(y, groups, cv, message):
    with pytest.raises(ValueError, match=message):
        sequence_folds(classifier(), X, y, groups, cv, 0)


def test_the_last_step_of_nested_pipelines_decides():
    last = forecaster()
    assert final_step(last) is last
    assert final_step(make_pipeline(StandardScaler(), make_pipeline("passthrough", last))) is last
