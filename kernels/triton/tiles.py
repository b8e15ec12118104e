"""What the Triton kernels of the memory share: a chunk's tokens and shares, and one layer's part in it.

A program works for one memory, n = b H + h, and one chunk c at a time. The chunk's tokens are rows
`i` of `[BT, d]` tiles, BT a power of two of at least 16; row i is slot `c CHUNK + i - offset`.
Rows past the chunk, before the first slot and after the last are loaded as 0 and never stored. Names are
those of `README.md`: x and e are a layer's inputs and errors, y its queries, z what it answers.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import itertools
import os

import triton
import triton.language as tl

__all__ = [
    "anchor_tile",
    "chunk_shares",
    "dot",
    "launches",
    "read",
    "read_backward",
    "row_after",
    "rows_of",
    "shares_before",
    "silu",
    "square_tile",
    "square_tile_before",
    "token_tile",
    "unit_lower_inverse",
    "when",
    "write",
    "write_backward",
]


def launches(sizes, **tiles):
    """Configurations to try: every (warps, stages) with every tile size; interpreted, the last one.

    A kernel writes each of its results without reading what stood there, so it may be tried again and
    again. The chunk is no such tile: its length says where gradients are taken.
    """
    configs = [
        triton.Config(dict(zip(tiles, tile, strict=True)), num_warps=warps, num_stages=stages)
        for tile in itertools.product(*tiles.values())
        for warps, stages in sizes
    ]
    return configs[-1:] if os.environ.get("TRITON_INTERPRET", "0") == "1" else configs


@triton.jit
def rows_of(c, offset, N, CHUNK: tl.constexpr, BT: tl.constexpr):
    """The slots of a chunk's rows, and which of the rows are slots at all."""
    i = tl.arange(0, BT)
    t = c * CHUNK + i - offset
    return t, (i < CHUNK) & (t >= 0) & (t < N)


@triton.jit
def token_tile(t, valid, n, N, H, d, D: tl.constexpr):
    """Offsets and mask of `[BT, BD]` rows of tokens `[B, N, H, D]`, columns `d`."""
    row = ((n // H).to(tl.int64) * N + t) * H + n % H
    return row[:, None] * D + d[None, :], valid[:, None] & (d < D)[None, :]


@triton.jit
def square_tile(at_chunk, CHUNK: tl.constexpr, BT: tl.constexpr):
    """Offsets and mask of a chunk's C `[b, b]`."""
    i = tl.arange(0, BT)
    at = at_chunk * CHUNK * CHUNK + i[:, None] * CHUNK + i[None, :]
    return at, (i < CHUNK)[:, None] & (i < CHUNK)[None, :]


@triton.jit
def when(condition, mask):
    """The mask if a scalar condition holds, else nothing."""
    return tl.where(condition, mask, False)


@triton.jit
def anchor_tile(anchor, weights, at, mask, c):
    """Where chunk c takes its gradients: for the first the anchor, then the weights at its start.

    A stream cut inside a chunk continues with the rest of it: only there the two differ.
    """
    first = tl.load(anchor + at, mask=when(c == 0, mask), other=0.0)
    return first + tl.load(weights + at, mask=when(c > 0, mask), other=0.0)


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    """A product of float32 tiles, summed in float32."""
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def silu(z):
    """SiLU, its first and its second derivative."""
    sigma = tl.sigmoid(z)
    value = z * sigma
    return value, sigma + value * (1 - sigma), sigma * (1 - sigma) * (2 + z - 2 * value)


@triton.jit
def chunk_shares(
    rows, C, decay, at_chunk, part, CHUNK: tl.constexpr, BT: tl.constexpr, MOMENTUM: tl.constexpr
):
    """Beta, carry and D `[BT]`, the last row of C `[BT]`, the last beta and carry, and the decay."""
    i = tl.arange(0, BT)
    inside = i < CHUNK
    at = rows + at_chunk * CHUNK + i
    at_last = rows + at_chunk * CHUNK + CHUNK - 1
    beta = tl.load(at, mask=inside, other=0.0)
    C_last = tl.load(C + (at_chunk * CHUNK + CHUNK - 1) * CHUNK + i, mask=inside, other=0.0)
    beta_last = tl.load(at_last)
    if MOMENTUM:
        carry = tl.load(at + part, mask=inside, other=0.0)
        D = tl.load(at + 2 * part, mask=inside, other=0.0)
        carry_last = tl.load(at_last + part)
        decay_all = tl.load(decay + at_chunk)
    else:
        carry, D, carry_last, decay_all = beta, beta, beta_last, beta_last
    return beta, carry, D, C_last, beta_last, carry_last, decay_all


@triton.jit
def square_tile_before(at_chunk, CHUNK: tl.constexpr, BT: tl.constexpr):
    """As `square_tile`, of the row before: nothing in the first row."""
    i = tl.arange(0, BT)
    at, mask = square_tile(at_chunk, CHUNK, BT)
    return at - CHUNK, mask & (i > 0)[:, None]


@triton.jit
def shares_before(
    rows, at_chunk, part, CHUNK: tl.constexpr, BT: tl.constexpr, MOMENTUM: tl.constexpr
):
    """Beta and carry of the row before, `[BT]`: what is left of the chunk's start in M_{t-1}."""
    i = tl.arange(0, BT)
    inside = (i > 0) & (i < CHUNK)
    at = rows + at_chunk * CHUNK + i - 1
    beta = tl.where(i == 0, 1.0, tl.load(at, mask=inside, other=0.0))
    carry = beta
    if MOMENTUM:
        carry = tl.load(at + part, mask=inside, other=0.0)
    return beta, carry


@triton.jit
def row_after(x, BT: tl.constexpr):
    """Element i + 1 of x `[BT]` in place i, and 0 in the last."""
    i = tl.arange(0, BT)
    return tl.sum(tl.where(i[:, None] + 1 == i[None, :], x[None, :], 0.0), 1)


@triton.jit
def unit_lower_inverse(A, BT: tl.constexpr):
    """(I + A)^-1 for A `[BT, BT]` below the diagonal.

    The blocks on the diagonal double in size, from one row to all. If X and Y are the inverses of two
    neighbouring blocks, and Z is the block of A below the first and beside the second, then -Y Z X stands
    there in the inverse. In float32 this is about as accurate as substitution. A product of powers of A
    is not: `README.md` has the numbers.
    """
    DOUBLINGS: tl.constexpr = 4 if BT == 16 else (5 if BT == 32 else 6)
    i = tl.arange(0, BT)
    inverse = tl.where(i[:, None] == i[None, :], 1.0, 0.0)
    for level in range(0, DOUBLINGS):
        block = i >> level
        beside = (block[:, None] == block[None, :] + 1) & (block % 2 == 1)[:, None]
        below = dot(tl.where(beside, A, 0.0), inverse, "tf32x3")
        inverse -= dot(inverse, below, "tf32x3")
    return inverse


@triton.jit
def write(
    x,
    e,
    w,
    m,
    w0,
    D,
    C_last,
    beta_last,
    carry_last,
    decay,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A layer's weights and momentum after a chunk."""
    after = beta_last * w - dot(tl.trans(x), C_last[:, None] * e, PRECISION)
    if TO_INITIAL:
        after += (1 - beta_last) * w0
    if MOMENTUM:
        after += carry_last * m
        m = decay * m - dot(tl.trans(x), D[:, None] * e, PRECISION)
    return after, m


@triton.jit
def read(
    y,
    w,
    m,
    w0,
    beta,
    carry,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What a layer answers to y, without the chunk's own gradients."""
    z = beta[:, None] * dot(y, w, PRECISION)
    if TO_INITIAL:
        z += (1 - beta)[:, None] * dot(y, w0, PRECISION)
    if MOMENTUM:
        z += carry[:, None] * dot(y, m, PRECISION)
    return z


@triton.jit
def write_backward(
    x,
    e,
    w,
    m,
    w0,
    dw,
    dm,
    d_w0,
    D,
    C_last,
    beta_last,
    carry_last,
    decay,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Back through `write`.

    Takes the gradients of the weights and momentum after the chunk. Returns those of x and e; of w, m and
    w0 (added to `d_w0`); of D and C's last row, `[BT]`; and of the last beta and carry and the decay.
    """
    along = dot(x, dw, PRECISION)
    de = -C_last[:, None] * along
    d_C_last = -tl.sum(along * e, 1)
    dx = -C_last[:, None] * dot(e, tl.trans(dw), PRECISION)
    moved = w
    if TO_INITIAL:
        moved = w - w0
        d_w0 += (1 - beta_last) * dw
    d_beta_last = tl.sum(dw * moved)
    d_carry_last = 0.0
    d_decay = 0.0
    d_D = tl.zeros_like(D)
    if MOMENTUM:
        along = dot(x, dm, PRECISION)
        de -= D[:, None] * along
        d_D -= tl.sum(along * e, 1)
        dx -= D[:, None] * dot(e, tl.trans(dm), PRECISION)
        d_carry_last = tl.sum(dw * m)
        d_decay = tl.sum(dm * m)
        dm = decay * dm + carry_last * dw
    dw = beta_last * dw
    return dx, de, dw, dm, d_w0, d_D, d_C_last, d_beta_last, d_carry_last, d_decay


@triton.jit
def read_backward(
    y,
    dz,
    w,
    m,
    w0,
    dw,
    dm,
    d_w0,
    beta,
    carry,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Back through `read`.

    Takes the gradient of z. Returns those of y; of w, m and w0 (added to `dw`, `dm` and `d_w0`); and of
    beta and carry, `[BT]`.
    """
    dy = beta[:, None] * dot(dz, tl.trans(w), PRECISION)
    dw += dot(tl.trans(y), beta[:, None] * dz, PRECISION)
    moved = w
    d_carry = tl.zeros_like(beta)
    if TO_INITIAL:
        moved = w - w0
        dy += (1 - beta)[:, None] * dot(dz, tl.trans(w0), PRECISION)
        d_w0 += dot(tl.trans(y), (1 - beta)[:, None] * dz, PRECISION)
    d_beta = tl.sum(dz * dot(y, moved, PRECISION), 1)
    if MOMENTUM:
        dy += carry[:, None] * dot(dz, tl.trans(m), PRECISION)
        dm += dot(tl.trans(y), carry[:, None] * dz, PRECISION)
        d_carry = tl.sum(dz * dot(y, m, PRECISION), 1)
    return dy, dw, dm, d_w0, d_beta, d_carry
