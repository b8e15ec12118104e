"""Reversible normalisation of a window by its own level and spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SCALERS", "InstanceScale", "instance_scale"]

_FURTHEST = 10.0
"""A value squashed by asinh is restored up to this: 11 000 spreads from its level."""


class InstanceScale(NamedTuple):
    """Level `[B, 1, C]`, or `[B, T, C]` where it moves with the step, and spread `[B, 1, C]`."""

    loc: Tensor
    scale: Tensor
    squash: bool = False
    """Whether values far from the level are drawn in, by asinh."""

    def normalise(self, x: Tensor) -> Tensor:
        """Values `[B, T, C]` to the window's own scale."""
        x = (x - self.loc) / self.scale
        return x.asinh() if self.squash else x

    def restore(self, y: Tensor) -> Tensor:
        """Undo :meth:`normalise`, also for `[B, T, C, Q]`."""
        loc, scale = (s if y.ndim == s.ndim else s[..., None] for s in (self.loc, self.scale))
        y = y.clamp(-_FURTHEST, _FURTHEST).sinh() if self.squash else y
        return y * scale + loc


def instance_scale(x: Tensor, observed: Tensor, scaler: str = "standard") -> InstanceScale:
    """Measure a window by its observed values.

    Parameters
    ----------
    x : Tensor
        Values `[B, T, C]`; what is not observed is ignored.
    observed : Tensor
        `[B, T, C]` bool.
    scaler : str
        A key of :data:`SCALERS`.

    Notes
    -----
    Source: Kim et al., "Reversible Instance Normalization", ICLR 2022, without its learned affine map.
    A variate with nothing observed has level 0 and spread 1.
    """
    level, spread = SCALERS[scaler](x, observed)
    seen = observed.any(1, keepdim=True)
    return InstanceScale(
        torch.where(seen, level, 0.0), torch.where(seen, spread, 1.0), scaler == "asinh"
    )


def _standard(x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    count = observed.sum(1, keepdim=True).clamp_min(1)
    loc = torch.where(observed, x, 0).sum(1, keepdim=True) / count
    variance = torch.where(observed, x - loc, 0).square().sum(1, keepdim=True) / count
    return loc, (variance + 1e-5).sqrt()


def _robust(x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    known = x.masked_fill(~observed, torch.nan)
    ends = torch.tensor([0.25, 0.5, 0.75], device=x.device, dtype=x.dtype)
    low, middle, high = known.nanquantile(ends, 1, keepdim=True)
    spread = (high - low) / 1.349  # the deviation, of a normal distribution
    # more than half of the values the same: as the standard one
    return middle, torch.where(spread > 1e-3, spread, _standard(x, observed)[1])


def _mean(x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    count = observed.sum(1, keepdim=True).clamp_min(1)
    size = torch.where(observed, x, 0).abs().sum(1, keepdim=True) / count
    return torch.zeros_like(size), torch.where(size > 1e-3, size, 1.0)


def _none(x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    zero = torch.zeros_like(x[:, :1])
    return zero, zero + 1


SCALERS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "standard": _standard,
    "robust": _robust,
    "mean": _mean,
    "asinh": _standard,
    "none": _none,
}
"""How level and spread `[B, 1, C]` of windows `[B, T, C]` are measured, by name."""
