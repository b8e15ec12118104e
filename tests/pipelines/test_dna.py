"""The commands for DNA as a person uses them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from titans_ts import TitansClassifier, TitansRegressor
from titans_ts.datasets import FastaRegions
from titans_ts.pipelines.cli import app, main
from titans_ts.pipelines.memory import echo_idle_memory
from titans_ts.pipelines.options import contig_names

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
    (folder / "test.fa").write_text(
        "".join(f">r{i}\n{s}\n" for i, s in enumerate(frame["sequence"][60:], 60))
    )
    pd.DataFrame({"id": [f"r{i}" for i in range(80)], "label": labels}).to_csv(
        folder / "labels.tsv", sep="\t", index=False
    )
    genome = "".join(letters[:40])
    (folder / "g.fa").write_text(f">one\n{genome}\n")
    (folder / "five.fa").write_text(
        "".join(f">chr{i}\n{genome[200 * i :][:200]}\n" for i in range(1, 6))
    )
    places = [
        (f"{i}", j, j + 30, labels[j], 0, "+-"[j % 2]) for i in range(1, 6) for j in range(12)
    ]
    pd.DataFrame(places).to_csv(folder / "p.bed", sep="\t", index=False, header=False)
    pd.DataFrame(places[:9]).to_csv(
        folder / "asked.bed", sep="\t", index=False, header=False, columns=[0, 1, 2]
    )
    (folder / "x.vcf").write_text(
        f"#CHROM\tPOS\tID\tREF\tALT\none\t11\ta\t{genome[10]}\tTT\none\t21\tb\tRR\tA\n"
    )
    (folder / "1.vcf").write_text("#CHROM\tPOS\tID\tREF\tALT\n1\t11\ta\tA\tC\n")
    options = {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 2, "random_state": 0}
    TitansClassifier(**options, progress_bar=False).fit(letters, labels).save(folder / "m")
    values = TitansRegressor(**options, progress_bar=False).fit(letters, np.arange(80.0))
    values.save(folder / "r")
    return folder


def test_classify_compares_with_words_and_writes_what_it_says(folder, tmp_path):
    output = run(
        "classify",
        *(folder / "train.csv", folder / "test.csv"),
        *("--out", tmp_path, "--save", tmp_path / "m", "--report", tmp_path / "r.html", *TINY),
    )
    page = (tmp_path / "r.html").read_text()
    assert all(name in page for name in ("ROC curve", "Confusion matrix", "Class yes: row "))
    assert "60 training sequences of 30 to 36 letters" in output
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


@pytest.mark.parametrize("tokenizer", ["conv", "residual"])
def test_the_report_draws_the_motif_filters(folder, tmp_path, tokenizer):
    files = folder / "train.csv", folder / "test.csv"
    page = tmp_path / "r.html"
    run("classify", *files, "--tokenizer", tokenizer, "--report", page, "--out", tmp_path, *TINY)
    text = page.read_text()
    assert all(name in text for name in ("Motif filters", "Filter "))


def test_classify_without_a_test_part_holds_one_out(folder, tmp_path):
    files = folder / "train.fa", "--labels", folder / "labels.tsv"
    output = run("classify", *files, "--tokenizer", "kmer", "--out", tmp_path, *TINY)
    assert "on 12 held-out sequences" in output
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 12


def test_classify_answers_where_there_are_no_labels(folder, tmp_path):
    output = run("classify", folder / "train.csv", folder / "asked.csv", "--out", tmp_path, *TINY)
    assert "asked.csv has no labels (see --label-column, or --test-labels for FASTA)" in output
    assert "k-mers" not in output
    assert list(pd.read_csv(tmp_path / "predictions.csv")) == [
        *("row", "who", "predicted", "p_no", "p_yes")
    ]


def test_labels_of_a_test_part_of_fasta(folder, tmp_path):
    files = folder / "train.fa", folder / "test.fa", "--labels", folder / "labels.tsv"
    output = run("classify", *files, "--out", tmp_path, *TINY)
    assert "test.fa has no labels (see" in output
    assert "k-mers" not in output
    more = ["--test-labels", folder / "labels.tsv"]
    output = run("classify", *files, *more, "--out", tmp_path, *TINY)
    assert "has no labels" not in output
    assert "on 20 test sequences" in output
    assert "k-mers" in output
    told, wanted = pd.read_csv(tmp_path / "predictions.csv"), pd.read_csv(folder / "test.csv")
    assert told["label"].tolist() == wanted["label"].tolist()


def test_classify_takes_what_the_estimator_takes(folder, tmp_path):
    more = ["--max-length", 20, "--pooling", "max", "--bidirectional", "shared"]
    more += ["--kmer-model", 2, "--kmer-gaps", 1]
    where = ["--out", tmp_path, "--save", tmp_path / "m"]
    run("classify", folder / "train.csv", *more, *where, *TINY)
    loaded = TitansClassifier.load(tmp_path / "m")
    assert loaded.max_length == 20
    assert loaded.kmer_model_.vectorizer.get_params() == {
        "k": 2,
        "gaps": 1,
        "both_strands": False,
        "positions": 0,
        "merged": True,
    }
    assert loaded.model_.config.pooling == "max"
    assert loaded.model_.config.bidirectional == "shared"


def test_classify_places_in_a_genome_and_hold_out_a_chromosome(folder, tmp_path):
    genome = ["--genome", folder / "five.fa", "--rename", "*=chr*", "--label-column", "name"]
    more = ["--groups-column", "chrom", "--out", tmp_path, "--save", tmp_path / "m"]
    output = run("classify", folder / "p.bed", *genome, *more, *TINY)
    assert "on 12 held-out sequences" in output
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert list(table) == [
        *("row", "chrom", "start", "end", "label", "score", "strand", "predicted", "p_no", "p_yes")
    ]
    assert table["chrom"].nunique() == 1
    places = FastaRegions(folder / "five.fa", table.astype({"chrom": str}))  # strands, too
    told = TitansClassifier.load(tmp_path / "m").predict_proba(places)
    np.testing.assert_allclose(told[:, 1], table["p_yes"], atol=1e-5)
    output = run(
        "classify", folder / "p.bed", folder / "asked.bed", *genome, "--out", tmp_path, *TINY
    )
    assert "asked.bed has no labels" in output
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 9


def test_places_beyond_their_contig(folder, tmp_path):
    (tmp_path / "p.bed").write_text((folder / "p.bed").read_text() + "1\t190\t220\tno\t0\t+\n")
    genome = ["--genome", folder / "five.fa", "--rename", "*=chr*", "--label-column", "name"]
    for outside, n in (("pad", 61), ("drop", 60)):
        more = ["--outside", outside, "--out", tmp_path, "--max-epochs", 1, "--quiet"]
        output = run("classify", tmp_path / "p.bed", tmp_path / "p.bed", *genome, *more)
        assert f"{n} training sequences of 30 to 30 letters" in output


def test_a_classifier_begins_with_what_was_pretrained(folder, tmp_path):
    sizes = ["--d-model", 16, "--n-layers", 1, "--window", 64]
    output = run("pretrain", folder / "g.fa", "--out", tmp_path / "p", *sizes, *TINY)
    assert "2 epochs" in output
    more = ["--pretrained", tmp_path / "p", "--save", tmp_path / "m", "--out", tmp_path]
    run("classify", folder / "train.csv", *more, *TINY)
    config = TitansClassifier.load(tmp_path / "m").model_.config
    assert (config.backbone.d_model, config.backbone.n_layers) == (16, 1)


def test_a_classifier_begins_with_the_model_of_the_package(folder, tmp_path):
    more = ["--pretrained", "dna-small", "--save", tmp_path / "m", "--out", tmp_path]
    run("classify", folder / "train.csv", *more, *TINY)
    config = TitansClassifier.load(tmp_path / "m").model_.config
    assert (config.backbone.variant, config.backbone.d_model) == ("lmm", 64)


def test_results_as_json(folder, tmp_path):
    def read(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments] + ["--json"])
        assert result.exit_code == 0, (result.output, result.exception)
        content = json.loads(result.stdout)  # nothing else is printed there
        assert all(Path(path).exists() for path in content["files"])
        return content

    genome, model = folder / "g.fa", ["--model", folder / "m", "--quiet"]
    out = tmp_path / "s.bed"
    content = read("scan", genome, *model, "--out", out, "--window", 40, "--stride", 20)
    written = pd.read_csv(out, sep="\t", header=None)
    assert content["windows"] == len(written)
    assert content["best"][0]["score"] == pytest.approx(written[4].max(), rel=1e-4)
    options = (folder / "x.vcf", "--window", 30, "--out", tmp_path / "v.csv")
    content = read("variants", genome, *options, *model)
    assert (content["variants"], content["mismatches"], content["outside"]) == (2, 1, 0)
    assert read("surprise", genome, *model, "--out", tmp_path / "s.bedgraph")["bins"] == 2
    small = ["--max-epochs", 1, "--preset", "fast", "--quiet", "--out", tmp_path]
    page = ["--report", tmp_path / "page.html"]
    content = read("classify", folder / "train.csv", folder / "test.csv", *small, *page)
    assert [row["model"] for row in content["scores"]] == ["titans", "k-mers", "commonest class"]
    assert content["sequences"] == 20
    assert str(tmp_path / "page.html") in content["files"]
    predicted = pd.read_csv(tmp_path / "predictions.csv")
    accuracy = (predicted["predicted"] == predicted["label"]).mean()
    assert content["scores"][0]["accuracy"] == pytest.approx(accuracy)


def test_scan_surprise_and_variants(folder, tmp_path):
    genome, model = folder / "g.fa", ["--model", folder / "m", "--quiet"]
    out = tmp_path / "s.bed"
    page = ["--report", tmp_path / "page.html"]
    output = run("scan", genome, *model, "--out", out, "--window", 40, "--stride", 20, *page)
    assert "The 50 highest scores" in page[1].read_text()
    scanned = TitansClassifier.load(folder / "m").scan(
        genome, window=40, stride=20, progress_bar=False
    )
    assert f"{len(scanned)} windows of g.fa" in output
    written = pd.read_csv(out, sep="\t", header=None)
    np.testing.assert_allclose(written[4], scanned["score"], rtol=1e-4)
    run("scan", genome, *model, "--out", tmp_path / "n.bed", "--window", 40, "--label", "no")
    other = pd.read_csv(tmp_path / "n.bed", sep="\t", header=None)
    np.testing.assert_allclose(other[4], 1 - scanned["score"][::2].iloc[: len(other)], rtol=1e-4)

    run("surprise", genome, *model, "--out", tmp_path / "s.bedgraph", "--bin", 300, *page)
    assert "Surprise along a genome" in page[1].read_text()
    track = pd.read_csv(tmp_path / "s.bedgraph", sep="\t", header=None)
    assert track[[1, 2]].to_numpy().tolist() == [[i, i + 300] for i in range(0, 1200, 300)]
    assert (track[3] > 0).all()

    asked = [genome, folder / "x.vcf", "--window", 30]
    output = run("variants", *asked, *model, "--out", tmp_path / "v.csv", *page)
    assert "The genome has another reference at 1 of them." in page[1].read_text()
    assert "2 variants, 1 of which do not match the genome" in output
    effects = pd.read_csv(tmp_path / "v.csv")
    assert effects["ref_match"].tolist() == [True, False]
    values = ["--model", folder / "r", "--quiet", "--out", tmp_path / "w.csv"]
    run("variants", *asked, *values)  # of a regressor, too
    assert not np.allclose(pd.read_csv(tmp_path / "w.csv")["effect"][0], effects["effect"][0])


def test_memory_reports_on_a_saved_classifier(folder, tmp_path):
    arguments = ["memory", folder / "test.csv", "--model", folder / "m"]
    output = run(*arguments, "--plot", tmp_path / "memory.png", "--report", tmp_path / "m.html")
    assert "momentum" in (tmp_path / "m.html").read_text()
    assert "Memory of a TitansClassifier with" in output
    assert "log loss" in output
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
    output = run("memory", folder / "asked.csv", "--model", folder / "m")  # without labels
    assert "log loss" not in output
    assert "with its write off the outputs change by" in output


def test_the_summary_of_a_fit_names_an_idle_memory(capsys):
    for change, line in ((0.004, "The memory is idle: with its write off the outputs"), (0.4, "")):
        fitted = SimpleNamespace(history_=[{"memory_change": change}], progress_bar=False)
        echo_idle_memory(fitted)
        printed = capsys.readouterr().err.strip()
        assert printed.startswith(line)
        assert bool(printed) is bool(line)
        fitted.progress_bar = True  # which has said so
        echo_idle_memory(fitted)
        assert not capsys.readouterr().err


def test_contigs_that_are_not_there_and_letters_that_are_none(folder, tmp_path):
    genome, model = folder / "g.fa", ["--model", folder / "m", "--quiet", "--window", 30]
    vcf = tmp_path / "more.vcf"
    vcf.write_text((folder / "x.vcf").read_text() + "chrUn\t5\t.\tA\tC\n")
    out = ["--out", tmp_path / "v.csv"]
    output = run("variants", genome, vcf, *model, *out, "--outside", "drop")
    assert (
        "2 variants, 1 of which do not match the genome; 1 on contigs that are not in g.fa"
        in output
    )
    assert len(pd.read_csv(tmp_path / "v.csv")) == 2
    odd = tmp_path / "odd.fa"
    odd.write_text(genome.read_text().replace("A", "*", 40))
    for command in (["scan", odd], ["variants", odd, folder / "x.vcf"]):
        run(*command, *model, "--out", tmp_path / "x.bed", "--pad-invalid")
    run("surprise", odd, *model[:3], "--out", tmp_path / "x.bed", "--pad-invalid")


def test_labels_are_text_where_one_part_has_text(folder, tmp_path):
    train = pd.read_csv(folder / "train.csv")
    train["label"] = (train["label"] == "yes").astype(int)
    train.to_csv(tmp_path / "train.csv", index=False)
    test = train.iloc[:6].astype({"label": object})
    test.iloc[0, list(test.columns).index("label")] = "?"
    test.to_csv(tmp_path / "test.csv", index=False)
    more = ["--out", tmp_path, "--save", tmp_path / "m"]
    output = run("classify", tmp_path / "train.csv", tmp_path / "test.csv", *more, *TINY)
    assert "no model can learn them" in output
    assert TitansClassifier.load(tmp_path / "m").classes_.tolist() == ["0", "1"]
    train["label"] = train["label"].astype(float)  # 0.0, as a column with a gap is read
    train.to_csv(tmp_path / "train.csv", index=False)
    run("classify", tmp_path / "train.csv", tmp_path / "test.csv", *more, *TINY)
    assert TitansClassifier.load(tmp_path / "m").classes_.tolist() == ["0", "1"]
    test["label"] = "yes"
    test.to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(AssertionError, match="and text in the other; use the same kind"):
        run("classify", tmp_path / "train.csv", tmp_path / "test.csv", *more, *TINY)


def test_what_is_fitted_is_saved_before_it_is_compared(folder, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise MemoryError("words of too many sequences")

    monkeypatch.setattr("titans_ts.pipelines.classify.kmer_classifier", broken)
    save = tmp_path / "m"
    with pytest.raises(AssertionError, match="words of too many sequences"):
        run("classify", folder / "train.csv", "--save", save, "--out", tmp_path, *TINY)
    assert TitansClassifier.load(save).classes_.tolist() == ["no", "yes"]


def test_groups_that_are_too_few_to_hold_some_out(folder, tmp_path):
    train = pd.read_csv(folder / "train.csv").assign(chrom=lambda t: np.resize(["a", "b"], len(t)))
    train.to_csv(tmp_path / "train.csv", index=False)
    more = ["--groups-column", "chrom", "--out", tmp_path, *TINY]
    with pytest.raises(AssertionError, match="column 'chrom' has 2 groups, but 3 are needed: for"):
        run("classify", tmp_path / "train.csv", *more)
    train.loc[4, "chrom"] = None
    train.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(AssertionError, match="row 4 of the training part has no group in .*chrom"):
        run("classify", tmp_path / "train.csv", *more)


def test_contigs_of_other_names_and_some_of_them(folder, tmp_path):
    genome, model = folder / "g.fa", ["--model", folder / "m", "--quiet", "--window", 30]
    found = run("variants", genome, folder / "x.vcf", *model, "--out", tmp_path / "v.csv")
    (tmp_path / "1.vcf").write_text((folder / "x.vcf").read_text().replace("one", "1"))
    more = ["--rename", "2=two", "--rename", "1=one", "--out", tmp_path / "w.csv"]
    again = run("variants", genome, tmp_path / "1.vcf", *model, *more)
    assert again.split("\n")[0] == found.split("\n")[0]
    wanted, renamed = pd.read_csv(tmp_path / "v.csv"), pd.read_csv(tmp_path / "w.csv")
    assert renamed["chrom"].tolist() == [1, 1]  # as the variants have it
    pd.testing.assert_frame_equal(renamed.drop(columns="chrom"), wanted.drop(columns="chrom"))

    some = ["--contigs", "chr4", "--contigs", "chr2", "--out", tmp_path / "s.bed"]
    run("scan", folder / "five.fa", *model, *some)
    assert set(pd.read_csv(tmp_path / "s.bed", sep="\t", header=None)[0]) == {"chr2", "chr4"}


def test_surprisal_of_the_nucleotides_of_a_genome(folder, tmp_path):
    sizes = ["--window", 64, "--d-model", 16, "--n-layers", 1, "--no-position"]
    run("pretrain", folder / "five.fa", "--out", tmp_path / "p", *sizes, *TINY)
    model = ["--model", tmp_path / "p", "--bin", 50, "--contigs", "chr2", "--quiet"]
    out = ["--out", tmp_path / "s.bedgraph"]
    output = run("surprisal", folder / "five.fa", *model, *out)
    assert "bins of five.fa" in output
    track = pd.read_csv(tmp_path / "s.bedgraph", sep="\t", header=None)
    assert set(track[0]) == {"chr2"}
    assert track[3].between(0.5, 3).all()  # nats
    with pytest.raises(AssertionError, match="is a LanguageModel; give a saved TitansClassifier"):
        run("surprise", folder / "five.fa", *model, *out)
    with pytest.raises(AssertionError, match="is a TitansClassifier; give a model that"):
        run("surprisal", folder / "five.fa", "--model", folder / "m", *out)


def test_rename_says_how_contigs_are_called():
    assert contig_names(None) is None
    assert contig_names([]) is None
    name = contig_names(["MT=chrM", "HLA-A*01=x", "chrUn_*=*", "v*=z", "*=chr*"])
    assert name is not None
    for contig, called in {
        "MT": "chrM",
        "HLA-A*01": "x",
        "chrUn_3": "3",
        "v1": "z",
        "1": "chr1",
        "a.b": "chra.b",
    }.items():
        assert name(contig) == called
    only = contig_names(["a.b=1"])
    assert only is not None
    assert (only("a.b"), only("axb")) == ("1", "axb")
    for wrong in ("1", "=1", "1=", "*-*=1", "1=**"):
        with pytest.raises(ValueError, match=r"rename is '.*'; give FROM=TO, such as '1=chr1'"):
            contig_names([wrong])
    with pytest.raises(ValueError, match="rename is '1=b', but '1' is renamed twice"):
        contig_names(["1=a", "1=b"])


BED = ["--genome", "five.fa", "--label-column", "name"]
ASK = ["--model", "m", "--window", "9", "--out", "x.bed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["variants", "five.fa", "1.vcf", *ASK],
            "contig '1' is not in five.fa, which has 'chr1'; rename the contigs",
        ),
        (["variants", "five.fa", "1.vcf", *ASK, "--rename", "1"], "rename is '1'; give FROM=TO,"),
        (
            ["scan", "five.fa", *ASK, "--contigs", "2"],
            "contig '2' is not in five.fa, which has 'chr2'",
        ),
        (["classify", "p.bed", *BED], "contig '1' is not in five.fa, which has 'chr1'; rename the"),
        (
            ["classify", "p.bed"],
            "p.bed holds regions; give genome, the FASTA file of their letters",
        ),
        (
            ["classify", "p.bed", "--genome", "five.fa", "--rename", "*=chr*"],
            "the training part has no column 'label'; it has ['chrom', 'start', 'end', 'name',",
        ),
        (
            ["classify", "train.fa", "--labels", "labels.tsv", "--test-labels", "labels.tsv"],
            "test-labels is 'labels.tsv', but there is no TEST; give one",
        ),
        (
            ["classify", "train.csv", "--pooling", "most", "--quiet"],
            "pooling is 'most'; choose one of ['attention', 'flatten', 'last', 'max', 'mean']",
        ),
        (["classify", "asked.csv"], "the training part has no column 'label'; it has"),
        (["classify", "none.csv"], "path 'none.csv' is not a file"),
        (
            ["scan", "g.fa", "--model", "m", "--window", "9", "--out", "x.bed", "--label", "maybe"],
            r"label is 'maybe'; choose one of ['no', 'yes']",
        ),
        (
            ["surprise", "g.fa", "--model", ".", "--out", "x.bed"],
            "path '.' has no config.json; give a saved model",
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
    *notes, mistake = error.splitlines()
    assert mistake.startswith(f"titans-ts: {message}"), error
    assert all(line.endswith(" letters") for line in notes)  # what was read
