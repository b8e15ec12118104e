"""The model of DNA sequences: tokens, backbone in one direction or both, pooling, linear head."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.dna.nucleotides import SOFT_MASKED, complement_codes, other_strand, present
from titans_ts.nn.dna.pooling import POOLINGS
from titans_ts.nn.dna.tokenizers import DNA_TOKENIZERS

__all__ = ["DIRECTIONS", "STRANDS", "SequenceModel"]

STRANDS = ("none", "augment", "average", "equivariant")
"""What a model does with the other strand: nothing; see either, at random, in training; and average its
answers for both, too; or read both in training as well, so that it cannot tell them apart."""

DIRECTIONS = ("none", "shared", "separate")
"""Whether tokens are read backwards, too: no, by the same backbone, or by one of its own."""


class SequenceModel(nn.Module):
    """Answer for sequences of any length.

    Parameters
    ----------
    config : SequenceConfig
        Outputs, tokenizer, backbone and pooling.

    Raises
    ------
    ValueError
        If a choice is unknown, or two do not go together.
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.config = config
        for name, choices in (
            ("tokenizer", tuple(DNA_TOKENIZERS)),
            ("rc", STRANDS),
            ("bidirectional", DIRECTIONS),
            ("pooling", tuple(POOLINGS)),
            ("soft_masked", SOFT_MASKED),
        ):
            value = getattr(config, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of {list(choices)}")
        if config.n_bins and config.tokenizer == "bpe":
            raise ValueError(
                "tokenizer is 'bpe', whose words make no equal bins (n_bins); choose another"
            )
        if config.n_bins and config.length % (config.n_bins * config.stride):
            raise ValueError(
                f"sequences have {config.length} letters, which are not {config.n_bins} bins of whole "
                f"tokens; give a length that is a multiple of {config.n_bins * config.stride}"
            )
        d_model = config.backbone.d_model
        self.tokenizer = DNA_TOKENIZERS[config.tokenizer](config)
        self.dropout = nn.Dropout(config.backbone.dropout)
        self.backbone = TitansBackbone(config.backbone)
        self.backwards = (
            TitansBackbone(config.backbone) if config.bidirectional == "separate" else None
        )
        n_tokens = -(-config.length // config.stride)
        self.pooling = None if config.n_bins else POOLINGS[config.pooling](d_model, n_tokens)
        width = d_model if self.pooling is None else self.pooling.width
        n_directions = 1 if config.bidirectional == "none" else 2
        self.head: nn.Module = nn.Sequential(
            nn.Dropout(config.head_dropout), nn.Linear(n_directions * width, config.n_outputs)
        )

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Logits of classes or labels, or values.

        Parameters
        ----------
        codes : Tensor
            Codes `[B, T]` int64 of letters, padded at the end with any code; absent ones are not seen.
        lengths : Tensor
            `[B]`: how many of them are the sequence.

        Returns
        -------
        Tensor
            `[B, n_outputs]`, or `[B, n_bins, n_outputs]` of a track.
        """
        rc = self.config.rc
        if rc == "none" or (rc == "augment" and not self.training):
            return self._one_strand(codes, lengths)
        other = other_strand(codes, lengths)
        if self.training and rc != "equivariant":
            flipped = torch.rand(len(codes), 1, device=codes.device) < 0.5
            answer = self._one_strand(torch.where(flipped, other, codes), lengths)
            return (
                torch.where(flipped[..., None], answer.flip(1), answer) if self._track else answer
            )
        answer = self._one_strand(codes, lengths)
        back = self._one_strand(other, lengths)
        return self._both(answer, back.flip(1) if self._track else back)

    def hidden(self, codes: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """What is read of every token, `[B, N, D]` for each direction, and which are there `[B, N]`."""
        tokens, mask = self.tokenizer(codes, present(codes, lengths))
        tokens = self.dropout(tokens)
        ragged = None if mask.all() else mask
        found = [self.backbone(tokens, mask=ragged)[0]]
        if self._backwards is not None:
            order = _reversed(mask)
            there = mask.gather(1, order)
            y, _ = self._backwards(_take(tokens, order), mask=None if ragged is None else there)
            found.append(_take(y, order))
        return found, mask

    def read(self, codes: NDArray[np.uint8], piece: int) -> Tensor:
        """The answer `[n_outputs]` for one sequence `[T]`, read `piece` letters at a time.

        The same as :meth:`forward` in evaluation, in memory that does not grow with the sequence (but
        for the letters themselves).

        Raises
        ------
        ValueError
            If the model answers for bins of a track, which need the whole sequence.
        """
        if self._track:
            raise ValueError("a track (n_bins) is read whole; cut the sequence into shorter ones")
        answer = self._read_strand(codes, piece)
        if self.config.rc not in ("average", "equivariant"):
            return answer
        return self._both(answer, self._read_strand(complement_codes(codes), piece))

    def stream(
        self, codes: NDArray[np.uint8], piece: int, *, backwards: bool = False
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Read one sequence `[T]`, `piece` letters at a time.

        Yields
        ------
        tuple[Tensor, Tensor, Tensor]
            Of every piece, what is read of its tokens `[1, n, D]`, which are there `[1, n]`, and the
            surprise of each `[1, n, n_layers, heads]`.
        """
        backbone = self._backwards if backwards else self.backbone
        assert backbone is not None
        state = None
        for tokens, mask in self.tokenizer.pieces(codes, piece, backwards=backwards):
            ragged = None if mask.all() else mask
            y, state, surprise = backbone.run(tokens, state, ragged)
            yield y, mask, surprise

    @property
    def _track(self) -> bool:
        return self.config.n_bins > 0

    @property
    def _backwards(self) -> TitansBackbone | None:
        """What reads backwards, if anything."""
        if self.config.bidirectional == "none":
            return None
        return self.backbone if self.backwards is None else self.backwards

    def _one_strand(self, codes: Tensor, lengths: Tensor) -> Tensor:
        found, mask = self.hidden(codes, lengths)
        if self.pooling is None:
            answer: Tensor = self.head(self._bins(torch.cat(found, -1), mask))
            return answer
        parts = [self.pooling(found[0], mask)]
        if len(found) > 1:
            order = _reversed(mask)
            parts.append(self.pooling(_take(found[1], order), mask.gather(1, order)))
        answer = self.head(torch.cat(parts, -1))
        return answer

    def _read_strand(self, codes: NDArray[np.uint8], piece: int) -> Tensor:
        assert self.pooling is not None
        parts = []
        for backwards in (False, True)[: 1 if self._backwards is None else 2]:
            kept = None
            for y, mask, _ in self.stream(codes, piece, backwards=backwards):
                kept = self.pooling.add(kept, y, mask)
            parts.append(self.pooling.finish(kept))
        answer: Tensor = self.head(torch.cat(parts, -1))[0]
        return answer

    def _bins(self, y: Tensor, mask: Tensor) -> Tensor:
        n_bins = self.config.n_bins
        if y.shape[1] % n_bins:
            raise ValueError(
                f"sequences have {y.shape[1]} tokens, which are not {n_bins} equal bins; give sequences "
                "whose length is a multiple of bins and stride"
            )
        y, mask = (x.unflatten(1, (n_bins, -1)) for x in (y * mask[..., None], mask))
        mean: Tensor = y.sum(2) / mask.sum(2).clamp(min=1)[..., None]
        return mean

    def _both(self, one: Tensor, other: Tensor) -> Tensor:
        """One answer from those for both strands."""
        if self.config.rc == "equivariant" or self.config.output == "values":
            return (one + other) / 2
        if self.config.output == "labels":  # the logit of the mean probability
            yes = torch.stack([F.logsigmoid(one), F.logsigmoid(other)]).logsumexp(0)
            no = torch.stack([F.logsigmoid(-one), F.logsigmoid(-other)]).logsumexp(0)
            return yes - no
        return torch.stack([one, other]).log_softmax(-1).logsumexp(0)


def _reversed(mask: Tensor) -> Tensor:
    """Places `[B, N]` of the tokens up to the last that is there, backwards; the rest stays."""
    place = torch.arange(mask.shape[1], device=mask.device)
    back = (mask * (place + 1)).amax(1, keepdim=True) - 1 - place
    return torch.where(back >= 0, back, place)


def _take(x: Tensor, order: Tensor) -> Tensor:
    """Rows of x `[B, N, D]` in an order `[B, N]`."""
    return x.gather(1, order[..., None].expand_as(x))
