"""Motifs from the effects of single letters."""

from __future__ import annotations

import re

import numpy as np
import pytest

from titans_ts import TitansClassifier
from titans_ts.genomics.attribution import mutagenesis
from titans_ts.genomics.motifs import Motif, find_motifs, write_meme
from titans_ts.nn.dna.nucleotides import encode_nucleotides

MOTIF = Motif(
    np.array([[0.9, 0.1, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]]),
    np.full((3, 4), 0.5),
    12,
)


def planted(n, *sites, length=80, seed=0):
    """Random sequences; in each, one of the sites in turn lies at a random place."""
    rng = np.random.default_rng(seed)
    sequences = ["".join(rng.choice(list("ACGT"), length)) for _ in range(n)]
    for i, site in enumerate(sites * (n // max(1, len(sites)))):
        at = int(rng.integers(5, length - 5 - len(site)))
        sequences[i] = sequences[i][:at] + site + sequences[i][at + len(site) :]
    return sequences


def test_consensus_and_direction():
    assert MOTIF.consensus == "ASN"
    assert MOTIF.raises_score
    assert repr(MOTIF) == "Motif('ASN', 12 sites, raises the score)"
    assert not Motif(MOTIF.probabilities, -MOTIF.importance, 12).raises_score


def test_a_meme_file(tmp_path):
    path = tmp_path / "m.meme"
    write_meme(path, [MOTIF, MOTIF])
    text = path.read_text()
    assert text.startswith("MEME version 4\n\nALPHABET= ACGT\n")
    assert re.findall("MOTIF (.+)", text) == ["motif_1 ASN", "motif_2 ASN"]
    assert text.count("letter-probability matrix: alength= 4 w= 3 nsites= 12 E= 0\n0.9000") == 2
    rows = [line.split() for line in text.splitlines() if line.startswith("0.")]
    np.testing.assert_allclose(np.array(rows, float)[:3], MOTIF.probabilities)
    with pytest.raises(ValueError, match="motifs is empty; find one"):
        write_meme(path, [])
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("codes", "shapes", "message"),
    [
        ([], [], "codes has 0 sequences and effects 0; give"),
        (["A" * 50], [], "codes has 1 sequences and effects 0"),
        (["A" * 50], [(50, 3)], r"effects\[0\] has shape \(50, 3\), but codes\[0\] has 50 letters"),
    ],
)
def test_refusals(codes, shapes, message):
    with pytest.raises(ValueError, match=message):
        find_motifs([encode_nucleotides(c) for c in codes], [np.zeros(s) for s in shapes])


def test_planted_motifs_of_both_directions_are_found():
    good, bad = encode_nucleotides("TGACGTCA"), encode_nucleotides("CACGTG")

    def best(codes, site):
        windows = np.lib.stride_tricks.sliding_window_view(codes, len(site), 1)
        return np.maximum((windows == site).mean(2).max(1) - 0.6, 0)

    def score(codes):
        return best(codes, good) - best(codes, bad)

    sequences = planted(200, "TGACGTCA", "CACGTG")
    sequences[0] = sequences[0][:30] + "NNN" + sequences[0][33:60]  # shorter, with unknown letters
    codes = [encode_nucleotides(s) for s in sequences]
    found = find_motifs(codes, [mutagenesis(score, one) for one in codes], min_sites=30)
    assert [m.consensus for m in found] == ["TGACGTCA", "CACGTG"]
    assert [m.raises_score for m in found] == [True, False]
    assert all(80 <= m.n_sites <= 110 for m in found)
    noise = np.random.default_rng(0).normal(size=(200, 80, 4))
    assert find_motifs(codes[1:], list(noise[1:])) == []
    assert find_motifs(codes[1:], list(0 * noise[1:])) == []


@pytest.mark.slow
def test_a_fitted_classifier_shows_the_motif_that_was_planted(tmp_path):
    sequences = planted(300, "TGACGTCA") + planted(300, seed=1)
    labels = ["bound"] * 300 + ["other"] * 300
    classifier = TitansClassifier(random_state=0, progress_bar=False, time_limit=20)
    classifier.fit(sequences, labels)
    found = classifier.motifs(sequences[:50], label="bound")
    assert "GACGTC" in found[0].consensus
    write_meme(tmp_path / "found.meme", found)
