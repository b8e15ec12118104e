"""The model of DNA sequences: tokenizer, backbone in one direction or both, pooling, linear head."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.kernels.portable import recorded_format
from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.dna.nucleotides import SOFT_MASKED, complement_codes, other_strand, present
from titans_ts.nn.dna.pooling import POOLINGS
from titans_ts.nn.dna.tokenizers import DNA_TOKENIZERS

__all__ = ["DIRECTIONS", "STRANDS", "SequenceModel"]

STRANDS = ("none", "augment", "average", "equivariant")
"""Use of the reverse complement: none; "augment": training reads a random strand; "average": outputs of
both strands are also averaged; "equivariant": training reads both too, so both get equal outputs."""

DIRECTIONS = ("none", "shared", "separate")
"""Whether tokens are also read backwards: no, by the same backbone, or by a separate one."""


class SequenceModel(nn.Module):
    """Predict classes, labels or values of sequences of any length.

    Parameters
    ----------
    config : SequenceConfig
        Outputs, tokenizer, backbone and pooling.

    Raises
    ------
    ValueError
        If an option is unknown, or two options cannot be combined.
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
                "tokenizer is 'bpe', whose tokens make no equal bins (n_bins); choose another"
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
        """Return logits of classes or labels, or values.

        Parameters
        ----------
        codes : Tensor
            Codes `[B, T]` int64 of letters, padded at the end with any code; absent letters are ignored.
        lengths : Tensor
            `[B]`: number of letters of each sequence.

        Returns
        -------
        Tensor
            `[B, n_outputs]`, or `[B, n_bins, n_outputs]` for a track.
        """
        rc = self.config.rc
        if rc == "none" or (rc == "augment" and not self.training):
            return self._one_strand(codes, lengths)
        other = other_strand(codes, lengths)
        if self.training and rc != "equivariant":
            flipped = torch.rand(len(codes), 1, device=codes.device) < 0.5
            output = self._one_strand(torch.where(flipped, other, codes), lengths)
            return (
                torch.where(flipped[..., None], output.flip(1), output) if self._track else output
            )
        output = self._one_strand(codes, lengths)
        back = self._one_strand(other, lengths)
        return self._both(output, back.flip(1) if self._track else back)

    def hidden(self, codes: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the backbone's outputs `[B, N, D]` for each direction, and the token mask `[B, N]`."""
        tokens, mask = self.tokenizer(codes, present(codes, lengths))
        tokens = self.dropout(tokens)
        ragged = None if recorded_format() is None and mask.all() else mask
        outputs = [self.backbone(tokens, mask=ragged)[0]]
        if self._backwards is not None:
            order = _reversed(mask)
            backwards = mask.gather(1, order)
            y, _ = self._backwards(_take(tokens, order), mask=None if ragged is None else backwards)
            outputs.append(_take(y, order))
        return outputs, mask

    def read(self, codes: NDArray[np.uint8], piece: int) -> Tensor:
        """Return the outputs `[n_outputs]` for one sequence `[T]`, read `piece` letters at a time.

        The result is that of :meth:`forward` in evaluation mode. Apart from the letters themselves, the
        memory in use does not grow with the sequence.

        Raises
        ------
        ValueError
            If the model predicts a track, whose bins need the whole sequence.
        """
        if self._track:
            raise ValueError("a track (n_bins) is read whole; cut the sequence into shorter ones")
        output = self._read_strand(codes, piece)
        if self.config.rc not in ("average", "equivariant"):
            return output
        return self._both(output, self._read_strand(complement_codes(codes), piece))

    def stream(
        self, codes: NDArray[np.uint8], piece: int, *, backwards: bool = False
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Read one sequence `[T]`, `piece` letters at a time.

        Yields
        ------
        tuple[Tensor, Tensor, Tensor]
            For every piece, the outputs for its tokens `[1, n, D]`, the mask of present tokens `[1, n]`,
            and the surprise of each token `[1, n, n_layers, heads]`.
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
        """The backbone that reads backwards, or None."""
        if self.config.bidirectional == "none":
            return None
        return self.backbone if self.backwards is None else self.backwards

    def _one_strand(self, codes: Tensor, lengths: Tensor) -> Tensor:
        hidden, mask = self.hidden(codes, lengths)
        if self.pooling is None:
            output: Tensor = self.head(self._bins(torch.cat(hidden, -1), mask))
            return output
        parts = [self.pooling(hidden[0], mask)]
        if len(hidden) > 1:
            order = _reversed(mask)
            parts.append(self.pooling(_take(hidden[1], order), mask.gather(1, order)))
        output = self.head(torch.cat(parts, -1))
        return output

    def _read_strand(self, codes: NDArray[np.uint8], piece: int) -> Tensor:
        assert self.pooling is not None
        parts = []
        for backwards in (False, True)[: 1 if self._backwards is None else 2]:
            state = None
            for y, mask, _ in self.stream(codes, piece, backwards=backwards):
                state = self.pooling.add(state, y, mask)
            parts.append(self.pooling.finish(state))
        output: Tensor = self.head(torch.cat(parts, -1))[0]
        return output

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
        """Combine the outputs for both strands."""
        if self.config.rc == "equivariant" or self.config.output == "values":
            return (one + other) / 2
        if self.config.output == "labels":  # the logit of the mean probability
            yes = torch.stack([F.logsigmoid(one), F.logsigmoid(other)]).logsumexp(0)
            no = torch.stack([F.logsigmoid(-one), F.logsigmoid(-other)]).logsumexp(0)
            return yes - no
        return torch.stack([one, other]).log_softmax(-1).logsumexp(0)


def _reversed(mask: Tensor) -> Tensor:
    """Return indices `[B, N]` that reverse the tokens up to the last present one of each sample."""
    place = torch.arange(mask.shape[1], device=mask.device)
    back = (mask * (place + 1)).amax(1, keepdim=True) - 1 - place
    return torch.where(back >= 0, back, place)


def _take(x: Tensor, order: Tensor) -> Tensor:
    """Reorder the tokens of x `[B, N, D]` by indices `[B, N]`."""
    return x.gather(1, order[..., None].expand_as(x))
