"""Attention and every block against their definitions, written once more the slow and plain way.

float64 throughout: two ways to compute the same differ by about 1e-15 an operation.
"""

from __future__ import annotations

import cmath

import pytest
import torch
import torch.nn.functional as F

from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.nn.attention import SegmentAttention, SlidingWindowAttention
from titans_ts.nn.blocks import BLOCKS

B, T, D, HEADS, PERSISTENT, WINDOW, SEGMENT = 2, 33, 24, 3, 3, 8, 10
WIDTH = D // HEADS
ROUNDING = 1e-12


def tokens(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turn(x, place):
    """Rotary positions as complex numbers: pair (x_i, x_{i + d/2}) turned by place * 10000^(-2i/d)."""
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half], x[..., half:])
    turns = [cmath.exp(1j * place * 10000 ** (-i / half)) for i in range(half)]
    z = z * torch.tensor(turns, dtype=torch.complex128)
    return torch.cat([z.real, z.imag], -1)


def attend(queries, keys, values):
    """Softmax attention of one query of one head; keys and values are lists."""
    scores = torch.stack([q @ k for q, k in zip(queries, keys, strict=True)]) / WIDTH**0.5
    return torch.softmax(scores, 0) @ torch.stack(values)


def heads(attention, x):
    """Queries, keys and values."""
    projected = (x @ rows.T for rows in attention.qkv_proj.weight.split(D))
    return (y.reshape(*x.shape[:-1], HEADS, WIDTH) for y in projected)


def dense_window(attention, x, persistent, window):
    """Sliding-window attention of one sample `[T, D]`, token by token and head by head.

    Persistent tokens have no place in the stream: they meet the query as it is, unrotated.
    """
    (q, k, v), (_, p_k, p_v) = heads(attention, x), heads(attention, persistent)
    out = torch.zeros_like(q)
    for t in range(len(x)):
        seen = range(max(0, t - window + 1), t + 1)
        for h in range(HEADS):
            queries = [q[t, h]] * len(persistent) + [turn(q[t, h], t)] * len(seen)
            keys = [*p_k[:, h], *(turn(k[s, h], s) for s in seen)]
            out[t, h] = attend(queries, keys, [*p_v[:, h], *v[seen, h]])
    return out.reshape(len(x), D) @ attention.out_proj.weight.T


def dense_segment(attention, x, recalled, persistent):
    """Attention inside one segment of one sample: P, h_1 .. h_t and x_1 .. x_t are in sight of t."""
    q, k, v = heads(attention, x)
    (_, h_k, h_v), (_, p_k, p_v) = heads(attention, recalled), heads(attention, persistent)
    out = torch.zeros_like(q)
    for t in range(len(x)):
        for h in range(HEADS):
            places = range(t + 1)
            keys = [
                *p_k[:, h],
                *(turn(h_k[s, h], s) for s in places),
                *(turn(k[s, h], s) for s in places),
            ]
            values = [*p_v[:, h], *h_v[: t + 1, h], *v[: t + 1, h]]
            out[t, h] = attend([turn(q[t, h], t)] * len(keys), keys, values)
    return out.reshape(len(x), D) @ attention.out_proj.weight.T


@pytest.mark.parametrize("window", [1, 2, WINDOW, T - 1, T, 2 * T])
@pytest.mark.parametrize("n_persistent", [0, PERSISTENT])
def test_sliding_window_is_dense_attention(window, n_persistent):
    torch.manual_seed(0)
    attention = SlidingWindowAttention(D, HEADS, window).double()
    x, persistent = tokens(B, T, D), tokens(B, n_persistent, D, seed=2)
    with torch.no_grad():
        y, _ = attention(x, persistent)
        for b in range(B):
            expected = dense_window(attention, x[b], persistent[b], window)
            assert (y[b] - expected).abs().max() < ROUNDING


@pytest.mark.parametrize("cached", [0, 3, 20])
def test_window_is_exact(cached):
    """Token t - window + 1 is in sight of t, token t - window is not, also across pieces."""
    torch.manual_seed(0)
    attention = SlidingWindowAttention(D, HEADS, WINDOW).double()
    x = tokens(1, T, D).requires_grad_(True)
    persistent = tokens(1, PERSISTENT, D, seed=2)
    first, cache = attention(x[:, :cached], persistent) if cached else (x[:, :0], None)
    rest, _ = attention(x[:, cached:], persistent, cache)
    y = torch.cat([first, rest], 1)
    for t in range(T):
        (gradient,) = torch.autograd.grad(y[0, t].sum(), x, retain_graph=True)
        seen = gradient[0].abs().amax(-1) > 0
        expected = [t - WINDOW < s <= t for s in range(T)]
        assert seen.tolist() == expected, t


def test_window_of_streams_that_have_come_to_different_places():
    torch.manual_seed(0)
    attention = SlidingWindowAttention(D, HEADS, WINDOW).double()
    x, persistent = tokens(3, T, D), tokens(1, PERSISTENT, D, seed=2)
    read = [1, WINDOW + 2, 0]
    with torch.no_grad():
        _, cache = attention(x[:, : WINDOW + 2], persistent, lengths=torch.tensor(read))
        y, _ = attention(x[:, WINDOW + 2 :], persistent, cache)
        for b, n in enumerate(read):
            alone = torch.cat([x[b : b + 1, :n], x[b : b + 1, WINDOW + 2 :]], 1)
            expected, _ = attention(alone, persistent)
            assert (y[b] - expected[0, n:]).abs().max() < ROUNDING


def test_window_scores_are_relative():
    """Without persistent tokens, a stretch moved along the stream attends as before."""
    torch.manual_seed(0)
    attention = SlidingWindowAttention(D, HEADS, WINDOW).double()
    none, x = tokens(1, 0, D), tokens(1, 20, D)
    y, _ = attention(x, none)
    moved, _ = attention(torch.cat([tokens(1, 11, D, seed=3), x], 1), none)
    assert (moved[:, 11 + WINDOW :] - y[:, WINDOW:]).abs().max() < ROUNDING


def test_segment_attention_is_dense_attention():
    torch.manual_seed(0)
    attention = SegmentAttention(D, HEADS, SEGMENT).double()
    x, recalled = tokens(B, SEGMENT, D), tokens(B, SEGMENT, D, seed=2)
    persistent = tokens(B, PERSISTENT, D, seed=3)
    with torch.no_grad():
        cache, ys = attention.initial_state(B), []
        for start, stop in [(0, 1), (1, 6), (6, SEGMENT)]:
            part = slice(start, stop)
            y, cache = attention(x[:, part], recalled[:, part], persistent, cache, start)
            ys.append(y)
        y = torch.cat(ys, 1)
        for b in range(B):
            expected = dense_segment(attention, x[b], recalled[b], persistent[b])
            assert (y[b] - expected).abs().max() < ROUNDING


# ---- what each block computes: section 4 of the paper on a whole stream, nothing carried


def mixer(variant, mac_output="sum", **memory):
    torch.manual_seed(0)
    config = BackboneConfig(
        variant=variant, d_model=D, n_heads=HEADS, n_persistent=PERSISTENT, window=WINDOW,
        segment_length=SEGMENT, dropout=0.0, memory=MemoryConfig(chunk_size=6, **memory),
        mac_output=mac_output,
    )  # fmt: skip
    block = BLOCKS[variant](config).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block


def normed(weight, x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def gated(gate, y, m):
    y_weight, m_weight = gate.weight.split(D)
    return normed(y_weight, y) * F.silu(normed(m_weight, m))


def summed(gate, y, m):
    y_weight, m_weight = gate.weight.split(D)
    return normed(y_weight, y) + normed(m_weight, m)


def after_prefix(m, x):
    """M([P; x]): what the memory makes of P and of x."""
    both = m.memory(torch.cat([m.persistent, x[None]], 1)).y[0]
    return both[:PERSISTENT], both[PERSISTENT:]


def lmm(m, x):
    return after_prefix(m, x)[1]


def swa(m, x):
    return dense_window(m.attention, x, m.persistent[0], WINDOW)


def mag(m, x):
    return gated(m.gate, swa(m, x), after_prefix(m, x)[1])


def mal(m, x):
    prefix, y = (normed(m.norm.weight, part) for part in after_prefix(m, x))
    return dense_window(m.attention, y, prefix, WINDOW)


def mac(m, x):
    state = m.memory.initial_state(1)
    conv, outputs = state.conv[..., :D], []
    for s in x.split(SEGMENT):
        h, conv = m.memory.read(s[None], state.memory.weights, conv)
        y = dense_segment(m.attention, s, h[0], m.persistent[0])
        y = y + s if m.sum_output else y
        r, state, _ = m.memory(y[None], state)
        outputs.append((summed if m.sum_output else gated)(m.gate, y, r[0]))
    return torch.cat(outputs)


DEFINITIONS = {"lmm": lmm, "mac": mac, "mag": mag, "mal": mal, "swa": swa}


@pytest.mark.parametrize("mac_output", ["sum", "gate"])
@pytest.mark.parametrize("variant", sorted(BLOCKS))
@torch.no_grad()
def test_block_is_its_definition(variant, mac_output):
    assert variant in DEFINITIONS, "write down what the new block computes"
    block, x = mixer(variant, mac_output), tokens(B, T, D)
    y = block(x, block.initial_state(B)).y
    for b in range(B):
        assert (y[b] - DEFINITIONS[variant](block, x[b])).abs().max() < ROUNDING


@pytest.mark.parametrize("write", [False, True])
@torch.no_grad()
def test_segments_meet_only_in_the_memory(write):
    """With one-tap convolutions nothing but what was written leaves a segment of MAC."""
    block, x = mixer("mac", conv_size=1, write=write), tokens(2, T, D)
    x[1, SEGMENT:] = x[0, SEGMENT:]
    y = block(x, block.initial_state(2)).y
    reached = (y[0] - y[1]).abs().amax(-1)[SEGMENT:]
    assert (reached > 1e-6).all() if write else (reached <= ROUNDING).all()


@torch.no_grad()
def test_convolutions_carry_their_taps_across_a_segment():
    """Write off, four taps: h sees three tokens back, and r three tokens of attention's output.

    The last three tokens of a segment reach all of the next (through h, attention spreads them); the
    earlier ones only its first three (through r), and nothing after.
    """
    block, x = mixer("mac", write=False), tokens(2, T, D)
    x[1, SEGMENT - 3 :] = x[0, SEGMENT - 3 :]
    y = block(x, block.initial_state(2)).y
    reached = (y[0] - y[1]).abs().amax(-1)[SEGMENT:]
    assert (reached[:3] > 1e-6).all()
    assert (reached[3:] <= ROUNDING).all()
    x = tokens(2, T, D)
    x[1, : SEGMENT - 3], x[1, SEGMENT:] = x[0, : SEGMENT - 3], x[0, SEGMENT:]
    y = block(x, block.initial_state(2)).y
    reached = (y[0] - y[1]).abs().amax(-1)
    assert (reached[SEGMENT : 2 * SEGMENT] > 1e-9).all()
    assert (reached[2 * SEGMENT + 3 :] <= ROUNDING).all()
