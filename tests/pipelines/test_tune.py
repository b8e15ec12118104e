"""`titans-ts tune` as a person uses it."""

from __future__ import annotations

import json
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from sklearn.base import clone
from typer.testing import CliRunner

from tests.support import random_dna
from titans_ts import ConvTokenizer, TitansClassifier, TitansForecaster, TitansSearch
from titans_ts.datasets import make_series
from titans_ts.pipelines.cli import app, main
from titans_ts.pipelines.tune import run_tune, write_tune

SMALL = ["--max-epochs", "1", "--quiet"]


@pytest.fixture
def csv(tmp_path):
    frame = make_series(160, 2, freq="h", seasons=(12,), random_state=0)
    frame.rename_axis("when").to_csv(path := tmp_path / "data.csv")
    return path


def test_a_search_writes_a_report_resumes_and_saves_the_best(csv, tmp_path):
    out, model = tmp_path / "out", tmp_path / "model"
    command = ["tune", str(csv), "--prediction-length", "4", "--context-length", "16", *SMALL]
    command += ["--storage", f"sqlite:///{tmp_path / 'study.db'}", "--scoring", "mse"]
    command += ["--out", str(out), "--save", str(model)]
    result = CliRunner().invoke(app, [*command, "--n-trials", "2"])
    assert result.exit_code == 0, result.output
    assert "2 trials: " in result.output
    assert "the estimator's own parameters: -" in result.output
    first = pd.read_csv(out / "trials.csv")
    assert list(first["trial"]) == [0, 1]
    assert f"score {first['score'].max():.4g}" in result.output
    page = (out / "search.html").read_text()
    assert "score by trial" in page
    assert 'src="http' not in page
    namespace = {}
    exec((out / "best.py").read_text(), namespace)
    best = TitansForecaster.load(model)
    assert best.predict().shape == (4, 2)
    assert namespace["estimator"].get_params() == best.get_params()

    result = CliRunner().invoke(app, [*command, "--n-trials", "3"])
    assert result.exit_code == 0, result.output
    second = pd.read_csv(out / "trials.csv")
    pd.testing.assert_frame_equal(second.iloc[:2][list(first)], first)
    assert len(second) == 3

    result = CliRunner().invoke(app, [*command, "--worker"])
    assert result.output.splitlines()[-1] == "ran 0 trials"


def test_sequences_are_tuned(tmp_path):
    rows = [
        {"sequence": letters, "label": "ab"[i % 2], "chrom": i % 4}
        for i, letters in enumerate(random_dna(40, 12))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
    command = ["tune", str(tmp_path / "train.csv"), "--groups-column", "chrom", *SMALL]
    command += ["--n-trials", "1", "--out", str(tmp_path), "--objectives", "score,size", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    content = json.loads(result.output.splitlines()[-1])
    assert content["trials"] == {"COMPLETE": 1}
    assert Path(content["files"][0]) == tmp_path / "trials.csv"
    assert "estimator = TitansClassifier(" in (tmp_path / "best.py").read_text()
    assert "Pareto front" in (tmp_path / "search.html").read_text()


def test_the_report_names_failures_and_the_own_parameters(tmp_path):
    search = TitansSearch(
        TitansForecaster(2, 8, d_model=16, n_heads=2, max_epochs=1, progress_bar=False),
        {
            "scaler": CategoricalDistribution(["standard", "no such", "no such either"]),
            "learning_rate": FloatDistribution(1e-3, 1e-2, log=True),
        },
        n_trials=6,
        sampler="random",
        random_state=0,
        progress_bar=False,
    )
    job = run_tune(np.sin(np.arange(80.0)), None, None, search)
    assert job.own_score == search.cv_results_["mean_test_score"][0]
    failed = job.trials[job.trials["state"] == "FAIL"]
    assert len(failed)
    assert failed["reason"].str.contains("scaler is 'no such").all()
    assert job.best_trial == job.trials["trial"][job.trials["score"].idxmax()]
    write_tune(job, tmp_path)
    page = unescape((tmp_path / "search.html").read_text())
    assert f"{len(failed)} failed" in page
    assert "(the estimator's own parameters: " in page


def test_the_best_estimator_is_written_as_code_that_runs(tmp_path):
    search = TitansSearch(
        TitansClassifier(
            tokenizer=ConvTokenizer(n_filters=4),
            kmer_model=2,
            d_model=16,
            n_heads=2,
            n_layers=1,
            max_epochs=1,
            progress_bar=False,
        ),
        {
            "tokenizer__kernel_size": CategoricalDistribution([5]),
            "kmer_model__gaps": CategoricalDistribution([1]),
            "model_options__memory__depth": CategoricalDistribution([1]),
        },
        n_trials=1,
        random_state=0,
        progress_bar=False,
    )
    job = run_tune(random_dna(40, 12), list("ab") * 20, None, search)
    namespace = {}
    exec(job.snippet, namespace)
    best = clone(search.estimator).set_params(**search.best_params_)
    assert namespace["estimator"].get_params() == best.get_params()


def test_missing_labels_are_named(csv):
    result = CliRunner().invoke(app, ["tune", str(csv), *SMALL])
    assert isinstance(result.exception, ValueError)
    assert "sequence" in str(result.exception)


def test_a_search_without_a_complete_trial_prints_one_line(tmp_path, monkeypatch, capsys):
    pd.DataFrame({"sequence": ["ACGT"] * 20, "label": list("ab") * 10}).to_csv(
        path := tmp_path / "train.csv", index=False
    )
    monkeypatch.setattr(TitansClassifier, "fit", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["titans-ts", "tune", str(path), *SMALL, "--n-trials", "5"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        told
        == "titans-ts: all of 3 trials failed for the same reason: ZeroDivisionError: division by zero"
    )
