"""The repository keeps its own rules: packages, imports, names and start-up time."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGES = ("nn", "training", "forecasting", "genomics", "reporting", "tuning")
MAPPED = ("kernels", "datasets", "pipelines")  # folders at the top, linked into titans_ts
LAYERS = {  # a package may import these and itself; datasets and kernels stand alone
    "blas": set(),
    "config": set(),
    "types": set(),
    "datasets": set(),
    "kernels": set(),
    "nn": {"config", "datasets", "kernels"},
    "training": {"config", "datasets", "nn"},
    "exporting": {"datasets", "kernels"},
    "estimator": {"config", "exporting", "nn", "reporting"},
    "forecasting": {
        *("blas", "config", "datasets", "estimator", "exporting", "kernels"),
        *("nn", "reporting", "training"),
    },
    "genomics": {"blas", "config", "datasets", "estimator", "exporting", "nn", "training"},
    "tuning": {"config", "datasets", "estimator", "forecasting", "genomics", "nn", "training"},
    "reporting": {"datasets"},
    "pipelines": {
        *("config", "datasets", "estimator", "nn", "training"),
        *("forecasting", "genomics", "reporting", "tuning"),
    },
}
"""kernels <- nn <- training <- {forecasting, genomics} <- tuning <- pipelines, and what stands beside."""


def modules():
    """Every module by dotted name, once (some folders are linked into titans_ts)."""
    for path in sorted((ROOT / "titans_ts").glob("*.py")):
        yield f"titans_ts.{path.stem}", path
    folders = [ROOT / "titans_ts" / name for name in PACKAGES] + [ROOT / name for name in MAPPED]
    for folder in folders:
        for path in sorted(folder.glob("**/*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            yield ".".join(("titans_ts", *parts)), path


def imports(tree):
    """Modules imported at run time: what stands under TYPE_CHECKING is not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in ast.walk(node):
                child.skip = True
    for node in ast.walk(tree):
        if getattr(node, "skip", False):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module


def test_packages_on_disk_are_the_packages_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = set(project["tool"]["setuptools"]["packages"])
    on_disk = {
        name.removesuffix(".__init__") for name, path in modules() if path.stem == "__init__"
    }
    assert declared == on_disk
    assert {f"titans_ts.{name}" for name in (*PACKAGES, *MAPPED)} == {
        name for name in on_disk if name.count(".") == 1
    }
    for name in MAPPED:
        assert (ROOT / "titans_ts" / name).is_symlink()
        assert (ROOT / "titans_ts" / name).resolve() == ROOT / name


def test_the_oldest_versions_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    bounds = {}
    for text in [*project["dependencies"], *(r for extra in extras.values() for r in extra)]:
        requirement = Requirement(text)
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                bounds[requirement.name] = specifier.version
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    oldest = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert list(oldest) == sorted(oldest, key=str.lower)
    assert set(oldest) == set(bounds)
    for name, version in oldest.items():
        assert version in SpecifierSet(f"=={bounds[name]}.*"), name


def test_imports_follow_the_layers():
    for name, path in modules():
        layer = name.split(".")[1]
        if layer == "__init__":
            continue
        allowed = LAYERS[layer] | {layer, "types"}
        for imported in imports(ast.parse(path.read_text())):
            if imported.split(".")[0] in MAPPED:
                pytest.fail(f"{name} imports {imported} without titans_ts.")
            if imported.split(".")[0] == "titans_ts":
                assert imported.split(".")[1] in allowed, f"{name} imports {imported}"


def test_public_names_are_sorted_and_exist():
    import importlib

    def key(name):  # constants, classes, functions, as ruff sorts them
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    for name, path in modules():
        if name.startswith("titans_ts.kernels.triton.") and find_spec("triton") is None:
            continue  # its kernels are imported when a GPU needs them
        module = importlib.import_module(name.removesuffix(".__init__"))
        assert hasattr(module, "__all__"), f"{name} has no __all__"
        assert list(module.__all__) == sorted(module.__all__, key=key), name
        tree = ast.parse(path.read_text())
        defined = {
            node.name
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"
        }
        for public in module.__all__:
            assert hasattr(module, public), f"{name}.{public}"
        if path.name != "__init__.py":
            assert defined <= set(module.__all__), f"{name}: {defined - set(module.__all__)}"


def used_names(tree):
    """Dotted names of titans_ts that a test imports, or patches by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("titans_ts"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("titans_ts"))
        elif isinstance(node, ast.Constant) and re.fullmatch(r"titans_ts[\w.]+", str(node.value)):
            yield node.value


def test_no_test_uses_a_private_name():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        private = {
            part
            for name in used_names(ast.parse(path.read_text()))
            for part in name.split(".")
            if part.startswith("_") and not part.startswith("__")
        }
        assert not private, f"{path.relative_to(ROOT)} uses {private}"


def test_no_test_reads_the_wall_clock():
    """A test of elapsed time fails on a busy machine: time is measured in benchmarks/."""
    clocks = re.compile(r"\b(perf_counter|time\.time|monotonic\(\)|time\.sleep)\b")
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        found = clocks.findall(path.read_text())
        assert not found or path == Path(__file__), (
            f"{path.name} uses {found}; see tests/support.py"
        )


HEAVY = ("torch", "pandas", "sklearn", "lightning", "matplotlib", "pooch", "typer")
LATE = HEAVY[3:]


def test_import_loads_nothing_heavy():
    """The package alone imports nothing of weight; the estimators nothing only training needs."""
    for statement, names in (
        ("import titans_ts", HEAVY),
        ("from titans_ts import TitansForecaster, TitansClassifier", LATE),
    ):
        code = f"import sys; {statement}; print([m for m in {names} if m in sys.modules])"
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == "[]", statement


def test_prediction_needs_no_training_engine(tmp_path):
    """A saved model forecasts in a fresh process that never imports Lightning."""
    code = """
import sys
import numpy as np
from titans_ts import TitansForecaster
print(TitansForecaster.load(sys.argv[1]).predict(np.zeros((16, 1))).shape, "lightning" in sys.modules)
"""
    import numpy as np

    from titans_ts import TitansForecaster

    forecaster = TitansForecaster(
        2, 16, d_model=8, n_heads=2, n_layers=1, max_epochs=1, random_state=0, progress_bar=False
    )
    forecaster.fit(np.sin(np.arange(60))[:, None]).save(tmp_path / "m")
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "(2, 1) False"
