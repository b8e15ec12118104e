"""Poolings: they turn the tokens of a sequence into one vector, all at once or a piece at a time.

`add` takes pieces of tokens `[B, n, D]` in order, and `finish` returns `[B, width]`, which is 0 if no
token is present. The state in between has a constant size, except for "flatten".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["POOLINGS", "AttentionPool", "Flatten", "LastToken", "MaxPool", "MeanPool", "Pooling"]


class Pooling(nn.Module, ABC):
    """Base of the poolings.

    Parameters
    ----------
    d_model : int
        Width of a token.
    n_tokens : int
        Tokens of the longest sequence; only "flatten" uses it.
    """

    def __init__(self, d_model: int, n_tokens: int) -> None:
        super().__init__()
        self.width = d_model

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool the tokens `[B, N, D]` that `mask` `[B, N]` marks as present, to `[B, width]`."""
        return self.finish(self.add(None, tokens, mask))

    @abstractmethod
    def add(self, state: Any, tokens: Tensor, mask: Tensor) -> Any:
        """Return the state after the next tokens; `state` is None before the first."""

    @abstractmethod
    def finish(self, state: Any) -> Tensor:
        """Return the pooled vector `[B, width]` of all added tokens."""


class MeanPool(Pooling):
    """The mean of the tokens."""

    def add(self, state: Any, tokens: Tensor, mask: Tensor) -> Any:
        """As in the base class."""
        total, count = (tokens * mask[..., None]).sum(1), mask.sum(1, keepdim=True)
        return (total, count) if state is None else (state[0] + total, state[1] + count)

    def finish(self, state: Any) -> Tensor:
        """As in the base class."""
        total, count = state
        mean: Tensor = total / count.clamp(min=1)
        return mean


class LastToken(Pooling):
    """The last token, which depends on all tokens before it."""

    def add(self, state: Any, tokens: Tensor, mask: Tensor) -> Any:
        """As in the base class."""
        place = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        last = (mask * place).amax(1)  # [B], 0 where no token is present
        index = (last - 1).clamp(min=0)[:, None, None].expand(-1, 1, tokens.shape[2])
        taken = tokens.gather(1, index)[:, 0]
        before = torch.zeros_like(taken) if state is None else state
        return torch.where(last[:, None] > 0, taken, before)

    def finish(self, state: Any) -> Tensor:
        """As in the base class."""
        last: Tensor = state
        return last


class AttentionPool(Pooling):
    """The mean of the tokens, weighted by the softmax of a learned score."""

    def __init__(self, d_model: int, n_tokens: int) -> None:
        super().__init__(d_model, n_tokens)
        self.score = nn.Linear(d_model, 1, bias=False)

    def add(self, state: Any, tokens: Tensor, mask: Tensor) -> Any:
        """As in the base class; the state is the softmax's maximum, its sum and the weighted sum."""
        score = self.score(tokens)[..., 0].masked_fill(~mask, torch.finfo(tokens.dtype).min)
        top = score.amax(1, keepdim=True)
        top = top if state is None else torch.maximum(top, state[0])
        weight = (score - top).exp() * mask  # [B, n]
        total, weighted = weight.sum(1, keepdim=True), (weight[:, None] @ tokens)[:, 0]
        if state is not None:
            old = (state[0] - top).exp()
            total, weighted = total + state[1] * old, weighted + state[2] * old
        return top, total, weighted

    def finish(self, state: Any) -> Tensor:
        """As in the base class."""
        _, total, weighted = state
        mean: Tensor = weighted / total.clamp(min=torch.finfo(total.dtype).tiny)
        return mean


class MaxPool(Pooling):
    """The largest value of every feature among the tokens."""

    def add(self, state: Any, tokens: Tensor, mask: Tensor) -> Any:
        """As in the base class."""
        least = torch.finfo(tokens.dtype).min
        top = tokens.masked_fill(~mask[..., None], least).amax(1)
        return top if state is None else torch.maximum(state, top)

    def finish(self, state: Any) -> Tensor:
        """As in the base class."""
        top: Tensor = state.masked_fill(state == torch.finfo(state.dtype).min, 0)
        return top


class Flatten(Pooling):
    """All tokens side by side, for sequences of about one length where position matters."""

    def __init__(self, d_model: int, n_tokens: int) -> None:
        super().__init__(d_model, n_tokens)
        self.n_tokens, self.width = n_tokens, d_model * n_tokens

    def add(self, state: Any, tokens: Tensor, mask: Tensor) -> Any:
        """As in the base class."""
        tokens = tokens * mask[..., None]
        return tokens if state is None else torch.cat([state, tokens], 1)

    def finish(self, state: Any) -> Tensor:
        """As in the base class."""
        missing = self.n_tokens - state.shape[1]
        if missing < 0:
            raise ValueError(
                f"a sequence has {state.shape[1]} tokens; the pooling 'flatten' was made for at most "
                f"{self.n_tokens}: shorten it, or fit with another pooling"
            )
        return nn.functional.pad(state, (0, 0, 0, missing)).flatten(1)


POOLINGS: dict[str, type[Pooling]] = {
    "attention": AttentionPool,
    "flatten": Flatten,
    "last": LastToken,
    "max": MaxPool,
    "mean": MeanPool,
}
"""The poolings, by name."""
