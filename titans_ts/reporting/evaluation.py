"""Charts of how good forecasts and predictions were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from titans_ts.reporting.charts import Chart, Mark, line_marks

if TYPE_CHECKING:
    from titans_ts.forecasting.backtest import Backtest

__all__ = [
    "class_charts",
    "error_charts",
    "leaderboard",
    "level_chart",
    "residual_charts",
    "training_chart",
]

Array = NDArray[np.float64]

_ERRORS = {"mase": "MASE", "mae": "MAE", "rmse": "RMSE", "smape": "sMAPE", "wql": "WQL"}
_BINS = 31
_CLASSES = 5
"""Number of classes with curves at most."""
_GROUPS = 10
"""Number of groups of a calibration curve at most."""


def leaderboard(backtest: Backtest) -> tuple[pd.DataFrame, str]:
    """Return the errors of the forecasts and of the simple ones, the best first, and what they are.

    Errors in the units of the data are there for one variate only: those of several have different units.
    """
    metrics = backtest.metrics()
    names = dict(_ERRORS)
    if backtest.actual.shape[3] > 1:
        names = {key: name for key, name in names.items() if key not in ("mae", "rmse")}
    if not metrics["mase"].notna().any():
        del names["mase"]
    table = metrics[list(names)].rename(columns=names)
    table["coverage"] = metrics["coverage"]
    table = table.sort_values(next(iter(table)), kind="stable")
    words = (
        "MASE is the mean absolute error, divided by that of repeating the last season over the rows "
        "before: below 1 is better than that. sMAPE is from 0 to 2, and WQL is the weighted quantile "
        "loss. Lower is better in all of them. Coverage is the share of values between the outermost "
        "quantiles."
    )
    return table.rename_axis("forecast").reset_index(), words


def error_charts(backtest: Backtest) -> list[Chart]:
    """Return the error by step of the horizon and by window, a line for each forecast."""
    _, _, H, _ = backtest.actual.shape
    charts = []
    if H > 1:
        charts.append(_errors(backtest, "step", pd.RangeIndex(1, H + 1), "step of the horizon"))
    if backtest.n_windows > 1:
        x: pd.Index = pd.RangeIndex(1, backtest.n_windows + 1)
        title = "forecast"
        index = backtest.panel.index
        if backtest.panel.items is None and index is not None:
            x, title = index[backtest.cutoffs[:, 0]], "first step of the forecast"
        charts.append(_errors(backtest, "window", x, title))
    return charts


def _errors(backtest: Backtest, by: str, x: pd.Index, title: str) -> Chart:
    metrics = backtest.metrics(by=by)
    key = "mase" if metrics["mase"].notna().any() else "mae"
    table = metrics[key].unstack("model")[list(backtest.forecasts)]
    lines = {str(name): (x, table[name].to_numpy(float)) for name in table}
    words = "The mean over all series" + (" and forecasts." if by == "step" else " and steps.")
    return Chart(f"Error by {by}", line_marks(lines), title, _ERRORS[key], words)


def level_chart(backtest: Backtest) -> Chart | None:
    """Return the share of values below each forecast quantile; None without a quantile."""
    levels = np.array(backtest.levels, dtype=float)
    if not len(levels):
        return None
    actual, quantiles = backtest.actual[..., None], backtest.quantiles
    known = ~np.isnan(actual) & ~np.isnan(quantiles)
    axes = tuple(range(4))
    below = (known & (actual <= quantiles)).sum(axes) / np.maximum(known.sum(axes), 1)
    ideal = np.array([0.0, *levels, 1.0])
    marks = (
        Mark("line", "as it should be", pd.Index(ideal), ideal, role="quiet", dash="dot"),
        Mark("line", "held-out values", pd.Index(levels), below, role="forecast"),
    )
    words = "The share of held-out values below each quantile, before any calibration."
    return Chart(
        "Calibration",
        marks,
        "level of the quantile",
        "share of values below",
        words,
        y_range=(0, 1),
    )


def residual_charts(backtest: Backtest) -> list[Chart]:
    """Return the distribution of the errors, and their mean and spread by step.

    Errors are observed minus forecast, in mean seasonal differences of each series.
    """
    scale = np.where(backtest.scale > 0, backtest.scale, np.nan)[None, :, None]
    errors = (backtest.actual - backtest.forecasts["titans"]) / scale
    seen = errors[np.isfinite(errors)]
    if not len(seen):
        return []
    unit = "error [seasonal differences]"
    end = float(np.quantile(np.abs(seen), 0.995)) or 1.0
    counts, edges = np.histogram(seen, np.linspace(-end, end, _BINS + 1))
    middle = pd.Index((edges[1:] + edges[:-1]) / 2)
    share = 100 * counts / len(seen)
    words = (
        f"Observed minus forecast: {len(seen):,} errors with a mean of {seen.mean():.3g}; "
        f"{len(seen) - counts.sum():,} lie farther out."
    )
    charts = [
        Chart(
            "Residuals",
            (Mark("bars", "errors", middle, share, role="past"),),
            unit,
            "share [%]",
            words,
        )
    ]
    H = errors.shape[2]
    if H > 1:
        by_step = np.moveaxis(np.where(np.isfinite(errors), errors, np.nan), 2, 0).reshape(H, -1)
        low, mean, high = (np.nanquantile(by_step, q, axis=1) for q in (0.1, 0.5, 0.9))
        steps = pd.RangeIndex(1, H + 1)
        marks = (
            Mark("band", "10 % to 90 % of the errors", steps, high, low, "past"),
            Mark("line", "median", steps, mean, role="past"),
        )
        charts.append(Chart("Residuals by step", marks, "step of the horizon", unit))
    return charts


def training_chart(history: Sequence[Mapping[str, float]]) -> Chart | None:
    """Return the losses of every epoch of a fit; None if nothing was fitted."""
    names = {"train_loss": "training", "validation_loss": "validation"}
    lines = {}
    for key, name in names.items():
        values = np.array([row.get(key, np.nan) for row in history], dtype=float)
        if np.isfinite(values).any():
            lines[name] = (pd.RangeIndex(1, len(history) + 1), values)
    if not lines:
        return None
    seconds = history[-1].get("seconds", np.nan)
    words = f"{len(history)} epochs" + ("" if np.isnan(seconds) else f" in {seconds:.0f} seconds")
    return Chart("Training", line_marks(lines, ("past", "forecast")), "epoch", "loss", f"{words}.")


def class_charts(
    labels: ArrayLike, probabilities: Array, classes: Sequence[Any]
) -> tuple[list[Chart], pd.DataFrame]:
    """Return ROC, precision and recall, and calibration of a classifier, and its confusion matrix.

    Parameters
    ----------
    labels : array-like
        The true classes `[N]`.
    probabilities : ndarray
        Of each class `[N, K]`. With two classes, the curves are those of the second one; with more, each
        class has one, for the five most frequent.
    classes : sequence
        The K classes.

    Returns
    -------
    tuple
        The charts, and a frame with a row for each true class and a column for each predicted one.
    """
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import (
        average_precision_score,
        confusion_matrix,
        precision_recall_curve,
        roc_auc_score,
        roc_curve,
    )

    names = [str(c) for c in classes]
    place = {name: k for k, name in enumerate(names)}
    truth = np.array([place.get(str(label), -1) for label in np.asarray(labels)])
    counted = confusion_matrix(truth, probabilities.argmax(1), labels=range(len(names)))
    confusion = pd.DataFrame(counted, columns=[f"predicted {name}" for name in names])
    confusion.insert(0, "true class", names)
    counts = np.bincount(truth[truth >= 0], minlength=len(names))
    chosen = [1] if len(names) == 2 else np.argsort(-counts)[:_CLASSES].tolist()
    roc, precision, calibration, words = {}, {}, {}, []
    for k in chosen:
        hits, scores, name = truth == k, probabilities[:, k], names[k]
        if hits.all() or not hits.any():
            continue
        false, true, _ = roc_curve(hits, scores)
        exact, recall, _ = precision_recall_curve(hits, scores)
        share, middle = calibration_curve(hits, scores, n_bins=_GROUPS, strategy="quantile")
        roc[name] = pd.Index(false), true
        precision[name] = pd.Index(recall[::-1]), exact[::-1]
        calibration[name] = pd.Index(middle), share
        words.append(
            f"Class {name}: area under the ROC curve {roc_auc_score(hits, scores):.3f}, average "
            f"precision {average_precision_score(hits, scores):.3f}, {counts[k]} of {len(truth)} "
            "sequences."
        )
    if not roc:
        return [], confusion
    ends, diagonal = pd.Index([0.0, 1.0]), np.array([0.0, 1.0])
    chance = Mark("line", "at random", ends, diagonal, role="quiet", dash="dot")
    ideal = Mark("line", "as it should be", ends, diagonal, role="quiet", dash="dot")
    groups = f"Up to {_GROUPS} groups of sequences by their probability."
    axes = (
        ("ROC curve", roc, (chance,), "false positive rate", "true positive rate", " ".join(words)),
        ("Precision and recall", precision, (), "recall", "precision", ""),
        ("Calibration", calibration, (ideal,), "mean probability", "share of the class", groups),
    )
    return [
        Chart(title, (*first, *line_marks(lines)), x, y, text, y_range=(0, 1.01))
        for title, lines, first, x, y, text in axes
    ], confusion
