"""The state of a stream, which is a nested tuple of tensors, and functions for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

__all__ = ["detach_state", "flatten_state", "map_state", "repeat_state", "unflatten_state"]

State = TypeVar("State")


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply a function to every tensor of a state."""
    return unflatten_state({k: function(v) for k, v in flatten_state(state).items()}, state)


def detach_state(state: State) -> State:
    """Detach a state from its graph, for truncated back-propagation through time."""
    return map_state(Tensor.detach, state)


def repeat_state(state: State, batch_size: int) -> State:
    """Repeat the state of one stream for `batch_size` streams."""
    return map_state(lambda x: x.expand(batch_size, *x.shape[1:]), state)


def flatten_state(state: object, prefix: str = "") -> dict[str, Tensor]:
    """Return every tensor of a state by its dotted path.

    Examples
    --------
    >>> import torch
    >>> list(flatten_state((torch.zeros(1), (torch.ones(2),))))
    ['0', '1.0']
    """
    if isinstance(state, Tensor):
        return {prefix: state}
    if not isinstance(state, tuple):
        raise TypeError(f"a state has tensors and tuples of tensors, not {type(state).__name__}")
    names = getattr(state, "_fields", range(len(state)))
    parts: dict[str, Tensor] = {}
    for name, value in zip(names, state, strict=True):
        parts |= flatten_state(value, f"{prefix}.{name}" if prefix else str(name))
    return parts


def unflatten_state(tensors: dict[str, Tensor], like: State, prefix: str = "") -> State:
    """Rebuild a state of the same structure as `like` from the result of :func:`flatten_state`.

    Raises
    ------
    ValueError
        If a tensor is missing.
    """
    if isinstance(like, Tensor):
        if prefix not in tensors:
            raise ValueError(f"the state has no {prefix!r}; it was made by another kind of model")
        return tensors[prefix]  # type: ignore[return-value]
    assert isinstance(like, tuple)
    names = getattr(like, "_fields", range(len(like)))
    parts = [
        unflatten_state(tensors, value, f"{prefix}.{name}" if prefix else str(name))
        for name, value in zip(names, like, strict=True)
    ]
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)
