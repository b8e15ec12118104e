"""Training: one engine for every model. Lightning is imported inside :func:`train`, not before."""

from titans_ts.training.batches import batches
from titans_ts.training.fit import train
from titans_ts.training.losses import (
    classification_loss,
    forecast_loss,
    split_known,
)

__all__ = [
    "batches",
    "classification_loss",
    "forecast_loss",
    "split_known",
    "train",
]
