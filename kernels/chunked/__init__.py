"""The memory as matrix products in PyTorch, on any device and of any depth."""

from titans_ts.kernels.chunked.op import compute, uncovered

__all__ = ["compute", "uncovered"]
