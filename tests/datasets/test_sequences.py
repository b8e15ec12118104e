"""Labelled sequences from tables and FASTA files."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from titans_ts.datasets import Genome, read_regions, read_sequences, read_variants

TABLE = "sequence,label,split\nACGT,NA,train\nNA,yes,test\nggtn,no,test\n"
RECORDS = ">one some words\nACG\nTT\n\n>two\nttN\n"


@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv", "parquet"])
def test_tables_of_every_kind(form, tmp_path):
    path = tmp_path / f"t.{form}"
    text = TABLE.replace(",", "\t") if form == "tsv" else TABLE
    if form == "parquet":
        pytest.importorskip("pyarrow")
        rows = [line.split(",") for line in TABLE.split()]
        pd.DataFrame(rows[1:], columns=rows[0]).to_parquet(path)
    else:
        path.write_bytes(gzip.compress(text.encode()) if form.endswith("gz") else text.encode())
    frame = read_sequences(path)
    assert frame["sequence"].tolist() == ["ACGT", "NA", "ggtn"]  # N, A: no missing value
    assert frame["label"].tolist() == ["NA", "yes", "no"]
    assert frame["split"].tolist() == ["train", "test", "test"]


def test_the_column_that_is_named_wins(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sequence,label,seq,kind\nA,1,CC,2\n")
    frame = read_sequences(path, sequence_column="seq", label_column="kind")
    assert frame[["sequence", "label"]].to_numpy().tolist() == [["CC", 2]]
    assert list(frame).count("label") == 1
    path.write_text("sequence,label\nACGT,1\n,0\n")
    (tmp_path / "r.fa").write_text(">one\nACGT\n>two\n")
    with pytest.raises(ValueError, match="r.fa has an empty sequence in row 1"):
        read_sequences(tmp_path / "r.fa")
    assert len(read_sequences(tmp_path / "r.fa", invalid="drop")) == 1


def test_columns_of_other_names(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("dna,class\nACGT,1\n")
    frame = read_sequences(path, sequence_column="dna", label_column="class")
    assert frame[["sequence", "label"]].to_numpy().tolist() == [["ACGT", 1]]
    with pytest.raises(ValueError, match="sequence_column='sequence' is not known"):
        read_sequences(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_record_is_a_sequence(compressed, tmp_path):
    path = tmp_path / ("r.fa.gz" if compressed else "r.fasta")
    content = RECORDS.encode()
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert read_sequences(path).to_numpy().tolist() == [["one", "ACGTT"], ["two", "ttN"]]
    labels = tmp_path / "labels.tsv"
    labels.write_text("id\tlabel\tlength\ntwo\tno\t3\none\tyes\t5\n")
    frame = read_sequences(path, labels=labels)
    assert frame["label"].tolist() == ["yes", "no"]
    assert frame["length"].tolist() == [5, 3]
    labels.write_text("id\tlabel\ntwo\tno\n")
    with pytest.raises(ValueError, match=r"labels.tsv has no label for 'one' \(and 0 more\)"):
        read_sequences(path, labels=labels)
    labels.write_text("id\tlabel\ntwo\tno\ntwo\tyes\none\tno\n")
    with pytest.raises(ValueError, match="labels.tsv has 'two' more than once"):
        read_sequences(path, labels=labels)
    labels.write_text("name\tlabel\ntwo\tno\n")
    with pytest.raises(ValueError, match="column='id' is not known"):
        read_sequences(path, labels=labels)


def test_letters_outside_iupac(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sequence,label\nAC*T,1\nACGU,0\nJ,1\n")
    with pytest.raises(ValueError, match=r"t.csv has '\*' at position 2 of row 0 .* in 1 more"):
        read_sequences(path)
    assert read_sequences(path, invalid="pad")["sequence"].tolist() == ["AC-T", "ACGU", "-"]
    assert read_sequences(path, invalid="drop").index.tolist() == [1]
    path.write_text("sequence\nJ\n")
    with pytest.raises(ValueError, match="no sequence with only IUPAC letters"):
        read_sequences(path, invalid="drop")


@pytest.fixture
def genome(tmp_path):
    pytest.importorskip("pyfaidx")
    path = tmp_path / "g.fa"
    path.write_text(">chr1\nACGTAAGGCC\n>chr2\nTT*TT\n")
    return path


BED = "chr1\t1\t5\tyes\t0\t-\nchr1\t4\t7\tno\t1\t+\nchr1\t8\t12\tno\t1\t-\n"


def test_a_place_in_a_genome_is_a_sequence(genome, tmp_path):
    path = tmp_path / "p.bed.gz"
    path.write_bytes(gzip.compress(BED.encode()))
    frame = read_sequences(path, genome=genome, label_column="name", outside="pad")
    assert frame["sequence"].tolist() == ["TACG", "AAG", "--GG"]  # "-": reverse complement
    assert frame["label"].tolist() == ["yes", "no", "no"]
    assert frame["chrom"].tolist() == ["chr1"] * 3
    assert "name" not in frame
    frame = read_sequences(path, genome=Genome(genome), label_column="score", outside="drop")
    assert frame["label"].tolist() == ["0", "1"]
    assert frame.index.tolist() == [0, 1]
    assert "label" not in read_sequences(path, genome=genome, outside="drop")
    assert read_sequences(genome, genome=genome, invalid="pad")["id"].tolist() == ["chr1", "chr2"]
    path = tmp_path / "p.gff"  # counts from 1, ends included
    path.write_text("1\tx\texon\t2\t4\t.\t-\t.\tID=a\n1\tx\tgene\t5\t10\t.\t+\t.\tID=b\n")
    frame = read_sequences(path, genome=genome, label_column="feature", rename={"1": "chr1"})
    assert frame[["sequence", "label"]].to_numpy().tolist() == [["ACG", "exon"], ["AAGGCC", "gene"]]


def test_places_that_cannot_be_used(genome, tmp_path):
    path = tmp_path / "p.bed"
    path.write_text(BED)
    with pytest.raises(ValueError, match=r"p.bed holds regions; give genome, the FASTA file"):
        read_sequences(path)
    with pytest.raises(ValueError, match=r"labels are for FASTA; for p.bed, give the column"):
        read_sequences(path, genome=genome, labels="x.tsv")
    with pytest.raises(ValueError, match=r"region 2, chr1:8-12 \(-\), reaches beyond its contig"):
        read_sequences(path, genome=genome)
    with pytest.raises(ValueError, match=r"outside is 'cut'; choose one of"):
        read_sequences(path, genome=genome, outside="cut")
    path.write_text("1\t0\t4\n")
    with pytest.raises(KeyError, match=r"contig '1' is not in g.fa, which has 'chr1'; rename"):
        read_sequences(path, genome=genome)
    path.write_text("chr2\t0\t4\n")
    with pytest.raises(ValueError, match=r"p.bed has '\*' at position 2 of row 0"):
        read_sequences(path, genome=genome)
    assert read_sequences(path, genome=genome, invalid="pad")["sequence"].tolist() == ["TT-T"]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("t.csv", "sequence\n", {}, "t.csv has no sequence; give at least one"),
        ("t.csv", "sequence,label\n,1\n", {}, "t.csv has no sequence; give at least one"),
        ("t.csv", TABLE, {"labels": "x"}, "labels are for FASTA"),
        ("t.csv", TABLE, {"invalid": "n"}, "invalid is 'n'; choose one of"),
        ("r.fa", "ACGT\n", {}, "r.fa begins with 'ACGT'; give FASTA"),
        ("r.fa", "", {}, "r.fa has no sequence"),
    ],
)
def test_files_that_cannot_be_used(name, content, options, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_sequences(tmp_path / name, **options)
    with pytest.raises(FileNotFoundError, match="is not a file; give a table or a FASTA file"):
        read_sequences(tmp_path / "other.csv")


def test_an_empty_cell_is_dropped_as_an_empty_record_is(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sequence,label\nACGT,1\n,0\nAC*T,1\n")
    assert read_sequences(path, invalid="drop").index.tolist() == [0]
    path.write_text("sequence,label\n,1\n,0\n")
    for invalid in ("error", "pad", "drop"):
        with pytest.raises(ValueError, match="t.csv has no sequence; give at least one"):
            read_sequences(path, invalid=invalid)


def test_names_of_records_are_no_numbers(tmp_path):
    records, table = tmp_path / "r.fa", tmp_path / "r.csv"
    records.write_text("; a comment\n>001\nACGT\n>1\nTTTT\n")
    table.write_text("id,label,sequence\n001,a,x\n1,b,y\n")
    frame = read_sequences(records, labels=table)
    assert frame[["id", "label", "sequence"]].to_numpy().tolist() == [
        ["001", "a", "ACGT"],
        ["1", "b", "TTTT"],
    ]


@pytest.mark.parametrize("name", ["t.csv", "r.fa", "p.bed", "v.vcf"])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("compressed", [False, True])
def test_text_is_what_it_is_whatever_the_name_says(tmp_path, name, ending, compressed):
    text = {
        "t.csv": "sequence\nACGT\n",
        "r.fa": ">one\nACGT\n",
        "p.bed": "one\t0\t4\n",
        "v.vcf": "one\t1\t.\tA\tC\n",
    }[name]
    read = {"p.bed": read_regions, "v.vcf": read_variants}.get(name, read_sequences)
    path = tmp_path / (name + ending)

    def save(content):
        path.write_bytes(gzip.compress(content) if compressed else content)

    save(text.encode("utf-8-sig"))  # with a byte-order mark
    first = read(path).iloc[0]
    assert first.get("sequence", first.get("chrom")) in ("ACGT", "one")
    save(text.encode() + b"\xff\n")
    with pytest.raises(ValueError, match=f"{name}{ending} is not in UTF-8"):
        read(path)
    if compressed:
        path.write_bytes(gzip.compress(text.encode() * 100)[:-9])
        with pytest.raises(ValueError, match=f"{name}{ending} is truncated"):
            read(path)
        path.write_bytes(gzip.compress(text.encode())[:-8] + bytes(8))
        with pytest.raises(ValueError, match=f"{name}{ending} is damaged"):
            read(path)


@pytest.mark.parametrize("content", ["", 'sequence,label\nACGT,"x\n'])
def test_a_table_that_cannot_be_parsed_is_named(tmp_path, content):
    path = tmp_path / "reads.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"reads.csv cannot be read as a table \(.*save it as CSV"):
        read_sequences(path)


def test_labels_keep_their_digits(tmp_path):
    path = tmp_path / "reads.csv"
    path.write_text("sequence,label\nACGT,0.0000000000000008414709848078966\nAC,0.5\n")
    assert read_sequences(path)["label"].tolist() == [8.414709848078966e-16, 0.5]
