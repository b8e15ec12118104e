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
"""Filters that match a k-mer: weight of a matching letter, and factor of the random weights."""


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
        x = F.gelu(self.conv(self.one_hot(codes, mask)))  # [B, F, N stride]
        if self.stride > 1:
            own = mask[:, None, self.kernel_size - 1 :]
            x = x.masked_fill(~own, torch.finfo(x.dtype).min)
            x = F.max_pool1d(x, self.stride)
            x = x.masked_fill(~own.unflatten(2, (-1, self.stride)).any(-1), 0)
        tokens: Tensor = self.out(x.mT)
        return tokens

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
