"""Initialise the filters of a convolutional tokenizer with predictive k-mers."""

from __future__ import annotations

import numpy as np
import torch

from titans_ts.genomics.dataset import SequenceDataset
from titans_ts.genomics.kmers import informative_kmers
from titans_ts.genomics.parse import Codes
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.dna.tokenizers import ConvTokens

__all__ = ["initialise_filters"]

_COUNTED = 3_000_000
"""Largest number of letters whose k-mers are counted."""


def initialise_filters(
    model: SequenceModel, data: SequenceDataset, generator: torch.Generator, *, both_strands: bool
) -> None:
    """Initialise a model's motif filters with the gapped k-mers that predict the target best.

    Parameters
    ----------
    model : SequenceModel
        Its tokenizer is a :class:`ConvTokens`, which is changed.
    data : SequenceDataset
        Training sequences; a random subset is read if they have too many letters.
    generator : torch.Generator
        Draws that subset.
    both_strands : bool
        Whether the k-mers of the reverse complement are counted too.
    """
    assert isinstance(model.tokenizer, ConvTokens)
    chosen: list[int] = []
    counted: list[Codes] = []
    letters = 0
    for i in torch.randperm(len(data), generator=generator).tolist():
        if letters < _COUNTED:  # a subset of the sequences is enough
            chosen.append(i)
            counted.append(data.sequences[i][: _COUNTED - letters])
            letters += len(counted[-1])
    target = data.target[chosen]
    if model.config.output == "classes":
        target = np.eye(model.config.n_outputs)[target]
    target = target.reshape(len(chosen), -1, target.shape[-1])
    known = ~np.isnan(target)
    total = np.where(known, target, 0).sum(1)  # for a track, the mean over its known bins
    target = np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
    k = min(6, model.tokenizer.kernel_size)
    kmers = informative_kmers(
        counted,
        target,
        model.config.n_filters,
        k=k,
        gaps=min(2, model.tokenizer.kernel_size - k),
        both_strands=both_strands,
    )
    model.tokenizer.begin_with(kmers)
