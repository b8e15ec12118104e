"""Kinds of forecast: quantiles, or the parameters of a distribution.

Tensor contract: a head returns a location and E further numbers for every value, in the scale of the
window. An output turns them into parameters `[..., 1 + E]` in the scale of the series.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from titans_ts.nn.series.scalers import InstanceScale

__all__ = [
    "OUTPUTS",
    "NegativeBinomial",
    "Normal",
    "Output",
    "Quantiles",
    "StudentT",
    "pinball_loss",
]


class Output(ABC):
    """A kind of forecast.

    Parameters
    ----------
    levels : tuple of float
        Levels of the quantiles to forecast, in increasing order.
    """

    counts = False
    """Whether values are counts, which are not scaled."""

    def __init__(self, levels: tuple[float, ...]) -> None:
        self.levels = levels

    @property
    @abstractmethod
    def n_extra(self) -> int:
        """E, the number of further numbers for every value."""

    @abstractmethod
    def parameters(self, location: Tensor, extra: Tensor, scale: InstanceScale) -> Tensor:
        """Return parameters `[B, H, C, 1 + E]` from `location` `[B, H, C]` and `extra` `[B, H, C, E]`."""

    @abstractmethod
    def loss(self, parameters: Tensor, target: Tensor) -> Tensor:
        """Return the training loss of every value of the target `[B, H, C]`."""

    @abstractmethod
    def inverse(self, parameters: Tensor, level: Tensor) -> Tensor:
        """Return the quantiles at the levels `level` `[B, H, C, S]`, in the same shape."""

    def quantiles(self, parameters: Tensor) -> Tensor:
        """Return the quantiles `[B, H, C, Q]` at :attr:`levels`."""
        level = torch.as_tensor(self.levels, dtype=parameters.dtype, device=parameters.device)
        return self.inverse(parameters, level.expand(*parameters.shape[:-1], -1))

    def mean(self, parameters: Tensor) -> Tensor:
        """Return the mean `[B, H, C]`."""
        return parameters[..., 0]


class Quantiles(Output):
    """The mean (trained with squared error) and quantiles (pinball loss), which never cross."""

    @property
    def n_extra(self) -> int:
        """Q, the number of quantiles."""
        return len(self.levels)

    def parameters(self, location: Tensor, extra: Tensor, scale: InstanceScale) -> Tensor:
        """Return the mean, and the sorted quantiles."""
        point, quantiles = scale.restore(location), scale.restore(extra.sort(-1).values)
        return torch.cat([point[..., None], quantiles], -1)

    def loss(self, parameters: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of the mean plus the pinball loss averaged over the levels."""
        loss = (parameters[..., 0] - target).square()
        if not self.levels:
            return loss
        levels = torch.as_tensor(self.levels, device=target.device)
        return loss + pinball_loss(parameters[..., 1:], target, levels).mean(-1)

    def quantiles(self, parameters: Tensor) -> Tensor:
        """Return the quantiles among the parameters."""
        return parameters[..., 1:]

    def inverse(self, parameters: Tensor, level: Tensor) -> Tensor:
        """Interpolate the quantiles linearly over normal quantiles; the outer lines are extended."""
        if len(self.levels) < 2:
            raise ValueError(
                "a distribution needs two quantiles; fit with two or more quantile_levels"
            )
        known = torch.as_tensor(self.levels, dtype=parameters.dtype, device=parameters.device)
        right = torch.searchsorted(known, level.contiguous()).clamp(1, len(known) - 1)
        at = torch.special.ndtri(known)
        low, high = at[right - 1], at[right]
        share = (torch.special.ndtri(level) - low) / (high - low)
        values = parameters[..., 1:]
        left = values.gather(-1, right - 1)
        return left + share * (values.gather(-1, right) - left)


class Normal(Output):
    """Mean and standard deviation of a normal distribution."""

    n_extra = 1

    def parameters(self, location: Tensor, extra: Tensor, scale: InstanceScale) -> Tensor:
        """Return the mean and the standard deviation."""
        return torch.stack([scale.restore(location), _positive(extra[..., 0]) * scale.scale], -1)

    def loss(self, parameters: Tensor, target: Tensor) -> Tensor:
        """Return the negative log-likelihood."""
        loc, deviation = parameters.unbind(-1)
        return -torch.distributions.Normal(loc, deviation, validate_args=False).log_prob(target)

    def inverse(self, parameters: Tensor, level: Tensor) -> Tensor:
        """Apply the inverse of the distribution function."""
        loc, deviation = parameters[..., None, :].unbind(-1)
        return loc + deviation * torch.special.ndtri(level)


class StudentT(Output):
    """Location, scale and degrees of freedom (above 2) of Student's t, for heavy tails."""

    n_extra = 2

    def parameters(self, location: Tensor, extra: Tensor, scale: InstanceScale) -> Tensor:
        """Return the location, the scale and the degrees of freedom."""
        width = _positive(extra[..., 0]) * scale.scale
        return torch.stack([scale.restore(location), width, 2 + _positive(extra[..., 1])], -1)

    def loss(self, parameters: Tensor, target: Tensor) -> Tensor:
        """Return the negative log-likelihood."""
        loc, width, df = parameters.unbind(-1)
        return -torch.distributions.StudentT(df, loc, width, validate_args=False).log_prob(target)

    def inverse(self, parameters: Tensor, level: Tensor) -> Tensor:
        """Apply the inverse of the distribution function."""
        from scipy.stats import t

        loc, width, df = parameters[..., None, :].unbind(-1)
        return loc + width * _as_tensor(t.ppf(_numpy(level), _numpy(df)), loc)


class NegativeBinomial(Output):
    """Mean and dispersion of a negative binomial distribution, for counts.

    The variance is mean + dispersion mean^2.
    """

    n_extra = 1
    counts = True

    def parameters(self, location: Tensor, extra: Tensor, scale: InstanceScale) -> Tensor:
        """Return the mean and the dispersion."""
        return torch.stack([_positive(scale.restore(location)), _positive(extra[..., 0])], -1)

    def loss(self, parameters: Tensor, target: Tensor) -> Tensor:
        """Return the negative log-likelihood."""
        mean, dispersion = parameters.unbind(-1)
        distribution = torch.distributions.NegativeBinomial(
            1 / dispersion, logits=(mean * dispersion).log(), validate_args=False
        )
        return -distribution.log_prob(target)

    def inverse(self, parameters: Tensor, level: Tensor) -> Tensor:
        """Apply the inverse of the distribution function; the results are integers."""
        from scipy.stats import nbinom

        mean, dispersion = (_numpy(p[..., None]) for p in parameters.unbind(-1))
        values = nbinom.ppf(_numpy(level), 1 / dispersion, 1 / (1 + mean * dispersion))
        return _as_tensor(values, parameters)


OUTPUTS: dict[str, type[Output]] = {
    "quantiles": Quantiles,
    "normal": Normal,
    "student_t": StudentT,
    "negative_binomial": NegativeBinomial,
}
"""Kinds of forecast, by name."""


def pinball_loss(quantiles: Tensor, target: Tensor, levels: Tensor) -> Tensor:
    """Return twice the pinball loss of quantiles `[..., Q]` at `levels` `[Q]` (absolute error at 0.5)."""
    error = target[..., None] - quantiles
    return 2 * torch.maximum(levels * error, (levels - 1) * error)


def _positive(x: Tensor) -> Tensor:
    return F.softplus(x) + 1e-4


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()


def _as_tensor(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)
