"""Groups of options of the DNA estimators: tokenizers, and the k-mer model."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

from titans_ts.config import Options, SequenceConfig, check_integer
from titans_ts.estimator import plain

__all__ = [
    "TOKENIZER_OPTIONS",
    "BPETokenizer",
    "ConvTokenizer",
    "KmerModel",
    "KmerTokenizer",
    "NucleotideTokenizer",
    "ResidualTokenizer",
    "read_kmer_model",
    "read_tokenizer",
]


@dataclass(frozen=True, repr=False)
class NucleotideTokenizer(Options):
    """A token is a linear map of the letters that it sees."""

    kernel_size: int | None = None
    """Letters that a token sees. None (default): 9, or `stride` if that is larger."""

    def fields(self) -> dict[str, Any]:
        """The fields of :class:`titans_ts.config.SequenceConfig` that are set here."""
        return {"tokenizer": "nucleotide", "kernel_size": self.kernel_size}


@dataclass(frozen=True, repr=False)
class ConvTokenizer(Options):
    """Motif filters over one-hot letters; a token takes the largest response of each filter."""

    n_filters: int = SequenceConfig.n_filters
    """Number of filters."""
    kernel_size: int | None = None
    """Letters that a token sees. None (default): 15, or `stride` if that is larger."""
    init: str = "random"
    """Initial filters: "random" (default), or "kmers", the most predictive gapped k-mers of a ridge
    regression on the training sequences, which helps with few sequences."""

    def __post_init__(self) -> None:
        if self.init not in ("random", "kmers"):
            raise ValueError(f"init is {self.init!r}; choose one of ['random', 'kmers']")

    def fields(self) -> dict[str, Any]:
        """The fields of :class:`titans_ts.config.SequenceConfig` that are set here."""
        return {
            "tokenizer": "conv",
            "kernel_size": self.kernel_size,
            "n_filters": self.n_filters,
        }


@dataclass(frozen=True, repr=False)
class ResidualTokenizer(Options):
    """Motif filters over one-hot letters, and gated, dilated convolutions over the tokens.

    Everything is normalised over the batch in training, so a prediction of the next letters that is
    trained (`pretrain`) sees statistics of later ones, too; afterwards it does not.
    """

    n_filters: int = SequenceConfig.n_filters
    """Number of filters."""
    kernel_size: int | None = None
    """Letters of a filter. None (default): 15, or `stride` if that is larger."""
    n_residual: int = SequenceConfig.n_residual
    """Number of convolutions over the tokens, 0 to 8 (default 3). Each sees twice as far as the one
    before, and has a dropout rate of 0.3."""

    def __post_init__(self) -> None:
        check_integer("n_residual", plain(self.n_residual), 0, 8)

    def fields(self) -> dict[str, Any]:
        """The fields of :class:`titans_ts.config.SequenceConfig` that are set here."""
        return {
            "tokenizer": "residual",
            "kernel_size": self.kernel_size,
            "n_filters": self.n_filters,
            "n_residual": self.n_residual,
        }


@dataclass(frozen=True, repr=False)
class KmerTokenizer(Options):
    """A token is the sum of the vectors of the k-mers that it contains."""

    k: int | None = None
    """Letters of a k-mer, at most 10. None (default): 6, or `stride` if that is larger."""
    gaps: int = SequenceConfig.gaps
    """Letters that a k-mer may skip; a token is the sum over all gapped k-mers."""
    all_offsets: bool = SequenceConfig.all_offsets
    """Whether a token sees the k-mers that end at each of its letters, or only those at its last letter.
    For coding sequences with a `stride` of 3, the latter keeps the reading frame."""

    def fields(self) -> dict[str, Any]:
        """The fields of :class:`titans_ts.config.SequenceConfig` that are set here."""
        return {
            "tokenizer": "kmer",
            "kernel_size": self.k,
            "gaps": self.gaps,
            "all_offsets": self.all_offsets,
        }


@dataclass(frozen=True, repr=False)
class BPETokenizer(Options):
    """Byte-pair encoding: tokens are frequent strings, learned from the training sequences."""

    n_merges: int = 1000
    """Number of merges (default 1000), which is about the size of the vocabulary."""

    def fields(self) -> dict[str, Any]:
        """The fields of :class:`titans_ts.config.SequenceConfig` that are set here."""
        return {"tokenizer": "bpe"}


@dataclass(frozen=True, repr=False)
class KmerModel(Options):
    """A linear model of k-mer counts that is ensembled with the network."""

    k: int = 6
    """Letters of a k-mer, 1 to 10 (default 6)."""
    gaps: int = 0
    """Letters that a k-mer may skip, 0 to 10 (default 0); 2 is usual for gapped k-mers."""
    positions: int = 0
    """Letters, from the start, whose positions matter: the pairs of letters at each of them, and 4-mers
    in sixteen parts of them, are features too, 0 to 2000 (default 0). For sequences of one length that
    are aligned, such as promoters or splice sites."""

    def __post_init__(self) -> None:
        for name, low, high in (("k", 1, 10), ("gaps", 0, 10), ("positions", 0, 2000)):
            check_integer(name, plain(getattr(self, name)), low, high)


TOKENIZER_OPTIONS: dict[str, type[Any]] = {
    "nucleotide": NucleotideTokenizer,
    "conv": ConvTokenizer,
    "residual": ResidualTokenizer,
    "kmer": KmerTokenizer,
    "bpe": BPETokenizer,
}
"""The options of every tokenizer, by the key of `titans_ts.nn.DNA_TOKENIZERS`."""


def read_tokenizer(value: Any) -> Any:
    """Return the options of a tokenizer; a name gives the default options.

    Raises
    ------
    ValueError
        If the value is neither a known name nor an options object.
    """
    if isinstance(value, tuple(TOKENIZER_OPTIONS.values())):
        return value
    if not isinstance(value, str) or value not in TOKENIZER_OPTIONS:
        classes = ", ".join(kind.__name__ for kind in TOKENIZER_OPTIONS.values())
        raise ValueError(
            f"tokenizer is {value!r}; choose one of {sorted(TOKENIZER_OPTIONS)}, or give one of "
            f"{classes}"
        )
    return TOKENIZER_OPTIONS[value]()


def read_kmer_model(value: Any) -> KmerModel | None:
    """Return the options of a k-mer model; an int is its k, and None means no model.

    Raises
    ------
    ValueError
        If the value has another type, or its options are out of range.
    """
    if value is None or isinstance(value, KmerModel):
        return value
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return KmerModel(int(value))
    raise ValueError(f"kmer_model is {value!r}; give a KmerModel, its k, or None for no model")
