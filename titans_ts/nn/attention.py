"""Short-term memory: causal attention over a sliding window or a segment, beside persistent tokens.

Both keep a cache of constant size, so a stream may be fed in pieces of any length. Positions are
rotary and counted inside the window or segment: nothing grows with the stream.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.nn.layers import last_tokens, rotate

__all__ = ["AttentionCache", "SegmentAttention", "SlidingWindowAttention"]


class AttentionCache(NamedTuple):
    """Keys and values still in sight, `[B, N, H, d]`, before rotation, and how many of them count."""

    keys: Tensor
    values: Tensor
    filled: Tensor
    """`[B]` int64 on the CPU."""


class _Attention(nn.Module):
    """Projections of multi-head attention, and the cache of its size."""

    def __init__(self, d_model: int, n_heads: int, cache_size: int) -> None:
        super().__init__()
        self.n_heads, self.cache_size = n_heads, cache_size
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(d_model, d_model, bias=False) for _ in range(4)
        )

    def initial_state(self, batch_size: int) -> AttentionCache:
        """An empty cache for `batch_size` streams."""
        width = self.q_proj.out_features // self.n_heads
        empty = self.q_proj.weight.new_zeros(batch_size, self.cache_size, self.n_heads, width)
        return AttentionCache(empty, empty, torch.zeros(batch_size, dtype=torch.long))

    def _heads(self, proj: nn.Module, x: Tensor) -> Tensor:
        return proj(x).unflatten(-1, (self.n_heads, -1))  # [B, T, H, d]


class SlidingWindowAttention(_Attention):
    """Causal attention to the last `window` tokens (itself included) and the persistent tokens.

    Cost O(T * window) and a cache of `window - 1` tokens.

    Parameters
    ----------
    d_model, n_heads : int
        Width of a token, and number of heads.
    window : int
        Tokens in sight.
    """

    def __init__(self, d_model: int, n_heads: int, window: int) -> None:
        super().__init__(d_model, n_heads, window - 1)

    def forward(
        self,
        x: Tensor,
        persistent: Tensor,
        cache: AttentionCache | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, AttentionCache]:
        """Attend.

        Parameters
        ----------
        x : Tensor
            Tokens `[B, T, D]`.
        persistent : Tensor
            Tokens always in sight, `[B, N_p, D]`.
        cache : AttentionCache, optional
            What came before; default: nothing.
        lengths : Tensor, optional
            `[B]`: only the first `lengths[b]` tokens are present; default: all.

        Returns
        -------
        tuple[Tensor, AttentionCache]
            `[B, T, D]` and the cache after it.
        """
        batch, length, _ = x.shape
        cache = self.initial_state(batch) if cache is None else cache
        keys = torch.cat([cache.keys.to(x.dtype), self._heads(self.k_proj, x)], 1)
        values = torch.cat([cache.values.to(x.dtype), self._heads(self.v_proj, x)], 1)
        new = length if lengths is None else lengths.cpu()
        after = AttentionCache(
            last_tokens(keys, self.cache_size, lengths),
            last_tokens(values, self.cache_size, lengths),
            (cache.filled + new).clamp_max(self.cache_size),
        )

        # Queries in blocks; each block sees `past` tokens before it and itself.
        past = self.cache_size
        block = min(length, past + 1)
        n_blocks = -(-length // block)
        if n_blocks == 1:  # leave out what no sample has cached
            past = int(cache.filled.max())
            keys, values = (t[:, self.cache_size - past :] for t in (keys, values))
        padding = (0, 0, 0, 0, 0, n_blocks * block - length)
        q = F.pad(self._heads(self.q_proj, x), padding).unflatten(1, (n_blocks, block))
        k, v = (F.pad(t, padding).unfold(1, past + block, block).mT for t in (keys, values))
        place = torch.arange(past + block, device=x.device)
        q = q.transpose(2, 3)  # [B, N, H, block, d]
        # Scores against persistent tokens must not depend on where in a block a query falls, so they
        # take the query as it is: [rotated q, q] meets [rotated k, 0] and [0, persistent k].
        q = torch.cat([rotate(q, place[past:]), q], -1)
        k = F.pad(rotate(k, place), (0, k.shape[-1]))  # [B, N, H, past + block, 2 d]

        reach = place[past:, None] - place  # [block, past + block]
        sight = (reach >= 0) & (reach <= self.cache_size)
        sight = sight.expand(batch, n_blocks, 1, -1, -1).clone()
        missing = past - cache.filled.to(x.device)  # slots that hold nothing yet
        sight[:, 0] &= place >= missing[:, None, None, None]
        y = self._attend(q, k, v, sight, persistent)
        y = y.transpose(2, 3).flatten(3).flatten(1, 2)[:, :length]
        return self.out_proj(y), after

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, sight: Tensor, persistent: Tensor) -> Tensor:
        n_blocks = q.shape[1]
        p_k, p_v = (
            self._heads(proj, persistent).transpose(1, 2)[:, None].expand(-1, n_blocks, -1, -1, -1)
            for proj in (self.k_proj, self.v_proj)
        )
        k, v = torch.cat([F.pad(p_k, (p_k.shape[-1], 0)), k], 3), torch.cat([p_v, v], 3)
        sight = F.pad(sight, (persistent.shape[1], 0), value=True)
        flat = (t.flatten(0, 1) for t in (q, k, v, sight))
        return _attention(*flat).unflatten(0, (-1, n_blocks))


class SegmentAttention(_Attention):
    """Causal attention inside a segment, to persistent tokens and to what the memory recalled.

    A token at place t of its segment sees every persistent token, the recalled h_1 .. h_t and the
    segment's own tokens 1 .. t. Keys and values of the unfinished segment are the cache.

    Parameters
    ----------
    d_model, n_heads : int
        Width of a token, and number of heads.
    segment_length : int
        Tokens in a segment.
    """

    def __init__(self, d_model: int, n_heads: int, segment_length: int) -> None:
        super().__init__(d_model, n_heads, 2 * segment_length)

    def forward(
        self,
        x: Tensor,
        recalled: Tensor,
        persistent: Tensor,
        cache: AttentionCache,
        place: int,
        present: Tensor | None = None,
    ) -> tuple[Tensor, AttentionCache]:
        """Attend inside one segment.

        Parameters
        ----------
        x, recalled : Tensor
            The segment's tokens from `place` on, and what the memory recalled for them, `[B, n, D]`.
        persistent : Tensor
            `[B, N_p, D]`.
        cache : AttentionCache
            Keys and values of the segment so far; `filled` is not used.
        place : int
            Where in the segment the first of the tokens stands.
        present : Tensor, optional
            `[B, n]` bool; where False, the cache already holds that place of the segment, or the
            stream has not come so far.

        Returns
        -------
        tuple[Tensor, AttentionCache]
            `[B, n, D]` and the cache after it.
        """
        stop = place + x.shape[1]
        both = torch.stack([recalled, x], 2)  # [B, n, 2, D]

        def extend(proj: nn.Module, cached: Tensor) -> Tensor:
            """The segment's keys or values up to `stop`, `[B, stop, 2, H, d]`."""
            old, new = cached.unflatten(1, (-1, 2)).to(x.dtype), self._heads(proj, both)
            if present is not None:
                new = torch.where(present[..., None, None, None], new, old[:, place:stop])
            return torch.cat([old[:, :place], new], 1)

        keys, values = extend(self.k_proj, cache.keys), extend(self.v_proj, cache.values)
        position = torch.arange(stop, device=x.device)
        q = rotate(self._heads(self.q_proj, x).transpose(1, 2), position[place:])  # [B, H, n, d]
        k = rotate(keys.permute(0, 3, 2, 1, 4), position).flatten(2, 3)  # [B, H, 2 * stop, d]
        v = values.permute(0, 3, 2, 1, 4).flatten(2, 3)
        p_k, p_v = (
            self._heads(proj, persistent).transpose(1, 2) for proj in (self.k_proj, self.v_proj)
        )
        sight = position <= position[place:, None]  # [n, stop]
        sight = F.pad(sight.repeat(1, 2), (persistent.shape[1], 0), value=True)
        y = _attention(q, torch.cat([p_k, k], 2), torch.cat([p_v, v], 2), sight)

        def store(cached: Tensor, filled: Tensor) -> Tensor:
            return torch.cat([filled.flatten(1, 2), cached[:, 2 * stop :].to(filled.dtype)], 1)

        cache = AttentionCache(store(cache.keys, keys), store(cache.values, values), cache.filled)
        return self.out_proj(y.transpose(1, 2).flatten(2)), cache


def _attention(q: Tensor, k: Tensor, v: Tensor, sight: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=sight, scale=v.shape[-1] ** -0.5)
