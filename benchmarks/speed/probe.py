"""One forward and backward pass in a separate process: its peak memory, and whether it survives.

Run as a program, it reads `{"name": .., "case": {"tokens": .., ..}, "threads": ..}` from its argument
and prints `{"extra_bytes": .., "seconds": .., "finite": ..}`. The process is fresh because a resident
set depends on what ran before, and because a peer that needs too much memory then stops no other one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from speed.contenders import PIECE, Case, contenders, stream
from speed.measure import peak_memory

__all__ = ["STREAM", "probe", "probe_apart"]

STREAM = "stream"
_SHARE_OF_FREE_MEMORY = 0.7


def probe(name: str, case: Case) -> dict[str, Any]:
    """Run once, after a short warm-up, in this process.

    Parameters
    ----------
    name : str
        A contender, or `STREAM`.
    case : Case
        Shapes of the contender.

    Returns
    -------
    dict
        `peak_bytes` (maximum), `extra_bytes` (maximum minus the bytes before), `seconds`, and whether
        the output is `finite`.
    """
    torch.manual_seed(0)
    if name == STREAM:
        stream(replace(case, tokens=min(case.tokens, PIECE)))()
        action = stream(case)
    else:
        contender = next(c for c in contenders(case.device) if c.name == name)
        contender.build(replace(case, tokens=min(case.tokens, 2 * case.chunk))).train()
        action = contender.build(case).train
    outputs = []
    start = time.perf_counter()
    peak, before = peak_memory(lambda: outputs.append(action()), case.device)
    return {
        "peak_bytes": peak,
        "extra_bytes": peak - before,
        "seconds": time.perf_counter() - start,
        "finite": bool(outputs[0].isfinite().all()),
    }


def probe_apart(name: str, case: Case, timeout: float = 600) -> dict[str, Any]:
    """Run :func:`probe` in a fresh process.

    Raises
    ------
    RuntimeError
        If that process fails; the message is its last line.
    """
    task = {"name": name, "case": asdict(case), "threads": torch.get_num_threads()}
    here = Path(__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
    try:
        result = subprocess.run(
            [sys.executable, "-m", "speed.probe", json.dumps(task)],
            cwd=here,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no end after {timeout:.0f} s") from error
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"killed by signal {-result.returncode}"]
        raise RuntimeError(lines[-1][:300])
    return json.loads(result.stdout.splitlines()[-1])


def _bound_memory() -> None:
    """Limit this process to a part of the free memory: an error here is better than a full machine."""
    free = _kilobytes("/proc/meminfo", "MemAvailable") * _SHARE_OF_FREE_MEMORY
    bound = int((_kilobytes("/proc/self/status", "VmSize") + free) * 1024)
    resource.setrlimit(resource.RLIMIT_AS, (bound, resource.RLIM_INFINITY))


def _kilobytes(path: str, field: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    _bound_memory()
    print(json.dumps(probe(given["name"], Case(**given["case"]))))
