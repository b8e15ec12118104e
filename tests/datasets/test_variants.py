"""Variants of a VCF file, an allele a row."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_ts.datasets import Genome, normalise_variants, read_variants

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
RECORDS = (
    "chr1\t3\trs1\tA\tG\t.\tPASS\tX=1\n"
    "chr1\t4\t.\tc\tT,<DEL>,n\t.\t.\t.\n"
    "chr1\t9\trs3\tG\t*\t.\t.\t.\n"
    "chr2\t1\trs4;rs5\tACG\tA,ACGTT\t.\t.\t.\n"
    "chr2\t5\t.\tT\t]chr1:7]T,.\t.\t.\t.\n"
    "chr2\t6\t.\tA\t.AC,A.,<NON_REF>,R\t.\t.\t.\n"
)
EXPECTED = [
    ["chr1", 2, "A", "G", "rs1", 0],
    ["chr1", 3, "c", "T", ".", 1],
    ["chr1", 3, "c", "n", ".", 1],
    ["chr2", 0, "ACG", "A", "rs4;rs5", 3],
    ["chr2", 0, "ACG", "ACGTT", "rs4;rs5", 3],
    ["chr2", 5, "A", "R", ".", 5],
]


@pytest.mark.parametrize("text", [HEADER + RECORDS, RECORDS, (HEADER + RECORDS).rstrip()])
def test_a_row_an_allele(tmp_path, text):
    path = tmp_path / "small.vcf"
    path.write_text(text)
    frame = read_variants(path)
    assert list(frame) == ["chrom", "start", "ref", "alt", "id", "record"]
    assert frame.to_numpy().tolist() == EXPECTED
    assert (frame["start"].dtype.kind, frame["record"].dtype.kind) == ("i", "i")
    assert frame.attrs == {"left_out": 7}
    for name, bytes_ in (
        ("small.vcf.gz", text.encode()),
        ("small.vcf.bgz", text.replace("\n", "\r\n").encode()),
    ):
        compressed = tmp_path / name
        half = len(bytes_) // 2  # bgzip writes a file of many gzip members
        compressed.write_bytes(gzip.compress(bytes_[:half]) + gzip.compress(bytes_[half:]))
        assert read_variants(str(compressed)).equals(frame)


def test_five_columns_are_enough(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("I\t3080\tgk1\tA\tT\n")
    assert read_variants(path).to_numpy().tolist() == [["I", 3079, "A", "T", "gk1", 0]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t3\t.\tA", "has 4 columns separated by tabs; VCF has at least 5"),
        ("chr1 3 . A G", "has 1 columns"),
        ("chr1\t0\t.\tA\tG", "has POS '0'; VCF counts from 1"),
        ("chr1\t-4\t.\tA\tG", "has POS '-4'"),
        ("chr1\t1.5\t.\tA\tG", "has POS '1.5'"),
        ("chr1\t" + "9" * 25 + "\t.\tA\tG", "has POS '99999"),
        ("chrom\tpos\tid\tref\talt", "has POS 'pos'"),
        ("chr1\t3\t.\t\tG", "has REF ''; it must be IUPAC letters"),
        ("chr1\t3\t.\t.\tG", "has REF '.'"),
        ("chr1\t3\t.\tAX\tG", "has REF 'AX'"),
        ("chr1\t3\t.\tA\tG,,T", "has ALT 'G,,T'; '' is neither IUPAC letters nor"),
        ("chr1\t3\t.\tA\tAQ", "has ALT 'AQ'; 'AQ' is neither"),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, message):
    path = tmp_path / "wrong.vcf"
    path.write_text(HEADER + RECORDS + line + "\n")
    with pytest.raises(ValueError, match=re.escape(f"line 9 of wrong.vcf {message}")):
        read_variants(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEADER, "records: 0, alleles left out: 0"),
        (HEADER + "1\t3\t.\tA\t<DEL>,*\n", "records: 1, alleles left out: 2"),
    ],
)
def test_a_file_without_an_allele(tmp_path, text, found):
    path = tmp_path / "empty.vcf"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=f"empty.vcf has no alternative allele of letters.*{found}"
    ):
        read_variants(path)


def test_real_variants_and_their_genome():
    pytest.importorskip("pyfaidx")
    home = os.environ.get("TITANS_TS_DATA")
    if home is None:
        pytest.skip("TITANS_TS_DATA names no folder of real data")
    folder = Path(home) / "genomics" / "genomes"
    frame = read_variants(folder / "C_elegans_1pct_variants.vcf.gz")
    assert len(frame) == 8713
    assert frame.attrs["left_out"] == 0
    assert frame["record"].tolist() == list(range(8713))
    assert frame.iloc[0].tolist() == ["I", 3079, "A", "T", "gk463204", 0]
    genome = Genome(folder / "C_elegans_1pct.fa.gz", in_memory=True)
    there = [genome.fetch(c, s, s + 1) for c, s in zip(frame["chrom"], frame["start"], strict=True)]
    assert (frame["ref"] != there).sum() == 10
    table = read_variants(folder / "C_elegans_1pct_variants.tsv.gz")
    assert table.equals(frame)


def changed(genome, start, ref, alt):
    """The genome with a variant."""
    return (genome[:start] + alt + genome[start + len(ref) :]).upper()


def test_all_ways_to_write_a_change_become_one(tmp_path):
    rng = np.random.default_rng(0)
    for trial in range(3):
        genome = "".join(rng.choice(list("AC"), 12))  # of two letters, so that much repeats
        path = tmp_path / f"{trial}.fa"
        path.write_text(f">one\n{genome}\n")
        forms: dict[str, set[tuple[int, str, str]]] = {}
        rows = [
            ("one", start, genome[start : start + n], alt)
            for start in range(13)
            for n in range(min(4, 13 - start))
            for alt in ("", "A", "C", "AC", "CA", "AAC")
        ]
        frame = pd.DataFrame(rows, columns=["chrom", "start", "ref", "alt"])
        found = normalise_variants(path, frame)
        for before, after in zip(rows, found.itertuples(index=False, name=None), strict=True):
            result = changed(genome, *after[1:])
            assert result == changed(genome, *before[1:])
            forms.setdefault(result, set()).add(after[1:])
        del forms[genome]  # nothing changed, anywhere
        for result, ways in forms.items():  # insertions and deletions
            assert sum("" in way for way in ways) <= 1, (genome, result, ways)


def test_a_normal_form_keeps_rows_columns_and_what_the_genome_does_not_have(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(">one\n" + "CA" * 200 + "\n>two\nacgt\n")
    rows = [
        ("one", 390, "CA", ""),  # moves 390 letters, beyond what is read at once
        ("one", 399, "A", "ACA"),
        ("one", 4, "T", "G"),  # the genome has C there
        ("one", 398, "CAC", "C"),  # beyond the end
        ("two", 1, "CG", "cT"),  # letters of another case are the same
        ("two", 1, "c", "C"),
    ]
    frame = pd.DataFrame(rows, columns=["chrom", "start", "ref", "alt"], index=list("abcdef"))
    frame["id"] = range(6)
    found = normalise_variants(Genome(path), frame)
    assert found.drop(columns="id").to_numpy().tolist() == [
        ["one", 0, "CA", ""],
        ["one", 0, "", "CA"],
        ["one", 4, "T", "G"],
        ["one", 398, "CAC", "C"],
        ["two", 2, "G", "T"],
        ["two", 1, "", ""],
    ]
    assert found.index.tolist() == list("abcdef")
    assert found["id"].tolist() == list(range(6))
    assert normalise_variants(path, frame[:0]).equals(frame[:0])
    categories = frame.astype({"chrom": "category", "ref": "category", "alt": "category"})
    assert normalise_variants(path, categories)["ref"].tolist() == found["ref"].tolist()
    trimmed = normalise_variants(path, frame, leftwards=False)
    assert trimmed["start"].tolist() == [390, 399, 4, 398, 2, 1]
    each = normalise_variants(path, frame, leftwards=[True, False] * 3)
    assert each["start"].tolist() == [0, 399, 4, 398, 2, 1]
    with pytest.raises(KeyError, match="contig='three' is not known"):
        normalise_variants(path, frame.assign(chrom="three"))
    with pytest.raises(ValueError, match=r"lack the column 'alt'"):
        normalise_variants(path, frame.drop(columns="alt"))
