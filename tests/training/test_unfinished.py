"""A fit that was interrupted and begins again in its folder ends as if it had not been."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution

from tests.support import random_dna, small_dna_settings, small_settings
from titans_ts import TitansClassifier, TitansForecaster, TitansSearch
from titans_ts.config import TrainingConfig
from titans_ts.training import LAST_CHECKPOINT, UnfinishedRun, batches, train

WAVE = np.sin(np.arange(120) / 3)
SEQUENCES, LABELS = random_dna(24, 12), ["a", "b"] * 12


class Crash(Exception):
    """What ends a training."""


def crash(after):
    """Arguments of Lightning that end a fit after `after` epochs, counted over its networks."""
    import lightning.pytorch as pl

    class Stop(pl.Callback):
        n_epochs = 0

        def on_train_epoch_start(self, trainer, module):
            self.n_epochs += 1
            if self.n_epochs > after:
                raise Crash

    return {"callbacks": [Stop()]}


def forecaster(**changes):
    small = {"prediction_length": 2, "context_length": 8, "patch_length": 4, "patch_stride": 4}
    short = {"d_model": 8, "n_heads": 1, "max_epochs": 3, "blend": ("theta",)}
    settings = small_settings(**small | short | {"n_layers": None, "preset": "best"})
    return TitansForecaster(**settings | changes)


def classifier(**changes):
    settings = {"d_model": 8, "n_heads": 1, "max_epochs": 3, "rc": "auto", "kmer_model": None}
    return TitansClassifier(**small_dna_settings(**settings) | changes)


CASES = {
    "forecaster": (forecaster, (WAVE,), lambda model: model.predict_quantiles()),
    "streams": (
        lambda **changes: forecaster(stateful_windows=2, n_layers=1, preset="default", **changes),
        (WAVE,),
        lambda model: model.predict_quantiles(),
    ),
    "classifier": (
        classifier,
        (SEQUENCES, LABELS),
        lambda model: model.predict_proba(SEQUENCES),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("after", [1, 4])  # in the first network, and in the second one
def test_an_interrupted_fit_ends_as_if_it_had_not_been(name, after, tmp_path):
    make, data, result = CASES[name]
    if (name, after) == ("streams", 4):
        after = 2  # it trains one network
    plain = {"dropout": 0.1}
    whole = make(model_options=plain).fit(*data)
    options = {"resume": tmp_path / "run"}
    failing = make(model_options=plain, training_options=options | {"trainer_kwargs": crash(after)})
    with pytest.raises(Crash):
        failing.fit(*data)
    assert not hasattr(failing, "model_")
    assert (tmp_path / "run").is_dir()
    resumed = make(model_options=plain, training_options=options).fit(*data)
    np.testing.assert_array_equal(result(resumed), result(whole))
    assert [row["epoch"] for row in resumed.history_] == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_fit_without_a_seed_goes_on_with_its_own(tmp_path):
    options = {"resume": tmp_path / "run"}
    small = {"n_layers": 1, "preset": "default", "random_state": None}
    with pytest.raises(Crash):
        forecaster(training_options=options | {"trainer_kwargs": crash(1)}, **small).fit(WAVE)
    seed = json.loads((tmp_path / "run" / "run.json").read_text())["seed"]
    resumed = forecaster(training_options=options, **small).fit(WAVE)
    whole = forecaster(**small | {"random_state": seed}).fit(WAVE)
    np.testing.assert_array_equal(resumed.predict(), whole.predict())


def test_a_folder_of_another_run_is_refused(tmp_path):
    options = {"resume": tmp_path / "run"}
    small = {"n_layers": 1, "preset": "default"}
    with pytest.raises(Crash):
        forecaster(training_options=options | {"trainer_kwargs": crash(1)}, **small).fit(WAVE)
    refused = (
        "has an unfinished run, from which this one differs in: {}; delete the folder, or give"
    )
    with pytest.raises(ValueError, match=refused.format("X")):
        forecaster(training_options=options, **small).fit(WAVE + 1)
    with pytest.raises(ValueError, match=refused.format("learning_rate, seed")):
        forecaster(training_options=options, learning_rate=0.5, **small | {"random_state": 9}).fit(
            WAVE
        )
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json.* of an unfinished run is damaged .*; delete"):
        forecaster(training_options=options, **small).fit(WAVE)


def test_a_folder_that_cannot_be_removed_does_not_end_a_fit(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    series = np.sin(np.arange(60.0))[:, None]
    fitted = forecaster(training_options={"resume": str(tmp_path / "link")}).fit(series)
    assert fitted.predict().shape == (2, 1)
    assert not any((tmp_path / "real").rglob(LAST_CHECKPOINT))
    run = UnfinishedRun(tmp_path / "run")
    run.begin({"seed": 0})
    run.end()
    run.end()  # another process of the same run


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"has 'thesis\.tex', which is of no unfinished run; give"):
        forecaster(training_options={"resume": tmp_path}).fit(WAVE)
    with pytest.raises(ValueError, match=r"is a file; it must be free for the unfinished run"):
        forecaster(training_options={"resume": tmp_path / "thesis.tex"}).fit(WAVE)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(ValueError, match="resume is 3; give the path of a folder, or None"):
        forecaster(training_options={"resume": 3}).fit(WAVE)


def test_a_checkpoint_without_its_note_is_not_resumed(tmp_path):
    run = UnfinishedRun(tmp_path / "run")
    run.begin({"seed": 1})
    run.network(0).mkdir()
    (run.network(0) / LAST_CHECKPOINT).write_text("of a run that was killed while it was removed")
    (run.folder / "run.json").unlink()
    run.begin({"seed": 2})
    assert run.seed() == 2
    assert not list(run.folder.rglob(LAST_CHECKPOINT))
    run.end()
    assert list(tmp_path.iterdir()) == []


class Line:
    """Points of a line, in batches."""

    def __init__(self, slope):
        self.slope = slope

    def __len__(self):
        return 32

    def __getitem__(self, indices):
        x = torch.as_tensor(indices).float()[:, None] / 32
        return x, self.slope * x


def test_a_training_that_had_stopped_early_does_not_go_on(tmp_path):
    def loss(model, batch):
        x, y = batch
        return (model(x) - y).square().mean(), y.numel()

    def fitted():
        torch.manual_seed(0)
        model, generator = torch.nn.Linear(1, 1), torch.Generator().manual_seed(0)
        config = TrainingConfig(max_epochs=50, learning_rate=0.05, patience=2)
        loaders = batches(Line(2.0), 8, generator), batches(Line(-2.0), 8)
        history = train(
            model, loss, *loaders, config, progress_bar=False, resume=tmp_path, generator=generator
        )
        return len(history), model.weight.item()

    n_epochs, weight = fitted()
    assert n_epochs < 50
    assert fitted() == (n_epochs, weight)  # from the last checkpoint, before the model was kept


def test_trials_of_a_search_have_no_folder_in_common(tmp_path):
    options = {"resume": tmp_path / "run"}
    small = {"n_layers": 1, "preset": "default", "max_epochs": 1}
    space = {"learning_rate": FloatDistribution(1e-3, 1e-2)}
    settings = {"n_trials": 2, "random_state": 0, "progress_bar": False}
    with pytest.raises(Crash):  # a fit of the user's own is not finished
        forecaster(training_options=options | {"trainer_kwargs": crash(0)}, **small).fit(WAVE)
    search = TitansSearch(
        forecaster(training_options=options, **small), space, refit=False, **settings
    )
    assert search.fit(WAVE).cv_results_["state"].tolist() == ["COMPLETE"] * 2
    assert (tmp_path / "run").is_dir()
