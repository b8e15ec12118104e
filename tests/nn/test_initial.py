"""M_0 and its bound: exact, and found anew whenever the parameters are others."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from titans_ts.nn import initial
from titans_ts.nn.initial import LARGEST_STRETCH, InitialMemory

HEADS, WIDTHS = 3, [4, 8, 5, 4]


def build(scale=1.0, dtype=torch.float64):
    torch.manual_seed(0)
    memory = InitialMemory(HEADS, WIDTHS).to(dtype)
    with torch.no_grad():
        for w in memory:
            w.add_(0.3 * torch.randn_like(w)).mul_(scale)
    return memory


def plain(memory):
    """The bound by singular values, as autograd differentiates them."""
    layers = []
    for w in memory:
        stretch = torch.linalg.matrix_norm(w, ord=2)[:, None, None]
        layers.append(w * (LARGEST_STRETCH / stretch.clamp_min(LARGEST_STRETCH)))
    return layers


def assert_right(memory, tolerance=1e-12):
    for ours, theirs in zip(memory.weights(), plain(memory), strict=True):
        assert (ours - theirs).abs().max() <= tolerance


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 10.0])
def test_bound_and_its_gradient(scale):
    """At 1.0 some heads of a layer pass the bound and some do not."""
    memory = build(scale)
    assert_right(memory)
    torch.manual_seed(1)
    directions = [torch.randn_like(w) for w in memory]
    ours, theirs = (
        torch.autograd.grad(
            sum((w * d).sum() for w, d in zip(layers, directions, strict=True)), list(memory)
        )
        for layers in (memory.weights(), plain(memory))
    )
    for a, e in zip(ours, theirs, strict=True):
        assert torch.allclose(a, e, rtol=0, atol=1e-12)
    for w in memory.weights():
        assert torch.linalg.matrix_norm(w, ord=2).max() <= LARGEST_STRETCH + 1e-12


def test_half_precision_is_raised():
    memory = build(3.0, torch.bfloat16)
    assert all(w.dtype == torch.float32 for w in memory.weights())
    assert_right(copy.deepcopy(memory).float(), 1e-6)


@pytest.fixture
def searches(monkeypatch):
    """Counts how often a direction was looked for."""
    calls, search = [], initial._direction

    def count(w):
        calls.append(w)
        return search(w)

    monkeypatch.setattr(initial, "_direction", count)
    return calls


def step(memory):
    optimizer = torch.optim.SGD(memory.parameters(), lr=1.0)
    sum(w.square().sum() for w in memory.weights()).backward()
    optimizer.step()
    return memory


def write_data(memory):
    memory[1].data[0, 0, 0] += 5.0  # counted by no version
    return memory


def replace_data(memory):
    memory[1].data = 4 * memory[1].data
    return memory


def load(memory):
    memory.load_state_dict(build(7.0).state_dict())
    return memory


CHANGES = {
    "step": step,
    "write data": write_data,
    "replace data": replace_data,
    "load": load,
    "assign": lambda m: (m.load_state_dict(build(7.0).state_dict(), assign=True), m)[1],
    "deepcopy": lambda m: write_data(copy.deepcopy(m)),
    "pickle": lambda m: write_data(pickle.loads(pickle.dumps(m))),
    "double": lambda m: m.float().double(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_other_weights_are_noticed(change, scale):
    memory = build(scale)
    memory.weights()
    assert_right(CHANGES[change](memory))
    assert_right(memory)


def test_the_same_weights_are_searched_once(searches):
    memory = build(3.0)
    for _ in range(3):
        memory.weights()
        with torch.no_grad():
            memory.weights()
    assert len(searches) == len(WIDTHS) - 1
    write_data(memory).weights()
    assert len(searches) == len(WIDTHS)
    step(memory).weights()
    assert len(searches) == 2 * len(WIDTHS) - 1
    memory.half().weights()
    assert len(searches) == 3 * len(WIDTHS) - 2


def test_what_was_found_in_inference_mode_serves_training():
    memory = build(3.0)
    with torch.inference_mode():
        memory.weights()
    sum(w.square().sum() for w in memory.weights()).backward()
    assert all(w.grad.any() for w in memory)


def test_the_search_is_no_part_of_a_saved_model():
    memory = build()
    memory.weights()
    assert set(memory.state_dict()) == {"0", "1", "2"}
