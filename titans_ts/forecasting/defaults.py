"""Default lengths of a forecaster: the steps that it reads, and those in a token, from the data.

Most of a context that is longer than the items would be padding, and a token that is longer than a
season hides its shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from titans_ts.forecasting.frequency import usual_seasons

__all__ = ["Lengths", "default_batch_size", "default_lengths"]

_LONGEST_CONTEXT = 512
_LONGEST_PATCH = 48


class Lengths(NamedTuple):
    """The lengths of a forecaster in steps; None is not given."""

    context_length: Any = None
    """Steps before a forecast that are read."""
    patch_length: Any = None
    """Steps in a token."""
    patch_stride: Any = None
    """Steps between the starts of two tokens."""


def default_lengths(
    prediction_length: int,
    freq: str | pd.offsets.BaseOffset | None,
    n_rows: int,
    *,
    single: bool = False,
    given: Lengths = Lengths(),  # noqa: B008
) -> Lengths:
    """Return the lengths for a forecast of H steps, where S is the shortest usual season.

    The context is two of the longest usual season that the rows have three of, and at least 4 S and 2 H;
    without a frequency, it is 96 or 2 H. It is at most a quarter of the rows, so that there are windows
    to learn from, but S + H if the rows allow it; and at most 512 or 2 H. A token has S steps, but at
    most a quarter of the context; an eighth of it if S is less than 4; and 2 to 48 steps. Tokens start
    every half of their length.

    Parameters
    ----------
    prediction_length : int
        H.
    freq : str, offset or None
        Frequency of the rows; None if they have no times.
    n_rows : int
        Number of rows of a typical item.
    single : bool
        Whether it is the only item (default False). Its rows then have to be enough for more windows, and
        if possible for validation.
    given : Lengths
        Lengths that are kept (default: none).

    Examples
    --------
    >>> default_lengths(24, "h", 5000)
    Lengths(context_length=336, patch_length=24, patch_stride=12)
    >>> default_lengths(12, "MS", 72)
    Lengths(context_length=24, patch_length=6, patch_stride=3)
    >>> default_lengths(6, None, 30, single=True, given=Lengths(patch_length=4))
    Lengths(context_length=7, patch_length=4, patch_stride=2)
    """
    context, patch, stride = given
    if context is None:
        context = _context(prediction_length, freq, n_rows, single)
    if patch is None:
        season = usual_seasons(freq)[0]
        patch = min(season, context // 4) if season >= 4 else round(context / 8)
        patch = min(max(patch, 2), _LONGEST_PATCH, context)
    if stride is None:
        stride = max(1, patch // 2)
    return Lengths(context, patch, stride)


def default_batch_size(n_variates: int) -> int:
    """Return the number of windows in a training step.

    Examples
    --------
    >>> default_batch_size(1), default_batch_size(4), default_batch_size(321)
    (32, 16, 8)
    """
    return min(32, max(8, 64 // n_variates))


def _context(H: int, freq: str | pd.offsets.BaseOffset | None, n_rows: int, single: bool) -> int:
    seasons = usual_seasons(freq)
    S = seasons[0]
    longest = max((season for season in seasons if 3 * season <= n_rows), default=S)
    wanted = 96 if freq is None else max(2 * longest, 4 * S)
    length = max(min(n_rows // 4, max(wanted, 2 * H)), S + H)
    room = n_rows
    if single:  # half of what validation and the first window leave, or the window alone
        room = (n_rows - 2 * H if n_rows - 2 * H >= 4 else n_rows - H) // 2
    return max(2, min(length, room, max(_LONGEST_CONTEXT, 2 * H)))
