"""From the letters of a sequence to tokens.

A tokenizer maps codes `[B, T]` (:mod:`titans_ts.nn.dna.nucleotides`) to tokens `[B, N, D]` and which of
them are present, `[B, N]`. All but "bpe" make one token of every `stride` letters, which sees those
letters and some before them, so that a sequence can be read in pieces. Adding one is a class and a row
of `DNA_TOKENIZERS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.dna.nucleotides import ABSENT, LOWER, SHARES, decode_nucleotides, gapped_offsets

__all__ = [
    "DNA_TOKENIZERS",
    "BPETokens",
    "ConvTokens",
    "DNATokenizer",
    "KmerTokens",
    "NucleotideTokens",
    "StridedTokenizer",
    "learn_merges",
]


_MATCH, _OTHERS = 0.5, 0.3
"""Of a filter that looks for a word: weight of a letter that fits, and share of its random weights."""


class DNATokenizer(nn.Module, ABC):
    """Base of the tokenizers: tokens, and perhaps their positions.

    Parameters
    ----------
    config : SequenceConfig
        Width, `kernel_size`, `stride`, and what a tokenizer needs besides.
    """

    usual_size = 9
    """`kernel_size` where it is None (`stride`, if that is more)."""

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

    @abstractmethod
    def forward(
        self, codes: Tensor, mask: Tensor, lead: int = 0, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Tokens of a piece of a sequence.

        Parameters
        ----------
        codes : Tensor
            `[B, T]` int64.
        mask : Tensor
            `[B, T]` bool: which of them are there.
        lead : int
            How many of them were read before, and only tell what stands before the piece.
        offset : int
            Tokens before the piece.

        Returns
        -------
        tuple[Tensor, Tensor]
            Tokens `[B, N, D]`, and which are there, `[B, N]` bool.
        """

    @abstractmethod
    def pieces(
        self, codes: NDArray[np.uint8], size: int, *, backwards: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens `[1, n, D]` of one sequence `[T]`, about `size` letters at a time.

        Backwards, the last piece comes first, and its last token, too.
        """

    def _placed(self, tokens: Tensor, offset: int) -> Tensor:
        """Tokens `[B, N, D]` that know their place, if they are to."""
        if self.position is None:
            return tokens
        place = torch.arange(offset, offset + tokens.shape[1], device=tokens.device)
        placed: Tensor = self.position(_sinusoids(place, tokens.shape[2]).to(tokens.dtype))
        return tokens + placed


class StridedTokenizer(DNATokenizer):
    """Base of those that make a token of every `stride` letters, whatever the letters are."""

    def forward(
        self, codes: Tensor, mask: Tensor, lead: int = 0, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """As in the base class; N = (T - lead) / stride, rounded up."""
        length = codes.shape[1] - lead
        n_tokens = -(-length // self.stride)
        rest = n_tokens * self.stride - length
        front = self.kernel_size - 1 - lead
        mask = F.pad(mask[:, max(0, -front) :], (max(0, front), rest))
        codes = F.pad(codes[:, max(0, -front) :], (max(0, front), rest))
        tokens = self.embed(codes, mask)
        own = mask[:, self.kernel_size - 1 :].unflatten(1, (n_tokens, self.stride)).any(-1)
        return self._placed(tokens, offset), own

    def pieces(
        self, codes: NDArray[np.uint8], size: int, *, backwards: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As in the base class."""
        device = next(self.parameters()).device
        codes = codes[: len(codes) - int((codes[::-1] != ABSENT).argmax())]
        size = max(1, size // self.stride) * self.stride
        starts = range(0, len(codes), size)
        for start in reversed(starts) if backwards else starts:
            first = max(0, start - self.kernel_size + 1)
            piece = torch.from_numpy(codes[first : start + size].astype(np.int64))[None].to(device)
            tokens, mask = self(piece, piece != ABSENT, start - first, start // self.stride)
            yield (tokens.flip(1), mask.flip(1)) if backwards else (tokens, mask)

    @abstractmethod
    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """Tokens `[B, N, D]` of codes `[B, kernel_size - 1 + N stride]`."""


class _OneHot(nn.Module):
    """Codes `[B, T]` as `[B, C, T]`: shares of A, C, G, T, and whether lower case is marked."""

    def __init__(self, marked: bool) -> None:
        super().__init__()
        shares = np.concatenate([SHARES, SHARES])
        lower = np.arange(2 * LOWER)[:, None] >= LOWER
        table = np.concatenate([shares, lower & (shares.sum(1, keepdims=True) > 0)], 1)
        table = table if marked else table[:, :4]
        self.register_buffer("table", torch.from_numpy(table.astype(np.float32)), persistent=False)

    table: Tensor

    def forward(self, codes: Tensor, mask: Tensor) -> Tensor:
        return (self.table[codes] * mask[..., None]).mT


class NucleotideTokens(StridedTokenizer):
    """Learned linear motifs over the letters that a token sees.

    A convolution over one-hot letters (an ambiguous one is a share of each that it may stand for).
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.one_hot = _OneHot(config.soft_masked == "flag")
        channels = self.one_hot.table.shape[1]
        self.conv = nn.Conv1d(channels, config.backbone.d_model, self.kernel_size, self.stride)

    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """As in the base class."""
        skipped = self.stride - 1  # the token's window ends at the last of its letters
        x = self.one_hot(codes, mask)[..., skipped:]
        tokens: Tensor = self.conv(x).mT
        return tokens


class ConvTokens(StridedTokenizer):
    """Motif filters, as of a convolutional network: the best match among a token's letters.

    `n_filters` motifs of `kernel_size` letters over one-hot letters, GELU, the maximum over `stride`
    letters, and a linear map.
    """

    usual_size = 15

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.one_hot = _OneHot(config.soft_masked == "flag")
        channels = self.one_hot.table.shape[1]
        self.conv = nn.Conv1d(channels, config.n_filters, self.kernel_size)
        self.out = nn.Linear(config.n_filters, config.backbone.d_model)

    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """As in the base class."""
        x = F.gelu(self.conv(self.one_hot(codes, mask)))  # [B, F, N stride]
        if self.stride > 1:
            own = mask[:, None, self.kernel_size - 1 :]
            x = x.masked_fill(~own, torch.finfo(x.dtype).min)
            x = F.max_pool1d(x, self.stride)
            x = x.masked_fill(~own.unflatten(2, (-1, self.stride)).any(-1), 0)
        tokens: Tensor = self.out(x.mT)
        return tokens

    def begin_with(self, words: NDArray[np.float32]) -> None:
        """Make the first filters look for words `[n, 4, m]`, each a 1 where it has a letter.

        A filter answers to a whole word, and less to one that differs in a letter.
        """
        assert self.conv.bias is not None
        with torch.no_grad():
            for row, word in enumerate(torch.from_numpy(words)):
                first = (self.kernel_size - word.shape[1]) // 2
                weight = self.conv.weight[row].mul_(_OTHERS)
                there = word.sum(0)
                weight[:4, first : first + len(there)] += _MATCH * (4 * word - there) / 3
                self.conv.bias[row] = -_MATCH * (there.sum() - 2)


class KmerTokens(StridedTokenizer):
    """A vector for every word of `kernel_size` letters.

    Words overlap with a `stride` of 1, and follow one another with one of `kernel_size`. A word with a
    letter other than A, C, G and T, or that begins before the sequence, is unknown. With `gaps`, a token
    is the sum of several words: every choice of `kernel_size` letters of so many more, the first among
    them (gapped k-mers: Ghandi et al., PLOS Computational Biology 2014). A token's word ends at the last
    of its letters; with `all_offsets`, the token is the sum of the words that end at each of them, of
    vectors of their own for each place, so that a larger `stride` passes over no word.
    """

    usual_size = 6

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        if self.kernel_size > 10:
            raise ValueError(
                f"kernel_size is {self.kernel_size}; k-mers have at most 10 letters: there are 4 ** 10 "
                "of them"
            )
        if config.soft_masked == "flag":
            raise ValueError("soft_masked is 'flag', which k-mers cannot show; give 'keep'")
        k, self.kernel_size = self.kernel_size, self.kernel_size + config.gaps
        self._choices = gapped_offsets(k, config.gaps)
        self._ends = self.stride if config.all_offsets else 1
        n_words = self._ends * len(self._choices)  # in a token
        self.words = nn.EmbeddingBag(n_words * (4**k + 1), config.backbone.d_model, mode="sum")
        nn.init.normal_(self.words.weight, std=0.5 * n_words**-0.5)

    def embed(self, codes: Tensor, mask: Tensor) -> Tensor:
        """As in the base class."""
        codes = torch.where(mask & (codes < 4), codes, 4)[:, self.stride - self._ends :]
        step = self.stride // self._ends  # letters between the ends of two words
        windows = codes.unfold(1, self.kernel_size, step)  # [B, N ends, k + gaps]
        choices = torch.tensor(self._choices, device=codes.device)
        letters = windows[..., choices]  # [B, N ends, n, k]
        k = letters.shape[3]
        number = (letters * 4 ** torch.arange(k, device=codes.device)).sum(-1)
        number = torch.where((letters < 4).all(-1), number, 4**k)
        number = number.unflatten(1, (-1, self._ends)).flatten(2)  # [B, N, ends n]
        number = number + (4**k + 1) * torch.arange(number.shape[2], device=codes.device)
        tokens: Tensor = self.words(number.flatten(0, 1)).unflatten(0, number.shape[:2])
        return tokens


class BPETokens(DNATokenizer):
    """Words of unequal lengths, learned from the training sequences by byte-pair encoding.

    The merges, most frequent first, are part of the configuration (:func:`learn_merges`). A word depends
    on what follows it, so a sequence is cut into words as a whole, though they are read in pieces.
    """

    usual_size = 1

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        if not config.merges:
            raise ValueError("merges is empty; BPE learns them from sequences (learn_merges)")
        if config.soft_masked == "flag":
            raise ValueError("soft_masked is 'flag', which BPE cannot show; give 'keep'")
        if self.stride > 1:
            raise ValueError(
                f"stride is {self.stride}; words of BPE have their own lengths: give 1"
            )
        self._merges = config.merges
        self._encoder: Any = None
        self.words = nn.Embedding(len(_ALPHABET) + len(config.merges), config.backbone.d_model)
        nn.init.normal_(self.words.weight, std=0.5)

    def forward(
        self, codes: Tensor, mask: Tensor, lead: int = 0, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """As in the base class; N is the most words of a sequence, and nothing can be read before."""
        rows = codes.cpu().numpy().astype(np.uint8)
        words = [
            self._words(row[there]) for row, there in zip(rows, mask.cpu().numpy(), strict=True)
        ]
        n_words = max(1, max(len(w) for w in words))
        ids = np.zeros((len(words), n_words), np.int64)
        there = np.zeros(ids.shape, bool)
        for row, own, word in zip(ids, there, words, strict=True):
            row[: len(word)] = word
            own[: len(word)] = True
        return self._tokens(ids, offset), torch.from_numpy(there).to(codes.device)

    def pieces(
        self, codes: NDArray[np.uint8], size: int, *, backwards: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As in the base class."""
        words = self._words(codes[codes != ABSENT])
        starts = range(0, len(words), size)
        for start in reversed(starts) if backwards else starts:
            tokens = self._tokens(words[None, start : start + size], start)
            mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
            yield (tokens.flip(1), mask) if backwards else (tokens, mask)

    def _tokens(self, ids: NDArray[np.int64], offset: int) -> Tensor:
        device = self.words.weight.device
        return self._placed(self.words(torch.from_numpy(ids).to(device)), offset)

    def _words(self, codes: NDArray[np.uint8]) -> NDArray[np.int64]:
        if self._encoder is None:
            self._encoder = _bpe(self._merges)
        return np.array(self._encoder.encode(_four_letters(codes)).ids, np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_encoder": None}


_ALPHABET = "ACGTN"


def _four_letters(codes: NDArray[np.uint8]) -> str:
    """Letters, an ambiguous one as N."""
    return decode_nucleotides(np.minimum(codes, 4))


def _bpe(merges: tuple[str, ...]) -> Any:
    tokenizers = _tokenizers()
    pairs = [tuple(merge.split(" ")) for merge in merges]
    vocabulary = {letter: i for i, letter in enumerate(_ALPHABET)}
    for left, right in pairs:
        vocabulary.setdefault(left + right, len(vocabulary))
    return tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, pairs))


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "BPE needs the package tokenizers: pip install 'titans-ts[genomics]'"
        ) from error
    return tokenizers


def learn_merges(sequences: Iterable[NDArray[np.uint8]], n_merges: int) -> tuple[str, ...]:
    """The pairs of words that byte-pair encoding merges, most frequent first.

    Parameters
    ----------
    sequences : iterable of NDArray[np.uint8]
        Codes `[T]` of each; what is not there is left out.
    n_merges : int
        Words to learn beside the single letters.

    Returns
    -------
    tuple of str
        "A C" for A and C, at most `n_merges` of them.

    Raises
    ------
    ValueError
        If `n_merges` is less than 1.

    Examples
    --------
    >>> from titans_ts.nn.dna.nucleotides import encode_nucleotides
    >>> learn_merges([encode_nucleotides("ACACACGG")], 2)
    ('A C', 'AC AC')
    """
    import json

    if n_merges < 1:
        raise ValueError(f"n_merges is {n_merges}; give at least one word to learn")
    tokenizers = _tokenizers()
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=n_merges + len(_ALPHABET),
        initial_alphabet=list(_ALPHABET),
        show_progress=False,
        max_token_length=64,
    )
    # in stretches, because the whole of a chromosome would be a single word to count pairs in
    stretches = (
        _four_letters(letters[start : start + 1000])
        for letters in (codes[codes != ABSENT] for codes in sequences)
        for start in range(0, len(letters), 1000)
    )
    trained.train_from_iterator(stretches, trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    return tuple(" ".join(pair) for pair in merges)


DNA_TOKENIZERS: dict[str, type[DNATokenizer]] = {
    "nucleotide": NucleotideTokens,
    "conv": ConvTokens,
    "kmer": KmerTokens,
    "bpe": BPETokens,
}
"""How a DNA sequence becomes tokens, by name."""


def _sinusoids(place: Tensor, width: int) -> Tensor:
    """Sines and cosines of places `[N]`, `[N, width]` (Vaswani et al., 2017, section 3.5)."""
    # a float32 has too few digits for the places of a genome, and not every device has float64
    rate = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = place.cpu()[:, None].double() * rate
    return torch.cat([angle.sin(), angle.cos()], -1).float().to(place.device)
