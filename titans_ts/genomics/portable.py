"""A fitted estimator for DNA as one module: codes of letters in, probabilities or values out.

Tensor contract: codes `[B, T]` int64 of T letters, padded at the end, and lengths `[B]` int64. The result
is `[B, n]`, or `[B, n_bins, n]` for a track, in float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from titans_ts.datasets.alphabet import LETTERS
from titans_ts.exporting import Portable
from titans_ts.genomics.kmer_model import FittedKmerModel
from titans_ts.genomics.positions import N_PARTS
from titans_ts.nn.dna.model import SequenceModel
from titans_ts.nn.dna.nucleotides import LOWER
from titans_ts.nn.portable import portable_copy

__all__ = ["portable_sequence_model"]

_MOST_FEATURES = 2**18
"""Largest number of k-mers that a graph counts: all of a sequence's counts are kept at once."""


def portable_sequence_model(
    model: SequenceModel,
    kmer_model: FittedKmerModel | None,
    length: int,
    names: tuple[str, list[Any]],
    scale: tuple[Any, Any] | None = None,
) -> Portable:
    """Return a fitted model of sequences as a module that a graph can hold.

    Parameters
    ----------
    model : SequenceModel
        The network.
    kmer_model : FittedKmerModel or None
        The model of k-mers that is combined with it.
    length : int
        T, number of letters that the graph reads.
    names : tuple
        The name of the result, and the names of its columns.
    scale : tuple, optional
        Scale and mean `[n]` of values (default: 1 and 0).

    Raises
    ------
    ValueError
        If a part cannot be in a graph; the message names it and what to do.
    """
    config = model.config
    if config.tokenizer == "bpe":
        raise ValueError(
            "tokenizer is 'bpe', which cuts text into tokens of unequal lengths and cannot be exported; "
            "fit with another tokenizer, for instance 'kmer'"
        )
    if kmer_model is not None:
        kmer_model = kmer_model.unmerged()
        n_kmers = kmer_model.weight.shape[1]
        if n_kmers > _MOST_FEATURES:
            raise ValueError(
                f"the k-mer model counts {n_kmers} k-mers, and a graph at most {_MOST_FEATURES}; fit "
                "with a shorter k, or kmer_model=None"
            )
    if config.n_bins:
        length = config.length
    codes = torch.randint(0, 4, (2, length))
    inputs = {"codes": codes, "lengths": torch.tensor([length, length])}
    result, columns = names
    described = {
        "length": length,
        "alphabet": LETTERS,
        "soft_masked_offset": LOWER if config.soft_masked == "flag" else None,
        "soft_masked": config.soft_masked,
        "columns": columns,
    }
    module = _PortableSequenceModel(model, kmer_model, scale).eval()
    return Portable(module, inputs, (result,), described)


class _PortableSequenceModel(nn.Module):
    """The network, the k-mer model, and the probabilities of their logits."""

    scale: Tensor
    mean: Tensor

    def __init__(
        self,
        model: SequenceModel,
        kmer_model: FittedKmerModel | None,
        scale: tuple[Any, Any] | None,
    ) -> None:
        super().__init__()
        self.network = portable_copy(model)
        self.kmers = None if kmer_model is None else _Kmers(kmer_model)
        self.output = model.config.output
        one, zero = (1.0, 0.0) if scale is None else scale
        self.register_buffer("scale", torch.tensor(one, dtype=torch.float64))
        self.register_buffer("mean", torch.tensor(zero, dtype=torch.float64))

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Return probabilities or values `[B, n]` (`[B, n_bins, n]`) of codes `[B, T]`."""
        logits: Tensor = self.network(codes, lengths).double()
        if self.kmers is not None:
            logits = self.kmers(codes, lengths, logits)
        if self.output == "values":
            return logits * self.scale + self.mean
        return logits.sigmoid() if self.output == "labels" else logits.softmax(-1)


class _Kmers(nn.Module):
    """Counts of k-mers, scaled to a norm of 1, a linear map, and the mixing weights."""

    weight: Tensor
    bias: Tensor
    mixing_weights: Tensor

    def __init__(self, fitted: FittedKmerModel) -> None:
        super().__init__()
        vectorizer = fitted.vectorizer
        self.offsets, self.both_strands = vectorizer.offsets(), vectorizer.both_strands
        self.positions = vectorizer.positions
        for name in ("weight", "bias", "mixing_weights"):
            self.register_buffer(name, torch.tensor(getattr(fitted, name)))

    def forward(self, codes: Tensor, lengths: Tensor, logits: Tensor) -> Tensor:
        """Combine the network's logits `[B, n]` with those of the k-mers."""
        place = torch.arange(codes.shape[1], device=codes.device)
        letters = torch.where(place < lengths[:, None], (codes % LOWER).clamp_max(4), 4)
        strands = [letters]
        if self.both_strands:
            back = lengths[:, None] - 1 - place
            other = torch.where(letters < 4, 3 - letters, 4).gather(1, back.clamp_min(0))
            strands.append(torch.where(back >= 0, other, 4))
        counts = torch.cat(
            [
                self._counts(strands, offsets, torch.zeros_like(place), 1)
                for offsets in self.offsets
            ],
            1,
        )
        if self.positions:
            strands = [x[:, : self.positions] for x in strands]
            place = place[: self.positions]
            pairs = self._counts(strands, (1, 0), place, self.positions)
            parts = place * N_PARTS // self.positions
            words = self._counts(strands, (3, 2, 1, 0), parts, N_PARTS)
            counts = _beside(counts, _beside(pairs, words))
        norm = _norm(counts)
        scaled = counts / torch.where(norm > 0, norm, 1.0)
        own = (scaled @ self.weight.mT).double() + self.bias
        return self.mixing_weights[0] * logits + self.mixing_weights[1] * own

    def _counts(
        self, strands: list[Tensor], offsets: tuple[int, ...], part: Tensor, n_parts: int
    ) -> Tensor:
        """Count the k-mers of letters at offsets, the lowest digit first, by part: `[B, n_parts 4 ** k]`.

        `part` `[T]` is the part in which a k-mer begins.
        """
        size, codes = 4 ** len(offsets), strands[0]
        counts = torch.zeros(
            codes.shape[0], n_parts * size, dtype=torch.float32, device=codes.device
        )
        n = codes.shape[1] - max(offsets)
        if n < 1:
            return counts
        for letters in strands:
            digits = [letters[:, offset : offset + n] for offset in offsets]
            number = torch.stack([d * 4**power for power, d in enumerate(digits)]).sum(0)
            whole = torch.stack(digits).amax(0) < 4
            number = torch.where(whole, number, 0) + size * part[:n]
            counts = counts.scatter_add(1, number, whole.float())
        return counts


def _norm(counts: Tensor) -> Tensor:
    return counts.square().sum(1, keepdim=True).sqrt()


def _beside(features: Tensor, others: Tensor) -> Tensor:
    """Return both side by side; the rows of `others` get the norms of the rows of `features`."""
    own = _norm(others)
    scale = torch.where(own > 0, _norm(features) / torch.where(own > 0, own, 1.0), 0.0)
    return torch.cat([features, others * scale], 1)
