"""One thread for small matrices, whoever else computes in the process."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_info, threadpool_limits

from tests.forecasting.cases import small
from titans_ts.blas import one_blas_thread
from titans_ts.forecasting.error_memory import ErrorMemory
from titans_ts.genomics.baselines import kmer_classifier
from titans_ts.genomics.kmer_model import fit_linear
from titans_ts.genomics.kmers import KmerVectorizer, informative_kmers
from titans_ts.nn.dna.nucleotides import encode_nucleotides


def threads():
    """Numbers of threads of the BLAS libraries that are loaded."""
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        if threads() != {2}:
            pytest.skip(f"BLAS has {threads()} threads here, not two")
        yield


def test_one_thread_within_and_the_former_number_after():
    with one_blas_thread():
        assert threads() == {1}
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}


def test_an_error_sets_the_number_back():
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert threads() == {2}


def test_blocks_that_overlap_set_the_number_back():
    """The first block to begin ends first; the end of the other one must not keep one thread for good."""
    begun, ended = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            begun.set()
            ended.wait()

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        begun.wait()
        assert threads() == {1}
    assert threads() == {2}
    ended.set()
    thread.join()
    assert threads() == {2}


def classes():
    kmer_classifier(k=2, C=1.0).fit(["ACGT", "TTTT"], [0, 1])


def values():
    sequences = [encode_nucleotides(s) for s in ("ACGT", "TTTT", "ACCC", "GGTT")]
    target = np.arange(4.0)[:, None]
    fit_linear(KmerVectorizer(2), (sequences, target), (sequences, target), "values", 1)


def filters():
    sequences = [encode_nucleotides(s) for s in ("ACGT", "TTTT")]
    informative_kmers(sequences, np.array([[0.0], [1.0]]), 1, k=2, gaps=0, both_strands=False)


def errors():
    rows = np.random.default_rng(0).normal(size=(80, 2))
    small(n_layers=0, blend=False, adapt=True).fit(rows)


@pytest.mark.parametrize(
    ("compute", "owner", "method"),
    [
        (classes, LogisticRegression, "fit"),
        (values, Ridge, "fit"),
        (filters, Ridge, "fit"),
        (errors, ErrorMemory, "read"),
    ],
)
def test_small_matrices_compute_with_one_thread(compute, owner, method, monkeypatch):
    seen, original = [], getattr(owner, method)

    def spied(self, *args, **kwargs):
        seen.append(threads())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, method, spied)
    compute()
    assert {1} in seen
    assert {2} not in seen
    assert threads() == {2}
