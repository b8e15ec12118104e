"""The tokenizer "nucleotide": one convolution over the letters of a token."""

from __future__ import annotations

from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.dna.tokenizers.base import OneHot, StridedTokenizer

__all__ = ["NucleotideTokens"]


class NucleotideTokens(StridedTokenizer):
    """A learned linear map of the letters that a token sees.

    It is a convolution over one-hot letters; an ambiguous letter has equal shares of its bases.
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.one_hot = OneHot(config.soft_masked == "flag")
        channels = self.one_hot.table.shape[1]
        self.conv = nn.Conv1d(channels, config.backbone.d_model, self.kernel_size, self.stride)

    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """As in the base class."""
        skipped = self.stride - 1  # the window of a token ends at its last letter
        x = self.one_hot(codes, mask)[..., skipped:]
        tokens: Tensor = self.conv(x).mT
        return tokens
