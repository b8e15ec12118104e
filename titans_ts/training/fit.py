"""Train a model with Lightning, without its messages, and keep the best weights."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]
from torch.utils.data import DataLoader

from titans_ts.config import TrainingConfig

__all__ = ["LAST_CHECKPOINT", "train"]

LAST_CHECKPOINT = "last.ckpt"
"""Name of the checkpoint in the folder `resume`."""


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
    """Train a model in place and return one record per epoch.

    The model gets the weights of the epoch with the best validation loss (of the last epoch without
    validation batches). With a time limit, the last epoch may be incomplete.

    Parameters
    ----------
    model : nn.Module
        The model; it is trained in place.
    loss : callable
        `loss(model, batch)` returns the mean over the batch, a scalar Tensor, and the number of values.
    training, validation : DataLoader
        Batches to train on, and batches for early stopping.
    config : TrainingConfig
        Epochs, time limit, learning rate and patience.
    progress_bar : bool
        Whether to show a progress bar (default True).
    trainer_kwargs : dict, optional
        Further arguments of `lightning.pytorch.Trainer`, which override the defaults of this package.
    resume : Path, optional
        Folder for a checkpoint after every epoch. If it holds a checkpoint, training resumes from
        it, with the same final weights as without the interruption.
    generator : torch.Generator, optional
        The generator that draws the batches; needed only with `resume`.

    Returns
    -------
    list of dict
        `epoch`, `train_loss`, `validation_loss` (if the epoch has one) and `seconds` since the start.

    Raises
    ------
    KeyboardInterrupt
        On SIGINT (Ctrl-C). SIGTERM ends the process, as it does outside of training.
    ValueError
        If the checkpoint in `resume` is damaged.
    FloatingPointError
        If the loss becomes NaN or infinite. A step with a finite loss whose gradient is not finite is
        skipped, with a warning at the end.
    """
    # Importing Lightning takes seconds, so nothing else in the package does it.
    import lightning.pytorch as pl
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from titans_ts.training.callbacks import (
        BestWeights,
        EpochCheckpoint,
        FitProgress,
        PlainCheckpointIO,
    )
    from titans_ts.training.module import TrainingModule
    from titans_ts.training.threads import warn_if_threads_wait

    with _quiet():
        options = dict(trainer_kwargs or {})
        epochs, patience, every = config.schedule(len(training))
        best = BestWeights(patience, config.time_limit)
        extra = options.pop("callbacks", None) or []
        callbacks = [best, *(extra if isinstance(extra, (list, tuple)) else [extra])]
        settings: dict[str, Any] = {
            "max_epochs": epochs,
            "check_val_every_n_epoch": every,
            "gradient_clip_val": config.gradient_clip,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # batches are shared out in `batches.py`
            "callbacks": callbacks,
        }
        if progress_bar and "enable_progress_bar" not in options:
            callbacks.append(FitProgress())
        if not _has_folder():  # Lightning asks for it, although it writes nothing
            settings["default_root_dir"] = tempfile.gettempdir()
        plugins: list[Any] = []
        if not {"strategy", "num_nodes"} & options.keys():
            # one process, also under a scheduler (Slurm) that starts several which do not train together
            plugins = [LightningEnvironment()]
        last = None
        if resume is not None:
            plugins.append(PlainCheckpointIO())
            resume.mkdir(parents=True, exist_ok=True)
            callbacks.append(checkpoint := EpochCheckpoint(resume / LAST_CHECKPOINT, generator))
            if checkpoint.path.exists():
                _check_readable(checkpoint.path)
                last = str(checkpoint.path)
        trainer = pl.Trainer(**settings | {"plugins": plugins} | options)
        module = TrainingModule(model, loss, config)
        if trainer.strategy.root_device.type == "cpu":
            warn_if_threads_wait()
        try:
            trainer.fit(module, training, validation, ckpt_path=last)
        except SIGTERMException:  # a SystemExit whose status is 0
            _end_by_sigterm()
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        except LinAlgError as error:  # the memory's weights are not finite
            raise FloatingPointError(f"training diverged: {error}; lower learning_rate") from error
    if module.n_skipped:
        warnings.warn(
            f"{module.n_skipped} of {trainer.global_step} steps had a gradient that is not finite, and "
            "were skipped; lower learning_rate if there are many",
            stacklevel=2,
        )
    if best.weights is not None:
        model.load_state_dict(best.weights)
    model.float().eval()  # a `precision` among the options may have changed it
    return best.history


def _check_readable(checkpoint: Path) -> None:
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{str(checkpoint)!r} is a damaged checkpoint ({reason}); delete its folder to begin again"
        ) from error


def _has_folder() -> bool:
    """Return whether the current folder still exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _end_by_sigterm() -> NoReturn:
    """End the process as the signal does; a handler of the user's own has already been called."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        os.kill(os.getpid(), signal.SIGTERM)
    raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's messages about loggers, workers and hardware."""
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
