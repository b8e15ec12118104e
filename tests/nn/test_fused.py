"""The lean passes around the memory against the plain operations they stand for."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from titans_ts.nn import fused
from titans_ts.nn.fused import gated_norm, project

B, D, WIDTH, REST = 2, 6, 3, 5
ROUNDING = 1e-12  # float64: sums of a few dozen terms of size 1


@pytest.fixture(autouse=True, params=[None, 4], ids=["one piece", "many pieces"])
def pieces(request, monkeypatch):
    """Pieces of four tokens, so that eleven tokens make three and every boundary is crossed."""
    if request.param:
        monkeypatch.setattr(fused, "_PIECE_NUMBERS", 1)
        monkeypatch.setattr(fused, "_SHORTEST_PIECE", request.param)


def arguments(length, size, groups=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        tensor = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return tensor.to(dtype).requires_grad_(True)

    return (
        random(B, length, D),
        random(B, size - 1, groups * D),
        random(D + groups * D + REST, D),
        random(size, groups * D),
    )


def plain_project(x, last, weight, taps, bounded=False):
    """The same with plain operations: one convolution over the whole stream."""
    gate, new, rest = (x @ weight.mT).split([D, taps.shape[1], REST], -1)
    stream = torch.cat([last, new], 1)
    y = sum(stream[:, tap : tap + x.shape[1]] * w for tap, w in enumerate(taps))
    vectors = F.silu(y).unflatten(-1, (-1, D // WIDTH, WIDTH)).unbind(2)
    units = [F.normalize(vector, dim=-1) for vector in vectors]
    if bounded:
        units[-1] = vectors[-1] / (1 + vectors[-1].square().sum(-1, keepdim=True)).sqrt()
    return gate, units, rest, stream[:, x.shape[1] :]


def flat(result):
    gate, units, rest, last = result
    return gate, *units, rest, last


@pytest.mark.parametrize("size", [1, 2, 4, 7])
@pytest.mark.parametrize("length", [0, 1, 2, 11])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_project_is_its_definition(length, size, gradients, bounded):
    inputs = arguments(length, size)
    with torch.set_grad_enabled(gradients):
        actual = flat(project(*inputs, WIDTH, bounded=bounded))
    for ours, theirs in zip(actual, flat(plain_project(*inputs, bounded)), strict=True):
        assert ours.shape == theirs.shape
        assert ours.requires_grad == gradients
        assert torch.allclose(ours, theirs, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("size", [1, 2, pytest.param(4, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("length", [1, 2, 11])
@pytest.mark.parametrize("bounded", [False, True])
def test_gradients_of_project_are_finite_differences(length, size, bounded):
    """Of the tokens, what the convolution saw before, the weights and the taps, also through `last`.

    Long ones along random directions, as every single difference takes seconds.
    """
    inputs, fast = arguments(length, size), length > 2
    assert torch.autograd.gradcheck(
        lambda *x: flat(project(*x, WIDTH, bounded=bounded)), inputs, fast_mode=fast
    )


@pytest.mark.parametrize("groups", [1, 3])
def test_gradients_in_float32(groups):
    """1e-4 relative: float32 rounds at 6e-8, and the taps' gradients sum 22 products."""
    inputs = arguments(11, 4, groups, torch.float32)
    exact = arguments(11, 4, groups)
    for function, of in ((plain_project, exact), (lambda *x: project(*x, WIDTH), inputs)):
        torch.manual_seed(0)
        sum((y * torch.randn(y.shape)).sum() for y in flat(function(*of))).backward()
    for ours, theirs in zip(inputs, exact, strict=True):
        assert (ours.grad - theirs.grad).norm() < 1e-4 * theirs.grad.norm()


@pytest.mark.parametrize("lengths", [[0, 11], [2, 3], [5, 1]])
def test_only_present_tokens_are_remembered(lengths):
    """What the convolution goes on from, and its gradients, are those of the present tokens alone."""
    x, last, weight, taps = arguments(11, 4)
    after = project(x, last, weight, taps, WIDTH, torch.tensor(lengths))[-1]
    for b, n in enumerate(lengths):
        alone = plain_project(x[b : b + 1, :n], last[b : b + 1], weight, taps)[-1]
        assert torch.allclose(after[b], alone[0], rtol=0, atol=ROUNDING)
        ours, theirs = (
            torch.autograd.grad(y.sum(), (x, last, weight), retain_graph=True)
            for y in (after[b], alone[0])
        )
        for a, e in zip(ours, theirs, strict=True):
            assert torch.allclose(a, e, rtol=0, atol=ROUNDING)


def test_zero_tokens_have_no_direction():
    """A vector too short to be divided by its length stays as short, and no gradient is NaN."""
    inputs = arguments(11, 4)
    with torch.no_grad():
        inputs[0][:, 3:9] = 0
        inputs[1].zero_()
    for function in (plain_project, lambda *x: project(*x, WIDTH)):
        gradients = torch.autograd.grad(
            sum(y.square().sum() for y in flat(function(*inputs))), inputs
        )
        assert all(gradient.isfinite().all() for gradient in gradients)
    units = project(*inputs, WIDTH)[1]
    assert not units[0][:, 6:9].any()


@pytest.mark.parametrize("model", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_lower_precision(model, autocast):
    """Products in bfloat16, the rest in float32; a float32 tap makes the units float32 again."""
    inputs, exact = arguments(11, 4, dtype=model), arguments(11, 4)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        actual = flat(project(*inputs, WIDTH))
        sum(y.float().square().sum() for y in actual).backward()
    half = torch.bfloat16 if autocast else model
    assert [y.dtype for y in actual] == [half, *[model] * 3, half, half]
    for ours, theirs in zip(actual, flat(plain_project(*exact)), strict=True):
        # bfloat16 rounds inputs and products at 2^-9 each; short vectors magnify it
        limit = 1e-6 if half == torch.float32 else 0.03
        assert (ours.double() - theirs).norm() < limit * theirs.norm()
    for ours in inputs:
        assert ours.grad.dtype == model
        assert ours.grad.isfinite().all()


def plain_norm(y, gate, weight, open_gate=False):
    activation = 2 * torch.sigmoid(gate) if open_gate else F.silu(gate)
    return F.rms_norm(y, weight.shape, weight, 1e-6).flatten(2) * activation


@pytest.mark.parametrize("open_gate", [False, True])
@pytest.mark.parametrize("length", [0, 1, 11])
def test_gated_norm_is_its_definition(length, open_gate):
    torch.manual_seed(0)
    inputs = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((B, length, 4, WIDTH), (B, length, 4 * WIDTH), (WIDTH,))
    ]
    ours, theirs = gated_norm(*inputs, open_gate), plain_norm(*inputs, open_gate)
    assert torch.allclose(ours, theirs, rtol=0, atol=ROUNDING)
    with torch.no_grad():
        assert torch.equal(gated_norm(*inputs, open_gate), ours)
    if length:
        assert torch.autograd.gradcheck(partial(gated_norm, open_gate=open_gate), inputs)


def test_gated_norm_takes_any_layout_and_precision():
    """What a memory returns may be transposed; a gate may be in half precision."""
    torch.manual_seed(0)
    y = torch.randn(B, 4, 11, WIDTH).transpose(1, 2).requires_grad_(True)
    gate = torch.randn(B, 11, 4 * WIDTH, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(WIDTH, requires_grad=True)
    out = gated_norm(y, gate, weight, False)
    gradients = torch.autograd.grad(out.sum(), (y, gate, weight))
    expected = torch.autograd.grad(plain_norm(y, gate.float(), weight).sum(), (y, gate, weight))
    assert out.dtype == torch.float32
    for ours, theirs in zip(gradients, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).norm() < 0.01 * theirs.norm()  # 2^-8 a product with the gate


def test_nothing_but_the_inputs_is_kept():
    inputs = arguments(11, 4)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        gate, (y, *_), _, _ = project(*inputs, WIDTH)
        gated_norm(y, gate, torch.ones(WIDTH, dtype=torch.float64), False)
    assert {x.data_ptr() for x in kept[:4]} == {x.data_ptr() for x in inputs}
    assert len(kept) == 4 + 3


@pytest.mark.parametrize("pieces", [None], indirect=True)
def test_long_sums_in_float32():
    """A gradient summed over all tokens, whose terms have one sign, is as exact as its terms."""
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(4, 16384, 1, 16, generator=generator)
    x = torch.rand(4, 16384, 16, generator=generator)
    gate = torch.rand(4, 16384, 16, generator=generator)
    last, taps = torch.rand(4, 2, 16, generator=generator), torch.rand(3, 16, generator=generator)
    weight = torch.rand(32, 16, generator=generator)

    def gradients(dtype):
        scale = torch.ones(16, dtype=dtype, requires_grad=True)
        filters = taps.to(dtype, copy=True).requires_grad_()
        gated_norm(y.to(dtype), gate.to(dtype), scale, False).sum().backward()
        _, (units,), _, _ = project(x.to(dtype), last.to(dtype), weight.to(dtype), filters, 4)
        (units[..., 0] * x[..., :4].to(dtype)).sum().backward()
        return scale.grad, filters.grad

    for ours, exact in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        error = (ours - exact).abs().max() / exact.abs().max()
        assert error < 1e-6


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3, 1e30])
def test_bounded_vectors_keep_the_order_of_their_lengths(size):
    """Their lengths stay below one, and unit vectors are as they were."""
    x, last, weight, taps = (t.detach() for t in arguments(11, 1))
    taps.fill_(size)
    plain, bounded = (project(x, last, weight, taps, WIDTH, bounded=b)[1] for b in (False, True))
    for before, after in zip(plain[:-1], bounded[:-1], strict=True):
        assert torch.equal(before, after)
    stream = F.silu((x @ weight.mT)[..., -D - REST : -REST] * size)
    length = stream.unflatten(-1, (-1, WIDTH)).norm(dim=-1)
    found = bounded[-1].norm(dim=-1)
    assert found.max() < 1 + ROUNDING
    assert torch.allclose(found, length / (1 + length**2).sqrt(), rtol=1e-12)
