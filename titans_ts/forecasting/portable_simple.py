"""The simple forecasts in operations that a graph can hold.

Series are `[N, T]` float64; NaN is missing. The forecasts are those of `baselines.py`, `theta.py` and
`smoothing.py`, where they are explained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import Tensor

from titans_ts.forecasting.smoothing import SEASONS_AT_START, Grid
from titans_ts.forecasting.theta import LEVEL, SIGNIFICANT, SMALLEST, TIE
from titans_ts.kernels.portable import largest_so_far

__all__ = ["SIMPLE", "observed_mean"]

Tensors = tuple[Tensor, ...]

_SCANS = Version(torch.__version__) >= Version("2.13")
"""Whether torch has a loop in a graph that works here (that of 2.6 does not)."""


def _last_value(past: Tensor, horizon: int, season: int) -> Tensor:
    return _seasonal_naive(past, horizon, 1)


def _seasonal_naive(past: Tensor, horizon: int, season: int) -> Tensor:
    """Repeat the last season; a missing value is that of a season earlier, and so on."""
    seasons = _by_season(past, season)  # [N, n, S]
    n = seasons.shape[1]
    number = torch.where(seasons.isnan(), -1, torch.arange(n, device=past.device)[:, None])
    last = number.amax(1, keepdim=True).clamp_min(0)
    return _repeated(seasons.gather(1, last)[:, 0], horizon)


def _drift(past: Tensor, horizon: int, season: int) -> Tensor:
    """Extend the line through the first and the last observed value."""
    n_rows = past.shape[1]
    seen = ~past.isnan()
    first = _first(seen)
    place = torch.arange(n_rows, device=past.device)
    last = torch.where(seen, place, -1).amax(1, keepdim=True).clamp_min(0)
    start, end = past.gather(1, first), past.gather(1, last)
    slope = (end - start) / (last - first).clamp_min(1)
    ahead = n_rows - last + torch.arange(horizon, device=past.device)
    return end + slope * ahead


def _theta(past: Tensor, horizon: int, season: int) -> Tensor:
    """Forecast by simple exponential smoothing with half of the linear trend."""
    y, seen = _filled(past)
    add, multiply = _season(y, seen, season)
    n_rows = y.shape[1]
    columns = torch.arange(-n_rows, 0, device=past.device) % season
    x = (y - add[:, columns]) / multiply[:, columns]
    x = torch.where(seen, x, x.gather(1, _first(seen)))
    alpha = past.new_tensor(LEVEL)

    def step(kept: Tensors, now: Tensors) -> Tensors:
        level, squares = kept
        error = now[0][:, None] - level
        return level + alpha * error, squares + error.square()

    level = x[:, :1].expand(-1, len(LEVEL))
    level, squares = _scan(step, (level, torch.zeros_like(level)), (x.mT[1:],))
    equal = squares <= (1 + TIE) * squares.amin(1, keepdim=True)
    best = equal.long().argmax(1, keepdim=True)
    level, share = level.gather(1, best), alpha[best]
    steps = torch.arange(1, horizon + 1, device=past.device)
    rows = seen.sum(1, keepdim=True)
    ahead = level + _slope(x, seen) / 2 * (steps - 1 + (1 - (1 - share) ** rows) / share)
    return ahead * _repeated(multiply, horizon) + _repeated(add, horizon)


def _smoothing(past: Tensor, horizon: int, season: int) -> Tensor:
    return _seasonal_smoothing(past, horizon, 1)


def _seasonal_smoothing(past: Tensor, horizon: int, season: int) -> Tensor:
    """Forecast by exponential smoothing, averaged over a grid of its parameters."""
    grid: Any = Grid(*(past.new_tensor(part.tolist()) for part in Grid.of(season > 1)))  # type: ignore[arg-type]
    middle = observed_mean(past)[:, None]
    unit = observed_mean((past - middle).abs())[:, None]
    unit = torch.where(unit > 0, unit, 1.0)
    y = (past - middle) / unit
    seen = ~y.isnan()
    first, level, slope, pattern = _start(y, season)
    n_settings = grid.level.shape[0]
    level = level[:, None].expand(-1, n_settings)
    slope = torch.where(grid.trend > 0, slope[:, None], 0.0)
    begun = torch.arange(y.shape[1], device=past.device)[:, None] >= first  # [T, N]

    def step(kept: Tensors, now: Tensors) -> Tensors:
        level, slope, squares, *pattern = kept
        value, has_begun = (x[:, None] for x in now)
        damped = grid.damping * slope
        ahead = level + damped
        # the season of this step comes first, and is then the last one
        error = value - ahead - pattern[0][0] if pattern else value - ahead
        error = torch.where(value.isnan(), 0.0, error)
        turned = [torch.cat([s[1:], (s[0] + grid.season * error)[None]]) for s in pattern]
        return (
            torch.where(has_begun, ahead + grid.level * error, level),
            torch.where(has_begun, damped + grid.trend * error, slope),
            squares + error.square(),
            *turned,
        )

    start: Tensors = (level, slope, torch.zeros_like(level))
    if season > 1:
        start = (*start, pattern.mT[:, :, None].expand(-1, -1, n_settings))
    level, slope, squares, *seasons = _scan(step, start, (y.mT, begun))
    weight = _weights(squares, seen.sum(1, keepdim=True), season, grid)
    steps = torch.arange(1, horizon + 1, device=past.device)
    damped = (grid.damping ** steps[:, None]).cumsum(0)  # [H, G]
    forecast = (level * weight).sum(1, keepdim=True) + (slope * weight) @ damped.mT
    if seasons:
        forecast = forecast + _repeated((seasons[0] * weight).sum(2).mT, horizon)
    return forecast * unit + middle


def _multiplicative(past: Tensor, horizon: int, season: int) -> Tensor:
    """Smooth the logarithms of series that are positive, at most e times beyond their range."""
    seen = ~past.isnan()
    low = torch.where(seen, past, torch.inf).amin(1, keepdim=True)
    high = torch.where(seen, past, -torch.inf).amax(1, keepdim=True)
    positive = low > 0
    log = _seasonal_smoothing(
        torch.where(positive, past, torch.nan).log(), horizon, season
    )  # NaN for the others
    forecast = torch.maximum(torch.minimum(log, high.log() + 1), low.log() - 1).exp()
    return torch.where(positive, forecast, torch.nan)


SIMPLE: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "last value": _last_value,
    "drift": _drift,
    "seasonal naive": _seasonal_naive,
    "theta": _theta,
    "smoothing": _smoothing,
    "seasonal smoothing": _seasonal_smoothing,
    "multiplicative smoothing": _multiplicative,
}
"""Simple forecasts `[N, H]` of series `[N, T]`, by their names in a blend."""


def observed_mean(values: Tensor, dim: int = 1) -> Tensor:
    """Return the mean of the observed values along a dimension; NaN without any."""
    seen = ~values.isnan()
    return torch.where(seen, values, 0.0).sum(dim) / seen.sum(dim)


def _scan(step: Callable[[Tensors, Tensors], Tensors], kept: Tensors, rows: Tensors) -> Tensors:
    """Apply a function to what is kept and every row `[T, ...]` in turn; a graph holds it once.

    With an older torch, a graph holds it T times.
    """
    if not torch.compiler.is_compiling() or not _SCANS:
        for row in zip(*rows, strict=True):
            kept = step(kept, row)
        return kept
    from torch._higher_order_ops.scan import scan

    def one(kept: Tensors, now: Tensors) -> tuple[Tensors, Tensor]:
        return step(kept, now), torch.zeros_like(now[0])

    start = tuple(x.clone(memory_format=torch.contiguous_format) for x in kept)
    result: Any = scan(one, start, rows)
    return tuple(result[0])


def _by_season(past: Tensor, season: int) -> Tensor:
    """Return series in whole seasons `[N, n, S]`, of which the last one ends with their last row."""
    return F.pad(past, (-past.shape[1] % season, 0), value=torch.nan).unflatten(1, (-1, season))


def _repeated(season: Tensor, horizon: int) -> Tensor:
    """Return the steps after the last row, `[N, H]`, of seasons `[N, S]`."""
    return season[:, torch.arange(horizon, device=season.device) % season.shape[1]]


def _first(seen: Tensor) -> Tensor:
    """Return the first observed column `[N, 1]`; the last one if there is none."""
    n_rows = seen.shape[1]
    place = torch.arange(n_rows, device=seen.device)
    return torch.where(seen, place, n_rows).amin(1, keepdim=True).clamp_max(n_rows - 1)


def _filled(past: Tensor) -> tuple[Tensor, Tensor]:
    """Fill missing values by the last one before, and by the first one after the beginning."""
    known = ~past.isnan()
    n_rows = past.shape[1]
    place = largest_so_far(torch.where(known, torch.arange(n_rows, device=past.device), -1))
    return past.gather(1, torch.where(place < 0, _first(known), place)), place >= 0


def _season(y: Tensor, seen: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the terms and the factors of the season, `[N, S]`, for the steps after the last column."""
    n_rows = y.shape[1]
    zeros = y[:, :1].expand(-1, length) * 0
    none = zeros, zeros + 1
    if length == 1 or n_rows < 2 * length + 1:
        return none
    rows = seen.sum(1)
    mean = torch.where(seen, y, 0.0).sum(1, keepdim=True) / rows[:, None]
    centred = torch.where(seen, y - mean, 0.0)
    column = torch.arange(n_rows, device=y.device)[:, None]
    lag = torch.arange(1, length + 1, device=y.device)
    later = F.pad(centred, (0, length))[:, column + lag].mT  # [N, S, T]
    r = (later * centred[:, None]).sum(2) / centred.square().sum(1, keepdim=True)
    limit = SIGNIFICANT * ((1 + 2 * r[:, :-1].square().sum(1)) / rows).sqrt()
    seasonal = (r[:, -1].abs() > limit) & (rows >= 2 * length + 1)
    weights = [1 / length] * length
    if length % 2 == 0:
        weights = [0.5 / length, *weights[1:], 0.5 / length]
    half = len(weights) // 2
    padded = torch.cat([y[:, :1].expand(-1, half), y, y[:, -1:].expand(-1, half)], 1)
    around = padded[:, column + torch.arange(len(weights), device=y.device)]  # [N, T, S or S + 1]
    trend = around @ y.new_tensor(weights)
    inside = F.pad(seen[:, : n_rows - 2 * half], (half, half))
    lowest = (torch.where(x, v, torch.inf).amin(1) for x, v in ((seen, y), (inside, trend)))
    factors = (next(lowest) > 0) & (next(lowest) > 0)
    terms = observed_mean(_by_season(torch.where(inside, y - trend, torch.nan), length))
    terms = terms - terms.mean(1, keepdim=True)
    ratio = observed_mean(_by_season(torch.where(inside, y / trend, torch.nan), length))
    ratio = ratio / ratio.mean(1, keepdim=True)
    multiplied = (seasonal & factors & (ratio.amin(1) > SMALLEST))[:, None]
    added = (seasonal & ~factors)[:, None]
    return torch.where(added, terms, none[0]), torch.where(multiplied, ratio, none[1])


def _slope(x: Tensor, seen: Tensor) -> Tensor:
    """Return the slope of the least-squares line through the columns that `seen` tells, `[N, 1]`."""
    time = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
    middle = torch.where(seen, time, 0.0).sum(1, keepdim=True) / seen.sum(1, keepdim=True)
    centred = torch.where(seen, time - middle, 0.0)
    spread = centred.square().sum(1, keepdim=True)
    return (centred * x).sum(1, keepdim=True) / torch.where(spread > 0, spread, 1.0)


def _start(y: Tensor, season: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the first observed column, the level and slope there `[N]`, and the pattern `[N, S]`."""
    first = _first(~y.isnan())[:, 0]
    length, columns = max(season, 2), y.shape[1]
    at = first[:, None] + torch.arange(SEASONS_AT_START * length, device=y.device)
    head = y.gather(1, at.clamp_max(columns - 1))
    seasons = torch.where(at < columns, head, torch.nan).unflatten(1, (-1, length))
    means = observed_mean(seasons, 2)
    slope = ((means[:, 1] - means[:, 0]) / length).nan_to_num()
    if season == 1:
        return first, means[:, 0], slope, y[:, :1] * 0
    whole = ~seasons.isnan().any(2, keepdim=True)
    pattern = observed_mean(torch.where(whole, seasons - means[..., None], torch.nan))
    place = (torch.arange(season, device=y.device) - first[:, None]) % season
    return first, means[:, 0], slope, pattern.nan_to_num().gather(1, place)


def _weights(squares: Tensor, seen: Tensor, season: int, grid: Any) -> Tensor:
    """Return the weights `[N, G]` of the settings, from their sums of squared errors."""
    n_parameters = 2.0 + 3 * (grid.trend > 0).to(squares.dtype) + (season if season > 1 else 0)
    n = torch.maximum(seen, n_parameters + 2.5)
    loss = (squares / seen.clamp_min(1) + 1e-12).log()
    correction = n_parameters * (n_parameters + 1) / (n - n_parameters - 1).clamp_min(1)
    criterion = n * loss + 2 * (n_parameters + correction)
    criterion = torch.where(criterion.isfinite(), criterion, torch.inf)
    weight = (-0.5 * (criterion - criterion.amin(1, keepdim=True))).exp()
    return weight / weight.sum(1, keepdim=True)
