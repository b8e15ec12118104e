"""The compiled kernels: widths and threads, what the compiler is asked, and what happens without one."""

from __future__ import annotations

import os
import shlex
import threading
import warnings

import pytest
import torch

from tests.kernels.cases import COMPILED, assert_same, make_inputs, run_with_gradients
from titans_ts.kernels import explain, neural_memory
from titans_ts.kernels.native import abi, compiler
from titans_ts.kernels.native import op as native
from titans_ts.kernels.native.abi import in_threads

pytestmark = COMPILED


@pytest.fixture
def no_library(monkeypatch):
    """Nothing is compiled so far, and nothing of it is remembered later."""
    forgotten = (compiler._load, compiler.unavailable, compiler._compiler, compiler._folder)
    for function in forgotten:
        function.cache_clear()
    yield
    monkeypatch.undo()
    for function in forgotten:
        function.cache_clear()


@pytest.mark.parametrize("widths", [(1, 1), (3, 70, 2), (16, 32, 16), (33, 17), (32, 64, 64, 48)])
@pytest.mark.parametrize("chunk_size", [16, 64])
def test_any_width_is_the_rule(widths, chunk_size):
    """Whole vectors of any processor and not, rows longer and shorter than a chunk."""
    inputs, initial, state = make_inputs(70, len(widths) - 1, widths=widths)
    state = state._replace(position=torch.tensor([5, 13]))
    options = {"chunk_size": chunk_size}
    expected = run_with_gradients("recurrent", inputs, initial, state, **options)
    actual = run_with_gradients("native", inputs, initial, state, **options)
    assert_same(actual[0], expected[0], 1e-10)
    assert_same(actual[2], expected[2], 1e-10)


@pytest.mark.parametrize("forget_to", ["init", "zero"])
@pytest.mark.parametrize("momentum", [True, False])
def test_a_stream_without_a_state_begins_at_the_initial_memory(forget_to, momentum):
    inputs, initial, _ = make_inputs(40, 2, momentum=momentum)
    results = []
    for name in ("native", "recurrent"):
        tensors = [
            x.detach().requires_grad_() for x in (*inputs.values(), *initial) if x is not None
        ]
        given = iter(tensors)
        again = {n: None if x is None else next(given) for n, x in inputs.items()}
        options = {"chunk_size": 8, "forget_to": forget_to, "implementation": name}
        result = neural_memory(**again, initial=tuple(given), **options)
        loss = result.y.sin().sum() + result.surprise.sum()
        loss = loss + sum(w.cos().sum() for layers in result.state[:3] for w in layers)
        found = torch.autograd.grad(loss, tensors)
        results.append({str(i): x for i, x in enumerate([result.y, *found])})
    assert_same(*results, 1e-10)


def test_threads_share_the_memories(monkeypatch):
    inputs, initial, state = make_inputs(50, 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = run_with_gradients("native", inputs, initial, state, chunk_size=8)
        torch.set_num_threads(4)
        monkeypatch.setattr(native, "_WORK", 1)
        actual = run_with_gradients("native", inputs, initial, state, chunk_size=8)
    finally:
        torch.set_num_threads(before)
    assert_same(actual[0], expected[0], 1e-14)
    assert_same(actual[2], expected[2], 1e-14)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_threads_are_kept_and_made_anew_after_a_fork(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    def used():
        return in_threads(6, 3, lambda *part: (threading.get_ident(), part))

    assert [part for _, part in used()] == [(0, 2), (2, 4), (4, 6)]
    assert used()[0][0] == threading.get_ident()
    pool = abi.threads(2)
    used()
    assert abi.threads(1) is abi.threads(2) is pool
    child = os.fork()
    if child == 0:
        os._exit(0 if [part for _, part in used()] == [(0, 2), (2, 4), (4, 6)] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert abi.threads(2) is pool


def test_an_error_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for failing in (0, 1):
        with pytest.raises(ZeroDivisionError):
            in_threads(2, 2, lambda first, _, failing=failing: 1 / (first - failing))


@pytest.mark.parametrize("layout", ["strided", "half", "float mask"])
def test_tensors_may_be_laid_out_in_any_way(layout):
    inputs, initial, state = make_inputs(20, 2, dtype=torch.float32)
    options = {"initial": initial, "state": state, "chunk_size": 8}
    mask = torch.rand(2, 20, generator=torch.Generator().manual_seed(3)) > 0.3
    options["mask"] = mask if layout == "float mask" else None
    given = inputs
    if layout == "strided":
        given = {n: x.mT.contiguous().mT if x.ndim == 4 else x for n, x in inputs.items()}
        given = {n: x.transpose(0, 1).contiguous().transpose(0, 1) for n, x in given.items()}
    if layout == "half":
        given = inputs = {n: x.bfloat16() for n, x in inputs.items()}
    expected = neural_memory(**inputs, **options, implementation="recurrent")
    if layout == "float mask":
        options["mask"] = mask.float()
    actual = neural_memory(**given, **options, implementation="native")
    assert actual.y.dtype == inputs["v"].dtype
    assert actual.surprise.dtype == torch.float32
    tolerance = 1e-2 if layout == "half" else 1e-5  # y is rounded to eight bits there
    assert (actual.y.float() - expected.y.float()).abs().max() < tolerance
    assert (actual.state.weights[0] - expected.state.weights[0]).abs().max() < 1e-5
    assert torch.equal(actual.state.position, expected.state.position)
    assert actual.state.position.dtype == torch.int64


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_what_is_wrong_with_one_sample_stays_with_it(bad):
    inputs, initial, state = make_inputs(20, 2)
    expected = run_with_gradients("native", inputs, initial, state, chunk_size=8)
    with torch.no_grad():
        inputs["k"][0, 0] = bad
    actual = run_with_gradients("native", inputs, initial, state, chunk_size=8)
    for got, wanted in zip(actual[::2], expected[::2], strict=True):
        for name, x in wanted.items():
            if not name.startswith("initial"):  # which both samples share
                assert torch.equal(got[name][1], x[1]), name


def test_positions_are_checked_where_they_are_used():
    inputs, initial, state = make_inputs(4, 2)
    options = {"initial": initial, "chunk_size": 8, "implementation": "native"}
    moved = state._replace(position=torch.tensor([-200, 0]))
    with pytest.raises(ValueError, match=r"state.position is \[-200, 0\], outside a chunk of 8"):
        neural_memory(**inputs, **options, state=moved)
    operator = torch.ops.titans_ts.native_memory
    layers = [*initial, *state.weights, *state.momentum, *state.anchor]
    with pytest.raises(ValueError, match=r"position is \[300, 0\]; expected 2 numbers from 0 to 7"):
        operator(
            torch.tensor([300, 0]), None, [*inputs.values(), *layers], 2, 8, True, False, False
        )
    narrow = state._replace(position=torch.tensor([3, 5], dtype=torch.int32))
    wide = state._replace(position=torch.tensor([3, 5]))
    results = [neural_memory(**inputs, **options, state=s).y for s in (narrow, wide)]
    assert torch.equal(*results)


def test_what_is_elsewhere_is_refused():
    inputs, initial, state = make_inputs(4, 2)
    options = {"initial": initial, "chunk_size": 8, "implementation": "native"}
    mask = torch.ones(2, 4, dtype=torch.bool, device="meta")
    with pytest.raises(ValueError, match="a tensor is on meta, others on the CPU"):
        neural_memory(**inputs, **options, state=state, mask=mask)
    with torch.device("meta"):  # where new tensors go by themselves
        neural_memory(**inputs, **options)


def test_two_words_may_name_the_compiler(monkeypatch, no_library):
    monkeypatch.setenv("CC", f"{shlex.join(compiler._compiler())} -O1")
    compiler._compiler.cache_clear()
    assert compiler.unavailable() is None
    assert compiler._compiler()[-1] == "-O1"


def test_without_a_compiler_there_are_matrix_products(monkeypatch, no_library):
    monkeypatch.setenv("CC", "a-compiler-that-is-not-there")
    inputs, initial, _ = make_inputs(3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert explain(**inputs, initial=initial) == (
            "chunked: the first that covers the call\n"
            "not native: no C compiler was found (install gcc or clang, or name one in CC)\n"
            "not step: the call has 3 tokens, not one\n"
            "not triton: float64 is not one of float32, bfloat16, float16"
        )
        assert neural_memory(**inputs, initial=initial).y.isfinite().all()
    with pytest.raises(ValueError, match="does not cover this call: no C compiler was found"):
        neural_memory(**inputs, initial=initial, implementation="native")


def test_a_compiler_that_fails_is_named_once(monkeypatch, no_library, tmp_path):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho no such instruction >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setattr(compiler, "_folder", lambda: tmp_path)
    inputs, initial, _ = make_inputs(3, 2)
    with pytest.warns(UserWarning, match="without its compiled kernels.*no such instruction"):
        assert explain(**inputs, initial=initial).startswith("chunked: ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert neural_memory(**inputs, initial=initial).y.isfinite().all()
    assert [path.name for path in tmp_path.iterdir()] == ["cc"]


def test_what_is_compiled_is_kept_and_tuned_only_where_it_can_be(monkeypatch, no_library, tmp_path):
    plain = tmp_path / "cc"
    plain.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        'case "$*" in *-march=native*) exit 1;; esac\n'
        f'exec {shlex.join(compiler._compiler())} "$@"\n'
    )
    plain.chmod(0o755)
    compiler._compiler.cache_clear()
    monkeypatch.setenv("CC", str(plain))
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.setattr(compiler, "_folder", lambda: folder)
    inputs, initial, state = make_inputs(70, 2)
    expected = run_with_gradients("recurrent", inputs, initial, state, chunk_size=16)
    actual = run_with_gradients("native", inputs, initial, state, chunk_size=16)
    assert_same(actual[0], expected[0], 1e-10)
    assert_same(actual[2], expected[2], 1e-10)
    calls = (tmp_path / "calls").read_text().splitlines()
    kept = list(folder.glob("*.so"))
    compiler._load.cache_clear()
    compiler.library("DOUBLE")
    assert (tmp_path / "calls").read_text().splitlines() == calls
    assert list(folder.glob("*.so")) == kept
    assert len(kept) == 1  # for float64 alone
    assert len(calls) == 2
