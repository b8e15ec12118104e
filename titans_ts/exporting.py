"""Write a fitted model as one file that runs without this package: torch.export, or ONNX."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from titans_ts.datasets.atomic import atomic_path
from titans_ts.kernels.portable import Format, recording

__all__ = ["METADATA", "Portable", "read_format", "write_portable"]

METADATA = "titans_ts.json"
"""Name of the description inside a file of torch.export; in ONNX, "titans_ts" of its metadata."""

_SUFFIXES: dict[str, Format] = {".pt2": "torch", ".onnx": "onnx"}


class Portable(NamedTuple):
    """A module whose forward pass can be recorded, and what it takes and returns."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """Two examples of every input by name; the first axis of each is the batch."""
    outputs: tuple[str, ...]
    """Names of the outputs."""
    description: dict[str, Any]
    """What a user has to know, as json can hold it."""


def read_format(path: str | Path, name: str | None) -> Format:
    """Return the format of a file: the named one, or that of its suffix.

    Raises
    ------
    ValueError
        If there is no such format, or the suffix is that of another one.
    """
    suffix = Path(path).suffix
    found: Any = _SUFFIXES.get(suffix) if name is None else name
    if found not in _SUFFIXES.values():
        what = f"path is {str(path)!r}" if name is None else f"format is {name!r}"
        raise ValueError(
            f"{what}; give format='torch' and a path that ends with .pt2, or format='onnx' and one that "
            "ends with .onnx"
        )
    if _SUFFIXES.get(suffix) != found:
        wanted = next(end for end, kind in _SUFFIXES.items() if kind == found)
        raise ValueError(
            f"path is {str(path)!r}, but format is {found!r}; let it end with {wanted}"
        )
    return found


def write_portable(path: str | Path, portable: Portable, target: Format) -> dict[str, Any]:
    """Record the module in a graph and write it, completely or not at all.

    Parameters
    ----------
    path : str or Path
        The file; one that exists is replaced.
    portable : Portable
        The module and its inputs. The size of the batch is open.
    target : {"torch", "onnx"}
        The format.

    Returns
    -------
    dict
        The description that the file holds.

    Raises
    ------
    ModuleNotFoundError
        If ONNX is wanted and its packages are not installed.
    ValueError
        If an operation of the model has no counterpart in ONNX.
    """
    if target == "onnx":
        _need_onnx()
    shapes = {name: ["batch", *x.shape[1:]] for name, x in portable.inputs.items()}
    types = {name: str(x.dtype).removeprefix("torch.") for name, x in portable.inputs.items()}
    description = {
        "titans_ts": import_module(__package__).__version__,
        "format": 1,
        **portable.description,
        "inputs": {name: {"shape": shapes[name], "dtype": types[name]} for name in shapes},
        "outputs": list(portable.outputs),
    }
    text = json.dumps(description, indent=2)
    batch = torch.export.Dim("batch", min=1, max=2**31 - 1)  # torch 2.6 needs an end
    dynamic = {name: {0: batch} for name in portable.inputs}
    with _quiet(), torch.no_grad(), recording(target):
        program = torch.export.export(
            portable.module, (), dict(portable.inputs), dynamic_shapes=dynamic, strict=False
        )
    with atomic_path(path) as aside, _quiet():
        if target == "torch":
            torch.export.save(program, aside, extra_files={METADATA: text})
        else:
            _save_onnx(program, portable, aside, text)
    return description


def _save_onnx(program: Any, portable: Portable, path: Path, text: str) -> None:
    names = list(portable.inputs)
    try:
        found = torch.onnx.export(
            program,
            (),
            kwargs=dict(portable.inputs),
            input_names=names,
            output_names=list(portable.outputs),
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(
            f"the model cannot be written as ONNX ({_reason(error)}); export it with format='torch'"
        ) from error
    assert found is not None
    _free_names(found.model, {*names, *portable.outputs})
    found.model.metadata_props["titans_ts"] = text
    found.save(str(path), external_data=False)


def _free_names(model: Any, names: set[str]) -> None:
    """Rename what is called like an input or an output: a graph has one space of names."""
    ends = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    inside = (value for node in model.graph.all_nodes() for value in node.outputs)
    for number, value in enumerate(inside):
        if value.name in names and id(value) not in ends:
            value.name = f"{value.name}_inside_{number}"


def _reason(error: Exception) -> str:
    """Return the line of an exporter's error that names the operation."""
    lines = str(error.__cause__ or error).splitlines()
    return next((line.strip() for line in lines if "No ONNX function" in line), lines[0])


def _need_onnx() -> None:
    for package in ("onnx", "onnxscript"):
        try:
            __import__(package)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"format='onnx' needs the package {package}: pip install 'titans-ts[onnx]'"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' messages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
