"""Masked tokens are absent: the present tokens are moved to the front, and back again."""

from __future__ import annotations

import torch
from torch import Tensor

from titans_ts.kernels.layout import keep, take

__all__ = ["Packing", "prefix_mask"]


class Packing:
    """Moves the present tokens of every sample to the front.

    Parameters
    ----------
    mask : Tensor
        `[B, T]` bool, True where a token is present.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        order = torch.argsort((~mask).long(), dim=1, stable=True)
        self._order, self._place = order, torch.argsort(order, dim=1)
        self.lengths = mask.sum(1)  # [B]

    def pack(self, x: Tensor) -> Tensor:
        """Move the present tokens of x `[B, T, ...]` to the front; absent ones become zero."""
        return keep(take(x, self._order), prefix_mask(self.lengths, x.shape[1]))

    def unpack(self, y: Tensor) -> Tensor:
        """Undo :meth:`pack`; masked tokens become zero."""
        return keep(take(y, self._place), self.mask)


def prefix_mask(lengths: Tensor, size: int) -> Tensor:
    """Return a mask `[B, size]`: True for the first `lengths[b]` positions."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
