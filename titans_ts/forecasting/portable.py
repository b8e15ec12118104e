"""A fitted forecaster as one module: raw windows in, mean and quantiles in the units of the data out.

Tensor contract: past `[B, R, F]`, known `[B, H, K]`, mean `[B, H, C]` and quantiles `[B, H, C, Q]` are
float64, NaN is missing. Every window is read by itself, from an empty state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from titans_ts.exporting import Portable
from titans_ts.forecasting.panel import Panel
from titans_ts.forecasting.portable_blend import PortableBlend
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.scaling import FURTHEST, STILL
from titans_ts.nn.portable import portable_copy
from titans_ts.nn.series.outputs import Normal, Quantiles

__all__ = ["portable_forecaster"]

_ROWS = 512
"""Number of rows that an exported forecaster without a fit reads."""


def portable_forecaster(predictor: PanelPredictor, panel: Panel) -> Portable:
    """Return a fitted forecaster as a module that a graph can hold.

    Parameters
    ----------
    predictor : PanelPredictor
        The network, the scaling and the blend.
    panel : Panel
        A panel in the form of the fitted one, for the names of its columns.

    Raises
    ------
    ValueError
        If a part of the forecast cannot be in a graph; the message names it and what to do.
    """
    config, roles = predictor.config, predictor.roles
    if roles.timed is not None:
        raise ValueError(
            f"{roles.timed} is {getattr(roles, roles.timed)!r}, which is computed from times, and an "
            "exported model gets none; fit without it, or give its values as known_covariates"
        )
    if not isinstance(predictor.network.output, (Quantiles, Normal)):
        raise ValueError(
            f"output is {config.output!r}, whose quantiles cannot be exported; fit with "
            "output='quantiles' or 'normal'"
        )
    module = _PortableForecaster(predictor).eval()
    encoder = predictor.encoder
    n_rows, F = module.n_rows, config.n_variates + config.n_past + config.n_known
    inputs = {"past": torch.randn(2, n_rows, F, dtype=torch.float64)}
    described: dict[str, Any] = {
        "estimator": "TitansForecaster",
        "rows": n_rows,
        "prediction_length": config.prediction_length,
        "quantile_levels": list(config.quantile_levels),
        "targets": _names(panel.columns, range(config.n_variates)),
        "past_covariates": _names(roles.past_covariates, ()),
        "known_covariates": _names(roles.known_covariates, ()),
        "frequency": None
        if panel.freq is None
        else getattr(panel.freq, "freqstr", str(panel.freq)),
    }
    if config.n_known:
        steps = config.prediction_length
        inputs["known"] = torch.randn(2, steps, config.n_known, dtype=torch.float64)
    if predictor.scales.items is not None:
        inputs["item"] = torch.zeros(2, dtype=torch.int64)
        described["items"] = _names(predictor.scales.items, ())
    if encoder is not None:
        sizes, n_numbers = encoder.sizes
        if sizes:
            inputs["categories"] = torch.zeros(2, len(sizes), dtype=torch.int64)
        if n_numbers:
            inputs["numbers"] = torch.zeros(2, n_numbers, dtype=torch.float64)
        described["static_covariates"] = [
            {"name": str(c["name"])}
            | ({"categories": c["categories"]} if "categories" in c else {})
            for c in encoder.columns
        ]
    return Portable(module, inputs, ("mean", "quantiles"), described)


def _names(names: Any, others: Any) -> list[Any]:
    """Return names as json can hold them."""
    chosen = others if names is None else names
    return [n if isinstance(n, (str, int)) else str(n) for n in list(chosen)]


class _PortableForecaster(nn.Module):
    """The scaling of windows, the network, and the blend."""

    fitted_mean: Tensor
    fitted_spread: Tensor
    fitted_covariate_mean: Tensor
    fitted_covariate_spread: Tensor
    number_mean: Tensor
    number_scale: Tensor

    def __init__(self, predictor: PanelPredictor) -> None:
        super().__init__()
        scales, encoder, blend = predictor.scales, predictor.encoder, predictor.blend
        self.config = config = predictor.config
        # without a fit, the pretrained model reads thousands of rows; a graph of them would be huge
        rows = predictor.blend_rows if blend is None or blend.fitted else _ROWS
        self.n_rows = max(config.context_length, rows)
        self.network = portable_copy(predictor.network)
        self.identity, self.level = scales.identity, scales.level
        for name in ("mean", "spread", "covariate_mean", "covariate_spread"):
            # an output is called "mean", and ONNX has one space of names
            self.register_buffer(f"fitted_{name}", _double(getattr(scales, name)))
        self.complete = not np.isnan(scales.mean).any()
        """Whether the fit saw every variate."""
        numbers = [] if encoder is None else [c for c in encoder.columns if "mean" in c]
        self.register_buffer("number_mean", _double([c["mean"] for c in numbers]))
        self.register_buffer("number_scale", _double([c["scale"] for c in numbers]))
        self.blend = None
        if blend is not None and predictor.blend_rows:
            self.blend = PortableBlend(blend, config)
        self.deviations: Tensor | None = None
        if isinstance(predictor.network.output, Normal):
            levels = torch.tensor(config.quantile_levels, dtype=torch.float64)
            self.deviations = torch.special.ndtri(levels).float()

    def forward(
        self,
        past: Tensor,
        known: Tensor | None = None,
        item: Tensor | None = None,
        categories: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the mean and the quantiles after the rows `past`."""
        C, L = self.config.n_variates, self.config.context_length
        mean, spread = (x[:, None] for x in self._scales(past[..., :C], item))  # [B, 1, C]
        window = past[:, past.shape[1] - L :]
        scaled = torch.cat(
            [(window[..., :C] - mean) / spread, self._covariates(window[..., C:])], -1
        )
        far = scaled.nan_to_num(0).abs().amax((1, 2), keepdim=True) > FURTHEST  # [B, 1, 1]
        ahead = None if known is None else self._covariates(known)
        if ahead is not None:
            far = far | (ahead.nan_to_num(0).abs().amax((1, 2), keepdim=True) > FURTHEST)
        scaled = torch.where(far, 0.0, scaled)
        static = self._static(categories, numbers)
        reading = self.network.read(scaled.float(), static)
        parameters = self.network.parameters_after(
            reading, None if ahead is None else torch.where(far, 0.0, ahead).float()
        )
        point = parameters[..., 0].double() * spread + mean
        if self.deviations is None:
            levels = self.network.output.quantiles(parameters)
        else:
            levels = parameters[..., :1] + parameters[..., 1:2] * self.deviations
        quantiles = levels.double() * spread[..., None] + mean[..., None]
        if self.blend is not None:
            point, quantiles = self.blend(past[..., :C], point, quantiles)
        return point.masked_fill(far, torch.nan), quantiles.masked_fill(far[..., None], torch.nan)

    def _scales(self, targets: Tensor, item: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return level and spread `[B, C]`: those of the fit, or of the rows where it saw none."""
        n = targets.shape[0]
        if self.identity:
            return torch.zeros_like(targets[:, 0]), torch.ones_like(targets[:, 0])
        if item is None:
            mean, spread = self.fitted_mean.expand(n, -1), self.fitted_spread.expand(n, -1)
        else:
            place = item.clamp(0, self.fitted_mean.shape[0] - 1)
            mean, spread = self.fitted_mean[place], self.fitted_spread[place]
            other = ((item < 0) | (item >= self.fitted_mean.shape[0]))[:, None]
            mean = mean.masked_fill(other, torch.nan)
        if item is None and self.complete:
            return mean, spread
        level, own = _measured(targets)
        if not self.level:
            level = torch.where(level.isnan(), level, 0.0)
        new = mean.isnan()
        return torch.where(new, level, mean), torch.where(new, own, spread)

    def _covariates(self, values: Tensor) -> Tensor:
        """Scale covariates `[..., n]`, the last n of them."""
        first = self.fitted_covariate_mean.shape[0] - values.shape[-1]
        return (values - self.fitted_covariate_mean[first:]) / self.fitted_covariate_spread[first:]

    def _static(self, categories: Tensor | None, numbers: Tensor | None) -> Any:
        given = categories if categories is not None else numbers
        if given is None:
            return None
        empty = given[:, :0]
        codes = empty.long() if categories is None else categories
        if numbers is None:
            return codes, empty.float()
        return codes, ((numbers - self.number_mean) / self.number_scale).nan_to_num(0).float()


def _measured(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return level and spread `[B, C]` of rows `[B, R, C]`, as a fit measures them."""
    seen = ~targets.isnan()
    count = seen.sum(1)
    total = count.clamp_min(1)
    place = torch.arange(targets.shape[1], device=targets.device)[:, None]
    first = torch.where(seen, place, targets.shape[1]).amin(1).clamp_max(targets.shape[1] - 1)
    start = targets.gather(
        1, first[:, None]
    )  # a column that does not move has a spread of exactly 0
    moved = torch.where(seen, targets - start, 0.0)
    furthest = moved.abs().amax(1, keepdim=True)
    unit = torch.where(furthest > 0, furthest, 1.0)
    shift = moved.sum(1) / total
    rest = torch.where(seen, (moved - shift[:, None]) / unit, 0.0)
    level = torch.where(count > 0, start[:, 0] + shift, torch.nan)
    spread = unit[:, 0] * (rest.square().sum(1) / total).sqrt()
    size = STILL * level.nan_to_num(0).abs()
    still = torch.where(size > 0, size, 1.0)
    return level, torch.where(spread > 1e-12 * level.abs(), spread, still)


def _double(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values).tolist(), dtype=torch.float64).view(np.shape(values))
