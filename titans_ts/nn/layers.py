"""Small layers that the blocks share: norm, rotary positions, feed-forward."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.kernels.layout import take
from titans_ts.nn.fused import inverse_rms

__all__ = ["FeedForward", "Norm", "constant", "last_tokens", "rotate", "turns", "untouched"]

Result = TypeVar("Result")


class Norm(nn.Module):
    """Root-mean-square norm over the last axis; the result has the weights' dtype, also under autocast.

    Parameters
    ----------
    width : int
        Size of the last axis.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x `[..., width]`."""
        weight = self.weight
        return (x * inverse_rms(x) * weight).to(weight.dtype)


def last_tokens(stream: Tensor, size: int, lengths: Tensor | None) -> Tensor:
    """Return the last `size` tokens of a stream `[B, size + T, ...]`: `size` old tokens and T new ones.

    With `lengths` `[B]`, only the first `lengths[b]` of sample b's T tokens are present.
    """
    if lengths is None:
        return stream[:, stream.shape[1] - size :]
    return take(stream, lengths[:, None] + torch.arange(size, device=stream.device))


def constant(make: Callable[..., Result]) -> Callable[..., Result]:
    """Cache the tensors that a function of hashable arguments returns, since every token needs them."""
    # tensors from inference mode cannot be used in training later
    kept = lru_cache(maxsize=32)(torch.inference_mode(False)(make))

    @wraps(make)
    def get(*arguments: Any) -> Result:
        return (make if torch.compiler.is_compiling() else kept)(*arguments)

    return get


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864) of x `[..., d]`; :func:`turns` gives cos and sin."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def turns(position: Tensor, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines `[..., d]` for :func:`rotate`, where d = `width`."""
    exact, half = torch.promote_types(dtype, torch.float32), width // 2
    rate = 10000.0 ** (-torch.arange(half, device=position.device, dtype=exact) / half)
    angle = position[..., None] * rate
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    # a pair (a, b) becomes (a, b) * (cos, cos) + (b, a) * (-sin, sin)
    return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def untouched(*modules: nn.Module) -> bool:
    """Whether these modules have no forward hooks."""
    return not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


class FeedForward(nn.Module):
    """Linear, GELU, dropout, linear.

    Parameters
    ----------
    d_model, expansion : int
        Width of a token, and width of the hidden layer divided by it.
    dropout : float
        Dropout rate of the hidden layer.
    """

    def __init__(self, d_model: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, expansion * d_model)
        self.down = nn.Linear(expansion * d_model, d_model)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[B, T, D]` to tokens of the same shape."""
        hidden = F.gelu(self.up(x))
        return self.down(F.dropout(hidden, self.dropout) if self.training else hidden)
