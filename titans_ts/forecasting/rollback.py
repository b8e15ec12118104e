"""A refused call keeps the series that a forecaster without a fit follows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["keeps_series"]

Method = TypeVar("Method", bound=Callable[..., Any])


def keeps_series(method: Method) -> Method:
    """Let a method of a forecaster without a fit that raises an error leave the forecaster unchanged.

    Such a forecaster follows the last series that a method was given. What it learns of the series is
    set before the method computes anything, and is taken back if the method fails.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        if not self._from_pretrained:
            return method(self, *args, **options)
        before = dict(vars(self))
        try:
            return method(self, *args, **options)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return run  # type: ignore[return-value]
