"""Backward passes that are written out, and so cannot be differentiated themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["differentiable_once", "operator", "requires_gradient"]


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let the backward of an autograd function refuse `create_graph=True`, whatever the loss.

    torch's own `once_differentiable` refuses only where the incoming gradient has a graph. For a loss
    that is linear in the output it has none, and the result would silently end there.
    """
    once = once_differentiable(backward)

    @wraps(backward)
    def refuse_or_run(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                "this can be differentiated once, but create_graph=True asks for more; of the functions"
                " in titans_ts.kernels, implementation='recurrent' can be differentiated again"
            )
        return once(ctx, *gradients)

    return refuse_or_run


def requires_gradient(*tensors: Tensor | None) -> bool:
    """Whether a backward pass through a function of these tensors may follow."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def operator(
    name: str, schema: str, compute: Callable[..., Any], shapes: Callable[..., Any]
) -> Callable[..., Any]:
    """Register a function as an operator that torch.compile takes as one node of its graph.

    Parameters
    ----------
    name : str
        `"titans_ts::..."`.
    schema : str
        Types of the arguments and results, as `torch.library` writes them.
    compute : callable
        The function; it changes none of its arguments.
    shapes : callable
        Takes the same arguments, and returns tensors of the shapes and dtypes of its results.

    Returns
    -------
    callable
        The operator under torch.compile, and otherwise the function itself, which starts faster.
    """
    registered = torch.library.custom_op(name, compute, mutates_args=(), schema=schema)
    registered.register_fake(shapes)

    def call(*arguments: Any) -> Any:
        return (registered if torch.compiler.is_compiling() else compute)(*arguments)

    return call
