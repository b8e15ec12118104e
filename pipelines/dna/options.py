"""Options that several commands for DNA share, and functions that load models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from titans_ts.pipelines.options import show_progress

if TYPE_CHECKING:
    from titans_ts.genomics.sequence_estimator import SequenceEstimator

__all__ = [
    "Bin",
    "GenomeFile",
    "Label",
    "Model",
    "SoftMasked",
    "Track",
    "Window",
    "class_of_name",
    "load_estimator",
]

GenomeFile = Annotated[Path, typer.Argument(metavar="FASTA", help="A genome, plain or bgzipped.")]
Model = Annotated[Path, typer.Option("--model", help="A saved classifier or regressor.")]
Label = Annotated[
    str | None, typer.Option(help="The class to score.  [default: the second of two]")
]
Track = Annotated[
    Path, typer.Option(help="File to write: .bed, .bedgraph (these also with .gz) or .bw.")
]
Window = Annotated[int, typer.Option(help="Letters of a window.", min=1)]
Bin = Annotated[int, typer.Option(help="Letters of a bin.", min=1)]
SoftMasked = Annotated[str, typer.Option(help="Soft-masked letters: keep, flag or mask.")]


def load_estimator(path: Path, threads: int, quiet: bool) -> SequenceEstimator:
    """Load a saved classifier or regressor of DNA, and set the number of threads.

    Raises
    ------
    ValueError
        If the folder has a model of another kind.
    """
    import torch

    from titans_ts.genomics import TitansClassifier, TitansRegressor
    from titans_ts.nn.checkpoint import load_directory

    torch.set_num_threads(threads)
    kinds: dict[str, Any] = {c.__name__: c for c in (TitansClassifier, TitansRegressor)}
    content = load_directory(path)[0]
    name = content.get("estimator") or content.get("model")
    if name not in kinds:
        raise ValueError(
            f"model {str(path)!r} is a {name}; give a saved {' or '.join(kinds)} (for a pretrained "
            "model, use `titans-ts surprisal`)"
        )
    estimator: SequenceEstimator = kinds[name].load(path)
    return estimator.set_params(progress_bar=show_progress(quiet))


def class_of_name(estimator: Any, label: str | None) -> Any:
    """Return the class with this name, or the number of a regressor's value; None stays None.

    Raises
    ------
    ValueError
        If the class is unknown.
    """
    classes = getattr(estimator, "classes_", None)
    if label is None or classes is None:
        return label if label is None else int(label)
    names = {str(c): c for c in classes}
    if label not in names:
        raise ValueError(f"label is {label!r}; choose one of {list(names)}")
    return names[label]
