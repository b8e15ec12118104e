"""The gated delta rule and the momentum delta rule in plain PyTorch, as mixers of a block.

They are the peers of :mod:`recall`, written from the equations of their papers (arXiv 2412.06464 and
arXiv 2605.05838) and put in the place of our memory: the same block, width and heads around them. Both
take the error of a token at the memory as it is when the token comes, which a triangular system per
chunk solves for a whole chunk at once. They have no streaming state.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import BackboneConfig
from titans_ts.nn.blocks import Mixer, MixerOutput
from titans_ts.nn.layers import Norm

__all__ = ["GatedDelta", "MomentumDelta"]

CHUNK = 64
TAPS = 4


class _Delta(Mixer):
    """Projections, convolution, gates, a rule, norm and output gate."""

    gates: int

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        width, heads = config.d_model, config.n_heads
        self.heads = heads
        self.memory_heads = 0
        self.projection = nn.Linear(width, 4 * width + self.gates * heads, bias=False)
        self.bias = nn.Parameter(torch.tensor([[2.0], [4.0], [0.0]][: self.gates]).repeat(1, heads))
        self.taps = nn.Parameter(torch.empty(3 * width, 1, TAPS).uniform_(-0.5, 0.5))
        self.norm = Norm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    @property
    def output_weight(self) -> Tensor:
        return self.out.weight

    def initial_state(self, batch_size: int) -> Any:
        return torch.zeros(batch_size, 0)

    def forward(self, x: Tensor, state: Any, lengths: Tensor | None = None) -> MixerOutput:
        batch, length, width = x.shape
        sizes = [width, 3 * width, self.gates * self.heads]
        gate, qkv, logits = self.projection(x).split(sizes, -1)
        qkv = F.conv1d(F.pad(qkv.mT, (TAPS - 1, 0)), self.taps, groups=3 * width).mT
        q, k, v = F.silu(qkv).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        logits = logits.view(batch, length, self.gates, self.heads).permute(2, 0, 3, 1)
        y = self.rule(q, k, v, *torch.sigmoid(logits + self.bias[:, None, :, None]))
        y = self.norm(y).transpose(1, 2).flatten(2) * F.silu(gate)
        return MixerOutput(self.out(y), state, x.new_zeros(batch, length, 0))

    @abstractmethod
    def rule(self, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """Compute the memory's outputs, `[B, H, T, V]`."""


class GatedDelta(_Delta):
    """M_t = a_t M_{t-1} + b_t (v_t - a_t M_{t-1} k_t) k_t^T."""

    gates = 2

    def rule(self, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """Gates: the step b and the share a that is kept."""
        step, keep = gates
        memory, outputs = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1]), []
        for piece in _pieces(k):
            q_, k_, v_ = (x[:, :, piece] for x in (q, k, v))
            share = _decay(keep[:, :, piece])
            carried = share[..., 0]
            within = share[..., 1:] * step[:, :, piece][..., None, :]
            before = within.tril(-1) * (k_ @ k_.mT)
            error = _solve(before, v_ - carried[..., None] * (k_ @ memory))
            outputs.append(carried[..., None] * (q_ @ memory) + (within * (q_ @ k_.mT)) @ error)
            written = k_.mT @ (within[..., -1, :, None] * error)
            memory = carried[..., -1, None, None] * memory + written
        return torch.cat(outputs, 2)


class MomentumDelta(_Delta):
    """S_t = m_t S_{t-1} + b_t (v_t - M_{t-1} k_t) k_t^T, M_t = a_t M_{t-1} + S_t."""

    gates = 3

    def rule(self, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """Gates: the step b, before a factor 1 - m, the share a that is kept, and the momentum m."""
        step, keep, momentum = gates
        step = step * (1 - momentum)
        memory = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
        surprise, outputs = torch.zeros_like(memory), []
        for piece in _pieces(k):
            q_, k_, v_ = (x[:, :, piece] for x in (q, k, v))
            of_s = _decay(momentum[:, :, piece])  # S_t from S_0 and the tokens
            decay = _decay(keep[:, :, piece])
            of_m = decay[..., 1:] @ of_s
            carried, through = decay[..., 0], of_m[..., 0]
            theta = step[:, :, piece][..., None, :]
            within, last = of_m[..., 1:] * theta, of_s[..., -1, 1:] * theta[..., 0, :]
            one, zero = torch.ones_like(carried[..., :1]), torch.zeros_like(carried[..., :1])
            carried_before = torch.cat([one, carried[..., :-1]], -1)[..., None]
            through_before = torch.cat([zero, through[..., :-1]], -1)[..., None]
            within_before = F.pad(within[..., :-1, :], (0, 0, 1, 0)) * (k_ @ k_.mT)
            known = carried_before * (k_ @ memory) + through_before * (k_ @ surprise)
            error = _solve(within_before, v_ - known)
            y = carried[..., None] * (q_ @ memory) + through[..., None] * (q_ @ surprise)
            outputs.append(y + (within * (q_ @ k_.mT)) @ error)
            written = k_.mT @ (within[..., -1, :, None] * error)
            memory, surprise = (
                carried[..., -1, None, None] * memory
                + through[..., -1, None, None] * surprise
                + written,
                of_s[..., -1, 0, None, None] * surprise + k_.mT @ (last[..., None] * error),
            )
        return torch.cat(outputs, 2)


def _pieces(k: Tensor) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, k.shape[2], CHUNK)]


def _decay(gate: Tensor) -> Tensor:
    """`[.., L, 1 + L]`: what is left, after each token, of the start and of every token."""
    logs = gate.log().cumsum(-1)
    from_start = logs.exp()[..., None]
    between = (logs[..., :, None] - logs[..., None, :]).tril().exp().tril()
    return torch.cat([from_start, between], -1)


def _solve(before: Tensor, error: Tensor) -> Tensor:
    """(1 + before)^-1 error, for `before` below the diagonal."""
    return torch.linalg.solve_triangular(before, error, upper=False, unitriangular=True)
