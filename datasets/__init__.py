"""Windows, splits, benchmark and synthetic series; genomes and regions in them.

This package imports nothing from the rest of titans_ts.
"""

from __future__ import annotations

import typing as _typing

if _typing.TYPE_CHECKING:
    from titans_ts.datasets.alphabet import reverse_complement
    from titans_ts.datasets.check import check_frame
    from titans_ts.datasets.demo import DEMO_SEASON_LENGTH, load_demo
    from titans_ts.datasets.fetch import load_dataset
    from titans_ts.datasets.genome import Genome
    from titans_ts.datasets.genomic_benchmarks import (
        GENOMIC_BENCHMARKS,
        GenomicBenchmark,
        build_genomic_benchmark,
    )
    from titans_ts.datasets.leaks import check_splits, kmer_hashes
    from titans_ts.datasets.prior import SERIES_KINDS, RandomSeries, random_series
    from titans_ts.datasets.regions import FastaRegions, read_regions
    from titans_ts.datasets.registry import DATASETS, Dataset
    from titans_ts.datasets.sequences import read_sequences
    from titans_ts.datasets.splits import Split, literature_split, ratio_split
    from titans_ts.datasets.synthetic import make_series
    from titans_ts.datasets.tracks import write_track
    from titans_ts.datasets.variants import normalise_variants, read_variants
    from titans_ts.datasets.windows import SlidingWindows, gather_rows

__all__ = [
    "DATASETS",
    "DEMO_SEASON_LENGTH",
    "GENOMIC_BENCHMARKS",
    "SERIES_KINDS",
    "Dataset",
    "FastaRegions",
    "Genome",
    "GenomicBenchmark",
    "RandomSeries",
    "SlidingWindows",
    "Split",
    "build_genomic_benchmark",
    "check_frame",
    "check_splits",
    "gather_rows",
    "kmer_hashes",
    "literature_split",
    "load_dataset",
    "load_demo",
    "make_series",
    "normalise_variants",
    "random_series",
    "ratio_split",
    "read_regions",
    "read_sequences",
    "read_variants",
    "reverse_complement",
    "write_track",
]

_MODULES = (
    "alphabet",
    "check",
    "demo",
    "fetch",
    "genome",
    "genomic_benchmarks",
    "leaks",
    "prior",
    "regions",
    "registry",
    "sequences",
    "splits",
    "synthetic",
    "tracks",
    "variants",
    "windows",
)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: importing pandas takes a third of a second.

    `titans_ts.nn` imports the alphabet and the atomic writer from this package, and needs no pandas.
    """
    from importlib import import_module

    if name in __all__:
        for module in _MODULES:
            candidate = import_module(f"titans_ts.datasets.{module}")
            if name in candidate.__all__:
                value: object = getattr(candidate, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
