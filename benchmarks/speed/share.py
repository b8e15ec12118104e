"""Operations per second of the memory, as a share of the machine's limit, and where the rest goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from speed.contenders import Case, function_name, widths
from speed.measure import Action, Timing, interleaved, limits, rate
from speed.operations import chunk_products, least_bytes, memory_operations
from speed.run import Row, Run, digits

__all__ = ["share_of_machine"]

MEMORIES = 64
"""Batch times heads; a GPU is also measured with four times as many."""
_PRODUCTS = {
    f"aten::{name}{end}" for name in ("bmm", "mm", "addmm", "baddbmm") for end in ("", "_")
}


def share_of_machine(run: Run) -> Iterator[Row]:
    """Time our memory in the same rounds as one large product, a copy, and its products alone."""
    for case in _cases(run):
        best = limits(run.device, run.quick)
        actions = dict(best)
        found = run.implementations(case)
        for name, depth in found:
            step = run.contender(function_name(name, depth)).build(case)
            actions[f"{name} {depth} forward"] = step.forward
            actions[f"{name} {depth} train"] = step.train
            if run.device == "cpu":
                actions[f"products {depth} train"] = _products_alone(case, depth)
        timings = interleaved(actions, run.rounds, run.device, run.least_seconds, run.failed)
        rates = {name: rate(name, timings[name], run.device, run.quick) for name in best}
        print(", ".join(f"{name} {value / 1e9:.1f} G/s" for name, value in rates.items()))
        for name, depth in found:
            passes = [m for m in ("forward", "train") if f"{name} {depth} {m}" in timings]
            for mode in passes:
                yield _share_row(case, name, depth, mode, timings, rates)
            if run.device == "cpu" and "train" in passes:
                yield _gap_row(run, case, name, depth, timings)


def _cases(run: Run) -> list[Case]:
    tokens = 64 if run.quick else 2048
    cases = [replace(s, batch=MEMORIES // s.heads, tokens=tokens) for s in run.settings]
    if run.device != "cpu":  # enough memories to keep a whole GPU busy
        cases.append(replace(cases[-1], batch=4 * cases[-1].batch))
    return cases


def _share_row(
    case: Case,
    name: str,
    depth: int,
    mode: str,
    timings: dict[str, Timing],
    rates: dict[str, float],
) -> Row:
    timing = timings[f"{name} {depth} {mode}"]
    memories, backward = case.batch * case.heads, mode == "train"
    counted, needed = (
        memories
        * memory_operations(
            widths(case.width, depth),
            case.tokens,
            case.chunk,
            backward=backward,
            needed_only=needed_only,
        )
        for needed_only in (False, True)
    )
    size = 2 if case.dtype == "bfloat16" else 4
    moved = memories * least_bytes(case.tokens, case.width, size, backward=backward)
    return {
        "part": "share",
        "contender": function_name(name, depth),
        "mode": mode,
        "tokens": case.tokens,
        "memories": memories,
        "width": case.width,
        "dtype": case.dtype,
        "seconds": digits(timing.median),
        "gflops_counted": digits(counted / 1e9),
        "gflops_per_s": digits(counted / timing.median / 1e9),
        "shares": {
            limit: digits(counted / timing.median / value)
            for limit, value in rates.items()
            if limit != "copy"
        },
        "triangles_as_half": digits(needed / counted),
        "share_of_bandwidth": digits(moved / timing.median / rates["copy"]),
        "limits": {limit: digits(value / 1e9) for limit, value in rates.items()},
    }


def _products_alone(case: Case, depth: int) -> Action:
    """Return an action that runs only the products of a forward and backward pass, at their shapes."""
    memories, chunks = case.batch * case.heads, case.tokens // case.chunk
    work = []
    for p in chunk_products(widths(case.width, depth), case.chunk):
        if p.inner > 1:
            a = case.randn(memories, p.rows, p.inner)
            b = case.randn(memories, p.inner, p.columns)
            work += [(a, b, torch.bmm(a, b))] * p.times

    def run() -> None:
        for _ in range(chunks):
            for a, b, out in work:
                torch.bmm(a, b, out=out)
                torch.bmm(out, b.mT)
                torch.bmm(a.mT, out)

    return run


def _gap_row(run: Run, case: Case, name: str, depth: int, timings: dict[str, Timing]) -> Row:
    """Profile a pass: the time of every operation."""
    step = run.contender(function_name(name, depth)).build(case)
    step.train()  # otherwise the mapping of fresh pages would count as work
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step.train()
    spent = {e.key: e.self_cpu_time_total for e in profiler.key_averages()}
    total = sum(spent.values())
    others = sorted((k for k in spent if k not in _PRODUCTS), key=lambda k: spent[k], reverse=True)
    return {
        "part": "gap",
        "contender": function_name(name, depth),
        "seconds": digits(timings[f"{name} {depth} train"].median),
        "seconds_of_products_alone": digits(timings[f"products {depth} train"].median),
        "share_in_products": digits(sum(spent.get(p, 0) for p in _PRODUCTS) / total),
        "share_in_others": {k: digits(spent[k] / total) for k in others[:8]},
        "calls": sum(e.count for e in profiler.key_averages()),
    }
