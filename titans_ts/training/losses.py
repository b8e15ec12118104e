"""What training minimises: `loss(model, batch)` is a mean, and how many values it is a mean of."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.config import ForecasterConfig
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.nn.state import detach_state, flatten_state, unflatten_state

__all__ = ["StreamLoss", "answer_loss", "forecast_loss", "sequence_loss", "split_known"]


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
    loss, n_observed, _ = _in_a_row(model, past, future, static, None)
    return loss, n_observed


class StreamLoss:
    """As :func:`forecast_loss`, of batches that go on where the one before stopped.

    The state that a batch leaves is where the next one's streams begin, cut off from the graph
    (truncated back-propagation through time); a fourth entry of the batch, `[B]` bool, says which
    streams begin anew. A batch without it (of validation) begins with an empty memory.
    """

    def __init__(self) -> None:
        self._state: Any = None

    def __call__(self, model: ForecastingModel, batch: Any) -> tuple[Tensor, int]:
        """The mean over the observed targets, and their number."""
        if len(batch) == 3:
            return forecast_loss(model, batch)
        past, future, static, fresh = batch
        begin = self._begin(model, fresh)
        loss, n_observed, state = _in_a_row(model, past, future, static, begin)
        self._state = detach_state(state)
        return loss, n_observed

    def _begin(self, model: ForecastingModel, fresh: Tensor) -> Any:
        if self._state is None or fresh.all():
            return None
        streams = fresh.repeat_interleave(model.config.streams)
        anew = flatten_state(model.backbone.initial_state(len(streams)))

        def choose(key: str, value: Tensor) -> Tensor:
            # some of a state's counters are kept on the CPU
            which = streams.to(value.device).view(-1, *[1] * (value.ndim - 1))
            return torch.where(which, anew[key].to(value.device), value)

        kept = {key: choose(key, value) for key, value in flatten_state(self._state).items()}
        return unflatten_state(kept, self._state)


def _in_a_row(
    model: ForecastingModel, past: Tensor, future: Tensor, static: Any, state: Any
) -> tuple[Tensor, int, Any]:
    """Loss, number of observed targets, and the state after windows in a row that follow `state`."""
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
    """Targets `[..., C]`, and the known covariates `[..., K]` if there are any, of `[..., F]`."""
    known = future[..., future.shape[-1] - config.n_known :] if config.n_known else None
    return future[..., : config.n_variates], known


def sequence_loss(
    model: SequenceModel,
    batch: tuple[Tensor, Tensor, Tensor],
    weight: Tensor | None = None,
) -> tuple[Tensor, int]:
    """The loss of codes `[B, T]`, lengths `[B]` and what their answers should be.

    Parameters
    ----------
    model : SequenceModel
        Its `config.output` says which loss: cross-entropy of classes `[B]` int64 or of labels `[B, n]`,
        or the squared error of values `[B, ...]`, of which NaN does not count.
    batch : tuple
        Codes, lengths and wanted answers.
    weight : Tensor, optional
        `[n_outputs]`: how much each class counts, or each label where it holds.
    """
    codes, lengths, wanted = batch
    return answer_loss(model(codes, lengths), wanted, model.config.output, weight)


def answer_loss(
    answer: Tensor, wanted: Tensor, output: str, weight: Tensor | None = None
) -> tuple[Tensor, int]:
    """The loss of answers, and how many they are; as :func:`sequence_loss`."""
    weight = None if weight is None else weight.to(answer)
    if output == "classes":
        loss = F.cross_entropy(answer, wanted, weight, reduction="sum")
        return loss / len(wanted), len(wanted)
    if output == "labels":
        loss = F.binary_cross_entropy_with_logits(answer, wanted.to(answer), pos_weight=weight)
        return loss, len(wanted)
    known = ~wanted.isnan()
    error = torch.where(known, answer - wanted.nan_to_num(), 0)
    n_known = int(known.sum())
    return error.square().sum() / max(1, n_known), n_known
