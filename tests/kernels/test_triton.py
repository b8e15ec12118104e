"""The Triton kernels: on a GPU where there is one, else interpreted on the CPU.

Interpreted, a kernel runs in Python and is slow, so shapes are tiny. What the interpreter cannot show,
that the kernels compile, is tested without a GPU by compiling them for one.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch

from tests.kernels.cases import (
    assert_same,
    inputs_for,
    make_inputs,
    outputs,
    recurrent_memory,
    run_with_gradients,
)
from titans_ts.kernels import MemoryCall, MemoryOutput, MemoryState, initial_state, neural_memory
from titans_ts.kernels.triton.op import shared_memory, uncovered

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

triton_memory = partial(neural_memory, implementation="triton")
operators = importlib.import_module("titans_ts.kernels.triton.op")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_INTERPRET = "TRITON_INTERPRET"
# where the error is taken, and the depth of the memory
RULES = pytest.mark.parametrize(
    ("error_at", "depth"), [("chunk", 1), ("chunk", 2), ("token", 1), ("token", 2)]
)
HALF_OF_THE_RULES = pytest.mark.parametrize(
    ("error_at", "depth"),
    [
        *(("chunk", 1), ("token", 2)),
        *(pytest.param(*rule, marks=pytest.mark.slow) for rule in (("chunk", 2), ("token", 1))),
    ],
)
"""The other half, of the same kernels in other combinations, is slow."""


def _interpret():
    """Import Triton and the kernels as interpreted functions: what they are is settled at the import."""
    before = os.environ.get(_INTERPRET)
    os.environ[_INTERPRET] = "1"
    try:
        language = importlib.import_module("triton.language")
        names = ["tiles", "coefficients", "solve", "linear", "deep"]
        modules = ["triton.language.standard", "triton.language"]
        modules += [f"titans_ts.kernels.triton.{name}" for name in names]
        again = type(language.sum).__name__ == "JITFunction"  # somebody imported it before
        for name in modules:
            if name in sys.modules and again:
                importlib.reload(sys.modules[name])
            else:
                importlib.import_module(name)
    finally:
        del os.environ[_INTERPRET]
        if before is not None:
            os.environ[_INTERPRET] = before


if DEVICE == "cpu":
    _interpret()


@pytest.fixture(autouse=True)
def _device(monkeypatch):
    """Interpret without a GPU, and fill what is allocated with NaN: what nobody writes shows."""
    if DEVICE == "cpu":
        monkeypatch.setenv(_INTERPRET, "1")

    def filled(allocate):
        def allocate_filled(*args, **kwargs):
            x = allocate(*args, **kwargs)
            return x.fill_(float("nan")) if x.is_floating_point() else x

        return allocate_filled

    monkeypatch.setattr(torch, "empty_like", filled(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", filled(torch.Tensor.new_empty))


def to(case, dtype, token_dtype=None):
    """A case on the device, its tokens and gates in a dtype of their own."""
    inputs, initial, state = case

    def move(x, dtype=dtype):
        return x.detach().to(DEVICE, dtype, copy=True)

    return (
        {n: None if x is None else move(x, token_dtype or dtype) for n, x in inputs.items()},
        tuple(map(move, initial)),
        MemoryState(*(tuple(map(move, ws)) for ws in state[:3]), state.position),
    )


def assert_matches(case, mask=None, tolerance=2e-5, **options):
    """Outputs, final state and every gradient against the recurrence in float64.

    In float32, sums of up to 512 products over up to 100 tokens: 2e-5 is some hundred roundings.
    """
    on_device = None if mask is None else mask.to(DEVICE)
    expected = run_with_gradients("recurrent", *case, mask=mask, **options)
    actual = run_with_gradients(triton_memory, *to(case, torch.float32), mask=on_device, **options)
    assert_same({n: x.cpu() for n, x in actual[0].items()}, expected[0], tolerance)
    assert torch.equal(actual[1], expected[1])
    assert_same({n: x.cpu() for n, x in actual[2].items()}, expected[2], tolerance)


@HALF_OF_THE_RULES
@pytest.mark.parametrize(("chunk_size", "length"), [(1, 1), (3, 13), (16, 1), (16, 16), (32, 40)])
def test_matches_recurrent(error_at, depth, chunk_size, length):
    """With a state carried in."""
    case = inputs_for(error_at, length, depth, heads=1 + (length == 16))
    assert_matches(case, chunk_size=chunk_size, error_at=error_at)


@HALF_OF_THE_RULES
@pytest.mark.parametrize(
    ("chunk_size", "length"), [pytest.param(1, 4, marks=pytest.mark.slow), (16, 70)]
)
def test_many_chunks_match_recurrent(error_at, depth, chunk_size, length):
    """70 tokens of chunks of 16 are 5 chunks in segments of 2."""
    case = inputs_for(error_at, length, depth, heads=1)
    assert_matches(case, chunk_size=chunk_size, error_at=error_at)


@HALF_OF_THE_RULES
@pytest.mark.parametrize(
    ("momentum", "forget", "masked", "read"),
    [
        (True, "init", True, True),
        (True, "zero", False, False),
        (True, None, True, True),
        pytest.param(False, "init", True, False, marks=pytest.mark.slow),
        (False, "zero", False, True),
        pytest.param(False, None, True, True, marks=pytest.mark.slow),
    ],
)
def test_switches_match_recurrent(error_at, depth, momentum, forget, masked, read):
    """Momentum, forgetting, mask, queries, and samples at different places of their chunk."""
    inputs, initial, state = inputs_for(
        error_at, 13, depth, momentum=momentum, forget=forget is not None, heads=1
    )
    state = state._replace(position=torch.tensor([4, 2]))
    mask = torch.rand(2, 13, generator=torch.Generator().manual_seed(3)) > 0.4 if masked else None
    if not read:
        inputs = inputs | {"q": None}
    options = {"chunk_size": 5, "forget_to": forget or "init", "error_at": error_at}
    assert_matches((inputs, initial, state), mask, **options)


@HALF_OF_THE_RULES
@pytest.mark.parametrize("length", [pytest.param(2, marks=pytest.mark.slow), 3, 11])
def test_goes_on_inside_a_chunk(error_at, depth, length):
    """All samples 4 tokens past a boundary: pieces that end in the same chunk, with it, and after it."""
    inputs, initial, state = inputs_for(error_at, length, depth, heads=1)
    state = state._replace(position=torch.tensor([4, 4]))
    assert_matches((inputs, initial, state), chunk_size=7, error_at=error_at)


@pytest.mark.parametrize("error_at", ["chunk", "token"])
@pytest.mark.parametrize(
    "widths",
    [
        pytest.param((16, 16), marks=pytest.mark.slow),
        (24, 40),
        (64, 64),
        pytest.param((16, 32, 16), marks=pytest.mark.slow),
        (24, 40, 20),
        (32, 64, 32),
    ],
)
def test_widths(error_at, widths):
    """Whole tiles, parts of tiles, and several programs or tiles side by side."""
    case = inputs_for(error_at, 18, len(widths) - 1, batch_size=1, heads=1, widths=widths)
    assert_matches(case, chunk_size=16, error_at=error_at)


@pytest.mark.slow
def test_widest_memory():
    assert_matches(make_inputs(2, 2, batch_size=1, heads=1, widths=(128, 512, 128)), chunk_size=1)


@RULES
def test_gates_at_their_limits_are_exact(error_at, depth):
    """forget = 1 clears the memory, momentum = 0 drops past surprise, also inside a chunk."""
    inputs, initial, state = inputs_for(error_at, 20, depth, heads=1)
    t = torch.arange(20)[:, None]
    inputs["forget"] = torch.where(t % 6 == 4, 1.0, inputs["forget"])
    inputs["momentum"] = torch.where(t % 5 == 3, 0.0, inputs["momentum"])
    assert_matches((inputs, initial, state), chunk_size=16, error_at=error_at)


@pytest.mark.parametrize(("depth", "eta"), [(1, 0.0), (1, 0.9), (2, 0.0)])
def test_equal_keys_in_a_long_chunk_are_solved_exactly(depth, eta):
    """A layer's largest step and one key: powers of the triangle exceed 1e9, its inverse does not."""
    inputs, initial, state = inputs_for("token", 64, depth, batch_size=1, heads=1)
    inputs["k"] = inputs["k"][:, :1].expand_as(inputs["k"]).clone()
    inputs["forget"] = torch.zeros_like(inputs["lr"])
    inputs["momentum"] = torch.full_like(inputs["lr"], eta)
    inputs["lr"] = torch.full_like(inputs["lr"], (1 - eta) / 2)
    assert_matches((inputs, initial, state), chunk_size=64, error_at="token")


@RULES
def test_any_split_is_one_pass_and_masked_tokens_are_absent(error_at, depth):
    """Pieces of a masked stream, empty and fully masked ones too == the present tokens alone."""
    inputs, initial, _ = to(inputs_for(error_at, 30, depth, heads=1), torch.float32)
    options = {"chunk_size": 8, "error_at": error_at}
    mask = torch.rand(2, 30, generator=torch.Generator().manual_seed(0)) > 0.3
    mask[:, :2] = False
    for x in inputs.values():
        x[~mask] = float("nan")  # what is masked may hold anything
    state = initial_state(initial, 2)
    reads = []
    for start, stop in ((0, 2), (2, 3), (3, 3), (3, 12), (12, 13), (13, 30)):
        piece = {n: x[:, start:stop] for n, x in inputs.items()}
        y, state, surprise = triton_memory(
            **piece, initial=initial, state=state, mask=mask[:, start:stop].to(DEVICE), **options
        )
        assert not surprise[~mask[:, start:stop]].any()
        reads.append(y)
    y = torch.cat(reads, 1)
    assert not y[~mask].any()
    for b in range(2):
        alone = {n: x[b : b + 1, mask[b]].cpu().double() for n, x in inputs.items()}
        m0 = tuple(w.cpu().double() for w in initial)
        expected = recurrent_memory(**alone, initial=m0, **options)
        actual = {n: x[b : b + 1] for n, x in outputs(triton_state(y, state)).items()}
        actual["y"] = actual["y"][:, mask[b]]
        wanted = outputs(expected)
        del wanted["surprise"], actual["surprise"]
        assert_same({n: x.cpu() for n, x in actual.items()}, wanted, 1e-5)
        assert state.position[b] == expected.state.position[0]


def triton_state(y, state):
    """A memory's output without its surprise."""
    return MemoryOutput(y, state, y.new_zeros(1))


@HALF_OF_THE_RULES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_exact_as_chunked(error_at, depth, dtype):
    """Errors against float64 at most twice those of the matrix form, which computes in float32.

    Both get the same rounded tokens, and round y, its gradient and those of the tokens.
    """
    case = inputs_for(error_at, 20, depth, heads=1)
    inputs, initial, state = to(case, torch.float32, dtype)
    rounded = {n: x.double().cpu() for n, x in inputs.items()}
    exact = run_with_gradients("recurrent", rounded, *case[1:], error_at=error_at)
    ours = run_with_gradients(triton_memory, inputs, initial, state, error_at=error_at)
    theirs = run_with_gradients("chunked", *to(case, torch.float32, dtype), error_at=error_at)
    assert ours[0]["y"].dtype == ours[2]["k"].dtype == dtype
    assert ours[0]["weights[0]"].dtype == torch.float32
    for got, reference, wanted in zip(ours[::2], theirs[::2], exact[::2], strict=True):
        for name, x in wanted.items():
            length = x.norm().clamp_min(1e-30)  # a linear memory's anchor may have no gradient
            error, allowed = (
                ((y[name].cpu().double() - x).norm() / length).item() for y in (got, reference)
            )
            # float32 sums in another order: 1e-6; on a GPU products of half tokens go through tf32
            floor = 1e-6 if DEVICE == "cpu" else 2e-3
            # and where a GPU rounds to bfloat16, the interpreter cuts off: twice the error
            factor = 4 if name == "y" and dtype == torch.bfloat16 and DEVICE == "cpu" else 2
            assert error <= factor * allowed + floor, f"{name}: {error:.1e}, chunked {allowed:.1e}"


def test_no_tokens():
    inputs, initial, state = to(make_inputs(0, 2), torch.float32)
    out, position, gradients = run_with_gradients(triton_memory, inputs, initial, state)
    assert out["y"].shape == inputs["v"].shape
    assert torch.equal(out["anchor[0]"], state.anchor[0])
    assert torch.equal(position, state.position)
    assert all(g.isfinite().all() for g in gradients.values())


def test_gradients_are_finite_where_there_is_no_surprise():
    """Zero keys and values, and a memory of zeros: the norm of the gradient is zero."""
    inputs, initial, _ = to(make_inputs(5, 2, heads=1), torch.float32)
    for name in ("k", "v"):
        inputs[name][:, :2] = 0
    initial = tuple(torch.zeros_like(w) for w in initial)
    _, _, gradients = run_with_gradients(triton_memory, inputs, initial, initial_state(initial, 2))
    assert all(g.isfinite().all() for g in gradients.values())


def operator_arguments(length, chunk_size, online, save):
    inputs, initial, state = to(make_inputs(length, 1, heads=1), torch.float32)
    packed = [operators._pack(w, w[0]) for w in (initial, *state[:3])]
    tensors = [x.requires_grad_(True) for x in inputs.values()]
    return (*tensors, *packed, None, state.position, [4, 5], chunk_size, True, online, save)


def test_operator_is_well_formed():
    """What torch.compile relies on: the schema, and autograd's registration."""
    checks = ("test_schema", "test_autograd_registration")
    for online in (False, True):
        arguments = operator_arguments(5, 3, online, True)
        torch.library.opcheck(operators._forward, arguments, test_utils=checks)


@pytest.mark.parametrize(("save", "boundaries"), [(True, 3), (False, 0)])
def test_few_boundaries_are_saved(save, boundaries):
    """16 chunks: those before chunks 4, 8 and 12; the first is an argument."""
    saved = operators._forward(*operator_arguments(16, 1, False, save))[5]
    assert saved.shape == (boundaries, 2, 2, 20)
    assert saved.isfinite().all()


def test_torch_compile_sees_one_operator():
    """No graph break, and the same numbers."""
    inputs, initial, state = to(make_inputs(5, 1, heads=1), torch.float32)

    def total(**tokens):
        y, final, surprise = triton_memory(**tokens, initial=initial, state=state, chunk_size=3)
        return y.sum() + surprise.sum() + final.weights[0].sum()

    leaves = [x.requires_grad_(True) for x in inputs.values()]
    expected = total(**inputs)
    actual = torch.compile(total, backend="aot_eager", fullgraph=True)(**inputs)
    assert torch.equal(actual, expected)
    both = (torch.autograd.grad(loss, leaves) for loss in (actual, expected))
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": torch.float64}, "float64 is not one of float32, bfloat16, float16"),
        ({"depth": 3}, "a memory of depth 3 is deeper than 2"),
        ({"widths": (129, 129)}, "a head of width 129 is wider than 128"),
        ({"widths": (16, 80, 16)}, "a hidden width of 80 is more than 4 times 16"),
        ({"chunk_size": 65}, "a chunk of 65 is longer than 64"),
    ],
)
def test_what_is_not_covered_is_said(change, reason):
    case = {"dtype": torch.float32, "depth": 2} | change
    chunk_size = case.pop("chunk_size", 16)
    inputs, initial, _ = make_inputs(2, **case)
    inputs = {n: x.to(DEVICE) for n, x in inputs.items()}
    assert uncovered(MemoryCall(**inputs, initial=initial, chunk_size=chunk_size)) == reason
    with pytest.raises(ValueError, match=f"does not cover this call: {reason}"):
        triton_memory(**inputs, initial=initial, chunk_size=chunk_size)


def test_a_gpu_is_wanted(monkeypatch):
    monkeypatch.delenv(_INTERPRET, raising=False)
    inputs, initial, _ = make_inputs(2, 1, torch.float32)
    assert uncovered(MemoryCall(**inputs, initial=initial)) == "tensors are on cpu, not on a GPU"


def test_triton_is_imported_when_it_is_used():
    code = "import sys, titans_ts.kernels; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


COMPILE = """
import importlib, json, sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

capability, jobs = json.loads(sys.argv[1])
for module, name, tokens, constants, warps in jobs:
    kernel = getattr(importlib.import_module(f"titans_ts.kernels.triton.{module}"), name)
    kernel = getattr(kernel, "fn", kernel) if type(kernel).__name__ == "Autotuner" else kernel
    types = dict.fromkeys(["N", "NC", "H", "offset", "EVERY"], "i32")
    types |= dict.fromkeys(["q", "k", "v", "y", "dy", "forget", "lr"], tokens)
    types |= {"n_full": "*i32", "present": "*i8"} | dict.fromkeys(constants, "constexpr")
    signature = {n: types.get(n, "*fp32") for n in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(signature)
               if signature[n].startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    built = compile(source, GPUTarget("cuda", capability, 32),
                    options={"num_warps": warps, "num_stages": 1})
    assert built.asm["cubin"]
    print(json.dumps([name, built.metadata.shared]))
"""


def compile_for(capability, jobs):
    """Shared memory in bytes of every kernel, compiled in a process that does not interpret."""
    environment = {n: x for n, x in os.environ.items() if n != _INTERPRET}
    command = [sys.executable, "-W", "ignore", "-c", COMPILE, json.dumps([capability, jobs])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(line) for line in done.stdout.splitlines())


def jobs_for(width, hidden, chunk_size, half, online):
    """All kernels of one setting."""
    tile = max(16, chunk_size)
    tokens, precision = ("*bf16", "tf32") if half else ("*fp32", "tf32x3")
    common = {"CHUNK": chunk_size, "BT": tile, "MOMENTUM": True}
    gates = common | {"FORGET": True, "PRESENT": True, "PRECISION": "tf32x3"}
    common |= {"READ": True, "TO_INITIAL": True, "ONLINE": online, "PRECISION": precision}
    common |= {"K": width, "V": width, "BK": width, "BV": width}
    if hidden:
        kind, common = "deep", common | {"F": hidden, "BF": 16}
    else:
        kind, common = "linear", common | {"BV": min(width, 32 if chunk_size <= 32 else 16)}
    warps, share_warps = 8 if max(width, tile) > 32 else 4, {16: 1, 32: 4, 64: 16}[tile]
    solve = {n: common[n] for n in ("K", "CHUNK", "BT", "BK")}
    solves = [
        ("solve", "solve_forward", tokens, solve, 4),
        ("solve", "solve_backward", tokens, solve | {"PARTS": 2}, 4),
    ]
    return [
        *(solves if online and not hidden else []),
        ("coefficients", "shares_forward", tokens, gates, share_warps),
        ("coefficients", "shares_backward", tokens, gates | {"PARTS": 2}, share_warps),
        (kind, f"{kind}_forward", tokens, common | {"SAVE": True}, warps),
        (kind, f"{kind}_backward", tokens, common, warps),
    ]


def check_compiles(capability, width, hidden, chunk_size, half, online):
    """The kernels become machine code that takes no more shared memory than `uncovered` reckons with."""
    limit = shared_memory(width, 2 if hidden else 1, chunk_size, online)
    taken = compile_for(capability, jobs_for(width, hidden, chunk_size, half, online))
    for name, shared in taken.items():
        assert shared <= limit, f"{name} takes {shared} bytes of shared memory, more than {limit}"


@pytest.mark.parametrize("hidden", [0, 16])
@pytest.mark.parametrize("online", [pytest.param(False, marks=pytest.mark.slow), True])
def test_kernels_compile_for_a_gpu(online, hidden):
    """Without having one. Chunks differ from the widths, so that tiles that are mixed up do not fit."""
    check_compiles(90, 16, hidden, 32, half=True, online=online)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("width", "hidden", "chunk_size"),
    [
        *((64, 0, 16), (128, 0, 16), (128, 0, 32), (64, 0, 64), (128, 0, 64)),
        *((64, 128, 16), (128, 512, 16), (128, 512, 32), (64, 256, 64)),
    ],
)
def test_kernels_compile_in_every_size(capability, online, half, width, hidden, chunk_size):
    check_compiles(capability, width, hidden, chunk_size, half, online)
