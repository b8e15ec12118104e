"""Training: one engine for every model. Lightning is imported inside :func:`train`, not before."""

from titans_ts.training.batches import batches, length_batches, stream_batches
from titans_ts.training.fit import train
from titans_ts.training.losses import (
    StreamLoss,
    classification_loss,
    forecast_loss,
    split_known,
)

__all__ = [
    "StreamLoss",
    "batches",
    "classification_loss",
    "forecast_loss",
    "length_batches",
    "split_known",
    "stream_batches",
    "train",
]
