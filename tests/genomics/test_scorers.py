"""The genome tools with scorers that are no estimator of this package."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from titans_ts import TitansClassifier
from titans_ts.datasets import Genome, reverse_complement
from titans_ts.genomics.attribution import mutagenesis
from titans_ts.genomics.baselines import kmer_classifier
from titans_ts.genomics.scan import scan
from titans_ts.genomics.scorer import score_known
from titans_ts.genomics.variant_effect import variant_effect
from titans_ts.nn.dna.nucleotides import decode_nucleotides, encode_nucleotides

pytest.importorskip("pyfaidx")

TEXT = "GGCCATATNNNNacgtRA"


def count_a(codes):
    """A scorer in plain Python: how many letters are A."""
    return [decode_nucleotides(row).count("A") for row in codes]


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "small.fa"
    path.write_text(f">one\n{TEXT}\n>short\nAC\n")
    return path


def test_a_plain_function_scans_a_genome(genome):
    frame = scan(count_a, genome, window=4, stride=2, strand="both", progress_bar=False)
    assert len(frame) == 2 * (8 + 1)
    for row in frame.itertuples():
        sequence = (TEXT if row.chrom == "one" else "AC")[row.start : row.end]
        if row.strand == "-":
            sequence = reverse_complement(sequence)
        if set(sequence) == {"N"}:
            assert np.isnan(row.score)
        else:
            assert row.score == sequence.upper().count("A")
    masked = scan(count_a, genome, window=4, soft_masked="mask", progress_bar=False)
    assert np.isnan(masked.query("start == 12")["score"].item())


def test_a_symmetric_scorer_is_called_for_one_strand(genome):
    calls = []

    def count_calls(codes):
        calls.append(len(codes))
        return np.zeros(len(codes))

    options = {"window": 4, "strand": "both", "progress_bar": False}
    scan(count_calls, genome, symmetric=True, **options)
    once, calls[:] = sum(calls), []
    scan(count_calls, genome, **options)
    assert sum(calls) == 2 * once


def test_a_scan_resumes_only_with_a_fingerprint(genome, tmp_path):
    def fail(codes):
        raise RuntimeError("stopped")

    def first_contig_only(codes):
        return fail(codes) if codes.shape[1] == 2 else np.asarray(count_a(codes))

    out, parts = tmp_path / "x.bed", tmp_path / "x.bed.parts"
    options = {"window": 4, "out": out, "progress_bar": False}
    for fingerprint in (None, {"name": "count_a"}):
        with pytest.raises(RuntimeError, match="stopped"):
            scan(first_contig_only, genome, fingerprint=fingerprint, **options)
        assert parts.exists() == (fingerprint is not None)

    def second_contig_only(codes):
        return fail(codes) if codes.shape[1] == 4 else np.asarray(count_a(codes))

    with pytest.raises(RuntimeError, match="stopped"):
        scan(second_contig_only, genome, fingerprint={"name": "another"}, **options)
    with pytest.raises(RuntimeError, match="stopped"):
        scan(first_contig_only, genome, fingerprint={"name": "count_a"}, **options)
    resumed = scan(second_contig_only, genome, fingerprint={"name": "count_a"}, **options)
    pd.testing.assert_frame_equal(resumed, scan(count_a, genome, **options))
    assert not parts.exists()


def test_variants_and_substitutions_of_a_plain_function(genome):
    variants = pd.DataFrame({"chrom": "one", "start": [0, 4], "ref": ["G", "A"], "alt": ["A", ""]})
    effects = variant_effect(count_a, genome, variants, window=6, progress_bar=False)
    assert effects["ref_score"].tolist() == [0, 2]  # of "---GGC" and "GCCATA"
    assert effects["effect"].tolist() == [1, -1]
    table = mutagenesis(count_a, "AC-")
    np.testing.assert_array_equal(table, [[0, -1, -1, -1], [1, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(table, mutagenesis(count_a, encode_nucleotides("AC-")))


def test_a_haplotype_is_the_genome_with_all_its_variants(genome):
    one = Genome(genome).fetch("one", 0, Genome(genome).lengths["one"])
    seen = []

    def remember(codes):
        seen.extend(decode_nucleotides(row) for row in codes)
        return np.asarray(count_a(codes), float)

    rows = [
        ("one", 5, one[5], "", "x"),
        ("one", 4, one[4], "GG", "y"),
        ("one", 3, one[3], "TT", "x"),
    ]
    variants = pd.DataFrame(rows, columns=["chrom", "start", "ref", "alt", "copy"])
    options = {"window": 10, "progress_bar": False}
    found = variant_effect(remember, genome, variants, haplotype="copy", **options)
    padded = "-----" + one + "-----"
    both = "-----" + one[:3] + "TT" + one[4] + one[6:] + "-----"
    assert seen[:2] == [padded[4:14], both[4:14]]  # the middle of 3 and 5 is at index 5
    assert found["copy"].tolist() == ["x", "y"]
    assert found[["start", "end", "variants"]].to_numpy().tolist() == [[3, 6, 2], [4, 5, 1]]
    alone = variant_effect(count_a, genome, variants[1:2], **options)
    assert found["effect"][1] == alone["effect"][1]
    wrong = variants.assign(ref=["T" if one[5] != "T" else "A", *variants["ref"][1:]])
    found = variant_effect(count_a, genome, wrong, haplotype="copy", **options)
    assert found["ref_match"].tolist() == [False, True]
    assert np.isnan(found["effect"][0])
    for frame, message in (
        (
            variants.assign(start=[5, 4, 5], ref=[one[5], one[4], one[5]]),
            "with copy 'x' overlap at one:5; join them",
        ),
        (
            variants.assign(chrom=["one", "one", "short"], start=[0, 4, 0], ref=["A", "A", "G"]),
            "with copy 'x' lie on several contigs",
        ),
        (
            variants.assign(start=[0, 4, 6], ref=[one[0], one[4], one[6]]),
            "span 7 letters, but window",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            variant_effect(count_a, genome, frame, haplotype="copy", **options)
    unknown = variants.assign(copy=["x", None, "x"])
    with pytest.raises(ValueError, match="variant 1 has no value in the column 'copy'; give each"):
        variant_effect(count_a, genome, unknown, haplotype="copy", **options)
    with pytest.raises(KeyError, match="haplotype is 'phase', which is no column"):
        variant_effect(count_a, genome, variants, haplotype="phase", **options)
    with pytest.raises(ValueError, match="a background is of single variants"):
        variant_effect(count_a, genome, variants, haplotype="copy", background=9, **options)


def test_variants_of_a_haplotype_do_not_pass_one_another(tmp_path):
    path = tmp_path / "repeat.fa"
    contig = "GGTTGGTTGGTTGGTTTTTT" + "CACACA" + "GGTTGGTTGGTTGGTTTTTT"
    path.write_text(f">one\n{contig}\n")
    seen = []

    def remember(codes):
        seen.extend(decode_nucleotides(row) for row in codes)
        return np.asarray(count_a(codes), float)

    rows = [("one", 23, "A", "T", 1), ("one", 24, "CA", "", 1)]  # CACACA to CACT
    variants = pd.DataFrame(rows, columns=["chrom", "start", "ref", "alt", "copy"])
    options = {"window": 20, "haplotype": "copy", "progress_bar": False}
    found = variant_effect(remember, path, variants, **options)
    assert seen == [contig[13:33], (contig[:23] + "T" + contig[26:])[13:33]]
    assert found[["start", "end"]].to_numpy().tolist() == [[23, 26]]
    anchored = variants.assign(start=[21, 23], ref=["A", "ACA"], alt=["T", "A"])
    assert variant_effect(count_a, path, anchored, **options)["ref_match"].all()


def test_what_lies_beyond_a_contig_is_not_in_the_genome(genome):
    rows = [("one", start, "", "A") for start in (-1, 0, len(TEXT), len(TEXT) + 1, 1000)]
    variants = pd.DataFrame(rows, columns=["chrom", "start", "ref", "alt"])
    found = variant_effect(count_a, genome, variants, window=8, progress_bar=False)
    assert found["ref_match"].tolist() == [False, True, True, False, False]
    assert found["effect"].isna().tolist() == [True, False, False, True, True]


def test_p_values_are_shares_of_the_same_change_elsewhere(tmp_path):
    rng = np.random.default_rng(0)
    letters = "".join(rng.choice(list("ACGT"), 3000))
    letters = letters[:1500] + "TGACGTCA" + letters[1500:]
    path = tmp_path / "g.fa"
    path.write_text(f">one\n{letters}\n")
    motif = encode_nucleotides("TGACGTCA")

    def longest(codes):
        """The number of letters of the motif at the best place of a window."""
        windows = np.lib.stride_tricks.sliding_window_view(codes, len(motif), 1)
        return (windows == motif).sum(2).max(1).astype(float)

    change = {"A": "C", "C": "A", "G": "T", "T": "G"}
    places = [1503, *rng.integers(0, 1400, 60)]
    rows = [("one", int(i), letters[i], change[letters[i]]) for i in places]
    rows.append(("one", 1502, letters[1502:1506], ""))
    variants = pd.DataFrame(rows, columns=["chrom", "start", "ref", "alt"])
    options = {"window": 30, "progress_bar": False, "background": 400}
    found = variant_effect(longest, path, variants, random_state=0, **options)
    assert found["p_value"][0] == found["p_value"].iloc[:-1].min()
    assert found["p_value"].between(1 / 401, 1).all()
    assert found.equals(variant_effect(longest, path, variants, random_state=0, **options))
    rare = variant_effect(
        lambda codes: (longest(codes) == 8).astype(float), path, variants, random_state=0, **options
    )
    assert rare["p_value"][0] < 0.02
    assert rare["p_value"].iloc[-1] < 0.02  # a deletion, compared with deletions
    assert (rare["p_value"][rare["effect"] == 0] == 1).all()
    assert (rare["effect"] == 0).sum() > 50
    mismatch = variant_effect(longest, path, variants.assign(ref="N"), random_state=0, **options)
    assert mismatch["p_value"].isna().all()


def test_a_kmer_model_finds_its_motif(tmp_path):
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 30)) for _ in range(200)]
    motif = [s[:10] + "TGACGTCA" + s[18:] if i % 2 else s for i, s in enumerate(sequences)]
    pipeline = kmer_classifier(k=4).fit(motif, np.arange(200) % 2)

    def scorer(codes):
        return pipeline.predict_proba(codes)[:, 1]

    path = tmp_path / "g.fa"
    path.write_text(">one\n" + sequences[0] + motif[1] + sequences[2] + "\n")
    frame = scan(scorer, path, window=30, progress_bar=False)
    np.testing.assert_allclose(
        frame["score"], pipeline.predict_proba([sequences[0], motif[1], sequences[2]])[:, 1]
    )
    assert frame["score"].argmax() == 1
    loss = -mutagenesis(scorer, motif[1]).min(1)
    assert loss[10:18].mean() > 5 * np.delete(loss, np.s_[10:18]).mean()
    variants = pd.DataFrame({"chrom": ["one"], "start": [43], "ref": [motif[1][13]], "alt": ["T"]})
    assert variant_effect(scorer, path, variants, window=30, progress_bar=False)["effect"][0] < 0


def test_the_methods_of_an_estimator_are_the_functions(genome):
    sequences = ["ACGTTGCA", "TTTTTTTT"] * 8
    classifier = TitansClassifier(
        d_model=16, n_heads=2, n_layers=1, max_epochs=1, random_state=0, progress_bar=False
    ).fit(sequences, [0, 1] * 8)
    scorer = classifier.scorer()
    variants = pd.DataFrame({"chrom": "one", "start": [5], "ref": ["T"], "alt": ["G"]})
    pd.testing.assert_frame_equal(
        classifier.variant_effect(genome, variants, window=6),
        variant_effect(scorer, genome, variants, window=6, progress_bar=False),
    )
    np.testing.assert_array_equal(classifier.mutagenesis("ACGT"), mutagenesis(scorer, "ACGT"))
    log_odds = scan(scorer, genome, window=6, progress_bar=False)["score"]
    probability = classifier.scan(genome, window=6)["score"]
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-log_odds)))


def test_a_scorer_that_returns_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"returned shape \(2, 1\) for 2 sequences; return one"):
        score_known(lambda codes: np.zeros((len(codes), 1)), np.zeros((2, 4), np.uint8))
