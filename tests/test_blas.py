"""One thread for small matrices, whoever else computes in the process."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from titans_ts.blas import one_blas_thread
from titans_ts.genomics.baselines import kmer_classifier
from titans_ts.genomics.kmer_model import KmerRegression


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


def test_linear_models_of_kmers_compute_with_one_thread(monkeypatch):
    seen = []

    def fit(self, *_):
        seen.append(threads())
        raise KeyError

    monkeypatch.setattr(KmerRegression.__mro__[1], "fit", fit)
    with pytest.raises(KeyError):
        kmer_classifier(k=2, C=1.0).fit(["ACGT", "TTTT"], [0, 1])
    assert seen == [{1}]
    assert threads() == {2}
