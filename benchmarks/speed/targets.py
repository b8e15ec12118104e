"""The targets of the benchmark, and whether a run's rows reach them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from speed.contenders import (
    LAYER_YARDSTICK,
    STEP_BACKBONE,
    STEP_FUNCTION,
    STEP_LAYER,
    function_name,
    layer_name,
)
from speed.measure import per_round

__all__ = ["LINEAR_FROM", "Target", "targets"]

Row = dict[str, Any]
NOT_MEASURED = "not measured in this run"
LINEAR_FROM, LONG, LONGEST = 2048, 8192, 65536


class Target(NamedTuple):
    """One line of the list of targets."""

    target: str
    measured: str
    reached: bool | None
    """Whether the target is reached; None if it was not measured."""


def targets(rows: list[Row], device: str) -> list[Target]:
    """Return every target for this device; most are for one CPU thread."""
    if device != "cpu":
        return list(_gpu(rows))
    return [*_speed(rows), *_memory(rows), *_share(rows), *_long(rows), *_step(rows)]


def _speed(rows: list[Row]) -> Iterator[Target]:
    ours = layer_name(2)
    for tokens, bound in ((LINEAR_FROM, 0.65), (LONG, 0.35)):
        yield _below(
            f"forward and backward at T = {tokens}: at most {bound} transformer layers",
            _times(rows, ours, LAYER_YARDSTICK, tokens),
            bound,
        )
    yield _above(
        "at least 1.5 times the throughput of titans-pytorch, default, T from 2048",
        _least_faster(rows, ours, "titans-pytorch, default, depth 2"),
        1.5,
    )
    rule = "titans-pytorch, paper's rule, depth 2"
    longest = max((r["tokens"] for r in _table(rows, rule) if "train" in r), default=0)
    yield _above(
        "at least 50 times that of its paper's rule, at the largest T that it can run"
        + (f", {longest}" if longest else ""),
        _faster(rows, ours, rule, longest),
        50,
    )
    yield _above(
        "depth 1: at least the throughput of its depth 1, T from 2048",
        _least_faster(rows, layer_name(1), "titans-pytorch, default, depth 1"),
        1,
    )


def _memory(rows: list[Row]) -> Iterator[Target]:
    extra = {
        r["tokens"]: r["extra_mb"]
        for r in _table(rows, layer_name(2))
        if "extra_mb" in r and r["dtype"] == "float32"
    }
    yield _below(
        f"extra memory, forward and backward at T = {LONG}: at most 300 MB", extra.get(LONG), 300
    )
    growth = None
    if {LONG, LONGEST} <= extra.keys():
        growth = extra[LONGEST] / extra[LONG] / (LONGEST / LONG)
    yield _below(
        f"the same at T = {LONGEST}: at most linear (times its share at {LONG}, 5 % allowed)",
        growth,
        1.05,
    )


def _share(rows: list[Row]) -> Iterator[Target]:
    shares = [
        r["shares"]["product float32"]
        for r in rows
        if r["part"] == "share"
        and r["mode"] == "train"
        and r["memories"] == 64
        and r["contender"].endswith("depth 2")
        and r["dtype"] == "float32"
    ]
    yield _above(
        "share of one large float32 product's throughput at batch x heads = 64, forward and "
        "backward: at least 0.35",
        max(shares, default=None),
        0.35,
    )


def _long(rows: list[Row]) -> Iterator[Target]:
    kept = []
    for mode in ("forward", "train"):
        by_length = {
            r["tokens"]: r[mode]["samples"]
            for r in _table(rows, layer_name(2), reference=None)
            if mode in r and (r.get("reference") or r["tokens"] == LONGEST)
        }
        if {LINEAR_FROM, LONGEST} <= by_length.keys():
            ratio = per_round(by_length[LINEAR_FROM], by_length[LONGEST])
            kept.append(ratio * LONGEST / LINEAR_FROM)
    yield _above(
        f"tokens/s at T = {LONGEST}: at least 0.8 of those at {LINEAR_FROM} (the worse of forward "
        "and forward and backward)",
        min(kept, default=None),
        0.8,
    )
    peak = {r["tokens"]: r["peak_mb"] for r in rows if r["part"] == "stream" and "peak_mb" in r}
    growth = peak[max(peak)] / peak[min(peak)] if len(peak) == 2 else None
    yield _below(
        "streaming forward: peak memory of 1 M tokens at most 1.05 times that of 64 k", growth, 1.05
    )


def _step(rows: list[Row]) -> Iterator[Target]:
    step = {r["contender"]: r for r in rows if r["part"] == "step"}
    for name in (STEP_FUNCTION, STEP_LAYER):
        yield _above(
            f"one token a step, batch 4, {name}: at least 10 000 tokens/s",
            step[name]["tokens_per_s"] if name in step else None,
            10_000,
        )
    yield _below(
        "one token a step, batch 1, the default backbone: at most 1 ms",
        step[STEP_BACKBONE]["milliseconds"] if STEP_BACKBONE in step else None,
        1,
    )


def _gpu(rows: list[Row]) -> Iterator[Target]:
    peer = "gated delta rule (fla)"
    for depth, bound in ((1, 1.0), (2, 0.5)):
        yield _above(
            f"depth {depth}: at least {bound} of the throughput of fla's gated delta rule",
            _least_faster(rows, function_name("triton", depth), peer),
            bound,
        )
    errors: dict[tuple[str, int], dict[str, float]] = {
        (r["implementation"], r["depth"]): r["errors"] for r in rows if r["part"] == "precision"
    }
    worst = [
        errors["triton", depth][name] / error
        for depth in (1, 2)
        if {("triton", depth), ("chunked", depth)} <= errors.keys()
        for name, error in errors["chunked", depth].items()
        if name.startswith("d")
    ]
    yield _below(
        "bfloat16 gradients: at most 2 times the chunked path's error against float64",
        max(worst, default=None),
        2,
    )


def _table(rows: list[Row], name: str, reference: bool | None = False) -> list[Row]:
    return [
        r
        for r in rows
        if r["part"] == "table"
        and r["contender"] == name
        and (reference is None or r.get("reference", False) == reference)
    ]


def _times(rows: list[Row], name: str, other: str, tokens: int) -> float | None:
    """Return the time of one divided by that of the other, forward and backward, in the same rounds."""
    a, b = (
        {(r["dtype"], r["width"]): r for r in _table(rows, n) if r["tokens"] == tokens}
        for n in (name, other)
    )
    ratios = [
        per_round(a[key]["train"]["samples"], b[key]["train"]["samples"])
        for key in a.keys() & b.keys()
        if "train" in a[key] and "train" in b[key]
    ]
    return max(ratios, default=None)


def _faster(rows: list[Row], name: str, other: str, tokens: int) -> float | None:
    times = _times(rows, name, other, tokens)
    return None if times is None else 1 / times


def _least_faster(rows: list[Row], name: str, other: str) -> float | None:
    """Return the smallest advantage over all T from 2048 at which both were timed."""
    lengths = {r["tokens"] for r in _table(rows, other) if r["tokens"] >= LINEAR_FROM}
    found = [_faster(rows, name, other, tokens) for tokens in lengths]
    return min((x for x in found if x is not None), default=None)


def _below(text: str, value: float | None, bound: float) -> Target:
    return Target(text, _text(value), None if value is None else value <= bound)


def _above(text: str, value: float | None, bound: float) -> Target:
    return Target(text, _text(value), None if value is None else value >= bound)


def _text(value: float | None) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
