"""Training losses: `loss(model, batch)` returns a mean and the number of values in it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.config import ForecasterConfig
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.nn.state import detach_state, flatten_state, unflatten_state

__all__ = ["StreamLoss", "forecast_loss", "sequence_loss", "split_known", "target_loss"]


def forecast_loss(
    model: ForecastingModel, batch: tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]
) -> tuple[Tensor, int]:
    """Return the mean loss of the forecasts over the observed targets, and the number of these.

    Parameters
    ----------
    model : ForecastingModel
        The model.
    batch : tuple
        Past `[B, k L, F]` and future `[B, H, F]`, with targets, past and known covariates as columns, and
        the static covariates of the model. NaN is missing and is ignored. In training, the model
        forecasts after each of the k windows of the past, with the memory state of the window before. In
        evaluation it forecasts only after the last window, because only its future is held out.
    """
    past, future, static = batch
    loss, n_observed, _ = _consecutive_loss(model, past, future, static, None)
    return loss, n_observed


class StreamLoss:
    """The loss of :func:`forecast_loss` for batches that continue the batch before.

    The memory state after a batch is the initial state of the next one, detached from the graph
    (truncated back-propagation through time). A fourth entry of the batch, `[B]` bool, marks the streams
    that start again. A validation batch has no such entry and starts with the initial memory.
    """

    def __init__(self) -> None:
        self._state: Any = None

    def __call__(self, model: ForecastingModel, batch: Any) -> tuple[Tensor, int]:
        """Return the mean over the observed targets, and their number."""
        if len(batch) == 3:
            return forecast_loss(model, batch)
        past, future, static, fresh = batch
        initial = self._initial_state(model, fresh)
        loss, n_observed, state = _consecutive_loss(model, past, future, static, initial)
        self._state = detach_state(state)
        return loss, n_observed

    def _initial_state(self, model: ForecastingModel, fresh: Tensor) -> Any:
        if self._state is None or fresh.all():
            return None
        streams = fresh.repeat_interleave(model.config.streams)
        empty = flatten_state(model.backbone.initial_state(len(streams)))

        def choose(key: str, value: Tensor) -> Tensor:
            # some counters of a state are on the CPU
            starts = streams.to(value.device).view(-1, *[1] * (value.ndim - 1))
            return torch.where(starts, empty[key].to(value.device), value)

        state = {key: choose(key, value) for key, value in flatten_state(self._state).items()}
        return unflatten_state(state, self._state)


def _consecutive_loss(
    model: ForecastingModel, past: Tensor, future: Tensor, static: Any, state: Any
) -> tuple[Tensor, int, Any]:
    """Return the loss over consecutive windows after `state`, the number of targets and the new state."""
    rows = torch.cat([past, future], 1)
    L, H = model.config.context_length, model.config.prediction_length
    total, n_observed = rows.new_zeros(()), 0
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
    return total / max(1, n_observed), n_observed, state


def split_known(future: Tensor, config: ForecasterConfig) -> tuple[Tensor, Tensor | None]:
    """Split `[..., F]` into targets `[..., C]` and known covariates `[..., K]`, or None without them."""
    known = future[..., future.shape[-1] - config.n_known :] if config.n_known else None
    return future[..., : config.n_variates], known


def sequence_loss(
    model: SequenceModel,
    batch: tuple[Tensor, Tensor, Tensor],
    weight: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Return the loss of a batch of sequences, and the number of its targets.

    Parameters
    ----------
    model : SequenceModel
        The model. Its `config.output` chooses the loss: cross-entropy of classes `[B]` int64, binary
        cross-entropy of labels `[B, n]`, or squared error of values `[B, ...]`, where NaN does not count.
    batch : tuple
        Codes `[B, T]`, lengths `[B]` and targets.
    weight : Tensor, optional
        Weights `[n_outputs]` of the classes, or of the positive labels (default: all 1).
    """
    codes, lengths, target = batch
    return target_loss(model(codes, lengths), target, model.config.output, weight)


def target_loss(
    prediction: Tensor, target: Tensor, output: str, weight: Tensor | None = None
) -> tuple[Tensor, int]:
    """Return the loss of logits or values and the number of targets, as :func:`sequence_loss`."""
    weight = None if weight is None else weight.to(prediction)
    if output == "classes":
        loss = F.cross_entropy(prediction, target, weight, reduction="sum")
        return loss / len(target), len(target)
    if output == "labels":
        loss = F.binary_cross_entropy_with_logits(
            prediction, target.to(prediction), pos_weight=weight
        )
        return loss, len(target)
    observed = ~target.isnan()
    error = torch.where(observed, prediction - target.nan_to_num(), 0)
    n_observed = int(observed.sum())
    return error.square().sum() / max(1, n_observed), n_observed
