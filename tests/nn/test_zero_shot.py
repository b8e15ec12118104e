"""The model that forecasts series that it was never fitted to."""

import pytest
import torch

from titans_ts.config import BackboneConfig
from titans_ts.nn.series.zero_shot import ZeroShotConfig, ZeroShotModel, read_patches

CONFIG = ZeroShotConfig(
    patch_length=4,
    output_length=8,
    hidden=24,
    quantile_levels=(0.1, 0.5, 0.9),
    backbone=BackboneConfig("lmm", d_model=16, n_layers=1, n_heads=2, dropout=0.0),
)
SEASONS = torch.tensor([[1, 1], [5, 1], [4, 28], [7, 14]])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ZeroShotModel(CONFIG)
    for weight in model.head.parameters():  # the model starts as the seasonal naive forecast
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def series(length=60, missing=False):
    x = torch.randn(4, length, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x.cumsum(1)
    if missing:
        x[0, 10:13] = x[1, 20:44] = x[2, :9] = torch.nan
    return x


def close(one, two, tolerance=1e-5):
    torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("missing", [False, True])
def test_a_token_depends_on_the_steps_up_to_its_end_only(model, missing):
    x = series(missing=missing)
    whole, part = read_patches(x, SEASONS, CONFIG), read_patches(x[:, :40], SEASONS, CONFIG)
    for a, b in zip(whole, part, strict=True):
        close(a[:, :10], b)
    close(model(whole)[:, :10], model(part))


def test_an_untrained_model_repeats_the_season():
    fresh = ZeroShotModel(CONFIG).eval()
    x = series()
    forecast = fresh.quantiles(x, SEASONS, 8)
    for row, (season, _) in enumerate(SEASONS.tolist()):
        expected = x[row, -season:].repeat(8)[:8]
        close(forecast[row], expected[:, None].expand(-1, 3))


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 7.0, 1e30])
def test_a_series_in_another_unit_has_the_same_forecast_in_it(model, factor):
    x = series(missing=True)
    close(model.quantiles(factor * x, SEASONS, 20) / factor, model.quantiles(x, SEASONS, 20), 1e-4)


def test_missing_values_before_a_series_change_nothing(model):
    x = series()
    gaps = torch.full((4, 17), torch.nan, dtype=torch.float64)
    close(model.quantiles(torch.cat([gaps, x], 1), SEASONS, 20), model.quantiles(x, SEASONS, 20))


def test_a_longer_horizon_begins_with_the_shorter_one(model):
    x = series(missing=True)
    short, long = (model.quantiles(x, SEASONS, steps) for steps in (5, 39))
    assert long.shape == (4, 39, 3)
    assert long.isfinite().all()
    close(long[:, :5], short)


def test_quantiles_do_not_cross_and_a_series_without_values_has_none(model):
    x = series()
    x[1] = torch.nan
    forecast = model.quantiles(x, SEASONS, 30)
    assert forecast[1].isnan().all()
    rest = forecast[[0, 2, 3]]
    assert (rest.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("value", [0.0, 5.0, -1e12])
def test_constant_and_single_values_have_finite_forecasts(model, value):
    x = torch.full((4, 30), value, dtype=torch.float64)
    assert model.quantiles(x, SEASONS, 10).isfinite().all()
    assert model.quantiles(x[:, :1], SEASONS, 10).isfinite().all()


def test_memory_changes_forecasts(model):
    x = series()
    recent = model.quantiles(x[:, -32:], SEASONS, 8)
    assert not torch.allclose(recent, model.quantiles(x, SEASONS, 8))
