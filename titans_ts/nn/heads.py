"""From tokens to answers: forecasts with quantiles, classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ClassHead", "ForecastHead"]


class ForecastHead(nn.Module):
    """A point and quantiles for every step ahead, from all tokens of a window.

    Parameters
    ----------
    d_in : int
        Width of the flattened tokens.
    prediction_length, n_outputs, n_quantiles : int
        H steps, variates forecast from one window's tokens, and Q quantiles of each.
    dropout : float
        Dropped share of the input.
    """

    def __init__(
        self, d_in: int, prediction_length: int, n_outputs: int, n_quantiles: int, dropout: float
    ) -> None:
        super().__init__()
        self.shape = (prediction_length, n_outputs)
        self.dropout = nn.Dropout(dropout)
        self.point = nn.Linear(d_in, prediction_length * n_outputs)
        n_values = prediction_length * n_outputs * n_quantiles
        self.quantiles = nn.Linear(d_in, n_values) if n_values else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Point `[B, H, C]` and quantiles `[B, H, C, Q]`, which never cross, of `[B, P, D]`."""
        x = self.dropout(tokens.flatten(1))
        point = self.point(x).unflatten(-1, self.shape)
        if self.quantiles is None:
            return point, point.new_empty(*point.shape, 0)
        quantiles = self.quantiles(x).unflatten(-1, (*self.shape, -1))
        return point, quantiles.sort(-1).values


class ClassHead(nn.Module):
    """Class logits from a sequence of any length, by attention pooling.

    Parameters
    ----------
    d_model, n_classes : int
        Width of a token, and number of classes.
    dropout : float
        Dropped share of the pooled token.
    """

    def __init__(self, d_model: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.score = nn.Linear(d_model, 1)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(d_model, n_classes)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Logits `[B, n_classes]` of tokens `[B, T, D]`, of which `mask` `[B, T]` are present."""
        score = self.score(tokens)[..., 0].masked_fill(~mask, -torch.inf)
        pooled = (score.softmax(-1)[:, None] @ tokens)[:, 0]
        return self.out(self.dropout(pooled))
