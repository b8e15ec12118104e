"""The Lightning module of every training: a model, its loss and its optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from titans_ts.config import TrainingConfig

__all__ = ["TrainingModule"]


class TrainingModule(pl.LightningModule):
    """A model, its loss and its optimiser: AdamW under a one-cycle schedule.

    Parameters
    ----------
    model : nn.Module
        The model.
    loss : callable
        `loss(model, batch)` returns the mean over the batch and the number of values in it.
    config : TrainingConfig
        Learning rate and weight decay.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], tuple[Tensor, int]],
        config: TrainingConfig,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.config = model, loss, config
        self.time_spent = 0.0
        """Share of the time limit that has passed; 0 without a limit."""
        self.n_skipped = 0
        """Number of steps that were skipped because their gradient was not finite."""

    def training_step(self, batch: Any) -> Tensor:
        """Return the loss of a batch."""
        loss, weight = self.loss(self.model, batch)
        several = self.trainer.world_size > 1
        self.log(
            "train_loss",
            loss,
            on_epoch=True,
            on_step=False,
            batch_size=max(1, weight),
            sync_dist=several,
        )
        if not several:
            return loss
        # the gradients of the processes are averaged, but their numbers of values may differ
        weights: Any = self.all_gather(torch.tensor(float(weight), device=loss.device))
        return loss * (weight * self.trainer.world_size / weights.sum().clamp_min(1))

    def validation_step(self, batch: Any) -> None:
        """Log the loss of a validation batch, unless it has no observed target."""
        loss, weight = self.loss(self.model, batch)
        if weight:
            self.log("validation_loss", loss, prog_bar=True, batch_size=weight)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients; skip a step with a non-finite gradient, which would ruin all weights."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_val and gradient_clip_algorithm != "value":
            norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        else:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            optimizer.zero_grad()
            self.n_skipped += 1

    def configure_optimizers(self) -> Any:
        """Return AdamW, warmed up over a tenth of the steps and annealed to 0; no decay on vectors."""
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=self.config.learning_rate,
            # a quarter of the time on a CPU; elsewhere, it would clip gradients that are still scaled
            fused=True if self.device.type == "cpu" else None,
        )
        total = int(self.trainer.estimated_stepping_batches)

        def schedule(step: int) -> float:  # the time may end sooner than the steps
            return _one_cycle(max(step, min(total, int(self.time_spent * total))), total)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def _one_cycle(step: int, total: int) -> float:
    """Return the factor of the peak learning rate: linear in the first tenth of steps, then cosine."""
    warm_up = max(1, total // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / max(1, total - warm_up))
