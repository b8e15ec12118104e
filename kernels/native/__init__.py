"""The memory compiled from C, on a CPU."""

from titans_ts.kernels.native.op import native_memory, uncovered_by_native

__all__ = ["native_memory", "uncovered_by_native"]
