"""Results of a search: `cv_results_`, the best trial and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from titans_ts.tuning.objective import Objective

__all__ = ["best_index", "copy_to_memory", "cv_results", "mean_score", "pareto_front"]


def mean_score(trial: FrozenTrial) -> float:
    """Return the mean over the folds of a complete trial's scores."""
    return float(np.mean(trial.user_attrs["scores"]))


def best_index(trials: Sequence[FrozenTrial], objectives: Sequence[str]) -> int:
    """Return the index of the trial with the highest score, or with the lowest first objective.

    The first objective is used if the score is not an objective.

    Raises
    ------
    RuntimeError
        If no trial is complete.
    """
    complete = [i for i, t in enumerate(trials) if t.state == TrialState.COMPLETE]
    if not complete:
        reasons = {str(t.user_attrs["reason"]) for t in trials if "reason" in t.user_attrs}
        if any(t.state == TrialState.PRUNED for t in trials):
            reasons.add("pruned")
        why = "; ".join(sorted(reasons)) or "timeout reached"
        raise RuntimeError(f"no trial completed ({len(trials)} started): {why}")
    if "score" in objectives:
        return max(complete, key=lambda i: mean_score(trials[i]))
    return min(complete, key=lambda i: trials[i].values[0])


def cv_results(trials: Sequence[FrozenTrial], objective: Objective) -> dict[str, Any]:
    """Return scikit-learn's `cv_results_`, and `trial`, `state` and `reason` of every trial."""
    n_splits = len(objective.folds)
    missing = [math.nan] * n_splits

    def column(name: str) -> NDArray[np.float64]:
        return np.array([t.user_attrs.get(name, missing) for t in trials], float)

    scores, fit, score = (column(n) for n in ("scores", "fit_seconds", "score_seconds"))
    # a trial that did not complete may not have drawn every parameter
    params = [objective.params(t) if t.state == TrialState.COMPLETE else t.params for t in trials]
    results: dict[str, Any] = {
        "mean_fit_time": fit.mean(1),
        "std_fit_time": fit.std(1),
        "mean_score_time": score.mean(1),
        "std_score_time": score.std(1),
    }
    for name in sorted({name for row in params for name in row}):
        values = np.ma.masked_all(len(params), dtype=object)
        for i, row in enumerate(params):
            if name in row:
                values[i] = row[name]
        results[f"param_{name}"] = values
    results["params"] = params
    for i in range(n_splits):
        results[f"split{i}_test_score"] = scores[:, i]
    mean = scores.mean(1)
    results["mean_test_score"], results["std_test_score"] = mean, scores.std(1)
    order = np.where(np.isnan(mean), np.inf, -mean)
    results["rank_test_score"] = pd.Series(order).rank(method="min").astype(int).to_numpy()
    results["trial"] = np.array([t.number for t in trials])
    results["state"] = np.array([t.state.name for t in trials])
    results["reason"] = np.array([t.user_attrs.get("reason", "") for t in trials], dtype=object)
    return results


def pareto_front(study: optuna.Study, objectives: Sequence[str]) -> pd.DataFrame:
    """Return the Pareto-optimal trials, the highest score first: objectives, then parameters."""
    front = sorted(study.best_trials, key=mean_score, reverse=True)
    rows = [dict(zip(objectives, t.values, strict=True)) | t.params for t in front]
    return pd.DataFrame(rows, index=pd.Index([t.number for t in front], name="trial"))


def copy_to_memory(study: optuna.Study) -> optuna.Study:
    """Return a study in memory with the same trials."""
    copied = optuna.create_study(directions=study.directions, study_name=study.study_name)
    for name, value in study.user_attrs.items():
        copied.set_user_attr(name, value)
    copied.add_trials(study.get_trials())
    return copied
