"""Triton: the linear memory (L_M = 1), forward and backward.

The columns of a linear memory do not know of each other: M(k) - v needs column j of M for its entry
j alone. So a program takes one memory and `BV` of its columns, and walks over the chunks with the
weights and the momentum in registers. What is a sum over columns (the square of the surprise, and
the gradients of keys, queries and shares) is written a program at a time, and added up afterwards.

With errors just before each token (`ONLINE`), E = T 2 (Z - V): T is the inverse that `solve.py` computes,
and Z the part of K M_{t-1} that comes from before the chunk. The anchor has no part in it.

Layouts: tokens `[B, N, H, d]`, memories `[B H, K, V]`, M_0 `[H, K, V]`; shares as in `coefficients.py`.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from titans_ts.kernels.triton.tiles import (
    chunk_shares,
    dot,
    launches,
    read,
    read_backward,
    row_after,
    rows_of,
    shares_before,
    square_tile,
    token_tile,
    when,
    write,
    write_backward,
)

__all__ = ["linear_backward", "linear_forward"]


@triton.jit
def _online_errors(
    keys,
    values,
    w,
    m,
    w0,
    inverse,
    rows,
    at_chunk,
    part,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The errors just before each token, T 2 (Z - V)."""
    beta, carry = shares_before(rows, at_chunk, part, CHUNK, BT, MOMENTUM)
    z = read(keys, w, m, w0, beta, carry, MOMENTUM, TO_INITIAL, PRECISION)
    at, mask = square_tile(at_chunk, CHUNK, BT)
    return dot(tl.load(inverse + at, mask=mask, other=0.0), 2 * (z - values), PRECISION)


@triton.autotune(
    launches(((4, 1), (4, 2), (8, 1), (8, 2))),
    key=["K", "V", "CHUNK", "READ", "MOMENTUM", "TO_INITIAL", "ONLINE", "PRECISION"],
)
@triton.jit(do_not_specialize=["N", "NC", "offset", "EVERY"])
def linear_forward(
    q,
    k,
    v,
    C,
    rows,
    decay,
    inverse,
    initial,
    weights,
    momentum,
    anchor,
    n_full,
    y,
    square,
    new_weights,
    new_momentum,
    new_anchor,
    saved,
    N,
    H,
    NC,
    offset,
    EVERY,
    K: tl.constexpr,
    V: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    READ: tl.constexpr,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    ONLINE: tl.constexpr,
    SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid `(B H, V / BV)`. Every `EVERY`-th boundary goes to `saved [.., 1 or 2, B H, K, V]`."""
    n, tile = tl.program_id(0), tl.program_id(1)
    dk, dv = tl.arange(0, BK), tile * BV + tl.arange(0, BV)
    memories = tl.num_programs(0).to(tl.int64)
    part = memories * NC * CHUNK
    size = memories * K * V
    PER: tl.constexpr = 2 if MOMENTUM else 1  # tensors a boundary
    at = dk[:, None] * V + dv[None, :]
    mask = (dk < K)[:, None] & (dv < V)[None, :]
    at_n = n.to(tl.int64) * K * V + at
    w = tl.load(weights + at_n, mask=mask, other=0.0)
    a = tl.load(anchor + at_n, mask=mask, other=0.0)
    m, w0 = w, w
    if MOMENTUM:
        m = tl.load(momentum + at_n, mask=mask, other=0.0)
    if TO_INITIAL:
        w0 = tl.load(initial + (n % H).to(tl.int64) * K * V + at, mask=mask, other=0.0)
    boundary = tl.load(n_full + n // H)  # chunks this sample fills; the anchor is what follows them
    tl.store(new_anchor + at_n, a, mask=when(boundary == 0, mask))

    for step in range(0, NC):
        c = tl.cast(step, tl.int32)  # interpreted, a loop counts in Python's integers
        at_chunk = n.to(tl.int64) * NC + c
        if SAVE:
            at_saved = size * PER * (c // EVERY - 1) + at_n
            now = when((c % EVERY == 0) & (c > 0), mask)
            tl.store(saved + at_saved, w, mask=now)
            if MOMENTUM:
                tl.store(saved + at_saved + size, m, mask=now)
        t, valid = rows_of(c, offset, N, CHUNK, BT)
        at_k, mask_k = token_tile(t, valid, n, N, H, dk, K)
        at_v, mask_v = token_tile(t, valid, n, N, H, dv, V)
        keys = tl.load(k + at_k, mask=mask_k, other=0.0).to(tl.float32)
        values = tl.load(v + at_v, mask=mask_v, other=0.0).to(tl.float32)
        if ONLINE:
            e = _online_errors(
                keys, values, w, m, w0, inverse, rows, at_chunk, part,
                CHUNK, BT, MOMENTUM, TO_INITIAL, PRECISION,
            )  # fmt: skip
        else:
            e = 2 * (dot(keys, a, PRECISION) - values)
        at_square = ((tile * (memories // H) + n // H) * N + t) * H + n % H
        tl.store(square + at_square, tl.sum(keys * keys, 1) * tl.sum(e * e, 1), mask=valid)
        beta, carry, D, C_last, beta_last, carry_last, all_decay = chunk_shares(
            rows, C, decay, at_chunk, part, CHUNK, BT, MOMENTUM
        )
        if READ:
            queries = tl.load(q + at_k, mask=mask_k, other=0.0).to(tl.float32)
            at_C, mask_C = square_tile(at_chunk, CHUNK, BT)
            share = tl.load(C + at_C, mask=mask_C, other=0.0)
            z = read(queries, w, m, w0, beta, carry, MOMENTUM, TO_INITIAL, PRECISION)
            z -= dot(dot(queries, tl.trans(keys), PRECISION) * share, e, PRECISION)
            tl.store(y + at_v, z, mask=mask_v)
        w, m = write(
            keys, e, w, m, w0, D, C_last, beta_last, carry_last, all_decay,
            MOMENTUM, TO_INITIAL, PRECISION,
        )  # fmt: skip
        a = w
        tl.store(new_anchor + at_n, w, mask=when(c + 1 == boundary, mask))

    tl.store(new_weights + at_n, w, mask=mask)
    if MOMENTUM:
        tl.store(new_momentum + at_n, m, mask=mask)


@triton.autotune(
    launches(((4, 1), (8, 1))),
    key=["K", "V", "CHUNK", "READ", "MOMENTUM", "TO_INITIAL", "ONLINE", "PRECISION"],
)
@triton.jit(do_not_specialize=["N", "NC", "offset", "EVERY"])
def linear_backward(
    q,
    k,
    v,
    C,
    rows,
    decay,
    inverse,
    initial,
    weights,
    momentum,
    anchor,
    n_full,
    saved,
    dy,
    d_square,
    d_new_weights,
    d_new_momentum,
    d_new_anchor,
    scratch,
    dA,
    dq,
    dk_out,
    dv_out,
    dC,
    d_rows,
    d_decay,
    d_initial,
    d_weights,
    d_momentum,
    d_anchor,
    N,
    H,
    NC,
    offset,
    EVERY,
    K: tl.constexpr,
    V: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    READ: tl.constexpr,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    ONLINE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid `(B H, V / BV)`. `scratch [EVERY, 1 or 2, B H, K, V]` holds a segment's boundaries."""
    n, tile = tl.program_id(0), tl.program_id(1)
    i, dk, dv = tl.arange(0, BT), tl.arange(0, BK), tile * BV + tl.arange(0, BV)
    memories = tl.num_programs(0).to(tl.int64)
    part = memories * NC * CHUNK
    batch_size = memories // H
    size = memories * K * V
    PER: tl.constexpr = 2 if MOMENTUM else 1
    inside = i < CHUNK
    at = dk[:, None] * V + dv[None, :]
    mask = (dk < K)[:, None] & (dv < V)[None, :]
    at_n = n.to(tl.int64) * K * V + at
    d_w0 = tl.zeros([BK, BV], tl.float32)
    w0 = d_w0
    if TO_INITIAL:
        w0 = tl.load(initial + (n % H).to(tl.int64) * K * V + at, mask=mask, other=0.0)
    boundary = tl.load(n_full + n // H)
    dw = tl.load(d_new_weights + at_n, mask=mask, other=0.0)
    dm = tl.zeros([BK, BV], tl.float32)
    if MOMENTUM:
        dm = tl.load(d_new_momentum + at_n, mask=mask, other=0.0)

    segments = (NC + EVERY - 1) // EVERY
    for s in range(0, segments):
        start = (segments - 1 - s) * EVERY
        count = tl.minimum(EVERY, NC - start)
        # The boundaries of this segment once more, from the saved one it starts with.
        at_saved = size * PER * (start // EVERY - 1) + at_n
        w = tl.load(weights + at_n, mask=when(start == 0, mask), other=0.0)
        w += tl.load(saved + at_saved, mask=when(start > 0, mask), other=0.0)
        m = w
        if MOMENTUM:
            m = tl.load(momentum + at_n, mask=when(start == 0, mask), other=0.0)
            m += tl.load(saved + at_saved + size, mask=when(start > 0, mask), other=0.0)
        for j in range(0, count):
            c = start + j
            at_chunk = n.to(tl.int64) * NC + c
            at_scratch = size * PER * j + at_n
            tl.store(scratch + at_scratch, w, mask=mask)
            if MOMENTUM:
                tl.store(scratch + at_scratch + size, m, mask=mask)
            t, valid = rows_of(c, offset, N, CHUNK, BT)
            at_k, mask_k = token_tile(t, valid, n, N, H, dk, K)
            at_v, mask_v = token_tile(t, valid, n, N, H, dv, V)
            keys = tl.load(k + at_k, mask=mask_k, other=0.0).to(tl.float32)
            values = tl.load(v + at_v, mask=mask_v, other=0.0).to(tl.float32)
            if ONLINE:
                e = _online_errors(
                    keys, values, w, m, w0, inverse, rows, at_chunk, part,
                    CHUNK, BT, MOMENTUM, TO_INITIAL, PRECISION,
                )  # fmt: skip
            else:
                a = tl.load(anchor + at_n, mask=when(c == 0, mask), other=0.0)
                a = tl.where(c == 0, a, w)
                e = 2 * (dot(keys, a, PRECISION) - values)
            beta, carry, D, C_last, beta_last, carry_last, all_decay = chunk_shares(
                rows, C, decay, at_chunk, part, CHUNK, BT, MOMENTUM
            )
            w, m = write(
                keys, e, w, m, w0, D, C_last, beta_last, carry_last, all_decay,
                MOMENTUM, TO_INITIAL, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()  # other threads read what was stored

        for j in range(0, count):
            c = start + count - 1 - j
            at_chunk = n.to(tl.int64) * NC + c
            at_scratch = size * PER * (c - start) + at_n
            # The final anchor is the weights after this chunk.
            dw += tl.load(d_new_anchor + at_n, mask=when(c + 1 == boundary, mask), other=0.0)
            w = tl.load(scratch + at_scratch, mask=mask, other=0.0)
            m = w
            if MOMENTUM:
                m = tl.load(scratch + at_scratch + size, mask=mask, other=0.0)
            t, valid = rows_of(c, offset, N, CHUNK, BT)
            at_k, mask_k = token_tile(t, valid, n, N, H, dk, K)
            at_v, mask_v = token_tile(t, valid, n, N, H, dv, V)
            keys = tl.load(k + at_k, mask=mask_k, other=0.0).to(tl.float32)
            values = tl.load(v + at_v, mask=mask_v, other=0.0).to(tl.float32)
            a = w
            if ONLINE:
                e = _online_errors(
                    keys, values, w, m, w0, inverse, rows, at_chunk, part,
                    CHUNK, BT, MOMENTUM, TO_INITIAL, PRECISION,
                )  # fmt: skip
            else:
                a = tl.load(anchor + at_n, mask=when(c == 0, mask), other=0.0)
                a = tl.where(c == 0, a, w)
                e = 2 * (dot(keys, a, PRECISION) - values)
            beta, carry, D, C_last, beta_last, carry_last, all_decay = chunk_shares(
                rows, C, decay, at_chunk, part, CHUNK, BT, MOMENTUM
            )
            d_keys, de, dw, dm, d_w0, d_D, d_C_last, d_beta_last, d_carry_last, d_all = (
                write_backward(
                    keys, e, w, m, w0, dw, dm, d_w0, D, C_last, beta_last, carry_last, all_decay,
                    MOMENTUM, TO_INITIAL, PRECISION,
                )
            )  # fmt: skip
            d_beta = tl.where(i == CHUNK - 1, d_beta_last, 0.0)
            d_carry = tl.where(i == CHUNK - 1, d_carry_last, 0.0)

            # What is read of the chunk's own gradients: - ((Q K^T) o C) E.
            at_C, mask_C = square_tile(at_chunk, CHUNK, BT)
            at_part = tile * part * CHUNK + at_C
            d_C = tl.where(i[:, None] == CHUNK - 1, d_C_last[None, :], 0.0)
            if READ:
                queries = tl.load(q + at_k, mask=mask_k, other=0.0).to(tl.float32)
                dz = tl.load(dy + at_v, mask=mask_v, other=0.0).to(tl.float32)
                d_queries, dw, dm, d_w0, d_beta_part, d_carry_part = read_backward(
                    queries, dz, w, m, w0, dw, dm, d_w0, beta, carry,
                    MOMENTUM, TO_INITIAL, PRECISION,
                )  # fmt: skip
                d_beta += d_beta_part
                d_carry += d_carry_part
                share = tl.load(C + at_C, mask=mask_C, other=0.0)
                similar = dot(queries, tl.trans(keys), PRECISION)
                d_read = -dot(dz, tl.trans(e), PRECISION)
                de -= dot(tl.trans(similar * share), dz, PRECISION)
                d_C += d_read * similar
                d_read *= share
                d_keys += dot(tl.trans(d_read), queries, PRECISION)
                d_queries += dot(d_read, keys, PRECISION)
                tl.store(dq + tile * batch_size * N * H * K + at_k, d_queries, mask=mask_k)
            tl.store(dC + at_part, d_C, mask=mask_C)

            # The surprise, |K|^2 |E|^2.
            at_square = ((n // H).to(tl.int64) * N + t) * H + n % H
            d_norm = 2 * tl.load(d_square + at_square, mask=valid, other=0.0)
            de += (d_norm * tl.sum(keys * keys, 1))[:, None] * e
            d_keys += (d_norm * tl.sum(e * e, 1))[:, None] * keys

            # The errors: E = 2 (Z - ((K K^T) o C_before) E - V), or 2 (K A - V).
            # The first chunk's anchor is its own; it is the final one too if no chunk was filled.
            first = tl.load(d_new_anchor + at_n, mask=when(boundary == 0, mask), other=0.0)
            if ONLINE:
                solve = tl.load(inverse + at_C, mask=mask_C, other=0.0)
                de = 2 * dot(tl.trans(solve), de, PRECISION)
                tl.store(dA + at_part, -dot(de, tl.trans(e), PRECISION), mask=mask_C)
                beta, carry = shares_before(rows, at_chunk, part, CHUNK, BT, MOMENTUM)
                d_keys_part, dw, dm, d_w0, d_beta_part, d_carry_part = read_backward(
                    keys, de, w, m, w0, dw, dm, d_w0, beta, carry,
                    MOMENTUM, TO_INITIAL, PRECISION,
                )  # fmt: skip
                d_keys += d_keys_part
                d_beta += row_after(d_beta_part, BT)
                d_carry += row_after(d_carry_part, BT)
            else:
                de *= 2
                d_keys += dot(de, tl.trans(a), PRECISION)
                da = dot(tl.trans(keys), de, PRECISION)
                first += da
                dw += tl.where(c == 0, 0.0, da)
            tl.store(d_anchor + at_n, first, mask=when(c == 0, mask))
            tl.store(dv_out + at_v, -de, mask=mask_v)
            tl.store(dk_out + tile * batch_size * N * H * K + at_k, d_keys, mask=mask_k)
            at_rows = d_rows + 3 * tile * part + at_chunk * CHUNK + i
            tl.store(at_rows, d_beta, mask=inside)
            if MOMENTUM:
                tl.store(at_rows + part, d_carry, mask=inside)
                tl.store(at_rows + 2 * part, d_D, mask=inside)
                tl.store(d_decay + tile * memories * NC + at_chunk, d_all)
        tl.debug_barrier()  # before the next segment overwrites the scratch

    tl.store(d_weights + at_n, dw, mask=mask)
    if MOMENTUM:
        tl.store(d_momentum + at_n, dm, mask=mask)
    if TO_INITIAL:
        tl.store(d_initial + at_n, d_w0, mask=mask)
