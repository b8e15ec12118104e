"""Where a benchmark's results go: one json file a benchmark, with hardware and versions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "lightning", "scikit-learn")
PEERS = ("triton", "titans-pytorch", "flash-linear-attention")


def record(
    name: str,
    command: str,
    rows: list[dict[str, Any]],
    *,
    device: str = "cpu",
    folder: Path | None = None,
    **more: Any,
) -> Path:
    """Write rows to `NAME.json` beside what they were measured with.

    Parameters
    ----------
    name : str
        Name of the file, without its ending.
    command : str
        What to type to measure them again.
    rows : list of dict
        What was measured.
    device : str
        "cpu" or "cuda": the latter adds the GPU, and what drives it.
    folder : Path, optional
        Where to; default: `results` beside this file.
    **more
        Further entries of the file, before the rows.
    """
    content = {
        "command": command,
        "date": date.today().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions(*PACKAGES),
        **(accelerator() if device == "cuda" else {}),
        **more,
        "rows": rows,
    }
    folder = RESULTS if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    aside = path.with_suffix(".part")  # an interrupted run leaves the last complete file
    aside.write_text(json.dumps(content, indent=2, default=repr) + "\n")  # options by their repr
    aside.replace(path)
    return path


def data_file(ending: str) -> Path:
    """The file of a data set that is not downloaded, in the folder that `TITANS_TS_DATA` names."""
    home = os.environ.get("TITANS_TS_DATA")
    found = None if home is None else next(Path(home).rglob(ending), None)
    if found is None:
        raise SystemExit(f"TITANS_TS_DATA is {home!r}; it must name a folder that holds {ending}")
    return found


def versions(*packages: str) -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def accelerator() -> dict[str, Any]:
    """The first CUDA device."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "gpu_multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def hardware(device: str) -> str:
    """`cpu`, or the GPU's name as it may stand in a file's name."""
    if device == "cpu":
        return device
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(0).lower()).strip("-")


def _commit() -> str:
    """The commit measured, `-dirty` with changes beside its results; empty outside a repository."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    changed = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"]
    try:
        commit, dirty = (
            subprocess.run(
                [*git, *what], capture_output=True, text=True, check=False
            ).stdout.strip()
            for what in (["rev-parse", "--short", "HEAD"], changed)
        )
    except FileNotFoundError:  # a machine without git
        return ""
    return f"{commit}-dirty" if dirty else commit


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor()
