"""The notebooks of the gallery: stored with small outputs, and run from top to bottom."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
LARGEST = 150_000
"""Bytes of a notebook with its pictures, so that a clone of the repository stays small."""


def test_there_are_one_of_series_and_one_of_dna():
    assert [path.name for path in NOTEBOOKS] == ["dna.ipynb", "series.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_with_its_outputs(path):
    assert path.stat().st_size < LARGEST
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert "".join(cells[0]["source"]).startswith("# ")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data"}
    assert sum("image/png" in output["data"] for output in outputs) >= 1
    assert not any("/home/" in str(output) or "/tmp/" in str(output) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources
    )
    client.execute()  # raises the error of a cell; the notebooks assert what they say
    before = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for old, new in zip(before, notebook.cells, strict=True):
        if old["cell_type"] == "code":
            kinds = [sorted(output["data"]) for output in old["outputs"]]
            assert [
                sorted(output["data"]) for output in new["outputs"] if "data" in output
            ] == kinds
    assert not any(tmp_path.iterdir())  # it leaves nothing behind
