"""The neural long-term memory as a layer: projections, gates, the memory, output norm and gate."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import MemoryConfig
from titans_ts.kernels import MemoryState, Weights, initial_state, neural_memory, read_memory
from titans_ts.kernels.decisions import covered
from titans_ts.kernels.native.layer import native_read, native_step
from titans_ts.nn.fused import gated_norm, project
from titans_ts.nn.initial import InitialMemory
from titans_ts.nn.layers import Norm
from titans_ts.nn.packing import Packing, prefix_mask
from titans_ts.nn.single_token import single_layer

__all__ = ["PIECE_TOKENS", "NeuralMemory", "NeuralMemoryOutput", "NeuralMemoryState"]


PIECE_TOKENS = 2**12
"""Number of tokens (of all streams) that are read at a time without a gradient."""


class NeuralMemoryState(NamedTuple):
    """State of a :class:`NeuralMemory`: its memory and the last inputs of the convolution."""

    memory: MemoryState
    conv: Tensor
    """`[B, conv_size - 1, 3 D]`: the inputs of queries, keys and values."""


class NeuralMemoryOutput(NamedTuple):
    """Output y `[B, T, D]`, the state after it, and the surprise `[B, T, H]` of every token."""

    y: Tensor
    state: NeuralMemoryState
    surprise: Tensor


class NeuralMemory(nn.Module):
    """A memory that learns while it reads (arXiv 2501.00663, section 3.1; LMM).

    Every token x_t is projected to a query, a key and a value (linear, causal depthwise convolution,
    SiLU). Queries and keys are divided by their lengths, values by ``sqrt(1 + length^2)``. Its
    surprise, the gradient of ``|M(k) - v|^2``, is written into the weights of M, a small MLP per head,
    with momentum and forgetting. After the write, M is read at the query. The layer is causal, and a
    stream may be read in pieces of any length.

    Parameters
    ----------
    d_model : int
        D, width of a token.
    n_heads : int
        H, number of independent memories, each of width `d_model / n_heads`.
    config : MemoryConfig, optional
        All other settings (default: `MemoryConfig()`).

    Notes
    -----
    Three choices keep the memory stable. Keys have length one, and values less. The learning rate is
    ``theta = sigmoid(.) (1 - eta) / 2``, divided by `chunk_size` if all errors of a chunk are taken at
    its start, so a token, or a chunk of equal tokens, makes at most half the step at which a linear
    memory starts to oscillate. The layers of the learned M_0 have singular values of at most sqrt(2),
    since the curvature of a deep memory's loss grows with its weights. `kernels/README.md` has
    measurements.

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
        # Heads start with half-lives of the memory between 14 and 760 tokens.
        starts = {"lr": torch.full((n_heads,), 2.0)}
        if config.forget:
            starts["forget"] = torch.linspace(-3, -7, n_heads)
        if config.momentum:
            starts["momentum"] = torch.zeros(n_heads)
        self.bounded = config.values == "bounded"
        """Whether values are shorter than one; else their length is one."""
        self.gates = tuple(starts) if config.write else ()
        """Names of the gates."""
        # One matrix makes all projections of a token, since small products cost mostly their call. Its
        # rows are for the output's gate, for queries, keys and values, and for the gates.
        rows = 4 * d_model + len(self.gates) * n_heads
        self.in_proj = nn.Linear(d_model, rows, bias=False)
        with torch.no_grad():  # at first, the gates hardly depend on the token
            self.in_proj.weight[4 * d_model :].mul_(0.1)
            if config.output_gate == "sigmoid":  # starts at one
                self.in_proj.weight[:d_model].zero_()
        biases = [starts[gate] for gate in self.gates]
        self.gate_bias = nn.Parameter(torch.cat(biases)) if biases else None
        self.taps = nn.Parameter(torch.empty(config.conv_size, 3 * d_model))
        nn.init.uniform_(self.taps, -(config.conv_size**-0.5), config.conv_size**-0.5)
        width = d_model // n_heads
        hidden = [config.expansion * width] * (config.depth - 1)
        self.initial = InitialMemory(n_heads, [width, *hidden, width])
        self.norm = Norm(width)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def initial_state(self, batch_size: int) -> NeuralMemoryState:
        """Return the state before the first token of `batch_size` streams."""
        taps, channels = self.taps.shape
        conv = self.taps.new_zeros(batch_size, taps - 1, channels)
        return NeuralMemoryState(initial_state(self.initial.weights(), batch_size), conv)

    def forward(
        self, x: Tensor, state: NeuralMemoryState | None = None, mask: Tensor | None = None
    ) -> NeuralMemoryOutput:
        """Write every token, and read the memory after it.

        Parameters
        ----------
        x : Tensor
            Tokens `[B, T, D]`.
        state : NeuralMemoryState, optional
            State of the stream; default: its beginning.
        mask : Tensor, optional
            `[B, T]` bool, True where a token is present (default: everywhere). Absent tokens change
            nothing, and their output is zero.

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
            Tokens `[B, T, D]`, from which the queries are made.
        weights : Weights
            The memory to read, for instance `state.memory.weights`.
        conv : Tensor
            The query convolution's last inputs on this stream, `[B, conv_size - 1, D]`; zeros at first.
        mask : Tensor, optional
            `[B, T]` bool, as for :meth:`forward`.

        Returns
        -------
        tuple[Tensor, Tensor]
            The memory's outputs `[B, T, D]`, and the new last inputs of the convolution.
        """
        single = single_layer(self, x, mask)
        if covered("memory layer (read)", single.uncovered):
            assert single.layer is not None
            return native_read(x, single.layer, weights, conv)
        packing = None if mask is None else Packing(mask)
        tokens = x if packing is None else packing.pack(x)
        lengths = None if packing is None else packing.lengths
        D = x.shape[-1]
        # the first rows of in_proj and columns of taps belong to the gate and the queries
        weight, taps = self.in_proj.weight[: 2 * D], self.taps[:, :D]
        gate, (q,), _, conv = project(tokens, conv, weight, taps, D // self.n_heads, lengths)
        y = self._output(read_memory(q, weights), gate)
        return (y if packing is None else packing.unpack(y)), conv

    def gates_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gates of tokens x `[B, T, D]` for a report; `[B, T, H]` each.

        They are the write strength, theta / (1 - eta) as a share of its bound; the forget gate alpha;
        and the momentum eta. A gate that the memory does not have is 0.
        """
        logits = F.linear(x, self.in_proj.weight[4 * x.shape[-1] :])
        forget, momentum, lr = self._gates(logits)
        absent = torch.zeros_like(lr)
        forget = absent if forget is None else forget
        momentum = absent if momentum is None else momentum
        kept = (1 - momentum).clamp_min(torch.finfo(lr.dtype).tiny)
        return lr * (2 * self._together) / kept, forget, momentum

    @property
    def _together(self) -> int:
        """Number of tokens whose errors may be taken of one memory, so that their steps add up."""
        return 1 if self.config.error_at == "token" else self.config.chunk_size

    def _advance(
        self, x: Tensor, state: NeuralMemoryState | None, lengths: Tensor | None
    ) -> NeuralMemoryOutput:
        """Read the next tokens; a long input without a gradient is read a piece at a time."""
        batch, length, _ = x.shape
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._advance_piece(x, state, lengths)
        size = max(self.config.chunk_size, PIECE_TOKENS // max(1, batch))
        if length <= size:
            return self._advance_piece(x, state, lengths)
        whole: list[Tensor] = []
        for start in range(0, length, size):
            piece = slice(start, start + size)
            present = None if lengths is None else (lengths - start).clamp(0, size)
            y, state, surprise = self._advance_piece(x[:, piece], state, present)
            whole = whole or [
                part.new_empty(batch, length, part.shape[2]) for part in (y, surprise)
            ]
            whole[0][:, piece], whole[1][:, piece] = y, surprise
        assert state is not None
        return NeuralMemoryOutput(whole[0], state, whole[1])

    def _advance_piece(
        self, x: Tensor, state: NeuralMemoryState | None, lengths: Tensor | None
    ) -> NeuralMemoryOutput:
        state = self.initial_state(x.shape[0]) if state is None else state
        single = single_layer(self, x, lengths)
        if covered("memory layer", single.uncovered):
            assert single.layer is not None
            layer, initial = single.layer, self.initial.weights()
            out, conv, after, norm = native_step(x, layer, initial, state.conv, state.memory)
            return NeuralMemoryOutput(out, NeuralMemoryState(after, conv), norm)
        width = x.shape[-1] // self.n_heads
        gate, (q, k, v), logits, conv = project(
            x, state.conv, self.in_proj.weight, self.taps, width, lengths, self.bounded
        )
        forget, momentum, lr = self._gates(logits)
        mask = None if lengths is None else prefix_mask(lengths, x.shape[1])
        y, memory, surprise = neural_memory(
            q,
            k,
            v,
            forget,
            momentum,
            lr,
            self.initial.weights(),
            state.memory,
            mask=mask,
            chunk_size=self.config.chunk_size,
            forget_to=self.config.forget_to,
            error_at=self.config.error_at,
        )
        assert y is not None
        return NeuralMemoryOutput(self._output(y, gate), NeuralMemoryState(memory, conv), surprise)

    def _gates(self, logits: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Return alpha, eta and theta, `[B, T, H]`; alpha and eta may be None."""
        if self.gate_bias is None:
            return None, None, logits.new_zeros(*logits.shape[:2], self.n_heads)
        values = torch.sigmoid(logits + self.gate_bias).unflatten(2, (-1, self.n_heads)).unbind(2)
        gates = dict(zip(self.gates, values, strict=True))
        forget, momentum = gates.get("forget"), gates.get("momentum")
        lr = gates["lr"] / (2 * self._together)
        if momentum is not None:
            lr = torch.addcmul(lr, lr, momentum, value=-1)
        return forget, momentum, lr

    def _output(self, y: Tensor, gate: Tensor) -> Tensor:
        """Normalise the memory's outputs `[B, T, H, V]`, gate them, and project them to `[B, T, D]`."""
        open_gate = self.config.output_gate == "sigmoid"
        return self.out_proj(gated_norm(y, gate, self.norm.weight, open_gate))
