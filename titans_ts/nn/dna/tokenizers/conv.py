"""The tokenizer "conv": motif filters and max pooling over the letters of a token."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from titans_ts.config import SequenceConfig
from titans_ts.kernels.portable import is_recorded
from titans_ts.nn.dna.nucleotides import LOWER
from titans_ts.nn.dna.tokenizers.base import (
    OneHot,
    StridedTokenizer,
    have_hooks,
    in_parts,
)

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

    @property
    def filters(self) -> Tensor:
        """The weights of letters in each filter, `[F, C, kernel_size]`."""
        return self.conv.weight

    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """As in the base class."""
        own = mask[:, self.kernel_size - 1 :]
        recorded = is_recorded()
        tokens: Tensor
        if codes.device.type == "cpu" and not (recorded or have_hooks(self.one_hot, self.conv)):
            tokens = self.out(self._looked_up(codes, mask, own))
            return tokens
        x = F.gelu(self.conv(self.one_hot(codes, mask)))  # [B, F, N stride]
        if self.stride > 1:
            whole = not recorded and bool(own.all())
            x = x if whole else x.masked_fill(~own[:, None], torch.finfo(x.dtype).min)
            x = F.max_pool1d(x, self.stride)
            x = x if whole else x.masked_fill(~self._own(mask)[:, None], 0)
        tokens = self.out(x.mT)
        return tokens

    def _looked_up(self, codes: Tensor, mask: Tensor, own: Tensor) -> Tensor:
        """Return the best matches `[B, N, F]` by :class:`_BestMatches`."""
        table = self.one_hot.table
        if table.shape[1] == 4:  # lower case is the same
            table, codes = table[:LOWER], codes % LOWER
        kinds = F.pad(table, (0, 0, 0, 1))  # the last is no letter, [n, C]
        letters = torch.where(mask, codes, len(kinds) - 1).unfold(1, self.kernel_size, 1)
        letters = letters.unflatten(1, (-1, self.stride)).flatten(0, 1)  # [B N, stride, K]
        own = own.unflatten(1, (-1, self.stride)).flatten(0, 1)
        own = own if self.stride > 1 else torch.ones_like(own)  # a token of one letter is its own
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        learns = torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad)
        function: Any = _BestMatches
        best: Tensor = function.apply(weight, bias, kinds.to(weight.dtype), letters, own, learns)
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


class _BestMatches(torch.autograd.Function):
    """The largest GELU of a filter's sums over the letters of a token, and 0 without letters.

    The sums are read from a table of what each pair of letters contributes, as there are few pairs. GELU
    falls, and then rises: the largest is at the least or at the largest sum. Both directions are several
    times faster than a convolution over one-hot letters and a maximum over its result. There are no
    second derivatives, no forward-mode ones, and none by `torch.func`.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor,
        kinds: Tensor,
        letters: Tensor,
        own: Tensor,
        learns: bool,
    ) -> Tensor:
        """Return `[M, F]` for letters `[M, stride, K]`, which are rows of `kinds` `[n, C]`.

        `own` `[M, stride]` masks those of the sequence, and `learns` is whether a gradient is needed.
        """
        n, stride = len(kinds), letters.shape[1]
        taps = kinds @ F.pad(weight.permute(2, 1, 0), (0, 0, 0, 0, 0, weight.shape[2] % 2))
        table = taps[::2, :, None] + taps[1::2, None]  # [K / 2, n, n, F], K even
        table[0] += bias
        rows, places = table.flatten(0, 2), torch.arange(len(table)) * n**2
        found, matches = [], []
        for some, there in in_parts(stride * rows.shape[1], letters, own):
            some = F.pad(some, (0, weight.shape[2] % 2))
            pairs = some[..., ::2] * n + some[..., 1::2] + places
            sums = F.embedding_bag(pairs.flatten(0, 1), rows, mode="sum").unflatten(0, there.shape)
            low, high, whole = sums, sums, bool(there.all())
            if not whole:
                limit = torch.finfo(sums.dtype).max
                low = sums.masked_fill(~there[..., None], limit)
                high = sums.masked_fill(~there[..., None], -limit)
            low, high = reduce(torch.minimum, low.unbind(1)), reduce(torch.maximum, high.unbind(1))
            below, above = F.gelu(low), F.gelu(high)
            best = torch.maximum(below, above)
            found.append(best if whole else best.masked_fill(~there.any(1, keepdim=True), 0))
            if learns:
                matches += [sums, torch.where(below > above, low, high)]
        ctx.save_for_backward(kinds, letters, own, *matches)
        ctx.shape = weight.shape
        return torch.cat(found)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, d_best: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the weight and the bias; of equal sums, the first receives it."""
        kinds, letters, own, *matches = ctx.saved_tensors
        n_filters, channels, size = ctx.shape
        d_taps, d_bias = d_best.new_zeros(n_filters, size * channels), d_best.new_zeros(n_filters)
        parts = in_parts(letters.shape[1] * n_filters, letters, own, d_best)
        for (some, there, slope), sums, chosen in zip(
            parts, matches[::2], matches[1::2], strict=True
        ):
            slope = torch.ops.aten.gelu_backward(slope, chosen)
            d_sums, part = torch.empty_like(sums), torch.empty_like(slope)
            whole = bool(there.all())
            for i, own_sum in enumerate(sums.unbind(1)):
                torch.eq(own_sum, chosen, out=part)  # numbers are multiplied faster than chosen
                part.mul_(slope) if whole else part.mul_(slope).mul_(there[:, i, None])
                d_sums[:, i] = part
                slope -= part
            d_sums = d_sums.flatten(0, 1)
            d_taps.addmm_(d_sums.mT, kinds[some].flatten(0, 1).flatten(1))
            d_bias += d_sums.sum(0)
        return d_taps.unflatten(1, (size, channels)).mT.contiguous(), d_bias, None, None, None, None
