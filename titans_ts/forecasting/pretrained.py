"""Forecasts of the pretrained model in the package, which no series of the user is fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from titans_ts.nn.checkpoint import load_model
from titans_ts.nn.series.outputs import Quantiles
from titans_ts.nn.series.zero_shot import ZeroShotModel

__all__ = [
    "PRETRAINED",
    "at_levels",
    "forecast",
    "other_model",
    "pretrained_model",
    "pretrained_quantiles",
    "two_seasons",
]

Array = NDArray[np.float64]

PRETRAINED = "series-1"
"""Name of the current pretrained model. Fitted models name the one that they use, so that every released
one stays in the package."""

_FOLDER = Path(__file__).parent / "weights"
_WEEKS = tuple(7 * day for day in (12, 24, 48, 96, 144, 288, 1440))
"""Numbers of steps in a week, of frequencies within a day."""
_YEARS = (52, 365)
"""Numbers of steps in a year: weeks, and days."""
_TOKENS = 2**13
"""Number of tokens that are read at once."""

_OTHER: ContextVar[ZeroShotModel | None] = ContextVar("other_model", default=None)


def pretrained_model(name: str = PRETRAINED) -> ZeroShotModel:
    """Return a pretrained model of the package, in evaluation mode.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    return _OTHER.get() or _load(name)


@contextmanager
def other_model(model: ZeroShotModel) -> Iterator[None]:
    """Let a model take the place of the pretrained one inside a `with` block, in this thread alone."""
    token = _OTHER.set(model)
    try:
        yield
    finally:
        _OTHER.reset(token)


@cache
def _load(name: str) -> ZeroShotModel:
    if not (_FOLDER / name).is_dir():
        known = sorted(p.name for p in _FOLDER.iterdir() if p.is_dir())
        raise ValueError(
            f"the pretrained model {name!r} is not in this version of titans-ts, which has {known}; "
            "upgrade it, or fit again"
        )
    return load_model(_FOLDER / name, ZeroShotModel).float()


def pretrained_quantiles(
    past: Array, prediction_length: int, season_length: int, name: str = PRETRAINED
) -> Array:
    """Return :func:`forecast` of a model in the package."""
    return forecast(pretrained_model(name), past, prediction_length, season_length)


def two_seasons(season_length: int) -> tuple[int, int]:
    """Return the seasons that the model reads, a longer one beside the shorter; 1 is none.

    They are a day and a week for steps within a day, whichever of the two is given, and a week and a year
    for days.

    Examples
    --------
    >>> two_seasons(24), two_seasons(168), two_seasons(7), two_seasons(12)
    ((24, 168), (24, 168), (7, 365), (12, 1))
    """
    if season_length in _WEEKS:
        return season_length // 7, season_length
    if season_length == 7:
        return 7, 365
    days = season_length >= 24 and season_length not in _YEARS
    return season_length, 7 * season_length if days else 1


def _near_zero(past: Array) -> tuple[Array, Array]:
    """Return series `[n, T]` at most 1000 usual steps from zero, and what was subtracted, `[n, 1]`.

    No series that the model learned from is further away.
    """
    seen = ~np.isnan(past)
    level = np.array([np.median(x[s]) if s.any() else 0.0 for x, s in zip(past, seen, strict=True)])
    step = np.abs(np.diff(past, axis=1))
    known = ~np.isnan(step)
    usual = np.where(known, step, 0).sum(1) / np.maximum(known.sum(1), 1)
    furthest = 1e3 * usual
    offset = np.where(usual > 0, level - np.clip(level, -furthest, furthest), 0.0)[:, None]
    return past - offset, offset


def forecast(
    model: ZeroShotModel, past: Array, prediction_length: int, season_length: int
) -> Array:
    """Forecast the quantiles of series after their past.

    Parameters
    ----------
    model : ZeroShotModel
        The model.
    past : ndarray
        `[N, T]`; NaN is missing, and so is what comes before a series begins.
    prediction_length : int
        H, number of steps.
    season_length : int
        Number of steps in a season; 1 for none.

    Returns
    -------
    ndarray
        `[N, H, Q]` at the model's levels; NaN for a series without an observed value.
    """
    n, length = past.shape
    missing = np.isnan(past)
    first = np.where(missing.all(1), length - 1, (~missing).argmax(1))
    order = np.argsort(first, kind="stable")  # series of similar lengths are read together
    quantiles = np.full((n, prediction_length, len(model.config.quantile_levels)), np.nan)
    seasons = torch.tensor([two_seasons(season_length)])
    start = 0
    while start < n:
        rows = length - int(first[order[start]])
        tokens = -(-(rows + prediction_length) // model.config.patch_length)
        batch = order[start : start + max(1, _TOKENS // tokens)]
        rest, offset = _near_zero(past[batch, length - rows :])
        values = torch.from_numpy(rest)
        with torch.inference_mode():
            found = model.quantiles(values, seasons.expand(len(batch), 2), prediction_length)
        quantiles[batch] = found.numpy() + offset[..., None]
        start += len(batch)
    return quantiles


def at_levels(quantiles: Array, levels: Any, name: str = PRETRAINED) -> Array:
    """Return quantiles `[.., S]` at levels `[S]` or `[.., S]` from those of the model, `[.., 9]`.

    Between the model's levels they are interpolated, and beyond them extended, over those of a normal
    distribution.
    """
    known = pretrained_model(name).config.quantile_levels
    wanted = np.broadcast_to(levels, (*quantiles.shape[:-1], np.shape(levels)[-1]))
    parameters = np.insert(quantiles, 0, quantiles.mean(-1), -1)
    parts = torch.from_numpy(parameters), torch.tensor(wanted)
    return Quantiles(known).inverse(*parts).numpy()
