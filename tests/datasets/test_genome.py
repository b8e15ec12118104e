"""Genomes and places in them: FASTA, BED and GFF."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_ts.datasets import FastaRegions, Genome, read_regions, reverse_complement

pytest.importorskip("pyfaidx")

SEQUENCES = {"chr1": "ACGTNacgtnRYKMSWBDHV" * 9, "chr2": "TTTTTGGGGG", "plasmid": "acgtacgtac" * 30}


def write(path, sequences=SEQUENCES, width=13):
    lines = []
    for name, sequence in sequences.items():
        lines.append(f">{name} a description")
        lines += [sequence[i : i + width] for i in range(0, len(sequence), width)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def fasta(tmp_path):
    return write(tmp_path / "small.fa")


@pytest.mark.parametrize("in_memory", [False, True])
def test_letters_outside_iupac_may_be_taken_as_absent(tmp_path, in_memory):
    path = tmp_path / "g.fa"
    path.write_text(">one\nACX*n-T\n")
    assert Genome(path, in_memory=in_memory).fetch("one", 0, 7) == "ACX*n-T"
    genome = Genome(path, in_memory=in_memory, pad_invalid=True)
    assert genome.fetch("one", 0, 7, "-") == "A-n--GT"


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_place_is_what_stands_there(fasta, in_memory):
    genome = Genome(fasta, in_memory=in_memory)
    assert genome.lengths == {name: len(s) for name, s in SEQUENCES.items()}
    rng = np.random.default_rng(0)
    for name, sequence in SEQUENCES.items():
        for _ in range(20):
            start, end = sorted(rng.choice(len(sequence) + 1, 2, replace=False).tolist())
            assert genome.fetch(name, start, end) == sequence[start:end]
            other = genome.fetch(name, start, end, strand="-")
            assert other == reverse_complement(sequence[start:end])


def test_the_reverse_complement_keeps_case_and_undoes_itself():
    assert reverse_complement("AACGtn-RYSWKMBDHV") == "BDHVKMWSRY-naCGTT"
    for sequence in SEQUENCES.values():
        assert reverse_complement(reverse_complement(sequence)) == sequence
    assert reverse_complement("AU") == "AT"


def test_bgzipped_files_and_their_indices(tmp_path, fasta):
    bgzf = pytest.importorskip("Bio.bgzf")
    path = tmp_path / "small.fa.gz"
    with bgzf.open(path, "wb") as file:
        file.write(fasta.read_bytes())
    genome = Genome(path)
    assert genome.fetch("plasmid", 250, 300) == SEQUENCES["plasmid"][250:300]
    plain = tmp_path / "plain.fa.gz"
    plain.write_bytes(gzip.compress(fasta.read_bytes()))
    with pytest.raises(ValueError, match="compressed, but not by bgzip"):
        Genome(plain)


def test_an_index_beside_the_file_is_never_written_over(fasta):
    Genome(fasta)
    index = Path(f"{fasta}.fai")
    before = index.read_bytes()
    os.utime(index, (1, 1))  # older than the file, as after a checkout
    assert Genome(fasta).fetch("chr2", 3, 7) == "TTGG"
    assert (index.read_bytes(), index.stat().st_mtime) == (before, 1)
    longer = SEQUENCES | {"chr2": "TTTTTGGGGGA"}
    renamed = {"chr3" if name == "chr2" else name: s for name, s in SEQUENCES.items()}
    grown = SEQUENCES | {"plasmid": SEQUENCES["plasmid"] + "A" * 100}
    for other in ({"other": "A" * 300}, longer, renamed, grown):
        write(fasta, other)
        with pytest.raises(ValueError, match="does not fit 'small.fa'.*delete it"):
            Genome(fasta)
    assert index.read_bytes() == before


def save(path, content):
    """A file, compressed by bgzip if its name says so, and no index of another one."""
    if path.suffix != ".gz":
        path.write_bytes(content)
        return path
    with pytest.importorskip("Bio.bgzf").open(path, "wb") as file:
        file.write(content)
    return path


def without_index(path):
    for index in (Path(f"{path}.fai"), Path(f"{path}.gzi")):
        index.unlink(missing_ok=True)
    return path


ONE = {"only": "ACGTACGTAC" * 20}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("sequences", "width", "letters"),
    [
        (ONE, 60, None),
        (ONE, 5, None),
        (ONE, 200, None),
        (ONE, 13, 120),
        (ONE | {"new": "ACGT"}, 13, None),
        ({"new": "ACGT"} | ONE, 13, None),
        ({"same": ONE["only"]}, 13, None),
    ],
)
def test_an_index_of_another_file_is_refused(tmp_path, ending, sequences, width, letters):
    path = tmp_path / f"small.fa{ending}"
    save(path, write(tmp_path / "plain", ONE).read_bytes())
    genome = Genome(path)
    assert (genome.lengths, genome.fetch("only", 193, 200)) == ({"only": 200}, "TACGTAC")
    before = Path(f"{path}.fai").read_bytes()
    save(path, write(tmp_path / "plain", sequences, width).read_bytes()[:letters])
    with pytest.raises(ValueError, match="does not fit 'small.fa.*delete it"):
        Genome(path)
    assert Path(f"{path}.fai").read_bytes() == before
    assert list(Genome(without_index(path)).lengths) == list(sequences)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_index_that_lacks_contigs_is_refused(tmp_path, ending):
    many = {f"c{i}": "ACGTACGTAC"[: 1 + i % 10] for i in range(1200)}
    path = save(tmp_path / f"many.fa{ending}", write(tmp_path / "plain", many, 4).read_bytes())
    assert Genome(path).lengths == {name: len(s) for name, s in many.items()}
    index = Path(f"{path}.fai")
    lines = index.read_text().splitlines(keepends=True)
    for gone in (0, 1, 601, 602, 1199):
        index.write_text("".join(lines[:gone] + lines[gone + 1 :]))
        with pytest.raises(ValueError, match="does not fit 'many.fa.*delete it"):
            Genome(path)
    index.write_text("".join(reversed(lines)))
    assert Genome(path).fetch("c77", 2, 8) == "GTACGT"
    # what makes no sense
    for line in ("c0\t6\t4\t0\t5\n", "c0\t6\t4\t6\t5\n", "c0\t6\t-4\t6\t7\n", "c0\t-6\t4\t6\t7\n"):
        index.write_text(line)
        with pytest.raises(ValueError, match="does not fit 'many.fa.*delete it"):
            Genome(path)
    index.write_text("")
    with pytest.raises(ValueError, match="no sequence; or its index 'many.fa.*fai' is truncated"):
        Genome(path)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_index_may_leave_out_contigs_without_letters(tmp_path, ending):
    sequences = {"none": "", "a": "ACGT", "b": "", "c": "", "d": "AC", "e": ""}
    path = save(tmp_path / f"e.fa{ending}", write(tmp_path / "plain", sequences).read_bytes())
    assert Genome(path).lengths == {name: len(s) for name, s in sequences.items()}
    index = Path(f"{path}.fai")  # as samtools writes it
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if line.split("\t")[1] != "0"))
    assert Genome(path).lengths == {"a": 4, "d": 2}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_random_files_are_read_rightly(tmp_path, ending, newline):
    rng = np.random.default_rng(0)
    for number in range(12):
        sizes = rng.choice([0, 1, 7, 8, 64, 65_500, 131_072], 4)
        # one contig begins where a block of bgzip's does, and the last ends there
        sequences = {f"c{i}|x": "".join(rng.choice(list("ACGTn"), n)) for i, n in enumerate(sizes)}
        width = int(rng.choice([1, 7, 64, 200_000]))
        text = write(tmp_path / "plain", sequences, width).read_text()
        if sizes[-1] and rng.integers(2):
            text = text.rstrip("\n")
        if rng.integers(2):
            head = f">pad {'x' * int(rng.integers(20_000))}\n"
            text = head + "A" * (65_536 - len(head) - 1) + "\n" + text
            sequences = {"pad": "A" * (65_536 - len(head) - 1)} | sequences
        path = save(tmp_path / f"{number}.fa{ending}", text.replace("\n", newline).encode())
        genome = Genome(path)
        assert genome.lengths == {name: len(s) for name, s in sequences.items()}
        for name, sequence in sequences.items():
            for _ in range(20 if sequence else 0):
                start, end = sorted(rng.choice(len(sequence) + 1, 2, replace=False).tolist())
                assert genome.fetch(name, start, end) == sequence[start:end]


def test_blocks_of_another_file_are_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    plain = write(tmp_path / "plain", ONE).read_bytes()
    path = save(tmp_path / "small.fa.gz", plain * 1000)
    blocks = Path(f"{path}.gzi")
    blocks.write_bytes(b"\x01" + bytes(7) + b"\x20" + bytes(15))
    save(path, plain)
    assert Genome(path).fetch("only", 193, 200) == "TACGTAC"
    assert blocks.stat().st_size == 24  # as it was


def test_letters_that_are_not_in_ascii_are_told(tmp_path):
    path = tmp_path / "odd.fa"
    path.write_bytes(b">one\nAC\xc3\xa4GT\n")
    with pytest.raises(
        ValueError, match="odd.fa' cannot be read as FASTA: lines of contig 'one' have unequal"
    ):
        Genome(path)


def test_threads_share_a_genome(fasta):
    from concurrent.futures import ThreadPoolExecutor

    genome = Genome(fasta)
    places = [("chr1", i, i + 20) for i in range(150)] * 8
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda place: genome.fetch(*place), places))
    assert found == [SEQUENCES[c][a:b] for c, a, b in places]


def test_a_blank_in_one_contig_does_not_end_the_search_for_others(tmp_path):
    path = tmp_path / "odd.fa"
    path.write_text(">a\nAC T\n>b\nACGT\n>c\nAC\n")
    Path(f"{path}.fai").write_text("a\t4\t3\t4\t5\nc\t2\t19\t2\t3\n")
    with pytest.raises(ValueError, match="does not fit 'odd.fa' .at contig 'c'"):
        Genome(path)


def test_a_file_that_changes_while_it_is_read_is_not_read_short(fasta):
    genome = Genome(fasta)
    fasta.write_text(fasta.read_text()[:60])
    with pytest.raises(ValueError, match="small.fa has .* letters at plasmid:100-140; it has chan"):
        pickle.loads(pickle.dumps(genome)).fetch("plasmid", 100, 140)  # as another process opens it


def test_an_index_is_whole_or_not_there(fasta, monkeypatch):
    import pyfaidx

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pyfaidx.Faidx, "read_fai", killed)
        with pytest.raises(KeyboardInterrupt):
            Genome(fasta)
    assert [p.name for p in fasta.parent.iterdir()] == ["small.fa"]


def test_odd_contigs_are_no_fault_of_the_index(fasta, tmp_path):
    write(fasta, {"stop": "ACGTACGTACG*", "gaps": "ACGT" + "-" * 20, "empty": "", "last": "AC"})
    genome = Genome(fasta)
    assert genome.fetch("stop", 8, 12) == "ACG*"
    assert genome.lengths["empty"] == 0
    twice = tmp_path / "twice.fa"
    twice.write_text(">a\nACGT\n>a\nCCCC\n")
    with pytest.raises(ValueError, match="twice.fa' cannot be read as FASTA"):
        Genome(twice)
    twice.write_text(">a\nACGT\n>b\nCCCC\n")  # mended
    assert list(Genome(twice).lengths) == ["a", "b"]
    Path(f"{twice}.fai").write_text("a\tfour\t3\t4\t5\n")
    with pytest.raises(ValueError, match="its index 'twice.fa.fai' is unusable"):
        Genome(twice)


PLAIN = {"a": "ACGTAC", "b": "TTTT"}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("> a\nACGT\nAC\n>\tb x\nTTTT\n", None),
        ("\n;x\n>a\nACGT\nAC\n\n>b\nTTTT\n\n", None),
        (">a\r\nACGT\r\nAC\r\n>b\r\nTTTT\r\n", None),
        (">a\nACGT\nAC\n\n\n>b\nTTTT\n", "line 4 is blank; remove blank lines"),
        (">a\nACGT\nAC\n>b\nTTTT\n\n\n", "line 6 is blank; remove blank lines"),
        (">a\n\nACGT\n", "line 2 is blank; remove blank lines"),
        (">a\r\nACGT\r\nAC\r\n\r\n>b\r\nTTTT\r\n", "line 4 is blank; remove blank lines"),
        (">a\nACGT\nA\nACGT\n", "line 3 is not as long as the first of its contig; give all lines"),
        ("\ufeff>a\nACGT\n", "it begins with a byte-order mark; save it as UTF-8 without one"),
        ("ACGT\n>a\nACGT\n", "line 1 is 'ACGT'; a header, '>' and a name, comes first"),
        (">a\nAC\n> a\nACGT\n", "line 3 names 'a' again; give every contig a name of its own"),
        (">a\nAC\n> \nACGT\n", "line 3 is a header without a name; give every contig a name"),
        (">a\nAC\n>\udcff\nAC\n", "line 3 is not in UTF-8; save the file as plain text in UTF-8"),
        ("\n", "it has no sequence; give a FASTA file"),
    ],
)
def test_odd_files_are_read_rightly_or_the_line_at_fault_is_named(tmp_path, ending, text, message):
    path = tmp_path / f"odd.fa{ending}"
    content = text.encode(errors="surrogateescape")
    if ending:
        with pytest.importorskip("Bio.bgzf").open(path, "wb") as file:
            file.write(content)
    else:
        path.write_bytes(content)
    if message is None:
        for _ in range(2):  # with an index that is built, and with one that is there
            genome = Genome(path)
            assert {c: genome.fetch(c, 0, n) for c, n in genome.lengths.items()} == PLAIN
        return
    with pytest.raises(ValueError, match=f"odd.fa{ending}' cannot be read as FASTA: {message}"):
        Genome(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_no_index_is_left_of_a_file_that_cannot_be_read(tmp_path):
    path = tmp_path / "spaces.fa.gz"
    with pytest.importorskip("Bio.bgzf").open(path, "wb") as file:
        file.write(b">a\nACGT \nAC\n")
    with pytest.raises(ValueError, match="contig 'a' has a space or a '>' in its lines"):
        Genome(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="it is truncated; download or compress it again"):
        Genome(path)
    path.write_bytes(whole[:-28])  # without the block that marks the end
    with pytest.raises(
        ValueError, match="lacks the block that ends a bgzipped file: it is truncated"
    ):
        Genome(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_written(fasta, monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    monkeypatch.setattr("pooch.os_cache", lambda name: cache / name)
    monkeypatch.setattr("titans_ts.datasets.fasta_index.is_writable", lambda folder: False)
    for _ in range(2):
        assert Genome(fasta).fetch("chr2", 3, 7) == "TTGG"
    assert sorted(p.name for p in fasta.parent.iterdir()) == ["cache", "small.fa"]
    assert [p.name for p in cache.rglob("*.fai")] == ["small.fa.fai"]


def test_nowhere_to_write_an_index(fasta, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda name: Path("/proc/none") / name)
    monkeypatch.setattr("titans_ts.datasets.fasta_index.is_writable", lambda folder: False)
    with pytest.raises(
        PermissionError, match="neither beside it nor in '/proc/none.*XDG_CACHE_HOME"
    ):
        Genome(fasta)


def _fetch(regions):
    return list(regions)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_right_bases(fasta, method):
    places = pd.DataFrame({"chrom": "chr1", "start": range(150), "end": range(20, 170)})
    regions = FastaRegions(fasta, places)
    expected = list(regions)  # the file is open now
    assert pickle.loads(pickle.dumps(regions))[7] == expected[7]
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(_fetch, [regions] * 6)
    assert found == [expected] * 6


def test_bed_and_gff(tmp_path):
    bed = tmp_path / "places.bed"
    bed.write_text(
        "track name=x\n# comment\nchr1\t0\t10\tone\t5\t-\textra\nchr2\t3\t7\ttwo\t0\t.\tmore\n"
    )
    frame = read_regions(bed)
    assert frame[["chrom", "start", "end", "strand"]].to_numpy().tolist() == [
        ["chr1", 0, 10, "-"],
        ["chr2", 3, 7, "."],
    ]
    assert list(frame["column_6"]) == ["extra", "more"]
    short = tmp_path / "short.bed.gz"
    short.write_bytes(gzip.compress(b"chr1\t0\t10\n"))
    assert read_regions(short)["strand"].tolist() == ["."]
    gff = tmp_path / "genes.gff3"
    gff.write_text("##gff-version 3\nchr1\tx\tgene\t1\t10\t.\t-\t.\tID=a\n##FASTA\n>chr1\nACGT\n")
    assert read_regions(gff)[["start", "end", "strand", "feature"]].iloc[0].tolist() == [
        0,
        10,
        "-",
        "gene",
    ]
    bed.write_text("track1\t0\t4\nbrowser_x\t1\t2\tn\t0\t?\n")
    assert read_regions(bed)[["chrom", "strand"]].to_numpy().tolist() == [
        ["track1", "."],
        ["browser_x", "."],
    ]
    gff.write_text("chr1\tx\tgene\t0\t10\t.\t-\t.\tID=a\n")
    with pytest.raises(ValueError, match="begins at 0; GFF counts from 1, BED from 0"):
        read_regions(gff)
    for text, message in (
        ("chr1\t0\n", "line 1 of places.bed has 2 columns separated by tabs; BED has at least 3"),
        ("chr1 0 10\n", "line 1 of places.bed has 1 columns"),
        ("chr1\t-1\t10\n", "line 1 of places.bed goes from '-1' to '10'"),
        ("chr1\t0\t" + "9" * 25, r"goes from '0' to '9+'; give whole numbers \(of at most 18"),
        ("# nothing\n", "places.bed has no region"),
    ):
        bed.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_regions(bed)


def test_places_that_cannot_be_had(fasta):
    def places(**columns):
        return pd.DataFrame({"chrom": ["chr2", "chr2"], "start": [0, 2], "end": [4, 5]} | columns)

    assert list(FastaRegions(fasta, places())) == ["TTTT", "TTT"]
    for wrong, error, message in (
        (
            {"end": [4, 11]},
            ValueError,
            r"region 1, chr2:2-11 \(\.\), reaches beyond its contig; give outside=",
        ),
        ({"start": [-3, -2]}, ValueError, r"region 0, .*, reaches beyond.* \(and 1 more\)"),
        ({"end": [4, 2]}, ValueError, "region 1, .* is empty or ends before it begins"),
        ({"strand": ["+", "x"]}, ValueError, "region 1, .* is on no strand"),
        (
            {"chrom": ["chr2", "2"]},
            KeyError,
            "contig '2' is not in small.fa, which has 'chr2'; rename",
        ),
        ({"chrom": ["chr2", "chrX"]}, KeyError, "contig='chrX' is not known"),
        ({"start": [0.0, 1.0]}, ValueError, "column 'start' has dtype float64"),
        ({"start": pd.array([0, None], "Int64")}, ValueError, "region 1 has no 'start'; drop it"),
        ({"chrom": ["chr2", None]}, ValueError, "region 1 has no 'chrom'; drop it"),
    ):
        with pytest.raises(error, match=message):
            FastaRegions(fasta, places(**wrong))
    padded = FastaRegions(
        fasta, places(start=[-3, 8], end=[2, 12], strand=["+", "-"]), outside="pad"
    )
    assert list(padded) == ["---TT", "--CC"]
    unsigned = places(start=np.array([0, 2], np.uint32), end=np.array([4, 5], np.uint32))
    assert list(FastaRegions(fasta, unsigned)) == ["TTTT", "TTT"]
    beyond = FastaRegions(fasta, places(start=[20, 8], end=[23, 10]), outside="pad")
    assert list(beyond) == ["---", "GG"]
    some = FastaRegions(fasta, places(end=[11, 5], chrom=["chr2", "chr2"]), outside="drop")
    assert (list(some), list(some.frame.index)) == (["TTT"], [1])
    with pytest.raises(ValueError, match="no region lies within small.fa"):
        FastaRegions(fasta, places(chrom=["I", "II"]), outside="drop")
    with pytest.raises(ValueError, match="outside is 'clip'; choose one of"):
        FastaRegions(fasta, places(), outside="clip")
    for rename in ({"2": "chr2"}, lambda c: f"chr{c}"):
        assert FastaRegions(fasta, places(chrom=["2", "2"]), rename=rename)[-1] == "TTT"
    assert FastaRegions(fasta, places())[:1] == ["TTTT"]


def test_files_that_are_no_fasta(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a file; give a FASTA file"):
        Genome(tmp_path / "absent.fa")
    with pytest.raises(FileNotFoundError, match=r"^path 'ACGTA[ACGT]{95}\.\.\.' is not a file"):
        Genome("ACGTA" * 1000)
    for name, text in (("empty.fa", ""), ("table.fa", "a,b\n1,2\n")):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{name}"):
            Genome(path)


def test_a_real_genome_and_its_places():
    home = os.environ.get("TITANS_TS_DATA")
    if home is None:
        pytest.skip("TITANS_TS_DATA names no folder of real data")
    folder = Path(home) / "genomics" / "genomes"
    places = folder / "yeast_tss_vs_random_500bp.bed.gz"
    with pytest.raises(KeyError, match="contig 'chrI' is not in yeast_R64.fa.gz, which has 'I'"):
        FastaRegions(folder / "yeast_R64.fa.gz", places)
    regions = FastaRegions(
        folder / "yeast_R64.fa.gz", places, rename=lambda c: c.removeprefix("chr")
    )
    assert len(regions) == 8810
    assert (regions.lengths == 500).all()
    i = int((regions.frame["strand"] == "-").to_numpy().argmax())
    row = regions.frame.iloc[i]
    whole = Genome(folder / "yeast_R64.fa.gz", in_memory=True)
    assert regions[i] == reverse_complement(whole.fetch(row["chrom"], row["start"], row["end"]))
