"""Streams of one token at a time: the memory as a function, as a layer, and the default backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from speed.contenders import (
    STEP_BACKBONE,
    STEP_FUNCTION,
    STEP_LAYER,
    Case,
    layers_are_here,
    memory_inputs,
)
from speed.measure import interleaved
from speed.run import Row, Run, digits
from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.kernels import neural_memory

__all__ = ["one_token"]

STEP_TOKENS = 64
"""Tokens of a sample: a chunk of 64, four of 16 or two segments of 32, including the boundaries."""
_ROUNDS = 7


def one_token(run: Run) -> Iterator[Row]:
    """Measure tokens per second of a stream, token by token, over whole chunks and segments."""
    found = {name: (batch, action) for name, batch, action in _steps(run.base)}
    actions = {name: action for name, (_, action) in found.items()}
    rounds = run.rounds if run.quick else max(_ROUNDS, run.rounds)
    timings = interleaved(actions, rounds, run.device, run.least_seconds, run.failed)
    for name, timing in timings.items():
        batch = found[name][0]
        yield {
            "part": "step",
            "contender": name,
            "batch": batch,
            "tokens_per_s": round(batch * STEP_TOKENS / timing.median),
            "milliseconds": digits(1e3 * timing.median / STEP_TOKENS),
            "quartiles": [digits(1e3 * s / STEP_TOKENS) for s in timing.quartiles],
        }


def _steps(case: Case) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Yield (name, batch, action) to time; an action reads the next `STEP_TOKENS` tokens."""
    yield STEP_FUNCTION, case.batch, _function(replace(case, tokens=STEP_TOKENS))
    if not layers_are_here():
        return
    from titans_ts.nn import NeuralMemory, TitansBackbone

    config = MemoryConfig(depth=2, chunk_size=case.chunk)
    layer = NeuralMemory(case.d_model, case.heads, config)
    yield STEP_LAYER, case.batch, _module(layer, case.batch, case.d_model, case.device)
    backbone = TitansBackbone(BackboneConfig())
    yield STEP_BACKBONE, 1, _module(backbone, 1, BackboneConfig().d_model, case.device)


def _function(case: Case) -> Callable[[], object]:
    *plain, initial = memory_inputs(case, 2)
    tokens = [[x[:, t : t + 1].detach() for x in plain] for t in range(case.tokens)]
    initial = tuple(w.detach() for w in initial)
    state: list[Any] = [None]

    def run() -> None:
        with torch.no_grad():
            for token in tokens:
                state[0] = neural_memory(*token, initial, state[0], chunk_size=case.chunk)[1]

    return run


def _module(module: Any, batch: int, width: int, device: str) -> Callable[[], Tensor]:
    module = module.to(device).eval()
    tokens = torch.randn(batch, STEP_TOKENS, width, device=device).split(1, 1)
    state: list[Any] = [None]

    def run() -> Tensor:
        with torch.no_grad():
            for token in tokens:
                y, state[0] = module(token, state[0])[:2]
        return y

    return run
