"""The genome tools with scorers that are no estimator of this package."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from titans_ts import TitansClassifier
from titans_ts.datasets import reverse_complement
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
    masked = scan(count_a, genome, window=4, lower_case="absent", progress_bar=False)
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
