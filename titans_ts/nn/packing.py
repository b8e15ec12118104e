"""Masked tokens are absent: the present tokens are moved to the front, and back again."""

from __future__ import annotations

import torch
from torch import Tensor

from titans_ts.kernels.layout import keep, take
from titans_ts.kernels.portable import recorded_format

__all__ = ["Packing", "prefix_mask"]


class Packing:
    """Moves the present tokens of every sample to the front.

    Parameters
    ----------
    mask : Tensor
        `[B, T]` bool, True where a token is present.
    size : int, optional
        N, the number of tokens that are kept, at least as many as any sample has and at least 1
        (default: T).
    """

    def __init__(self, mask: Tensor, size: int | None = None) -> None:
        self.mask = mask
        self.lengths = mask.sum(1)  # [B]
        if recorded_format() is None:
            order = torch.argsort((~mask).long(), dim=1, stable=True)
            self._place = torch.argsort(order, dim=1)
        else:  # ONNX has no stable sort
            absent = self.lengths[:, None] + (~mask).long().cumsum(1)
            self._place = torch.where(mask, mask.long().cumsum(1), absent) - 1
            token = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
            order = torch.zeros_like(token).scatter(1, self._place, token)
        self._order = order[:, :size]

    def pack(self, x: Tensor) -> Tensor:
        """Move the present tokens of x `[B, T, ...]` to the front, `[B, N, ...]`; absent ones are 0."""
        packed = take(x, self._order)
        return keep(packed, prefix_mask(self.lengths, packed.shape[1]))

    def unpack(self, y: Tensor) -> Tensor:
        """Undo :meth:`pack`: `[B, T, ...]` from `[B, N, ...]`; masked tokens become zero."""
        return keep(take(y, self._place.clamp_max(y.shape[1] - 1)), self.mask)


def prefix_mask(lengths: Tensor, size: int) -> Tensor:
    """Return a mask `[B, size]`: True for the first `lengths[b]` positions."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
