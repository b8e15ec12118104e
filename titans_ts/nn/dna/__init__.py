"""Models of DNA: nucleotide codes, tokenizers, poolings, sequence and language models."""

from titans_ts.nn.dna.model import DIRECTIONS, STRANDS, SequenceModel
from titans_ts.nn.dna.nucleotides import LOWER_CASE
from titans_ts.nn.dna.pooling import READ_OUTS
from titans_ts.nn.dna.tokenizers import DNA_TOKENIZERS, DNATokenizer

__all__ = [
    "DIRECTIONS",
    "DNA_TOKENIZERS",
    "LOWER_CASE",
    "READ_OUTS",
    "STRANDS",
    "DNATokenizer",
    "SequenceModel",
]
