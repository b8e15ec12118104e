"""Layers: the neural memory, attention, the Titans blocks, tokenizers, heads and whole models."""

from titans_ts.nn.attention import SegmentAttention, SlidingWindowAttention, VariateAttention
from titans_ts.nn.backbone import BackboneOutput, TitansBackbone
from titans_ts.nn.blocks import BLOCKS, Block, Mixer, MixerOutput
from titans_ts.nn.checkpoint import load_model, load_state, save_model, save_state
from titans_ts.nn.memory import NeuralMemory, NeuralMemoryOutput, NeuralMemoryState
from titans_ts.nn.models import STRANDS, ForecastingModel, SequenceClassifier
from titans_ts.nn.outputs import OUTPUTS
from titans_ts.nn.scalers import SCALERS
from titans_ts.nn.state import detach_state
from titans_ts.nn.tokenizers import (
    DNA_TOKENIZERS,
    TOKENS,
    NucleotideTokenizer,
    PatchTokenizer,
    VariateTokenizer,
)

__all__ = [
    "BLOCKS",
    "DNA_TOKENIZERS",
    "OUTPUTS",
    "SCALERS",
    "STRANDS",
    "TOKENS",
    "BackboneOutput",
    "Block",
    "ForecastingModel",
    "Mixer",
    "MixerOutput",
    "NeuralMemory",
    "NeuralMemoryOutput",
    "NeuralMemoryState",
    "NucleotideTokenizer",
    "PatchTokenizer",
    "SegmentAttention",
    "SequenceClassifier",
    "SlidingWindowAttention",
    "TitansBackbone",
    "VariateAttention",
    "VariateTokenizer",
    "detach_state",
    "load_model",
    "load_state",
    "save_model",
    "save_state",
]
