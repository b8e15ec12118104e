"""The tokenizer "kmer": an embedding of each k-mer, with or without gaps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.dna.nucleotides import gapped_offsets
from titans_ts.nn.dna.tokenizers.base import StridedTokenizer

__all__ = ["KmerTokens"]


class KmerTokens(StridedTokenizer):
    """An embedding vector for every k-mer; k is `kernel_size`.

    The k-mers of two tokens overlap if `stride` is below k. A k-mer with a letter other than A, C, G and
    T, or that begins before the sequence, is unknown. With `gaps`, a token is the sum over all gapped
    k-mers: every choice of k of `k + gaps` consecutive letters that includes the first one (Ghandi et
    al., PLOS Computational Biology 2014). The k-mer of a token ends at its last letter. With
    `all_offsets`, the token is the sum of the k-mers that end at each of its letters; each offset has its
    own vectors, so a larger `stride` skips no k-mer.
    """

    usual_size = 6

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        if self.kernel_size > 10:
            raise ValueError(
                f"kernel_size is {self.kernel_size}; k-mers have at most 10 letters (4 ** 10 k-mers)"
            )
        if config.soft_masked == "flag":
            raise ValueError("soft_masked is 'flag', which k-mers cannot show; give 'keep'")
        k, self.kernel_size = self.kernel_size, self.kernel_size + config.gaps
        self._choices = gapped_offsets(k, config.gaps)
        self._ends = self.stride if config.all_offsets else 1
        n_kmers = self._ends * len(self._choices)  # in a token
        self.words = nn.EmbeddingBag(n_kmers * (4**k + 1), config.backbone.d_model, mode="sum")
        nn.init.normal_(self.words.weight, std=0.5 * n_kmers**-0.5)

    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """As in the base class."""
        codes = torch.where(mask & (codes < 4), codes, 4)[:, self.stride - self._ends :]
        step = self.stride // self._ends  # letters between the ends of two k-mers
        windows = codes.unfold(1, self.kernel_size, step)  # [B, N ends, k + gaps]
        choices = torch.tensor(self._choices, device=codes.device)
        letters = windows[..., choices]  # [B, N ends, n, k]
        k = letters.shape[3]
        number = (letters * 4 ** torch.arange(k, device=codes.device)).sum(-1)
        number = torch.where((letters < 4).all(-1), number, 4**k)
        number = number.unflatten(1, (-1, self._ends)).flatten(2)  # [B, N, ends n]
        number = number + (4**k + 1) * torch.arange(number.shape[2], device=codes.device)
        tokens: Tensor = self.words(number.flatten(0, 1)).unflatten(0, number.shape[:2])
        return tokens
