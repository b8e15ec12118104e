"""Forecasts of more or fewer steps than a model was fitted for, block by block."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from titans_ts.forecasting.panel import Panel

__all__ = ["check_arguments", "rolled", "warn_longer"]

Array = NDArray[np.float64]


def check_arguments(X: Any, known_covariates: Any) -> None:
    """Raise a TypeError if a number of steps or quantile levels were given in the wrong place."""
    if isinstance(X, (int, np.integer)) and not isinstance(X, bool):
        raise TypeError(f"X is {X}; give rows as X, and the number of steps as horizon={X}")
    given = known_covariates if isinstance(known_covariates, (list, tuple)) else ()
    if given and all(isinstance(q, (float, np.floating)) and 0 < q < 1 for q in given):
        raise TypeError(
            f"known_covariates is {given}; give quantile levels as quantile_levels={given}"
        )


def warn_longer(horizon: int, length: int) -> None:
    """Warn that later steps of a forecast follow from its first ones."""
    warnings.warn(
        f"horizon is {horizon}, but the model was fitted for {length} steps: the later ones follow from "
        "forecasts as if these had been observed, so their quantiles are too narrow; fit with "
        f"prediction_length={horizon} for better ones",
        UserWarning,
        stacklevel=5,
    )


def rolled(
    forecast: Callable[[Panel, Array | None], tuple[Array, Array]],
    panel: Panel,
    known: Array | None,
    length: int,
    horizon: int,
) -> tuple[Array, Array]:
    """Forecast any number of steps; forecasts of earlier blocks are read as if they were observed.

    Parameters
    ----------
    forecast : callable
        A function of a panel and of the known covariates `[I, H, K]` of the next steps, which returns
        means `[I, H, C]` and quantiles `[I, H, C, Q]`.
    panel : Panel
        The history of I items.
    known : ndarray, optional
        `[I, horizon, K]`, the known covariates of the steps, with the features of their times.
    length : int
        H, number of steps that the function returns.
    horizon : int
        Number of steps to forecast.

    Returns
    -------
    tuple
        Means `[I, horizon, C]` and quantiles `[I, horizon, C, Q]`.
    """
    blocks = -(-horizon // length)
    if known is not None:  # the steps after the horizon are computed, but not returned
        last = np.repeat(known[:, -1:], blocks * length - horizon, axis=1)
        known = np.concatenate([known, last], 1)
    points, quantiles = [], []
    for block in range(blocks):
        steps = slice(block * length, (block + 1) * length)
        ahead = None if known is None else known[:, steps]
        point, levels = forecast(panel, ahead)
        points.append(point)
        quantiles.append(levels)
        if block < blocks - 1:
            panel = _followed(panel, point, ahead)
    return np.concatenate(points, 1)[:, :horizon], np.concatenate(quantiles, 1)[:, :horizon]


def _followed(panel: Panel, point: Array, known: Array | None) -> Panel:
    """Return a panel with forecasts `[I, H, C]` as its next rows; past covariates are missing there."""
    n_items, steps, n_targets = point.shape
    rows = np.full((n_items, steps, panel.values.shape[1]), np.nan)
    rows[..., :n_targets] = point
    if known is not None and known.shape[2]:
        rows[..., -known.shape[2] :] = known
    new = dataclasses.replace(
        panel,
        values=rows.reshape(n_items * steps, -1),
        index=panel.future(steps),
        offsets=None if panel.offsets is None else np.arange(n_items + 1) * steps,
    )
    return panel.followed_by(new)
