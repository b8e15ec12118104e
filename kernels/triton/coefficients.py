"""Triton: with which shares a chunk's start and its tokens' gradients enter every M_t, and back.

One program for every memory and chunk: all chunks at once, before the walk over them begins, so that
nothing of this lies on the sequential path. The matrices LA and LH of `README.md` are cumulative
products of the gates down the rows: exact with gates at 0 and 1, no logarithm and no quotient.

Results: `C [B H, NC, b, b]`, lower triangular; `rows [3, B H, NC, b]`, which are beta, carry and D; and
`decay [B H, NC]`. These b + 3 numbers a token and head are what is paid for it in memory.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from titans_ts.kernels.triton.tiles import dot, rows_of

__all__ = ["shares_backward", "shares_forward"]


@triton.jit
def _gate(gate, t, valid, n, N, H, OTHER: tl.constexpr):
    """A gate `[B, N, H]` of a chunk's rows, in float32, and `OTHER` where no token is."""
    at = ((n // H) * N + t) * H + n % H
    value = tl.load(gate + at, mask=valid, other=0.0).to(tl.float32)
    return tl.where(valid, value, OTHER)


@triton.jit
def _present(present, t, valid, n, N, H, PRESENT: tl.constexpr):
    """Which rows hold a token."""
    if PRESENT:
        valid = valid & (tl.load(present + (n // H) * N + t, mask=valid, other=0) != 0)
    return valid


@triton.jit
def _decays(g, BT: tl.constexpr):
    """The products of g over rows s + 1 .. t, `[t, s]` for t >= s, and over rows 0 .. t."""
    i = tl.arange(0, BT)
    below = i[:, None] > i[None, :]
    product = tl.cumprod(tl.where(below, g[:, None], 1.0), 0)
    return tl.where(i[:, None] >= i[None, :], product, 0.0), tl.cumprod(g, 0)


@triton.jit
def _decays_backward(L, dL, d_total, g_before, BT: tl.constexpr, PRECISION: tl.constexpr):
    """Gradient of g `[BT]` from those of what `_decays(g)` returned; `g_before` is g a row later.

    L[t, s] = L[t, j] g_j L[j - 1, s] for every j between, so that no quotient is needed.
    """
    i = tl.arange(0, BT)
    before = tl.where(i[:, None] - 1 > i[None, :], g_before[:, None], 1.0)
    before = tl.where(i[:, None] > i[None, :], tl.cumprod(before, 0), 0.0)  # L[j - 1, s]
    after = dot(tl.trans(L), dL, PRECISION)  # [j, s]
    whole = tl.sum(L * d_total[:, None], 0) * tl.cumprod(g_before, 0)
    return tl.sum(after * before, 1) + whole


@triton.jit(do_not_specialize=["N", "NC", "offset"])
def shares_forward(
    forget,
    momentum,
    lr,
    present,
    C,
    rows,
    decay,
    N,
    H,
    NC,
    offset,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    FORGET: tl.constexpr,
    MOMENTUM: tl.constexpr,
    PRESENT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid `(B H NC,)`: one chunk's shares."""
    at_chunk = tl.program_id(0).to(tl.int64)
    n, c = at_chunk // NC, at_chunk % NC
    part = tl.num_programs(0).to(tl.int64) * CHUNK
    i = tl.arange(0, BT)
    t, valid = rows_of(c, offset, N, CHUNK, BT)
    valid = _present(present, t, valid, n, N, H, PRESENT)
    theta = _gate(lr, t, valid, n, N, H, 0.0)
    keep = tl.full([BT], 1.0, tl.float32)
    if FORGET:
        keep = 1 - _gate(forget, t, valid, n, N, H, 0.0)
    LA, beta = _decays(keep, BT)
    LA = tl.where(valid[None, :], LA, 0.0)  # M takes its share of S only where a token is
    inside = i < CHUNK
    at_rows = rows + at_chunk * CHUNK + i
    tl.store(at_rows, beta, mask=inside)
    if MOMENTUM:
        eta = _gate(momentum, t, valid, n, N, H, 1.0)
        LH, total = _decays(eta, BT)
        last = tl.sum(tl.where(i[:, None] == BT - 1, LH, 0.0), 0)
        tl.store(at_rows + part, tl.sum(LA * total[None, :], 1), mask=inside)
        tl.store(at_rows + 2 * part, last * theta, mask=inside)
        tl.store(decay + at_chunk, tl.sum(tl.where(i == BT - 1, total, 0.0), 0))
        LA = dot(LA, LH, PRECISION)
    at_C = C + at_chunk * CHUNK * CHUNK + i[:, None] * CHUNK + i[None, :]
    tl.store(at_C, LA * theta[None, :], mask=inside[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["N", "NC", "offset"])
def shares_backward(
    forget,
    momentum,
    lr,
    present,
    dC,
    d_rows,
    d_decay,
    d_forget,
    d_momentum,
    d_lr,
    N,
    H,
    NC,
    offset,
    PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    FORGET: tl.constexpr,
    MOMENTUM: tl.constexpr,
    PRESENT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid `(B H NC,)`: gradients of the gates from `PARTS` addends of those of the shares."""
    at_chunk = tl.program_id(0).to(tl.int64)
    n, c = at_chunk // NC, at_chunk % NC
    chunks = tl.num_programs(0).to(tl.int64)
    i = tl.arange(0, BT)
    t, valid = rows_of(c, offset, N, CHUNK, BT)
    present_rows = _present(present, t, valid, n, N, H, PRESENT)
    t_before, valid_before = rows_of(c, offset + 1, N, CHUNK, BT)  # one row later
    valid_before = valid_before & (i > 0)
    before_rows = _present(present, t_before, valid_before, n, N, H, PRESENT)

    inside = i < CHUNK
    square = inside[:, None] & inside[None, :] & (i[:, None] >= i[None, :])
    d_C = tl.zeros([BT, BT], tl.float32)
    d_beta = tl.zeros([BT], tl.float32)
    d_carry = tl.zeros([BT], tl.float32)
    d_D = tl.zeros([BT], tl.float32)
    d_all = 0.0
    for part in tl.static_range(PARTS):
        at = part * chunks + at_chunk
        at_C = dC + at * CHUNK * CHUNK + i[:, None] * CHUNK + i[None, :]
        d_C += tl.load(at_C, mask=square, other=0.0)
        at_rows = d_rows + (3 * part * chunks + at_chunk) * CHUNK + i
        d_beta += tl.load(at_rows, mask=inside, other=0.0)
        if MOMENTUM:
            d_carry += tl.load(at_rows + chunks * CHUNK, mask=inside, other=0.0)
            d_D += tl.load(at_rows + 2 * chunks * CHUNK, mask=inside, other=0.0)
            d_all += tl.load(d_decay + at)

    theta = _gate(lr, t, present_rows, n, N, H, 0.0)
    keep = tl.full([BT], 1.0, tl.float32)
    if FORGET:
        keep = 1 - _gate(forget, t, present_rows, n, N, H, 0.0)
    whole, _ = _decays(keep, BT)
    LA = tl.where(present_rows[None, :], whole, 0.0)
    dP = d_C * theta[None, :]
    at = ((n // H) * N + t) * H + n % H
    if MOMENTUM:
        eta = _gate(momentum, t, present_rows, n, N, H, 1.0)
        LH, total = _decays(eta, BT)
        last = i[:, None] == BT - 1
        d_theta = tl.sum(d_C * dot(LA, LH, PRECISION), 0)
        d_theta += d_D * tl.sum(tl.where(last, LH, 0.0), 0)
        dLH = dot(tl.trans(LA), dP, PRECISION) + tl.where(last, (d_D * theta)[None, :], 0.0)
        d_total = tl.sum(LA * d_carry[:, None], 0) + tl.where(i == BT - 1, d_all, 0.0)
        before = _gate(momentum, t_before, before_rows, n, N, H, 1.0)
        d_eta = _decays_backward(LH, dLH, d_total, before, BT, PRECISION)
        tl.store(d_momentum + at, tl.where(present_rows, d_eta, 0.0), mask=valid)
        dP = dot(dP, tl.trans(LH), PRECISION) + d_carry[:, None] * total[None, :]
    else:
        d_theta = tl.sum(d_C * LA, 0)
    tl.store(d_lr + at, tl.where(present_rows, d_theta, 0.0), mask=valid)
    if FORGET:
        dP = tl.where(present_rows[None, :] & (i[:, None] >= i[None, :]), dP, 0.0)
        before = 1 - _gate(forget, t_before, before_rows, n, N, H, 0.0)
        d_keep = _decays_backward(whole, dP, d_beta, before, BT, PRECISION)
        tl.store(d_forget + at, tl.where(present_rows, -d_keep, 0.0), mask=valid)
