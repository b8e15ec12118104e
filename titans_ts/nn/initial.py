"""M_0, the learned memory that every stream begins with, and the bound on it."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.kernels import Weights

__all__ = ["LARGEST_STRETCH", "InitialMemory"]

LARGEST_STRETCH = 2**0.5
"""Bound on the singular values of M_0's layers, and so on where the inner loop starts."""


class InitialMemory(nn.ParameterList):
    """The layers of M_0: orthogonal at first, none ever stretches a vector by more than sqrt(2).

    Looking for a larger stretch takes as long as everything else a layer does for a token (0.1 to 0.4
    ms for four heads of width 32), so the answer is kept beside a copy of the weights it holds for.

    Parameters
    ----------
    n_heads : int
        H.
    widths : list of int
        Of the input, of every hidden layer and of the output.
    """

    def __init__(self, n_heads: int, widths: list[int]) -> None:
        super().__init__(_orthogonal(n_heads, i, o) for i, o in pairwise(widths))
        self._found: dict[int, tuple[Tensor, Tensor | None]] = {}

    def weights(self) -> Weights:
        """The layers `[H, d_in, d_out]`, in at least float32."""
        layers = []
        for layer, w in enumerate(self):
            direction = self._direction(layer, w)
            if w.dtype.itemsize < 4:  # half precision would round small updates away
                w = w.float()
            if direction is not None:
                stretch = torch.linalg.vector_norm(w @ direction, dim=-2, keepdim=True)
                w = w * (LARGEST_STRETCH / stretch.clamp_min(LARGEST_STRETCH))
            layers.append(w)
        return tuple(layers)

    def _direction(self, layer: int, w: Tensor) -> Tensor | None:
        """See :func:`_direction`; computed only if these are other weights than before."""
        if torch.compiler.is_compiling():
            return _direction(w)
        found = self._found.get(layer)
        if found is not None:
            kept, direction = found
            if (kept.dtype, kept.device) == (w.dtype, w.device) and torch.equal(kept, w):
                return direction
        # a tensor made in inference mode could not take part in training later
        with torch.inference_mode(False), torch.no_grad():
            direction = _direction(w)
            self._found[layer] = w.clone(), direction
        return direction


def _direction(w: Tensor) -> Tensor | None:
    """Unit vectors `[H, d_out, 1]` that w `[H, d_in, d_out]` stretches most; None within the bound."""
    w = w.detach().to(torch.promote_types(w.dtype, torch.float32))
    wide = w.shape[-2] < w.shape[-1]
    gram = w @ w.mT if wide else w.mT @ w
    if not torch.compiler.is_compiling():
        largest = torch.linalg.eigvalsh(gram)[:, -1]  # a third of the time with vectors
        if bool((largest <= LARGEST_STRETCH**2).all()):
            return None
    direction = torch.linalg.eigh(gram).eigenvectors[..., -1:]
    return F.normalize(w.mT @ direction, dim=-2) if wide else direction


def _orthogonal(n_heads: int, d_in: int, d_out: int) -> Tensor:
    """Random `[H, d_in, d_out]` whose rows or columns are orthonormal."""
    layer = torch.empty(n_heads, d_in, d_out, dtype=torch.float32)
    for head in layer:
        nn.init.orthogonal_(head)
    return layer.to(torch.get_default_dtype())
