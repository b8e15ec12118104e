"""What training minimises: `loss(model, batch)` is a mean, and how many values it is a mean of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.config import ForecasterConfig
from titans_ts.nn.models import ForecastingModel, SequenceClassifier

__all__ = ["classification_loss", "forecast_loss", "split_known"]


def forecast_loss(
    model: ForecastingModel, batch: tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]
) -> tuple[Tensor, int]:
    """The loss of the model's output, over the observed targets.

    Parameters
    ----------
    model : ForecastingModel
        The model.
    batch : tuple
        Past `[B, k L, F]` and future `[B, H, F]`, the targets, past-only and known covariates; NaN is
        missing and does not count. Static covariates, as the model takes them. Each of the k windows
        of the past is forecast from, with the state that the one before it left; in evaluation the
        last alone, whose future is what was held out.
    """
    past, future, static = batch
    rows = torch.cat([past, future], 1)
    L, H = model.config.context_length, model.config.prediction_length
    total, n_observed, state = rows.new_zeros(()), 0, None
    for start in range(0, past.shape[1], L):
        target, known = split_known(rows[:, start + L : start + L + H], model.config)
        reading = model.read(rows[:, start : start + L], static, state)
        state = reading.state
        if not model.training and start + L < past.shape[1]:
            continue
        observed = ~target.isnan()
        loss = model.output.loss(model.parameters_after(reading, known), target.nan_to_num())
        total = total + torch.where(observed, loss, 0).sum()
        n_observed += int(observed.sum())
    return total / max(1, n_observed), n_observed


def split_known(future: Tensor, config: ForecasterConfig) -> tuple[Tensor, Tensor | None]:
    """Targets `[..., C]`, and the known covariates `[..., K]` if there are any, of `[..., F]`."""
    known = future[..., future.shape[-1] - config.n_known :] if config.n_known else None
    return future[..., : config.n_variates], known


def classification_loss(
    model: SequenceClassifier, batch: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, int]:
    """Cross-entropy of codes `[B, T]`, lengths `[B]` and labels `[B]`."""
    codes, lengths, labels = batch
    return F.cross_entropy(model(codes, lengths), labels), len(labels)
