"""Where a benchmark's results go: one json file a benchmark, with hardware and versions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def record(name: str, command: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows to `results/NAME.json` beside what they were measured with."""
    packages = ("torch", "numpy", "lightning", "scikit-learn")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    content = {
        "command": command,
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {p: importlib.metadata.version(p) for p in packages},
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor()
