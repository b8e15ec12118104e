"""The form of the memory that a graph can hold, against the definition of correct."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from titans_ts.kernels import portable, reference
from titans_ts.kernels.call import MemoryCall

CASES = list(itertools.product((1, 2, 3), ("token", "chunk"), ("init", "zero"), (False, True)))


def call(depth, error_at, forget_to, carried, momentum=True, forget=True, length=21):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    q, k, v = (F.normalize(random(3, length, 2, n) - 0.5, dim=-1) for n in (4, 4, 6))
    gates = [random(3, length, 2) for _ in range(3)]
    step = gates[2] * (0.5 if error_at == "token" else 0.03)
    widths = [4] + [8] * (depth - 1) + [6]
    initial = tuple((random(2, a, b) - 0.5) / a**0.5 for a, b in itertools.pairwise(widths))
    tokens = [q, k, v, 0.3 * gates[0] if forget else None, gates[1] if momentum else None, step]
    state = None
    if carried:  # in the middle of a chunk
        begun = [None if x is None else x[:, :5] for x in tokens]
        state = reference.compute(
            MemoryCall(*begun, initial, None, None, 8, forget_to, error_at)
        ).state
    return MemoryCall(*tokens, initial, state, None, 8, forget_to, error_at)


@pytest.mark.parametrize("target", ["torch", "onnx"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_portable_is_the_reference(case, target):
    for momentum, forget in itertools.product((True, False), repeat=2):
        arguments = call(*case, momentum, forget, length=11)
        expected = reference.compute(arguments)
        with portable.recording(target):
            found = portable.compute(arguments)
        torch.testing.assert_close(found.y, expected.y, atol=1e-11, rtol=0)
        torch.testing.assert_close(found.surprise, expected.surprise, atol=1e-11, rtol=0)
        for mine, theirs in zip(found.state[:3], expected.state[:3], strict=True):
            for w, other in zip(mine, theirs, strict=True):
                torch.testing.assert_close(w, other, atol=1e-11, rtol=0)
        assert expected.state.position.tolist() == [found.state.position] * 3


def test_recording_ends():
    with portable.recording("onnx"):
        assert portable.recorded_format() == "onnx"
    assert portable.recorded_format() is None
