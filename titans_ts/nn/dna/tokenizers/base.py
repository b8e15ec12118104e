"""Base classes of the DNA tokenizers, one-hot letters and positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.dna.nucleotides import ABSENT, LOWER, SHARES

__all__ = [
    "NUMBERS_AT_ONCE",
    "DNATokenizer",
    "OneHot",
    "StridedTokenizer",
    "have_hooks",
    "in_parts",
    "sinusoids",
]

NUMBERS_AT_ONCE = 2**18
"""How many matches of filters are computed at a time, so that they stay in the cache."""


class DNATokenizer(nn.Module, ABC):
    """Base of the tokenizers, with optional positional encodings.

    Parameters
    ----------
    config : SequenceConfig
        Width, `kernel_size`, `stride`, and the options of the tokenizer.
    """

    usual_size = 9
    """Default of `kernel_size` (or `stride`, if that is larger)."""
    before: int = 0
    """Tokens before a token that take part in it."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        d_model = config.backbone.d_model
        self.kernel_size = config.kernel_size or max(self.usual_size, config.stride)
        self.stride = config.stride
        if self.kernel_size < self.stride:
            raise ValueError(
                f"kernel_size is {self.kernel_size} and stride {self.stride}; a token would not see all "
                "of its letters: raise kernel_size"
            )
        self.position = nn.Linear(d_model, d_model, bias=False) if config.position else None

    @property
    def context(self) -> int:
        """Letters before a token that take part in it."""
        return self.kernel_size - 1 + self.before * self.stride

    @abstractmethod
    def forward(
        self, codes: Tensor, mask: Tensor, lead: int = 0, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens of a piece of a sequence.

        Parameters
        ----------
        codes : Tensor
            `[B, T]` int64.
        mask : Tensor
            `[B, T]` bool: which letters are present.
        lead : int
            Number of leading codes that were read before and only serve as context (default 0):
            `context`, or all before the piece if they are fewer.
        offset : int
            Number of tokens before the piece (default 0).

        Returns
        -------
        tuple[Tensor, Tensor]
            Tokens `[B, N, D]`, and the mask of present tokens, `[B, N]` bool.
        """

    @abstractmethod
    def pieces(
        self, codes: NDArray[np.uint8], size: int, *, backwards: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the tokens `[1, n, D]` of one sequence `[T]`, about `size` letters at a time.

        With `backwards`, the order of the pieces and of the tokens is reversed.
        """

    def _placed(self, tokens: Tensor, offset: int) -> Tensor:
        """Add positional encodings to tokens `[B, N, D]`, if the model uses them."""
        if self.position is None:
            return tokens
        place = torch.arange(offset, offset + tokens.shape[1], device=tokens.device)
        placed: Tensor = self.position(sinusoids(place, tokens.shape[2]).to(tokens.dtype))
        return tokens + placed


class StridedTokenizer(DNATokenizer):
    """Base of the tokenizers that make one token for every `stride` letters."""

    def forward(
        self, codes: Tensor, mask: Tensor, lead: int = 0, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """As in the base class; N = (T - lead) / stride, rounded up."""
        length = codes.shape[1] - lead
        before = min(self.before, lead // self.stride)
        n_tokens = -(-length // self.stride)
        rest = n_tokens * self.stride - length
        front = self.kernel_size - 1 + before * self.stride - lead
        mask = F.pad(mask[:, max(0, -front) :], (max(0, front), rest))
        codes = F.pad(codes[:, max(0, -front) :], (max(0, front), rest))
        tokens, own = self.embed(codes, mask)[:, before:], self._own(mask)[:, before:]
        return self._placed(tokens, offset), own

    def _own(self, mask: Tensor) -> Tensor:
        """Return which tokens have a letter of their own, `[B, N]`, for the mask of :meth:`embed`."""
        return mask[:, self.kernel_size - 1 :].unflatten(1, (-1, self.stride)).any(-1)

    def pieces(
        self, codes: NDArray[np.uint8], size: int, *, backwards: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As in the base class."""
        device = next(self.parameters()).device
        codes = codes[: len(codes) - int((codes[::-1] != ABSENT).argmax())]
        size = max(1, size // self.stride) * self.stride
        starts = range(0, len(codes), size)
        for start in reversed(starts) if backwards else starts:
            first = max(0, start - self.context)
            piece = torch.from_numpy(codes[first : start + size].astype(np.int64))[None].to(device)
            tokens, mask = self(piece, piece != ABSENT, start - first, start // self.stride)
            yield (tokens.flip(1), mask.flip(1)) if backwards else (tokens, mask)

    @abstractmethod
    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """Return tokens `[B, N, D]` of codes `[B, kernel_size - 1 + N stride]`."""


def have_hooks(*modules: nn.Module) -> bool:
    """Return whether something takes part in a module's pass, as saliency, pruning or adapters do."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(
        "forward" in vars(one) or any(getattr(one, kind) for kind in kinds) for one in modules
    )


def in_parts(width: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield a few rows of all tensors at a time, where each row is for `width` numbers."""
    return zip(*(x.split(max(1, NUMBERS_AT_ONCE // width)) for x in tensors), strict=True)


class OneHot(nn.Module):
    """One-hot channels `[B, C, T]` of codes `[B, T]`: A, C, G, T and, if `marked`, lower case."""

    def __init__(self, marked: bool) -> None:
        super().__init__()
        shares = np.concatenate([SHARES, SHARES])
        lower = np.arange(2 * LOWER)[:, None] >= LOWER
        table = np.concatenate([shares, lower & (shares.sum(1, keepdims=True) > 0)], 1)
        table = table if marked else table[:, :4]
        self.register_buffer("table", torch.from_numpy(table.astype(np.float32)), persistent=False)

    table: Tensor

    def forward(self, codes: Tensor, mask: Tensor) -> Tensor:
        """Return the channels `[B, C, T]` of codes `[B, T]`; masked positions are zero."""
        return (self.table[codes] * mask[..., None]).mT


def sinusoids(place: Tensor, width: int) -> Tensor:
    """Positional encodings `[N, width]` of positions `[N]` (Vaswani et al., 2017, section 3.5)."""
    # float32 has too few digits for the positions of a genome, and not every device has float64
    rate = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = place.cpu()[:, None].double() * rate
    return torch.cat([angle.sin(), angle.cos()], -1).float().to(place.device)
