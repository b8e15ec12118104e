"""The tokenizer "residual": motif filters, and gated convolutions over their matches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.dna.tokenizers.base import OneHot, StridedTokenizer

__all__ = ["ResidualTokens"]

_SIZE = 7
"""Tokens that a convolution over tokens sees."""
_DROPOUT = 0.3
"""Dropout rate of what a convolution adds."""


class ResidualTokens(StridedTokenizer):
    """Motif filters, and gated, dilated, residual convolutions over the tokens.

    The layers are a convolution over one-hot letters with `n_filters` filters of `kernel_size` letters,
    SiLU, a linear map, the maximum over `stride` letters, and `n_residual` convolutions, each with a
    dilation twice that of the one before. All are normalised over the batch. A convolution sees a token
    and those before it, so a sequence can be read in pieces. Gated and dilated convolutions follow
    ConvNova (Bo et al., 2025, arXiv 2502.18538).
    """

    usual_size = 15

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        width = config.backbone.d_model
        self.one_hot = OneHot(config.soft_masked == "flag")
        channels = self.one_hot.table.shape[1]
        self.conv = nn.Conv1d(channels, config.n_filters, self.kernel_size)
        self.norm = _BatchNorm(config.n_filters)
        self.out = nn.Linear(config.n_filters, width)
        self.layers = nn.ModuleList(_Residual(width, 2**i) for i in range(config.n_residual))
        self.before = (_SIZE - 1) * (2**config.n_residual - 1)

    @property
    def filters(self) -> Tensor:
        """The weights of letters in each filter, `[F, C, kernel_size]`, normalised as its matches are."""
        assert self.norm.running_var is not None
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        return self.conv.weight * scale[:, None, None]

    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """As in the base class."""
        own = mask[:, self.kernel_size - 1 :]
        x = self.conv(self.one_hot(codes, mask)).mT  # [B, N stride, F]
        x = self.out(F.silu(self.norm(x, own)))
        x = x.masked_fill(~own[..., None], torch.finfo(x.dtype).min)
        x, there = x.unflatten(1, (-1, self.stride)).amax(2), self._own(mask)
        x = x.masked_fill(~there[..., None], 0)
        for layer in self.layers:
            x = layer(x, there)
        return x


class _Residual(nn.Module):
    """A gated convolution over a token and those before it, which is added to the token."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, 2 * width, _SIZE, dilation=dilation)
        self.norm = _BatchNorm(2 * width)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return tokens `[B, N, D]`; those that `mask` `[B, N]` does not mark are 0, as in `x`."""
        past = (_SIZE - 1) * self.conv.dilation[0]
        gated = F.glu(self.norm(self.conv(F.pad(x.mT, (past, 0))).mT, mask))
        return (x + self.dropout(gated)) * mask[..., None]


class _BatchNorm(nn.BatchNorm1d):
    """Normalise channels `[B, N, C]` over the places that a mask `[B, N]` marks as present.

    With fewer than two of them, or in evaluation, the running statistics are used. These begin with the
    first batch, and leave out one whose sums are not finite.
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Return `[B, N, C]`."""
        rows = x.flatten(0, 1)
        n = int(mask.sum()) if self.training else 0
        if n < 2:
            known = self.running_mean, self.running_var, self.weight, self.bias
            return F.batch_norm(rows, *known, eps=self.eps).unflatten(0, x.shape[:2])
        whole = n == len(rows)
        rows = rows if whole else x[mask]
        if rows.sum().isfinite():
            assert self.num_batches_tracked is not None
            self.momentum = max(0.1, 1 / (1 + int(self.num_batches_tracked)))
            rows = super().forward(rows)
        else:
            rows = F.batch_norm(rows, None, None, self.weight, self.bias, training=True)
        if whole:
            return rows.unflatten(0, x.shape[:2])
        return rows.new_zeros(x.shape).masked_scatter(mask[..., None], rows)
