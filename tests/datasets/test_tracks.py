"""Tracks: what was written is read back, and compared with the mean of every nucleotide."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pandas as pd
import pytest

from titans_ts.datasets import read_regions, write_track

LENGTHS = {"chr2": 400, "chr10": 300, "chrM": 7}


def windows(seed=0, n=200):
    """Places of any width and overlap, out of order, a tenth of them without a score."""
    rng = np.random.default_rng(seed)
    chrom = rng.choice(["chr10", "chr2"], n)
    length = pd.Series(chrom).map(LENGTHS).to_numpy()
    start = rng.integers(0, length - 60)
    score = rng.normal(size=n) * 10.0 ** rng.integers(-3, 4, n)
    score[rng.random(n) < 0.1] = np.nan
    end = start + rng.integers(1, 60, n)
    return pd.DataFrame({"chrom": chrom, "start": start, "end": end, "score": score})


def mean_of_every_nucleotide(frame):
    found = {}
    for name, length in LENGTHS.items():
        covering = [[] for _ in range(length)]
        for place in frame[(frame["chrom"] == name) & frame["score"].notna()].itertuples():
            for i in range(place.start, place.end):
                covering[i].append(place.score)
        found[name] = np.array([np.mean(c) if c else np.nan for c in covering])
    return found


def parsed(path):
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return [line.split("\t") for line in text.splitlines()]


def spread(rows):
    """Scores of every nucleotide from rows that must be sorted and disjoint."""
    found = {name: np.full(length, np.nan) for name, length in LENGTHS.items()}
    before = (-1, 0)
    for name, start, end, score in rows:
        place = list(LENGTHS).index(name), int(start)
        assert place >= before
        assert int(start) < int(end)
        before = place[0], int(end)
        found[name][int(start) : int(end)] = float(score)
    return found


@pytest.mark.parametrize("ending", [".bedgraph", ".bg", ".bedGraph.gz", ".bw", ".bigWig"])
@pytest.mark.parametrize("seed", [0, 1])
def test_overlapping_windows_are_the_mean_of_every_nucleotide(tmp_path, ending, seed):
    frame = windows(seed).sample(frac=1, random_state=seed)  # the index is out of order, too
    given, path = frame.copy(), tmp_path / f"new folder/scores{ending}"
    if ending.lower() in (".bw", ".bigwig"):
        bigwig = pytest.importorskip("pyBigWig")
        write_track(frame, path, LENGTHS)
        with bigwig.open(str(path)) as file:
            assert list(file.chroms().items()) == list(LENGTHS.items())
            rows = [(c, *row) for c in LENGTHS for row in file.intervals(c) or ()]
        tolerance = 1e-7  # 32 bits
    else:
        write_track(frame, path, LENGTHS)
        rows = parsed(path)
        tolerance = 5e-6  # six digits
    pd.testing.assert_frame_equal(frame, given)
    found, expected = spread(rows), mean_of_every_nucleotide(frame)
    for name in LENGTHS:
        # the mean of -1000 and 1000.001 keeps fewer digits than each of them: 1e-12 of 10 000
        np.testing.assert_allclose(found[name], expected[name], rtol=tolerance, atol=1e-8)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_large_score_leaves_nothing_behind(tmp_path):
    start = np.arange(0, 300, 3)
    score = np.where(start % 60 == 0, 1e15 / 7, 1e-3 / 3)
    score[-20:] = 0.0
    frame = pd.DataFrame({"chrom": "chr2", "start": start, "end": start + 10, "score": score})
    write_track(frame, tmp_path / "a.bg")
    expected = mean_of_every_nucleotide(frame)["chr2"]
    found = spread(parsed(tmp_path / "a.bg"))["chr2"]
    np.testing.assert_allclose(found, expected, rtol=5e-6, atol=0)
    assert (found[290:307] == 0).all()


def test_windows_that_only_touch_stay_as_they_are(tmp_path):
    frame = pd.DataFrame(
        {"chrom": ["b", "b", "a"], "start": [0, 4, 2], "end": [4, 9, 3], "score": [0.5, 0.5, 7]}
    )
    write_track(frame, tmp_path / "a.bg")
    assert parsed(tmp_path / "a.bg") == [
        ["b", "0", "4", "0.5"],
        ["b", "4", "9", "0.5"],
        ["a", "2", "3", "7"],
    ]


@pytest.mark.parametrize("compressed", [False, True])
def test_bed_keeps_every_place_with_its_name_and_strand(tmp_path, compressed):
    frame = windows().assign(strand=lambda f: np.where(f["score"] > 0, "+", "-"))
    frame["name"] = [None if i % 7 == 0 else f'"{i}" of them' for i in range(len(frame))]
    path = tmp_path / ("a.bed.gz" if compressed else "a.bed")
    write_track(frame, path, LENGTHS)
    kept = frame[frame["score"].notna()].assign(name=lambda f: f["name"].fillna("."))
    order = kept["chrom"].map(list(LENGTHS).index)
    kept = kept.assign(order=order).sort_values(["order", "start", "end"], kind="stable")
    assert parsed(path) == [
        [p.chrom, str(p.start), str(p.end), p.name, f"{p.score:.6g}", p.strand]
        for p in kept.itertuples(index=False)
    ]
    again = read_regions(path)
    assert again["start"].tolist() == kept["start"].tolist()
    assert again["strand"].tolist() == kept["strand"].tolist()


def test_what_is_missing_is_a_dot_and_contigs_come_as_they_appear(tmp_path):
    frame = pd.DataFrame(
        {"chrom": ["b", "a", "b"], "start": [5, 1, 2], "end": [6, 2, 9], "score": [1, 2, 3]}
    )
    write_track(frame, tmp_path / "a.bed")
    lines = ["b 2 9 . 3 .", "b 5 6 . 1 .", "a 1 2 . 2 ."]
    assert parsed(tmp_path / "a.bed") == [line.split() for line in lines]
    nullable = frame.assign(score=pd.array([1.5, None, 2], "Float64"))
    write_track(nullable, tmp_path / "a.bed", {"a": 2, "b": 9})
    lines = ["b 2 9 . 2 .", "b 5 6 . 1.5 ."]
    assert parsed(tmp_path / "a.bed") == [line.split() for line in lines]


def test_the_same_places_are_the_same_bytes(tmp_path):
    for name in ("a.bg.gz", "b.bg.gz"):
        write_track(windows(), tmp_path / name)
    content = (tmp_path / "a.bg.gz").read_bytes()
    assert content == (tmp_path / "b.bg.gz").read_bytes()
    assert content[4:8] == bytes(4)  # the time in gzip's header


def test_both_strands_are_not_mixed(tmp_path):
    frame = windows().assign(strand="+")
    frame.loc[3, "strand"] = "-"
    for name, kind in (("a.bg", "bedGraph"), ("a.bw", "bigWig")):
        with pytest.raises(ValueError, match=f"but {kind} stores one strand: write one file per"):
            write_track(frame, tmp_path / name, LENGTHS)
    one = frame[frame["strand"] == "+"]
    write_track(one, tmp_path / "a.bg", LENGTHS)
    write_track(one.drop(columns="strand"), tmp_path / "b.bg", LENGTHS)
    assert (tmp_path / "a.bg").read_bytes() == (tmp_path / "b.bg").read_bytes()


def test_what_cannot_be_written(tmp_path):
    def places(**columns):
        given = {"chrom": ["chr2", "chrM"], "start": [0, 2], "end": [4, 7], "score": [0.5, 1]}
        return pd.DataFrame(given | columns)

    for wrong, message in (
        ({"end": [4, 8]}, r"region 1, chrM:2-8 \(\.\), reaches beyond the length of its contig"),
        ({"chrom": ["chr2", "M"]}, "region 1, M:2-7 .* is on a contig that is not in lengths"),
        ({"start": [-1, 2]}, "region 0, .* begins before 0"),
        ({"start": [4, 2]}, "region 0, .* is empty or ends before it begins"),
        ({"strand": ["+", "x"]}, "region 1, .* is on no strand"),
        ({"score": [np.inf, 1]}, "region 0, .* has an infinite score"),
        ({"score": ["1", "2"]}, "column 'score' has dtype object; give numbers"),
        ({"score": [np.nan, np.nan]}, "frame has no region with a score"),
        ({"start": [0.0, 1.0]}, "column 'start' has dtype float64"),
        ({"name": ["a", "b\tc"]}, "region 1, .* has a tab or a line break in its name"),
        ({"chrom": ["chr2", "chr\nM"]}, "has a tab or a line break in its name or contig; rename"),
        ({"chrom": ["chr2", ""]}, "region 1, .* is on a contig without a name; give it one"),
    ):
        with pytest.raises(ValueError, match=message):
            write_track(places(**wrong), tmp_path / "a.bed", LENGTHS)
    with pytest.raises(ValueError, match=r"frame lacks the column 'score'; it has \['chrom'"):
        write_track(places().drop(columns="score"), tmp_path / "a.bed")
    for name in ("a.wig", "a.bw.gz", "bed", "a.gz"):
        with pytest.raises(ValueError, match=f"{name}', whose suffix is no known format"):
            write_track(places(), tmp_path / name, LENGTHS)
    with pytest.raises(ValueError, match="lengths is None, and bigWig needs it"):
        write_track(places(), tmp_path / "a.bw")
    assert not list(tmp_path.iterdir())


def test_without_pybigwig(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyBigWig", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'titans-ts\[genomics\]'"):
        write_track(windows(), tmp_path / "a.bw", LENGTHS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.bed", "a.bg.gz"])
def test_a_crash_leaves_the_former_file(tmp_path, monkeypatch, name):
    path = tmp_path / name
    write_track(windows(), path)
    before = path.read_bytes()

    def to_csv(self, file, **options):
        file.write("chr2\t0\t")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", to_csv)
        with pytest.raises(OSError, match="no space left"):
            write_track(windows(seed=1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]
    write_track(windows(seed=1), path)
    assert path.read_bytes() != before


def test_a_bigwig_that_was_not_written_completely_is_refused(tmp_path, monkeypatch):
    """PyBigWig says nothing of a write that failed when it closes a file: the sum is compared."""
    pyBigWig = pytest.importorskip("pyBigWig")
    path = tmp_path / "a.bw"
    write_track(windows(), path, LENGTHS)
    before, opened = path.read_bytes(), pyBigWig.open

    def cut(name, mode="r"):
        return opened(str(path) if mode == "r" else name, mode)  # the former file has another sum

    monkeypatch.setattr(pyBigWig, "open", cut)
    fewer = windows().iloc[:2]
    with pytest.raises(OSError, match=r"a\.bw could not be written completely; check whether the"):
        write_track(fewer, path, LENGTHS)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.bw"]


def test_scores_and_contigs_that_32_bits_cannot_hold(tmp_path):
    # pyBigWig ends the process at such a score
    frame = pd.DataFrame({"chrom": ["chrM"], "start": [0], "end": [4], "score": [1e39]})
    for name in ("a.bw", "a.bedgraph"):
        with pytest.raises(ValueError, match="has a score that 32 bits cannot hold; give scores"):
            write_track(frame, tmp_path / name, LENGTHS)
    with pytest.raises(ValueError, match="lengths has 4294967296 nucleotides for 'chrM'; a bigWig"):
        write_track(frame.assign(score=1.0), tmp_path / "a.bw", LENGTHS | {"chrM": 2**32})
    assert list(tmp_path.iterdir()) == []
