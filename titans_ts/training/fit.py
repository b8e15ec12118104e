"""Train a model with Lightning, quietly, and leave nothing behind but the best weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]
from torch.utils.data import DataLoader

from titans_ts.config import TrainingConfig

__all__ = ["LAST_CHECKPOINT", "train"]

LAST_CHECKPOINT = "last.ckpt"
"""The file in `resume` from which a training goes on."""


def train(
    model: nn.Module,
    loss: Callable[[Any, Any], tuple[Tensor, int]],
    training: DataLoader[Any],
    validation: DataLoader[Any] | None,
    config: TrainingConfig,
    *,
    progress_bar: bool = True,
    trainer_kwargs: dict[str, Any] | None = None,
    resume: Path | None = None,
    generator: torch.Generator | None = None,
) -> list[dict[str, float]]:
    """Train a model in place and return one record an epoch.

    The model ends with the weights of its best epoch on the validation batches (of its last epoch
    without them).

    Parameters
    ----------
    model : nn.Module
        The model; it is trained in place.
    loss : callable
        `loss(model, batch)` -> the mean over the batch, a scalar Tensor, and of how many values.
    training, validation : DataLoader
        Batches to train on, and to stop early by.
    config : TrainingConfig
        Epochs, learning rate and patience.
    progress_bar : bool
        Whether to show one.
    trainer_kwargs : dict, optional
        More arguments for `lightning.pytorch.Trainer`; they win over ours.
    resume : Path, optional
        A folder for a checkpoint after every epoch. If there is one, training goes on from it, to the
        same weights as without the interruption.
    generator : torch.Generator, optional
        What the batches are drawn with; only `resume` asks.

    Returns
    -------
    list of dict
        `epoch`, `train_loss`, `validation_loss` (if any) and `seconds` since the start.

    Raises
    ------
    FloatingPointError
        If the loss becomes NaN or infinite. A gradient that is not finite under a loss that is leaves
        its step out, and is warned of at the end.
    """
    # Importing Lightning takes seconds, so nothing else in the package does it.
    import lightning.pytorch as pl

    from titans_ts.training.module import KeepBest, Resume, TrainingModule

    with _quiet():
        options = dict(trainer_kwargs or {})
        epochs, patience = config.epochs_and_patience(len(training))
        keep = KeepBest(patience)
        theirs = options.pop("callbacks", None) or []
        callbacks = [keep, *(theirs if isinstance(theirs, (list, tuple)) else [theirs])]
        settings: dict[str, Any] = {
            "max_epochs": epochs,
            "gradient_clip_val": config.gradient_clip,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": progress_bar,
            "num_sanity_val_steps": 0,
            "callbacks": callbacks,
        }
        last = None
        if resume is not None:
            resume.mkdir(parents=True, exist_ok=True)
            callbacks.append(checkpoint := Resume(resume / LAST_CHECKPOINT, generator))
            last = str(checkpoint.path) if checkpoint.path.exists() else None
        trainer = pl.Trainer(**settings | options)
        module = TrainingModule(model, loss, config)
        try:
            trainer.fit(module, training, validation, ckpt_path=last)
        except LinAlgError as error:  # of the memory's weights, which are not finite
            raise FloatingPointError(f"training diverged: {error}; lower learning_rate") from error
    if module.left_out:
        warnings.warn(
            f"{module.left_out} of {trainer.global_step} steps had a gradient that is not finite, and "
            "were left out; lower learning_rate if there are many",
            stacklevel=2,
        )
    if keep.best is not None:
        model.load_state_dict(keep.best)
    model.float().eval()  # a `precision` among the options may have changed it
    return keep.history


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice about loggers, workers and hardware is not the user's concern."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
