"""Models of DNA: nucleotide codes, tokenizers, poolings, sequence and language models."""

from titans_ts.nn.dna.model import DIRECTIONS, STRANDS, SequenceModel
from titans_ts.nn.dna.nucleotides import SOFT_MASKED
from titans_ts.nn.dna.pooling import POOLINGS
from titans_ts.nn.dna.tokenizers import DNA_TOKENIZERS, DNATokenizer

__all__ = [
    "DIRECTIONS",
    "DNA_TOKENIZERS",
    "POOLINGS",
    "SOFT_MASKED",
    "STRANDS",
    "DNATokenizer",
    "SequenceModel",
]
