"""Layers: the neural memory, attention, the Titans blocks, tokenizers, heads and whole models."""

from titans_ts.nn.attention import SegmentAttention, SlidingWindowAttention, VariateAttention
from titans_ts.nn.backbone import BackboneOutput, TitansBackbone
from titans_ts.nn.blocks import BLOCKS, Block, Mixer, MixerOutput
from titans_ts.nn.checkpoint import load_model, load_state, save_model, save_state
from titans_ts.nn.dna.model import DIRECTIONS, STRANDS, SequenceModel
from titans_ts.nn.dna.nucleotides import SOFT_MASKED
from titans_ts.nn.dna.pooling import POOLINGS
from titans_ts.nn.dna.tokenizers import DNA_TOKENIZERS, DNATokenizer
from titans_ts.nn.memory import NeuralMemory, NeuralMemoryOutput, NeuralMemoryState
from titans_ts.nn.memory_use import MemoryObserver, write_off
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.nn.series.outputs import OUTPUTS
from titans_ts.nn.series.scalers import SCALERS
from titans_ts.nn.series.tokenizers import TOKENS, PatchTokenizer, VariateTokenizer
from titans_ts.nn.single_token import explain
from titans_ts.nn.state import detach_state

__all__ = [
    "BLOCKS",
    "DIRECTIONS",
    "DNA_TOKENIZERS",
    "OUTPUTS",
    "POOLINGS",
    "SCALERS",
    "SOFT_MASKED",
    "STRANDS",
    "TOKENS",
    "BackboneOutput",
    "Block",
    "DNATokenizer",
    "ForecastingModel",
    "MemoryObserver",
    "Mixer",
    "MixerOutput",
    "NeuralMemory",
    "NeuralMemoryOutput",
    "NeuralMemoryState",
    "PatchTokenizer",
    "SegmentAttention",
    "SequenceModel",
    "SlidingWindowAttention",
    "TitansBackbone",
    "VariateAttention",
    "VariateTokenizer",
    "detach_state",
    "explain",
    "load_model",
    "load_state",
    "save_model",
    "save_state",
    "write_off",
]
