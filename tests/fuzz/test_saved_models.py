"""A damaged or forged model folder, a state or a journal is refused by name, or it works."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.fuzz.properties import REFUSED, examples, outcome
from tests.fuzz.strategies import damaged
from tests.test_saved_models import ESTIMATORS, KINDS, PREDICT, SAVED
from titans_ts.nn import TitansBackbone, load_model, load_state
from titans_ts.nn.dna.language_model import LanguageModel

CONFIG, TENSORS = "config.json", "model.safetensors"
VALUES = st.one_of(
    st.sampled_from(
        [None, 0, 1, -1, 2, 7, 10**9, 2.5, "", "x", "mac", [], {}, [1], {"a": 1}, True]
    ),
    st.sampled_from([float("nan"), float("inf"), "D", "2024-01-01", [None], [[1, 2]], 64, 3, 0.5]),
)


@functools.cache
def contents(kind):
    return {name: (SAVED / kind / name).read_bytes() for name in (CONFIG, TENSORS)}


def load(kind, folder):
    """Load a model of a kind and return what it predicts."""
    if kind == "letter_model":
        return list(load_model(folder, LanguageModel).parameters())
    if kind == "backbone":
        return list(load_model(folder, TitansBackbone).parameters())
    name = kind.split("_")[0]
    model = ESTIMATORS[name].load(folder)
    return (PREDICT.get(kind) or PREDICT[name])(model)


def check(kind, files):
    with TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        result = outcome(lambda: load(kind, folder))
        assert {name: (folder / name).read_bytes() for name in files} == files
    return result


@examples(40)
@given(data=st.data(), kind=st.sampled_from(KINDS), name=st.sampled_from([CONFIG, TENSORS]))
def test_a_damaged_folder_is_refused(data, kind, name):
    files = contents(kind)
    changed = data.draw(damaged(files[name]))
    result = check(kind, files | {name: changed})
    if name == TENSORS and changed != files[name]:
        assert result is REFUSED


@examples(20)
@given(
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    name=st.sampled_from([CONFIG, TENSORS]),
)
def test_files_of_two_models_are_refused(kinds, name):
    one, other = kinds
    result = check(one, contents(one) | {name: contents(other)[name]})
    assert (result is REFUSED) or one == other or contents(one)[name] == contents(other)[name]


def signed(config, payload):
    """Return the files of a folder whose hash is right, as of a forger."""
    config = {k: v for k, v in config.items() if k != "sha256"}
    version = config.pop("format", 3)
    content = hashlib.sha256(payload).digest() + json.dumps(config, sort_keys=True).encode()
    header = {"format": version, "sha256": hashlib.sha256(content).hexdigest()}
    return {CONFIG: json.dumps(header | config).encode(), TENSORS: payload}


def places(value, path=()):
    """Yield the path of every value within a configuration."""
    if path:
        yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from places(inner, (*path, key))


@examples(60)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_a_forged_configuration_is_refused_or_works(data, kind):
    config = json.loads(contents(kind)[CONFIG])
    path = data.draw(st.sampled_from([p for p in places(config) if p[0] not in ("sha256",)]))
    holder = config
    for key in path[:-1]:
        holder = holder[key]
    if data.draw(st.integers(0, 3)) == 0:
        del holder[path[-1]]
    else:
        holder[path[-1]] = data.draw(VALUES)
    check(kind, signed(config, contents(kind)[TENSORS]))


@st.composite
def changed_tensors(draw, tensors):
    name = draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name]
    how = draw(
        st.sampled_from(["drop", "rename", "nan", "flat", "short", "double", "int", "half", "more"])
    )
    changed = dict(tensors)
    del changed[name]
    if how == "rename":
        changed[name + "x"] = tensor
    elif how != "drop":
        changed[name] = {
            "nan": lambda t: t * float("nan") if t.is_floating_point() else t - 5,
            "flat": lambda t: t.flatten(),
            "short": lambda t: t[:-1] if t.ndim and len(t) else t,
            "double": lambda t: t.double(),
            "int": lambda t: torch.nan_to_num(t.float()).clamp(-99, 99).to(torch.int32),
            "half": lambda t: t.half() if t.is_floating_point() else t,
            "more": lambda t: torch.cat([t, t]) if t.ndim else t[None],
        }[how](tensor).contiguous()
    return changed


@examples(60)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_forged_tensors_are_refused_or_work(data, kind):
    tensors = data.draw(changed_tensors(load_file(SAVED / kind / TENSORS)))
    with TemporaryDirectory() as folder:
        save_file(tensors, Path(folder) / TENSORS)
        payload = (Path(folder) / TENSORS).read_bytes()
    check(kind, signed(json.loads(contents(kind)[CONFIG]), payload))


@functools.cache
def backbone():
    return load_model(SAVED / "backbone", TitansBackbone).eval()


@examples(30)
@given(content=damaged((SAVED / "backbone_state.safetensors").read_bytes()))
def test_a_damaged_state_is_refused_or_works(content):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        path.write_bytes(content)
        state = outcome(lambda: load_state(path, backbone().initial_state(2)))
    if state is not REFUSED:
        with torch.no_grad():
            y, _ = backbone()(torch.zeros(2, 3, 8), state)
        assert y.shape == (2, 3, 8)


@functools.cache
def journal():
    """Return the bytes of a journal with two trials."""
    optuna = pytest.importorskip("optuna")
    from titans_ts.tuning.storage import open_storage

    with TemporaryDirectory() as parent:
        path = Path(parent) / "study.journal"
        study = optuna.create_study(study_name="s", storage=open_storage(path))
        for value in (1.0, 2.0):
            study.add_trial(optuna.create_trial(value=value))
        return path.read_bytes()


@examples(30)
@given(data=st.data())
def test_a_damaged_journal_is_refused_or_read(data):
    optuna = pytest.importorskip("optuna")
    from titans_ts.tuning.storage import open_storage

    content = data.draw(damaged(journal()))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.journal"
        path.write_bytes(content)
        storage = outcome(lambda: open_storage(path))
        if storage is not REFUSED:
            studies = storage.get_all_studies()
            assert len(studies) <= 2
            for study in studies:
                trials = optuna.load_study(study_name=study.study_name, storage=storage).trials
                assert all(np.isfinite(trial.value) for trial in trials if trial.value is not None)
        assert {p.name for p in Path(folder).iterdir()} == {path.name}
