"""The neural long-term memory as a layer: projections, gates, the memory, output norm and gate."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import MemoryConfig
from titans_ts.kernels import MemoryState, Weights, initial_state, neural_memory, read_memory
from titans_ts.nn.layers import CausalConv, Norm
from titans_ts.nn.packing import Packing, prefix_mask

__all__ = ["LARGEST_STRETCH", "NeuralMemory", "NeuralMemoryOutput", "NeuralMemoryState"]

LARGEST_STRETCH = 2**0.5
"""Bound on the singular values of M_0's layers, and so on where the inner loop starts."""


class NeuralMemoryState(NamedTuple):
    """What a :class:`NeuralMemory` carries: its memory and the convolutions' last inputs."""

    memory: MemoryState
    q_conv: Tensor
    k_conv: Tensor
    v_conv: Tensor


class NeuralMemoryOutput(NamedTuple):
    """Output y `[B, T, D]`, the state after it, and the surprise `[B, T, H]` of every token."""

    y: Tensor
    state: NeuralMemoryState
    surprise: Tensor


class NeuralMemory(nn.Module):
    """A memory that learns while it reads (arXiv 2501.00663, section 3.1; LMM).

    Every token x_t is projected to a query, a key and a value (linear, causal depthwise convolution,
    SiLU, l2-norm). Its surprise, the gradient of ``|M(k) - v|^2``, is written into the weights of M,
    a small MLP of every head, with momentum and forgetting, and M is read at the query after the
    write. Causal, and a stream may be fed in pieces of any length.

    Parameters
    ----------
    d_model : int
        D, width of a token.
    n_heads : int
        H, memories side by side, each of width `d_model / n_heads`.
    config : MemoryConfig, optional
        Everything else.

    Notes
    -----
    Built to stay stable: keys and values have length one; a token is written with
    ``theta = sigmoid(.) (1 - eta) / (2 chunk_size)``, so that a chunk of equal tokens makes at most
    half the step at which a linear memory starts to swing; and no layer of the learned M_0 stretches a
    vector by more than sqrt(2), since the curvature of a deep memory's loss grows with its weights.
    Measured in `kernels/README.md`.

    Examples
    --------
    >>> memory = NeuralMemory(d_model=32, n_heads=2)
    >>> x = torch.randn(4, 100, 32)
    >>> y, state, surprise = memory(x)
    >>> y.shape, surprise.shape
    (torch.Size([4, 100, 32]), torch.Size([4, 100, 2]))
    >>> y, state, _ = memory(torch.randn(4, 7, 32), state)      # the stream goes on
    """

    def __init__(self, d_model: int, n_heads: int, config: MemoryConfig | None = None) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model is {d_model}; it must be a multiple of n_heads, {n_heads}")
        self.n_heads = n_heads
        self.config = config = config or MemoryConfig()
        self.q_proj, self.k_proj, self.v_proj, self.gate_proj, self.out_proj = (
            nn.Linear(d_model, d_model, bias=False) for _ in range(5)
        )
        self.q_conv, self.k_conv, self.v_conv = (
            CausalConv(d_model, config.conv_size) for _ in range(3)
        )
        # Heads start with half-lives of the memory between 14 and 760 tokens.
        forget, momentum = config.forget and config.write, config.momentum and config.write
        self.forget_gate = _gate(d_model, torch.linspace(-3, -7, n_heads), forget)
        self.momentum_gate = _gate(d_model, torch.zeros(n_heads), momentum)
        self.lr_gate = _gate(d_model, torch.full((n_heads,), 2.0), config.write)
        width = d_model // n_heads
        widths = [width] + [config.expansion * width] * (config.depth - 1) + [width]
        self.initial = nn.ParameterList(_orthogonal(n_heads, i, o) for i, o in pairwise(widths))
        self.norm = Norm(width)

    def initial_state(self, batch_size: int) -> NeuralMemoryState:
        """The state before the first token of `batch_size` streams."""
        memory = initial_state(self._initial(), batch_size)
        convs = (self.q_conv, self.k_conv, self.v_conv)
        return NeuralMemoryState(memory, *(conv.initial_state(batch_size) for conv in convs))

    def forward(
        self, x: Tensor, state: NeuralMemoryState | None = None, mask: Tensor | None = None
    ) -> NeuralMemoryOutput:
        """Write every token, and read the memory after it.

        Parameters
        ----------
        x : Tensor
            Tokens `[B, T, D]`.
        state : NeuralMemoryState, optional
            Where the stream stands; default: at its beginning.
        mask : Tensor, optional
            `[B, T]` bool, True where a token is present. The others are absent: they change nothing,
            and their output is zero.

        Returns
        -------
        NeuralMemoryOutput
            `(y [B, T, D], state, surprise [B, T, H])`.
        """
        if mask is not None:
            packing = Packing(mask)
            y, state, surprise = self._advance(packing.pack(x), state, packing.lengths)
            return NeuralMemoryOutput(packing.unpack(y), state, packing.unpack(surprise))
        return self._advance(x, state, None)

    def read(
        self, x: Tensor, weights: Weights, conv: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read a memory without writing.

        Parameters
        ----------
        x : Tensor
            Tokens `[B, T, D]` to make queries of.
        weights : Weights
            The memory to read, for instance `state.memory.weights`.
        conv : Tensor
            The query convolution's last inputs on this stream; `q_conv.initial_state(B)` at first.
        mask : Tensor, optional
            `[B, T]` bool, as for :meth:`forward`.

        Returns
        -------
        tuple[Tensor, Tensor]
            What the memory answers, `[B, T, D]`, and the convolution's new last inputs.
        """
        packing = None if mask is None else Packing(mask)
        tokens = x if packing is None else packing.pack(x)
        lengths = None if packing is None else packing.lengths
        q, conv = self._project(self.q_proj, self.q_conv, tokens, conv, lengths)
        y = self._output(read_memory(q, weights), tokens)
        return (y if packing is None else packing.unpack(y)), conv

    def _advance(
        self, x: Tensor, state: NeuralMemoryState | None, lengths: Tensor | None
    ) -> NeuralMemoryOutput:
        state = self.initial_state(x.shape[0]) if state is None else state
        q, q_conv = self._project(self.q_proj, self.q_conv, x, state.q_conv, lengths)
        k, k_conv = self._project(self.k_proj, self.k_conv, x, state.k_conv, lengths)
        v, v_conv = self._project(self.v_proj, self.v_conv, x, state.v_conv, lengths)
        forget, momentum, lr = self._gates(x)
        mask = None if lengths is None else prefix_mask(lengths, x.shape[1])
        y, memory, surprise = neural_memory(
            q,
            k,
            v,
            forget,
            momentum,
            lr,
            self._initial(),
            state.memory,
            mask=mask,
            chunk_size=self.config.chunk_size,
            forget_to=self.config.forget_to,
        )
        assert y is not None
        state = NeuralMemoryState(memory, q_conv, k_conv, v_conv)
        return NeuralMemoryOutput(self._output(y, x), state, surprise)

    def _project(
        self, proj: nn.Module, conv: nn.Module, x: Tensor, state: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens `[B, T, D]` to unit vectors `[B, T, H, K]`."""
        y, state = conv(proj(x), state, lengths)
        y = F.silu(y).unflatten(-1, (self.n_heads, -1))
        return F.normalize(y.float() if y.dtype.itemsize < 4 else y, dim=-1).to(y.dtype), state

    def _gates(self, x: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """alpha, eta and theta, `[B, T, H]`."""
        if self.lr_gate is None:
            return None, None, x.new_zeros(*x.shape[:2], self.n_heads)
        forget = None if self.forget_gate is None else torch.sigmoid(self.forget_gate(x))
        momentum = None if self.momentum_gate is None else torch.sigmoid(self.momentum_gate(x))
        lr = torch.sigmoid(self.lr_gate(x)) / (2 * self.config.chunk_size)
        return forget, momentum, lr if momentum is None else lr * (1 - momentum)

    def _output(self, y: Tensor, x: Tensor) -> Tensor:
        """Normalise what was read, `[B, T, H, V]`, gate it by x, and project it to `[B, T, D]`."""
        return self.out_proj(self.norm(y).flatten(2) * F.silu(self.gate_proj(x)))

    def _initial(self) -> Weights:
        """M_0 with no singular value above `LARGEST_STRETCH`, in at least float32."""
        layers = []
        for w in self.initial:
            # half precision would round small updates away
            w = w.to(torch.promote_types(w.dtype, torch.float32))
            stretch = torch.linalg.matrix_norm(w, ord=2)[:, None, None]
            layers.append(w * (LARGEST_STRETCH / stretch.clamp_min(LARGEST_STRETCH)))
        return tuple(layers)


def _orthogonal(n_heads: int, d_in: int, d_out: int) -> Tensor:
    """Random `[H, d_in, d_out]` whose rows or columns are orthonormal."""
    layer = torch.empty(n_heads, d_in, d_out, dtype=torch.float32)
    for head in layer:
        nn.init.orthogonal_(head)
    return layer.to(torch.get_default_dtype())


def _gate(d_model: int, bias: Tensor, wanted: bool) -> nn.Linear | None:
    """A gate's logits for every head, starting near `bias` `[H]`."""
    if not wanted:
        return None
    gate = nn.Linear(d_model, len(bias))
    with torch.no_grad():
        gate.weight.mul_(0.1)  # the gates start nearly constant, and learn to look at the token
        gate.bias.copy_(bias)
    return gate
