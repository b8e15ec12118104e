"""DNA tokenizers: they turn the letters of a sequence into tokens.

A tokenizer maps codes `[B, T]` (:mod:`titans_ts.nn.dna.nucleotides`) to tokens `[B, N, D]` and a mask of
the tokens that are present, `[B, N]`. All except "bpe" make one token for every `stride` letters, from
these letters and some before them, so a sequence can be read in pieces. A new tokenizer is a class and
an entry of `DNA_TOKENIZERS`.
"""

from __future__ import annotations

from titans_ts.nn.dna.tokenizers.base import DNATokenizer, StridedTokenizer
from titans_ts.nn.dna.tokenizers.bpe import BPETokens, learn_merges
from titans_ts.nn.dna.tokenizers.conv import ConvTokens
from titans_ts.nn.dna.tokenizers.kmer import KmerTokens
from titans_ts.nn.dna.tokenizers.nucleotide import NucleotideTokens
from titans_ts.nn.dna.tokenizers.residual import ResidualTokens

__all__ = [
    "DNA_TOKENIZERS",
    "BPETokens",
    "ConvTokens",
    "DNATokenizer",
    "KmerTokens",
    "NucleotideTokens",
    "ResidualTokens",
    "StridedTokenizer",
    "learn_merges",
]

DNA_TOKENIZERS: dict[str, type[DNATokenizer]] = {
    "nucleotide": NucleotideTokens,
    "conv": ConvTokens,
    "residual": ResidualTokens,
    "kmer": KmerTokens,
    "bpe": BPETokens,
}
"""The DNA tokenizers by name."""
