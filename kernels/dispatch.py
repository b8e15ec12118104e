"""The one place that chooses how a memory is computed, and gives the reason."""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.kernels import portable, reference
from titans_ts.kernels.call import MemoryCall, check
from titans_ts.kernels.chunked import op as chunked
from titans_ts.kernels.chunked import step
from titans_ts.kernels.decisions import note
from titans_ts.kernels.native import op as native
from titans_ts.kernels.state import MemoryOutput, MemoryState, Weights
from titans_ts.kernels.triton import op as triton

__all__ = [
    "ENVIRONMENT",
    "IMPLEMENTATIONS",
    "Implementation",
    "explain",
    "forced",
    "neural_memory",
    "read_memory",
]


class Implementation(Protocol):
    """The functions that a module which computes the memory exports."""

    def uncovered(self, call: MemoryCall) -> str | None:
        """Why the module does not cover a call, or None if it does."""

    def compute(self, call: MemoryCall) -> MemoryOutput:
        """Compute a call that is covered."""


IMPLEMENTATIONS: dict[str, Implementation] = {
    "native": native,
    "step": step,
    "triton": triton,
    "chunked": chunked,
    "recurrent": reference,
}
"""Every implementation of the memory by name, in order of preference. The first that covers a call
computes it, unless the caller or the environment names another."""

ENVIRONMENT = "TITANS_TS_IMPLEMENTATION"
"""The environment variable that names an implementation for every call."""


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
    error_at: str = "chunk",
    implementation: str | None = None,
) -> MemoryOutput:
    """Write every token into the memory and read the memory after it (write, then read).

    With M the memory, t' the last chunk boundary before t, and l(M; x) = |M(k) - v|^2::

        S_t = momentum_t * S_{t-1} - lr_t * grad l(M_{t'}; x_t)
        M_t = (1 - forget_t) * M_{t-1} + forget_t * M_0 + S_t
        y_t = M_t(q_t)

    With ``error_at="token"`` the output layer's error is that of the memory just before the token::

        e_t = 2 (h_t W^L_{t-1} - v_t),  h_t the output layer's input from the hidden layers at t'
        S^L_t = momentum_t * S^L_{t-1} - lr_t / max(1, |h_t|^2) * h_t^T e_t
        S^l_t = momentum_t * S^l_{t-1} - lr_t / chunk_size / max(1, |E^l_t|^2 / |e_t|^2) * x^l_t^T E^l_t

    for hidden layers l < L, with their input x^l_t at t' and e_t back-propagated through M_{t'} to E^l_t.
    For a linear memory h_t = k_t, the factor 1 / max(1, |h_t|^2) is left out, and this is the online rule
    (chunk_size = 1) for every chunk_size.

    Parameters
    ----------
    q : Tensor or None
        Queries `[B, T, H, K]`; None writes without reading.
    k, v : Tensor
        Keys `[B, T, H, K]` and values `[B, T, H, V]`.
    forget, momentum, lr : Tensor or None
        The gates alpha, eta and theta, `[B, T, H]`, the first two in `[0, 1]`. None is a memory without
        forgetting, or without momentum (S then does not change).
    initial : Weights
        M_0, the initial memory: L_M >= 1 bias-free layers `[H, d_in, d_out]` with SiLU between them.
    state : MemoryState, optional
        State to continue from; default: M_0 and no momentum.
    mask : Tensor, optional
        `[B, T]` bool, True where a token is present. A masked token is absent: it is not written,
        takes no place in its chunk, and its output and surprise are zero. Default: all are present.
    chunk_size : int
        b, the number of tokens that share one gradient point; 1 is the purely online rule.
    forget_to : {"init", "zero"}
        Target of forgetting: M_0 (stable at any length), or zero (the paper's form, with which a deep
        memory stops learning for ever after long unlearnable input).
    error_at : {"chunk", "token"}
        The memory at which the output layer's error is taken: at the start of the chunk, or just
        before each token.
    implementation : str, optional
        A key of `IMPLEMENTATIONS`. Default: the value of the environment variable
        TITANS_TS_IMPLEMENTATION, else the first that covers the call; :func:`explain` gives the reason.

    Returns
    -------
    MemoryOutput
        `(y, state, surprise)`: y `[B, T, H, V]` in v's dtype (None without queries), the final state
        and the surprise `[B, T, H]`, both in at least float32.

    Raises
    ------
    ValueError
        If shapes disagree, `chunk_size` is below 1, a name is unknown, or the named implementation
        does not cover the call.

    Notes
    -----
    Source: arXiv 2501.00663, equations 8 to 15. Forgetting towards M_0 is ours (see README.md here).
    """
    call = MemoryCall(
        q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, forget_to, error_at
    )  # fmt: skip
    if portable.recorded_format() is not None:
        return portable.compute(call)
    check(call)
    choice = _choose(call, implementation)
    note("memory", choice)
    with torch.autocast(v.device.type, enabled=False):
        y, final, surprise = IMPLEMENTATIONS[choice.name].compute(call)
    return MemoryOutput(y if y is None or y.dtype == v.dtype else y.to(v.dtype), final, surprise)


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
        x = q.to(weights[0].dtype)
        if q.shape[0] != 0 and all(w.ndim == 4 and w.stride(0) == 0 for w in weights):
            # all samples share the memory at the beginning of a stream: a few large products
            y = _pass(x.permute(2, 0, 1, 3).flatten(1, 2), tuple(w[0] for w in weights))
            y = y.unflatten(1, q.shape[:2]).permute(1, 2, 0, 3)
        else:
            y = _pass(x.transpose(1, 2), weights).transpose(1, 2)
    return y.to(q.dtype)


def _pass(x: Tensor, weights: Weights) -> Tensor:
    """Return the outputs `[..., V]` of the MLP `weights` for x `[..., K]`."""
    first, *others = weights
    y = x @ first
    for w in others:
        y = F.silu(y) @ w
    return y


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
    error_at: str = "chunk",
    implementation: str | None = None,
) -> str:
    """Explain which implementation :func:`neural_memory` chooses for the same arguments, and why.

    Returns
    -------
    str
        The first line has the name and the reason. One more line for every implementation of higher
        preference gives the reason why it does not cover the call.

    Raises
    ------
    ValueError
        As :func:`neural_memory`.

    Examples
    --------
    >>> k, gate, initial = torch.zeros(1, 8, 2, 4), torch.zeros(1, 8, 2), (torch.zeros(2, 4, 4),)
    >>> explain(k, k, k, gate, gate, gate, initial, implementation="chunked")
    'chunked: the argument `implementation` names it'
    """
    call = MemoryCall(
        q, k, v, forget, momentum, lr, initial, state, mask, chunk_size, forget_to, error_at
    )  # fmt: skip
    check(call)
    return str(_choose(call, implementation))


class _Choice(NamedTuple):
    """The implementation of a call, its reason, and the refusals of more preferred ones."""

    name: str
    reason: str
    refusals: list[tuple[str, str]]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.reason}"]
        return "\n".join(lines + [f"not {name}: {reason}" for name, reason in self.refusals])


def _choose(call: MemoryCall, implementation: str | None) -> _Choice:
    """Choose the implementation of a call: the named one, or the first that covers it."""
    name, source = implementation, "the argument `implementation`"
    if name is None:
        name, source = forced(), f"the environment variable {ENVIRONMENT}"
    if name is not None:
        if name not in IMPLEMENTATIONS:
            raise ValueError(
                f"{source} is {name!r}; choose one of {', '.join(sorted(IMPLEMENTATIONS))}"
            )
        reason = IMPLEMENTATIONS[name].uncovered(call)
        if reason is not None:
            raise ValueError(
                f"{source} is {name!r}, which does not cover this call: {reason}; "
                "choose another implementation, or none for the first that covers it"
            )
        return _Choice(name, f"{source} names it", [])
    refusals: list[tuple[str, str]] = []
    for name, module in IMPLEMENTATIONS.items():
        reason = module.uncovered(call)
        if reason is None:
            return _Choice(name, "the first that covers the call", refusals)
        refusals.append((name, reason))
    raise AssertionError("the recurrence covers every call")


def forced() -> str | None:
    """The implementation that the environment variable `ENVIRONMENT` names, or None."""
    return os.environ.get(ENVIRONMENT) or None
