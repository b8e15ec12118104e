"""Wording shared by the errors of this package."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["unknown_name"]


def unknown_name(argument: str, name: object, known: Iterable[str], hint: str = "") -> str:
    """Return the error message for an unknown name.

    Parameters
    ----------
    argument
        Name of the argument.
    name
        The value received.
    known
        The accepted names.
    hint
        A closing sentence on how to fix it (default: none).

    Examples
    --------
    >>> unknown_name("name", "etth1", ["ETTh1", "weather"])
    "name='etth1' is not known; did you mean 'ETTh1'? Known names: ETTh1, weather."
    """
    choices = sorted(known)
    # The comparison ignores case: "etth1" for "ETTh1" is the most common typing error.
    folded = {choice.casefold(): choice for choice in choices}
    close = get_close_matches(str(name).casefold(), folded, n=1)
    guess = f"; did you mean {folded[close[0]]!r}?" if close else "."
    message = f"{argument}={name!r} is not known{guess} Known names: {', '.join(choices)}."
    return f"{message} {hint}" if hint else message
