"""The memory compiled from C, on a CPU."""

from titans_ts.kernels.native.op import compute, uncovered

__all__ = ["compute", "uncovered"]
