"""One run of the benchmark: its settings, its contenders, and the rows so far."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

from record import PEERS, hardware, record, versions

from speed.contenders import Case, Contender, contenders, function_name
from speed.probe import probe, probe_apart
from speed.targets import targets
from titans_ts.kernels import IMPLEMENTATIONS

__all__ = ["Row", "Run", "digits", "short"]

Row = dict[str, Any]


class Run:
    """The settings of one call of the program, and the rows so far.

    Parameters
    ----------
    args : argparse.Namespace
        The options of `kernels.py`.
    command : str
        The command line of this run.
    """

    def __init__(self, args: argparse.Namespace, command: str) -> None:
        self.device, self.quick, self.rounds = args.device, args.quick, args.rounds
        self.lengths, self.limit, self.results = args.lengths, args.limit, args.results
        self.command = command
        self.end = time.monotonic() + args.budget
        self.least_seconds = 0.001 if self.quick else 0.05
        self.contenders = contenders(self.device)
        self.rows: list[Row] = []
        self._checked: dict[tuple[str, Case], str] = {}
        self.save()

    @property
    def base(self) -> Case:
        """The setting of the targets; each part sets its own T."""
        if self.quick:
            return Case(0, batch=2, heads=2, width=8, chunk=16, device=self.device)
        return Case(0, device=self.device)

    @property
    def settings(self) -> list[Case]:
        """Settings of the table; a GPU has one more, in bfloat16 with enough memories to be busy."""
        if self.device == "cpu":
            return [self.base]
        wide = replace(self.base, dtype="bfloat16")
        return [self.base, wide if self.quick else replace(wide, batch=8, heads=16, width=64)]

    @property
    def late(self) -> bool:
        """Whether the time of `--budget` is over."""
        return time.monotonic() > self.end

    def problem(self, contender: Contender, case: Case) -> str:
        """Return the failed check of a contender, or an empty string; it runs once per setting."""
        key = contender.name, replace(case, tokens=0)
        if key not in self._checked:
            try:
                problem = contender.check(case)
            except Exception as error:  # one contender's failure does not end the run
                problem = short(error)
            self._checked[key] = problem
            if problem:
                print(f"{contender.name} is not timed: {problem}", flush=True)
        return self._checked[key]

    def probe(self, name: str, case: Case, timeout: float | None = None) -> dict[str, Any]:
        """Measure the peak memory of a contender; on the CPU in a separate process."""
        if self.device != "cpu" or self.quick:
            return probe(name, case)
        return probe_apart(name, case, timeout or 6 * self.limit)

    def contender(self, name: str) -> Contender:
        """Return a contender by name."""
        return next(c for c in self.contenders if c.name == name)

    def implementations(self, case: Case) -> list[tuple[str, int]]:
        """Return our fast implementations that passed their check, as (implementation, depth)."""
        found = [
            (name, depth)
            for name in IMPLEMENTATIONS
            for depth in (2, 1)
            if name != "recurrent"
            and any(c.name == function_name(name, depth) for c in self.contenders)
        ]
        return [x for x in found if not self.problem(self.contender(function_name(*x)), case)]

    def failed(self, name: str, error: Exception) -> None:
        """Print and record that a contender could not be timed."""
        print(f"{name} failed: {short(error)}", flush=True)
        self.add({"part": "failure", "contender": name, "error": short(error)})

    def add(self, row: Row) -> None:
        """Add a row and save, so that an interrupted run keeps its rows."""
        self.rows.append(row)
        self.save()

    def save(self) -> None:
        """Write all rows so far."""
        rows = [] if self.quick else self.rows  # the targets are for other shapes
        self.path = record(
            f"kernels-{hardware(self.device)}",
            self.command,
            self.rows,
            device=self.device,
            folder=self.results,
            peers=versions(*PEERS),
            targets=[target._asdict() for target in targets(rows, self.device)],
        )


def digits(value: float) -> float:
    """Round to four significant digits."""
    return float(f"{value:.4g}")


def short(error: Exception) -> str:
    """Format an error for a row of a table."""
    text = str(error)
    if "can't allocate memory" in text or "out of memory" in text:  # torch, on the CPU and on CUDA
        return "needs more memory than there is"
    return f"{type(error).__name__}: {(text.strip().splitlines() or [''])[0][:200]}"
