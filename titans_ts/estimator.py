"""What the estimators share: devices, seeds and the model directory."""

from __future__ import annotations

import dataclasses
import json
import numbers
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from titans_ts.config import BackboneConfig, TrainingConfig, from_dict, to_dict
from titans_ts.nn.checkpoint import load_directory, save_directory

__all__ = ["TitansEstimator", "model_weights"]

Estimator = TypeVar("Estimator", bound="TitansEstimator")
_TURN = threading.Lock()
_PAIRS = "pairs of keys and values"


class TitansEstimator(BaseEstimator, ABC):
    """Base of the estimators; `__init__` of a subclass stores its arguments and does nothing else."""

    model_: nn.Module
    history_: list[dict[str, float]]

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn may expect; only the CPU repeats a fit exactly."""
        tags = super().__sklearn_tags__()
        device = str(self.get_params(deep=False)["device"])
        tags.non_deterministic = device != "cpu" and (device != "auto" or torch.cuda.is_available())
        return tags

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to a directory (safetensors and json, never pickle).

        Parameters
        ----------
        path : str or Path
            The directory; a model saved there before is replaced, anything else is refused.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        ValueError
            If `path` holds something that is not a saved model, or a parameter cannot be saved.
        """
        check_is_fitted(self, "model_")
        fitted, tensors = self._fitted()
        tensors = tensors | {f"model.{k}": v for k, v in self.model_.state_dict().items()}
        config = {
            "estimator": type(self).__name__,
            "params": _plain(self.get_params(deep=False)),
            "model": to_dict(self.model_.config),
            "fitted": fitted | {"history": self.history_},
        }
        save_directory(path, config, tensors)

    @classmethod
    def load(cls: type[Estimator], path: str | Path, *, device: str | None = None) -> Estimator:
        """Read an estimator written by :meth:`save`.

        Parameters
        ----------
        path : str or Path
            The directory.
        device : str, optional
            Where to compute; default: as it was saved.

        Raises
        ------
        FileNotFoundError
            If `path` is no model directory.
        ValueError
            If it was truncated or changed, is of a newer version or of another estimator.
        """
        config, tensors = load_directory(path)
        damaged = f"path {str(path)!r} holds a damaged model"
        if config.get("estimator") != cls.__name__:
            raise ValueError(
                f"path {str(path)!r} holds a {config.get('estimator')}, not a {cls.__name__}"
            )
        try:
            params = {k: _unpacked(v) for k, v in config["params"].items()}
            self = cls(**params | ({} if device is None else {"device": device}))
            self.history_ = config["fitted"].pop("history")
            self._restore(config["model"], config["fitted"], tensors)
            self.model_.load_state_dict(model_weights(tensors))
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{damaged}: {error}") from error
        self.model_.to(self._device()).eval()
        return self

    @abstractmethod
    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Fitted attributes: what json can hold, and tensors."""

    @abstractmethod
    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        """Undo :meth:`_fitted`, and build `model_` from its configuration."""

    def _config(self, cls: type[Any], **values: Any) -> Any:
        """A configuration from the estimator's parameters of the same names, and `values`."""
        params = self.get_params(deep=False)
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**_numbers({k: v for k, v in params.items() if k in names} | values))

    def _backbone_config(self) -> BackboneConfig:
        """The backbone's configuration: parameters of its own names, then `backbone_options`."""
        params = self.get_params(deep=False)
        options = params["backbone_options"] or {}
        if not isinstance(options, dict):
            raise ValueError(f"backbone_options is {options!r}; give a dict or None")
        options = dict(options)
        memory = {"depth": params["memory_depth"], "chunk_size": params["chunk_size"]}
        memory |= options.pop("memory", None) or {}
        names = {f.name for f in dataclasses.fields(BackboneConfig)}
        values = {k: v for k, v in params.items() if k in names}
        return from_dict(BackboneConfig, _numbers(values | options | {"memory": memory}))

    def _training_config(self) -> TrainingConfig:
        config: TrainingConfig = self._config(TrainingConfig)
        return config

    def _device(self) -> torch.device:
        """Where to compute; "auto" is CUDA where there is one, else the CPU."""
        device = self.get_params(deep=False)["device"]
        if device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            chosen = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f'device is {device!r}; give "auto", "cpu", "cuda", "cuda:0" or "mps"'
            ) from error
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f'device is {device!r}, but CUDA is not available; give "cpu"')
        return chosen

    def _accelerator(self) -> dict[str, Any]:
        """Lightning's words for :meth:`_device`."""
        device = self._device()
        return {
            "accelerator": device.type,
            "devices": 1 if device.index is None else [device.index],
        }

    @contextmanager
    def _seeded(self, state: Any = None) -> Iterator[torch.Generator]:
        """Random numbers from `state`, or else `random_state`; torch's own are left as they were.

        Its random numbers are the process's, so fits in several threads take turns.
        """
        state = self.get_params(deep=False)["random_state"] if state is None else state
        seed = int(check_random_state(state).randint(2**31 - 1))
        device = self._device()
        with _TURN, torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)


def model_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a saved estimator's tensors, the weights of its model by their names there."""
    return {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as json holds them; what only matters in training is left out."""
    plain = {}
    for name, value in params.items():
        if name == "trainer_kwargs" or (
            name == "random_state" and not isinstance(value, numbers.Integral)
        ):
            value = None
        try:
            plain[name] = json.loads(json.dumps(_packed(value), default=_unwrap))
        except TypeError as error:
            raise ValueError(f"{name} is {value!r}, which cannot be saved: {error}") from error
    return plain


def _packed(value: Any) -> Any:
    """A dict whose keys are no str (class weights) as pairs: json would make them str."""
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        return {_PAIRS: list(value.items())}
    return value


def _unpacked(value: Any) -> Any:
    """Undo :func:`_packed`; lists were tuples."""
    if isinstance(value, dict) and set(value) == {_PAIRS}:
        return dict(value[_PAIRS])
    return tuple(value) if isinstance(value, list) else value


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Numpy numbers as Python's own."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}


def _unwrap(value: Any) -> Any:
    """A numpy number or array, or a path, as json knows it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"json cannot hold a {type(value).__name__}")
