"""The minimal number of multiply-adds of a memory and of a transformer layer.

A product of `[rows, inner]` with `[inner, columns]` costs rows * inner * columns multiply-adds, two
floating-point operations each. benchmarks/README.md derives the list. It omits everything except
products with weights or between tokens (activations, norms, gates' sigmoids) for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = [
    "Product",
    "chunk_products",
    "least_bytes",
    "memory_layer_operations",
    "memory_operations",
    "transformer_layer_operations",
]

FORWARD_AND_BACKWARD = 3
"""A product's backward is two products of its size, one per factor; nothing is computed twice."""


class Product(NamedTuple):
    """`times` products of `[rows, inner]` with `[inner, columns]`."""

    name: str
    times: int
    rows: int
    inner: int
    columns: int
    triangular: bool = False
    """Whether only the lower triangle of the tokens' `[b, b]` side counts."""

    def multiply_adds(self, needed_only: bool = False) -> float:
        """Return their number; with `needed_only`, a triangle counts as one half."""
        half = 0.5 if needed_only and self.triangular else 1
        return half * self.times * self.rows * self.inner * self.columns


def chunk_products(
    widths: Sequence[int], chunk: int, momentum: bool = True, towards_initial: bool = True
) -> Iterator[Product]:
    """Yield the products of one chunk's forward pass, for one memory (a head of a sample).

    Parameters
    ----------
    widths : sequence of int
        Widths of the memory's MLP: of a key, of the hidden layers, of a value.
    chunk : int
        b, the number of tokens in a chunk.
    momentum, towards_initial : bool
        Whether the memory has momentum, and whether it forgets towards M_0.
    """
    parts = 1 + momentum + towards_initial  # the parts of a read: W, S and M_0
    for layer, (d_in, d_out) in enumerate(pairwise(widths)):
        yield Product("keys forward", 1, chunk, d_in, d_out)
        if layer:
            yield Product("errors back", 1, chunk, d_out, d_in)
        yield Product("reads", parts, chunk, d_in, d_out)
        yield Product("queries with keys", 1, chunk, d_in, chunk, triangular=True)
        yield Product("shares with errors", 1, chunk, chunk, d_out, triangular=True)
        yield Product("writes", 1 + momentum, d_in, chunk, d_out)
    # The coefficients of M_t follow from those of M_{t-1}: b numbers per token, for S and for M.
    yield Product("shares", 1 + momentum, chunk, 1, chunk, triangular=True)


def memory_operations(
    widths: Sequence[int],
    tokens: int,
    chunk: int,
    *,
    backward: bool = True,
    needed_only: bool = False,
    momentum: bool = True,
    towards_initial: bool = True,
) -> float:
    """Count the floating-point operations of one memory on `tokens` tokens.

    Parameters
    ----------
    widths : sequence of int
        As for :func:`chunk_products`.
    tokens, chunk : int
        T and b.
    backward : bool
        Whether to include the backward pass (without computing anything twice).
    needed_only : bool
        Whether triangular matrices count as one half; matrix products compute all of them.
    momentum, towards_initial : bool
        As for :func:`chunk_products`.
    """
    products = chunk_products(widths, chunk, momentum, towards_initial)
    chunks = tokens / chunk
    passes = FORWARD_AND_BACKWARD if backward else 1
    return 2 * passes * chunks * sum(p.multiply_adds(needed_only) for p in products)


def memory_layer_operations(
    d_model: int,
    heads: int,
    tokens: int,
    chunk: int,
    *,
    depth: int = 2,
    expansion: int = 2,
    conv: int = 4,
    backward: bool = True,
    needed_only: bool = False,
) -> float:
    """Count the operations of a memory layer on one sequence: projections, convolutions, memories."""
    width = d_model // heads
    widths = [width, *[expansion * width] * (depth - 1), width]
    # q, k, v, gate and output projection; three convolutions; three gates a head
    around = 5 * d_model**2 + 3 * conv * d_model + 3 * heads * d_model
    passes = FORWARD_AND_BACKWARD if backward else 1
    memory = memory_operations(widths, tokens, chunk, backward=backward, needed_only=needed_only)
    return 2 * passes * tokens * around + heads * memory


def transformer_layer_operations(
    d_model: int, tokens: int, *, feed_forward: int = 4, backward: bool = True
) -> float:
    """Count the operations of a causal transformer layer on one sequence; attention counts half."""
    dense = 4 * d_model**2 + 2 * feed_forward * d_model**2
    attention = 2 * d_model * tokens / 2  # scores and weighted values, per token
    passes = FORWARD_AND_BACKWARD if backward else 1
    return 2 * passes * tokens * (dense + attention)


def least_bytes(tokens: int, width: int, itemsize: int, *, backward: bool) -> int:
    """Return the bytes a memory must move: a pass reads each input once and writes each output once.

    Forward reads q, k, v and three gates, and writes y. Backward reads the same inputs and y's gradient,
    and writes their gradients.
    """
    vectors, gates = (3 + 1, 3) if not backward else (3 + 1 + 4 + 3, 3 + 3 + 3)
    return tokens * (vectors * width + gates) * itemsize
