"""Training: one engine for every model. Lightning is imported inside :func:`train`, not before."""

from titans_ts.training.batches import batches, cut_by_length, length_batches, stream_batches
from titans_ts.training.fit import LAST_CHECKPOINT, train
from titans_ts.training.losses import (
    StreamLoss,
    answer_loss,
    forecast_loss,
    sequence_loss,
    split_known,
)

__all__ = [
    "LAST_CHECKPOINT",
    "StreamLoss",
    "answer_loss",
    "batches",
    "cut_by_length",
    "forecast_loss",
    "length_batches",
    "sequence_loss",
    "split_known",
    "stream_batches",
    "train",
]
