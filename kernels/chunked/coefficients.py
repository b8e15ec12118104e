"""The coefficients of a chunk's start and of its tokens' gradients in every M_t, forward and backward.

Between two gradient points, M_t and S_t are linear in the state at the start and in the tokens'
gradients g_i, so each is one row of coefficients times the same column:

    S_t = LS_t . (M_0', S_0, -theta_1 g_1, ..)      LS_t = eta_t LS_{t-1} + unit vector of token t
    M_t = LM_t . (M_0', S_0, -theta_1 g_1, ..)      LM_t = (1 - alpha_t) LM_{t-1} + LS_t

M_0' and S_0 are the state before the first token; M_0' is the distance from the target of forgetting.
These two affine recurrences run over the tokens of a chunk, for all chunks and heads at once. They need
no logarithm or quotient and are exact with gates at 0 and 1. Gates are `[m, L]`, rows
`[L + 1, m, L + 2]`; row t is valid after t tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CoefficientValues", "Coefficients"]


class CoefficientValues(NamedTuple):
    """The coefficients of every M_t and of S_L for m chunks of L tokens, or their gradients.

    P is 2, for memory and momentum, or 1 without momentum.
    """

    parts: Tensor
    """`[m, L, P]`, the weights in M_t of the memory and the momentum before the chunk."""
    C: Tensor
    """`[m, L, L]` lower triangular: the weight of g_i in M_t."""
    ends: Tensor
    """`[m, L, P]`, the weights of g_i in M_L and in S_L."""
    decay: Tensor
    """`[m, 1, 1]`, the weight in S_L of the momentum before the chunk."""

    def rows(self, start: int, count: int) -> CoefficientValues:
        """Select `count` of the m chunks, from `start` on."""
        return CoefficientValues(*(x.narrow(0, start, count) for x in self))

    def before(self) -> CoefficientValues:
        """The weights in M_{t-1} in place of those in M_t."""
        parts, C = torch.zeros_like(self.parts), torch.zeros_like(self.C)
        parts[:, 0, 0] = 1
        parts[:, 1:], C[:, 1:] = self.parts[:, :-1], self.C[:, :-1]
        return self._replace(parts=parts, C=C)

    def chunk(self, g: int, n: int) -> CoefficientValues:
        """Select the g-th group of n of the m chunks."""
        return self.rows(g * n, n)


class Coefficients:
    """The coefficients of m chunks of L tokens each.

    Parameters
    ----------
    forget, momentum, lr : Tensor or None
        alpha, eta and theta, `[m, L]`.
    present : Tensor or None
        `[m, L]` bool, True where a token is; elsewhere nothing changes and S is not added to M.

    Attributes
    ----------
    values : CoefficientValues
        The coefficients.
    """

    def __init__(
        self,
        forget: Tensor | None,
        momentum: Tensor | None,
        lr: Tensor,
        present: Tensor | None,
    ) -> None:
        m, length = lr.shape
        self.present = present
        keep = torch.ones_like(lr) if forget is None else 1 - forget
        if present is not None:
            keep, lr = torch.where(present, keep, 1), torch.where(present, lr, 0)
            momentum = None if momentum is None else torch.where(present, momentum, 1)
        self.keep, self.lr = keep.T[..., None], lr  # [L, m, 1]
        self.momentum = None if momentum is None else momentum.T[..., None]

        self.ls = lr.new_zeros(length + 1, m, length + 2)
        self.ls[0, :, 1] = 1
        self.ls[1:, :, 2:].diagonal(dim1=0, dim2=2).fill_(1)
        if self.momentum is not None:
            rows, gates = self.ls.unbind(), self.momentum.unbind()
            for t in range(length):
                old, new = (rows[i].narrow(1, 1, t + 1) for i in (t, t + 1))
                torch.mul(old, gates[t], out=new)
        self.lm = lr.new_zeros(length + 1, m, length + 2)
        self.lm[0, :, 0] = 1
        taken = self.ls if present is None else self.ls * _rows(present)
        rows, gates, added = self.lm.unbind(), self.keep.unbind(), taken.unbind()
        for t in range(length):
            old, new, more = (x.narrow(1, 0, t + 3) for x in (rows[t], rows[t + 1], added[t + 1]))
            torch.addcmul(more, old, gates[t], out=new)

        P = 1 if momentum is None else 2
        C = torch.mul(
            self.lm[1:, :, 2:].transpose(0, 1), -lr[:, None], out=lr.new_empty(m, length, length)
        )
        ends = torch.stack([C[:, -1], self.ls[-1, :, 2:] * -lr][:P], -1)
        parts = self.lm[1:, :, :P].transpose(0, 1).contiguous()
        self.values = CoefficientValues(parts, C, ends, self.ls[-1, :, 1, None, None].contiguous())

    def zeros(self) -> CoefficientValues:
        """Return zeros, to which gradients can be added."""
        return CoefficientValues(*(torch.zeros_like(x) for x in self.values))

    def backward(self, gradient: CoefficientValues) -> tuple[Tensor, Tensor | None, Tensor]:
        """Compute the gradients of forget, momentum and lr, `[m, L]`, from those of the values.

        The upper triangle of C's gradient is ignored.
        """
        parts, C, ends, decay = gradient
        m, length = self.lr.shape
        theta = -self.lr
        C[:, -1].add_(ends[..., 0])
        d_lm = self.lm.new_empty(length + 1, m, length + 2)
        d_lm[0] = 0
        d_lm[1:, :, 1] = 0
        d_lm[1:, :, : parts.shape[-1]] = parts.transpose(0, 1)
        torch.mul(C.transpose(0, 1), theta[:, None].transpose(0, 1), out=d_lm[1:, :, 2:])
        rows, gates = d_lm.unbind(), self.keep.unbind()
        for t in range(length, 1, -1):
            rows[t - 1].narrow(1, 0, t + 1).addcmul_(rows[t].narrow(1, 0, t + 1), gates[t - 1])
        d_keep = (d_lm[1:] * self.lm[:-1]).sum(-1)  # [L, m]; zeros of lm hide the upper triangle
        d_lr = -(C * self.lm[1:, :, 2:].transpose(0, 1)).sum(1)

        d_momentum = None
        if self.momentum is not None:
            d_lr -= ends[..., 1] * self.ls[-1, :, 2:]
            d_ls = d_lm if self.present is None else d_lm.mul_(_rows(self.present))
            d_ls[-1, :, 1] += decay[:, 0, 0]
            d_ls[-1, :, 2:].addcmul_(ends[..., 1], theta)
            rows, gates = d_ls.unbind(), self.momentum.unbind()
            for t in range(length, 1, -1):
                rows[t - 1].narrow(1, 1, t).addcmul_(rows[t].narrow(1, 1, t), gates[t - 1])
            d_momentum = (d_ls[1:, :, 1:] * self.ls[:-1, :, 1:]).sum(-1).T
        d_forget = -d_keep.T
        if self.present is not None:
            d_forget, d_lr = d_forget * self.present, d_lr * self.present
            d_momentum = None if d_momentum is None else d_momentum * self.present
        return d_forget, d_momentum, d_lr


def _rows(present: Tensor) -> Tensor:
    """Reshape `[m, L]` to rows `[L + 1, m, 1]`; the first row is before any token."""
    rows = present.T[..., None]
    return torch.cat([torch.ones_like(rows[:1]), rows])
