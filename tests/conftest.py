"""One thread: two on a busy machine are many times slower, and xdist runs a worker a core.

`TITANS_TS_TEST_THREADS=2` sets another number; `make test-portable` does.
"""

import gc
import os
import sys
from pathlib import Path

import pytest

THREADS = os.environ.get("TITANS_TS_TEST_THREADS", "1")
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when the libraries are loaded
    os.environ.setdefault(name, THREADS)

import torch  # noqa: E402

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def pytest_sessionstart():
    """Collecting makes objects that stay: looking through them again and again takes seconds."""
    gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_sessionfinish():
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def benchmarks_on_the_path(monkeypatch):
    """As for `python benchmarks/NAME.py`; what is imported from there leaves again with the path."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and BENCHMARKS in Path(file).parents:
            del sys.modules[name]


torch.set_num_threads(int(THREADS))
