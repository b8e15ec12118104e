"""What a head's numbers mean: likelihoods and quantiles are those of the distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from titans_ts.nn.series.outputs import OUTPUTS
from titans_ts.nn.series.scalers import InstanceScale

LEVELS = (0.01, 0.1, 0.5, 0.9, 0.99)


def numbers(name, seed=0):
    generator = torch.Generator().manual_seed(seed)
    output = OUTPUTS[name](LEVELS)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scale = InstanceScale(3 + random(4, 1, 2), random(4, 1, 2).exp())
    location = random(4, 5, 2).requires_grad_()
    extra = random(4, 5, 2, output.n_extra).requires_grad_()
    return output, output.parameters(location, extra, scale), (location, extra), scale


def distribution(name, parameters):
    p = [x.numpy() for x in parameters.detach().unbind(-1)]
    if name == "normal":
        return stats.norm(p[0], p[1]), "logpdf"
    if name == "student_t":
        return stats.t(p[2], p[0], p[1]), "logpdf"
    return stats.nbinom(1 / p[1], 1 / (1 + p[0] * p[1])), "logpmf"


@pytest.mark.parametrize("name", ["normal", "student_t", "negative_binomial"])
def test_likelihood_quantiles_and_mean_are_the_distributions(name):
    output, parameters, inputs, _ = numbers(name)
    theirs, log = distribution(name, parameters)
    target = torch.from_numpy(np.asarray(theirs.rvs(random_state=0), dtype=np.float64))
    loss = output.loss(parameters, target)
    np.testing.assert_allclose(loss.detach(), -getattr(theirs, log)(target), rtol=1e-6)
    expected = np.stack([theirs.ppf(level) for level in LEVELS], -1)
    np.testing.assert_allclose(output.quantiles(parameters).detach(), expected, rtol=1e-9)
    np.testing.assert_allclose(output.mean(parameters).detach(), theirs.mean(), rtol=1e-9)
    for gradient in torch.autograd.grad(loss.sum(), inputs):
        assert gradient.isfinite().all()
        assert (gradient != 0).all()


def test_quantiles_are_in_order_and_in_the_scale_of_the_series():
    output, parameters, (location, extra), scale = numbers("quantiles")
    assert (output.quantiles(parameters).diff(dim=-1) >= 0).all()
    np.testing.assert_allclose(output.mean(parameters).detach(), scale.restore(location).detach())
    expected = scale.restore(extra).sort(-1).values
    np.testing.assert_allclose(output.quantiles(parameters).detach(), expected.detach())


@pytest.mark.parametrize("name", ["normal", "student_t"])
def test_a_wider_window_has_a_wider_forecast(name):
    output, _, (location, extra), scale = numbers(name)
    wider = InstanceScale(scale.loc, 10 * scale.scale)
    near, far = (output.quantiles(output.parameters(location, extra, s)) for s in (scale, wider))
    np.testing.assert_allclose(
        (far[..., -1] - far[..., 0]).detach(), 10 * (near[..., -1] - near[..., 0]).detach()
    )


@pytest.mark.parametrize("name", OUTPUTS)
def test_inverse_gives_back_the_quantiles_and_rises(name):
    output, parameters, _, _ = numbers(name)
    levels = torch.tensor(LEVELS, dtype=torch.float64).expand(4, 5, 2, -1)
    found = output.inverse(parameters, levels).detach()
    np.testing.assert_allclose(found, output.quantiles(parameters).detach(), rtol=1e-9)
    fine = torch.linspace(0.001, 0.999, 99, dtype=torch.float64).expand(4, 5, 2, -1)
    values = output.inverse(parameters, fine).detach()
    assert (values.diff(dim=-1) >= 0).all()
    assert values.isfinite().all()


def test_quantiles_of_a_normal_distribution_interpolate_as_one():
    output = OUTPUTS["quantiles"]((0.1, 0.5, 0.9))
    at = torch.special.ndtri(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    parameters = torch.cat([torch.zeros(1, dtype=torch.float64), at]) * 2 + 3
    level = torch.tensor([0.01, 0.3, 0.77, 0.999], dtype=torch.float64)
    np.testing.assert_allclose(
        output.inverse(parameters, level), 2 * torch.special.ndtri(level) + 3
    )
