"""The neural long-term memory as pure functions on tensors; `README.md` has the mathematics."""

from titans_ts.kernels.call import MemoryCall
from titans_ts.kernels.dispatch import IMPLEMENTATIONS, explain, neural_memory, read_memory
from titans_ts.kernels.reference import loss_gradient
from titans_ts.kernels.state import MemoryOutput, MemoryState, Weights, initial_state

__all__ = [
    "IMPLEMENTATIONS",
    "MemoryCall",
    "MemoryOutput",
    "MemoryState",
    "Weights",
    "explain",
    "initial_state",
    "loss_gradient",
    "neural_memory",
    "read_memory",
]
