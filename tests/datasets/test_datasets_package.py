from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import titans_ts.datasets as package

MODULES = (
    *("_files", "_messages", "_places", "alphabet", "atomic", "check", "demo", "exchange"),
    "fasta_index",
    *(
        "fetch",
        "genome",
        "genomic_benchmarks",
        "leaks",
        "prior",
        "regions",
        "registry",
        "sequences",
    ),
    *("splits", "synthetic", "tracks", "variants", "windows"),
)
INTERNAL = ("_files", "_messages", "_places", "alphabet", "atomic", "exchange", "fasta_index")
"""Modules whose names other packages import from them, and users do not need."""


def _place(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", ["", *MODULES])
def test_all_is_sorted_and_names_what_is_public(name: str) -> None:
    module = importlib.import_module(f"titans_ts.datasets.{name}" if name else "titans_ts.datasets")
    assert list(module.__all__) == sorted(module.__all__, key=_place)
    defined = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and not isinstance(value, ModuleType)
        and (not name or getattr(value, "__module__", None) == module.__name__)
        and key != "annotations"
    }
    assert defined <= set(module.__all__)
    assert all(hasattr(module, key) for key in module.__all__)


def test_package_exports_every_public_name_of_its_modules() -> None:
    public = [m for m in MODULES if m not in INTERNAL]
    names = [
        key for m in public for key in importlib.import_module(f"titans_ts.datasets.{m}").__all__
    ]
    assert sorted([*names, "reverse_complement"], key=_place) == list(package.__all__)


def test_stands_alone() -> None:
    """At import time: the standard library, numpy, pandas and this package; nothing else."""
    sources = sorted(Path(package.__file__).parent.glob("*.py"))
    assert len(sources) == len(MODULES) + 1
    allowed = sys.stdlib_module_names | {"numpy", "pandas"}
    for source in sources:
        for name in _imported(ast.parse(source.read_text(encoding="utf-8"))):
            own = name.startswith("titans_ts.datasets.")
            assert own or name.split(".")[0] in allowed, f"{source.name} imports {name}"


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
