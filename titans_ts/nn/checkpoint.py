"""Save and load models and states: safetensors and json, no pickle, written atomically."""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from titans_ts.config import from_dict, to_dict
from titans_ts.datasets.atomic import atomic_directory, replace_file, restore_directory
from titans_ts.nn.migration import FORMAT, upgrade, upgrade_tensors
from titans_ts.nn.state import flatten_state, unflatten_state

__all__ = [
    "check_replaceable",
    "content_digest",
    "load_directory",
    "load_model",
    "load_state",
    "refused_if_damaged",
    "save_directory",
    "save_model",
    "save_state",
]

_CONFIG, _TENSORS = "config.json", "model.safetensors"
_COMPILED = "_orig_mod."
"""What torch.compile puts before the names of a module's weights."""

State = TypeVar("State")
Model = TypeVar("Model", bound=nn.Module)


def save_directory(path: str | Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a model directory: `config.json` and `model.safetensors`.

    The directory is written under a temporary name and renamed, so an error leaves either the former
    directory or the complete new one.

    Parameters
    ----------
    path : str or Path
        The directory. A saved model there is replaced; anything else raises an error.
    config : dict
        Values that json can represent.
    tensors : dict of str to Tensor
        Weights, buffers and state by name.

    Raises
    ------
    ValueError
        If `path` exists and is not a saved model.
    """
    path = Path(path)
    restore_directory(path)
    check_replaceable(path)
    payload = _serialise(tensors)
    header = {"format": FORMAT, "sha256": content_digest(config, payload)}
    with atomic_directory(path) as folder:
        (folder / _TENSORS).write_bytes(payload)
        (folder / _CONFIG).write_text(json.dumps(header | config, indent=2) + "\n")


def check_replaceable(path: str | Path) -> None:
    """Raise ValueError if `path` exists and is not a saved model, which may be replaced."""
    if Path(path).exists() and not _replaceable(Path(path)):
        raise ValueError(f"path {str(path)!r} exists and is not a saved model; choose another")


def _serialise(tensors: dict[str, Tensor]) -> bytes:
    # Copies, because safetensors rejects tensors that share memory: at a chunk boundary, the anchor and
    # the weights do.
    form = torch.contiguous_format
    return save(
        {
            k.replace(_COMPILED, ""): v.detach().cpu().clone(memory_format=form)
            for k, v in tensors.items()
        }
    )


def content_digest(config: dict[str, Any], payload: bytes) -> str:
    """Return a hash of the tensors and the configuration, which reveals any change."""
    content = json.dumps(config, sort_keys=True).encode()
    return hashlib.sha256(hashlib.sha256(payload).digest() + content).hexdigest()


def _replaceable(path: Path) -> bool:
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    if not names:
        return True
    if names - {_CONFIG, _TENSORS} or _CONFIG not in names:
        return False
    try:
        return "format" in json.loads((path / _CONFIG).read_text())
    except (ValueError, TypeError, RecursionError):
        return False


def load_directory(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a model directory written by :func:`save_directory`.

    Returns
    -------
    tuple[dict, dict]
        The configuration and the tensors.

    Raises
    ------
    FileNotFoundError
        If `path` is not a model directory.
    ValueError
        If the model was truncated, changed, or written by a newer version.
    """
    path = Path(path)
    if not path.exists():
        restore_directory(path)
    for name in (_CONFIG, _TENSORS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"path {str(path)!r} has no {name}; give a saved model")
    damaged = f"path {str(path)!r} holds a damaged model"
    try:
        config = json.loads((path / _CONFIG).read_text())
        version, digest = config.pop("format"), config.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{damaged}: {_CONFIG} cannot be read ({error}); save it again") from error
    if not isinstance(version, int) or version > FORMAT:
        raise ValueError(
            f"path {str(path)!r} has format {version!r}, newer than {FORMAT}; upgrade titans-ts"
        )
    payload = (path / _TENSORS).read_bytes()
    if content_digest(config, payload) != digest:
        raise ValueError(f"{damaged}: it was truncated or changed; save it again")
    try:
        tensors = load(payload)
    except SafetensorError as error:
        raise ValueError(
            f"{damaged}: {_TENSORS} cannot be read ({error}); save it again"
        ) from error
    for name, tensor in tensors.items():
        if name.startswith("model.") and not tensor.isfinite().all():
            raise ValueError(f"{damaged}: {name!r} has weights that are not finite; save it again")
    _check_sizes(config, len(tensors), damaged)
    with refused_if_damaged(path):
        return upgrade(config, version), upgrade_tensors(tensors, version)


@contextmanager
def refused_if_damaged(path: str | Path) -> Iterator[None]:
    """Raise a ValueError that names the path if the content of a model directory does not fit together.

    Its hash is right, so it is not damage of the disk: somebody changed the files.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError) as error:
        raise ValueError(_misfit(path, error)) from error
    except (TypeError, ValueError) as error:
        if str(error).startswith(f"path {str(path)!r}"):
            raise
        raise ValueError(_misfit(path, error)) from error


def _misfit(path: str | Path, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"path {str(path)!r} holds a damaged model: its parts do not fit ({reason}); save it again"
    )


def _check_sizes(config: Any, n_tensors: int, damaged: str) -> None:
    """Raise a ValueError if a configuration names more layers than there are tensors.

    To create them would take all memory, before their weights are found to be missing.
    """
    for name, value in config.items():
        if isinstance(value, dict):
            _check_sizes(value, n_tensors, damaged)
        elif name in ("n_layers", "depth") and isinstance(value, int) and value > n_tensors:
            raise ValueError(
                f"{damaged}: {name} is {value}, but it has {n_tensors} tensors; save it again"
            )


def save_model(path: str | Path, model: nn.Module) -> None:
    """Write a backbone or a whole model, with its configuration, to a directory.

    Parameters
    ----------
    path : str or Path
        The directory, as for :func:`save_directory`.
    model : nn.Module
        A :class:`titans_ts.nn.TitansBackbone`, or another model with a `config`.
    """
    config = {"model": type(model).__name__, "config": to_dict(model.config)}
    save_directory(path, config, model.state_dict())


def load_model(path: str | Path, cls: type[Model]) -> Model:
    """Read a model written by :func:`save_model`, in evaluation mode.

    Parameters
    ----------
    path : str or Path
        The directory.
    cls : type
        The model's class.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`load_directory`; also if the saved model has another class.
    """
    content, tensors = load_directory(path)
    if content.get("model") != cls.__name__:
        raise ValueError(
            f"path {str(path)!r} holds {content.get('model')}, not a {cls.__name__}; load it as that"
        )
    kind = typing.get_type_hints(cls.__init__)["config"]
    kind = next((k for k in typing.get_args(kind) if k is not type(None)), kind)
    with refused_if_damaged(path):
        model = cls(from_dict(kind, content["config"]))
        model.load_state_dict(tensors)
    return model.eval()


def save_state(path: str | Path, state: object) -> None:
    """Write a stream's state to a file, so that another process can continue it.

    Parameters
    ----------
    path : str or Path
        The file; it is written atomically.
    state : tuple
        The state that a backbone or a layer returned.
    """
    path = Path(path)
    replace_file(path, _serialise(flatten_state(state)))


def load_state(path: str | Path, like: State) -> State:
    """Read a state written by :func:`save_state`.

    Parameters
    ----------
    path : str or Path
        The file.
    like : tuple
        A state of the same model, for instance `backbone.initial_state(batch_size)`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, or a tensor is missing or has another shape than in `like`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"path {str(path)!r} is not a file; give one written by save_state")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"path {str(path)!r} holds a damaged state ({error}); save it again"
        ) from error
    for name in tensors.keys() - flatten_state(like).keys():
        raise ValueError(
            f"the state has {name!r}, which this model lacks; load it for the model that saved it"
        )
    for name, expected in flatten_state(like).items():
        if name in tensors and tensors[name].shape != expected.shape:
            raise ValueError(
                f"the state's {name!r} has shape {tuple(tensors[name].shape)}, "
                f"but this model's has {tuple(expected.shape)}; load it for the model that saved it"
            )
        if name in tensors:
            tensors[name] = tensors[name].to(expected.device)
    return unflatten_state(tensors, like)
