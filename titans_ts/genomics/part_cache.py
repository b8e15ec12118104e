"""Stores parts of a long computation in a folder, so the same call can resume after an interruption."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from titans_ts.datasets.atomic import ASIDE, replace_file

__all__ = ["PartCache", "model_digest"]

_REQUEST = "request.json"


class PartCache:
    """Arrays that have been computed already, by number.

    Parameters
    ----------
    folder : Path or None
        The folder; parts of another computation are removed from it. With None, nothing is stored.
    request : mapping
        All that the parts depend on, as values for json.
    """

    def __init__(self, folder: Path | None, request: Mapping[str, Any]) -> None:
        self._folder = folder
        if folder is None:
            return
        text, path = json.dumps(request, sort_keys=True), folder / _REQUEST
        if not (path.is_file() and path.read_text(encoding="utf-8") == text):
            self.remove()
            replace_file(path, text.encode())

    def get(self, number: int) -> NDArray[Any] | None:
        """Return a part, or None if it is not stored or its file is damaged."""
        path = None if self._folder is None else self._folder / f"part-{number}.npy"
        if path is None or not path.is_file():
            return None
        try:
            part: NDArray[Any] = np.load(path)
        except (ValueError, EOFError):
            return None
        return part

    def put(self, number: int, part: NDArray[Any]) -> None:
        """Store a part atomically."""
        if self._folder is not None:
            content = io.BytesIO()  # of a full disk, np.save says neither the file nor the cause
            np.save(content, part)
            replace_file(self._folder / f"part-{number}.npy", content.getvalue())

    def remove(self) -> None:
        """Remove all parts, and the folder if it is empty then."""
        if self._folder is None or not self._folder.is_dir():
            return
        # The request goes first: after a kill, no part can be mistaken for one of another request.
        for pattern in (_REQUEST, "part-*.npy", f"{ASIDE}*"):
            for path in self._folder.glob(pattern):
                path.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()


def model_digest(model: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> str:
    """Return a digest of a model's configuration and weights, and of further tensors.

    Parameters
    ----------
    model : nn.Module
        A model with a `config`.
    tensors : mapping, optional
        Further tensors that the scores depend on, by name (default: none).
    """
    digest = hashlib.sha256(repr(model.config).encode())
    for name, tensor in (model.state_dict() | dict(tensors or {})).items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
