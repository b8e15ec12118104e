"""The one place that knows Lightning: a thin module, and the callback that keeps the best weights."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from titans_ts.config import TrainingConfig
from titans_ts.datasets._atomic import atomic_path

__all__ = ["KeepBest", "Resume", "TellEpochs", "TrainingModule"]


class TrainingModule(pl.LightningModule):
    """A model, its loss and its optimiser: AdamW under a one-cycle schedule."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], tuple[Tensor, int]],
        config: TrainingConfig,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.config = model, loss, config
        self.left_out = 0
        """Steps whose gradient was not finite."""

    def training_step(self, batch: Any) -> Tensor:
        """Loss of a batch."""
        loss, weight = self.loss(self.model, batch)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=max(1, weight))
        return loss

    def validation_step(self, batch: Any) -> None:
        """Log the loss of a batch that is not trained on."""
        loss, weight = self.loss(self.model, batch)
        if weight:  # a batch in which nothing is known says nothing
            self.log("validation_loss", loss, prog_bar=True, batch_size=weight)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip; a step whose gradient is not finite is left out, before it spoils every weight."""
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if gradients and not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            optimizer.zero_grad()
            self.left_out += 1

    def configure_optimizers(self) -> Any:
        """AdamW, warmed up over a tenth of the steps and annealed to nothing; no decay on vectors."""
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=self.config.learning_rate,
        )
        schedule = partial(_one_cycle, total=int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def _one_cycle(step: int, total: int) -> float:
    """Share of the peak learning rate: a line up over a tenth of the steps, then a cosine down."""
    warm_up = max(1, total // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / max(1, total - warm_up))


class KeepBest(pl.Callback):
    """Record every epoch, keep the weights with the best validation loss, stop when it stalls."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None
        self._best_loss, self._stalled, self._started = float("inf"), 0, time.perf_counter()
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        seconds = time.perf_counter() - self._started
        return {
            "history": self.history,
            "best": self.best,
            "counts": [self._best_loss, self._stalled, seconds],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.history, self.best = state_dict["history"], state_dict["best"]
        self._best_loss, self._stalled, seconds = state_dict["counts"]
        self._started = time.perf_counter() - seconds

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note that the validation loss is this epoch's."""
        self._validated = "validation_loss" in trainer.callback_metrics

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Compare the epoch with the best so far."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not self._validated:
            metrics.pop("validation_loss", None)  # of a former epoch
        row = {"epoch": float(trainer.current_epoch), **metrics}
        row["seconds"] = time.perf_counter() - self._started
        self.history.append(row)
        loss = metrics.get("validation_loss", metrics["train_loss"])
        if loss != loss or loss == float("inf"):
            raise FloatingPointError(
                f"training diverged: loss is {loss} after epoch {trainer.current_epoch}; "
                "lower learning_rate, or look for extreme values in the data"
            )
        if not self._validated:
            return
        self._validated = False
        if loss < self._best_loss:
            self._best_loss, self._stalled = loss, 0
            assert isinstance(module, TrainingModule)
            self.best = copy.deepcopy(module.model.state_dict())
            return
        self._stalled += 1
        if self._stalled >= self.patience:
            trainer.should_stop = True


class Resume(pl.Callback):
    """Keep a checkpoint of the last epoch, random numbers included, to go on from after a crash."""

    def __init__(self, path: Path, generator: torch.Generator | None) -> None:
        self.path, self._generator = path, generator

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        own = None if self._generator is None else self._generator.get_state()
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"torch": torch.get_rng_state(), "cuda": devices, "generator": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        torch.set_rng_state(state_dict["torch"])
        if state_dict["cuda"]:
            torch.cuda.set_rng_state_all(state_dict["cuda"])
        if self._generator is not None:
            self._generator.set_state(state_dict["generator"])

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write it aside and rename it; it comes after :class:`KeepBest`."""
        with atomic_path(self.path) as aside:
            trainer.save_checkpoint(aside)


class TellEpochs(pl.Callback):
    """Tell how an epoch went, of how many: `told(epoch, epochs, validation_loss)`, from 1 on."""

    def __init__(self, told: Callable[[int, int, float], None]) -> None:
        self._told = told
        self._validated = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note that the validation loss is this epoch's."""
        self._validated = "validation_loss" in trainer.callback_metrics

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Tell it; what `told` raises ends the training."""
        if self._validated:
            self._validated = False
            loss = float(trainer.callback_metrics["validation_loss"])
            self._told(trainer.current_epoch + 1, trainer.max_epochs or 1, loss)
