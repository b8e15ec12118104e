"""The arguments of one call as a single value, which every implementation takes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from titans_ts.kernels.state import MemoryState, Weights

__all__ = ["ERROR_AT", "FORGET_TO", "MemoryCall", "check"]

ERROR_AT = ("chunk", "token")
"""Allowed places of the error."""

FORGET_TO = ("init", "zero")
"""Allowed targets of forgetting."""


class MemoryCall(NamedTuple):
    """The arguments of :func:`titans_ts.kernels.neural_memory`, which documents them."""

    q: Tensor | None
    k: Tensor
    v: Tensor
    forget: Tensor | None
    momentum: Tensor | None
    lr: Tensor
    initial: Weights
    state: MemoryState | None = None
    mask: Tensor | None = None
    chunk_size: int = 16
    forget_to: str = "init"
    error_at: str = "chunk"

    @property
    def tokens(self) -> tuple[Tensor | None, ...]:
        """Queries, keys, values, forget, momentum and lr."""
        return self[:6]

    @property
    def to_initial(self) -> bool:
        """Whether the memory moves back to M_0 as it forgets."""
        return self.forget_to == "init" and self.forget is not None

    @property
    def online(self) -> bool:
        """Whether the output layer's error is taken at the memory before each token."""
        return self.error_at == "token"

    def cast(self, dtype: torch.dtype) -> MemoryCall:
        """The call with its tokens in a dtype, and M_0 in at least float32."""
        if self.v.dtype == dtype and all(
            x is None or x.dtype == dtype for x in (*self.tokens, *self.initial)
        ):
            return self
        wide = torch.promote_types(dtype, torch.float32)
        tokens = (x if x is None or x.dtype == dtype else x.to(dtype) for x in self.tokens)
        initial = tuple(w if w.dtype == wide else w.to(wide) for w in self.initial)
        return MemoryCall(*tokens, initial, *self[7:])  # type: ignore[arg-type, call-arg]

    def in_full_precision(self) -> MemoryCall:
        """The call in at least float32: a memory sums small updates, which half precision loses."""
        return self.cast(torch.promote_types(self.v.dtype, torch.float32))


def check(call: MemoryCall) -> None:
    """Check the shapes and options of a call.

    Raises
    ------
    ValueError
        If one of them does not match the others.
    """
    q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, *_ = call
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; it must be at least 1")
    for name, allowed in (("forget_to", FORGET_TO), ("error_at", ERROR_AT)):
        value = getattr(call, name)
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; choose one of {list(allowed)}")
    if not initial:
        raise ValueError("initial is empty; a memory has at least one layer")
    if k.ndim != 4:
        raise ValueError(f"k has shape {tuple(k.shape)}; expected [B, T, H, K]")
    batch, length, heads, width = k.shape
    tokens = (batch, length, heads)
    shapes: list[tuple[str, int | None, Tensor | None, tuple[int, ...]]] = [
        ("v", None, v, (*tokens, initial[-1].shape[-1])),
        ("q", None, q, (*tokens, width)),
        ("forget", None, forget, tokens),
        ("momentum", None, momentum, tokens),
        ("lr", None, lr, tokens),
        ("mask", None, mask, (batch, length)),
    ]
    d_in = width
    for layer, w in enumerate(initial):
        shapes.append(("initial", layer, w, (heads, d_in, w.shape[-1])))
        d_in = w.shape[-1]
    if state is not None:
        for field, layers in zip(state._fields, state[:3], strict=False):
            if len(layers) != len(initial):
                raise ValueError(
                    f"state.{field} has {len(layers)} layers, but initial has {len(initial)}"
                )
            shapes += [
                (f"state.{field}", layer, w, (batch, *w0.shape))
                for layer, (w, w0) in enumerate(zip(layers, initial, strict=True))
            ]
        shapes.append(("state.position", None, state.position, (batch,)))
    for name, index, tensor, expected in shapes:
        if tensor is not None and tensor.shape != expected:
            name = name if index is None else f"{name}[{index}]"
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {expected}")
    if state is not None and not torch.compiler.is_compiling():
        position = state.position.tolist()
        if not all(0 <= p < chunk_size for p in position):
            raise ValueError(
                f"state.position is {position}, outside a chunk of {chunk_size}; "
                "continue with the chunk_size that made the state"
            )
