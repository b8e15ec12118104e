"""The simple forecasts in a graph are those of the blend, for awkward series."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from titans_ts.forecasting.blend import SIMPLE
from titans_ts.forecasting.portable_simple import SIMPLE as PORTABLE
from titans_ts.kernels.portable import asinh, largest_so_far, recording

H = 6


def awkward(n, season):
    """Series `[10, n]`: seasons added and multiplied, gaps, late beginnings, constants, counts."""
    rng, t = np.random.default_rng(0), np.arange(n)
    wave = np.sin(t * 2 * np.pi / season)
    y = rng.normal(size=(10, n)).cumsum(1)
    y[1] += 5 * wave
    y[2] = np.exp(y[2] / 5) * (2 + wave)
    y[3] = 7
    y[4, : n // 2] = np.nan
    y[5][rng.random(n) < 0.3] = np.nan
    y[5, -1] = 1
    y[6] = 100 + t
    y[7] = rng.poisson(1, n)
    y[8, 3:] = y[2, 3:] * 1e6
    y[8, :3] = np.nan
    y[9] = np.where(t == n // 2, 3.0, np.nan)
    return y


@pytest.mark.parametrize("n", [4, 24, 61])
@pytest.mark.parametrize("season", [1, 7, 12])
@pytest.mark.parametrize("name", SIMPLE)
def test_forecasts_are_the_same(name, season, n):
    y = awkward(n, season)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the blend silences them, too
        expected = SIMPLE[name](y.copy(), H, season)
    found = PORTABLE[name](torch.from_numpy(y), H, season).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_operations_that_onnx_lacks():
    x = torch.randn(3, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0, :2] = torch.tensor([0.0, -1e150])
    with recording("onnx"):
        torch.testing.assert_close(largest_so_far(x), x.cummax(1).values)
        torch.testing.assert_close(asinh(x), torch.asinh(x))
