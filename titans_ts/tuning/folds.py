"""Folds: the data that a trial is fitted on, and the data that it is scored on."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.model_selection import (
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
    check_cv,
)
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, indexable

from titans_ts.estimator import TitansEstimator
from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.parse import read_panel
from titans_ts.forecasting.time_values import as_times
from titans_ts.genomics.parse import check_target

__all__ = ["Fold", "final_step", "fingerprint", "forecast_folds", "sequence_folds"]

HELD_OUT = 0.2
"""Share of the data that is held out if `cv` is None."""

_ROWS = (None, "irregular")
"""Values of `freq` for which every row is a step."""


class Fold(NamedTuple):
    """Parts of the data: `X`, `y` and `groups` to fit, `test_X` and `test_y` to score."""

    X: Any
    y: Any
    groups: Any
    test_X: Any
    test_y: Any


def final_step(estimator: Any) -> Any:
    """Return the last estimator of a pipeline, or the estimator itself."""
    return final_step(estimator.steps[-1][1]) if isinstance(estimator, Pipeline) else estimator


def fingerprint(*parts: Any) -> str:
    """Return a hash of data: series, frames, arrays or sequences; None is skipped."""
    digest = hashlib.sha256()
    for part in parts:
        if part is None:
            continue
        part = part.to_pandas() if hasattr(part, "to_pandas") else part
        part = part.toarray() if issparse(part) else part
        if not isinstance(part, (pd.DataFrame, pd.Series)):
            values = list(part) if isinstance(part, Sequence) else part
            # as an array of str, all sequences would take the memory of the longest
            is_text = isinstance(values, list) and all(isinstance(v, str) for v in values)
            array = np.asarray(values, dtype=object if is_text else None)
            part = pd.DataFrame(array.reshape(len(array), -1))
        digest.update(pd.util.hash_pandas_object(part).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def forecast_folds(forecaster: TitansForecaster, X: Any, cv: Any) -> list[Fold]:
    """Return the folds of a series: the past is fitted, and the rows after it are scored.

    All items of a long frame are split at the same times; with a `freq`, times are counted in its steps.
    The test part starts with the context of its first forecast. So every step after the training part is
    scored, and no step of the training part is. A `context_length` of None is that of a fit to the
    training part.

    Parameters
    ----------
    forecaster : TitansForecaster
        The forecaster whose context and prediction length and names of columns are used.
    X : array, Series or DataFrame
        As for :meth:`TitansForecaster.fit`.
    cv : int, splitter, iterable of (train, test) or None
        Number of folds of scikit-learn's `TimeSeriesSplit`, or a splitter of steps. None: one fold, whose
        test part is the last fifth.

    Raises
    ------
    ValueError
        If a fold is too short for a forecast, or its test part does not follow its training part.
    """
    X = X.to_pandas() if hasattr(X, "to_pandas") else X
    X = X if isinstance(X, (pd.DataFrame, pd.Series)) else np.asarray(X)
    items, time = _item_and_time(X, forecaster)
    n_times = int(time.max(initial=-1)) + 1
    if cv is None:
        border = n_times - max(int(HELD_OUT * n_times), forecaster.prediction_length)
        splits: Any = [(np.arange(max(0, border)), np.arange(max(0, border), n_times))]
    elif isinstance(cv, numbers.Integral):
        splits = TimeSeriesSplit(int(cv)).split(np.zeros(n_times))
    else:
        splits = cv.split(np.zeros(n_times)) if hasattr(cv, "split") else cv
    folds = []
    for i, split in enumerate(splits):
        train, test = (np.asarray(part) for part in split)
        first = int(test.min()) if len(test) else 0
        past = _rows(X, np.isin(time, train))
        context = _context_length(forecaster, past)
        if len(train) < context + forecaster.prediction_length or first < context:
            raise ValueError(
                f"cv leaves {len(train)} training steps in fold {i} and {first} steps before its test "
                f"part; at least {context + forecaster.prediction_length} are needed (use fewer folds, "
                "more history, or a shorter context_length)"
            )
        if len(test) < forecaster.prediction_length:
            raise ValueError(
                f"cv leaves {len(test)} test steps in fold {i}; at least prediction_length, "
                f"{forecaster.prediction_length}, are needed (use fewer folds)"
            )
        if max(train) >= first or not all((np.diff(part) == 1).all() for part in (train, test)):
            raise ValueError(
                f"cv is {cv!r}, whose fold {i} has training steps {min(train)} to {max(train)} and test "
                f"steps {min(test)} to {max(test)}; both must be without gaps, and the test steps must "
                "come later, as in TimeSeriesSplit"
            )
        before = _context_rows(items, time, first, context, by_time=forecaster.freq not in _ROWS)
        folds.append(Fold(past, None, None, _rows(X, np.isin(time, test) | before), None))
    return folds


def sequence_folds(estimator: Any, X: Any, y: Any, groups: Any, cv: Any, seed: int) -> list[Fold]:
    """Return the folds of samples: stratified for a classifier, of whole groups if there are any.

    Parameters
    ----------
    estimator : estimator
        A classifier or a regressor.
    X, y, groups
        N samples, their targets and their groups.
    cv : int, splitter, iterable of (train, test) or None
        The folds, as in scikit-learn. None: one fold, whose test part is a random fifth.
    seed : int
        Seed of that random part, and of folds of groups.

    Raises
    ------
    ValueError
        If y is missing, or there are fewer groups than folds.
    """
    check_target(y)
    X, y, groups = indexable(X, y, groups)
    by_class = is_classifier(estimator) and np.ndim(y) == 1
    if groups is not None and (cv is None or isinstance(cv, numbers.Integral)):
        n_groups = len(np.unique(groups))
        n = min(5, n_groups) if cv is None else int(cv)
        if not 2 <= n <= n_groups:
            raise ValueError(
                f"cv is {cv!r} and there are {n_groups} groups; give at least two groups, and at most as "
                "many folds as groups"
            )
        splitter: Any = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
        labels = y if by_class else np.zeros(len(groups), int)
        splits: Any = list(splitter.split(np.zeros(len(groups)), labels, groups))
        splits = splits[:1] if cv is None else splits
        fewest = min(len(np.unique(_safe_indexing(groups, train))) for train, _ in splits)
        if fewest < 2 and _holds_out(estimator):
            raise ValueError(
                f"there are {n_groups} groups, and a fold trains on one of them; early stopping needs a "
                "second one (give more groups, or training_options={'validation_fraction': 0})"
            )
    elif cv is None:
        kind = StratifiedShuffleSplit if by_class else ShuffleSplit
        splits = kind(1, test_size=HELD_OUT, random_state=seed).split(np.zeros(len(y)), y)
    else:
        splits = check_cv(cv, y, classifier=by_class).split(np.zeros(len(y)), y, groups)
    return [Fold(*_parts(X, y, groups, *split)) for split in splits]


def _parts(X: Any, y: Any, groups: Any, train: Any, test: Any) -> Iterator[Any]:
    for part in (X, y, groups):
        yield _safe_indexing(part, train) if part is not None else None
    for part in (X, y):
        yield _safe_indexing(part, test)


def _context_length(forecaster: TitansForecaster, X: Any) -> int:
    """Return the number of steps that forecasts read after a fit to X."""
    if forecaster.context_length is not None:
        return forecaster.context_length
    shortest = forecaster.network_config()
    min_rows = shortest.context_length + shortest.prediction_length
    if len(X) < min_rows:  # too few to fit
        return shortest.context_length
    return forecaster.network_config(read_panel(X, forecaster.roles)).context_length


def _item_and_time(
    X: Any, forecaster: TitansForecaster
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return every row's item and its number in time, which counts rows, or steps of `freq`."""
    rows, names = np.arange(len(X)), [forecaster.item_id, forecaster.timestamp]
    items, time, long = np.zeros_like(rows), getattr(X, "index", None), False
    if isinstance(X, pd.DataFrame):
        X = X.reset_index() if set(X.index.names) == set(names) else X
        if forecaster.timestamp in X.columns:
            time, long = pd.Index(X[forecaster.timestamp]), forecaster.item_id in X.columns
            items = pd.factorize(X[forecaster.item_id])[0] if long else items
    if time is None or not (long or forecaster.freq not in _ROWS):
        return items, rows
    time = pd.Index(as_times(pd.Series(time), f"column {forecaster.timestamp!r}"))
    if isinstance(time, pd.PeriodIndex):
        time = time.to_timestamp()
    if forecaster.freq in _ROWS:
        return items, np.unique(time, return_inverse=True)[1]
    ordered = pd.Series(
        rows, index=time
    ).sort_index()  # pandas numbers the steps of sorted times only
    steps = ordered.groupby(pd.Grouper(freq=forecaster.freq, origin="epoch")).ngroup()
    rows[ordered.to_numpy()] = steps.to_numpy()
    return items, rows


def _context_rows(
    items: NDArray[np.int64],
    time: NDArray[np.int64],
    first: int,
    context: int,
    *,
    by_time: bool,
) -> NDArray[np.bool_]:
    """Return a mask of the rows before `first` to read as context.

    They are those of the last `context` steps (`by_time`), or the last `context` rows of every item.
    """
    past = time < first
    if by_time:
        return past & (time >= first - context)
    ago = pd.Series(np.where(past, time, -1)).groupby(items).rank(method="first", ascending=False)
    return past & (ago.to_numpy() <= context)


def _rows(X: Any, chosen: NDArray[np.bool_]) -> Any:
    return X.iloc[chosen] if isinstance(X, (pd.DataFrame, pd.Series)) else X[chosen]


def _holds_out(estimator: Any) -> bool:
    """Return whether the estimator holds out a part of its training data for validation."""
    if not isinstance(estimator, TitansEstimator):
        return False
    return bool(estimator.options("training_options").validation_fraction > 0)
