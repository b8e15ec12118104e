"""The process that runs a trial, and a check whether it is still alive."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

__all__ = ["Owner", "is_gone", "process_start", "this_process"]


class Owner(TypedDict):
    """The process that runs a trial, as recorded in the trial."""

    host: str
    """The machine: the namespace in which `pid` is unique."""
    pid: int
    started: str | None
    """The start of the process, as :func:`process_start` returns it."""


def this_process() -> Owner:
    """Return the record of this process."""
    return {"host": _this_machine(), "pid": os.getpid(), "started": process_start(os.getpid())}


def is_gone(owner: Owner | None) -> bool:
    """Return whether a process of this machine has ended; False for one of another machine."""
    if not owner or owner["host"] != _this_machine():
        return False
    return process_start(owner["pid"]) != owner["started"]


def process_start(pid: int) -> str | None:
    """Return when a process of this machine started, or None if it has ended.

    A later process may get the same `pid`, but not the same start. The result is "unknown" if the system
    does not provide the start.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()  # the name may hold spaces and brackets
            return None if fields[0] in "ZX" else fields[19]  # a zombie has ended, too
    except OSError:
        pass
    if os.name == "nt":  # where os.kill would end the process
        return "unknown"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return "unknown"
    return "unknown"


def _this_machine() -> str:
    """Return a text that differs between machines and containers, which may share a host name."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)
