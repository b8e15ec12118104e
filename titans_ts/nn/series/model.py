"""The forecasting model: scaler, tokenizer, backbone and head."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from titans_ts.config import ForecasterConfig
from titans_ts.kernels.portable import recorded_format
from titans_ts.nn.attention import VariateAttention
from titans_ts.nn.backbone import TitansBackbone
from titans_ts.nn.series.heads import ForecastHead
from titans_ts.nn.series.outputs import OUTPUTS
from titans_ts.nn.series.scalers import SCALERS, InstanceScale, instance_scale
from titans_ts.nn.series.tokenizers import TOKENS, PatchTokenizer, VariateTokenizer

__all__ = ["ForecastingModel", "StaticEmbedding", "WindowReading"]

_LARGEST_SEASON = 3.0
"""How many times as large as learned a season may be in a window."""

_LEAST_VARIANCE = 1e-4
"""Variance that is added to that of a learned season."""


class WindowReading(NamedTuple):
    """The result of reading windows."""

    y: Tensor
    """The input of the head: `[B C, P, D]`, or `[B, P, D]` with "joint" tokens."""
    scale: InstanceScale
    state: tuple[Any, ...]
    surprise: Tensor
    """`[B', P, n_layers, heads]` for the tokens of B' streams; NaN where a token is absent."""
    season_size: Tensor | float = 1.0
    """How large the learned season is in the windows, `[B, 1, C]`; 1 is as large as it was learned."""


class ForecastingModel(nn.Module):
    """Forecast a window: normalise it, cut it into tokens, read them, and project to the steps ahead.

    By default, every variate is a separate stream of patches with shared weights, and B' is B C. With
    "joint" and "variate" tokens, every window is one stream, and B' is B.

    Parameters
    ----------
    config : ForecasterConfig
        Lengths, tokens and backbone.

    Raises
    ------
    ValueError
        If the output, the kind of tokens or the scaler is unknown.
    """

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        for name, choices in (("output", OUTPUTS), ("tokens", TOKENS), ("scaler", SCALERS)):
            value = getattr(config, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of {list(choices)}")
        self.output = OUTPUTS[config.output](config.quantile_levels)
        C, d_model = config.n_variates, config.backbone.d_model
        self.cycle = (
            nn.Parameter(torch.zeros(config.season_length, C)) if config.season_length else None
        )
        length, n_covariates = config.context_length, config.n_covariates
        self.together = C if config.tokens == "joint" else 1
        self.tokenizer: PatchTokenizer | VariateTokenizer
        if config.tokens == "variate":
            self.tokenizer, n_tokens = VariateTokenizer(length, C, d_model, n_covariates), 1
        else:
            patch = config.patch_length, config.patch_stride
            self.tokenizer = PatchTokenizer(length, *patch, self.together, d_model, n_covariates)
            n_tokens = self.tokenizer.n_patches
        has_static = config.static_categories or config.n_static
        self.static = (
            StaticEmbedding(config.static_categories, config.n_static, d_model)
            if has_static
            else None
        )
        self.dropout = nn.Dropout(config.backbone.dropout)
        self.backbone = TitansBackbone(config.backbone)
        self.mixer = (
            VariateAttention(d_model, config.backbone.n_heads) if config.tokens == "mixed" else None
        )
        self.head = ForecastHead(
            n_tokens * d_model,
            config.prediction_length,
            self.together,
            self.output.n_extra,
            config.head_dropout,
            n_covariates - config.n_past,
            d_model,
        )

    def forward(
        self,
        past: Tensor,
        known: Tensor | None = None,
        static: tuple[Tensor, Tensor] | None = None,
        state: tuple[Any, ...] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Forecast windows.

        Parameters
        ----------
        past : Tensor
            `[B, context_length, C + n_past + K]`: targets, past-only, known covariates; NaN is missing.
        known : Tensor, optional
            `[B, H, K]`, the known covariates of the steps ahead, if the model has any. If a season is
            learned, the last one is the step's position in it, 0 to `season_length - 1`.
        static : tuple[Tensor, Tensor], optional
            Static covariates, if the model has any: category codes `[B, n]` int64 and reals `[B, m]`.
        state : tuple, optional
            The streams' state before the windows, as :meth:`read` returns it; default: the initial
            state.

        Returns
        -------
        tuple[Tensor, Tensor]
            The mean `[B, H, C]` and the quantiles `[B, H, C, Q]`.
        """
        reading = self.read(past, static, state)
        return self.forecast(reading, known)

    def read(
        self,
        past: Tensor,
        static: tuple[Tensor, Tensor] | None = None,
        state: tuple[Any, ...] | None = None,
    ) -> WindowReading:
        """Read windows `[B, context_length, ...]` as :meth:`forward` does, without a forecast."""
        C, streams = self.config.n_variates, self.config.streams
        x, covariates = past[..., :C], past[..., C:]
        observed = ~x.isnan()
        size: Tensor | float = 1.0
        if self.cycle is not None:
            # the season must not affect the window's level and spread
            season, covariates = self._season(covariates), covariates[..., :-1]
            if self.config.season_size == "window":
                size = self._season_size(x, observed, season)
            x = x - size * season
        x = x.nan_to_num()  # 0 times NaN would give gradients of NaN
        scale = instance_scale(x, observed, self.config.scaler)
        x = scale.normalise(x).masked_fill(~observed, torch.nan)
        if streams > 1:
            x = x.mT.flatten(0, 1)[..., None]  # [B C, L, 1]
            covariates = covariates.repeat_interleave(C, 0)
        x = torch.cat([x, covariates], -1)
        tokens, present = self.tokenizer(x, ~x.isnan())
        if self.static is not None:
            assert static is not None
            tokens = tokens + self.static(*static).repeat_interleave(streams, 0)[:, None]
        mask = None if recorded_format() is None and present.all() else present
        y, state, surprise = self.backbone.run(self.dropout(tokens), state, mask)
        if isinstance(self.tokenizer, VariateTokenizer):
            y = y[:, -C:].flatten(0, 1)[:, None]
        elif self.mixer is not None:
            y = self.mixer(y.unflatten(0, (-1, C)), present.unflatten(0, (-1, C))).flatten(0, 1)
        return WindowReading(
            y, scale, state, surprise.masked_fill(~present[..., None, None], torch.nan), size
        )

    def forecast(
        self, reading: WindowReading, known: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the mean `[B, H, C]` and the quantiles `[B, H, C, Q]` after a reading."""
        parameters = self.parameters_after(reading, known)
        return self.output.mean(parameters), self.output.quantiles(parameters)

    def parameters_after(self, reading: WindowReading, known: Tensor | None = None) -> Tensor:
        """Return the parameters `[B, H, C, 1 + E]` of :attr:`output` after a reading."""
        C, scale = self.config.n_variates, reading.scale
        if self.cycle is not None:
            assert known is not None
            scale = scale._replace(loc=scale.loc + reading.season_size * self._season(known))
            known = known[..., :-1] if known.shape[-1] > 1 else None
        alone = self.together == 1
        if known is not None and alone:
            known = known.repeat_interleave(C, 0)
        point, extra = self.head(reading.y, known)
        if alone:
            point = point[..., 0].unflatten(0, (-1, C)).mT
            extra = extra[:, :, 0].unflatten(0, (-1, C)).transpose(1, 2)
        return self.output.parameters(point, extra, scale)

    def _season(self, covariates: Tensor) -> Tensor:
        """Return the learned season `[B, T, C]` at every step."""
        assert self.cycle is not None
        return self.cycle[covariates[..., -1].nan_to_num().long()]

    def _season_size(self, x: Tensor, observed: Tensor, season: Tensor) -> Tensor:
        """Return how large the season is in windows, `[B, 1, C]`, from values and season `[B, T, C]`.

        It is found by ridge regression towards 1: a window in which the season varies as much as it does
        on the whole decides half of it, one in which it does not vary nothing.
        """
        assert self.cycle is not None

        def around_mean(values: Tensor) -> Tensor:
            return torch.where(observed, values - instance_scale(values, observed).loc, 0)

        season = around_mean(season)
        count = observed.sum(1, keepdim=True).clamp_min(1)
        # the least variance is for a season of zeros, which learns from here
        prior = count * (self.cycle.var(0, correction=0) + _LEAST_VARIANCE)
        fit = ((around_mean(x) * season).sum(1, keepdim=True) + prior) / (
            season.square().sum(1, keepdim=True) + prior
        )
        return fit.clamp(0, _LARGEST_SEASON)


class StaticEmbedding(nn.Module):
    """One vector from the static covariates of an item.

    Parameters
    ----------
    categories : tuple of int
        Number of categories of every categorical covariate; code 0 is unknown and adds nothing.
    n_real, d_model : int
        Number of real covariates, and width of the vector.
    """

    def __init__(self, categories: tuple[int, ...], n_real: int, d_model: int) -> None:
        super().__init__()
        self.categories = nn.ModuleList(nn.Embedding(n, d_model, padding_idx=0) for n in categories)
        self.real = nn.Linear(n_real, d_model) if n_real else None

    def forward(self, codes: Tensor, real: Tensor) -> Tensor:
        """Return a vector `[B, D]` from codes `[B, n]` and real covariates `[B, m]`."""
        parts = [embed(codes[:, i]) for i, embed in enumerate(self.categories)]
        if self.real is not None:
            parts.append(self.real(real))
        return torch.stack(parts).sum(0)
