"""The memory as Triton kernels, on a GPU."""

from titans_ts.kernels.triton.op import triton_memory, uncovered

__all__ = ["triton_memory", "uncovered"]
