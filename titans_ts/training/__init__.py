"""Training: one engine for every model. Lightning is imported inside :func:`train`, not before."""

from titans_ts.training.batches import batches, bucketed_batches, cut_by_length, stream_batches
from titans_ts.training.fit import LAST_CHECKPOINT, train
from titans_ts.training.losses import (
    StreamLoss,
    forecast_loss,
    sequence_loss,
    split_known,
    target_loss,
)
from titans_ts.training.memory_change import memory_change
from titans_ts.training.unfinished import UnfinishedRun, begin_fit

__all__ = [
    "LAST_CHECKPOINT",
    "StreamLoss",
    "UnfinishedRun",
    "batches",
    "begin_fit",
    "bucketed_batches",
    "cut_by_length",
    "forecast_loss",
    "memory_change",
    "sequence_loss",
    "split_known",
    "stream_batches",
    "target_loss",
    "train",
]
