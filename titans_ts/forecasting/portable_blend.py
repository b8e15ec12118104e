"""The blend of a fitted forecaster as a module: the network's forecasts with pretrained and simple ones.

Series are `[N, T]` float64 with N = B C; NaN is missing. The linear map is that of `linear.py`, in
operations that a graph can hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import ForecasterConfig
from titans_ts.forecasting.blend import LINEAR, NETWORK, ZERO_SHOT, Blend
from titans_ts.forecasting.linear import FURTHEST
from titans_ts.forecasting.portable_simple import SIMPLE, observed_mean
from titans_ts.forecasting.pretrained import at_levels, pretrained_model, two_seasons
from titans_ts.nn.portable import portable_copy

__all__ = ["PortableBlend"]


class PortableBlend(nn.Module):
    """The forecasts beside the network's, and their weights."""

    linear: Any
    """`[L + 1, H]`; None without a linear map."""
    seasons: Tensor
    to_levels: Tensor

    def __init__(self, blend: Blend, config: ForecasterConfig) -> None:
        super().__init__()
        self.weights, self.fitted = dict(blend.weights), blend.fitted
        self.season, self.horizon = blend.season_length, config.prediction_length
        self.names = list(blend.errors)
        levels = np.array(config.quantile_levels)
        for i, errors in enumerate(blend.errors.values()):
            self.register_buffer(f"mean_error_{i}", torch.from_numpy(errors.mean.copy()))
            self.register_buffer(f"errors_{i}", torch.from_numpy(errors.at(levels)[:, 0].copy()))
        self.register_buffer(
            "linear", None if blend.linear is None else torch.from_numpy(blend.linear.copy())
        )
        self.pretrained = None
        if ZERO_SHOT in blend.weights:
            self.pretrained = portable_copy(pretrained_model(blend.pretrained))
            self.register_buffer("seasons", torch.tensor([two_seasons(self.season)]))
            own = len(self.pretrained.config.quantile_levels)
            # linear in the model's quantiles
            known = at_levels(np.eye(own), levels, blend.pretrained) if len(levels) else None
            self.register_buffer(
                "to_levels",
                torch.zeros(own, 0).double() if known is None else torch.from_numpy(known),
            )

    def forward(self, past: Tensor, point: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor]:
        """Blend means `[B, H, C]` and quantiles `[B, H, C, Q]` after the targets `[B, R, C]`."""
        C = past.shape[2]
        series = past.mT.flatten(0, 1)  # [N, R]
        own_mean = point.mT.flatten(0, 1)  # [N, H]
        own_levels = quantiles.transpose(1, 2).flatten(0, 1)  # [N, H, Q]
        share = self.weights.get(NETWORK, 0.0)
        mean, levels = share * own_mean, share * own_levels
        for name, found_mean, found_levels in self._parts(series):
            if self.fitted:
                found_mean = torch.where(found_mean.isnan(), own_mean, found_mean)
                found_levels = torch.where(found_levels.isnan(), own_levels, found_levels)
            mean = mean + self.weights[name] * found_mean
            levels = levels + self.weights[name] * found_levels
        return mean.unflatten(0, (-1, C)).mT, levels.unflatten(0, (-1, C)).transpose(1, 2)

    def _parts(self, series: Tensor) -> list[tuple[str, Tensor, Tensor]]:
        """Return name, means `[N, H]` and quantiles `[N, H, Q]` of every part but the network."""
        parts = []
        nothing = series.isnan().all(1, keepdim=True)
        usual = _usual_difference(series, self.season)[:, None] if self.names else series[:, :0]
        for i, name in enumerate(self.names):
            if name == LINEAR:
                found = self._linear(series)
            else:
                found = SIMPLE[name](series, self.horizon, self.season)
            found = found.masked_fill(nothing, torch.nan)
            mean = found + usual * getattr(self, f"mean_error_{i}")
            parts.append(
                (name, mean, found[..., None] + usual[..., None] * getattr(self, f"errors_{i}"))
            )
        if self.pretrained is not None:
            own = self._zero_shot(self.pretrained, series)
            parts.append((ZERO_SHOT, own.mean(-1), own @ self.to_levels))
        return parts

    def _linear(self, past: Tensor) -> Tensor:
        length = self.linear.shape[0] - 1
        x = F.pad(
            past[:, max(0, past.shape[1] - length) :],
            (max(0, length - past.shape[1]), 0),
            value=torch.nan,
        )
        seen = ~x.isnan()
        count = seen.sum(1, keepdim=True).clamp_min(1)
        mean = torch.where(seen, x, 0.0).sum(1, keepdim=True) / count
        distance = torch.where(seen, x - mean, 0.0)
        spread = (distance.square().sum(1, keepdim=True) / count).sqrt()
        mean = torch.where(seen.any(1, keepdim=True), mean, torch.nan)
        least = (mean.abs() / 100).clamp_min(1e-9)
        spread = torch.where(spread > 1e-9 * mean.abs(), spread, least)
        scaled = F.pad((distance / spread).clamp(-FURTHEST, FURTHEST), (0, 1), value=1.0)
        return (scaled @ self.linear) * spread + mean

    def _zero_shot(self, model: Any, past: Tensor) -> Tensor:
        """Return the pretrained model's quantiles `[N, H, S]`."""
        rest, offset = _near_zero(past)
        seasons = self.seasons.expand(past.shape[0], 2)
        found: Tensor = model.quantiles(rest, seasons, self.horizon)
        return found + offset[..., None]


def _usual_difference(past: Tensor, season: int) -> Tensor:
    """Return the mean absolute seasonal difference of series, `[N]`, as the blend measures it."""
    size = observed_mean(past.abs())
    usual = torch.zeros_like(size)
    for step in (season, 1):
        if past.shape[1] > step:
            difference = observed_mean((past[:, step:] - past[:, : past.shape[1] - step]).abs())
        else:
            difference = torch.full_like(size, torch.nan)
        usual = torch.where(usual > 1e-9 * size, usual, difference)
    usual = torch.where(usual > 1e-9 * size, usual, size / 100)
    return torch.where(usual > 0, usual, torch.nan)


def _near_zero(past: Tensor) -> tuple[Tensor, Tensor]:
    """Return series at most 1000 usual steps from zero, and what was subtracted, `[N, 1]`."""
    seen = ~past.isnan()
    ordered = torch.where(seen, past, torch.inf).sort(1).values
    count = seen.sum(1, keepdim=True)
    low, high = (((count - 1) // 2).clamp_min(0), (count // 2).clamp_max(past.shape[1] - 1))
    level = (ordered.gather(1, low) + ordered.gather(1, high)) / 2
    level = torch.where(count > 0, level, 0.0)
    step = (past[:, 1:] - past[:, :-1]).abs()
    known = ~step.isnan()
    total = torch.where(known, step, 0.0).sum(1, keepdim=True)
    furthest = 1e3 * total / known.sum(1, keepdim=True).clamp_min(1)
    clipped = torch.minimum(torch.maximum(level, -furthest), furthest)
    offset = torch.where(furthest > 0, level - clipped, 0.0)
    return past - offset, offset
