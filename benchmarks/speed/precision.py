"""Rounding errors: bfloat16 gradients against the recurrence in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from speed.contenders import (
    exact_gradients,
    function_name,
    gradients,
    memory_inputs,
    relative_error,
)
from speed.run import Row, Run, digits
from titans_ts.kernels import neural_memory

__all__ = ["precision"]


def precision(run: Run) -> Iterator[Row]:
    """Yield the errors of every implementation on the same rounded inputs."""
    shapes = run.settings[-1]
    case = replace(shapes, batch=2, heads=2, tokens=4 * shapes.chunk, dtype="bfloat16")
    found = run.implementations(case)
    for depth in (2, 1):
        inputs = memory_inputs(case, depth)
        upstream = case.randn(case.batch, case.tokens, case.heads, case.width)
        options = {"chunk_size": case.chunk}
        exact = exact_gradients(inputs, upstream, **options)
        for name in (name for name, of in found if of == depth):
            rounded = gradients(inputs, upstream, neural_memory, implementation=name, **options)
            yield {
                "part": "precision",
                "contender": function_name(name, depth),
                "implementation": name,
                "depth": depth,
                "tokens": case.tokens,
                "width": case.width,
                "dtype": case.dtype,
                "errors": {k: digits(relative_error(rounded[k], exact[k])) for k in exact},
            }
