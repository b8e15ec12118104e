"""The tokenizer "conv": motif filters and max pooling over the letters of a token."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.kernels.portable import recorded_format
from titans_ts.nn.dna.tokenizers.base import OneHot, StridedTokenizer

__all__ = ["ConvTokens"]

_MATCH, _OTHERS = 0.5, 0.3
"""Filters that match a k-mer: weight of a matching letter, and factor of the random weights."""
_VALUES = 2**18
"""Number of sums of filters that are computed at a time where no gradient is needed."""


class ConvTokens(StridedTokenizer):
    """Motif filters of a convolutional network: a token takes the best match of each filter.

    The layers are a convolution over one-hot letters with `n_filters` filters of `kernel_size` letters,
    GELU, the maximum over `stride` letters, and a linear map.
    """

    usual_size = 15

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.one_hot = OneHot(config.soft_masked == "flag")
        channels = self.one_hot.table.shape[1]
        self.conv = nn.Conv1d(channels, config.n_filters, self.kernel_size)
        self.out = nn.Linear(config.n_filters, config.backbone.d_model)

    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """As in the base class."""
        own = mask[:, self.kernel_size - 1 :]
        recorded = recorded_format() is not None
        tokens: Tensor
        if codes.device.type == "cpu" and not recorded and not torch.is_grad_enabled():
            tokens = self.out(self._looked_up(codes, mask, own))
            return tokens
        x = F.gelu(self.conv(self.one_hot(codes, mask)))  # [B, F, N stride]
        if self.stride > 1:
            whole = not recorded and bool(own.all())
            x = x if whole else x.masked_fill(~own[:, None], torch.finfo(x.dtype).min)
            x = F.max_pool1d(x, self.stride)
            there = own[:, None].unflatten(2, (-1, self.stride)).any(-1)
            x = x if whole else x.masked_fill(~there, 0)
        tokens = self.out(x.mT)
        return tokens

    def _looked_up(self, codes: Tensor, mask: Tensor, own: Tensor) -> Tensor:
        """Return the best matches `[B, N, F]` by adding what the pairs of letters contribute to them.

        There are few pairs, so this is several times faster than a convolution over one-hot letters. GELU
        falls, and then rises: the largest of `stride` letters is at their least or their largest sum.
        """
        kinds = F.pad(self.one_hot.table, (0, 0, 0, 1))  # the last is no letter, [n, C]
        taps = F.pad(self.conv.weight.permute(2, 1, 0), (0, 0, 0, 0, 0, self.kernel_size % 2))
        taps = kinds @ taps  # [K, n, F], K even
        table = taps[::2, :, None] + taps[1::2, None]  # [K / 2, n, n, F]
        if self.conv.bias is not None:
            table[0] += self.conv.bias
        letters = torch.where(mask, codes, len(kinds) - 1)
        letters = F.pad(letters, (0, self.kernel_size % 2)).unfold(1, len(taps), 1)
        pairs = letters[..., ::2] * len(kinds) + letters[..., 1::2]  # [B, N stride, K / 2]
        pairs = pairs + torch.arange(len(table), device=codes.device) * len(kinds) ** 2
        pairs = pairs.unflatten(1, (-1, self.stride)).flatten(0, 1)  # [B N, stride, K / 2]
        there = own.unflatten(1, (-1, self.stride)).flatten(0, 1)
        rows = table.flatten(0, 2)
        size = max(1, _VALUES // (self.stride * rows.shape[1]))  # so that they stay in the cache
        best = torch.cat(
            [
                _best(F.embedding_bag(part.flatten(0, 1), rows, mode="sum"), held)
                for part, held in zip(pairs.split(size), there.split(size), strict=True)
            ]
        )
        return best.unflatten(0, (len(codes), -1))

    def begin_with(self, kmers: NDArray[np.float32]) -> None:
        """Initialise the first n filters with gapped k-mers `[n, 4, m]`, one-hot with 0 at gaps.

        A filter responds most to its k-mer, and less to k-mers that differ in a letter.
        """
        assert self.conv.bias is not None
        with torch.no_grad():
            for row, kmer in enumerate(torch.from_numpy(kmers)):
                first = (self.kernel_size - kmer.shape[1]) // 2
                weight = self.conv.weight[row].mul_(_OTHERS)
                present = kmer.sum(0)
                weight[:4, first : first + len(present)] += _MATCH * (4 * kmer - present) / 3
                self.conv.bias[row] = -_MATCH * (present.sum() - 2)


def _best(sums: Tensor, there: Tensor) -> Tensor:
    """Return the largest GELU `[n, F]` of sums `[n stride, F]`.

    It is of letters in `there` `[n, stride]`, and 0 without any; of one letter, it is always its own.
    """
    if there.shape[1] == 1:
        return F.gelu(sums)
    parts = sums.unflatten(0, there.shape)
    whole = bool(there.all())
    low = high = parts
    if not whole:
        limit = torch.finfo(parts.dtype).max
        low = parts.masked_fill(~there[..., None], limit)
        high = parts.masked_fill(~there[..., None], -limit)
    low, high = reduce(torch.minimum, low.unbind(1)), reduce(torch.maximum, high.unbind(1))
    best = torch.maximum(F.gelu(low), F.gelu(high))
    return best if whole else best.masked_fill(~there.any(1, keepdim=True), 0)
