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
    "read_and_write_backward",
    "rows_of",
    "silu",
    "square_tile",
    "token_tile",
    "when",
    "write",
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
def read_and_write_backward(
    x,
    e,
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
    D,
    C_last,
    beta_last,
    carry_last,
    decay,
    READ: tl.constexpr,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Back through `read` and `write`.

    Takes the gradients of z and of the weights and momentum after the chunk. Returns those of x, e and y;
    of w, m and w0 (added to `d_w0`); of beta, carry, D and C's last row, `[BT]`; and of the last beta
    and carry and the decay.
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
    d_D = tl.zeros_like(beta)
    if MOMENTUM:
        along = dot(x, dm, PRECISION)
        de -= D[:, None] * along
        d_D -= tl.sum(along * e, 1)
        dx -= D[:, None] * dot(e, tl.trans(dm), PRECISION)
        d_carry_last = tl.sum(dw * m)
        d_decay = tl.sum(dm * m)
        dm = decay * dm + carry_last * dw
    dw = beta_last * dw

    d_beta = tl.zeros_like(beta)
    d_carry = tl.zeros_like(beta)
    dy = tl.zeros_like(x)
    if READ:
        dy = beta[:, None] * dot(dz, tl.trans(w), PRECISION)
        dw += dot(tl.trans(y), beta[:, None] * dz, PRECISION)
        d_beta = tl.sum(dz * dot(y, moved, PRECISION), 1)
        if TO_INITIAL:
            dy += (1 - beta)[:, None] * dot(dz, tl.trans(w0), PRECISION)
            d_w0 += dot(tl.trans(y), (1 - beta)[:, None] * dz, PRECISION)
        if MOMENTUM:
            dy += carry[:, None] * dot(dz, tl.trans(m), PRECISION)
            dm += dot(tl.trans(y), carry[:, None] * dz, PRECISION)
            d_carry = tl.sum(dz * dot(y, m, PRECISION), 1)
    return (
        dx,
        de,
        dy,
        dw,
        dm,
        d_w0,
        d_beta,
        d_carry,
        d_D,
        d_C_last,
        d_beta_last,
        d_carry_last,
        d_decay,
    )
