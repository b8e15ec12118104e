"""The tokenizer "bpe": byte-pair encoding, with merges learned from the training sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.config import SequenceConfig
from titans_ts.nn.dna.nucleotides import ABSENT, decode_nucleotides
from titans_ts.nn.dna.tokenizers.base import DNATokenizer

__all__ = ["BPETokens", "learn_merges"]


class BPETokens(DNATokenizer):
    """Tokens of unequal lengths, learned from the training sequences by byte-pair encoding.

    The merges, most frequent first, are part of the configuration (:func:`learn_merges`). A token depends
    on later letters, so the whole sequence is cut into tokens at once; then they are read in pieces.
    """

    usual_size = 1

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        if not config.merges:
            raise ValueError("merges is empty; BPE learns them from sequences (learn_merges)")
        if config.soft_masked == "flag":
            raise ValueError("soft_masked is 'flag', which BPE cannot show; give 'keep'")
        if self.stride > 1:
            raise ValueError(f"stride is {self.stride}; BPE tokens have their own lengths: give 1")
        self._merges = config.merges
        self._encoder: Any = None
        self.words = nn.Embedding(len(_ALPHABET) + len(config.merges), config.backbone.d_model)
        nn.init.normal_(self.words.weight, std=0.5)

    def forward(
        self, codes: Tensor, mask: Tensor, lead: int = 0, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """As in the base class; N is the largest number of tokens; `lead` is not supported."""
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
    """Return the letters of codes; every ambiguous letter becomes N."""
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
    """Return the pairs of tokens that byte-pair encoding merges, most frequent first.

    Parameters
    ----------
    sequences : iterable of NDArray[np.uint8]
        Codes `[T]` of each sequence; absent letters are left out.
    n_merges : int
        Number of tokens to learn in addition to the single letters.

    Returns
    -------
    tuple of str
        At most `n_merges` pairs, for instance "A C" for A and C.

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
        raise ValueError(f"n_merges is {n_merges}; give at least one token to learn")
    tokenizers = _tokenizers()
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=n_merges + len(_ALPHABET),
        initial_alphabet=list(_ALPHABET),
        show_progress=False,
        max_token_length=64,
    )
    # in pieces, because a whole chromosome would be a single string
    pieces = (
        _four_letters(letters[start : start + 1000])
        for letters in (codes[codes != ABSENT] for codes in sequences)
        for start in range(0, len(letters), 1000)
    )
    trained.train_from_iterator(pieces, trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    return tuple(" ".join(pair) for pair in merges)
