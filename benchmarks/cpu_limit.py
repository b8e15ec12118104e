"""A call in a process of its own, which ends when it has used too much of a processor."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["TooSlowError", "call_apart"]


class TooSlowError(Exception):
    """The call needed more CPU seconds than it may have."""


def call_apart(limit: int, call: Callable[..., Any], *args: Any) -> Any:
    """Return `call(*args)`, computed in a fresh process.

    Parameters
    ----------
    limit : int
        CPU seconds that the call may take, imports of its module not included.
    call, *args
        A function of a module and its arguments; they and the result are pickled.

    Raises
    ------
    TooSlowError
        If the limit is reached.
    RuntimeError
        If the process ends without a result for another reason, which it prints.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, limit, call, args))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGXCPU:
            raise TooSlowError(f"no end after {limit} CPU s") from None
        raise RuntimeError(f"{call.__name__} ended with exit code {process.exitcode}") from None
    finally:
        process.join()


def _send(sender: Connection, limit: int, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + limit, hard))
    sender.send(call(*args))
