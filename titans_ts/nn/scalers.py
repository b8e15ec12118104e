"""Reversible normalisation of a window by its own level and spread."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["InstanceScale", "instance_scale"]


class InstanceScale(NamedTuple):
    """Level and spread of a window's variates, `[B, 1, C]` each."""

    loc: Tensor
    scale: Tensor

    def normalise(self, x: Tensor) -> Tensor:
        """Values `[B, T, C]` to the window's own scale."""
        return (x - self.loc) / self.scale

    def restore(self, y: Tensor) -> Tensor:
        """Undo :meth:`normalise`, also for `[B, T, C, Q]`."""
        loc, scale = (s if y.ndim == s.ndim else s[..., None] for s in self)
        return y * scale + loc


def instance_scale(x: Tensor, observed: Tensor, wanted: bool = True) -> InstanceScale:
    """Measure a window by its observed values (reversible instance norm, without learned affine).

    Parameters
    ----------
    x : Tensor
        Values `[B, T, C]`; what is not observed is ignored.
    observed : Tensor
        `[B, T, C]` bool.
    wanted : bool
        False gives the identity.

    Notes
    -----
    Source: Kim et al., "Reversible Instance Normalization", ICLR 2022. A variate with nothing
    observed has level 0 and spread 1.
    """
    if not wanted:
        zero = torch.zeros_like(x[:, :1])
        return InstanceScale(zero, zero + 1)
    count = observed.sum(1, keepdim=True).clamp_min(1)
    loc = torch.where(observed, x, 0).sum(1, keepdim=True) / count
    variance = torch.where(observed, x - loc, 0).square().sum(1, keepdim=True) / count
    seen = observed.any(1, keepdim=True)
    return InstanceScale(loc, torch.where(seen, (variance + 1e-5).sqrt(), 1.0))
