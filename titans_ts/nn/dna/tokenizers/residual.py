"""The tokenizer "residual": motif filters, and gated convolutions over their matches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.kernels.portable import is_recorded
from titans_ts.nn.dna.tokenizers.base import (
    OneHot,
    StridedTokenizer,
    have_hooks,
    in_parts,
)

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
        there = self._own(mask)
        x = self._best_matches(self.one_hot(codes, mask), mask[:, self.kernel_size - 1 :])
        for layer in self.layers:
            x = layer(x, there)
        return x

    def _best_matches(self, letters: Tensor, own: Tensor) -> Tensor:
        """Return `[B, N, D]` for one-hot letters `[B, C, T]`, of which `own` `[B, N stride]` are present.

        With short filters, a product with the windows of letters is several times faster than a
        convolution, as is normalising the weights in place of the matches.
        """
        tokens = own.unflatten(1, (-1, self.stride))  # [B, N, stride]
        channels = letters.shape[1]
        size = self.kernel_size * channels
        long = size > 2 * len(self.conv.weight)
        if long or is_recorded() or have_hooks(self.conv, self.norm, self.out):
            matches = self.norm(self.conv(letters).mT, own)
            return self._best(matches.unflatten(1, (-1, self.stride)), tokens)
        windows = letters.mT.flatten(1).unfold(1, size, channels)  # [B, N stride, size]
        windows = windows.flatten(0, 1)
        weight, bias = self.conv.weight.mT.flatten(1), self.conv.bias
        assert bias is not None
        weight, bias = self.norm.of_linear(weight, bias, windows, own.flatten())
        rows = windows.unflatten(0, (-1, self.stride)), tokens.flatten(0, 1)
        parts: Iterable[tuple[Tensor, ...]] = [rows]
        if letters.device.type == "cpu" and not torch.is_grad_enabled():
            parts = in_parts(len(weight) * self.stride, *rows)
        best = torch.cat([self._best(F.linear(some, weight, bias), mask) for some, mask in parts])
        return best.unflatten(0, tokens.shape[:2])

    def _best(self, matches: Tensor, own: Tensor) -> Tensor:
        """Return the best `[..., D]` of the matches `[..., stride, F]` of a token's letters."""
        x = self.out(F.silu(matches))
        x = x.masked_fill(~own[..., None], torch.finfo(x.dtype).min).amax(-2)
        return x.masked_fill(~own.any(-1, keepdim=True), 0)


class _Residual(nn.Module):
    """A gated convolution over a token and those before it, which is added to the token."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = _Conv(width, 2 * width, _SIZE, dilation=dilation)
        self.norm = _BatchNorm(2 * width)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return tokens `[B, N, D]`; those that `mask` `[B, N]` does not mark are 0, as in `x`."""
        past = (_SIZE - 1) * self.conv.dilation[0]
        gated = F.glu(self.norm(self.conv(F.pad(x, (0, 0, past, 0))), mask))
        return (x + self.dropout(gated)) * mask[..., None]


class _Conv(nn.Conv1d):
    """A convolution over the places of `[B, N, C]`, faster than one of `[B, C, N]` on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, N - past, C]`."""
        images = x.mT[:, :, None]  # of height 1, channels last in memory
        weight, dilation = self.weight[:, :, None], (1, self.dilation[0])
        return F.conv2d(images, weight, self.bias, dilation=dilation)[:, :, 0].mT


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
            self.momentum = self._share()
            rows = super().forward(rows)
        else:
            rows = F.batch_norm(rows, None, None, self.weight, self.bias, training=True)
        if whole:
            return rows.unflatten(0, x.shape[:2])
        return rows.new_zeros(x.shape).masked_scatter(mask[..., None], rows)

    def of_linear(
        self, weight: Tensor, bias: Tensor, x: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the weight `[C, K]` and the bias of a linear map that has normalised results.

        The statistics of the results for `x` `[N, K]`, where `mask` `[N]` marks rows as present, follow
        from the mean and covariance of `x`, which are quicker to compute where K is small.
        """
        n = int(mask.sum()) if self.training else 0
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, variance = self.running_mean, self.running_var
        if n >= 2:
            rows = x if n == len(x) else x[mask]
            with torch.autocast(x.device.type, enabled=False):
                exact = torch.promote_types(weight.dtype, torch.float32)
                rows, known = rows.to(exact), weight.to(exact)
                centre = rows.mean(0)
                rows = rows - centre
                mean = known @ centre + bias
                variance = ((known @ (rows.mT @ rows / n)) * known).sum(1).clamp(min=0)
            with torch.no_grad():
                own = self.running_mean, self.running_var
                new = mean.to(own[0]), (variance * (n / (n - 1))).to(own[1])
                if all(one.isfinite().all() for one in new):
                    assert self.num_batches_tracked is not None
                    share = self._share()
                    self.num_batches_tracked.add_(1)
                    for one, value in zip(own, new, strict=True):
                        one.lerp_(value, share)
        scale = self.weight * (variance + self.eps).rsqrt()
        bias = (bias - mean) * scale + self.bias
        return (weight * scale[:, None]).to(weight), bias.to(weight)

    def _share(self) -> float:
        """The weight of a batch in the running statistics."""
        assert self.num_batches_tracked is not None
        return max(0.1, 1 / (1 + int(self.num_batches_tracked)))
