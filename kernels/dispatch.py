"""The one place that chooses how a memory is computed, and can say why."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels.chunked import chunked_memory
from titans_ts.kernels.recurrent import recurrent_memory
from titans_ts.kernels.state import MemoryOutput, MemoryState, Weights

__all__ = ["IMPLEMENTATIONS", "explain", "neural_memory", "read_memory"]

IMPLEMENTATIONS: dict[str, Callable[..., MemoryOutput]] = {
    "chunked": chunked_memory,
    "recurrent": recurrent_memory,
}
"""Every implementation of the memory, by name; all have the signature of :func:`neural_memory`."""

_ENVIRONMENT = "TITANS_TS_IMPLEMENTATION"
_FORGET_TO = ("init", "zero")


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
    compute = IMPLEMENTATIONS[_choose(implementation)[0]]
    dtype = torch.promote_types(v.dtype, torch.float32)
    # A memory accumulates thousands of small updates: below float32 they round away.
    with torch.autocast(v.device.type, enabled=False):
        y, final, surprise = compute(
            *(None if x is None else x.to(dtype) for x in (q, k, v, forget, momentum, lr)),
            tuple(w.to(dtype) for w in initial),
            state,
            mask=mask,
            chunk_size=chunk_size,
            forget_to=forget_to,
        )
    return MemoryOutput(None if y is None else y.to(v.dtype), final, surprise)


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


def explain(implementation: str | None = None) -> str:
    """Say which implementation :func:`neural_memory` takes, and why.

    Examples
    --------
    >>> explain("recurrent")
    'recurrent: asked for by the argument `implementation`'
    """
    return ": ".join(_choose(implementation))


def _choose(implementation: str | None) -> tuple[str, str]:
    forced = os.environ.get(_ENVIRONMENT)
    if implementation is not None:
        name, reason = implementation, "asked for by the argument `implementation`"
    elif forced:
        name, reason = forced, f"asked for by the environment variable {_ENVIRONMENT}"
    else:
        name, reason = "chunked", "matrix products on any device, any depth and dtype"
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {name!r} ({reason}); choose one of {sorted(IMPLEMENTATIONS)}"
        )
    return name, reason


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
    shapes: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
    shapes["v"] = (v, (batch, length, heads, initial[-1].shape[-1]))
    if q is not None:
        shapes["q"] = (q, (batch, length, heads, width))
    for name, gate in (("forget", forget), ("momentum", momentum), ("lr", lr)):
        if gate is not None:
            shapes[name] = (gate, (batch, length, heads))
    if mask is not None:
        shapes["mask"] = (mask, (batch, length))
    d_in = width
    for layer, w in enumerate(initial):
        shapes[f"initial[{layer}]"] = (w, (heads, d_in, w.shape[-1]))
        d_in = w.shape[-1]
    if state is not None:
        for field in ("weights", "momentum", "anchor"):
            layers = getattr(state, field)
            if len(layers) != len(initial):
                raise ValueError(
                    f"state.{field} has {len(layers)} layers, but initial has {len(initial)}"
                )
            for layer, (w, w0) in enumerate(zip(layers, initial, strict=True)):
                shapes[f"state.{field}[{layer}]"] = (w, (batch, *w0.shape))
        shapes["state.position"] = (state.position, (batch,))
        if bool((state.position >= chunk_size).any()):
            raise ValueError(
                f"state.position is {state.position.tolist()}, past a chunk of {chunk_size}; "
                "go on with the chunk_size the state was made with"
            )
    for name, (tensor, expected) in shapes.items():
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {expected}")
