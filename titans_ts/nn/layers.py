"""Small layers the blocks share: causal convolution with state, rotary positions, feed-forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from titans_ts.kernels.ragged import take

__all__ = ["CausalConv", "FeedForward", "Norm", "last_tokens", "rotate"]


class Norm(nn.RMSNorm):
    """Root-mean-square norm over the last axis, in the weights' dtype also under autocast.

    Parameters
    ----------
    width : int
        Entries of the last axis.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x `[..., width]`."""
        return super().forward(x.to(self.weight.dtype))


class CausalConv(nn.Module):
    """Depthwise causal convolution over tokens that carries its last inputs.

    Parameters
    ----------
    channels : int
        Number of channels, each with its own filter.
    size : int
        Taps; a token sees itself and `size - 1` before it.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, size))
        nn.init.uniform_(self.weight, -(size**-0.5), size**-0.5)

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros `[B, size - 1, channels]`: nothing came before."""
        channels, _, size = self.weight.shape
        return self.weight.new_zeros(batch_size, size - 1, channels)

    def forward(
        self, x: Tensor, state: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Filter x `[B, T, channels]`, of which the first `lengths` `[B]` tokens are present.

        Returns
        -------
        tuple[Tensor, Tensor]
            The filtered tokens, shaped as x, and the new state.
        """
        if x.shape[1] == 0:
            return x, state
        stream = torch.cat([state.to(x.dtype), x], 1)
        y = x * self.weight[:, 0, -1]
        for tap in range(
            self.weight.shape[-1] - 1
        ):  # cheaper than a grouped convolution's gradient
            y = y + stream[:, tap : tap + x.shape[1]] * self.weight[:, 0, tap]
        return y, last_tokens(stream, state.shape[1], lengths)


def last_tokens(stream: Tensor, size: int, lengths: Tensor | None) -> Tensor:
    """The newest `size` tokens of a carried-over stream `[B, size + T, ...]`.

    With `lengths` `[B]`, only the first `lengths[b]` of sample b's T tokens are present.
    """
    if lengths is None:
        return stream[:, stream.shape[1] - size :]
    return take(stream, lengths[:, None] + torch.arange(size, device=stream.device))


def rotate(x: Tensor, position: Tensor) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864) of x `[..., N, d]` at `position` `[N]`."""
    half = x.shape[-1] // 2
    dtype = torch.promote_types(x.dtype, torch.float32)
    rate = 10000.0 ** (-torch.arange(half, device=x.device, dtype=dtype) / half)
    angle = position[:, None] * rate  # [N, d / 2]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class FeedForward(nn.Sequential):
    """Linear, GELU, dropout, linear.

    Parameters
    ----------
    d_model, expansion : int
        Width of a token, and of the hidden layer in token widths.
    dropout : float
        Dropped share of the hidden layer.
    """

    def __init__(self, d_model: int, expansion: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(d_model, expansion * d_model),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(expansion * d_model, d_model),
        )
