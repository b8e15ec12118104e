"""The property of every public entry: a sane result, or an error of this package that helps."""

from __future__ import annotations

import ast
import functools
import os
import re
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import settings
from sklearn.exceptions import NotFittedError

__all__ = ["REFUSED", "examples", "outcome", "unhelpful"]

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(
    f"{ROOT / name}{os.sep}" for name in ("titans_ts", "kernels", "datasets", "pipelines")
)
SECONDS = 60
"""The longest time of a call; the examples take milliseconds."""
VERBS = (
    *(
        "give",
        "choose",
        "use",
        "set",
        "drop",
        "remove",
        "rename",
        "replace",
        "save",
        "write",
        "delete",
    ),
    *(
        "convert",
        "reindex",
        "resample",
        "sort",
        "make",
        "reshape",
        "flatten",
        "download",
        "compress",
    ),
    *(
        "check",
        "upgrade",
        "shorten",
        "fit",
        "localize",
        "bring",
        "raise",
        "install",
        "load",
        "leave",
    ),
    *("separate", "add", "read", "call", "pass", "name it", "begin", "cut"),
)
RULES = ("must", "needs?", "needed", "required", "lies?", "counts?", "comes", "known")
REMEDY = re.compile(rf"\b({'|'.join((*VERBS, *RULES))})\b", re.IGNORECASE)
"""What is to be done, or the rule that the value breaks."""
REFUSED = object()
"""What :func:`outcome` returns for an input that was refused."""


def examples(few: int) -> Any:
    """Settings of a property: this number of examples, or many times it in `make fuzz`."""
    return settings(max_examples=few * int(os.environ.get("TITANS_TS_FUZZ", "1")))


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or REFUSED if it raised an error of this package that helps.

    Any other error fails, and so do warnings of libraries (of computing with NaN, for instance) and a
    call that takes too long.
    """
    try:
        with _within(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the package's own
            return call()
    except Exception as error:
        problem = unhelpful(error)
        if problem is None:
            return REFUSED
        raise AssertionError(problem) from error


def unhelpful(error: BaseException) -> str | None:
    """Return why an error is not one of this package that names a remedy; None if it is."""
    if isinstance(error, NotFittedError):
        return None  # scikit-learn's, with its own words
    text = str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {text[:300]} ({Path(place.filename).name}:{place.lineno})"
    if not isinstance(error, (ValueError, TypeError, KeyError, OSError, ImportError)):
        return f"an error of another kind: {what}"
    if not place.filename.startswith(PACKAGES) or not _is_raise(place.filename, place.lineno or 0):
        return f"an error from inside: {what}"
    if len(text.split()) < 5 or not REMEDY.search(text):
        return f"a message without a remedy: {what}"
    return None


@functools.cache
def _raises(filename: str) -> tuple[tuple[int, int], ...]:
    """Return the first and last lines of the `raise` statements with an error in a module."""
    tree = ast.parse(Path(filename).read_text(encoding="utf-8"))
    return tuple(
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and node.exc is not None
    )


def _is_raise(filename: str, line: int) -> bool:
    return any(first <= line <= last for first, last in _raises(filename))


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise an AssertionError in code that runs for longer."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise RuntimeError(f"no result after {seconds} seconds")

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
