"""Read the cells of columns as numbers; what is no number is reported and taken as missing."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from titans_ts.datasets import check_frame

__all__ = ["numbers", "readable_numbers", "say_sentinels"]

_FEW = 0.2
"""Largest share of unreadable cells in a column that is still taken as one of numbers."""
_THOUSANDS = r"[+-]?\d{1,3}(?:[,' \u00a0\u202f]\d{3})+(?:\.\d+)?"
_GROUPED = r"[,' \u00a0\u202f]"


def readable_numbers(column: pd.Series) -> bool:
    """Return whether a column holds numbers, but for a few cells.

    Examples
    --------
    >>> readable_numbers(pd.Series(["1", "2", "?", "4", "5", "6"]))
    True
    >>> readable_numbers(pd.Series(["north", "south"]))
    False
    """
    column = _plain(column)
    if pd.api.types.is_bool_dtype(column.dtype):
        return False
    if pd.api.types.is_numeric_dtype(column.dtype):
        return True
    if not _is_text(column):
        return False
    known = column.notna()
    share = float((_parsed(column).isna() & known).sum()) / max(int(known.sum()), 1)
    return bool(known.any()) and share <= _FEW


def numbers(column: pd.Series, say: Callable[[str], None], option: str | None = None) -> pd.Series:
    """Return a column as numbers; truth values become 0 and 1.

    Parameters
    ----------
    column : Series
        Numbers, truth values or text.
    say : callable
        Receives a line if cells are unreadable or have separators of thousands.
    option : str, optional
        The option that names the column. It is given in the message.

    Raises
    ------
    ValueError
        If more than a few cells are no numbers.
    """
    column = _plain(column)
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.astype("Float64").astype(float)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    where = "" if option is None else f"{option}: "
    if not readable_numbers(column):
        known = column.dropna()
        example = repr(known.iloc[0]) if len(known) else "no value"
        raise ValueError(f"{where}column {column.name!r} holds {example}; give a column of numbers")
    text = column.astype("string").str.strip()
    grouped = text.str.fullmatch(_THOUSANDS).fillna(False)
    if grouped.any():
        say(f"column {column.name!r}: {text[grouped].iloc[0]!r} has separators of thousands")
    parsed = _parsed(column)
    wrong = parsed.isna() & column.notna()
    if wrong.any():
        kinds = text[wrong].drop_duplicates()
        shown = ", ".join(repr(str(cell)) for cell in kinds[:3]) + ", ..." * (len(kinds) > 3)
        say(
            f"column {column.name!r}: {int(wrong.sum())} of {len(column)} values are not numbers "
            f"({shown}); taken as missing"
        )
    return parsed


def say_sentinels(frame: pd.DataFrame, say: Callable[[str], None]) -> None:
    """Name the values of a frame of numbers that look like codes for missing values."""
    found = check_frame(frame.reset_index(drop=True))
    for _, row in found[found["kind"] == "sentinel"].iterrows():
        code = row["detail"].partition(" ")[0]
        say(
            f"column {row['column']!r}: {row['count']} values are {code}, which looks like a code for "
            f"a missing value; if it is one, give --missing={code}"
        )


def _plain(column: pd.Series) -> pd.Series:
    """Return categories as what they are, and objects that are all truth values as such."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object).infer_objects()
    if column.dtype == object:
        known = column.dropna()
        if len(known) and all(isinstance(cell, bool) for cell in known):
            return column.astype("boolean")
    return column


def _is_text(column: pd.Series) -> bool:
    return pd.api.types.is_string_dtype(column.dtype) or column.dtype == object


def _parsed(column: pd.Series) -> pd.Series:
    """Return text as floats; NaN where it is no number."""
    text = column.astype("string").str.strip()
    grouped = text.str.fullmatch(_THOUSANDS).fillna(False)
    text = text.where(~grouped, text.str.replace(_GROUPED, "", regex=True))
    return pd.to_numeric(text, errors="coerce").astype(float)
