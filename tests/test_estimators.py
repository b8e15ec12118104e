"""What scikit-learn and users expect of every estimator; a new one is tested by its row in CASES."""

from __future__ import annotations

import copy
import json
import pickle
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from tests.support import random_dna, small_settings
from titans_ts import TitansClassifier, TitansForecaster, TitansRegressor

SMALL = small_settings(max_epochs=2)


def series(n_rows=160, n_variates=2):
    t = np.arange(n_rows)[:, None] / np.array([3.0, 5.0])[:n_variates]
    return np.sin(t) * [1.0, 100.0][:n_variates] + [0.0, 1000.0][:n_variates]


def sequences():
    return random_dna(40, (5, 30), letters="ACGTN")


CASES = {
    "forecaster": (
        TitansForecaster(4, 24, patch_length=8, blend=False, **SMALL),
        (series(),),
        lambda f: f.predict(),
    ),
    "classifier": (
        TitansClassifier(**SMALL),
        (sequences(), ["a", "b", "c", "b"] * 10),
        lambda c: c.predict_proba(sequences()),
    ),
    "regressor": (
        TitansRegressor(**SMALL, model_options={"dropout": 0.0}, training_options={"patience": 2}),
        (sequences(), [s.count("G") / 10 for s in sequences()]),
        lambda r: r.predict(sequences()),
    ),
}


@pytest.fixture(params=sorted(CASES), scope="module")
def case(request):
    estimator, data, answer = CASES[request.param]
    return clone(estimator), data, answer


@pytest.fixture(scope="module")
def fitted(case):
    estimator, data, _ = case
    return clone(estimator).fit(*data)


def test_parameters_are_stored_as_given_and_cloned(case):
    estimator, _, _ = case
    params = estimator.get_params()
    again = type(estimator)(**estimator.get_params(deep=False))
    assert again.get_params() == params
    assert clone(estimator).get_params() == params
    assert estimator.set_params(d_model=32).d_model == 32
    estimator.set_params(d_model=16)
    with pytest.raises(ValueError, match="Invalid parameter 'width'"):
        estimator.set_params(width=1)


def test_not_fitted_is_said(case, tmp_path):
    estimator, data, answer = case
    for call in (answer, lambda e: e.save(tmp_path / "m"), lambda e: e.score(*data)):
        with pytest.raises(NotFittedError):
            call(clone(estimator))


def test_fit_returns_self_and_does_not_change_parameters_or_input(case):
    estimator, data, _ = case
    estimator = clone(estimator)
    params, before = copy.deepcopy(estimator.get_params()), copy.deepcopy(data)
    assert estimator.fit(*data) is estimator
    assert estimator.get_params() == params
    for x, y in zip(data, before, strict=True):
        np.testing.assert_array_equal(x, y)


def test_same_seed_same_answer_and_global_generator_untouched(case, fitted):
    estimator, data, answer = case
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    again = clone(estimator).fit(*data)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(answer(again), answer(fitted))
    other = clone(estimator).set_params(random_state=1).fit(*data)
    assert not np.array_equal(answer(other), answer(fitted))


def test_pickle_and_directory_answer_the_same(case, fitted, tmp_path):
    _, _, answer = case
    expected = answer(fitted)
    np.testing.assert_array_equal(answer(pickle.loads(pickle.dumps(fitted))), expected)
    fitted.save(tmp_path / "model")
    fitted.save(tmp_path / "model")  # a saved model may be replaced
    loaded = type(fitted).load(tmp_path / "model")
    np.testing.assert_array_equal(answer(loaded), expected)
    assert loaded.get_params() == fitted.get_params()
    assert loaded.history_ == fitted.history_
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def edit(change):
    def apply(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return apply


def truncate(name, keep):
    def apply(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])

    return apply


def tamper(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(content))


def nested(folder):
    (folder / "config.json").write_text("[" * 200_000)


def set_deep(config, name, value):
    """Set every entry of this name, however deep it lies."""
    for key, inner in config.items():
        if isinstance(inner, dict):
            set_deep(inner, name, value)
        elif key == name:
            config[key] = value


def forged(change=lambda config: None, payload=None, weight=None):
    """Change a model and correct its hash, as :mod:`titans_ts.nn.checkpoint` documents it."""

    def apply(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        content = (folder / "model.safetensors").read_bytes() if payload is None else payload
        if weight is not None:
            tensors = load(content)
            name = next(k for k, v in tensors.items() if k.startswith("model.") and v.ndim == 2)
            tensors[name][0, 0] = weight
            content = save(tensors)
        body = {k: v for k, v in config.items() if k not in ("format", "sha256")}
        text = json.dumps(body, sort_keys=True).encode()
        config["sha256"] = sha256(sha256(content).digest() + text).hexdigest()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(content)

    return apply


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (truncate("model.safetensors", 100), ValueError, "truncated or changed"),
        (tamper, ValueError, "truncated or changed"),
        (truncate("config.json", 40), ValueError, "config.json cannot be read"),
        (lambda f: (f / "config.json").unlink(), FileNotFoundError, "has no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), FileNotFoundError, "has no model"),
        (edit(lambda c: c.update(format=99)), ValueError, "format 99, newer than 5; upgrade"),
        (edit(lambda c: c.update(estimator="Other")), ValueError, "truncated or changed"),
        (edit(lambda c: c["params"].update(d_model=32)), ValueError, "truncated or changed"),
        (edit(lambda c: c.pop("fitted")), ValueError, "truncated or changed"),
        (nested, ValueError, "config.json cannot be read"),
        (forged(payload=b"junk"), ValueError, "model.safetensors cannot be read"),
        (forged(payload=b""), ValueError, "model.safetensors cannot be read"),
        (forged(payload=b"\xff" * 20), ValueError, "model.safetensors cannot be read"),
        (forged(lambda c: set_deep(c, "n_layers", 10**9)), ValueError, "n_layers is 1000000000"),
        (forged(lambda c: set_deep(c, "depth", 10**8)), ValueError, "depth is 100000000"),
        (forged(weight=float("nan")), ValueError, "weights that are not finite"),
    ],
    ids=lambda x: x if isinstance(x, str) else None,
)
def test_damaged_model_directory(fitted, tmp_path, damage, error, message):
    fitted.save(tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(error, match=message):
        type(fitted).load(tmp_path / "model")


def test_a_compiled_model_and_any_default_dtype_are_saved_and_loaded(fitted, tmp_path, monkeypatch):
    fitted.save(tmp_path / "model")
    expected = {k: v.clone() for k, v in fitted.model_.state_dict().items()}
    compiled = clone(fitted)
    compiled.__dict__.update(fitted.__dict__)
    compiled.model_ = torch.compile(fitted.model_, backend="eager")
    compiled.save(tmp_path / "compiled")
    torch.set_default_dtype(torch.float64)
    try:
        loaded = [type(fitted).load(tmp_path / name) for name in ("model", "compiled")]
    finally:
        torch.set_default_dtype(torch.float32)
    for model in loaded:
        torch.testing.assert_close(model.model_.state_dict(), expected, rtol=0, atol=0)


def test_arguments_of_lightning_in_a_saved_model_are_ignored(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    kwargs = {"logger": True, "default_root_dir": str(tmp_path / "written")}
    options = {"patience": 3, "trainer_kwargs": kwargs}
    forged(lambda c: c["params"].update(training_options=options))(tmp_path / "model")
    loaded = type(fitted).load(tmp_path / "model")
    assert loaded.options("training_options").trainer_kwargs is None
    assert loaded.options("training_options").patience == 3


def test_a_model_of_another_estimator_is_refused(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    other = TitansClassifier if isinstance(fitted, TitansForecaster) else TitansForecaster
    with pytest.raises(
        ValueError, match=f"holds a {type(fitted).__name__}, not a {other.__name__}"
    ):
        other.load(tmp_path / "model")


def test_save_refuses_what_is_no_model_and_leaves_nothing_half_written(
    fitted, tmp_path, monkeypatch
):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a saved model; choose another"):
        fitted.save(tmp_path / "work")
    (tmp_path / "work" / "config.json").write_text('{"mine": 1}')  # not enough to be a model
    with pytest.raises(ValueError, match="is not a saved model; choose another"):
        fitted.save(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "mine"

    fitted.save(tmp_path / "model")
    before = (tmp_path / "model" / "config.json").read_text()
    monkeypatch.setattr("titans_ts.nn.checkpoint.save", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitted.save(tmp_path / "model")
    monkeypatch.undo()
    monkeypatch.setattr("pathlib.Path.write_text", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitted.save(tmp_path / "model")
    assert (tmp_path / "model" / "config.json").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "work"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"variant": "mab"}, r"variant is 'mab'; choose one of \['lmm', 'mac', 'mag'"),
        ({"d_model": 15}, "d_model is 15 and n_heads 2; d_model must be an even multiple"),
        ({"n_layers": -1}, "n_layers is -1; it must be an integer of at least 0"),
        ({"n_layers": 1.5}, "n_layers is 1.5; it must be an integer"),
        (
            {"model_options": {"memory": {"depth": 0}}},
            "depth is 0; it must be an integer of at least 1",
        ),
        ({"model_options": {"dropout": 1.0}}, r"dropout is 1.0; it must lie in \[0, 1\)"),
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive"),
        (
            {"training_options": {"validation_fraction": 1.0}},
            r"validation_fraction is 1.0; it must lie in \[0, 1\)",
        ),
        ({"device": "gpu7"}, 'device is \'gpu7\'; give "auto", "cpu"'),
        ({"learning_rate": "a"}, "learning_rate is 'a'; it must be positive"),
        (
            {"training_options": {"weight_decay": -1.0}},
            "weight_decay is -1.0; it must not be negative",
        ),
        ({"model_options": {"dropout": None}}, "dropout is None; it must lie in"),
        ({"model_options": {"head_dropout": 2.0}}, r"head_dropout is 2.0; it must lie in \[0, 1\)"),
        ({"device": "cuda:9"}, "device is 'cuda:9', but CUDA is not available"),
        ({"model_options": [1]}, r"model_options is \[1\]; give a ModelOptions, a dict or None"),
        ({"model_options": {"memory": {"momentum": "no"}}}, "momentum is 'no'; it must be True"),
        ({"model_options": {"widow": 3}}, "ModelOptions has no key 'widow'; known: dropout"),
        ({"model_options": {"memory": {"dept": 3}}}, "MemoryConfig has no key 'dept'"),
    ],
)
def test_bad_parameters_are_named(case, params, message):
    estimator, data, _ = case
    with pytest.raises(ValueError, match=message):
        clone(estimator).set_params(**params).fit(*data)


def test_model_options_reach_the_model(case):
    estimator, data, _ = case
    options = {"n_persistent": 7, "memory": {"expansion": 3, "forget": False}}
    estimator = clone(estimator).set_params(model_options=options)
    config = (
        estimator.set_params(model_options__memory__chunk_size=5).fit(*data).model_.config.backbone
    )
    assert (config.n_persistent, config.memory.expansion, config.memory.forget) == (7, 3, False)
    assert config.memory.chunk_size == 5


def test_diverging_training_is_an_error(case):
    estimator, data, _ = case
    estimator = clone(estimator).set_params(
        learning_rate=1e30,
        training_options__trainer_kwargs={"gradient_clip_val": None},
        max_epochs=20,
    )
    with pytest.raises(FloatingPointError, match="training diverged.*lower learning_rate"):
        estimator.fit(*data)


def test_trainer_kwargs_reach_lightning_and_are_not_changed(case):
    estimator, data, _ = case
    import lightning.pytorch as pl

    class Count(pl.Callback):
        epochs = 0

        def on_train_epoch_end(self, trainer, module):
            self.epochs += 1

    kwargs = {"callbacks": [Count()], "max_epochs": 3}
    estimator = (
        clone(estimator, safe=False).set_params(training_options__trainer_kwargs=kwargs).fit(*data)
    )
    assert kwargs["callbacks"][0].epochs == 3 == len(estimator.history_)


def test_parameters_set_after_fit_do_not_touch_the_fitted_model(case, fitted, tmp_path):
    _, _, answer = case
    changed = pickle.loads(pickle.dumps(fitted)).set_params(d_model=64, n_layers=3, variant="lmm")
    np.testing.assert_array_equal(answer(changed), answer(fitted))
    changed.save(tmp_path / "m")
    np.testing.assert_array_equal(answer(type(fitted).load(tmp_path / "m")), answer(fitted))


def test_a_fit_that_fails_leaves_the_estimator_as_it_was(case, fitted):
    estimator, data, answer = case
    bad = {
        "learning_rate": 1e30,
        "training_options": {"trainer_kwargs": {"gradient_clip_val": None}},
        "max_epochs": 20,
    }
    fresh = clone(estimator).set_params(**bad)
    with pytest.raises(FloatingPointError):
        fresh.fit(*data)
    with pytest.raises(NotFittedError):
        answer(fresh)
    again = pickle.loads(pickle.dumps(fitted)).set_params(**bad)
    with pytest.raises(FloatingPointError):
        again.fit(*data)
    np.testing.assert_array_equal(answer(again), answer(fitted))


def test_fits_in_threads_repeat_exactly(case, fitted):
    from concurrent.futures import ThreadPoolExecutor

    estimator, data, answer = case
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: clone(estimator).fit(*data), range(2)))
    for one in both:
        np.testing.assert_array_equal(answer(one), answer(fitted))


def test_other_precision_and_rare_validation(case):
    estimator, data, answer = case
    kwargs = {"precision": "64-true", "check_val_every_n_epoch": 3}
    estimator = clone(estimator).set_params(
        training_options__trainer_kwargs=kwargs, training_options__patience=7, max_epochs=7
    )
    fitted = estimator.fit(*data)
    assert np.isfinite(answer(fitted)).all()
    assert len(fitted.history_) == 7  # patience counts epochs, not validations
