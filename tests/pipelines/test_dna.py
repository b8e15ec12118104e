"""The commands for DNA as a person uses them."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from titans_ts import TitansClassifier, TitansRegressor
from titans_ts.pipelines.cli import app, main

pytest.importorskip("pyfaidx")

TINY = ["--max-epochs", "2", "--quiet"]


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Labelled sequences, a genome, variants and a saved model."""
    folder, rng = tmp_path_factory.mktemp("dna"), np.random.default_rng(0)
    letters = ["".join(rng.choice(list("ACGT"), 30)) for _ in range(80)]
    labels = np.where(np.arange(80) % 2, "yes", "no")
    frame = pd.DataFrame({"sequence": letters, "label": labels, "who": np.arange(80)})
    frame.loc[labels == "yes", "sequence"] += "TATAAT"
    frame[:60].to_csv(folder / "train.csv", index=False)
    frame[60:].to_csv(folder / "test.csv", index=False)
    frame[60:].drop(columns="label").to_csv(folder / "asked.csv", index=False)
    (folder / "train.fa").write_text(
        "".join(f">r{i}\n{s}\n" for i, s in enumerate(frame["sequence"][:60]))
    )
    pd.DataFrame({"id": [f"r{i}" for i in range(60)], "label": labels[:60]}).to_csv(
        folder / "labels.tsv", sep="\t", index=False
    )
    genome = "".join(letters[:40])
    (folder / "g.fa").write_text(f">one\n{genome}\n")
    (folder / "x.vcf").write_text(
        f"#CHROM\tPOS\tID\tREF\tALT\none\t11\ta\t{genome[10]}\tTT\none\t21\tb\tRR\tA\n"
    )
    options = {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 2, "random_state": 0}
    TitansClassifier(**options, progress_bar=False).fit(letters, labels).save(folder / "m")
    values = TitansRegressor(**options, progress_bar=False).fit(letters, np.arange(80.0))
    values.save(folder / "r")
    return folder


def test_classify_compares_with_words_and_writes_what_it_says(folder, tmp_path):
    output = run(
        "classify",
        *(folder / "train.csv", folder / "test.csv"),
        *("--out", tmp_path, "--save", tmp_path / "m", *TINY),
    )
    assert "60 sequences of 30 to 36 letters" in output
    assert "on 20 test sequences" in output
    assert "length" in output  # six letters more: it is said that the length tells the class
    for row in ("titans", "k-mers", "commonest class"):
        assert row in output
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert list(table) == ["row", "label", "who", "predicted", "p_no", "p_yes"]
    assert table["who"].tolist() == list(range(60, 80))
    asked = pd.read_csv(folder / "test.csv")["sequence"]
    loaded = TitansClassifier.load(tmp_path / "m")
    np.testing.assert_allclose(loaded.predict_proba(asked)[:, 1], table["p_yes"], atol=1e-5)
    np.testing.assert_array_equal(loaded.predict(asked), table["predicted"])


def test_classify_without_a_test_part_holds_one_out(folder, tmp_path):
    files = folder / "train.fa", "--labels", folder / "labels.tsv"
    output = run("classify", *files, "--tokenizer", "kmer", "--out", tmp_path, *TINY)
    assert "on 12 held-out sequences" in output
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 12


def test_classify_answers_where_there_are_no_labels(folder, tmp_path):
    output = run("classify", folder / "train.csv", folder / "asked.csv", "--out", tmp_path, *TINY)
    assert "k-mers" not in output
    assert list(pd.read_csv(tmp_path / "predictions.csv")) == [
        *("row", "who", "predicted", "p_no", "p_yes")
    ]


def test_a_classifier_begins_with_what_was_pretrained(folder, tmp_path):
    sizes = ["--d-model", 16, "--n-layers", 1, "--window", 64]
    output = run("pretrain", folder / "g.fa", "--out", tmp_path / "p", *sizes, *TINY)
    assert "2 passes" in output
    more = ["--pretrained", tmp_path / "p", "--save", tmp_path / "m", "--out", tmp_path]
    run("classify", folder / "train.csv", *more, *TINY)
    config = TitansClassifier.load(tmp_path / "m").model_.config
    assert (config.backbone.d_model, config.backbone.n_layers) == (16, 1)


def test_scan_surprise_and_variants(folder, tmp_path):
    genome, model = folder / "g.fa", ["--model", folder / "m", "--quiet"]
    out = tmp_path / "s.bed"
    output = run("scan", genome, *model, "--out", out, "--window", 40, "--stride", 20)
    scanned = TitansClassifier.load(folder / "m").scan(
        genome, window=40, stride=20, progress_bar=False
    )
    assert f"{len(scanned)} windows of g.fa" in output
    written = pd.read_csv(out, sep="\t", header=None)
    np.testing.assert_allclose(written[4], scanned["score"], rtol=1e-4)
    run("scan", genome, *model, "--out", tmp_path / "n.bed", "--window", 40, "--label", "no")
    other = pd.read_csv(tmp_path / "n.bed", sep="\t", header=None)
    np.testing.assert_allclose(other[4], 1 - scanned["score"][::2].iloc[: len(other)], rtol=1e-4)

    run("surprise", genome, *model, "--out", tmp_path / "s.bedgraph", "--bin", 300)
    track = pd.read_csv(tmp_path / "s.bedgraph", sep="\t", header=None)
    assert track[[1, 2]].to_numpy().tolist() == [[i, i + 300] for i in range(0, 1200, 300)]
    assert (track[3] > 0).all()

    asked = [genome, folder / "x.vcf", "--window", 30]
    output = run("variants", *asked, *model, "--out", tmp_path / "v.csv")
    assert "2 variants, 1 of which do not match the genome" in output
    effects = pd.read_csv(tmp_path / "v.csv")
    assert effects["ref_match"].tolist() == [True, False]
    values = ["--model", folder / "r", "--quiet", "--out", tmp_path / "w.csv"]
    run("variants", *asked, *values)  # of a regressor, too
    assert not np.allclose(pd.read_csv(tmp_path / "w.csv")["effect"][0], effects["effect"][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "asked.csv"], "the training part has no column 'label'; it has"),
        (["classify", "none.csv"], "path 'none.csv' is no file"),
        (
            ["scan", "g.fa", "--model", "m", "--window", "9", "--out", "x.bed", "--label", "maybe"],
            r"label is 'maybe'; the classes are ['no', 'yes']",
        ),
        (
            ["surprise", "g.fa", "--model", ".", "--out", "x.bed"],
            "path '.' holds no config.json; give a saved model",
        ),
    ],
)
def test_a_mistake_ends_in_one_line(folder, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["titans-ts", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"titans-ts: {message}"), error
    assert error.count("\n") == 1
