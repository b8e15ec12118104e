"""Triton: the two-layer memory (L_M = 2, SiLU between), forward and backward.

The two layers of a wide memory do not fit a processor's registers and shared memory (`[128, 512]` and
back are 512 KiB), so one program a memory walks over the chunks, and in each over tiles of `BF` hidden
units: columns of the first layer and rows of the second. Weights and momentum stay in global memory,
which for what one program uses again and again means the cache. A chunk passes over the tiles twice:
the errors of the last layer need all of them, and everything else needs those errors. With errors just
before each token (`ONLINE`) it passes a third time, between the two, for the lengths of the first layer's
errors, which divide its steps.

Threads of one program read what others wrote, hence the barriers: between a store and a later load,
and within a tile between its loads and its stores.

Layouts: tokens `[B, N, H, d]`; memories `[B H, P]` and M_0 `[H, P]`, the layers `[K, F]` and `[F, V]` one
after the other; shares as in `coefficients.py`.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from titans_ts.kernels.triton.tiles import (
    anchor_tile,
    chunk_shares,
    dot,
    launches,
    read,
    read_backward,
    row_after,
    rows_of,
    shares_before,
    silu,
    square_tile,
    square_tile_before,
    token_tile,
    unit_lower_inverse,
    when,
    write,
    write_backward,
)

__all__ = ["deep_backward", "deep_forward"]

_TINY = tl.constexpr(1.1754943508222875e-38)  # the least normal float32, of a squared length


@triton.jit
def _layer_tiles(
    tile,
    dk,
    dv,
    K: tl.constexpr,
    F: tl.constexpr,
    V: tl.constexpr,
    BF: tl.constexpr,
):
    """Offsets and masks of a tile of hidden units, `[BK, BF]` and `[BF, BV]`."""
    df = tile * BF + tl.arange(0, BF)
    at1 = dk[:, None] * F + df[None, :]
    at2 = K * F + df[:, None] * V + dv[None, :]
    return at1, (dk < K)[:, None] & (df < F)[None, :], at2, (df < F)[:, None] & (dv < V)[None, :]


@triton.jit
def _copy(source, target, P: tl.constexpr, BLOCK: tl.constexpr = 1024):
    """Copy one packed memory."""
    for start in range(0, P, BLOCK):
        at = start + tl.arange(0, BLOCK)
        tl.store(target + at, tl.load(source + at, mask=at < P, other=0.0), mask=at < P)


@triton.jit
def _fill(target, P: tl.constexpr, BLOCK: tl.constexpr = 1024):
    """Set one packed memory to zero."""
    for start in range(0, P, BLOCK):
        at = start + tl.arange(0, BLOCK)
        tl.store(target + at, tl.zeros([BLOCK], tl.float32), mask=at < P)


@triton.jit
def _output_errors(
    keys,
    values,
    anchor,
    weights,
    momentum,
    initial,
    C,
    rows,
    c,
    at_chunk,
    part,
    dk,
    dv,
    K: tl.constexpr,
    F: tl.constexpr,
    V: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    BF: tl.constexpr,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    ONLINE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The errors of the second layer `[BT, BV]`, and the squared lengths of its inputs H, `[BT]`.

    Just before each token they are E = 2 (Z - A E - V), A = (H H'^T) o C_before. Also returned are H H^T
    and the inverse of I + 2 A, `[BT, BT]`; zeros if the errors are those at the anchor.
    """
    e = -values
    x_square = tl.zeros([BT], tl.float32)
    overlap = tl.zeros([BT, BT], tl.float32)
    inverse = overlap
    beta, carry = x_square, x_square
    if ONLINE:
        beta, carry = shares_before(rows, at_chunk, part, CHUNK, BT, MOMENTUM)
    for tile in range(0, (F + BF - 1) // BF):
        at1, mask1, at2, mask2 = _layer_tiles(tile, dk, dv, K, F, V, BF)
        a1 = anchor_tile(anchor, weights, at1, mask1, c)
        x, _, _ = silu(dot(keys, a1, PRECISION))
        if ONLINE:
            w = tl.load(weights + at2, mask=mask2, other=0.0)
            m, w0 = w, w
            if MOMENTUM:
                m = tl.load(momentum + at2, mask=mask2, other=0.0)
            if TO_INITIAL:
                w0 = tl.load(initial + at2, mask=mask2, other=0.0)
            e += read(x, w, m, w0, beta, carry, MOMENTUM, TO_INITIAL, PRECISION)
            overlap += dot(x, tl.trans(x), PRECISION)
        else:
            e += dot(x, anchor_tile(anchor, weights, at2, mask2, c), PRECISION)
        x_square += tl.sum(x * x, 1)
    e = 2 * e
    if ONLINE:
        at, mask = square_tile_before(at_chunk, CHUNK, BT)
        share = tl.load(C + at, mask=mask, other=0.0) / tl.maximum(x_square, 1.0)[None, :]
        inverse = unit_lower_inverse(2 * overlap * share, BT)
        e = dot(inverse, e, PRECISION)
    return e, x_square, overlap, inverse


@triton.jit
def _layer_steps(
    keys,
    e2,
    x_square,
    anchor,
    weights,
    c,
    dk,
    dv,
    K: tl.constexpr,
    F: tl.constexpr,
    V: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    BF: tl.constexpr,
    ONLINE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What theta is multiplied by for each layer, `[BT]`: 1, unless errors are taken at every token."""
    first = tl.full([BT], 1.0, tl.float32)
    last = first
    if ONLINE:
        e_square = tl.zeros([BT], tl.float32)
        for tile in range(0, (F + BF - 1) // BF):
            at1, mask1, at2, mask2 = _layer_tiles(tile, dk, dv, K, F, V, BF)
            a1 = anchor_tile(anchor, weights, at1, mask1, c)
            a2 = anchor_tile(anchor, weights, at2, mask2, c)
            _, slope, _ = silu(dot(keys, a1, PRECISION))
            e1 = dot(e2, tl.trans(a2), PRECISION) * slope
            e_square += tl.sum(e1 * e1, 1)
        length = tl.maximum(tl.sum(e2 * e2, 1), _TINY)
        first = 1 / (CHUNK * tl.maximum(e_square / length, 1.0))
        last = 1 / tl.maximum(x_square, 1.0)
    return first, last


@triton.autotune(
    launches(((4, 1), (8, 1)), BF=(16, 32)),
    key=["K", "F", "V", "CHUNK", "READ", "MOMENTUM", "TO_INITIAL", "ONLINE", "PRECISION"],
)
@triton.jit(do_not_specialize=["N", "NC", "offset", "EVERY"])
def deep_forward(
    q,
    k,
    v,
    C,
    rows,
    decay,
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
    F: tl.constexpr,
    V: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BF: tl.constexpr,
    BV: tl.constexpr,
    READ: tl.constexpr,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    ONLINE: tl.constexpr,
    SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid `(B H, 1)`. Every `EVERY`-th boundary goes to `saved [.., 1 or 2, B H, P]`."""
    n = tl.program_id(0)
    dk, dv = tl.arange(0, BK), tl.arange(0, BV)
    memories = tl.num_programs(0).to(tl.int64)
    part = memories * NC * CHUNK
    P: tl.constexpr = K * F + F * V
    size = memories * P
    PER: tl.constexpr = 2 if MOMENTUM else 1  # tensors a boundary
    base = n.to(tl.int64) * P
    target = initial + (n % H).to(tl.int64) * P
    boundary = tl.load(n_full + n // H)  # chunks this sample fills; the anchor is what follows them
    # The memory moves in place, in what becomes the result.
    _copy(weights + base, new_weights + base, P)
    _copy(anchor + base, new_anchor + base, P)
    if MOMENTUM:
        _copy(momentum + base, new_momentum + base, P)
    tl.debug_barrier()

    for step in range(0, NC):
        c = tl.cast(step, tl.int32)  # interpreted, a loop counts in Python's integers
        at_chunk = n.to(tl.int64) * NC + c
        save_now = (c % EVERY == 0) & (c > 0)
        at_saved = size * PER * (c // EVERY - 1) + base
        t, valid = rows_of(c, offset, N, CHUNK, BT)
        at_k, mask_k = token_tile(t, valid, n, N, H, dk, K)
        at_v, mask_v = token_tile(t, valid, n, N, H, dv, V)
        keys = tl.load(k + at_k, mask=mask_k, other=0.0).to(tl.float32)
        values = tl.load(v + at_v, mask=mask_v, other=0.0).to(tl.float32)
        e2, x_square, _overlap, _inverse = _output_errors(
            keys, values, new_anchor + base, new_weights + base, new_momentum + base, target, C, rows,
            c, at_chunk, part, dk, dv, K, F, V, CHUNK, BT, BF,
            MOMENTUM, TO_INITIAL, ONLINE, PRECISION,
        )  # fmt: skip
        step1, step2 = _layer_steps(
            keys, e2, x_square, new_anchor + base, new_weights + base,
            c, dk, dv, K, F, V, CHUNK, BT, BF, ONLINE, PRECISION,
        )  # fmt: skip
        beta, carry, D, C_last, beta_last, carry_last, all_decay = chunk_shares(
            rows, C, decay, at_chunk, part, CHUNK, BT, MOMENTUM
        )
        at_C, mask_C = square_tile(at_chunk, CHUNK, BT)
        queries, z2, similar = keys, e2, tl.zeros([BT, BT], tl.float32)
        inner = similar
        if READ:
            queries = tl.load(q + at_k, mask=mask_k, other=0.0).to(tl.float32)
            similar = dot(queries, tl.trans(keys), PRECISION)
            similar *= tl.load(C + at_C, mask=mask_C, other=0.0) * step1[None, :]
            z2 = tl.zeros([BT, BV], tl.float32)
        e_square = tl.zeros([BT], tl.float32)

        for tile in range(0, (F + BF - 1) // BF):
            at1, mask1, at2, mask2 = _layer_tiles(tile, dk, dv, K, F, V, BF)
            a1 = anchor_tile(new_anchor + base, new_weights + base, at1, mask1, c)
            a2 = anchor_tile(new_anchor + base, new_weights + base, at2, mask2, c)
            x, slope, _ = silu(dot(keys, a1, PRECISION))
            e1 = dot(e2, tl.trans(a2), PRECISION) * slope
            e_square += tl.sum(e1 * e1, 1)
            w1 = tl.load(new_weights + base + at1, mask=mask1, other=0.0)
            m1, w01 = w1, w1
            if MOMENTUM:
                m1 = tl.load(new_momentum + base + at1, mask=mask1, other=0.0)
            if TO_INITIAL:
                w01 = tl.load(target + at1, mask=mask1, other=0.0)
            hidden = x
            if READ:
                z1 = read(queries, w1, m1, w01, beta, carry, MOMENTUM, TO_INITIAL, PRECISION)
                hidden, _, _ = silu(z1 - dot(similar, e1, PRECISION))
                inner += dot(hidden, tl.trans(x), PRECISION)
            if SAVE:
                tl.store(saved + at_saved + at1, w1, mask=when(save_now, mask1))
                if MOMENTUM:
                    tl.store(saved + at_saved + size + at1, m1, mask=when(save_now, mask1))
            w1, m1 = write(
                keys, e1, w1, m1, w01, D * step1, C_last * step1, beta_last, carry_last, all_decay,
                MOMENTUM, TO_INITIAL, PRECISION,
            )  # fmt: skip

            w2 = tl.load(new_weights + base + at2, mask=mask2, other=0.0)
            m2, w02 = w2, w2
            if MOMENTUM:
                m2 = tl.load(new_momentum + base + at2, mask=mask2, other=0.0)
            if TO_INITIAL:
                w02 = tl.load(target + at2, mask=mask2, other=0.0)
            if READ:
                z2 += read(hidden, w2, m2, w02, beta, carry, MOMENTUM, TO_INITIAL, PRECISION)
            if SAVE:
                tl.store(saved + at_saved + at2, w2, mask=when(save_now, mask2))
                if MOMENTUM:
                    tl.store(saved + at_saved + size + at2, m2, mask=when(save_now, mask2))
            w2, m2 = write(
                x, e2, w2, m2, w02, D * step2, C_last * step2, beta_last, carry_last, all_decay,
                MOMENTUM, TO_INITIAL, PRECISION,
            )  # fmt: skip

            tl.debug_barrier()
            tl.store(new_weights + base + at1, w1, mask=mask1)
            tl.store(new_weights + base + at2, w2, mask=mask2)
            if MOMENTUM:
                tl.store(new_momentum + base + at1, m1, mask=mask1)
                tl.store(new_momentum + base + at2, m2, mask=mask2)
            tl.store(new_anchor + base + at1, w1, mask=when(c + 1 == boundary, mask1))
            tl.store(new_anchor + base + at2, w2, mask=when(c + 1 == boundary, mask2))

        if READ:
            inner *= tl.load(C + at_C, mask=mask_C, other=0.0) * step2[None, :]
            tl.store(y + at_v, z2 - dot(inner, e2, PRECISION), mask=mask_v)
        at_square = ((n // H).to(tl.int64) * N + t) * H + n % H
        surprise = tl.sum(keys * keys, 1) * e_square + x_square * tl.sum(e2 * e2, 1)
        tl.store(square + at_square, surprise, mask=valid)
        tl.debug_barrier()


@triton.jit
def _output_read_backward(
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
    """As `read_backward`, for a tile of the second layer.

    All tiles have the same `dz [BT, BV]`. It is multiplied as it is, and shares are put on tiles: what is
    made of `dz` alone is computed before the loop over tiles, and would stay in shared memory throughout.
    """
    moved = w
    if TO_INITIAL:
        moved = w - w0
    along = dot(dz, tl.trans(moved), PRECISION)
    dy = beta[:, None] * along
    d_beta = tl.sum(y * along, 1)
    d_carry = tl.zeros_like(beta)
    dw += dot(tl.trans(beta[:, None] * y), dz, PRECISION)
    if TO_INITIAL:
        dy += dot(dz, tl.trans(w0), PRECISION)
        d_w0 += dot(tl.trans((1 - beta)[:, None] * y), dz, PRECISION)
    if MOMENTUM:
        along = dot(dz, tl.trans(m), PRECISION)
        dy += carry[:, None] * along
        d_carry = tl.sum(y * along, 1)
        dm += dot(tl.trans(carry[:, None] * y), dz, PRECISION)
    return dy, dw, dm, d_w0, d_beta, d_carry


@triton.autotune(
    launches(((4, 1), (8, 1)), BF=(16, 32)),
    key=["K", "F", "V", "CHUNK", "READ", "MOMENTUM", "TO_INITIAL", "ONLINE", "PRECISION"],
)
@triton.jit(do_not_specialize=["N", "NC", "offset", "EVERY"])
def deep_backward(
    q,
    k,
    v,
    C,
    rows,
    decay,
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
    du,
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
    F: tl.constexpr,
    V: tl.constexpr,
    CHUNK: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BF: tl.constexpr,
    BV: tl.constexpr,
    READ: tl.constexpr,
    MOMENTUM: tl.constexpr,
    TO_INITIAL: tl.constexpr,
    ONLINE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid `(B H, 1)`.

    The boundaries of one segment are in `scratch [EVERY, 1 or 2, B H, P]`. `du [2 or 3, B H, BT, F]`
    holds what of the hidden units' gradients is known before those of the output errors are whole, and as
    the third, with errors at every token, the hidden errors before they pass the SiLU.
    """
    n = tl.program_id(0)
    i, dk, dv = tl.arange(0, BT), tl.arange(0, BK), tl.arange(0, BV)
    memories = tl.num_programs(0).to(tl.int64)
    part = memories * NC * CHUNK
    inside = i < CHUNK
    P: tl.constexpr = K * F + F * V
    size = memories * P
    PER: tl.constexpr = 2 if MOMENTUM else 1
    base = n.to(tl.int64) * P
    target = initial + (n % H).to(tl.int64) * P
    boundary = tl.load(n_full + n // H)
    # The gradients of the state move in place, in what becomes the result.
    _copy(d_new_weights + base, d_weights + base, P)
    if MOMENTUM:
        _copy(d_new_momentum + base, d_momentum + base, P)
    if TO_INITIAL:
        _fill(d_initial + base, P)

    segments = (NC + EVERY - 1) // EVERY
    for s in range(0, segments):
        start = (segments - 1 - s) * EVERY
        count = tl.minimum(EVERY, NC - start)
        # The boundaries of this segment once more, from the saved one it starts with.
        if start == 0:
            _copy(weights + base, scratch + base, P)
            if MOMENTUM:
                _copy(momentum + base, scratch + size + base, P)
        else:
            at_saved = size * PER * (start // EVERY - 1) + base
            _copy(saved + at_saved, scratch + base, P)
            if MOMENTUM:
                _copy(saved + at_saved + size, scratch + size + base, P)
        tl.debug_barrier()
        for j in range(0, count - 1):
            c = start + j
            at_chunk = n.to(tl.int64) * NC + c
            old = scratch + size * PER * j + base
            new = old + size * PER
            t, valid = rows_of(c, offset, N, CHUNK, BT)
            at_k, mask_k = token_tile(t, valid, n, N, H, dk, K)
            at_v, mask_v = token_tile(t, valid, n, N, H, dv, V)
            keys = tl.load(k + at_k, mask=mask_k, other=0.0).to(tl.float32)
            values = tl.load(v + at_v, mask=mask_v, other=0.0).to(tl.float32)
            e2, x_square, _overlap, _inverse = _output_errors(
                keys, values, anchor + base, old, old + size, target, C, rows,
                c, at_chunk, part, dk, dv, K, F, V, CHUNK, BT, BF,
                MOMENTUM, TO_INITIAL, ONLINE, PRECISION,
            )  # fmt: skip
            step1, step2 = _layer_steps(
                keys, e2, x_square, anchor + base, old,
                c, dk, dv, K, F, V, CHUNK, BT, BF, ONLINE, PRECISION,
            )  # fmt: skip
            beta, carry, D, C_last, beta_last, carry_last, all_decay = chunk_shares(
                rows, C, decay, at_chunk, part, CHUNK, BT, MOMENTUM
            )
            for tile in range(0, (F + BF - 1) // BF):
                at1, mask1, at2, mask2 = _layer_tiles(tile, dk, dv, K, F, V, BF)
                x, slope, _ = silu(
                    dot(keys, anchor_tile(anchor + base, old, at1, mask1, c), PRECISION)
                )
                a2 = anchor_tile(anchor + base, old, at2, mask2, c)
                e1 = dot(e2, tl.trans(a2), PRECISION) * slope
                w = tl.load(old + at1, mask=mask1, other=0.0)
                m, w0 = w, w
                if MOMENTUM:
                    m = tl.load(old + size + at1, mask=mask1, other=0.0)
                if TO_INITIAL:
                    w0 = tl.load(target + at1, mask=mask1, other=0.0)
                w, m = write(
                    keys, e1, w, m, w0, D * step1, C_last * step1, beta_last, carry_last, all_decay,
                    MOMENTUM, TO_INITIAL, PRECISION,
                )  # fmt: skip
                tl.store(new + at1, w, mask=mask1)
                if MOMENTUM:
                    tl.store(new + size + at1, m, mask=mask1)
                w = tl.load(old + at2, mask=mask2, other=0.0)
                m, w0 = w, w
                if MOMENTUM:
                    m = tl.load(old + size + at2, mask=mask2, other=0.0)
                if TO_INITIAL:
                    w0 = tl.load(target + at2, mask=mask2, other=0.0)
                w, m = write(
                    x, e2, w, m, w0, D * step2, C_last * step2, beta_last, carry_last, all_decay,
                    MOMENTUM, TO_INITIAL, PRECISION,
                )  # fmt: skip
                tl.store(new + at2, w, mask=mask2)
                if MOMENTUM:
                    tl.store(new + size + at2, m, mask=mask2)
            tl.debug_barrier()

        for j in range(0, count):
            c = start + count - 1 - j
            at_chunk = n.to(tl.int64) * NC + c
            old = scratch + size * PER * (c - start) + base
            t, valid = rows_of(c, offset, N, CHUNK, BT)
            at_k, mask_k = token_tile(t, valid, n, N, H, dk, K)
            at_v, mask_v = token_tile(t, valid, n, N, H, dv, V)
            keys = tl.load(k + at_k, mask=mask_k, other=0.0).to(tl.float32)
            values = tl.load(v + at_v, mask=mask_v, other=0.0).to(tl.float32)
            e2, x_square, overlap, inverse = _output_errors(
                keys, values, anchor + base, old, old + size, target, C, rows,
                c, at_chunk, part, dk, dv, K, F, V, CHUNK, BT, BF,
                MOMENTUM, TO_INITIAL, ONLINE, PRECISION,
            )  # fmt: skip
            step1, step2 = _layer_steps(
                keys, e2, x_square, anchor + base, old,
                c, dk, dv, K, F, V, CHUNK, BT, BF, ONLINE, PRECISION,
            )  # fmt: skip
            beta, carry, D, C_last, beta_last, carry_last, all_decay = chunk_shares(
                rows, C, decay, at_chunk, part, CHUNK, BT, MOMENTUM
            )
            at_C, mask_C = square_tile(at_chunk, CHUNK, BT)
            queries, dz2 = keys, e2
            share = tl.zeros([BT, BT], tl.float32)
            similar, d_outer, d_inner, inner = share, share, share, share
            share1, share2 = share, share  # C times each layer's part of the step
            if READ:
                queries = tl.load(q + at_k, mask=mask_k, other=0.0).to(tl.float32)
                dz2 = tl.load(dy + at_v, mask=mask_v, other=0.0).to(tl.float32)
                share = tl.load(C + at_C, mask=mask_C, other=0.0)
                share1, share2 = share * step1[None, :], share * step2[None, :]
                similar = dot(queries, tl.trans(keys), PRECISION)
                d_inner = -dot(dz2, tl.trans(e2), PRECISION)
            at_square = ((n // H).to(tl.int64) * N + t) * H + n % H
            d_norm = 2 * tl.load(d_square + at_square, mask=valid, other=0.0)
            key_square = tl.sum(keys * keys, 1)
            e2_square = tl.sum(e2 * e2, 1)
            de2 = (d_norm * x_square)[:, None] * e2
            d_keys = tl.zeros([BT, BK], tl.float32)
            d_queries = tl.zeros([BT, BK], tl.float32)
            d_beta = tl.zeros([BT], tl.float32)
            d_carry = tl.zeros([BT], tl.float32)
            d_D = tl.zeros([BT], tl.float32)
            d_C_last = tl.zeros([BT], tl.float32)
            e1_square = tl.zeros([BT], tl.float32)
            d_step1 = tl.zeros([BT], tl.float32)
            d_step2 = tl.zeros([BT], tl.float32)
            through = tl.zeros([BT, BV], tl.float32)  # E^1 as it passes to E^2's gradient
            d_beta_last = 0.0
            d_carry_last = 0.0
            d_all = 0.0

            for tile in range(0, (F + BF - 1) // BF):
                at1, mask1, at2, mask2 = _layer_tiles(tile, dk, dv, K, F, V, BF)
                df = tile * BF + tl.arange(0, BF)
                a1 = anchor_tile(anchor + base, old, at1, mask1, c)
                a2 = anchor_tile(anchor + base, old, at2, mask2, c)
                x, slope, curve = silu(dot(keys, a1, PRECISION))
                f = dot(e2, tl.trans(a2), PRECISION)
                e1 = f * slope
                e1_square += tl.sum(e1 * e1, 1)
                w1 = tl.load(old + at1, mask=mask1, other=0.0)
                m1, w01 = w1, w1
                if MOMENTUM:
                    m1 = tl.load(old + size + at1, mask=mask1, other=0.0)
                if TO_INITIAL:
                    w01 = tl.load(target + at1, mask=mask1, other=0.0)
                hidden, hidden_slope = x, x
                if READ:
                    z1 = read(queries, w1, m1, w01, beta, carry, MOMENTUM, TO_INITIAL, PRECISION)
                    z1 -= dot(similar * share1, e1, PRECISION)
                    hidden, hidden_slope, _ = silu(z1)
                    inner += dot(hidden, tl.trans(x), PRECISION)

                # The second layer. The final anchor is the weights after this chunk.
                w = tl.load(old + at2, mask=mask2, other=0.0)
                dw = tl.load(d_weights + base + at2, mask=mask2, other=0.0)
                last = when(c + 1 == boundary, mask2)
                dw += tl.load(d_new_anchor + base + at2, mask=last, other=0.0)
                m, w0, dm, d_w0 = w, w, dw, dw
                if MOMENTUM:
                    m = tl.load(old + size + at2, mask=mask2, other=0.0)
                    dm = tl.load(d_momentum + base + at2, mask=mask2, other=0.0)
                if TO_INITIAL:
                    w0 = tl.load(target + at2, mask=mask2, other=0.0)
                    d_w0 = tl.load(d_initial + base + at2, mask=mask2, other=0.0)
                (
                    dx, de, dw, dm, d_w0, d_D_part, d_C_part, d_beta_end, d_carry_end, d_all_part,
                ) = write_backward(
                    x, e2, w, m, w0, dw, dm, d_w0, D * step2, C_last * step2,
                    beta_last, carry_last, all_decay, MOMENTUM, TO_INITIAL, PRECISION,
                )  # fmt: skip
                de2 += de
                d_D += d_D_part * step2
                d_C_last += d_C_part * step2
                d_step2 += d_D_part * D + d_C_part * C_last
                d_beta_last += d_beta_end
                d_carry_last += d_carry_end
                d_all += d_all_part
                dz1 = x
                if READ:
                    dz1, dw, dm, d_w0, d_beta_part, d_carry_part = read_backward(
                        hidden, dz2, w, m, w0, dw, dm, d_w0, beta, carry,
                        MOMENTUM, TO_INITIAL, PRECISION,
                    )  # fmt: skip
                    d_beta += d_beta_part
                    d_carry += d_carry_part
                tl.debug_barrier()
                tl.store(d_weights + base + at2, dw, mask=mask2)
                if MOMENTUM:
                    tl.store(d_momentum + base + at2, dm, mask=mask2)
                if TO_INITIAL:
                    tl.store(d_initial + base + at2, d_w0, mask=mask2)
                dx += (d_norm * e2_square)[:, None] * x
                if READ:
                    dz1 += dot(d_inner * share2, x, PRECISION)
                    dx += dot(tl.trans(d_inner * share2), hidden, PRECISION)
                    dz1 *= hidden_slope

                # The first layer.
                dw = tl.load(d_weights + base + at1, mask=mask1, other=0.0)
                last = when(c + 1 == boundary, mask1)
                dw += tl.load(d_new_anchor + base + at1, mask=last, other=0.0)
                dm, d_w0 = dw, dw
                if MOMENTUM:
                    dm = tl.load(d_momentum + base + at1, mask=mask1, other=0.0)
                if TO_INITIAL:
                    d_w0 = tl.load(d_initial + base + at1, mask=mask1, other=0.0)
                (
                    d_keys_part, de1, dw, dm, d_w0, d_D_part, d_C_part,
                    d_beta_end, d_carry_end, d_all_part,
                ) = write_backward(
                    keys, e1, w1, m1, w01, dw, dm, d_w0, D * step1, C_last * step1,
                    beta_last, carry_last, all_decay, MOMENTUM, TO_INITIAL, PRECISION,
                )  # fmt: skip
                d_keys += d_keys_part
                d_D += d_D_part * step1
                d_C_last += d_C_part * step1
                d_step1 += d_D_part * D + d_C_part * C_last
                d_beta_last += d_beta_end
                d_carry_last += d_carry_end
                d_all += d_all_part
                if READ:
                    d_queries_part, dw, dm, d_w0, d_beta_part, d_carry_part = read_backward(
                        queries, dz1, w1, m1, w01, dw, dm, d_w0, beta, carry,
                        MOMENTUM, TO_INITIAL, PRECISION,
                    )  # fmt: skip
                    d_queries += d_queries_part
                    d_beta += d_beta_part
                    d_carry += d_carry_part
                tl.debug_barrier()
                tl.store(d_weights + base + at1, dw, mask=mask1)
                if MOMENTUM:
                    tl.store(d_momentum + base + at1, dm, mask=mask1)
                if TO_INITIAL:
                    tl.store(d_initial + base + at1, d_w0, mask=mask1)
                de1 += (d_norm * key_square)[:, None] * e1
                if READ:
                    d_outer -= dot(dz1, tl.trans(e1), PRECISION)
                    de1 -= dot(tl.trans(similar * share1), dz1, PRECISION)

                # Back through E^1 = (E^2 A^2T) o SiLU'(K A^1), as far as E^2 allows.
                de2 += dot(de1 * slope, a2, PRECISION)
                if ONLINE:
                    through += dot(e1 * slope, a2, PRECISION)
                mask_u = (df < F)[None, :] & inside[:, None]
                at_u = (n.to(tl.int64) * BT + i)[:, None] * F + df[None, :]
                tl.store(du + at_u, de1 * f * curve + dx * slope, mask=mask_u)
                tl.store(du + memories * BT * F + at_u, de1 * slope, mask=mask_u)
                if ONLINE:
                    tl.store(du + 2 * memories * BT * F + at_u, f, mask=mask_u)
            tl.debug_barrier()

            d_C = tl.where(i[:, None] == CHUNK - 1, d_C_last[None, :], 0.0)
            d_keys += (d_norm * e1_square)[:, None] * keys
            if READ:
                de2 -= dot(tl.trans(inner * share2), dz2, PRECISION)
                d_C += d_inner * inner * step2[None, :] + d_outer * similar * step1[None, :]
                d_step1 += tl.sum(d_outer * similar * share, 0)
                d_step2 += tl.sum(d_inner * inner * share, 0)
                d_outer *= share1
                d_keys += dot(tl.trans(d_outer), queries, PRECISION)
                d_queries += dot(d_outer, keys, PRECISION)
                tl.store(dq + at_k, d_queries, mask=mask_k)
            tl.store(dC + at_C, d_C, mask=mask_C)

            d_square1 = tl.zeros([BT], tl.float32)  # twice the gradient of |E^1|^2 in the step
            d_square2 = tl.zeros([BT], tl.float32)  # and that of |H|^2
            d_beta_before = tl.zeros([BT], tl.float32)
            d_carry_before = tl.zeros([BT], tl.float32)
            if ONLINE:
                # Back through the first layer's step, then through the triangular system.
                d_log = tl.where(e1_square > e2_square, 2 * step1 * d_step1, 0.0)
                d_square1 = -d_log / tl.maximum(e1_square, _TINY)
                de2 += (d_log / tl.maximum(e2_square, _TINY))[:, None] * e2
                de2 += d_square1[:, None] * through
                de2 = dot(tl.trans(inverse), de2, PRECISION)
                dA = -2 * dot(de2, tl.trans(e2), PRECISION)
                at_before, mask_before = square_tile_before(at_chunk, CHUNK, BT)
                share = tl.load(C + at_before, mask=mask_before, other=0.0)
                d_step2 += tl.sum(dA * overlap * share, 0)
                d_square2 = tl.where(x_square > 1, -2 * step2 * step2 * d_step2, 0.0)
                tl.debug_barrier()
                d_C = tl.load(dC + at_before, mask=mask_before, other=0.0)
                d_C += dA * overlap * step2[None, :]
                tl.store(dC + at_before, d_C, mask=mask_before)
                d_overlap = dA * share * step2[None, :]
                d_overlap += tl.trans(d_overlap)  # H is on both sides of H H^T
                beta, carry = shares_before(rows, at_chunk, part, CHUNK, BT, MOMENTUM)
            tl.store(dv_out + at_v, -2 * de2, mask=mask_v)

            # Back through E^2 = 2 (SiLU(K A^1) A^2 - V), or with the memory before each token for A^2.
            for tile in range(0, (F + BF - 1) // BF):
                at1, mask1, at2, mask2 = _layer_tiles(tile, dk, dv, K, F, V, BF)
                df = tile * BF + tl.arange(0, BF)
                a1 = anchor_tile(anchor + base, old, at1, mask1, c)
                a2 = anchor_tile(anchor + base, old, at2, mask2, c)
                x, slope, curve = silu(dot(keys, a1, PRECISION))
                mask_u = (df < F)[None, :] & inside[:, None]
                at_u = (n.to(tl.int64) * BT + i)[:, None] * F + df[None, :]
                dz = tl.load(du + at_u, mask=mask_u, other=0.0)
                d_after = tl.load(du + memories * BT * F + at_u, mask=mask_u, other=0.0)
                dw = tl.load(d_weights + base + at2, mask=mask2, other=0.0)
                dm, d_w0 = dw, dw
                if ONLINE:
                    f = tl.load(du + 2 * memories * BT * F + at_u, mask=mask_u, other=0.0)
                    de1 = d_square1[:, None] * f * slope
                    dz += de1 * f * curve
                    d_after += de1 * slope
                    w = tl.load(old + at2, mask=mask2, other=0.0)
                    m, w0 = w, w
                    if MOMENTUM:
                        m = tl.load(old + size + at2, mask=mask2, other=0.0)
                        dm = tl.load(d_momentum + base + at2, mask=mask2, other=0.0)
                    if TO_INITIAL:
                        w0 = tl.load(target + at2, mask=mask2, other=0.0)
                        d_w0 = tl.load(d_initial + base + at2, mask=mask2, other=0.0)
                    dx, dw, dm, d_w0, d_beta_part, d_carry_part = _output_read_backward(
                        x, 2 * de2, w, m, w0, dw, dm, d_w0, beta, carry,
                        MOMENTUM, TO_INITIAL, PRECISION,
                    )  # fmt: skip
                    d_beta_before += d_beta_part
                    d_carry_before += d_carry_part
                    dx += dot(d_overlap, x, PRECISION) + d_square2[:, None] * x
                    dz += dx * slope
                else:
                    dz += dot(2 * de2, tl.trans(a2), PRECISION) * slope
                d_keys += dot(dz, tl.trans(a1), PRECISION)
                da1 = dot(tl.trans(keys), dz, PRECISION)
                da2 = dot(tl.trans(d_after), e2, PRECISION)
                if not ONLINE:
                    da2 += dot(tl.trans(x), 2 * de2, PRECISION)
                # The first chunk's anchor is its own; it is the final one too if no chunk was filled.
                none1, none2 = when(boundary == 0, mask1), when(boundary == 0, mask2)
                first1 = da1 + tl.load(d_new_anchor + base + at1, mask=none1, other=0.0)
                first2 = da2 + tl.load(d_new_anchor + base + at2, mask=none2, other=0.0)
                da1 += tl.load(d_weights + base + at1, mask=mask1, other=0.0)
                tl.debug_barrier()
                tl.store(d_anchor + base + at1, first1, mask=when(c == 0, mask1))
                tl.store(d_anchor + base + at2, first2, mask=when(c == 0, mask2))
                tl.store(d_weights + base + at1, da1, mask=when(c > 0, mask1))
                tl.store(d_weights + base + at2, dw + tl.where(c > 0, da2, 0.0), mask=mask2)
                if ONLINE:
                    if MOMENTUM:
                        tl.store(d_momentum + base + at2, dm, mask=mask2)
                    if TO_INITIAL:
                        tl.store(d_initial + base + at2, d_w0, mask=mask2)
            tl.store(dk_out + at_k, d_keys, mask=mask_k)
            at_rows = d_rows + at_chunk * CHUNK + i
            d_beta += tl.where(i == CHUNK - 1, d_beta_last, 0.0)
            if ONLINE:
                d_beta += row_after(d_beta_before, BT)
                d_carry += row_after(d_carry_before, BT)
            tl.store(at_rows, d_beta, mask=inside)
            if MOMENTUM:
                d_carry += tl.where(i == CHUNK - 1, d_carry_last, 0.0)
                tl.store(at_rows + part, d_carry, mask=inside)
                tl.store(at_rows + 2 * part, d_D, mask=inside)
                tl.store(d_decay + at_chunk, d_all)
            tl.debug_barrier()
