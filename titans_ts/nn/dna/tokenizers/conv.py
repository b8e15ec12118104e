"""The tokenizer "conv": motif filters and max pooling over the letters of a token."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.dna.tokenizers.base import OneHot, StridedTokenizer

__all__ = ["ConvTokens"]

_MATCH, _OTHERS = 0.5, 0.3
"""Of a filter that matches a k-mer: weight of a letter that fits, and share of its random weights."""


class ConvTokens(StridedTokenizer):
    """Motif filters, as of a convolutional network: the best match among a token's letters.

    `n_filters` motifs of `kernel_size` letters over one-hot letters, GELU, the maximum over `stride`
    letters, and a linear map.
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
        x = F.gelu(self.conv(self.one_hot(codes, mask)))  # [B, F, N stride]
        if self.stride > 1:
            own = mask[:, None, self.kernel_size - 1 :]
            x = x.masked_fill(~own, torch.finfo(x.dtype).min)
            x = F.max_pool1d(x, self.stride)
            x = x.masked_fill(~own.unflatten(2, (-1, self.stride)).any(-1), 0)
        tokens: Tensor = self.out(x.mT)
        return tokens

    def begin_with(self, kmers: NDArray[np.float32]) -> None:
        """Make the first filters match gapped k-mers `[n, 4, m]`, each a 1 where it has a letter.

        The response of a filter is largest to its k-mer, and lower to one that differs in a letter.
        """
        assert self.conv.bias is not None
        with torch.no_grad():
            for row, kmer in enumerate(torch.from_numpy(kmers)):
                first = (self.kernel_size - kmer.shape[1]) // 2
                weight = self.conv.weight[row].mul_(_OTHERS)
                there = kmer.sum(0)
                weight[:4, first : first + len(there)] += _MATCH * (4 * kmer - there) / 3
                self.conv.bias[row] = -_MATCH * (there.sum() - 2)
