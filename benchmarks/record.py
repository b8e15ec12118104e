"""Result files: one json file per benchmark, with hardware and versions."""

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
    """Write rows to `NAME.json`, together with the hardware and the versions.

    Parameters
    ----------
    name : str
        Name of the file, without its ending.
    command : str
        The command that measures them again.
    rows : list of dict
        The measurements.
    device : str
        "cpu" or "cuda"; the latter adds the GPU and its driver.
    folder : Path, optional
        Folder of the file; default: `results` beside this module.
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
    aside = path.with_suffix(".part")  # an interrupted run keeps the last complete file
    aside.write_text(json.dumps(content, indent=2, default=repr) + "\n")  # options by their repr
    aside.replace(path)
    return path


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the rows of `NAME.json` in the results; none if it does not exist."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.is_file() else []


def replaced(
    rows: list[dict[str, Any]], row: dict[str, Any], key: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return rows with `row` at their end, in place of the one that has the same values of `key`."""
    return [r for r in rows if any(r[k] != row[k] for k in key)] + [row]


def data_file(ending: str) -> Path:
    """Find the file of a data set that is not downloaded, in the folder `TITANS_TS_DATA`."""
    home = os.environ.get("TITANS_TS_DATA")
    found = None if home is None else next(Path(home).rglob(ending), None)
    if found is None:
        raise SystemExit(f"TITANS_TS_DATA is {home!r}; it must name a folder that holds {ending}")
    return found


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def accelerator() -> dict[str, Any]:
    """Describe the first CUDA device."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "gpu_multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def hardware(device: str) -> str:
    """Return `cpu`, or the GPU's name in a form that is valid in a file name."""
    if device == "cpu":
        return device
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(0).lower()).strip("-")


def _commit() -> str:
    """Return the commit, with `-dirty` if files other than results differ; empty without a repository."""
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
