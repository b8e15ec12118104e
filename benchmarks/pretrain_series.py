"""Pretrain the forecaster that needs no fit, on random series alone.

    python benchmarks/pretrain_series.py --steps 20000 --out build/series      # start, or go on
    python benchmarks/pretrain_series.py --steps 20000 --out build/series --device cuda --tokens 131072

Every step draws series from `titans_ts.datasets.prior` (64 to 2048 steps of history), hides stretches
of some, and takes the quantile loss of the forecasts at all tokens. The learning rate rises, stays, and
falls to zero in the last part of the steps; the weights that are kept are a moving average. `--out` has
a checkpoint, from which the same command goes on after an interruption, and the model. The loss on
held-out random series is printed for short and long histories, relative to that of the seasonal naive
forecast. No real series is read.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from titans_ts.config import BackboneConfig, MemoryConfig
from titans_ts.datasets import random_series
from titans_ts.nn.checkpoint import save_model
from titans_ts.nn.series.zero_shot import Patches, ZeroShotConfig, ZeroShotModel, read_patches

LENGTHS = {64: 0.15, 128: 0.2, 512: 0.4, 2048: 0.25}
"""Number of steps of a series, and the share of the steps of training that read such series."""
POOL = 16
"""Number of batches that are drawn at once."""
FURTHEST = 20.0
"""Targets beyond this number of usual differences from the naive forecast are cut to it."""
SHARPEST = 0.05
"""Least size of an error, in usual seasonal differences, that counts as much as a usual one."""
AVERAGE = 0.998
"""Weight of the average of the weights so far, at every step."""


class Sampler:
    """Batches of random series, of one length each."""

    def __init__(self, seed: int, tokens: int, config: ZeroShotConfig) -> None:
        self.generator = np.random.default_rng(seed)
        self.tokens, self.config = tokens, config
        self.pools: dict[int, list[tuple[Tensor, Tensor]]] = {n: [] for n in LENGTHS}

    def batch(self, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Return series `[n, length + output_length]`, and their seasons `[n, 2]`."""
        if length is None:
            length = int(self.generator.choice(list(LENGTHS), p=list(LENGTHS.values())))
        pool = self.pools[length]
        if not pool:
            n = max(1, self.tokens * self.config.patch_length // length)
            total = length + self.config.output_length
            series = random_series(n * POOL, total, self.generator)
            values = torch.from_numpy(series.values).double()
            seasons = torch.from_numpy(series.seasons)
            pool.extend(zip(values.split(n), seasons.split(n), strict=True))
        return pool.pop()

    def hidden(self, values: Tensor) -> Tensor:
        """Hide the values before a random beginning, and whole tokens in a row, of some series."""
        n, length = values.shape
        rng, P = self.generator, self.config.patch_length
        time = np.arange(length)
        begin = np.where(rng.random((n, 1)) < 0.3, rng.integers(0, max(2, length // 2), (n, 1)), 0)
        begin = np.where(rng.random((n, 1)) < 0.6, rng.integers(0, P, (n, 1)), begin)
        gone = time < begin
        for chance in (0.3, 0.15):
            start = P * rng.integers(0, length // P, (n, 1))
            size = P * rng.integers(1, 2 + min(32, length // P // 3), (n, 1))
            chosen = rng.random((n, 1)) < chance
            gone |= chosen & (time >= start) & (time < start + size)
        return values.masked_fill(torch.from_numpy(gone), torch.nan)


def targets(values: Tensor, patches: Patches, config: ZeroShotConfig) -> Tensor:
    """Return what came after every token, relative to its last value and in its unit, `[B, P, H]`."""
    P, H = config.patch_length, config.output_length
    ahead = values[:, P:].unfold(1, H, P)
    scaled = (ahead - patches.last[..., None]) / patches.unit[..., None]
    base = patches.base[:, :, 0].double()
    return (base + (scaled - base).clamp(-FURTHEST, FURTHEST)).float()


def losses(quantiles: Tensor, target: Tensor, patches: Patches, config: ZeroShotConfig) -> Tensor:
    """Return the quantile loss of every token with a past and a future, `[n]`.

    It is in seasonal differences, or in about four usual steps of the series if those are less: what
    changes slowly is to be forecast more closely.
    """
    q = torch.tensor(config.quantile_levels, device=target.device)
    there = ~target.isnan() & patches.known[..., None]
    error = target.nan_to_num()[..., None] - quantiles
    loss = torch.maximum(q * error, (q - 1) * error).mean(-1) * there
    count = there.sum(-1)
    size = (4 * patches.change).clamp(SHARPEST, 1)
    return (loss.sum(-1) / size)[count > 0] / count[count > 0]


def read(values: Tensor, seasons: Tensor, config: ZeroShotConfig, seen: Tensor, device: str) -> Any:
    """Return the tokens of the history `seen`, and the targets, on a device."""
    patches = read_patches(seen, seasons, config)
    target = targets(values, patches, config)
    return Patches(*(p.to(device) for p in patches)), target.to(device)


@torch.no_grad()
def validate(model: nn.Module, held: dict[int, Any], config: ZeroShotConfig) -> dict[str, float]:
    """Return the loss after whole histories of every length, relative to the naive forecast."""
    found = {}
    for length, (patches, target) in held.items():
        end = Patches(*(p[:, -1:] for p in patches))
        naive = end.base[:, :, 0, :, None].expand(-1, -1, -1, len(config.quantile_levels))
        loss, base = (
            losses(q, target[:, -1:], end, config).mean() for q in (model(patches)[:, -1:], naive)
        )
        found[str(length)] = float(loss / base)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint and model")
    parser.add_argument("--steps", type=int, default=20_000, help="steps of training in all")
    parser.add_argument("--falling", type=float, default=0.3, help="share with a falling rate")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--variant", default="lmm")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--depth", type=int, default=2, help="layers of the memory")
    parser.add_argument("--no-write", action="store_true", help="control: the memory never writes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    memory = MemoryConfig(depth=args.depth, write=not args.no_write)
    backbone = BackboneConfig(args.variant, args.width, args.layers, dropout=0.0, memory=memory)
    config = ZeroShotConfig(hidden=args.hidden, backbone=backbone)
    model = ZeroShotModel(config).to(args.device)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), args.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    sampler = Sampler(args.seed, args.tokens, config)
    held = {}
    for length in LENGTHS:
        values, seasons = Sampler(2**31 + length, 2**13, config).batch(length)
        held[length] = read(values, seasons, config, values[:, :length], args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    path, step, spent, log = args.out / "checkpoint.pt", 0, 0.0, []
    if path.is_file():
        saved = torch.load(path, map_location=args.device, weights_only=False)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        if saved["config"] != config:
            raise SystemExit(
                f"{path} has {saved['config']}; give the same options, or another --out"
            )
        sampler.generator, sampler.pools = saved["generator"], saved["pools"]
        step, spent, log = saved["step"], saved["spent"], saved["log"]
    recent: list[float] = [] if step == 0 else saved["recent"]
    start = time.process_time() - spent
    while step < args.steps:
        left = (1 - step / args.steps) / max(args.falling, 1e-9)
        rate = args.learning_rate * min(1.0, (step + 1) / 500, left)
        for group in optimizer.param_groups:
            group["lr"] = rate
        values, seasons = sampler.batch()
        seen = sampler.hidden(values[:, : -config.output_length])
        patches, target = read(values, seasons, config, seen, args.device)
        loss = losses(model(patches), target, patches, config).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        step += 1
        recent.append(float(loss.detach()))
        if step % 500 == 0 or step == args.steps:
            spent = time.process_time() - start
            found = validate(average.module, held, config)
            log.append(
                {"step": step, "seconds": round(spent), "training": np.mean(recent), **found}
            )
            recent.clear()
            print(json.dumps(log[-1]), flush=True)
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": sampler.generator,
                "pools": sampler.pools,
                "recent": recent,
                "step": step,
                "spent": spent,
                "log": log,
                "config": config,
            }
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
    print(json.dumps(validate(average.module, held, config)), flush=True)
    save_model(args.out / "model", average.module)


if __name__ == "__main__":
    main()
