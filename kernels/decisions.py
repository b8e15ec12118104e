"""A log of which code computes a call, for the functions that explain it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["covered", "note", "recorded"]

_records: list[tuple[str, str]] | None = None


@contextmanager
def recorded() -> Iterator[list[tuple[str, str]]]:
    """Record every decision inside a `with` block, as `(part, decision)`, in the order they are made."""
    global _records
    before, _records = _records, []
    try:
        yield _records
    finally:
        _records = before


def note(part: str, decision: object) -> None:
    """Record a decision if a :func:`recorded` block is open."""
    if _records is not None:
        _records.append((part, str(decision)))


def covered(part: str, reason: str | None) -> bool:
    """Record whether a compiled kernel computes a part of a model, and return it.

    Parameters
    ----------
    part : str
        Name of the part in the log.
    reason : str or None
        Why the kernel does not cover the call, or None if it does.
    """
    if _records is not None:
        decision = (
            "one compiled call"
            if reason is None
            else f"torch operations\nnot one compiled call: {reason}"
        )
        _records.append((part, decision))
    return reason is None
