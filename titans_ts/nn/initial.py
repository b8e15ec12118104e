"""M_0, the learned initial memory of every stream, and the bound on its weights."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.kernels import Weights

__all__ = ["LARGEST_STRETCH", "InitialMemory"]

LARGEST_STRETCH = 2**0.5
"""Largest singular value of M_0's layers, which bounds the start of the inner loop."""


class InitialMemory(nn.ParameterList):
    """The layers of M_0: initially orthogonal; their singular values never exceed sqrt(2).

    Checking this bound takes as long as the rest of a layer's work for a token (0.1 to 0.4 ms for four
    heads of width 32), so the result is cached with a copy of the weights.

    Parameters
    ----------
    n_heads : int
        Number of heads H.
    widths : list of int
        Widths of the input, of every hidden layer and of the output.
    """

    def __init__(self, n_heads: int, widths: list[int]) -> None:
        super().__init__(_orthogonal(n_heads, i, o) for i, o in pairwise(widths))
        self._found: dict[int, tuple[Tensor, Tensor | None]] = {}

    def weights(self) -> Weights:
        """Return the layers `[H, d_in, d_out]`, in float32 or a wider type."""
        layers = []
        for layer, w in enumerate(self):
            direction = self._direction(layer, w)
            if w.dtype.itemsize < 4:  # in half precision, small updates would be lost
                w = w.float()
            if direction is not None:
                stretch = torch.linalg.vector_norm(w @ direction, dim=-2, keepdim=True)
                w = w * (LARGEST_STRETCH / stretch.clamp_min(LARGEST_STRETCH))
            layers.append(w)
        return tuple(layers)

    def _direction(self, layer: int, w: Tensor) -> Tensor | None:
        """Return :func:`_direction` of w, from the cache if w has not changed."""
        if torch.compiler.is_compiling():
            return _direction(w)
        cached = self._found.get(layer)
        if cached is not None:
            weight, direction = cached
            if (weight.dtype, weight.device) == (w.dtype, w.device) and torch.equal(weight, w):
                return direction
        # tensors from inference mode cannot be used in training later
        with torch.inference_mode(False), torch.no_grad():
            direction = _direction(w)
            self._found[layer] = w.clone(), direction
        return direction


def _direction(w: Tensor) -> Tensor | None:
    """Return the top right singular vectors `[H, d_out, 1]` of w; None if w is within the bound."""
    w = w.detach().to(torch.promote_types(w.dtype, torch.float32))
    wide = w.shape[-2] < w.shape[-1]
    gram = w @ w.mT if wide else w.mT @ w
    if not torch.compiler.is_compiling():
        largest = torch.linalg.eigvalsh(gram)[:, -1]  # a third of the time of eigh
        if bool((largest <= LARGEST_STRETCH**2).all()):
            return None
    direction = torch.linalg.eigh(gram).eigenvectors[..., -1:]
    return F.normalize(w.mT @ direction, dim=-2) if wide else direction


def _orthogonal(n_heads: int, d_in: int, d_out: int) -> Tensor:
    """Return random weights `[H, d_in, d_out]` with orthonormal rows or columns."""
    layer = torch.empty(n_heads, d_in, d_out, dtype=torch.float32)
    for head in layer:
        nn.init.orthogonal_(head)
    return layer.to(torch.get_default_dtype())
