"""Layers: the neural memory, attention, the Titans blocks, tokenizers, heads and whole models."""
