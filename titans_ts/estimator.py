"""What the estimators share: devices, seeds and the model directory."""

from __future__ import annotations

import dataclasses
import json
import numbers
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from tqdm import tqdm

from titans_ts.config import (
    BackboneConfig,
    ModelOptions,
    TrainingConfig,
    TrainingOptions,
    from_dict,
    to_dict,
)
from titans_ts.nn.checkpoint import load_directory, refused_if_damaged, save_directory
from titans_ts.nn.memory_use import (
    MemoryObserver,
    head_outputs,
    memory_off,
    relative_change,
    write_off,
)
from titans_ts.reporting.memory import MemoryReport, idle_memory, make_report
from titans_ts.reporting.summary import EstimatorSummary

__all__ = ["TitansEstimator", "model_weights", "plain", "read_device", "savable_params"]

Estimator = TypeVar("Estimator", bound="TitansEstimator")
_TURN = threading.Lock()
_PAIRS = "pairs of keys and values"
_OPTIONS = "options"


class TitansEstimator(BaseEstimator, ABC):
    """Base of the estimators; `__init__` of a subclass stores its arguments and does nothing else.

    Some parameters hold options: a frozen dataclass, or a shorthand for one (a dict of its fields, or
    None for its defaults). Their fields are parameters too, such as `training_options__patience`.
    """

    option_types: ClassVar[dict[str, tuple[type[Any], ...]]] = {
        "model_options": (ModelOptions,),
        "training_options": (TrainingOptions,),
    }
    """The dataclasses that a parameter with options may hold."""

    shown_always: ClassVar[tuple[str, ...]] = ()
    """Parameters that `repr` shows even at their defaults."""

    device: str
    model_: nn.Module
    history_: list[dict[str, float]]

    def options(self, name: str) -> Any:
        """The options in a parameter, as their dataclass.

        Raises
        ------
        ValueError
            If the parameter holds something else, or a field has an unknown name or a bad value.
        """
        value, (kind,) = getattr(self, name), self.option_types[name]
        if isinstance(value, kind):
            return value
        if not (value is None or isinstance(value, dict)):
            raise ValueError(f"{name} is {value!r}; give a {kind.__name__}, a dict or None")
        return from_dict(kind, _numbers(value or {}))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters; with `deep`, the fields of options too, as `training_options__patience`."""
        params: dict[str, Any] = super().get_params(deep)
        if deep:
            for name in self.option_types:
                with suppress(ValueError):  # `fit` reports bad options
                    options = self.options(name)
                    params |= {} if options is None else _flattened(name, options)
        return params

    def set_params(self: Estimator, **params: Any) -> Estimator:
        """Set parameters, or fields of options such as `training_options__patience`.

        Raises
        ------
        ValueError
            If a name is unknown.
        """
        fields: dict[str, dict[str, Any]] = {}
        for name in [name for name in params if name.partition("__")[0] in self.option_types]:
            option, nested, field = name.partition("__")
            if nested:
                fields.setdefault(option, {})[field] = params.pop(name)
        super().set_params(**params)
        for name, values in fields.items():
            options = self.options(name)
            options = self.option_types[name][0]() if options is None else options
            setattr(self, name, _replaced(options, values))
        return self

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """The parameters that differ from their defaults, and the required ones."""
        text = super().__repr__(N_CHAR_MAX)
        values = self.get_params(deep=False)
        first = [f"{name}={values[name]!r}" for name in self.shown_always if name in values]
        missing = [part for part in first if f"{part.partition('=')[0]}=" not in text]
        head, _, rest = text.partition("(")
        shown = [*missing, rest.removesuffix(")")]
        return f"{head}({', '.join(part for part in shown if part)})"

    def summary(self) -> EstimatorSummary:
        """Return what was set, what was fitted, how good it is and how long it took, in a few lines."""
        settings = repr(self).partition("(")[2].removesuffix(")")
        rows = {"settings": " ".join(settings.split()) or "the defaults"}
        fitted = hasattr(self, "model_")
        if fitted:
            rows |= self._facts()
        if fitted and self.history_:
            weights = sum(parameter.numel() for parameter in self.model_.parameters())
            rows["weights"] = f"{weights:,}"
            last = self.history_[-1]
            seconds = f"{last['seconds']:.0f} s" if last.get("seconds", 0) >= 1 else "less than 1 s"
            epochs = len(self.history_)
            rows["training"] = f"{epochs} epoch{'s' * (epochs > 1)} in {seconds}"
            losses = [row["validation_loss"] for row in self.history_ if "validation_loss" in row]
            if losses:
                rows["training"] += f", smallest validation loss {min(losses):.4g}"
        state = "fitted" if fitted and self.history_ else "not fitted"
        return EstimatorSummary(f"{type(self).__name__}, {state}", rows)

    def _facts(self) -> dict[str, str]:
        """What was fitted and how good it is, for :meth:`summary`."""
        return {}

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn may expect; only the CPU repeats a fit exactly."""
        tags = super().__sklearn_tags__()
        device = str(self.device)  # get_params takes 0.2 ms, in every call that checks for a fit
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
            "params": savable_params(self.get_params(deep=False)),
            "model": to_dict(self.model_.config),
            "fitted": fitted | {"history": self.history_},
        }
        save_directory(path, config, tensors)

    def export(self, path: str | Path, *, format: Literal["torch", "onnx"] | None = None) -> None:
        """Write the fitted model as one file that runs without this package.

        The file holds a graph of the whole forward pass from an empty state: with torch.export it needs
        torch alone, with ONNX a runtime of that. docs/deployment.md says what is exported, what is not,
        and how the file is used.

        Parameters
        ----------
        path : str or Path
            The file, which ends with .pt2 or .onnx; one that exists is replaced.
        format : {"torch", "onnx"}, optional
            torch.export or ONNX (default: that of the path). ONNX needs the packages of
            ``pip install 'titans-ts[onnx]'``.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        ValueError
            If a part of the model cannot be exported; the message names it and what to do.
        """
        self._write_portable(path, format)

    def _write_portable(self, path: str | Path, format: str | None, **options: Any) -> None:
        check_is_fitted(self, "model_")
        from titans_ts.exporting import read_format, write_portable  # not needed by anything else

        target = read_format(path, format)
        write_portable(path, self._portable(**options), target)

    @abstractmethod
    def _portable(self, **options: Any) -> Any:
        """Return a :class:`titans_ts.exporting.Portable` of the fitted model."""

    def memory_report(self, X: Any, y: Any = None) -> MemoryReport:
        """Measure how much the fitted model uses its memory.

        The model reads X three times: as it is; with the memory's write off, so that the memory stays as
        it was learned in training; and with zeros instead of what is read from the memory. If the network
        of a forecaster has no memory, it is that of the pretrained model in its blend.

        Parameters
        ----------
        X : array, Series or DataFrame; list of str
            Of a forecaster: a series, as for :meth:`backtest`, whose rolling forecasts are scored; or a
            batch of windows `[N, context_length, C]`. Of an estimator for DNA: N sequences.
        y : array, optional
            The target, for the scores. Of windows: the values after them `[N, prediction_length, C]`; of
            sequences: labels or values, as for :meth:`fit`. A series is its own target, and y is ignored.

        Returns
        -------
        MemoryReport
            Tables (`blocks`, `heads`, `stream`, `scores`) and a `verdict`; `print` and notebooks show
            them, and `plot()` draws them. Gates and shares are those of the first 65 536 tokens, about.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError, ValueError
            If X or y cannot be used.
        """
        scores, outputs = {}, []
        with self._with_memory(X) as (model, token_unit):
            observer = MemoryObserver(model)
            for name, switch in (
                ("write on", observer),
                ("write off", write_off(model)),
                ("no memory", memory_off(model)),
            ):
                with switch, head_outputs(model) as collected:
                    scores[name] = self._scores_of(X, y)
                outputs.append(collected)
        backbone = model.config.backbone
        what = "" if model is self.model_ else "a pretrained model of "
        return make_report(
            f"a {type(self).__name__} with {what}{backbone.n_layers} {backbone.variant.upper()} blocks",
            observer.uses(),
            scores,
            (relative_change(outputs[0], outputs[1]), relative_change(outputs[0], outputs[2])),
            token_unit,
        )

    @contextmanager
    def _with_memory(self, X: Any) -> Iterator[tuple[Any, tuple[str | None, int]]]:
        """The model whose memories a report measures, with `unit` and `per_token` of the report."""
        check_is_fitted(self, "model_")
        yield self.model_, self._token_unit

    @abstractmethod
    def _scores_of(self, X: Any, y: Any) -> dict[str, float]:
        """Read X with the model, and return scores by name, the most important one first."""

    @property
    @abstractmethod
    def _token_unit(self) -> tuple[str | None, int]:
        """`unit` and `per_token` of a :class:`MemoryReport`."""

    def _print_idle_memory(self) -> None:
        """Print a line after a fit whose memory is idle, if the estimator shows its progress."""
        line = idle_memory(self.history_)
        if line is not None and self.get_params(deep=False)["progress_bar"]:
            tqdm.write(line, file=sys.stderr)

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
        if config.get("estimator") != cls.__name__:
            raise ValueError(
                f"path {str(path)!r} holds a {config.get('estimator')}, not a {cls.__name__}; load it as "
                "that"
            )
        with refused_if_damaged(path):
            params = {k: cls._unpacked(k, v) for k, v in config["params"].items()}
            self = cls(**params | ({} if device is None else {"device": device}))
            self.history_ = config["fitted"].pop("history")
        place = self._device()
        with refused_if_damaged(path), _float32():
            self._restore(config["model"], config["fitted"], tensors)
            self.model_.load_state_dict(model_weights(tensors))
            self.model_.to(place).eval()
            with torch.inference_mode():
                self._try_restored()
        return self

    def _try_restored(self) -> None:
        """Compute something small with what was restored; any error means that parts do not fit."""

    @classmethod
    def _unpacked(cls, name: str, value: Any) -> Any:
        """Undo :func:`savable_params` for one parameter; lists were tuples."""
        if isinstance(value, dict) and set(value) == {_PAIRS}:
            return dict(value[_PAIRS])
        if isinstance(value, dict) and set(value) == {_OPTIONS}:
            kinds = {kind.__name__: kind for kind in cls.option_types[name]}
            kind, fields = value[_OPTIONS]
            return from_dict(kinds[kind], _savable(fields))
        if name == "training_options" and isinstance(value, dict):
            return _savable(value)
        return tuple(value) if isinstance(value, list) else value

    @abstractmethod
    def _fitted(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Fitted attributes: what json can hold, and tensors."""

    @abstractmethod
    def _restore(
        self, model: dict[str, Any], fitted: dict[str, Any], tensors: dict[str, Tensor]
    ) -> None:
        """Undo :meth:`_fitted`, and build `model_` from its configuration."""

    def _of_preset(self, presets: dict[str, tuple[Any, ...]]) -> tuple[Any, ...]:
        """Return the networks of the parameter `preset`, with `n_layers` blocks if it is given.

        Raises
        ------
        ValueError
            If there is no preset of that name.
        """
        params = self.get_params(deep=False)
        preset, n_layers = params["preset"], params["n_layers"]
        if preset not in list(presets):
            raise ValueError(f"preset is {preset!r}; choose one of {list(presets)}")
        if n_layers is None:
            return presets[preset]
        return tuple(one._replace(n_layers=plain(n_layers)) for one in presets[preset])

    def _config(self, cls: type[Any], **values: Any) -> Any:
        """A configuration from the estimator's parameters of the same names, and `values`."""
        params = self.get_params(deep=False)
        params["head_dropout"] = self.options("model_options").head_dropout
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**_numbers({k: v for k, v in params.items() if k in names} | values))

    def _backbone_config(self, **values: Any) -> BackboneConfig:
        """The backbone's configuration: parameters of its own names, `model_options`, and `values`."""
        config: BackboneConfig = self._config(
            BackboneConfig, **self.options("model_options").backbone_fields() | values
        )
        return config

    def _training_config(self, **values: Any) -> TrainingConfig:
        """The settings of training: parameters of its own names, `training_options`, and `values`."""
        options = self.options("training_options")
        fields = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
        config: TrainingConfig = self._config(TrainingConfig, **fields | values)
        return config

    def _device(self) -> torch.device:
        """Where to compute: :func:`read_device` of the parameter `device`."""
        return read_device(self.get_params(deep=False)["device"])

    def _trainer_kwargs(self) -> dict[str, Any]:
        """Lightning's words for :meth:`_device`, and the user's own arguments, which win."""
        device = self._device()
        accelerator = {
            "accelerator": device.type,
            "devices": 1 if device.index is None else [device.index],
        }
        chosen = accelerator | (self.options("training_options").trainer_kwargs or {})
        random_state = self.get_params(deep=False)["random_state"]
        if _several(chosen) and not isinstance(random_state, numbers.Integral):
            raise ValueError(
                f"random_state is {random_state!r}, but trainer_kwargs asks for several processes, which "
                "have to draw the same batches; give a whole number"
            )
        return chosen

    @contextmanager
    def _seeded(self, state: Any = None) -> Iterator[torch.Generator]:
        """Random numbers from `state`, or else `random_state`; torch's own are left as they were.

        Its random numbers are the process's, so fits in several threads take turns.
        """
        state = self.get_params(deep=False)["random_state"] if state is None else state
        try:
            seed = int(check_random_state(state).randint(2**31 - 1))
        except ValueError as error:
            raise ValueError(
                f"random_state is {state!r}; give a whole number of at least 0, a numpy RandomState, or "
                "None"
            ) from error
        device = self._device()
        devices = [device] if device.type == "cuda" else []
        learning = torch.inference_mode(False), torch.enable_grad()
        with _TURN, _float32(), learning[0], learning[1], torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)


def read_device(device: Any) -> torch.device:
    """Return a torch device of its name; "auto" is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        If there is no such device.
    """
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


def _several(trainer_kwargs: dict[str, Any]) -> bool:
    """Whether these arguments of Lightning's trainer may start several processes."""
    devices = trainer_kwargs.get("devices", 1)
    if devices in ("auto", -1, "-1"):  # all GPUs, or one process without any
        devices = max(1, torch.cuda.device_count())
    n_devices = len(devices) if isinstance(devices, (list, tuple)) else devices
    return n_devices not in (1, "1") or trainer_kwargs.get("num_nodes", 1) not in (1, "1")


@contextmanager
def _float32() -> Iterator[None]:
    """Create tensors in float32, whatever torch's default is."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def model_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a saved estimator's tensors, the weights of its model by their names there."""
    return {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}


def savable_params(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as json holds them; what only matters in training is left out."""
    plain = {}
    for name, value in params.items():
        if name == "random_state" and not isinstance(value, numbers.Integral):
            value = None
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            value = {_OPTIONS: [type(value).__name__, _savable(fields)]}
        elif name == "training_options" and isinstance(value, dict):
            value = _savable(value)
        try:
            plain[name] = json.loads(json.dumps(_packed(value), default=_unwrap))
        except TypeError as error:
            raise ValueError(f"{name} is {value!r}, which cannot be saved: {error}") from error
    return plain


def _savable(options: dict[str, Any]) -> dict[str, Any]:
    """Options without those that may name files and classes of this machine."""
    unsaved = ("trainer_kwargs", "resume")
    return {name: value for name, value in options.items() if name not in unsaved}


def _packed(value: Any) -> Any:
    """A dict whose keys are no str (class weights) as pairs: json would make them str."""
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        return {_PAIRS: list(value.items())}
    return value


def _flattened(prefix: str, options: Any) -> dict[str, Any]:
    """Fields of options by their names as parameters, those of options within included."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        name, value = f"{prefix}__{field.name}", getattr(options, field.name)
        flat[name] = value
        if dataclasses.is_dataclass(value):
            flat |= _flattened(name, value)
    return flat


def _replaced(options: Any, values: dict[str, Any]) -> Any:
    """Options with some fields replaced, whose names may lead further in (`memory__depth`)."""
    names = sorted(field.name for field in dataclasses.fields(options))
    fields: dict[str, Any] = {}
    within: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        field, nested, rest = name.partition("__")
        if field not in names:
            raise ValueError(f"{type(options).__name__} has no field {field!r}; known: {names}")
        if nested:
            within.setdefault(field, {})[rest] = value
        else:
            fields[field] = value
    for field, inner in within.items():
        fields[field] = _replaced(fields.get(field, getattr(options, field)), inner)
    return dataclasses.replace(options, **_numbers(fields))


def plain(value: Any) -> Any:
    """A numpy number as Python's own; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {k: plain(v) for k, v in values.items()}


def _unwrap(value: Any) -> Any:
    """A numpy number or array, a path, or options within options, as json knows it."""
    if isinstance(value, Path):
        # "./dna-small" is a folder, "dna-small" would be the model of the package
        return str(value) if len(value.parts) > 1 else os.path.join(os.curdir, value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"json cannot hold a {type(value).__name__}")
