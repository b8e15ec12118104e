"""Any FASTA, BED, GFF, VCF or table of sequences is read letter by letter, or refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.properties import REFUSED, examples, outcome
from tests.fuzz.strategies import damaged, dna
from titans_ts.datasets import (
    FastaRegions,
    Genome,
    read_regions,
    read_sequences,
    read_variants,
    reverse_complement,
    write_track,
)

CONTIGS = st.sampled_from(["chr1", "chr2", "1", "c x", "", "chr1", ">", "é", "chrM|a"])
INTEGERS = st.one_of(st.integers(0, 70), st.sampled_from([-1, 10**12, 10**25, "x", "", "1.5", "٣"]))


@st.composite
def fasta(draw):
    """Return a FASTA file and its contigs; None for the contigs if something is wrong with it."""
    width = draw(st.sampled_from([5, 10, 60, 200]))
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n"]))
    odd = draw(st.integers(0, 5)) == 0
    names = st.sampled_from(["chr1", "chr2", "x", "chr3 some words"]) if not odd else CONTIGS
    records = [
        (draw(names), draw(dna(odd=odd))) for _ in range(draw(st.sampled_from([1, 1, 2, 3, 0])))
    ]
    lines = []
    for name, letters in records:
        lines.append(f">{name}")
        lines += [letters[i : i + width] for i in range(0, len(letters), width)]
        if draw(st.integers(0, 9)) == 0:
            lines.append("")
    last = draw(st.sampled_from([end, end, ""]))
    content = (end.join(lines) + last).encode("utf-8", "replace")
    names = [name.split()[0] for name, _ in records if name.split()]
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged(content)), None
    if odd or len(set(names)) < len(records) or not records:
        return content, None
    return content, dict(zip(names, (letters for _, letters in records), strict=True))


@examples(50)
@given(file=fasta(), suffix=st.sampled_from([".fa", ".fa", ".fa.gz"]), pad=st.booleans())
def test_a_genome_has_the_letters_of_its_file(file, suffix, pad):
    content, contigs = file
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"g{suffix}"
        path.write_bytes(content)
        genome = outcome(lambda: Genome(path, pad_invalid=pad))
        assert {p.name for p in path.parent.iterdir()} <= {
            path.name,
            f"{path.name}.fai",
            (f"{path.name}.gzi"),
        }
        if genome is REFUSED:
            assert list(path.parent.iterdir()) == [path]
            if contigs is not None and suffix == ".fa":
                assert not all(contigs.values()), "a whole FASTA file was refused"
            return
        assert path.read_bytes() == content
        for name, length in genome.lengths.items():
            if length == 0:
                continue
            letters = outcome(lambda name=name, n=length: genome.fetch(name, 0, n))
            assert letters is not REFUSED
            assert len(letters) == length
            assert genome.fetch(name, 0, length, "-") == reverse_complement(letters)
            if contigs is not None:
                assert letters == contigs[name]


@st.composite
def places(draw, kind):
    """Return a BED, GFF or VCF file, mostly right."""
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        odd = draw(st.integers(0, 7)) == 0
        chrom = draw(CONTIGS if odd else st.sampled_from(["chr1", "chr2"]))
        start = draw(INTEGERS if odd else st.integers(0, 20))
        end = draw(INTEGERS) if odd else start + draw(st.integers(1, 20))
        strand = draw(st.sampled_from(["+", "-", ".", "?", "", "x"] if odd else ["+", "-", "."]))
        if kind == "bed":
            row = [chrom, start, end, "n", draw(st.sampled_from(["0", ".", "7.5"])), strand]
            row = row[: draw(st.sampled_from([3, 4, 6, 6, 2 if odd else 3]))]
        elif kind == "gff":
            first = start + 1 if isinstance(start, int) else start
            row = [chrom, "s", "gene", first, end, ".", strand, ".", "ID=1"]
        else:
            alleles = st.sampled_from(
                ["A", "G", "AC", "<DEL>", "*", ".", "g", "A,T", "N[chr2:3[", "", "A,,"]
            )
            row = [
                chrom,
                start,
                ".",
                draw(alleles if odd else st.sampled_from("ACGT")),
                draw(alleles),
            ]
            row += ["50", "PASS"][: draw(st.integers(0, 2))]
        rows.append("\t".join(map(str, row)))
    extra = ["#comment", "", "track name=x", "##FASTA", "chrom\tstart\tend", " ", "browser x"]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        rows.insert(draw(st.integers(0, len(rows))), draw(st.sampled_from(extra)))
    text = "\n".join(rows) + draw(st.sampled_from(["\n", "\n", ""]))
    content = text.encode()
    return draw(damaged(content)) if draw(st.integers(0, 5)) == 0 else content


LETTERS = {"chr1": "ACGTACGTNNacgtTTTTAGCTAGCATCGATCAGTTACGACG", "chr2": "GGGCCCAAATTT"}


def genome_file(folder):
    path = Path(folder) / "genome.fa"
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in LETTERS.items()))
    return path


@examples(40)
@given(
    content=st.one_of(places("bed"), places("gff")),
    suffix=st.sampled_from([".bed", ".gff", ".narrowPeak"]),
    outside=st.sampled_from(["error", "pad", "drop"]),
)
def test_regions_are_read_and_their_letters_fetched(content, suffix, outside):
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"r{suffix}"
        path.write_bytes(content)
        frame = outcome(lambda: read_regions(path))
        genome = Genome(genome_file(folder), in_memory=True)
        regions = outcome(lambda: FastaRegions(genome, path, outside=outside))
        table = outcome(lambda: read_sequences(path, genome=genome, outside=outside, invalid="pad"))
    if frame is not REFUSED:
        assert frame["start"].dtype == np.int64
        assert frame["strand"].notna().all()
    if regions is REFUSED:
        assert table is REFUSED
        return
    for place, letters in zip(regions.frame.itertuples(), regions, strict=True):
        inside = LETTERS[place.chrom][max(place.start, 0) : max(place.end, 0)]
        if place.strand == "-":
            inside = reverse_complement(inside)
        assert len(letters) == place.end - place.start
        assert letters.strip("-") == inside.strip("-")


@examples(30)
@given(content=places("vcf"), packed=st.booleans())
def test_variants_are_read(content, packed):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.vcf"
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        frame = outcome(lambda: read_variants(path))
    if frame is REFUSED:
        return
    assert len(frame) > 0
    assert (frame["start"] >= 0).all()
    assert frame.notna().all().all()
    assert frame["ref"].str.len().min() > 0


@st.composite
def sequence_tables(draw):
    kind = draw(st.sampled_from([".csv", ".tsv", ".txt", ".fa"]))
    if kind == ".fa":
        return draw(fasta())[0], kind
    separator = "," if kind == ".csv" else "\t"
    names = draw(
        st.sampled_from([["sequence", "label"], ["seq", "label"], ["sequence"], ["a", "b", "c"]])
    )
    labels = st.sampled_from(["0", "1", "yes", "NA", "", "1.5", "001", "a,b", '"', "1e400"])
    rows = [
        [draw(dna(30)) if i == 0 else draw(labels) for i in range(len(names))]
        for _ in range(draw(st.integers(0, 6)))
    ]
    text = "\n".join(separator.join(row) for row in [names, *rows])
    content = text.encode("utf-8", "replace")
    return (draw(damaged(content)) if draw(st.integers(0, 5)) == 0 else content), kind


@examples(40)
@given(table=sequence_tables(), invalid=st.sampled_from(["error", "pad", "drop"]))
def test_sequences_are_read(table, invalid):
    content, kind = table
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"s{kind}"
        path.write_bytes(content)
        frame = outcome(lambda: read_sequences(path, invalid=invalid))
    if frame is REFUSED:
        return
    assert len(frame) > 0
    assert frame["sequence"].map(len).min() > 0
    assert frame["sequence"].str.fullmatch("[ACGTURYSWKMBDHVNacgturyswkmbdhvn-]+").all()


@st.composite
def scored_frames(draw):
    n = draw(st.integers(0, 5))
    start = [draw(st.integers(0, 40)) for _ in range(n)]
    frame = pd.DataFrame(
        {
            "chrom": [draw(st.sampled_from(["chr1", "chr2"])) for _ in range(n)],
            "start": start,
            "end": [s + draw(st.integers(1, 9)) for s in start],
            "score": [draw(st.sampled_from([0.0, 1.5, 2.5, -3.0, np.nan])) for _ in range(n)],
        }
    )
    if n and draw(st.booleans()):
        odd = {
            "chrom": ["é", "", "a\tb", "chr9"],
            "score": [np.inf, 1e300, -1e39],
            "end": [0, 10**10],
            "start": [-1, 10**10],
        }
        column = draw(st.sampled_from(sorted(odd)))
        frame.loc[draw(st.integers(0, n - 1)), column] = draw(st.sampled_from(odd[column]))
    if draw(st.integers(0, 3)) == 0:
        frame["strand"] = [draw(st.sampled_from(["+", "x", None])) for _ in range(n)]
    if draw(st.integers(0, 5)) == 0:
        frame = frame.astype({"start": draw(st.sampled_from(["float", "object", "str", "int8"]))})
    return frame


@examples(30)
@given(
    frame=scored_frames(),
    suffix=st.sampled_from([".bed", ".bedgraph", ".bed.gz", ".bw", ".txt"]),
    lengths=st.sampled_from([None, {"chr1": 50, "chr2": 60}, {"chr1": 5}, {"chr1": 2**33}]),
)
def test_a_track_is_written_whole_or_not_at_all(frame, suffix, lengths):
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(b"former")
        before = frame.copy()
        result = outcome(lambda: write_track(frame, path, lengths))
        assert list(path.parent.iterdir()) == [path]
        pd.testing.assert_frame_equal(frame, before)
        if result is REFUSED:
            assert path.read_bytes() == b"former"
        else:
            assert path.read_bytes() != b"former"
