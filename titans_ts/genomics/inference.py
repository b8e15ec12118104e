"""Evaluate a model of sequences in batches.

`codes` are an array `[N, T]` of uint8 (sequences of one length, such as the windows of a genome) or a
list of arrays `[T]`. An array needs no sorting and no padding, and every batch is transferred to the
device and back once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.dna.nucleotides import pad_codes
from titans_ts.training import cut_by_length

__all__ = ["BATCH_SEQUENCES", "BATCH_TOKENS", "network_logits"]

BATCH_SEQUENCES = 128
"""Largest number of sequences in a batch."""

BATCH_TOKENS = 32_768
"""Largest number of tokens in a batch, including padding; longer sequences are read in pieces."""


def network_logits(
    model: SequenceModel, codes: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """Return the outputs of a network for N >= 1 sequences.

    Parameters
    ----------
    model : SequenceModel
        The network; it is set to evaluation mode.
    codes : NDArray[np.uint8] or sequence of NDArray[np.uint8]
        Codes `[N, T]`, or N arrays `[T]` of any lengths.

    Returns
    -------
    NDArray[np.float64]
        `[N, n_outputs]`, or `[N, n_bins, n_outputs]` for a track, in the order of `codes`.
    """
    model.eval()
    logits: NDArray[np.float64] | None = None
    with torch.inference_mode():
        batches: Iterator[tuple[Any, Tensor]]
        if isinstance(codes, np.ndarray):
            batches = _equal_batches(model, codes)
        else:
            batches = _batches(model, codes)
        for rows, batch in batches:
            outputs = batch.cpu().numpy()
            if logits is None:
                logits = np.empty((len(codes), *outputs.shape[1:]))
            logits[rows] = outputs
    assert logits is not None
    return logits


def _equal_batches(
    model: SequenceModel, codes: NDArray[np.uint8]
) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and their outputs, for sequences of one length."""
    device = next(model.parameters()).device
    length = codes.shape[1]
    n_tokens = -(-length // model.config.stride)
    if _in_pieces(model, n_tokens):
        for i, sequence in enumerate(codes):
            yield slice(i, i + 1), _read(model, [sequence])
        return
    size = min(BATCH_SEQUENCES, max(1, BATCH_TOKENS // n_tokens))
    for start in range(0, len(codes), size):
        # uint8 is copied to the device and converted to int64 there
        batch = torch.from_numpy(np.ascontiguousarray(codes[start : start + size])).to(device)
        lengths = torch.full((len(batch),), length, device=device)
        yield slice(start, start + size), model(batch.long(), lengths)


def _batches(
    model: SequenceModel, codes: Sequence[NDArray[np.uint8]]
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield rows and their outputs, sorted by length, which needs little padding."""
    device = next(model.parameters()).device
    order = np.argsort([len(s) for s in codes], kind="stable")
    n_tokens = [-(-len(codes[i]) // model.config.stride) for i in order]
    for cut in cut_by_length(n_tokens, BATCH_SEQUENCES, BATCH_TOKENS):
        rows = order[cut.start : cut.stop]
        sequences = [codes[i] for i in rows]
        if _in_pieces(model, n_tokens[cut.start]):
            yield rows, _read(model, sequences)
        else:
            batch, lengths = pad_codes(sequences)
            yield rows, model(batch.to(device), lengths.to(device))


def _in_pieces(model: SequenceModel, n_tokens: int) -> bool:
    return n_tokens > BATCH_TOKENS and model.config.n_bins == 0


def _read(model: Any, sequences: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return the outputs for long sequences; each is read in pieces."""
    size = BATCH_TOKENS * model.config.stride
    return torch.stack([model.read(codes, size) for codes in sequences])
