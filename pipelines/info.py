"""The command `info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from titans_ts.pipelines.options import Json, echo_json

__all__ = ["info"]

_PACKAGES = ("torch", "lightning", "numpy", "pandas", "scikit-learn")
_EXTRAS = {
    "matplotlib": "plots",
    "optuna": "tuning",
    "gluonts": "gluonts",
    "pyfaidx": "genomics",
    "openpyxl": "tables",
    "pyarrow": "tables",
    "triton": "triton",
}


def info(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL]", help="A saved model.  [default: the installation]"),
    ] = None,
    json: Json = False,
) -> None:
    """Describe a saved model, or what is installed and what it computes with."""
    content = _installation() if model is None else _model(model)
    if json:
        echo_json(content)
        return
    width = max(map(len, content)) + 2
    for name, value in content.items():
        typer.echo(f"{name:<{width}}{value}")


def _installation() -> dict[str, Any]:
    import os
    import platform
    import shutil
    from importlib.metadata import PackageNotFoundError, version

    import torch

    content: dict[str, Any] = {
        "titans-ts": version("titans-ts"),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for name in _PACKAGES:
        content[name] = version(name)
    for name, extra in _EXTRAS.items():
        try:
            content[name] = version(name)
        except PackageNotFoundError:
            content[name] = f"not installed (extra {extra!r})"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    content["GPU"] = gpu
    content["processors"] = os.cpu_count()
    names = os.environ.get("CC", "gcc clang cc").split()
    compiler = next((name for name in names if shutil.which(name)), None)
    content["C compiler"] = compiler or "none: the memory takes about three times as long"
    content["TITANS_TS_DATA"] = os.environ.get("TITANS_TS_DATA", "not set")
    return content


def _model(path: Path) -> dict[str, Any]:
    from titans_ts.genomics import TitansClassifier, TitansRegressor
    from titans_ts.nn.checkpoint import load_directory

    config, tensors = load_directory(path)
    kind = config.get("estimator")
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    content: dict[str, Any] = {"folder": str(path), "size": f"{size / 1e6:.1f} MB"}
    if kind is None:
        weights = sum(tensor.numel() for tensor in tensors.values())
        return content | {"model": config.get("model"), "weights": f"{weights:,}"}
    estimator: Any
    if kind == "TitansForecaster":
        from titans_ts.forecasting import TitansForecaster

        estimator = TitansForecaster.load(path, device="cpu")
    else:
        kinds = {c.__name__: c for c in (TitansClassifier, TitansRegressor)}
        estimator = kinds[kind].load(path, device="cpu")
    return content | {"estimator": kind} | estimator.summary().rows
