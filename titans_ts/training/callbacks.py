"""Lightning callbacks: keep the best weights, write a checkpoint of every epoch, report epochs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from titans_ts.datasets.atomic import atomic_path
from titans_ts.training.module import TrainingModule

__all__ = ["BestWeights", "EpochCheckpoint", "ReportEpochs"]


class BestWeights(pl.Callback):
    """Record every epoch, keep the weights with the best validation loss, stop when it stalls.

    Parameters
    ----------
    patience : int
        Number of epochs without improvement after which training stops.
    time_limit : float, optional
        Seconds after which it stops within an epoch (default: no limit).
    """

    def __init__(self, patience: int, time_limit: float | None = None) -> None:
        self.patience, self.time_limit = patience, time_limit
        self.history: list[dict[str, float]] = []
        self.weights: dict[str, Tensor] | None = None
        """The best weights so far; None without validation."""
        self._best_loss, self._stalled, self._started = float("inf"), 0, time.perf_counter()
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        """Return the values that a checkpoint stores."""
        seconds = time.perf_counter() - self._started
        return {
            "history": self.history,
            "best": self.weights,
            "counts": [self._best_loss, self._stalled, seconds],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.history, self.weights = state_dict["history"], state_dict["best"]
        self._best_loss, self._stalled, seconds = state_dict["counts"]
        self._started = time.perf_counter() - seconds

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any
    ) -> None:
        """Set the share of the time limit that has passed, and stop after it."""
        if self.time_limit is not None:
            assert isinstance(module, TrainingModule)
            spent = (time.perf_counter() - self._started) / self.time_limit
            # all processes stop at the same step
            module.time_spent = (
                spent if trainer.world_size == 1 else trainer.strategy.broadcast(spent)
            )
            trainer.should_stop |= module.time_spent >= 1

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Record that this epoch has a validation loss."""
        self._validated = "validation_loss" in trainer.callback_metrics

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Compare the epoch with the best epoch so far."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not self._validated:
            metrics.pop("validation_loss", None)  # of an earlier epoch
        row = {"epoch": float(trainer.current_epoch), **metrics}
        row["seconds"] = time.perf_counter() - self._started
        self.history.append(row)
        loss = metrics.get("validation_loss", metrics["train_loss"])
        if loss != loss or loss == float("inf"):
            raise FloatingPointError(
                f"training diverged: the loss is {loss} after epoch {trainer.current_epoch}; "
                "lower learning_rate, or look for extreme values in the data"
            )
        if not self._validated:
            return
        self._validated = False
        if loss < self._best_loss:
            self._best_loss, self._stalled = loss, 0
            assert isinstance(module, TrainingModule)
            self.weights = copy.deepcopy(module.model.state_dict())
            return
        every = trainer.check_val_every_n_epoch or 1
        self._stalled += every
        if self._stalled + every > self.patience:
            trainer.should_stop = True


class EpochCheckpoint(pl.Callback):
    """Write a checkpoint after every epoch, with the states of the random generators.

    In the list of callbacks, it comes after :class:`BestWeights`, whose state it saves.

    Parameters
    ----------
    path : Path
        The file; the previous checkpoint is replaced.
    generator : torch.Generator, optional
        The generator that draws the batches.
    """

    def __init__(self, path: Path, generator: torch.Generator | None) -> None:
        self.path, self._generator = path, generator

    def state_dict(self) -> dict[str, Any]:
        """Return the values that a checkpoint stores."""
        own = None if self._generator is None else self._generator.get_state()
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"torch": torch.get_rng_state(), "cuda": devices, "generator": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        torch.set_rng_state(state_dict["torch"])
        if state_dict["cuda"]:
            torch.cuda.set_rng_state_all(state_dict["cuda"])
        if self._generator is not None:
            self._generator.set_state(state_dict["generator"])

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the checkpoint atomically."""
        if trainer.is_global_zero:
            with atomic_path(self.path) as unfinished:
                trainer.save_checkpoint(unfinished)
        else:  # takes part, and writes nothing
            trainer.save_checkpoint(self.path)


class ReportEpochs(pl.Callback):
    """Call `report(epoch, n_epochs, validation_loss)` after every epoch (1-based).

    Parameters
    ----------
    report : callable
        An exception that it raises ends the training.
    """

    def __init__(self, report: Callable[[int, int, float], None]) -> None:
        self._report = report
        self._validated = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Record that this epoch has a validation loss."""
        self._validated = "validation_loss" in trainer.callback_metrics

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Report the epoch, if it was validated."""
        if self._validated:
            self._validated = False
            loss = float(trainer.callback_metrics["validation_loss"])
            self._report(trainer.current_epoch + 1, trainer.max_epochs or 1, loss)
