"""What training minimises: `loss(model, batch)` is a mean, and how many values it is a mean of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.nn.models import ForecastingModel, SequenceClassifier

__all__ = ["classification_loss", "forecast_loss", "pinball_loss"]


def forecast_loss(model: ForecastingModel, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
    """Squared error of the mean plus pinball loss of the quantiles, over the observed targets.

    Parameters
    ----------
    model : ForecastingModel
        The model.
    batch : tuple[Tensor, Tensor]
        Past `[B, L, C]` and future `[B, H, C]`; NaN is missing and does not count.
    """
    past, future = batch
    point, quantiles = model(past)
    observed = ~future.isnan()
    target = torch.where(observed, future, 0)
    n_observed = int(observed.sum())
    count = max(1, n_observed)
    loss = ((point - target).square() * observed).sum() / count
    if quantiles.shape[-1]:
        levels = torch.as_tensor(model.config.quantile_levels, device=target.device)
        pinball = pinball_loss(quantiles, target, levels).mean(-1)
        loss = loss + (pinball * observed).sum() / count
    return loss, n_observed


def pinball_loss(quantiles: Tensor, target: Tensor, levels: Tensor) -> Tensor:
    """Twice the pinball loss of quantiles `[..., Q]` at `levels` `[Q]`: at 0.5, the absolute error."""
    error = target[..., None] - quantiles
    return 2 * torch.maximum(levels * error, (levels - 1) * error)


def classification_loss(
    model: SequenceClassifier, batch: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, int]:
    """Cross-entropy of codes `[B, T]`, lengths `[B]` and labels `[B]`."""
    codes, lengths, labels = batch
    return F.cross_entropy(model(codes, lengths), labels), len(labels)
