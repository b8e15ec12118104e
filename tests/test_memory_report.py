"""Reports of the memory of fitted estimators, their picture, and the line after a fit."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss

from tests.support import random_dna, small_dna_settings, small_settings
from titans_ts import TitansClassifier, TitansForecaster, TitansRegressor
from titans_ts.forecasting.pretrained import other_model, pretrained_model
from titans_ts.nn.memory_use import write_off
from titans_ts.reporting.memory import IDLE, idle_memory, make_report
from titans_ts.types import Variant

SERIES = np.sin(np.arange(160)[:, None] / [3.0, 5.0]) * [1.0, 100.0]
DNA = random_dna(40, (12, 30), letters="ACGTN")
LABELS = np.array([s.count("G") > 4 for s in DNA]).astype(int)


def forecaster(**changes):
    settings = small_settings(patch_length=8, patch_stride=4) | changes
    return TitansForecaster(prediction_length=4, context_length=24, **settings)


def classifier(**changes):
    return TitansClassifier(**small_dna_settings(stride=2) | changes)


def set_gates(estimator, **values):
    """Set the gates of every token of all memories, one value for each head."""
    for block in estimator.model_.backbone.blocks:
        memory = block.mixer.memory
        with torch.no_grad():
            memory.in_proj.weight[4 * memory.in_proj.in_features :] = 0
            wanted = torch.tensor([values[gate] for gate in memory.gates], dtype=torch.float32)
            memory.gate_bias.copy_(wanted.logit().flatten())


@pytest.fixture(scope="module")
def fitted():
    return {
        "forecaster": forecaster(variant="mac", n_layers=2, blend=False).fit(SERIES),
        "classifier": classifier().fit(DNA, LABELS),
    }


@pytest.mark.parametrize(
    ("kind", "data", "unit", "per_token"),
    [("forecaster", (SERIES,), "steps", 4), ("classifier", (DNA, LABELS), "letters", 2)],
)
def test_half_lives_follow_from_the_gates(fitted, kind, data, unit, per_token):
    estimator = fitted[kind]
    before = {k: v.clone() for k, v in estimator.model_.state_dict().items()}
    set_gates(estimator, lr=[0.25, 0.5], forget=[0.5, 0.01], momentum=[0.0, 0.5])
    report = estimator.memory_report(*data)
    estimator.model_.load_state_dict(before)
    assert (report.unit, report.per_token) == (unit, per_token)
    half = np.array([1, math.log(2) / -math.log(0.99)])
    for _, block in report.heads.groupby(level="block"):
        for name, expected in (
            ("half_life", half),
            ("strength", [0.25, 0.5]),
            ("forget", [0.5, 0.01]),
            ("momentum", [0.0, 0.5]),
        ):
            for statistic in ("mean", "q10", "q50", "q90"):
                np.testing.assert_allclose(block[name, statistic], expected, rtol=1e-5)
    np.testing.assert_allclose(report.half_lives()["q50"][0], half * per_token, rtol=1e-5)
    assert f"half-life [{unit}]" in str(report)


def test_scores_are_those_of_the_estimator(fitted):
    report = fitted["forecaster"].memory_report(SERIES)
    metrics = fitted["forecaster"].backtest(SERIES).metrics().loc["titans"]
    assert list(report.scores) == ["mase", "mse", "wql"]
    for name in report.scores:
        assert report.scores[name]["write on"] == pytest.approx(metrics[name], rel=1e-5)
        assert report.scores[name]["write off"] != pytest.approx(metrics[name], rel=1e-5)
    report = fitted["classifier"].memory_report(DNA, LABELS)
    expected = log_loss(LABELS, fitted["classifier"].predict_proba(DNA))
    assert report.scores["log loss"]["write on"] == pytest.approx(expected, rel=1e-5)
    assert list(report.scores.index) == ["write on", "write off", "no memory"]
    assert report.n_tokens == sum(-(-len(s) // 2) for s in DNA)  # without the padding
    assert not fitted["classifier"].memory_report(DNA).scores.size


def test_windows_with_and_without_their_future(fitted):
    windows = np.stack([SERIES[i : i + 24] for i in range(5)])
    future = np.stack([SERIES[i + 24 : i + 28] for i in range(5)])
    report = fitted["forecaster"].memory_report(windows, future)
    error = fitted["forecaster"].predict(windows) - future
    assert report.scores["mse"]["write on"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert report.n_tokens == 5 * 2 * 5  # windows, variates and patches
    alone = fitted["forecaster"].memory_report(windows)
    assert alone.scores.empty
    assert alone.change == report.change
    assert "and the" not in alone.verdict
    with pytest.raises(ValueError, match=r"y has shape \(5, 3, 2\); .*\(5, 4, 2\), or None"):
        fitted["forecaster"].memory_report(windows, future[:, 1:])


def test_a_memory_that_recalls_is_in_use():
    """The class is the first letter, and the last token is classified: only a memory can know it."""
    rng = np.random.default_rng(0)
    first = rng.choice(list("AT"), 384)
    X = [letter * 3 + "".join(rng.choice(list("CG"), 24)) for letter in first]
    model = classifier(
        variant="lmm", pooling="last", stride=1, max_epochs=8, batch_size=32, learning_rate=0.01,
        model_options={"memory": {"depth": 1}},
    ).fit(X[:256], first[:256])  # fmt: skip
    report = model.memory_report(X[256:], first[256:])
    assert report.scores["mcc"]["write on"] > 0.9
    assert report.scores["mcc"]["write off"] < 0.3
    assert not report.idle
    assert report.verdict.startswith(
        "The memory is in use: with its write off the outputs change by"
    )
    assert "improve" not in report.verdict
    assert model.history_[-1]["memory_change"] > IDLE


@pytest.mark.parametrize("kind", ["forecaster", "classifier"])
def test_a_memory_that_does_not_write_is_idle(kind, capsys):
    settings = {
        "model_options": {"memory": {"write": False}},
        "training_options": {"trainer_kwargs": {"enable_progress_bar": False}},
        "progress_bar": True,
    }
    make, data = {
        "forecaster": (forecaster, (SERIES,)),
        "classifier": (classifier, (DNA, LABELS)),
    }[kind]
    model = make(**settings).fit(*data)
    line = "The memory is idle: with its write off the outputs change by 0.0 %."
    assert line in capsys.readouterr().err
    assert model.history_[-1]["memory_change"] == 0
    report = model.memory_report(*data)
    assert report.idle
    assert report.change == 0
    assert (report.blocks["written"] == 0).all()
    assert report.verdict.startswith(line.removesuffix("."))
    assert "(+0.0 %)" in report.verdict
    assert (report.heads["half_life"] == np.inf).all(axis=None)  # it does not forget either
    report.plot()
    model.set_params(progress_bar=False).fit(*data)
    assert "idle" not in capsys.readouterr().err


@pytest.mark.parametrize("fit", [False, True])
def test_a_network_without_a_memory_reports_that_of_the_pretrained_model(fit):
    if fit:
        model = forecaster(n_layers=0, blend=["pretrained"]).fit(SERIES)
        assert model.blend_.weight["pretrained"] > 0
    else:
        model = TitansForecaster.from_pretrained(4, progress_bar=False)
    forecast = model.predict(SERIES)
    report = model.memory_report(SERIES)
    assert report.title == "a TitansForecaster with a pretrained model of 2 LMM blocks"
    assert (report.unit, report.per_token, list(report.blocks.index)) == ("steps", 8, [0, 1])
    errors = model.backtest(SERIES).metrics()
    assert report.scores["mase"]["write on"] == pytest.approx(errors["mase"]["titans"])
    with write_off(pretrained_model()):
        errors = model.backtest(SERIES).metrics()
    assert report.scores["mase"]["write off"] == pytest.approx(errors["mase"]["titans"])
    assert report.scores["mase"].nunique() == 3
    assert not report.idle
    assert report.change > 0.1
    np.testing.assert_array_equal(model.predict(SERIES), forecast)  # nothing is left behind
    windows = np.stack([SERIES[:24], SERIES[60:84]])
    future = np.stack([SERIES[24:28], SERIES[84:88]])
    assert model.memory_report(windows, future).scores["mse"].nunique() == 3


def test_a_report_leaves_forecasts_in_other_threads_alone():
    model = TitansForecaster.from_pretrained(4, progress_bar=False)
    usual = model.predict(SERIES)
    with ThreadPoolExecutor(1) as pool, other_model(without_memory()):
        assert not np.array_equal(model.predict(SERIES), usual)
        np.testing.assert_array_equal(pool.submit(model.predict, SERIES).result(), usual)
    np.testing.assert_array_equal(model.predict(SERIES), usual)


def without_memory():
    """Return the pretrained model with heads of memory that return zeros."""
    model = deepcopy(pretrained_model())
    for block in model.backbone.blocks:
        torch.nn.init.zeros_(block.mixer.memory.out_proj.weight)
    return model


def test_a_model_without_a_memory_says_so(fitted):
    for model in (
        forecaster(n_layers=0, blend=False).fit(SERIES),
        classifier(variant="swa").fit(DNA, LABELS),
    ):
        data = (SERIES,) if isinstance(model, TitansForecaster) else (DNA, LABELS)
        report = model.memory_report(*data)
        assert report.idle
        assert report.verdict == "The model has no memory." == str(report).splitlines()[-1]
        assert report.scores.iloc[0].equals(report.scores.iloc[1])
        assert report.verdict in report._repr_html_()
        assert "memory_change" not in model.history_[-1]
        assert idle_memory(model.history_) is None
        with pytest.raises(ValueError, match="report has no block with a memory to draw; fit"):
            report.plot()


@pytest.mark.parametrize(
    "variant", ["mac", *(pytest.param(v, marks=pytest.mark.slow) for v in ("lmm", "mag", "mal"))]
)
def test_carried_states_missing_values_and_items_of_a_panel(variant: Variant):
    frame = pd.concat(
        pd.DataFrame({"item_id": name, "timestamp": np.arange(n), "y": SERIES[:n, 0]})
        for name, n in (("a", 160), ("b", 130))
    )
    frame.loc[(frame["timestamp"] > 40) & (frame["timestamp"] < 60), "y"] = np.nan
    model = forecaster(variant=variant, stateful_windows=1).fit(frame)
    report = model.memory_report(frame)
    assert report.longest > 20  # a window has 5 tokens
    assert np.isfinite(report.scores).all(axis=None)
    assert (report.blocks["written"] > 0.01).all()
    assert report.stream.loc[0].iloc[0].eq(0).all()
    assert report.stream.loc[0].iloc[-1].gt(0).all()


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [
        ({"bidirectional": "separate", "rc": "average"}, ["backbone 0", "backwards 0"]),
        ({"bidirectional": "shared", "tokenizer": "bpe"}, [0]),
        ({"kmer_model": 2}, [0]),
    ],
)
def test_both_directions_strands_and_k_mers(changes, blocks):
    if "tokenizer" in changes:
        changes = changes | {"stride": 1}
    model = classifier(**changes).fit(DNA, LABELS)
    report = model.memory_report(DNA, LABELS)
    assert list(report.blocks.index) == blocks
    assert report.unit == (None if "tokenizer" in changes else "letters")
    assert report.n_tokens > 0
    report.plot()


def test_several_labels_and_values():
    both = np.stack([LABELS, 1 - LABELS], 1)
    scores = classifier().fit(DNA, both).memory_report(DNA, both).scores
    assert scores["log loss"].between(0.1, 3).all()
    values = np.array([float(s.count("G")) for s in DNA])
    model = TitansRegressor(**small_dna_settings()).fit(DNA, values)
    report = model.memory_report(DNA, values)
    error = (model.predict(DNA) - values) / model.scale_
    assert report.scores["mse"]["write on"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert report.scores["r2"]["write on"] == pytest.approx(model.score(DNA, values), rel=1e-5)


def test_the_report_is_shown_in_full(fitted):
    report = fitted["classifier"].memory_report(DNA, LABELS)
    text, page = str(report), report._repr_html_()
    assert repr(report) == text
    assert text.startswith("Memory of a TitansClassifier with 1 MAG blocks; ")
    assert text.endswith(report.verdict)
    for part in ("share", "written", "half-life", "strength", "log loss", "write off"):
        assert part in text
        assert part in page
    assert page.count("<table") == 3
    figure = report.plot()
    assert figure.get_suptitle() == report.verdict
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(heights, 100 * report.blocks.T.to_numpy().ravel())
    (panel,) = [a for a in figure.axes if a.get_title(loc="left") == "log loss on these data"]
    scores = [bar.get_height() for bar in panel.patches]
    np.testing.assert_allclose(scores, report.scores["log loss"])


def test_the_verdict_names_a_write_that_does_not_help(fitted):
    uses: list = []
    report = fitted["classifier"].memory_report(DNA, LABELS)
    rows = ("write on", "write off", "no memory")
    for name, on, off, helps in (("mse", 2, 1, False), ("mse", 1, 2, True), ("r2", 2, 1, True)):
        scores = pd.DataFrame({name: [on, off, off]}, index=rows)
        other = type(report)(**{**vars(report), "scores": scores, "change": 0.5})
        assert ("does not improve" not in other.verdict) is helps
    assert make_report("x", uses, {}, (0.0, 0.0), (None, 1)).verdict == "The model has no memory."


def test_mistakes_are_named(fitted):
    with pytest.raises(NotFittedError):
        forecaster().memory_report(SERIES)
    with pytest.raises(ValueError, match="y has '7', which is none of the classes; drop it"):
        fitted["classifier"].memory_report(DNA[:2], [0, 7])
    with pytest.raises(ValueError, match=r"y has shape \(1,\), for 2 sequences; give one label"):
        fitted["classifier"].memory_report(DNA[:2], [0])
    with pytest.raises(ValueError, match="rows"):
        fitted["forecaster"].memory_report(SERIES[:10])
    for model in fitted.values():  # nothing is left behind
        assert not any(module._forward_hooks for module in model.model_.modules())
        assert all(b.mixer.memory.gates for b in model.model_.backbone.blocks)
