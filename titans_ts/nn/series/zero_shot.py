"""A forecaster of series that it was never fitted to: causal, for any context and any horizon.

Every series is read by itself. A token holds `patch_length` steps, and its output forecasts the
`output_length` steps after it, as corrections of the seasonal naive forecast. Both are in the units of
the series so far: the mean absolute seasonal difference is 1. For a longer horizon, tokens without values
follow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_ts.config import BackboneConfig
from titans_ts.kernels.portable import asinh, largest_so_far, recorded_format
from titans_ts.nn.backbone import TitansBackbone

__all__ = ["Patches", "ZeroShotConfig", "ZeroShotModel", "read_patches"]

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SCALARS = 14
_TINY = 1e-9


@dataclass(frozen=True)
class ZeroShotConfig:
    """A model that forecasts without a fit."""

    patch_length: int = 8
    """Steps in a token."""
    output_length: int = 32
    """Steps that the output of a token forecasts."""
    hidden: int = 256
    """Width of the hidden layer between a token's numbers and the backbone."""
    quantile_levels: tuple[float, ...] = _LEVELS
    """Levels of the forecast quantiles."""
    backbone: BackboneConfig = field(
        default_factory=lambda: BackboneConfig("lmm", d_model=64, n_layers=2, dropout=0.0)
    )


class Patches(NamedTuple):
    """What the model knows at the end of each of P tokens of B series, in float32."""

    features: Tensor
    """`[B, P, F]`."""
    base: Tensor
    """The naive forecasts of both seasons `[B, P, 2, H]`, relative to `last` and in `unit`; those of
    the second one are those of the first where it is not known yet."""
    last: Tensor
    """The last observed value, `[B, P]`, in the units of the series."""
    unit: Tensor
    """The mean absolute seasonal difference so far, `[B, P]`."""
    change: Tensor
    """The mean absolute difference of two steps so far in `unit`, `[B, P]`."""
    known: Tensor
    """Whether a value was observed so far, `[B, P]`."""


def _behind(values: Tensor, steps: Tensor) -> Tensor:
    """Shift series `[B, T]` by their own numbers of steps `[B]`; what comes before them is NaN."""
    at = torch.arange(values.shape[1]) - steps[:, None]
    return values.gather(1, at.clamp(min=0)).masked_fill(at < 0, torch.nan)


def _filled(values: Tensor, season: Tensor) -> Tensor:
    """Replace missing values by those of the nearest season before, or by the last one."""
    for step in (season, torch.ones_like(season)):
        turns = 0
        while True:
            before = _behind(values, step)
            gaps = values.isnan()
            values = torch.where(gaps, before, values)
            step = 2 * step
            if recorded_format() is not None:  # as many turns as any gap needs
                turns += 1
                if turns == values.shape[1].bit_length():
                    break
            elif int(step.min()) >= values.shape[1] or not bool(gaps.any()):
                break
    return values


def read_patches(values: Tensor, seasons: Tensor, config: ZeroShotConfig) -> Patches:
    """Turn series into what the model reads.

    Everything at a token depends on the steps up to its end only. Adding a constant to a series, or
    multiplying it with a positive number, changes nothing but `last` and `unit`, except that the
    features know where zero is.

    Parameters
    ----------
    values : Tensor
        `[B, T]` float64, T a multiple of the patch length; NaN is missing.
    seasons : Tensor
        `[B, 2]` int64, number of steps in a season and in a longer one, 1 for none.
    config : ZeroShotConfig
        The lengths.
    """
    P, H = config.patch_length, config.output_length
    B, T = values.shape
    season, longer = seasons.unbind(1)
    ends = torch.arange(P - 1, T, P)
    observed = ~values.isnan()
    first = observed.double().argmax(1, keepdim=True)
    origin = values.gather(1, first).nan_to_num()
    rough = (values - origin).nan_to_num().abs().amax(1, keepdim=True)
    rough = torch.where(rough > 0, rough, origin.abs().clamp(min=1e-300))
    x = (values - origin) / rough  # of size one at most, for sums without cancellation
    filled = _filled(x, season)
    one = torch.ones_like(season)
    latest = _filled(x, one)  # NaN before the first value
    last = latest.nan_to_num()

    step = x - _behind(latest, one)
    seasonal = x - _behind(filled, season)

    def mean(terms: Tensor) -> tuple[Tensor, Tensor]:
        """Means `[B, P]` of the terms so far, and their number."""
        there = (~terms.isnan()).cumsum(1)[:, ends].double()
        total = terms.nan_to_num().cumsum(1)[:, ends]
        return total / there.clamp(min=1), there

    level, n = mean(x)
    square, _ = mean(x * x)
    usual, n_seasonal = mean(seasonal.abs())
    change, _ = mean(step.abs())
    size = (level + origin / rough).abs()
    small = torch.where(
        change > 0, change, 1e-2 * size.clamp(min=1e-2 * origin.abs() / rough + _TINY)
    )
    unit = (usual * n_seasonal + small) / (n_seasonal + 1)
    deviation = ((square - level**2).clamp(min=0) + (0.1 * unit) ** 2).sqrt()
    end_last = last[:, ends]

    def patched(terms: Tensor, centre: Tensor | None, scale: Tensor) -> Tensor:
        parts = terms.unflatten(1, (-1, P))
        parts = parts if centre is None else parts - centre[..., None]
        return asinh((parts / scale[..., None]).nan_to_num())

    source = torch.where(filled.isnan(), last, filled)
    ahead = torch.arange(1, H + 1)

    def repeat(length: Tensor, cycles: int = 0) -> tuple[Tensor, Tensor]:
        """Repeat a season `[B]`, or one some cycles before; and tell where it was observed."""
        back = length[:, None] * (cycles - (-ahead // length[:, None])) - ahead  # [B, H]
        at = ends[None, :, None] - back[:, None]  # [B, P, H]
        there = at >= first[:, None]
        found = source.gather(1, at.clamp(min=0).flatten(1)).view(at.shape)
        return torch.where(there, found, end_last[..., None]), there

    base, _ = repeat(season)
    earlier, repeated = repeat(season, 1)
    repeated = repeated & (season > 1)[:, None, None]
    growth = torch.where(repeated, base - earlier, 0.0)
    far, seen = repeat(longer)
    seen = seen & (longer > 1)[:, None, None]
    far = torch.where(seen, far, base)
    relative = (torch.stack([base, far], 2) - end_last[..., None, None]) / unit[..., None, None]

    m = season.double()[:, None]
    angle = 2 * torch.pi * ((ends - first).double() / m)
    since = _since(observed)[:, ends].double()
    zero = -(origin / rough + end_last) / unit
    there = (season > 1).double()[:, None].expand(B, len(ends))
    scalars = [
        (unit / deviation).log(),
        (change / unit + 1e-3).log(),
        m.log().expand_as(unit) / 3,
        there,
        n.log1p() / 4,
        (n / m).log1p() / 2,
        asinh(zero) / 3,
        there * angle.sin(),
        there * angle.cos(),
        since.log1p() / 2,
        asinh((end_last - level) / deviation),
        n_seasonal / (n_seasonal + m),
        seen.double().mean(-1),
        (longer.double()[:, None] / m).log() / 2 * seen.any(-1),
    ]
    assert len(scalars) == _SCALARS
    features = [
        patched(x, level, deviation),
        patched(seasonal, None, unit),
        patched(step, None, unit),
        observed.unflatten(1, (-1, P)),
        asinh(relative[:, :, 0]),
        asinh((far - base) / unit[..., None]),
        asinh(growth / unit[..., None]),
        repeated,
        torch.stack(scalars, -1),
    ]
    return Patches(
        torch.cat([f.float() for f in features], -1),
        relative.float(),
        end_last * rough + origin,
        unit * rough,
        (change / unit).float(),
        n > 0,
    )


def _since(observed: Tensor) -> Tensor:
    """Steps since the last observed value, `[B, T]`."""
    time = torch.arange(observed.shape[1])
    seen = largest_so_far(torch.where(observed, time, -1))
    return time - seen


class ZeroShotModel(nn.Module):
    """Forecast any series from its past alone.

    Parameters
    ----------
    config : ZeroShotConfig, optional
        Lengths, levels and backbone (default: `ZeroShotConfig()`).
    """

    def __init__(self, config: ZeroShotConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ZeroShotConfig()
        P, H, D = config.patch_length, config.output_length, config.backbone.d_model
        n_features = 4 * P + 4 * H + _SCALARS
        self.embed = nn.Sequential(
            nn.Linear(n_features, config.hidden), nn.SiLU(), nn.Linear(config.hidden, D)
        )
        self.skip = nn.Linear(n_features, D)
        self.backbone = TitansBackbone(config.backbone)
        self.sizes = H * len(config.quantile_levels), 2 * H, 1
        self.head = nn.Sequential(
            nn.Linear(2 * D, config.hidden), nn.SiLU(), nn.Linear(config.hidden, sum(self.sizes))
        )
        nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]

    def forward(self, patches: Patches) -> Tensor:
        """Return quantiles `[B, P, H, Q]` relative to `last` and in `unit`, for every token."""
        x = self.skip(patches.features) + self.embed(patches.features)
        whole = recorded_format() is None and bool(patches.known.all())
        mask = None if whole else patches.known
        y, _ = self.backbone(x, None, mask)
        out, shares, size = self.head(torch.cat([x, y], -1)).split(self.sizes, -1)
        out = out.unflatten(-1, (self.config.output_length, -1)).sort(-1).values
        shares = shares.unflatten(-1, (2, -1)) + shares.new_tensor([[1.0], [0.0]])
        base = (patches.base * shares).sum(2)
        return base[..., None] + out * size.exp()[..., None]

    def quantiles(self, values: Tensor, seasons: Tensor, prediction_length: int) -> Tensor:
        """Forecast the steps after series.

        Parameters
        ----------
        values : Tensor
            `[B, T]` float64; NaN is missing.
        seasons : Tensor
            `[B, 2]` int64, number of steps in a season and in a longer one, 1 for none.
        prediction_length : int
            Number of steps.

        Returns
        -------
        Tensor
            `[B, prediction_length, Q]` float64; NaN for a series without an observed value.
        """
        P, H = self.config.patch_length, self.config.output_length
        more = -(-max(0, prediction_length - H) // P)
        front = -values.shape[1] % P
        whole = F.pad(F.pad(values, (front, 0), value=torch.nan), (0, more * P), value=torch.nan)
        patches = read_patches(whole, seasons, self.config)
        out = self(patches).double()
        n = whole.shape[1] // P
        first = n - 1 - more
        scaled = out * patches.unit[..., None, None] + patches.last[..., None, None]
        parts = [scaled[:, first]] + [scaled[:, i, H - P :] for i in range(first + 1, n)]
        result = torch.cat(parts, 1)[:, :prediction_length]
        return result.masked_fill(~patches.known[:, -1, None, None], torch.nan)
