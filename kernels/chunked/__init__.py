"""The memory as matrix products in PyTorch, on any device and of any depth."""

from titans_ts.kernels.chunked.op import chunked_memory
from titans_ts.kernels.chunked.step import step_memory

__all__ = ["chunked_memory", "step_memory"]
