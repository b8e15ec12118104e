"""Presets: how much a fit trains where the user sets nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch import Callback
from sklearn.base import clone

from tests.support import small_settings, stop_clock
from titans_ts import TitansForecaster
from titans_ts.config import PRESETS, TrainingConfig


def forecaster(**params):
    return TitansForecaster(4, **small_settings(n_layers=None, max_epochs=3, blend=False) | params)


def series(seed=0, n_rows=200):
    return np.random.default_rng(seed).normal(size=(n_rows, 1)).cumsum(0)


def n_layers(fitted):
    return fitted.model_.config.backbone.n_layers


def loss(fitted):
    return min(epoch["validation_loss"] for epoch in fitted.history_)


def n_steps(fitted):
    """Number of training steps of all networks, counted by a callback of the fit."""
    return fitted.training_options["trainer_kwargs"]["callbacks"][0].n_steps


class Steps(Callback):
    """Count the steps, and let each take a second of a clock that stands still."""

    def __init__(self, clock=None):
        self.n_steps, self.clock = [], clock

    def on_train_start(self, trainer, module):
        self.n_steps.append(0)

    def on_train_batch_end(self, *args):
        self.n_steps[-1] += 1
        if self.clock is not None:
            self.clock.now += 1


def counted(clock=None, **params):
    options = {"trainer_kwargs": {"callbacks": [Steps(clock)]}}
    return forecaster(training_options=options, **params)


@pytest.mark.parametrize("preset", ["fast", "default"])
def test_there_are_no_blocks_by_default(preset):
    usual, given = forecaster(preset=preset).fit(series()), forecaster(n_layers=0).fit(series())
    assert n_layers(usual) == 0
    np.testing.assert_array_equal(usual.predict(), given.predict())


@pytest.mark.parametrize("preset", ["fast", "default"])
@pytest.mark.parametrize(
    "params",
    [
        {"variant": "swa"},
        {"tokens": "variate"},
        {"stateful_windows": 1},
        {"model_options": {"memory": {"depth": 1}}},
        {"model_options": {"n_persistent": 0}},
        {"model_options": {"segment_length": 4}},
    ],
)
def test_a_parameter_of_blocks_asks_for_them(preset, params):
    assert {one.n_layers for one in forecaster(preset=preset, **params).candidates()} == {2}
    assert {one.n_layers for one in forecaster(n_layers=0, **params).candidates()} == {0}


def test_blocks_are_mac_unless_a_variant_is_given():
    usual, given = forecaster(n_layers=1), forecaster(n_layers=1, variant="mac")
    np.testing.assert_array_equal(usual.fit(series()).predict(), given.fit(series()).predict())
    assert usual.model_.config.backbone.variant == "mac"
    assert usual.get_params()["variant"] is None


def test_best_keeps_its_network_without_blocks_unless_a_state_is_carried():
    plain, carried = forecaster(preset="best", variant="lmm"), {"stateful_windows": 1}
    assert [one.n_layers for one in plain.candidates()] == [2, 0]
    assert {one.n_layers for one in forecaster(preset="best", **carried).candidates()} == {2}


@pytest.mark.parametrize("preset", ["fast", "default", "best"])
def test_what_the_user_sets_wins(preset):
    given = counted(preset=preset, n_layers=1, max_epochs=2).fit(series())
    assert n_layers(given) == 1
    assert len(n_steps(given)) == 1
    assert len(given.history_) == 2
    assert given.predict().shape == (4, 1)
    # without a block there is no state to carry
    streamed = forecaster(preset=preset, stateful_windows=1).fit(series())
    assert n_layers(streamed) == 2


@pytest.mark.parametrize(("seed", "expected"), [(1, 2), (5, 0)])
def test_best_keeps_the_network_with_the_smaller_validation_loss(seed, expected):
    X = series(seed)
    options = {"d_model": 8, "n_heads": 1, "random_state": seed}
    best = counted(preset="best", **options).fit(X)
    first = forecaster(n_layers=2, **options).fit(X)
    assert len(n_steps(best)) == 2
    assert n_layers(best) == expected
    if expected == 2:
        np.testing.assert_array_equal(best.predict(), first.predict())
    else:
        assert loss(best) < loss(first)
    assert ("memory_change" in best.history_[-1]) == (expected > 0)  # of the network that was kept


def test_best_trains_one_network_if_nothing_is_held_out():
    options = {"trainer_kwargs": {"callbacks": [Steps()]}, "validation_fraction": 0}
    fitted = forecaster(preset="best", training_options=options).fit(series())
    assert len(n_steps(fitted)) == 1
    assert n_layers(fitted) == 2


@pytest.mark.parametrize(
    ("preset", "expected"), [("fast", 320), pytest.param("default", 640, marks=pytest.mark.slow)]
)
def test_the_preset_sets_the_number_of_steps(preset, expected):
    options = {"trainer_kwargs": {"callbacks": [Steps()]}, "patience": 1000}
    fitted = forecaster(
        preset=preset, n_layers=0, max_epochs=None, batch_size=16, training_options=options
    ).fit(series(n_rows=300))
    (steps,) = n_steps(fitted)
    assert steps == pytest.approx(expected, rel=0.1)


def test_a_schedule_of_twice_the_steps_has_twice_the_epochs():
    once, twice = TrainingConfig(), TrainingConfig(total_steps=1280)
    for size in (1, 2, 16, 64, 500):
        assert twice.schedule(size)[0] == pytest.approx(2 * once.schedule(size)[0], abs=32 // size)
        assert twice.schedule(size)[2] == once.schedule(size)[2]


def test_networks_share_the_time_limit(monkeypatch):
    clock = stop_clock(monkeypatch, "titans_ts.training.callbacks")
    fitted = counted(clock, preset="best", max_epochs=10**4, time_limit=20.0).fit(series())
    assert sum(n_steps(fitted)) == pytest.approx(20, abs=2)  # a limit is noticed a step later
    assert n_steps(fitted)[0] == pytest.approx(10, abs=1)
    # what one leaves is for the next
    early = {"trainer_kwargs": {"callbacks": [steps := Steps(clock)], "limit_train_batches": 1}}
    forecaster(preset="best", max_epochs=4, time_limit=7.0, training_options=early).fit(series())
    assert steps.n_steps == [pytest.approx(4, abs=1), pytest.approx(3, abs=1)]


def test_parameters_stay_as_they_were_given():
    best = forecaster(preset="best").fit(series())
    assert best.get_params()["n_layers"] is None
    assert clone(best).get_params() == best.get_params()
    assert "preset='best'" in repr(best)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_fitted_preset_is_saved_updated_and_backtested(preset, tmp_path):
    index = pd.date_range("2024-01-01", periods=200, freq="h")
    frame = pd.DataFrame(series(1), index, ["y"])
    fitted = forecaster(preset=preset, blend=True).fit(frame[:180])
    fitted.save(tmp_path / "m")
    loaded = TitansForecaster.load(tmp_path / "m")
    assert loaded.get_params() == fitted.get_params()
    pd.testing.assert_frame_equal(loaded.predict(), fitted.predict())
    pd.testing.assert_frame_equal(
        loaded.update(frame[180:]).predict(), fitted.set_history(frame).predict()
    )
    assert np.isfinite(fitted.backtest(frame, progress_bar=False).metrics().loc["titans", "mae"])
    part = "titans" if PRESETS[preset] else "pretrained"
    assert part in fitted.blend_.index


def test_an_unknown_preset_is_refused():
    message = r"preset is 'good'; choose one of \['zero-shot', 'fast', 'default', 'best'\]"
    for given in (None, 1):
        with pytest.raises(ValueError, match=message):
            forecaster(preset="good", n_layers=given).fit(series())
