"""Heads that turn the tokens of a window into forecasts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ForecastHead", "KnownEffect"]


class ForecastHead(nn.Module):
    """Maps all tokens of a window to a location and E further numbers for every step ahead.

    Parameters
    ----------
    d_in : int
        Width of the flattened tokens.
    prediction_length, n_outputs, n_extra : int
        H steps, variates that one window's tokens forecast, and E further numbers for each.
    dropout : float
        Dropout rate of the input.
    n_known, width : int
        Number of known covariates (default 0), and width of the network that reads them (default 64).
    """

    def __init__(
        self,
        d_in: int,
        prediction_length: int,
        n_outputs: int,
        n_extra: int,
        dropout: float,
        n_known: int = 0,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.shape = (prediction_length, n_outputs)
        self.dropout = nn.Dropout(dropout)
        self.point = nn.Linear(d_in, prediction_length * n_outputs)
        n_values = prediction_length * n_outputs * n_extra
        self.extra = nn.Linear(d_in, n_values) if n_values else None
        self.effect = (
            KnownEffect(d_in, prediction_length, n_known, n_outputs * (1 + n_extra), width)
            if n_known
            else None
        )

    def forward(self, tokens: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return locations `[B, H, C]` and further numbers `[B, H, C, E]` of tokens `[B, P, D]`.

        `known` `[B, H, K]` are the covariates of the steps ahead, NaN where missing.
        """
        x = self.dropout(tokens.flatten(1))
        point = self.point(x).unflatten(-1, self.shape)
        extra = point.new_empty(*point.shape, 0)
        if self.extra is not None:
            extra = self.extra(x).unflatten(-1, (*self.shape, -1))
        if self.effect is not None:
            assert known is not None
            effect = self.effect(x, known).unflatten(-1, (self.shape[1], -1))
            point, extra = point + effect[..., 0], extra + effect[..., 1:]
        return point, extra


class KnownEffect(nn.Module):
    """The effect of the known covariates of a step ahead on its forecast.

    One small network for all steps reads the step's covariates, its position and a summary of the window
    (after the temporal decoder of Das et al., "TiDE", TMLR 2023).

    Parameters
    ----------
    d_in, prediction_length, n_known, n_outputs, width : int
        Width of the flattened tokens, H, K, outputs per step, and width of the network.
    """

    def __init__(
        self, d_in: int, prediction_length: int, n_known: int, n_outputs: int, width: int
    ) -> None:
        super().__init__()
        self.window = nn.Linear(d_in, width)
        self.step = nn.Parameter(torch.zeros(prediction_length, width))
        self.known = nn.Linear(2 * n_known, width)
        self.out = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, n_outputs)
        )

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """Return `[B, H, n_outputs]` from the window `[B, d_in]` and the covariates `[B, H, K]`."""
        observed = ~known.isnan()
        covariates = torch.cat([torch.where(observed, known, 0), observed.to(x.dtype)], -1)
        return self.out(self.known(covariates) + self.step + self.window(x)[:, None])
