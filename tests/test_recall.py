"""The recall benchmark: its tasks have the answers in them, and its peers follow their equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from titans_ts.config import BackboneConfig

pytestmark = pytest.mark.usefixtures("benchmarks_on_the_path")


def gates(*shape):
    return torch.sigmoid(torch.randn(*shape, dtype=torch.float64) + 1)


@pytest.mark.parametrize("chunk", [4, 64])
def test_the_delta_rules_are_their_equations_token_by_token(chunk, monkeypatch):
    import delta_rules

    monkeypatch.setattr(delta_rules, "CHUNK", chunk)
    torch.manual_seed(0)
    config = BackboneConfig(d_model=16, n_heads=2)
    q, k, v = F.normalize(torch.randn(3, 2, 2, 11, 8, dtype=torch.float64), dim=-1)
    step, keep, momentum = gates(3, 2, 2, 11)
    gated = delta_rules.GatedDelta(config).rule(q, k, v, step, keep)
    heavy = delta_rules.MomentumDelta(config).rule(q, k, v, step, keep, momentum)
    memory, moving = (torch.zeros(2, 2, 8, 8, dtype=torch.float64) for _ in range(2))
    surprise = torch.zeros_like(memory)
    for t in range(11):
        b, a, m = (x[:, :, t, None, None] for x in (step, keep, momentum))
        row = k[:, :, t, None]
        memory = a * memory
        memory = memory + b * row.mT @ (v[:, :, t, None] - row @ memory)
        assert torch.allclose(gated[:, :, t], (q[:, :, t, None] @ memory)[:, :, 0], atol=1e-12)
        surprise = m * surprise + (1 - m) * b * row.mT @ (v[:, :, t, None] - row @ moving)
        moving = a * moving + surprise
        assert torch.allclose(heavy[:, :, t], (q[:, :, t, None] @ moving)[:, :, 0], atol=1e-12)


@pytest.mark.parametrize("length", [48, 64, 200])
def test_an_answer_is_the_value_that_stood_beside_the_key(length):
    import recall_tasks

    x, y = recall_tasks.TASKS["recall-16"].make(5, length, torch.Generator().manual_seed(0))
    assert x.shape == y.shape == (5, length)
    for tokens, targets in zip(x.tolist(), y.tolist(), strict=True):
        pairs = dict(zip(tokens[:32:2], tokens[1:32:2], strict=True))
        asked = [t for t in range(length) if targets[t] >= 0]
        assert len(pairs) == len(asked) == 16
        assert {tokens[t] for t in asked} == set(pairs)
        assert all(pairs[tokens[t]] - recall_tasks.KEYS == targets[t] for t in asked)


def test_a_product_of_permutations_is_followed():
    import recall_tasks

    x, y = recall_tasks.TASKS["parity"].make(4, 20, torch.Generator().manual_seed(0))
    assert torch.equal(y, x.cumsum(1) % 2)
    table = recall_tasks._products(3)
    for a in range(6):
        assert sorted(table[a].tolist()) == list(range(6))
        for b in range(6):
            assert torch.equal(table[table[a, b]], table[a][table[b]])  # (a b) c = a (b c)


def test_copying_asks_for_the_symbols_in_their_order():
    import recall_tasks

    x, y = recall_tasks.TASKS["copy"].make(4, 64, torch.Generator().manual_seed(0))
    for tokens, targets in zip(x.tolist(), y.tolist(), strict=True):
        symbols = [t for t in tokens[:-16] if t < recall_tasks.SYMBOLS]
        assert symbols == targets[-16:]
        assert set(targets[:-16]) == {-1}
