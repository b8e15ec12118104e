"""The memory as Triton kernels, on a GPU."""

from titans_ts.kernels.triton.op import compute, uncovered

__all__ = ["compute", "uncovered"]
