"""What check_splits finds, and what it leaves alone."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_ts.datasets import check_splits, kmer_hashes, reverse_complement


def dna(rng, length):
    return "".join(rng.choice(list("ACGT"), length))


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    train, test = ([dna(rng, 80) for _ in range(n)] for n in (60, 30))
    return train, np.arange(60) % 2, test, np.arange(30) % 2


def counted(*parts, **options):
    report = check_splits(*parts, **options)
    return {
        (kind, part): (count, first)
        for kind, part, count, first in report[["kind", "part", "count", "first"]].to_numpy()
    }


def test_clean_parts_have_no_finding(parts):
    assert check_splits(*parts).empty


def test_repeats_on_either_strand_and_in_any_case(parts):
    train, y, test, z = parts
    train[7] = train[2].lower().replace("t", "u") + "--"
    test[3], test[4] = reverse_complement(train[20]), test[9]
    report = counted(train, y, test, z)
    assert report[("duplicate", "train")] == (1, 7)
    assert report[("in both", "test")] == (1, 3)
    assert report[("duplicate", "test")] == (1, 9)
    # 2 and 7 have labels 0 and 1; 20 has 0, test[3] has 1; test[4] has 0, test[9] has 1
    assert report[("conflict", "train")] == (3, 2)
    assert report[("conflict", "test")] == (3, 3)
    assert ("near-duplicate", "test") not in report


def test_relatives(parts):
    train, y, test, z = parts
    rng = np.random.default_rng(1)
    test[5] = reverse_complement(train[11][:70] + dna(rng, 10))  # 55 of 65 words
    test[6] = train[12][:50] + dna(rng, 30)  # 35 of 65
    test[8] = train[13][:40] + train[14][:40]  # of two
    assert counted(train, y, test, z) == {("near-duplicate", "test"): (1, 5)}
    assert counted(train, y, test, z, similarity=0.5) == {("near-duplicate", "test"): (2, 5)}
    assert counted(train, y, test, z, similarity=0.95) == {}


@pytest.mark.parametrize(("size", "copies"), [(60, 1), (200, 1), (1, 200)])
def test_relatives_of_a_large_family(size, copies):
    rng = np.random.default_rng(1)
    base = dna(rng, 200)

    def relative():
        at = rng.integers(200)
        return base[:at] + ("C" if base[at] == "A" else "A") + base[at + 1 :]

    train = [dna(rng, 200) for _ in range(300)] + [relative() for _ in range(size)] * copies
    test = [dna(rng, 200) for _ in range(20)] + [relative() for _ in range(10)]
    report = counted(train, np.arange(len(train)) % 2, test, np.arange(30) % 2)
    both = report.get(("in both", "test"), (0, 0))[0]
    assert report["near-duplicate", "test"][0] + both == 10


@pytest.mark.parametrize("core", [60, 120, 150])
def test_twins_in_a_common_frame(core):
    rng = np.random.default_rng(2)
    common = dna(rng, core)
    train = [common + dna(rng, 200 - core) for _ in range(300)]
    test = []
    for twin in train[200:]:
        at = rng.integers(200)
        test.append(twin[:at] + ("C" if twin[at] == "A" else "A") + twin[at + 1 :])
    report = counted(train, np.arange(300) % 2, test, np.arange(100) % 2)
    assert report["near-duplicate", "test"] == (100, 0)


def test_sequences_of_a_word_or_two():
    test = ["".join(letters) for letters in itertools.product("ACGT", repeat=4)]
    report = check_splits(["ACGT", "GGCC"], [0, 1], test, np.arange(256) % 2, k=4)
    assert "near-duplicate" not in set(report["kind"])  # and no word is sampled of most


def test_frames_of_one_column(parts):
    train, y, test, z = parts
    frames = pd.DataFrame({"s": train}), y, pd.DataFrame({"s": train[:3] + test[3:]}), z
    assert counted(*frames) == counted(train, y, train[:3] + test[3:], z)
    with pytest.raises(ValueError, match="test has 2 columns; give the one with the sequences"):
        check_splits(train, y, pd.DataFrame({"s": test, "t": test}), z)


def test_classes_and_lengths(parts):
    train, y, test, z = parts
    rare = np.where(np.arange(60) < 2, 2, y)
    report = counted(train, rare, test, np.where(np.arange(30) == 9, 3, z))
    assert report[("imbalance", "train")] == (2, 0)
    assert report[("unseen class", "test")] == (1, 9)
    short = [s[:40] if label else s for s, label in zip(train, y, strict=True)]
    told = [s[:42] if label else s for s, label in zip(test, z, strict=True)]
    assert counted(short, y, told, z)[("length", "test")] == (30, 0)
    names = np.array(["no", "yes"])
    assert counted(short, names[y], told, names[z])[("length", "test")] == (30, 0)


def test_short_and_odd_sequences(parts):
    train, y, test, z = parts
    train[0], test[0], test[1] = "ACG", "NNNN" * 10, "ACGTRY"
    assert check_splits(train, y, test, z).empty
    with pytest.raises(
        ValueError, match=r"test_labels has shape \(29,\), but test has 30 sequences"
    ):
        check_splits(train, y, test, z[1:])
    with pytest.raises(ValueError, match=r"train_labels\[1\] is missing"):
        check_splits(train, np.where(np.arange(60) == 1, np.nan, y), test, z)
    with pytest.raises(TypeError, match=r"test\[2\] is None; give a str"):
        check_splits(train, y, [*test[:2], None, *test[3:]], z)
    with pytest.raises(ValueError, match="similarity is 70; it must lie"):
        check_splits(train, y, test, z, similarity=70)
    with pytest.raises(ValueError, match="k is 32; it must lie between 1 and 31"):
        check_splits(train, y, test, z, k=32)


@pytest.mark.parametrize("k", [1, 6, 31])
def test_hashes_are_one_for_each_kmer_of_either_strand(k):
    rng = np.random.default_rng(k)
    text = "".join(rng.choice(list("ACGTN"), 400, p=[0.245] * 4 + [0.02]))
    kmers = {text[i : i + k] for i in range(len(text) - k + 1)}
    kmers = {min(w, reverse_complement(w)) for w in kmers if "N" not in w}
    hashes = kmer_hashes(text, k)
    assert len(hashes) == len(set(hashes.tolist())) == len(kmers)
    for same in (reverse_complement(text), text.lower(), text.replace("T", "U")):
        assert set(kmer_hashes(same, k).tolist()) == set(hashes.tolist())
    assert kmer_hashes("A" * (k - 1), k).size == 0


@pytest.mark.parametrize("k", [0, 32])
def test_kmers_to_hash_fit_a_number(k):
    with pytest.raises(ValueError, match=f"k is {k}; it must lie between 1 and 31"):
        kmer_hashes("ACGT", k)


def test_known_leaks_of_real_sets():
    home = os.environ.get("TITANS_TS_DATA")
    if home is None:
        pytest.skip("TITANS_TS_DATA names no folder of real data")
    path = Path(home) / "genomics" / "enhancers" / "ienhancer2l_layer1.csv.gz"
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    train, test = (frame[frame["split"] == part] for part in ("train", "test"))
    report = counted(list(train["sequence"]), train["label"], list(test["sequence"]), test["label"])
    assert report[("in both", "test")][0] == 100
