"""The training engine: schedule, best weights, losses."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.support import small_settings, stop_clock
from titans_ts import TitansForecaster
from titans_ts.config import BackboneConfig, ForecasterConfig, TrainingConfig
from titans_ts.nn import TOKENS, ForecastingModel
from titans_ts.nn.series.outputs import pinball_loss
from titans_ts.training import (
    StreamLoss,
    batches,
    bucketed_batches,
    forecast_loss,
    stream_batches,
    train,
)
from titans_ts.training.callbacks import BestWeights
from titans_ts.training.module import TrainingModule


class Line:
    """y = 2x, and targets of a second set that only get worse."""

    def __init__(self, n, slope=2.0):
        self.x = torch.linspace(-1, 1, n)[:, None]
        self.y = slope * self.x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, indices):
        return self.x[indices], self.y[indices]


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().mean(), len(batch[0])


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 20, 37])
def test_any_number_of_steps_trains(steps):
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    config = TrainingConfig(max_epochs=steps, learning_rate=0.01)
    history = train(model, squared, batches(Line(4), 4), None, config, progress_bar=False)
    assert len(history) == steps
    assert [row["epoch"] for row in history] == list(range(steps))


def test_a_step_without_a_finite_gradient_is_skipped():
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    seen = itertools.count()

    def loss(model, batch):
        mean, n = squared(model, batch)
        if next(seen) % 5 == 3:  # the root is 0, and its slope is infinite
            mean = mean + (0 * model.weight).sqrt().sum()
        return mean, n

    config = TrainingConfig(max_epochs=10, learning_rate=0.1)
    with pytest.warns(UserWarning, match="4 of 20 steps had a gradient that is not finite"):
        history = train(model, loss, batches(Line(8), 4), None, config, progress_bar=False)
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert torch.isfinite(model.weight).all()


def test_gradients_are_clipped_by_their_norm_and_left_alone_below_it():
    from titans_ts.training.module import TrainingModule

    model = torch.nn.Linear(2, 1, bias=False)
    module = TrainingModule(model, squared, TrainingConfig())
    optimizer = torch.optim.SGD(model.parameters())
    for gradient, expected in (([3.0, 4.0], [0.6, 0.8]), ([0.3, 0.4], [0.3, 0.4])):
        model.weight.grad = torch.tensor([gradient])
        module.configure_gradient_clipping(optimizer, gradient_clip_val=1.0)
        torch.testing.assert_close(model.weight.grad, torch.tensor([expected]))
    assert module.n_skipped == 0
    model.weight.grad = torch.tensor([[float("nan"), 1.0]])
    module.configure_gradient_clipping(optimizer, gradient_clip_val=1.0)
    assert model.weight.grad is None
    assert module.n_skipped == 1


@pytest.mark.parametrize(
    "options", [{"gradient_clip_val": None}, {"gradient_clip_algorithm": "value"}]
)
def test_other_ways_to_clip_are_passed_on(options):
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    config = TrainingConfig(max_epochs=20, learning_rate=0.1)
    history = train(
        model,
        squared,
        batches(Line(8), 4),
        None,
        config,
        progress_bar=False,
        trainer_kwargs=options,
    )
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]


def test_the_weights_of_the_best_epoch_are_kept_and_training_stops():
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(model.weight)
    config = TrainingConfig(max_epochs=200, learning_rate=0.05, patience=4, weight_decay=0.0)
    loaders = batches(Line(32), 8), batches(Line(8, slope=1.0), 8)
    history = train(model, squared, *loaders, config, progress_bar=False)
    losses = [row["validation_loss"] for row in history]
    assert len(losses) == int(np.argmin(losses)) + 1 + 4
    kept = squared(model, Line(8, slope=1.0)[torch.arange(8)])[0].item()
    assert kept == pytest.approx(min(losses), rel=1e-5)


def test_short_epochs_are_validated_now_and_then():
    config = TrainingConfig(learning_rate=0.05, patience=60, weight_decay=0.0)
    loaders = batches(Line(16), 8), batches(Line(8, slope=1.0), 8)
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(model.weight)
    history = train(model, squared, *loaders, config, progress_bar=False)
    losses = {int(row["epoch"]): row.get("validation_loss") for row in history}
    validated = {epoch: loss for epoch, loss in losses.items() if loss is not None}
    assert list(validated) == list(range(15, len(history), 16))  # two steps an epoch, 32 in between
    best = min(validated, key=validated.__getitem__)
    assert len(history) == best + 1 + 48  # a fourth validation would be more than 60 epochs later
    kept = squared(model, Line(8, slope=1.0)[torch.arange(8)])[0].item()
    assert kept == pytest.approx(validated[best], rel=1e-5)


def test_the_last_epoch_is_validated():
    for n_steps in range(1, 700):
        epochs, _, every = TrainingConfig().schedule(n_steps)
        assert epochs % every == 0
        assert n_steps > 64 or 320 < epochs * n_steps < 704
        assert every * n_steps <= max(32, n_steps)


def test_the_generator_decides_the_random_order():
    order = [
        torch.cat([x[:, 0] for x, _ in batches(Line(10), 3, torch.Generator().manual_seed(s))])
        for s in (0, 0, 1)
    ]
    assert torch.equal(order[0], order[1])
    assert not torch.equal(order[0], order[2])
    assert torch.equal(order[0].sort().values, Line(10).x[:, 0])
    assert [len(x) for x, _ in batches(Line(10), 3)] == [3, 3, 3, 1]


class Indices:
    def __len__(self):
        return 1000

    def __getitem__(self, indices):
        return torch.tensor(indices)


def test_buckets_hold_sequences_of_similar_length():
    lengths = torch.randint(1, 1000, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    loader = bucketed_batches(Indices(), lengths, 8, torch.Generator().manual_seed(0))
    assert len(loader) == 125
    seen = [batch.tolist() for batch in loader]
    assert len(seen) == 125
    assert sorted(i for batch in seen for i in batch) == list(range(1000))
    padded = sum(len(b) * max(lengths[i] for i in b) for b in seen)
    assert padded < 1.2 * sum(lengths)  # at random 1.8
    longest = [max(lengths[i] for i in b) for b in seen]
    assert longest != sorted(longest)
    assert [b.tolist() for b in loader] != seen  # another pass
    again = bucketed_batches(Indices(), lengths, 8, torch.Generator().manual_seed(0))
    assert [b.tolist() for b in again] == seen


@pytest.mark.parametrize(("most", "n_batches"), [(None, 33), (10_000, 33), (64, 8), (8, 1)])
def test_long_samples_come_in_small_batches(most, n_batches):
    class Indices:
        def __len__(self):
            return 200

        def __getitem__(self, indices):
            return torch.tensor(indices)

    lengths = [10] * 180 + [300] * 20
    generator = torch.Generator().manual_seed(0)
    loader = bucketed_batches(Indices(), lengths, 8, generator, max_samples=most, max_tokens=600)
    for _ in range(3):
        seen = [batch.tolist() for batch in loader]
        assert len(seen) == len(loader) == n_batches
        assert max(len(b) * max(lengths[i] for i in b) for b in seen) <= 600
        assert max(map(len, seen)) <= 8


def test_an_epoch_of_a_large_data_set_is_subsampled():
    every = batches(Line(100), 4, max_samples=30)
    assert len(every) == 7
    kept = torch.cat([x[:, 0] for x, _ in every])
    torch.testing.assert_close(kept, Line(100).x[::4, 0])
    some = batches(Line(100), 4, torch.Generator().manual_seed(0), max_samples=30)
    assert len(some) == 8
    first, second = (torch.cat([x[:, 0] for x, _ in some]) for _ in range(2))
    assert len(first) == 30
    assert len(set(first.tolist() + second.tolist())) > 35
    assert len(batches(Line(30), 4, torch.Generator(), max_samples=30)) == 8


def test_pinball_loss_is_minimal_at_the_quantile():
    target = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.double)
    at = torch.quantile(target, levels)
    best = pinball_loss(at.expand(len(target), 3), target, levels).mean(0)
    for shift in (-0.1, 0.1):
        assert (
            pinball_loss((at + shift).expand(len(target), 3), target, levels).mean(0) > best
        ).all()
    error = (target - at[1]).abs().mean()
    assert best[1] == pytest.approx(error.item())


def test_missing_targets_do_not_count():
    torch.manual_seed(0)
    model = ForecastingModel(ForecasterConfig(16, 3, n_variates=2)).eval()
    past, future = torch.randn(4, 16, 2), torch.randn(4, 3, 2)
    future[0], future[1:, 1] = float("nan"), float("nan")
    loss, weight = forecast_loss(model, (past, future, None))
    assert weight == 12
    point, quantiles = model(past)
    seen = (point - future)[~future.isnan()].square().mean()
    levels = torch.tensor([0.1, 0.5, 0.9])
    pinball = pinball_loss(quantiles, future, levels)[~future.isnan()].mean()
    assert loss.item() == pytest.approx((seen + pinball).item(), rel=1e-5)
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in gradients)
    assert forecast_loss(model, (past, torch.full((4, 3, 2), float("nan")), None)) == (0, 0)


class Numbers:
    """Two items of 10 and 4 samples; the sample after i is i + 3, of the same item."""

    def __len__(self):
        return 14

    def __getitem__(self, indices):
        return (torch.tensor(indices),)

    def following(self, indices, skipped):
        end, after = torch.where(indices < 10, 10, 14), indices + 3 + skipped
        return torch.where(after < end, after, -1)


def test_streams_continue_in_the_next_batch():
    loader = stream_batches(Numbers(), 5, torch.Generator().manual_seed(0), 40)
    assert len(loader) == 40
    batches = list(loader)
    assert len(batches) == 40
    assert batches[0][1].all()
    begun = set()
    for (before, _), (after, fresh) in itertools.pairwise(batches):
        following = Numbers().following(before, torch.tensor(0))
        assert torch.equal(fresh, following < 0)
        assert torch.equal(after[~fresh], following[~fresh])
        begun |= set(after[fresh].tolist())
    assert len(begun) > 10  # anywhere
    skipping = list(stream_batches(Numbers(), 50, torch.Generator().manual_seed(0), 2, skip=2))
    (before, _), (after, fresh) = skipping
    assert set((after - before)[~fresh].tolist()) == {3, 4}
    again = list(stream_batches(Numbers(), 5, torch.Generator().manual_seed(0), 40))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("tokens", TOKENS)
def test_the_loss_of_streams_is_that_of_one_long_read(tokens):
    torch.manual_seed(0)
    config = ForecasterConfig(
        8,
        3,
        n_variates=2,
        patch_length=4,
        patch_stride=4,
        tokens=tokens,
        stateful_windows=1,
        head_dropout=0.0,
        backbone=BackboneConfig(dropout=0.0),
    )
    model = ForecastingModel(config).train()
    rows = torch.randn(3, 8 * 6 + 3, 2)

    def batch(first, count, fresh=None):
        start = 8 * first
        past = rows[:, start : start + 8 * count]
        future = rows[:, start + 8 * count : start + 8 * count + 3]
        return (past, future, None) if fresh is None else (past, future, None, fresh)

    whole, _ = forecast_loss(model, batch(0, 6))
    stream = StreamLoss()
    fresh, goes_on = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    parts = [
        stream(model, batch(first, 2, fresh if first == 0 else goes_on))[0] for first in (0, 2, 4)
    ]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-4)
    parts[2].backward()  # of the last two windows alone: the graph ends where the batch began
    # a stream that begins anew has an empty memory, the others go on
    one = torch.tensor([False, True, False])
    mixed = stream(model, batch(0, 2, one))[0]
    other = StreamLoss()
    for first in (0, 2, 4):
        other(model, batch(first, 2, fresh if first == 0 else goes_on))
    onward = other(model, batch(0, 2, goes_on))[0]
    past, future, _ = batch(0, 2)
    empty = forecast_loss(model, (past[1:2], future[1:2], None))[0]
    went_on = onward * 3 - mixed * 3  # the second stream's loss going on, less its loss begun anew
    second = StreamLoss()
    for first in (0, 2, 4):
        part, ahead, _ = batch(first, 2)
        second(model, (part[1:2], ahead[1:2], None, (fresh if first == 0 else goes_on)[:1]))
    alone = second(model, (past[1:2], future[1:2], None, goes_on[:1]))[0]
    assert went_on.item() == pytest.approx((alone - empty).item(), rel=1e-3, abs=1e-5)
    # validation does not move the streams
    before = stream._state
    stream(model.eval(), batch(0, 2))
    assert stream._state is before


def test_a_time_limit_ends_training_and_keeps_the_best_weights():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 1))
    forecaster = TitansForecaster(
        prediction_length=4, **small_settings(max_epochs=100_000, time_limit=1.5)
    )
    start = time.process_time()
    forecaster.fit(X)
    assert time.process_time() - start < 60
    assert forecaster.history_[-1]["seconds"] >= 1.5
    assert "validation_loss" in forecaster.history_[-1]
    assert np.isfinite(forecaster.predict(X)).all()
    with pytest.raises(ValueError, match="time_limit is 0; give a positive number of seconds"):
        forecaster.set_params(time_limit=0).fit(X)


def test_the_learning_rate_is_annealed_within_the_limit(monkeypatch):
    """Whatever the number of steps, the schedule ends with the time, that before a resumption too."""
    clock = stop_clock(monkeypatch, "titans_ts.training.callbacks")
    config = TrainingConfig(time_limit=10.0)
    interrupted = BestWeights(3, config.time_limit)
    clock.now = 4.0
    state = interrupted.state_dict()
    clock.now = 100.0
    best = BestWeights(3, config.time_limit)
    best.load_state_dict(state)
    module = TrainingModule(torch.nn.Linear(2, 2), lambda model, batch: (batch, 1), config)
    trainer = SimpleNamespace(estimated_stepping_batches=1000, should_stop=False, world_size=1)
    module.trainer = trainer
    _, (schedule,) = module.configure_optimizers()
    factor = schedule["scheduler"].lr_lambdas[0]
    assert factor(100) == 1
    clock.now = 101.5
    best.on_train_batch_end(trainer, module)
    assert factor(100) == pytest.approx(0.5)
    assert not trainer.should_stop
    clock.now = 106.0
    best.on_train_batch_end(trainer, module)
    assert factor(100) == 0
    assert trainer.should_stop
    assert factor(550) == 0
