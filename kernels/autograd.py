"""Hand-written backward passes, which cannot be differentiated again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["differentiable_once", "gradient_shapes", "operator", "requires_gradient"]


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Make the backward of an autograd function refuse `create_graph=True` for every loss.

    torch's own `once_differentiable` refuses only if the incoming gradient has a graph. For a loss that
    is linear in the output it has none, and the graph would silently end there.
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
    """Whether a function of these tensors may need a backward pass."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def gradient_shapes(
    position: Tensor, mask: Tensor | None, tensors: Sequence[Tensor | None], *rest: Any
) -> list[Tensor]:
    """Return tensors with the shapes of the gradients of `tensors`, for :func:`operator`.

    The arguments are those of the backward operator of a memory; only `tensors` are read.
    """
    return [x.new_empty(x.shape) for x in tensors if x is not None]


def operator(
    name: str, schema: str, compute: Callable[..., Any], shapes: Callable[..., Any]
) -> Callable[..., Any]:
    """Register a function as an operator that torch.compile takes as one node of its graph.

    Parameters
    ----------
    name : str
        `"titans_ts::..."`.
    schema : str
        Types of the arguments and results, in the syntax of `torch.library`.
    compute : callable
        The function; it must not change its arguments.
    shapes : callable
        Takes the same arguments and returns tensors with the shapes and dtypes of the results.

    Returns
    -------
    callable
        The operator under torch.compile, otherwise the function itself, which starts faster.
    """
    registered = torch.library.custom_op(name, compute, mutates_args=(), schema=schema)
    registered.register_fake(shapes)

    def call(*arguments: Any) -> Any:
        return (registered if torch.compiler.is_compiling() else compute)(*arguments)

    return call
