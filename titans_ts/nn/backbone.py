"""The backbone: a stack of Titans blocks that reads a stream of tokens in pieces of any length."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from titans_ts.config import BackboneConfig
from titans_ts.kernels.portable import is_recorded, recorded_format
from titans_ts.nn.blocks import Block
from titans_ts.nn.layers import Norm
from titans_ts.nn.packing import Packing

__all__ = ["BackboneOutput", "TitansBackbone"]


class BackboneOutput(NamedTuple):
    """Output y `[B, T, D]`, the state of every block, and surprise `[B, T, n_layers, H]`."""

    y: Tensor
    state: tuple[Any, ...]
    surprise: Tensor


class TitansBackbone(nn.Module):
    """A stack of Titans blocks (arXiv 2501.00663, section 4), causal and streaming.

    Parameters
    ----------
    config : BackboneConfig, optional
        Kind, number and width of the blocks (default: `BackboneConfig()`).

    Examples
    --------
    >>> backbone = TitansBackbone(BackboneConfig(variant="mag", d_model=32))
    >>> x = torch.randn(2, 50, 32)
    >>> y, state = backbone.eval()(x)
    >>> first, state = backbone(x[:, :20])
    >>> rest, state = backbone(x[:, 20:], state)
    >>> torch.allclose(torch.cat([first, rest], 1), y, atol=1e-4)
    True
    """

    def __init__(self, config: BackboneConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or BackboneConfig()
        blocks = [Block(config) for _ in range(config.n_layers)]
        self.blocks: Any = nn.ModuleList(blocks)  # nn.ModuleList has no element type
        self.norm = Norm(config.d_model)

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """Return the state at the beginning of `batch_size` streams."""
        return tuple(block.initial_state(batch_size) for block in self.blocks)

    def forward(
        self,
        x: Tensor,
        state: tuple[Any, ...] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Read the next tokens of every stream.

        Parameters
        ----------
        x : Tensor
            Tokens `[B, T, D]`.
        state : tuple, optional
            The state that the previous call returned; default: the beginning of the streams.
        mask : Tensor, optional
            `[B, T]` bool, True where a token is present (default: everywhere). Absent tokens change
            nothing, and their output is zero.

        Returns
        -------
        tuple[Tensor, tuple]
            Outputs `[B, T, D]`, and the state after them. Any split of a stream gives the same outputs.

        Raises
        ------
        ValueError
            If a shape is wrong.
        """
        y, state, _ = self.run(x, state, mask)
        return y, state

    def run(
        self,
        x: Tensor,
        state: tuple[Any, ...] | None = None,
        mask: Tensor | None = None,
    ) -> BackboneOutput:
        """As :meth:`forward`, and also return the surprise of every token, block and memory head."""
        recorded = recorded_format() is not None
        if not recorded:
            self._check(x, state, mask)
        if len(self.blocks) == 0:  # a baseline without a backbone
            y = self.norm(x)
            y = y if mask is None else y * mask[..., None]
            return BackboneOutput(y, (), x.new_zeros(*x.shape[:2], 0, 0))
        if x.shape[1] == 0:
            heads = self.blocks[0].mixer.memory_heads
            surprise = x.new_zeros(*x.shape[:2], len(self.blocks), heads)
            state = self.initial_state(len(x)) if state is None else state
            return BackboneOutput(x, state, surprise)
        if state is None:
            source: Any = self.fixed_state if recorded else self
            state = source.initial_state(x.shape[0])
        packing = None if mask is None else Packing(mask.bool(), _most_present(mask))
        # In a graph, absent tokens are read as zeros: they come last, so nothing present depends on them.
        lengths = None if packing is None or recorded else packing.lengths
        y = x if packing is None else packing.pack(x)
        states, surprises = [], []
        for block, block_state in zip(self.blocks, state, strict=True):
            if self.config.gradient_checkpointing and torch.is_grad_enabled():
                result = checkpoint(block, y, block_state, lengths, use_reentrant=False)
            else:
                result = block(y, block_state, lengths)
            y, block_state, surprise = result
            states.append(block_state)
            surprises.append(surprise)
        y, surprise = self.norm(y), torch.stack(surprises, 2)
        if packing is not None:
            y, surprise = packing.unpack(y), packing.unpack(surprise)
        return BackboneOutput(y, tuple(states), surprise)

    def _check(self, x: Tensor, state: tuple[Any, ...] | None, mask: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[-1] != self.config.d_model:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected [B, T, {self.config.d_model}]"
            )
        if state is not None and len(state) != len(self.blocks):
            raise ValueError(
                f"state has {len(state)} blocks, but this backbone has {len(self.blocks)}"
            )
        if state:
            sizes = _batch_sizes(state)
            if sizes != {len(x)}:
                raise ValueError(
                    f"state holds {sorted(sizes)} streams, but x has {len(x)}; "
                    "carry the state of the same batch"
                )
        if mask is not None and mask.shape != x.shape[:2]:
            raise ValueError(f"mask has shape {tuple(mask.shape)}; expected {tuple(x.shape[:2])}")


def _most_present(mask: Tensor) -> int:
    """Return the largest number of tokens that a sample of `mask` `[B, T]` has, at least 1."""
    if is_recorded():  # shapes must not depend on values
        return mask.shape[1]
    return max(1, int(mask.sum(1).max()))


def _batch_sizes(state: Any) -> set[int]:
    if isinstance(state, Tensor):
        return {state.shape[0]}
    return set().union(*map(_batch_sizes, state))
