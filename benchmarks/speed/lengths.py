"""The table: tokens per second, yardsticks and peak memory of every contender at every length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from speed.contenders import FUNCTION_YARDSTICK, LAYER_YARDSTICK, Case, Contender
from speed.measure import Timing, interleaved, per_round
from speed.run import Row, Run, digits, short
from speed.tables import setting
from speed.targets import LINEAR_FROM

__all__ = ["time_lengths"]

Taken = dict[str, tuple[int, float]]
"""The last T of each contender, and the seconds of its forward and backward pass."""

AGAIN = ", again"
"""Suffix of our layers at `LINEAR_FROM` in the rounds of the longest T, which show linear time."""


def time_lengths(run: Run) -> Iterator[Row]:
    """Yield rows of every contender at every length, in every setting."""
    for shapes in run.settings:
        taken: Taken = {}
        for tokens in run.lengths:
            print(f"{setting(asdict(shapes))}, T = {tokens}", flush=True)
            yield from _time_length(run, replace(shapes, tokens=tokens), taken)


def _time_length(run: Run, case: Case, taken: Taken) -> Iterator[Row]:
    rows: dict[str, Row] = {}
    runnable = []
    for contender in _entrants(run, case):
        row = rows[contender.name] = _row(contender, case)
        row |= _prepare(run, contender, case, taken)
        if not row.keys() & {"failed", "skipped", "error"}:
            runnable.append(contender)
    if case.tokens == max(run.lengths) > LINEAR_FROM:
        rows |= {c.name + AGAIN: _again(c, case) for c in runnable if _compared(c)}
    timings = _time(run, runnable, case, rows)
    for contender in runnable:
        if timing := timings.get(f"{contender.name} train"):
            taken[contender.name] = case.tokens, timing.median
    for name, row in rows.items():
        yardstick = LAYER_YARDSTICK if row["kind"] == "layer" else FUNCTION_YARDSTICK
        for mode in ("forward", "train"):
            if f"{name} {mode}" in timings:
                row[mode] = _figures(row, timings[f"{name} {mode}"])
                reference = timings.get(f"{yardstick} {mode}")
                if reference and not row.get("reference"):
                    ratio = per_round(timings[f"{name} {mode}"].samples, reference.samples)
                    row[mode]["yardsticks"] = round(ratio, 4)
        yield row


def _entrants(run: Run, case: Case) -> list[Contender]:
    """List the contenders of a case: layers only in the first setting, functions in all."""
    first = replace(case, tokens=0) == run.settings[0]
    return [
        c
        for c in run.contenders
        if (first or c.kind == "function")
        and case.dtype in c.dtypes
        and not (c.shortest_only and case.tokens > min(run.lengths))
    ]


def _prepare(run: Run, contender: Contender, case: Case, taken: Taken) -> Row:
    """Check, estimate and probe a contender; return its memory, or why it is not timed."""
    problem = run.problem(contender, case)
    if problem:
        return {"failed": problem}
    if run.late:
        return {"skipped": "the time given to this run was over"}
    if contender.name in taken:
        tokens, before = taken[contender.name]
        expected = before * (case.tokens / tokens) ** (2 if contender.quadratic else 1)
        if expected > run.limit:
            return {"skipped": f"a pass would take about {expected:.0f} s"}
    try:
        found = run.probe(contender.name, case)
    except Exception as error:
        taken[contender.name] = case.tokens, float("inf")  # skip greater lengths, too
        return {"error": short(error)}
    taken[contender.name] = case.tokens, found["seconds"]
    row: Row = {"extra_mb": round(found["extra_bytes"] / 1e6, 1), "finite": found["finite"]}
    if found["seconds"] > 2 * run.limit:
        row["skipped"] = f"a pass takes {found['seconds']:.0f} s"
    return row


def _time(
    run: Run, runnable: list[Contender], case: Case, rows: dict[str, Row]
) -> dict[str, Timing]:
    actions = {}
    for contender in runnable:
        step = contender.build(case)
        actions[f"{contender.name} forward"] = step.forward
        actions[f"{contender.name} train"] = step.train
        if contender.name + AGAIN in rows:
            step = contender.build(replace(case, tokens=LINEAR_FROM))
            actions[f"{contender.name}{AGAIN} forward"] = step.forward
            actions[f"{contender.name}{AGAIN} train"] = step.train

    def failed(name: str, error: Exception) -> None:
        rows[name.rpartition(" ")[0]]["error"] = short(error)

    return interleaved(actions, run.rounds, run.device, run.least_seconds, failed)


def _compared(contender: Contender) -> bool:
    return contender.ours and contender.kind == "layer"


def _again(contender: Contender, case: Case) -> Row:
    """Make the row of the shorter length that is timed in the rounds of the longest."""
    row = _row(contender, replace(case, tokens=LINEAR_FROM))
    return row | {"reference": True, "note": f"in the rounds of T = {case.tokens}"}


def _row(contender: Contender, case: Case) -> Row:
    shapes = asdict(case)
    shapes.pop("device")
    return {"part": "table", "contender": contender.name, "kind": contender.kind, **shapes}


def _figures(row: Row, timing: Timing) -> Row:
    low, high = timing.quartiles
    return {
        "tokens_per_s": round(row["batch"] * row["tokens"] / timing.median),
        "seconds": digits(timing.median),
        "quartiles": [digits(low), digits(high)],
        "samples": [digits(s) for s in timing.samples],
    }
