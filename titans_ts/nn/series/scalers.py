"""Reversible normalisation of a window by its level and spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SCALERS", "InstanceScale", "instance_scale"]

_FURTHEST = 10.0
"""Largest value that is restored after asinh: 11 000 spreads from the level."""


class InstanceScale(NamedTuple):
    """Level `[B, 1, C]` (or `[B, T, C]` if it varies by step) and spread `[B, 1, C]` of windows."""

    loc: Tensor
    scale: Tensor
    squash: bool = False
    """Whether asinh compresses values far from the level."""

    def normalise(self, x: Tensor) -> Tensor:
        """Bring values `[B, T, C]` to the scale of the window."""
        x = (x - self.loc) / self.scale
        return x.asinh() if self.squash else x

    def restore(self, y: Tensor) -> Tensor:
        """Undo :meth:`normalise`, also for `[B, T, C, Q]`."""
        loc, scale = (s if y.ndim == s.ndim else s[..., None] for s in (self.loc, self.scale))
        y = y.clamp(-_FURTHEST, _FURTHEST).sinh() if self.squash else y
        return y * scale + loc


def instance_scale(x: Tensor, observed: Tensor, scaler: str = "standard") -> InstanceScale:
    """Compute the level and the spread of a window from its observed values.

    Parameters
    ----------
    x : Tensor
        Values `[B, T, C]`; unobserved ones are ignored.
    observed : Tensor
        `[B, T, C]` bool.
    scaler : str
        A key of :data:`SCALERS` (default "standard").

    Notes
    -----
    The method is from Kim et al., "Reversible Instance Normalization", ICLR 2022, without the learned
    affine map. A variate without an observed value has level 0 and spread 1.
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
    spread = (high - low) / 1.349  # the standard deviation of a normal distribution
    # if half of the values are equal, the standard spread is used
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
"""Functions that compute level and spread `[B, 1, C]` of windows `[B, T, C]`, by name."""
