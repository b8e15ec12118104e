"""Genomics: the estimators for DNA sequences and the tools that read genomes with them."""

from titans_ts.genomics.classifier import TitansClassifier
from titans_ts.genomics.embedding import SequenceEmbedding
from titans_ts.genomics.options import (
    BPETokenizer,
    ConvTokenizer,
    KmerModel,
    KmerTokenizer,
    NucleotideTokenizer,
    ResidualTokenizer,
)
from titans_ts.genomics.regressor import TitansRegressor
from titans_ts.genomics.surprisal import nucleotide_surprisal

__all__ = [
    "BPETokenizer",
    "ConvTokenizer",
    "KmerModel",
    "KmerTokenizer",
    "NucleotideTokenizer",
    "ResidualTokenizer",
    "SequenceEmbedding",
    "TitansClassifier",
    "TitansRegressor",
    "nucleotide_surprisal",
]
