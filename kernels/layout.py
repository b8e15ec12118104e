"""Masked tokens, and samples at different positions in their chunks.

A masked token is absent: it takes no place in a chunk. `ChunkLayout` packs every sample's present tokens
without gaps and shifts them, so that the chunk boundaries of all samples are at the same slots. It marks
absent slots before and after. Without a mask and with one common position (the usual case) nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["ChunkLayout", "keep", "take"]


@dataclass(frozen=True)
class ChunkLayout:
    """The layout of one call's tokens on the grid of chunks; build it with :meth:`build`."""

    chunks: list[tuple[int, int]]
    """Slots `[start, stop)` of every chunk that has tokens."""
    end: Tensor
    """`[B]` int64 on the CPU: tokens since the boundary before the first chunk, after this call."""
    chunk_size: int
    offset: int
    """Position of slot 0 in the first chunk."""
    source: Tensor | None = None
    """`[B, N]`: the token in each slot; None if token t is in slot t."""
    present: Tensor | None = None
    """`[B, N]` bool: which slots hold a token."""
    slot: Tensor | None = None
    """`[B, T]`: the slot of each token."""
    mask: Tensor | None = None
    """`[B, T]` bool: which tokens are present."""

    @classmethod
    def build(
        cls, position: Tensor, mask: Tensor | None, length: int, chunk_size: int
    ) -> ChunkLayout:
        """Lay out `length` tokens after `position` `[B]`; `mask` `[B, T]` is True where one is.

        In a graph (:mod:`titans_ts.kernels.portable`), `position` is one int for all samples.
        """
        # one call, because a single token waits for it
        places = [position] if isinstance(position, int) else position.tolist()
        first = places[0] if places else 0
        if length == 0 or (mask is None and places.count(first) == len(places)):
            chunks, start = [], 0
            while start < length:
                stop = min(length, start + chunk_size - (first + start) % chunk_size)
                chunks.append((start, stop))
                start = stop
            return cls(chunks, position + length, chunk_size, first)

        if mask is None:
            mask = torch.ones(len(position), length, dtype=torch.bool)
        device = mask.device
        slot = position.to(device)[:, None] + mask.long().cumsum(1) - 1
        end = position + mask.sum(1).cpu()
        n_slots = int(end.max()) if len(end) else 0
        source = torch.full((len(position), n_slots + 1), length, device=device)
        tokens = torch.arange(length, device=device).expand_as(mask)
        # absent tokens go to a spare slot
        source.scatter_(1, slot.masked_fill(~mask, n_slots), tokens)
        source = source[:, :n_slots]
        chunks = [(s, min(n_slots, s + chunk_size)) for s in range(0, n_slots, chunk_size)]
        present = source < length
        source = source.clamp_max(length - 1)
        return cls(chunks, end, chunk_size, 0, source, present, slot.clamp_min(0), mask)

    def __getitem__(self, rows: slice) -> ChunkLayout:
        """The layout of some of the samples."""
        source, present, slot, mask = (
            None if x is None else x[rows]
            for x in (self.source, self.present, self.slot, self.mask)
        )
        return replace(
            self, end=self.end[rows], source=source, present=present, slot=slot, mask=mask
        )

    @property
    def final_position(self) -> Tensor:
        """`[B]`: tokens since each sample's last chunk boundary, after this call."""
        return self.end % self.chunk_size

    def place(self, x: Tensor) -> Tensor:
        """Move tokens `[B, T, ...]` to slots `[B, N, ...]`; absent slots are zero."""
        if self.source is None or self.present is None:
            return x
        return keep(take(x, self.source), self.present)

    def pick(self, y: Tensor) -> Tensor:
        """Move slots `[B, N, ...]` to tokens `[B, T, ...]`; masked tokens become zero."""
        if self.slot is None or self.mask is None:
            return y
        if y.shape[1] == 0:  # not one token is present
            return y.new_zeros(*self.mask.shape, *y.shape[2:])
        return keep(take(y, self.slot), self.mask)


def keep(x: Tensor, mask: Tensor) -> Tensor:
    """Return x `[B, T, ...]` with zeros (also instead of NaN) where `mask` `[B, T]` is False."""
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0)


def take(x: Tensor, index: Tensor) -> Tensor:
    """`out[b, i] = x[b, index[b, i]]` for x `[B, T, ...]` and index `[B, N]`."""
    index = index.reshape(*index.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)
