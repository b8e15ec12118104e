"""The one place that chooses how a memory is computed, and can say why."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.chunked.op import chunked_memory
from titans_ts.kernels.chunked.step import step_memory
from titans_ts.kernels.native.op import native_memory, uncovered_by_native
from titans_ts.kernels.reference import recurrent_memory
from titans_ts.kernels.state import MemoryOutput, MemoryState, Weights
from titans_ts.kernels.triton.op import triton_memory, uncovered

__all__ = ["IMPLEMENTATIONS", "explain", "forced", "neural_memory", "read_memory"]

IMPLEMENTATIONS: dict[str, Callable[..., MemoryOutput]] = {
    "native": native_memory,
    "chunked": chunked_memory,
    "recurrent": recurrent_memory,
    "triton": triton_memory,
}
"""Every implementation of the memory, by name; all have the signature of :func:`neural_memory`.

One more, the step of a single token without gradients, is taken by itself on a GPU and where nothing
is compiled.
"""

_ENVIRONMENT = "TITANS_TS_IMPLEMENTATION"
_FORGET_TO = ("init", "zero")
_STEP = "step"


def neural_memory(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    forget: Tensor | None,
    momentum: Tensor | None,
    lr: Tensor,
    initial: Weights,
    state: MemoryState | None = None,
    *,
    mask: Tensor | None = None,
    chunk_size: int = 16,
    forget_to: str = "init",
    implementation: str | None = None,
) -> MemoryOutput:
    """Write every token into the memory and read the memory after it (write, then read).

    With M the memory, t' the last chunk boundary before t, and l(M; x) = |M(k) - v|^2::

        S_t = momentum_t * S_{t-1} - lr_t * grad l(M_{t'}; x_t)
        M_t = (1 - forget_t) * M_{t-1} + forget_t * M_0 + S_t
        y_t = M_t(q_t)

    Parameters
    ----------
    q : Tensor or None
        Queries `[B, T, H, K]`; None writes without reading.
    k, v : Tensor
        Keys `[B, T, H, K]` and values `[B, T, H, V]`.
    forget, momentum, lr : Tensor or None
        The gates alpha, eta and theta, `[B, T, H]`, the first two in `[0, 1]`, or None for a memory
        that does not forget, or has no momentum (S is then left as it is).
    initial : Weights
        M_0, the initial memory: L_M >= 1 bias-free layers `[H, d_in, d_out]` with SiLU between them.
    state : MemoryState, optional
        Where to go on from; default: M_0 and no momentum.
    mask : Tensor, optional
        `[B, T]` bool, True where a token is present. A masked token is absent: nothing is written,
        it takes no place in its chunk, its output and surprise are zero.
    chunk_size : int
        b, how many tokens share the point at which their gradients are taken; 1 is the purely
        online rule.
    forget_to : {"init", "zero"}
        What forgetting moves towards: M_0 (stable at any length), or zero (the paper's form, which
        loses a deep memory for ever after long unlearnable input).
    implementation : str, optional
        A key of `IMPLEMENTATIONS`; default: environment variable TITANS_TS_IMPLEMENTATION, else the
        fastest that covers the case. :func:`explain` says which and why.

    Returns
    -------
    MemoryOutput
        `(y, state, surprise)`: y `[B, T, H, V]` in v's dtype (None without queries), the final state
        and the surprise `[B, T, H]`, both in at least float32.

    Raises
    ------
    ValueError
        If shapes disagree, `chunk_size` is below 1 or a name is unknown.

    Notes
    -----
    Source: arXiv 2501.00663, equations 8 to 15; forgetting towards M_0 is ours, see README.md here.
    """
    _check(q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, forget_to)
    tokens = (q, k, v, forget, momentum, lr)
    name, _ = _choose(tokens, initial, state, mask, chunk_size, implementation)
    compute: Callable[..., MemoryOutput] = step_memory if name == _STEP else IMPLEMENTATIONS[name]
    # A memory accumulates thousands of small updates: below float32 they round away. (Triton's
    # kernels raise the precision themselves, as they read.)
    dtype = v.dtype if name == "triton" else torch.promote_types(v.dtype, torch.float32)
    with torch.autocast(v.device.type, enabled=False):
        y, final, surprise = compute(
            *(_in(dtype, x) for x in tokens),
            tuple(_in(torch.promote_types(dtype, torch.float32), w) for w in initial),
            state,
            mask=mask,
            chunk_size=chunk_size,
            forget_to=forget_to,
        )
    return MemoryOutput(None if y is None else y.to(v.dtype), final, surprise)


def _in(dtype: torch.dtype, x: Any) -> Any:
    """A tensor, or None, in a dtype; as it is if it has it, since even asking torch takes a while."""
    return x if x is None or x.dtype == dtype else x.to(dtype)


def read_memory(q: Tensor, weights: Weights) -> Tensor:
    """Read a memory without writing: M(q).

    Parameters
    ----------
    q : Tensor
        Queries `[B, T, H, K]`.
    weights : Weights
        M, `[B, H, d_in, d_out]` (or `[H, d_in, d_out]`) a layer.

    Returns
    -------
    Tensor
        `[B, T, H, V]`, in q's dtype.
    """
    with torch.autocast(q.device.type, enabled=False):
        y = q.transpose(1, 2).to(weights[0].dtype)
        for layer, w in enumerate(weights):
            y = (y if layer == 0 else F.silu(y)) @ w
    return y.transpose(1, 2).to(q.dtype)


def explain(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    forget: Tensor | None,
    momentum: Tensor | None,
    lr: Tensor,
    initial: Weights,
    state: MemoryState | None = None,
    *,
    mask: Tensor | None = None,
    chunk_size: int = 16,
    forget_to: str = "init",
    implementation: str | None = None,
) -> str:
    """Say which implementation :func:`neural_memory` takes for the same arguments, and why.

    Examples
    --------
    >>> k, gate, initial = torch.zeros(1, 8, 2, 4), torch.zeros(1, 8, 2), (torch.zeros(2, 4, 4),)
    >>> explain(k, k, k, gate, gate, gate, initial, implementation="chunked")
    'chunked: asked for by the argument `implementation`'
    """
    _check(q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, forget_to)
    tokens = (q, k, v, forget, momentum, lr)
    return ": ".join(_choose(tokens, initial, state, mask, chunk_size, implementation))


def _choose(
    tokens: tuple[Tensor | None, ...],
    initial: Weights,
    state: MemoryState | None,
    mask: Tensor | None,
    chunk_size: int,
    implementation: str | None,
) -> tuple[str, str]:
    """The implementation's name and the reason for it."""
    k, v = tokens[1:3]
    assert k is not None
    assert v is not None
    asked = forced()
    if implementation is not None:
        name, reason = implementation, "asked for by the argument `implementation`"
    elif asked:
        name, reason = asked, f"asked for by the environment variable {_ENVIRONMENT}"
    elif not k.is_cuda and (against := uncovered_by_native(k, len(initial), chunk_size)) is None:
        return "native", "tensors are on the CPU"
    elif (
        k.shape[1] == 1
        and state is not None
        and mask is None
        and not torch.compiler.is_compiling()  # its positions decide what it does
        and not _learns(tokens, initial, state)
    ):
        reason = "one token and no gradient"
        return _STEP, reason if k.is_cuda else f"{reason}; not native, as {against}"
    elif not k.is_cuda:
        return "chunked", f"matrix products; not native, as {against}"
    else:
        against = uncovered(k, v, initial, chunk_size)
        if against is None:
            return "triton", "tensors are on a GPU"
        return "chunked", f"matrix products; not triton, as {against}"
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {name!r} ({reason}); choose one of {sorted(IMPLEMENTATIONS)}"
        )
    return name, reason


def forced() -> str | None:
    """The implementation that the environment asks for."""
    return os.environ.get(_ENVIRONMENT) or None


def _learns(tokens: tuple[Tensor | None, ...], initial: Weights, state: MemoryState) -> bool:
    """Whether a gradient may be asked of the result."""
    tensors = itertools.chain(tokens, initial, *state[:3])
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def _check(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    forget: Tensor | None,
    momentum: Tensor | None,
    lr: Tensor,
    initial: Weights,
    state: MemoryState | None,
    mask: Tensor | None,
    chunk_size: int,
    forget_to: str,
) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; it must be at least 1")
    if forget_to not in _FORGET_TO:
        raise ValueError(f"forget_to is {forget_to!r}; choose one of {list(_FORGET_TO)}")
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
                "go on with the chunk_size the state was made with"
            )
