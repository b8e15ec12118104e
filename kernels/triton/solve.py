"""Triton: how a linear memory's errors at every token depend on each other within a chunk, and back.

With errors taken just before each token, what a token writes is in the errors of the tokens after it:
E = 2 (Z - A E - V), A = (K K^T) o C_before, and A is below the diagonal (C is positive here). The inverse
of I + 2 A depends on keys and gates only. So all chunks are inverted at once, before the walk over them
begins, and the walk multiplies by `inverse [B H, NC, b, b]`.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from titans_ts.kernels.triton.tiles import (
    dot,
    rows_of,
    square_tile,
    square_tile_before,
    token_tile,
    unit_lower_inverse,
)

__all__ = ["solve_backward", "solve_forward"]


@triton.jit(do_not_specialize=["N", "NC", "offset"])
def solve_forward(
    k,
    C,
    inverse,
    N,
    H,
    NC,
    offset,
    K: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
):
    """Grid `(B H NC,)`: the inverse of one chunk's I + 2 A."""
    at_chunk = tl.program_id(0).to(tl.int64)
    n, c = at_chunk // NC, at_chunk % NC
    t, valid = rows_of(c, offset, N, CHUNK, BT)
    at_k, mask_k = token_tile(t, valid, n, N, H, tl.arange(0, BK), K)
    keys = tl.load(k + at_k, mask=mask_k, other=0.0).to(tl.float32)
    at_before, mask_before = square_tile_before(at_chunk, CHUNK, BT)
    share = tl.load(C + at_before, mask=mask_before, other=0.0)
    A = dot(keys, tl.trans(keys), "tf32x3") * share
    at_C, mask_C = square_tile(at_chunk, CHUNK, BT)
    tl.store(inverse + at_C, unit_lower_inverse(2 * A, BT), mask=mask_C)


@triton.jit(do_not_specialize=["N", "NC", "offset"])
def solve_backward(
    k,
    C,
    dA,
    dk,
    dC,
    N,
    H,
    NC,
    offset,
    PARTS: tl.constexpr,
    K: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
):
    """Grid `(B H NC,)`: from `PARTS` addends of the gradient of A to those of keys and C.

    They are added to what the walk left in the first part of `dk` and of `dC`.
    """
    at_chunk = tl.program_id(0).to(tl.int64)
    n, c = at_chunk // NC, at_chunk % NC
    part = tl.num_programs(0).to(tl.int64) * CHUNK * CHUNK
    t, valid = rows_of(c, offset, N, CHUNK, BT)
    at_k, mask_k = token_tile(t, valid, n, N, H, tl.arange(0, BK), K)
    keys = tl.load(k + at_k, mask=mask_k, other=0.0).to(tl.float32)
    at_C, mask_C = square_tile(at_chunk, CHUNK, BT)
    d_A = tl.zeros([BT, BT], tl.float32)
    for p in tl.static_range(PARTS):
        d_A += tl.load(dA + p * part + at_C, mask=mask_C, other=0.0)
    at_before, mask_before = square_tile_before(at_chunk, CHUNK, BT)
    d_C = tl.load(dC + at_before, mask=mask_before, other=0.0)
    d_C += d_A * dot(keys, tl.trans(keys), "tf32x3")
    tl.store(dC + at_before, d_C, mask=mask_before)
    d_A *= tl.load(C + at_before, mask=mask_before, other=0.0)
    d_keys = tl.load(dk + at_k, mask=mask_k, other=0.0)
    d_keys += dot(d_A + tl.trans(d_A), keys, "tf32x3")
    tl.store(dk + at_k, d_keys, mask=mask_k)
