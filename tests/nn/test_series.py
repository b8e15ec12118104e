"""The forecasting model's options: how a window is scaled, what a token is, the learned season."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from titans_ts.config import BackboneConfig, ForecasterConfig
from titans_ts.nn import SCALERS, TOKENS, ForecastingModel, VariateAttention, VariateTokenizer
from titans_ts.nn.series.scalers import instance_scale

SMALL = ForecasterConfig(
    context_length=12,
    prediction_length=3,
    n_variates=3,
    patch_length=4,
    patch_stride=4,
    backbone=BackboneConfig(d_model=16, n_layers=1, n_heads=2),
)


def model_of(**options):
    torch.manual_seed(0)
    return ForecastingModel(dataclasses.replace(SMALL, **options)).eval()


@pytest.mark.parametrize("scaler", SCALERS)
def test_a_scaler_measures_what_is_observed_and_is_undone(scaler):
    torch.manual_seed(0)
    x = 5 + 3 * torch.randn(4, 50, 3)
    observed = torch.rand(4, 50, 3) > 0.3
    observed[0, :, 1] = False
    scale = instance_scale(x.masked_fill(~observed, 1e6), observed, scaler)
    torch.testing.assert_close(scale.restore(scale.normalise(x)), x, rtol=1e-3, atol=1e-3)
    quantiles = torch.stack([x, x + 1], -1)
    normal = torch.stack([scale.normalise(x), scale.normalise(x + 1)], -1)
    torch.testing.assert_close(scale.restore(normal), quantiles, rtol=1e-3, atol=1e-3)
    # nothing observed, and a single value many times: a spread that can be divided by
    assert (scale.loc[0, 0, 1], scale.scale[0, 0, 1]) == (0, 1)
    still = instance_scale(
        torch.full((1, 9, 1), 7.0), torch.ones(1, 9, 1, dtype=torch.bool), scaler
    )
    assert still.scale.item() > 1e-3
    assert still.normalise(torch.tensor([[[7.0]]])).abs().item() < 7.1


def test_what_the_scalers_measure():
    x = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 1000])[None, :, None]
    seen = torch.ones_like(x, dtype=torch.bool)
    robust = instance_scale(x, seen, "robust")
    assert robust.loc.item() == 5
    assert robust.scale.item() == pytest.approx((7 - 3) / 1.349)
    mean = instance_scale(x, seen, "mean")
    assert (mean.loc.item(), mean.scale.item()) == (0, pytest.approx(x.mean().item()))
    standard = instance_scale(x, seen)
    assert standard.loc.item() == pytest.approx(x.mean().item())
    assert standard.scale.item() == pytest.approx(x.std(correction=0).item(), rel=1e-4)
    drawn_in = instance_scale(x, seen, "asinh").normalise(x)
    torch.testing.assert_close(drawn_in, standard.normalise(x).asinh())


@pytest.mark.parametrize("tokens", TOKENS)
def test_what_each_kind_of_token_lets_a_variate_see(tokens):
    model = model_of(tokens=tokens)
    if model.mixer is not None:
        torch.nn.init.normal_(model.mixer.out_proj.weight)
    past = torch.randn(2, 12, 3)
    point, quantiles = model(past)
    assert point.shape == (2, 3, 3)
    assert quantiles.shape == (2, 3, 3, 3)
    for changed in range(3):
        other = past.clone()
        other[:, :, changed] = torch.randn(2, 12)
        moved = (model(other)[0] - point).abs().amax((0, 1)) > 1e-6
        expected = torch.arange(3) == changed if tokens == "patch" else torch.ones(3).bool()
        assert moved.tolist() == expected.tolist()
    # a variate that is missing altogether tells the others nothing, whatever stands there
    past[:, :, 0] = torch.nan
    assert model(past)[0].isfinite().all()


def test_variates_attend_to_one_another_at_the_same_patch_only():
    torch.manual_seed(0)
    layer = VariateAttention(8, 2)
    x, present = torch.randn(2, 3, 5, 8), torch.ones(2, 3, 5, dtype=torch.bool)
    torch.testing.assert_close(layer(x, present), x)  # as it begins
    torch.nn.init.normal_(layer.out_proj.weight)
    y = layer(x, present)
    other = x.clone()
    other[:, 1, 2] += 1
    places = (layer(other, present) - y).abs().amax((0, 3)) > 1e-6  # [C, P]
    assert places[:, 2].all()
    assert places.sum() == 3
    present[:, 1, 2] = False
    hidden = (layer(other, present) - layer(x, present)).abs().amax((0, 3)) > 1e-6
    assert hidden.nonzero().tolist() == [[1, 2]]  # itself alone
    # the order of the variates does not matter
    order = [2, 0, 1]
    torch.testing.assert_close(layer(x[:, order], present[:, order]), layer(x, present)[:, order])


def test_variate_tokens_spread_the_surprise_of_their_first_reading():
    tokenizer = VariateTokenizer(4, 2, 8, n_covariates=1)
    values = torch.arange(5.0)[None].double().numpy()  # covariate, two variates, twice
    spread = tokenizer.spread(values)
    assert spread.shape == (1, 4, 2)
    assert spread[0].tolist() == [[1, 2]] * 4


def with_season(season, **config):
    """A model with a season of four steps, and one without."""
    model, plain = model_of(n_known=1, season_length=4, **config), model_of()
    with torch.no_grad():
        model.cycle.copy_(season)
    return model, plain


@pytest.mark.parametrize(
    ("factor", "season_size", "size"), [(1, "window", 1), (0.2, "window", 0.6), (0.2, "fitted", 1)]
)
def test_a_learned_season_is_taken_out_and_put_back(factor, season_size, size):
    season = torch.randn(4, 3)
    season -= season.mean(0)
    model, plain = with_season(season, season_size=season_size)
    phase = torch.arange(15) % 4
    rest = torch.randn(2, 3, 4, 3)
    rest = (rest - rest.mean(1, keepdim=True)).flatten(1, 2)  # nothing repeats every four steps
    past = rest + factor * season[phase[:12]]
    past = torch.cat([past, phase[:12].expand(2, 12)[..., None]], -1)
    known = phase[12:].expand(2, 3)[..., None].float()
    found = model.read(past).season_size
    torch.testing.assert_close(
        torch.as_tensor(found).expand(2, 1, 3),
        torch.full((2, 1, 3), float(size)),
        rtol=0,
        atol=2e-3,
    )
    point, quantiles = model(past, known)
    expected = plain(past[..., :3] - found * season[phase[:12]])
    ahead = found * season[phase[12:]].expand(2, 3, 3)
    torch.testing.assert_close(point, expected[0] + ahead, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quantiles, expected[1] + ahead[..., None], rtol=1e-4, atol=1e-4)


def test_a_window_decides_half_of_the_size_of_its_season():
    season = torch.tensor([-1.0, 0, 1, 0])[:, None] * torch.tensor([1.0, 0.3, 2])
    model, _ = with_season(season)
    phase = torch.arange(12) % 4
    factors = torch.tensor([[0.2, 1, 2], [-3, 1, 30], [0.2, 1, 2]])
    past = 5 + factors[:, None] * season[phase]
    past = torch.cat([past, phase.expand(3, 12)[..., None]], -1)
    past[2, 4:, 0] = torch.nan  # one season of three: as much as all, each step weighs the same
    past[2, :, 1] = torch.nan  # never observed
    past[2, 1:, 2] = torch.nan  # no season can be seen
    expected = torch.tensor([[0.6, 1, 1.5], [0, 1, 3], [0.6, 1, 1]])
    size = model.read(past).season_size
    torch.testing.assert_close(size[:, 0], expected, rtol=2e-3, atol=2e-3)
    fitted, _ = with_season(season, season_size="fitted")
    assert fitted.read(past).season_size == 1
    with pytest.raises(ValueError, match="season_size is 'none'; choose"):
        with_season(season, season_size="none")


def test_a_season_of_zeros_can_be_learned():
    model, _ = with_season(torch.zeros(4, 3))
    phase = torch.arange(15) % 4
    past = torch.cat([torch.randn(2, 12, 3), phase[:12].expand(2, 12)[..., None]], -1)
    point, _ = model(past, phase[12:].expand(2, 3)[..., None].float())
    point.sum().backward()
    assert model.cycle.grad.isfinite().all()
    assert model.cycle.grad.abs().sum() > 0
