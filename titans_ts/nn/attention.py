"""Short-term memory: causal attention over a sliding window or a segment, and over persistent tokens.

Both keep a cache of constant size, so a stream may be read in pieces of any length. Rotary positions
are counted inside the window or segment, so nothing grows with the stream.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.nn.layers import Norm, constant, last_tokens, rotate, turns

__all__ = [
    "AttentionCache",
    "SegmentAttention",
    "SlidingWindowAttention",
    "VariateAttention",
    "segment_turns",
]


class AttentionCache(NamedTuple):
    """Keys and values that later tokens still attend to."""

    pairs: Tensor
    """Keys and values, `[B, 2, H, N, d]`."""
    filled: Tensor
    """`[B]` int64 on the CPU: how many of the N entries are filled. In a graph, one int for all."""


class _Attention(nn.Module):
    """Projections of multi-head attention, and a cache of `cache_size` tokens."""

    def __init__(self, d_model: int, n_heads: int, cache_size: int) -> None:
        super().__init__()
        self.n_heads, self.cache_size = n_heads, cache_size
        self.qkv_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def initial_state(self, batch_size: int) -> AttentionCache:
        """Return an empty cache for `batch_size` streams."""
        weight = self.qkv_proj.weight
        width = weight.shape[1] // self.n_heads
        empty = weight.new_zeros(1, 2, self.n_heads, self.cache_size, width)
        filled = torch.zeros(batch_size, dtype=torch.long)
        return AttentionCache(empty.expand(batch_size, -1, -1, -1, -1), filled)

    def _project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values `[..., 3, H, d]` of tokens `[..., D]`."""
        return self.qkv_proj(x).unflatten(-1, (3, self.n_heads, -1))

    def _lasting(self, persistent: Tensor, batch_size: int) -> Tensor:
        """Return keys and values `[B, 2, H, N_p, d]` of persistent tokens `[B, N_p, D]`."""
        weight = self.qkv_proj.weight
        pairs = F.linear(persistent, weight[weight.shape[1] :]).unflatten(-1, (2, self.n_heads, -1))
        return pairs.permute(0, 2, 3, 1, 4).expand(batch_size, -1, -1, -1, -1)

    def _output(self, y: Tensor) -> Tensor:
        """Join the heads of `[B, H, T, d]` and project them to `[B, T, D]`."""
        return self.out_proj(y.transpose(1, 2).flatten(2))


class SlidingWindowAttention(_Attention):
    """Causal attention to the last `window` tokens (itself included) and the persistent tokens.

    The cost is O(T * window), and the cache has `window - 1` tokens.

    Parameters
    ----------
    d_model, n_heads : int
        Width of a token, and number of heads.
    window : int
        Number of tokens that a token attends to.
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
        """Compute the attention of the next tokens.

        Parameters
        ----------
        x : Tensor
            Tokens `[B, T, D]`.
        persistent : Tensor
            Tokens that all tokens attend to, `[B, N_p, D]`, or `[1, N_p, D]` for all samples.
        cache : AttentionCache, optional
            The cache of the tokens before; default: an empty one.
        lengths : Tensor, optional
            `[B]`: only the first `lengths[b]` tokens are present; default: all.

        Returns
        -------
        tuple[Tensor, AttentionCache]
            Outputs `[B, T, D]`, and the cache after these tokens.
        """
        batch, length, _ = x.shape
        cache = self.initial_state(batch) if cache is None else cache
        qkv = self._project(x).permute(0, 2, 3, 1, 4)  # [B, 3, H, T, d]
        q, new = qkv[:, 0], qkv[:, 1:]
        old, lasting = cache.pairs.to(new.dtype), self._lasting(persistent, batch)
        if length == 1:
            pairs = torch.cat([old, new, lasting], 3)
            stream = pairs[:, :, :, : self.cache_size + 1]
            y = self._attend_one(q, pairs, cache.filled)
        else:
            stream = torch.cat([old, new], 3)
            y = self._attend(q, new, stream, lasting, cache.filled)
        pairs = last_tokens(stream.movedim(3, 1), self.cache_size, lengths).movedim(1, 3)
        if isinstance(cache.filled, int):
            return self._output(y), AttentionCache(
                pairs, min(cache.filled + length, self.cache_size)
            )
        filled = cache.filled + (length if lengths is None else lengths.cpu())
        return self._output(y), AttentionCache(pairs, filled.clamp_max(self.cache_size))

    def _attend_one(self, q: Tensor, pairs: Tensor, filled: Tensor) -> Tensor:
        """Attend with one query: keys are rotated relative to it, so the query is not rotated."""
        size, counts = self.cache_size, _counts(filled)
        past = max(counts, default=0)  # skip cache entries that are empty in every sample
        k, v = pairs[:, :, :, size - past :].unbind(1)
        n_persistent = pairs.shape[3] - size - 1
        cos, sin = _relative_turns(size, n_persistent, q.shape[-1], q.dtype, q.device)
        k = rotate(k, cos[size - past :], sin[size - past :])
        sight = None
        if min(counts, default=past) < past:
            missing = (past - filled).to(q.device)[:, None, None, None]
            sight = torch.arange(k.shape[2], device=q.device) >= missing
        return _attention(q, k, v, sight)

    def _attend(
        self, q: Tensor, new: Tensor, stream: Tensor, lasting: Tensor, filled: Tensor
    ) -> Tensor:
        """Attend in blocks of queries; a block sees itself and the `past` tokens before it."""
        size, length, counts = self.cache_size, q.shape[2], _counts(filled)
        past, block = size, min(length, size + 1)
        n_blocks = -(-length // block)
        if n_blocks == 1:
            past = max(counts, default=0)  # skip cache entries that are empty in every sample
            seen = stream[:, :, :, size - past :] if past else new
            q, seen = q[:, :, None], seen[:, :, :, None]
        else:
            absent = (0, 0, 0, n_blocks * block - length)
            q = F.pad(q, absent).unflatten(2, (n_blocks, block))
            seen = F.pad(stream, absent).unfold(3, past + block, block).mT
        k, v = seen.unbind(1)  # [B, H, N, past + block, d], and q is [B, H, N, block, d]
        p_k, p_v = lasting[:, :, :, None].expand(-1, -1, -1, n_blocks, -1, -1).unbind(1)
        # Scores of persistent tokens must not depend on a query's position in its block, so they use the
        # unrotated query: [rotated q, q] is multiplied with [rotated k, 0] and [0, persistent k].
        cos, sin = _window_turns(size, q.shape[-1], q.dtype, q.device)
        cos, sin = cos[: past + block], sin[: past + block]
        q = torch.cat([rotate(q, cos[past:], sin[past:]), q], -1)
        k = F.pad(rotate(k, cos, sin), (0, k.shape[-1]))
        k, v = torch.cat([F.pad(p_k, (p_k.shape[-1], 0)), k], 3), torch.cat([p_v, v], 3)

        place = torch.arange(past + block, device=q.device)
        reach = place[past:, None] - place
        sight = (reach >= 0) & (reach <= size)  # [block, past + block]
        if min(counts, default=past) < past:  # some cache entries are empty
            alike = min(counts) == max(counts)  # then all samples share one mask
            shape = (1, 1, n_blocks) if alike else q.shape[:3]
            missing = past - torch.tensor(counts[: shape[0]], device=q.device)
            sight = sight.expand(*shape, -1, -1).clone()
            sight[:, :, 0] &= place >= missing[:, None, None, None]
            sight = sight.flatten(0, 1)
        sight = F.pad(sight, (p_k.shape[3], 0), value=True)
        y = _attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), sight)
        return y.unflatten(0, (-1, self.n_heads)).flatten(2, 3)[:, :, :length]


class SegmentAttention(_Attention):
    """Causal attention to a segment, to persistent tokens and to the outputs of the memory.

    Token t of a segment attends to every persistent token, the memory's outputs h_1 .. h_t and the
    segment's tokens 1 .. t. The cache holds keys and values of the unfinished segment.

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
        """Compute the attention of some tokens of one segment.

        Parameters
        ----------
        x, recalled : Tensor
            The segment's tokens from `place` on, and the memory's outputs for them, `[B, n, D]`.
        persistent : Tensor
            `[B, N_p, D]`, or `[1, N_p, D]` for all samples.
        cache : AttentionCache
            Keys, already rotated, and values of the segment so far; `filled` is not used.
        place : int
            Position of the first of these tokens in the segment.
        present : Tensor, optional
            `[B, n]` bool; False where the cache already has that position of the segment, or the
            stream has not reached it. Default: all are present.

        Returns
        -------
        tuple[Tensor, AttentionCache]
            Outputs `[B, n, D]`, and the cache after these tokens.
        """
        length = x.shape[1]
        start, stop = 2 * place, 2 * (place + length)
        qkv = self._project(torch.stack([recalled, x], 2))  # [B, n, 2, 3, H, d]
        cos, sin = segment_turns(self.cache_size // 2, qkv.shape[-1], qkv.dtype, qkv.device)
        qkv = rotate(qkv, cos[place : place + length], sin[place : place + length])
        qkv = qkv.permute(0, 3, 4, 1, 2, 5)  # [B, 3, H, n, 2, d]
        q, new = qkv[:, 0, :, :, 1], qkv[:, 1:].flatten(3, 4)
        old, lasting = cache.pairs.to(new.dtype), self._lasting(persistent, x.shape[0])
        if present is not None:
            held = present.repeat_interleave(2, 1)[:, None, None, :, None]
            new = torch.where(held, new, old[:, :, :, start:stop])
        pairs = torch.cat([lasting, old[:, :, :, :start], new, old[:, :, :, stop:]], 3)
        n_persistent = lasting.shape[3]
        k, v = pairs[:, :, :, : n_persistent + stop].unbind(1)
        sight = None
        if length > 1:
            position = torch.arange(place + length, device=x.device)
            sight = (position <= position[place:, None]).repeat_interleave(2, 1)  # [n, stop]
            sight = F.pad(sight, (n_persistent, 0), value=True)
        y = self._output(_attention(q, k, v, sight))
        return y, AttentionCache(pairs[:, :, :, n_persistent:], cache.filled)


def _attention(q: Tensor, k: Tensor, v: Tensor, sight: Tensor | None) -> Tensor:
    """Attention whose values may be narrower than the keys; padding allows PyTorch's fused kernels."""
    width, missing = v.shape[-1], q.shape[-1] - v.shape[-1]
    v = F.pad(v, (0, missing)) if missing else v
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=sight, scale=width**-0.5)
    return y[..., :width]


def _counts(filled: Tensor | int) -> list[int]:
    """Return the numbers of filled entries, one for every sample, or one for all of them."""
    return [filled] if isinstance(filled, int) else filled.tolist()


@constant
def _relative_turns(
    past: int, n_persistent: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rotations of a window's keys relative to its newest token, then of persistent tokens (none)."""
    position = F.pad(torch.arange(-past, 1, device=device), (0, n_persistent))
    return turns(position, width, dtype)  # [past + 1 + N_p, d]


@constant
def _window_turns(
    past: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rotations of the keys of a block of `past + 1` tokens, and of the `past` tokens before it."""
    return turns(torch.arange(2 * past + 1, device=device), width, dtype)


@constant
def segment_turns(
    length: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rotations `[length, 1, 3, 1, d]` of a segment's queries, keys and values (none for values)."""
    place = torch.arange(length, device=device)
    return turns(torch.stack([place, place, 0 * place], 1)[:, None, :, None], width, dtype)


class VariateAttention(nn.Module):
    """Attention between the variates of each patch, with a residual connection.

    Before training it adds nothing: the output projection is initialised to zero.

    Parameters
    ----------
    d_model, n_heads : int
        Width of a token, and number of heads.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = Norm(d_model)
        self.qkv_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Mix tokens `[B, C, P, D]`; only those in the mask `present` `[B, C, P]` are attended to."""
        each = self.norm(x).transpose(1, 2)  # [B, P, C, D]
        q, k, v = self.qkv_proj(each).unflatten(-1, (3, self.n_heads, -1)).unbind(-3)
        seen = present.transpose(1, 2)[:, :, None, None]  # [B, P, 1, 1, C]
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        q, k, v = (part.transpose(2, 3) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen | itself)
        return x + self.out_proj(y.transpose(2, 3).flatten(3)).transpose(1, 2)
