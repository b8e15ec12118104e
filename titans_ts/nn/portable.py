"""A copy of a trained model whose forward pass can be recorded in a graph.

In a graph, a window or sequence is read from the beginning of a stream. What the weights alone decide is
computed before: the bounded initial memories, and the state after the persistent tokens.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from titans_ts.kernels import Weights
from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.initial import InitialMemory

__all__ = ["FixedState", "portable_copy"]

Model = TypeVar("Model", bound=nn.Module)


class FixedState(nn.Module):
    """The state at the beginning of a stream, as buffers.

    Parameters
    ----------
    state : tuple
        The state of one stream.
    """

    def __init__(self, state: Any) -> None:
        super().__init__()
        self._n = 0
        self._form = self._store(state)

    def _store(self, part: Any) -> Any:
        if isinstance(part, Tensor):
            if not part.is_floating_point():  # a position
                return int(part)
            name = f"part_{self._n}"
            self._n += 1
            self.register_buffer(name, part.detach().clone())
            return name
        parts = [self._store(one) for one in part]
        return type(part)(*parts) if hasattr(part, "_fields") else tuple(parts)

    def initial_state(self, batch_size: Any) -> Any:
        """Return the state of `batch_size` streams; positions are ints."""

        def build(part: Any) -> Any:
            if isinstance(part, int):
                return part
            if isinstance(part, str):
                one = getattr(self, part)
                return one.expand(batch_size, *one.shape[1:])
            parts = [build(one) for one in part]
            return type(part)(*parts) if hasattr(part, "_fields") else tuple(parts)

        return build(self._form)


class _FixedMemory(nn.Module):
    """The bounded layers of an initial memory, as buffers."""

    def __init__(self, layers: Weights) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            self.register_buffer(f"layer_{i}", layer.detach().clone())

    def weights(self) -> Weights:
        """Return the layers `[H, d_in, d_out]`."""
        return tuple(self.buffers())


def portable_copy(model: Model) -> Model:
    """Return a copy of a model on the CPU, in float32 and evaluation mode, that a graph can hold.

    Its backbones begin with a fixed state, and it has no gradients.
    """
    with torch.inference_mode(False), torch.no_grad():
        copy = deepcopy(model).cpu().float().eval().requires_grad_(False)
        for part in list(copy.modules()):
            if isinstance(part, TitansBackbone):
                part.fixed_state = FixedState(part.initial_state(1))
        for part in list(copy.modules()):
            for name, child in list(part.named_children()):
                if isinstance(child, InitialMemory):
                    setattr(part, name, _FixedMemory(child.weights()))
    return copy
