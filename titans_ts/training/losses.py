"""What training minimises: `loss(model, batch)` is a mean, and how many values it is a mean of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.config import ForecasterConfig
from titans_ts.nn.models import ForecastingModel, SequenceClassifier

__all__ = ["classification_loss", "forecast_loss", "pinball_loss", "split_known"]


def forecast_loss(
    model: ForecastingModel, batch: tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]
) -> tuple[Tensor, int]:
    """Squared error of the mean plus pinball loss of the quantiles, over the observed targets.

    Parameters
    ----------
    model : ForecastingModel
        The model.
    batch : tuple
        Past `[B, L, F]` and future `[B, H, F]`, the targets, past-only and known covariates; NaN is
        missing and does not count. Static covariates, as the model takes them.
    """
    past, future, static = batch
    future, known = split_known(future, model.config)
    point, quantiles = model(past, known, static)
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


def split_known(future: Tensor, config: ForecasterConfig) -> tuple[Tensor, Tensor | None]:
    """Targets `[..., C]`, and the known covariates `[..., K]` if there are any, of `[..., F]`."""
    known = future[..., future.shape[-1] - config.n_known :] if config.n_known else None
    return future[..., : config.n_variates], known


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
