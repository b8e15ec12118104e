"""Windows of a panel as tensors, for training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from titans_ts.config import ForecasterConfig
from titans_ts.datasets import SlidingWindows
from titans_ts.forecasting.panel import Panel, rows_within

__all__ = ["PanelWindows", "validation_rows"]


class PanelWindows:
    """Windows of a panel as tensors, a batch at a time, with the static covariates of their items."""

    def __init__(
        self,
        panel: Panel,
        values: NDArray[np.float32],
        config: ForecasterConfig,
        spans: NDArray[np.int64],
        static: tuple[Tensor, Tensor] | None,
        *,
        in_a_row: int = 1,
        stride: int = 1,
    ) -> None:
        before = config.context_length * in_a_row
        lengths = before, config.prediction_length
        if panel.items is None and in_a_row == 1:
            ((first, end),) = spans
            self._windows = SlidingWindows(values[first:end], *lengths, stride=stride)
        else:
            self._windows = SlidingWindows(values, *lengths, spans=spans, stride=stride)
        self._static, self._rows = static, before

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(
        self, indices: list[int] | NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...] | None]:
        chosen = np.asarray(indices)
        past, future = (torch.from_numpy(part) for part in self._windows[chosen])
        if self._static is None:
            return past, future, None
        item = self._windows.items(chosen)
        return past, future, tuple(s[item] for s in self._static)

    def following(self, indices: Tensor, skipped: Tensor) -> Tensor:
        """Return the windows that begin `skipped` rows after the windows `indices` `[B]`; -1 for none."""
        after = indices + self._rows + skipped
        inside = torch.clamp(after, max=len(self) - 1)
        items = self._windows.items
        same = torch.from_numpy(items(inside.numpy()) == items(indices.numpy()))
        return torch.where(same & (after < len(self)), after, -1)


def validation_rows(panel: Panel, config: ForecasterConfig, fraction: float) -> NDArray[np.int64]:
    """Return the number of rows to hold out at the end of every item, `[I]`.

    It is 0 if too few rows would be left for a window to train on, or if no held-out value is observed.
    """
    first, end = panel.spans.T
    horizon = config.prediction_length
    needed = horizon + (config.context_length if panel.items is None else 1)
    rows = np.maximum((fraction * (end - first)).astype(np.int64), horizon)
    rows[end - first - rows < needed] = 0
    if fraction == 0:
        rows[:] = 0
    held_out = rows_within(end - rows, end, len(panel.values))
    targets = panel.values[held_out, : panel.n_targets]
    return np.zeros_like(rows) if np.isnan(targets).all() else rows
