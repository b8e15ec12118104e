"""The tasks of GenomicBenchmarks: what is known of them, and their sequences from lists and genomes."""

from __future__ import annotations

import os
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_ts.datasets import (
    GENOMIC_BENCHMARKS,
    Genome,
    build_genomic_benchmark,
    reverse_complement,
)

TOTALS = {  # Gresova et al. 2023
    "demo_coding_vs_intergenomic_seqs": 100_000,
    "demo_human_or_worm": 100_000,
    "drosophila_enhancers_stark": 6_914,
    "dummy_mouse_enhancers_ensembl": 1_210,
    "human_enhancers_cohn": 27_791,
    "human_enhancers_ensembl": 154_842,
    "human_ensembl_regulatory": 289_061,
    "human_nontata_promoters": 36_131,
    "human_ocr_ensembl": 174_756,
}
COLUMNS = ["id", "region", "start", "end", "strand"]
PLACES = {  # of one genome, as upstream writes them
    ("test", "positive"): [(7, "chr1", 3, 9, "-")],
    ("test", "negative"): [(3, "chrX", 0, 5, "+")],
    ("train", "positive"): [(1, "chrX", 10, 14, "-"), (0, "chr1", 2, 8, "+")],
    ("train", "negative"): [(2, "chr1", 20, 25, "+"), (5, "chrX", 1, 3, "-")],
}
GENOME = {"1": "ACGTTGCANNacgtacgattCCGTA", "X": "GATTACAGATTACA"}
ORDER = ("train negative", "train positive", "test negative", "test positive")


@pytest.fixture
def fasta(tmp_path):
    pytest.importorskip("pyfaidx")
    return write(tmp_path / "small.fa", GENOME)


def write(path, contigs):
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in contigs.items()))
    return path


def write_lists(folder, places):
    for (split, label), rows in places.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame(rows, columns=COLUMNS)
        frame.to_csv(folder / split / f"{label}.csv.gz", index=False)
    return folder


def write_parquet(path, name, places):
    pytest.importorskip("pyarrow")
    frames = [
        pd.DataFrame(rows, columns=COLUMNS).assign(dataset=task, split=split, label=label)
        for task in (name, "another")
        for (split, label), rows in places.items()
    ]
    frame = pd.concat(frames).astype({"start": "int32", "end": "int32", "id": str})
    kinds = dict.fromkeys(("dataset", "split", "label", "region", "strand"), "category")
    frame.astype(kinds).to_parquet(path)
    return path


def real_data():
    home = os.environ.get("TITANS_TS_DATA")
    if home is None:
        pytest.skip("TITANS_TS_DATA names no folder of real data")
    return Path(home) / "genomics"


def without_chr(name):
    return name.removeprefix("chr")


def expected(places, genomes):
    """Rows by slicing strings; `genomes` are those of each class."""
    rows = []
    for split, label in map(str.split, ORDER):
        for _, region, start, end, strand in places[split, label]:
            sequence = genomes[label][without_chr(region)][start:end].upper()
            rows.append([reverse_complement(sequence) if strand == "-" else sequence, label, split])
    return rows


def test_the_registry_holds_what_was_published():
    assert {name: task.count for name, task in GENOMIC_BENCHMARKS.items()} == TOTALS
    for name, task in GENOMIC_BENCHMARKS.items():
        assert task.name == name
        assert list(task.classes) == sorted(set(task.classes))
        each = (task.assemblies, task.releases, task.train, task.test)
        assert {len(values) for values in each} == {len(task.classes)}
        assert task.note.endswith(".")
        with pytest.raises(FrozenInstanceError):
            task.note = ""
    several = {n for n, t in GENOMIC_BENCHMARKS.items() if len(set(t.references.values())) > 1}
    assert several == {"demo_coding_vs_intergenomic_seqs", "demo_human_or_worm"}
    assert GENOMIC_BENCHMARKS["demo_human_or_worm"].references == {
        "human": "GRCh38, Ensembl 97",
        "worm": "WBcel235, Ensembl 104",
    }


@pytest.mark.parametrize("as_object", [False, True])
def test_sequences_are_what_stands_there(tmp_path, fasta, as_object):
    name = "human_enhancers_cohn"
    genome = Genome(fasta, in_memory=True) if as_object else str(fasta)
    wanted = expected(PLACES, dict.fromkeys(("negative", "positive"), GENOME))
    for intervals in (
        write_lists(tmp_path / name, PLACES),
        write_parquet(tmp_path / "lists.parquet", name, PLACES),
    ):
        frame = build_genomic_benchmark(name, genome, intervals, rename=without_chr, check=False)
        assert list(frame) == ["sequence", "label", "split"]
        assert frame.to_numpy().tolist() == wanted
        assert list(frame.index) == list(range(6))
    assert wanted[0] == ["CCGTA", "negative", "train"]
    assert wanted[-1] == ["NTGCAA", "positive", "test"]
    codes = np.unique(frame["label"], return_inverse=True)[1]
    assert codes.tolist() == [0, 0, 1, 1, 0, 1]  # the codes of the upstream package


def test_two_genomes_of_which_one_has_an_x_of_its_own(tmp_path, fasta):
    name = "demo_human_or_worm"
    worm = {"I": "TTTTTTTTCC", "X": "CCCCGGGGGG"}
    places = {
        (split, label): [(0, region, 4, 10, "-"), (1, region, 0, 6, "+")]
        for split in ("train", "test")
        for label, region in (("human", "chrX"), ("worm", "X"))
    }
    lists = write_lists(tmp_path / name, places)
    genome = {"worm": write(tmp_path / "worm.fa", worm), "human": fasta}
    frame = build_genomic_benchmark(name, genome, lists, rename={"chrX": "X"}, check=False)
    assert frame["sequence"].tolist() == ["ATCTGT", "GATTAC", "CCCCCC", "CCCCGG"] * 2
    assert frame["label"].tolist() == ["human", "human", "worm", "worm"] * 2
    with pytest.raises(
        ValueError, match="genome is one file, but demo_human_or_worm needs one for"
    ):
        build_genomic_benchmark(name, fasta, lists, check=False)
    with pytest.raises(
        ValueError, match=r"genome has the classes \['human'\]; .*'worm': 'WBcel235"
    ):
        build_genomic_benchmark(name, {"human": fasta}, lists, check=False)


def test_transcripts_are_found_whatever_their_version(tmp_path, fasta):
    name = "demo_coding_vs_intergenomic_seqs"
    transcripts = write(tmp_path / "cdna.fa", {"ENST01.7": "AACCGGTT", "ENST02.1": "GGGGCCCC"})
    places = {
        (split, label): rows
        for split in ("train", "test")
        for label, rows in (
            ("coding_seqs", [(0, "ENST02", 2, 6, "+"), (1, "ENST01", 0, 4, "+")]),
            ("intergenomic_seqs", [(0, "chr1", 0, 4, "+")]),
        )
    }
    lists = write_lists(tmp_path / name, places)
    genome = {"coding_seqs": transcripts, "intergenomic_seqs": fasta}
    frame = build_genomic_benchmark(name, genome, lists, rename=without_chr, check=False)
    assert frame["sequence"].tolist() == ["GGCC", "AACC", "ACGT"] * 2
    genome["coding_seqs"] = fasta
    with pytest.raises(KeyError, match="contig='ENST02' is not known"):
        build_genomic_benchmark(name, genome, lists, check=False)


def test_contigs_named_otherwise_are_explained(tmp_path, fasta):
    lists = write_lists(tmp_path / "lists", PLACES)
    with pytest.raises(
        KeyError, match="contig 'chr1' is not in small.fa, which has '1'; rename the contigs"
    ):
        build_genomic_benchmark("human_enhancers_cohn", fasta, lists, check=False)


def test_counts_are_checked(tmp_path, fasta):
    name = "dummy_mouse_enhancers_ensembl"
    many = {key: rows[:1] * (484 if key[0] == "train" else 121) for key, rows in PLACES.items()}
    lists = write_lists(tmp_path / "whole", many)
    frame = build_genomic_benchmark(name, fasta, lists, rename=without_chr)
    assert len(frame) == 1210
    many["test", "positive"].pop()
    lists = write_lists(tmp_path / "part", many)
    with pytest.raises(
        ValueError,
        match="part has 120 intervals of dummy.*, test, 'positive', but 121 were publi",
    ):
        build_genomic_benchmark(name, fasta, lists, rename=without_chr)
    frame = build_genomic_benchmark(name, fasta, lists, rename=without_chr, check=False)
    assert len(frame) == 1209
    # another task's lists, of the same classes
    with pytest.raises(ValueError, match=r"but 10422 were published \(3 more lists differ\)"):
        build_genomic_benchmark("human_enhancers_cohn", fasta, lists)


def test_a_part_alone(tmp_path, fasta):
    test = {key: rows for key, rows in PLACES.items() if key[0] == "test"}
    parquet = write_parquet(tmp_path / "test.parquet", "human_enhancers_cohn", test)
    frame = build_genomic_benchmark(
        "human_enhancers_cohn", fasta, parquet, rename=without_chr, check=False
    )
    assert frame["sequence"].tolist() == ["GATTA", "NTGCAA"]
    with pytest.raises(ValueError, match="test.parquet' have none of human_ocr_ensembl; give its"):
        build_genomic_benchmark("human_ocr_ensembl", fasta, parquet)


def test_what_is_no_list(tmp_path, fasta):
    def build(name, intervals):
        return build_genomic_benchmark(name, fasta, intervals)

    with pytest.raises(ValueError, match="did you mean 'human_enhancers_cohn'"):
        build("human_enhancer_cohn", tmp_path)
    with pytest.raises(FileNotFoundError, match="is neither a folder nor a file; give the folder"):
        build("human_enhancers_cohn", tmp_path / "absent")
    lists = write_lists(tmp_path / "datasets" / "human_enhancers_cohn", PLACES)
    with pytest.raises(FileNotFoundError, match="give the folder of one task"):
        build("human_enhancers_cohn", lists.parent)
    with pytest.raises(ValueError, match=r"intervals is 'negative.csv.gz'; give a folder"):
        build("human_enhancers_cohn", lists / "train" / "negative.csv.gz")
    pd.DataFrame({"region": ["1"], "start": [0]}).to_csv(lists / "train" / "negative.csv.gz")
    with pytest.raises(ValueError, match=r"negative.csv.gz lacks the columns \['end', 'strand'\]"):
        build("human_enhancers_cohn", lists)


def test_the_official_intervals_are_as_many_as_published(tmp_path, fasta):
    pytest.importorskip("pyarrow")
    path = real_data() / "genomicbenchmarks" / "official_intervals_6tasks.parquet"
    frame = pd.read_parquet(path)
    counts = frame.groupby(["dataset", "split", "label"], observed=True).size()
    assert frame["dataset"].nunique() == 6
    for name, task in GENOMIC_BENCHMARKS.items():
        if name in set(frame["dataset"]):
            assert counts[name, "train"][list(task.classes)].tolist() == list(task.train)
            assert counts[name, "test"][list(task.classes)].tolist() == list(task.test)
            # the counts are right: what is wrong is the genome
            genome = dict.fromkeys(task.classes, fasta)
            with pytest.raises(KeyError, match="small.fa"):
                build_genomic_benchmark(name, genome, path)
        else:
            with pytest.raises(ValueError, match="have none of"):
                build_genomic_benchmark(name, fasta, path)


@pytest.mark.parametrize("name", ["human_enhancers_cohn", "human_nontata_promoters"])
def test_the_official_intervals_give_the_published_sequences(tmp_path, name):
    """Those in a slice of chromosome 22, from 32,000,000 on, are among the published sequences."""
    pytest.importorskip("pyfaidx")
    pytest.importorskip("pyarrow")
    folder = real_data()
    frame = pd.read_parquet(folder / "genomicbenchmarks" / "official_intervals_6tasks.parquet")
    frame[["start", "end"]] -= 32_000_000
    frame = frame[(frame["region"] == "chr22") & (frame["start"] >= 0) & (frame["end"] <= 300_000)]
    frame.to_parquet(tmp_path / "slice.parquet")
    built = build_genomic_benchmark(
        name,
        folder / "genomes" / "hg38_chr22_32.0-32.3Mb.fa.gz",
        tmp_path / "slice.parquet",
        check=False,
    )
    built = built[built["split"] == "test"]
    published = pd.read_csv(folder / "genomicbenchmarks" / f"{name}.testonly.csv.gz")
    code = {label: i for i, label in enumerate(GENOMIC_BENCHMARKS[name].classes)}
    assert len(built) == 1
    both = built.assign(code=built["label"].map(code)).merge(published, on="sequence")
    assert (both["code"] == both["label_y"]).tolist() == [True]
