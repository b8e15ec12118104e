"""Tokenizers of series: a token is a patch, or a whole variate."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = [
    "TOKENS",
    "PatchTokenizer",
    "VariateTokenizer",
    "n_patches",
]

TOKENS = ("patch", "joint", "variate", "mixed")
"""Kinds of tokens. "patch": some steps of one variate; every variate is a separate stream. "joint": some
steps of all variates. "variate": a whole window of one variate; the stream goes from variate to variate.
"mixed": as "patch", with attention between the variates after the backbone."""


def n_patches(length: int, patch_length: int, patch_stride: int) -> int:
    """Return the number of patches that cover `length` steps.

    Examples
    --------
    >>> n_patches(96, 16, 8), n_patches(10, 16, 8)
    (11, 1)
    """
    return -(-max(0, length - patch_length) // patch_stride) + 1


class PatchTokenizer(nn.Module):
    """Cut a series into patches, one token each (Nie et al., "PatchTST", ICLR 2023).

    The last patch ends at the last step; steps before the series count as missing. A token sees the
    patch's values and which of them were observed. A patch without an observed value is absent.

    Parameters
    ----------
    length, patch_length, patch_stride : int
        Steps of the series, of a patch, and between the starts of two patches.
    n_variates : int
        Variates that share a token.
    d_model : int
        D, width of a token.
    n_covariates : int
        Number of further series in a token (default 0); their values do not make it present.
    """

    def __init__(
        self,
        length: int,
        patch_length: int,
        patch_stride: int,
        n_variates: int,
        d_model: int,
        n_covariates: int = 0,
    ) -> None:
        super().__init__()
        self.patch_length, self.patch_stride = patch_length, patch_stride
        self.n_patches = n_patches(length, patch_length, patch_stride)
        self._front = patch_length + (self.n_patches - 1) * patch_stride - length
        self.n_variates = n_variates
        self.embed = nn.Linear(2 * patch_length * (n_variates + n_covariates), d_model)

    def forward(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens of a series.

        Parameters
        ----------
        x, observed : Tensor
            Values, and which of them are observed (bool), `[B, T, C + covariates]`.

        Returns
        -------
        tuple[Tensor, Tensor]
            Tokens `[B, P, D]`, and the mask of present tokens, `[B, P]` bool.
        """
        both = torch.stack([torch.where(observed, x, 0), observed.to(x.dtype)], -1)
        both = F.pad(both, (0, 0, 0, 0, self._front, 0))
        patches = both.unfold(1, self.patch_length, self.patch_stride)  # [B, P, C, 2, patch]
        present = patches[:, :, : self.n_variates, 1].flatten(2).any(-1)
        return self.embed(patches.flatten(2)), present

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values of tokens `[B, P]` into values of steps `[B, T, 1]`, by a mean over patches.

        NaN marks a token or a step without a value.
        """
        length = self.patch_length + (self.n_patches - 1) * self.patch_stride
        total, count = (np.zeros((len(values), length)) for _ in range(2))
        known = ~np.isnan(values)
        for i in range(self.n_patches):
            steps = slice(i * self.patch_stride, i * self.patch_stride + self.patch_length)
            total[:, steps] += np.where(known, values, 0)[:, i : i + 1]
            count[:, steps] += known[:, i : i + 1]
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        return mean[:, self._front :, None]


class VariateTokenizer(nn.Module):
    """One token for a whole window of one variate (Liu et al., "iTransformer", ICLR 2024).

    The covariates come first, then the variates, then the variates again. The backbone is causal, so the
    second token of a variate, present if any variate is, can depend on all others.

    Parameters
    ----------
    length : int
        Steps of the series.
    n_variates, n_covariates : int
        Number of variates, and of further series (default 0).
    d_model : int
        D, width of a token.
    """

    def __init__(self, length: int, n_variates: int, d_model: int, n_covariates: int = 0) -> None:
        super().__init__()
        self.length, self.n_variates, self.n_covariates = length, n_variates, n_covariates
        self.embed = nn.Linear(2 * length, d_model)
        self.which = nn.Parameter(torch.zeros(n_covariates + 2 * n_variates, d_model))

    def forward(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """As :class:`PatchTokenizer`, with P = covariates + 2 C."""
        both = torch.cat([torch.where(observed, x, 0), observed.to(x.dtype)], 1).mT  # [B, F, 2 T]
        C = self.n_variates
        tokens, present = self.embed(both), observed.any(1)
        variates, known = tokens[:, :C], present[:, :C]
        tokens = torch.cat([tokens[:, C:], variates, variates], 1)
        again = known.any(1, keepdim=True).expand_as(known)
        return tokens + self.which, torch.cat([present[:, C:], known, again], 1)

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values of tokens `[B, P]` into values of steps `[B, T, C]`, by a variate's first token."""
        first = values[:, None, self.n_covariates : self.n_covariates + self.n_variates]
        return np.repeat(first, self.length, 1)
