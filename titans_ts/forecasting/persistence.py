"""Convert a fitted forecaster to values for json and tensors, and back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset
from torch import Tensor

from titans_ts.config import ForecasterConfig
from titans_ts.forecasting.blend import Blend, Errors
from titans_ts.forecasting.calibration import Calibration
from titans_ts.forecasting.error_memory import NAMES, ErrorMemory, start_memory
from titans_ts.forecasting.fitted_rows import FittedRows
from titans_ts.forecasting.panel import Panel, Roles, category, holds_numbers
from titans_ts.forecasting.predictor import PanelPredictor
from titans_ts.forecasting.scaling import Scales, StaticEncoder
from titans_ts.forecasting.time_index import continued
from titans_ts.forecasting.time_ranges import local_clock, time_range
from titans_ts.forecasting.watch import Watched
from titans_ts.nn.series.memory import start_series
from titans_ts.nn.series.model import ForecastingModel
from titans_ts.nn.state import flatten_state, unflatten_state

__all__ = ["FittedParts", "describe_index", "pack", "rebuild_index", "unpack"]

_SEQUENCES = ("target", "past_covariates", "known_covariates", "static_covariates", "calendar")
"""The roles that are sequences of names."""
_SCALES = ("mean", "spread", "covariate_mean", "covariate_spread")


@dataclass(frozen=True)
class FittedParts:
    """The parts of a fitted forecaster."""

    predictor: PanelPredictor
    tail: Panel
    """The rows that the next forecast reads."""
    unread: NDArray[np.int64]
    """`[I]`, number of rows at the end of every item that come after the state."""
    state: Any
    """The memory's state before them; None for the initial state."""
    calibration: Calibration | None
    watched: Watched | None
    """The series memories of :meth:`TitansForecaster.watch`; None before its first call."""
    errors: ErrorMemory | None
    """The memory of forecast errors, if there is one."""
    fitted_rows: FittedRows | None
    """The rows that a network was fitted to, if there is one and the file tells."""


def pack(parts: FittedParts) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert the parts to values for json, and tensors; the network's weights are not included.

    Raises
    ------
    ValueError
        If a column, an item or the frequency has a name that json cannot hold.
    """
    tail, tensors = _describe_panel(parts.tail)
    scales, encoder = parts.predictor.scales, parts.predictor.encoder
    fitted: dict[str, Any] = {
        "roles": dataclasses.asdict(parts.predictor.roles),
        "tail": tail,
        "items": None if scales.items is None else _plain_items(scales.items),
        "static": None if encoder is None else encoder.columns,
    }
    for name in _SCALES:
        tensors[name] = torch.from_numpy(getattr(scales, name))
    tensors["unread"] = torch.from_numpy(parts.unread)
    if parts.predictor.blend is not None:
        fitted["blend"] = _describe_blend(parts.predictor.blend, tensors)
    if parts.calibration is not None:
        for name, part in parts.calibration._asdict().items():
            tensors[f"calibration.{name}"] = torch.from_numpy(part)
    if parts.state is not None:
        state = flatten_state(parts.state)
        tensors |= {f"state.{k}": v.cpu().contiguous() for k, v in state.items()}
    if parts.errors is not None:
        tensors |= {f"errors.{n}": torch.from_numpy(getattr(parts.errors, n)) for n in NAMES}
    if parts.fitted_rows is not None:
        times, values, *others = parts.fitted_rows
        tensors["fitted_rows.times"] = torch.from_numpy(times)
        tensors["fitted_rows.values"] = torch.from_numpy(values)
        fitted["fitted_rows"] = others
    if parts.watched is not None:
        items = parts.watched.items
        fitted["watched"] = None if items is None else _plain_items(items)
        tensors["watched.last"] = torch.from_numpy(parts.watched.last)
        tensors |= flatten_state(parts.watched.state, "watched.state")
    return fitted, tensors


def unpack(
    network: ForecastingModel,
    fitted: dict[str, Any],
    tensors: dict[str, Tensor],
    device: torch.device,
) -> FittedParts:
    """Undo :func:`pack` for a network of the same configuration; the state is put on the device."""
    names: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in fitted["roles"].items()}
    roles = Roles(**names)
    for name in _SEQUENCES:
        if not isinstance(getattr(roles, name), tuple) and (name, roles.target) != ("target", None):
            raise TypeError(f"roles.{name} is {getattr(roles, name)!r}")
    arrays: Any = {name: tensors[name].numpy() for name in _SCALES}
    for name in ("spread", "covariate_spread"):
        if (arrays[name] <= 0).any():
            raise ValueError(
                f"{name} has values that are not positive: the file is damaged; fit again"
            )
    scales = Scales(
        **arrays,
        items=None if fitted["items"] is None else _rebuild_items(fitted["items"]),
        identity=network.output.counts,
        level=network.config.scaler != "mean",
    )
    encoder = None if fitted["static"] is None else StaticEncoder(fitted["static"])
    calibration = [tensors.get(f"calibration.{name}") for name in Calibration._fields]
    known = [part.numpy() for part in calibration if part is not None]
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    blend = _rebuild_blend(fitted["blend"], tensors) if "blend" in fitted else None
    tail = _rebuild_panel(fitted["tail"], tensors, roles)
    return FittedParts(
        PanelPredictor(network, roles, scales, encoder, blend),
        tail,
        tensors["unread"].numpy() if "unread" in tensors else np.diff(tail.starts),
        unflatten_state(
            {k: v.to(device) for k, v in state.items()}, network.backbone.initial_state(1)
        )
        if state
        else None,
        Calibration(*known) if known else None,
        _rebuild_watched(fitted, tensors) if "watched" in fitted else None,
        _rebuild_errors(network.config, tensors) if "errors.weights" in tensors else None,
        _rebuild_rows(fitted, tensors, tail, scales) if "fitted_rows" in fitted else None,
    )


def _rebuild_rows(
    fitted: dict[str, Any], tensors: dict[str, Tensor], tail: Panel, scales: Scales
) -> FittedRows:
    """Return what is kept of the fitted rows.

    Raises
    ------
    ValueError
        If it does not belong to the fitted items.
    """
    times, values = (tensors[f"fitted_rows.{name}"].numpy() for name in ("times", "values"))
    n_items = 1 if scales.items is None else len(scales.items)
    n_times = 0 if tail.index is None else n_items
    if times.shape != (2, n_times) or values.shape[1:] != (tail.n_targets,):
        raise ValueError(
            f"the fitted rows have {len(times.T)} times, not {n_times}, or other columns: the file is "
            "damaged; fit again"
        )
    n_rows, kind = fitted["fitted_rows"]
    return FittedRows(times, values, int(n_rows), str(kind))


def _rebuild_errors(config: ForecasterConfig, tensors: dict[str, Tensor]) -> ErrorMemory:
    """Return a memory of forecast errors of a file.

    Raises
    ------
    ValueError
        If its arrays are missing or have other shapes than those of this configuration.
    """
    season_length = int(tensors["errors.seasons"][0]) if "errors.seasons" in tensors else 1
    memory = start_memory(config, season_length)
    for name in NAMES:
        found, wanted = tensors.get(f"errors.{name}"), getattr(memory, name)
        if found is None or tuple(found.shape) != wanted.shape:
            raise ValueError(
                f"the memory of forecast errors has no array {name!r} of the shape {wanted.shape}: the "
                "file is damaged, or of another version; fit again with adapt=True"
            )
        setattr(memory, name, found.numpy())
    return memory


def _describe_blend(blend: Blend, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Convert a blend to values for json, and add the errors of its parts to `tensors`."""
    for i, errors in enumerate(blend.errors.values()):
        for name, part in errors._asdict().items():
            tensors[f"blend.{i}.{name}"] = torch.from_numpy(part)
    if blend.linear is not None:
        tensors["blend.linear"] = torch.from_numpy(blend.linear)
    plain = ("weights", "losses", "season_length", "n_rows", "pretrained")
    return {"parts": list(blend.errors)} | {name: getattr(blend, name) for name in plain}


def _rebuild_blend(plain: dict[str, Any], tensors: dict[str, Tensor]) -> Blend:
    """Undo :func:`_describe_blend`."""
    errors = {
        part: Errors(*(tensors[f"blend.{i}.{name}"].numpy() for name in Errors._fields))
        for i, part in enumerate(plain["parts"])
    }
    linear = tensors["blend.linear"].numpy() if "blend.linear" in tensors else None
    kept = {k: v for k, v in plain.items() if k != "parts"}
    return Blend(**kept, errors=errors, linear=linear)


def _rebuild_watched(fitted: dict[str, Any], tensors: dict[str, Tensor]) -> Watched:
    items = fitted["watched"]
    return Watched(
        None if items is None else _rebuild_items(items),
        tensors["watched.last"].numpy(),
        unflatten_state(tensors, start_series(1, 1), "watched.state"),
    )


def _describe_panel(panel: Panel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert a panel to values for json, and tensors.

    Raises
    ------
    ValueError
        If a column, an item or the frequency has a name that json cannot hold.
    """
    plain: dict[str, Any] = {"kind": panel.kind, "n_targets": panel.n_targets}
    tensors = {"tail": torch.from_numpy(panel.values)}
    if panel.columns is not None:
        if not all(c is None or isinstance(c, (str, int, np.integer)) for c in panel.columns):
            raise ValueError(
                f"the columns {list(panel.columns)} cannot be saved; rename them to strings"
            )
        plain["columns"] = [int(c) if isinstance(c, np.integer) else c for c in panel.columns]
    if panel.items is None and not panel.irregular:
        if panel.index is not None:
            plain["index"] = describe_index(panel.index, panel.freq)
        return plain, tensors
    assert panel.index is not None
    index = panel.index
    times = isinstance(index, pd.DatetimeIndex)
    plain["items"] = None if panel.items is None else _plain_items(panel.items)
    plain["irregular"] = panel.irregular
    plain["name"] = None if index.name is None else str(index.name)
    plain["freq"] = panel.freq.freqstr if times else int(panel.freq)
    plain["unit"] = index.unit if times else None
    plain["zone"] = str(index.tz) if times and index.tz is not None else None
    if panel.static is not None:
        plain["static"] = [[name, _plain_static(panel.static[name])] for name in panel.static]
    tensors["tail_places"] = torch.from_numpy((index.asi8 if times else index.to_numpy()).copy())
    tensors["tail_offsets"] = torch.from_numpy(panel.starts)
    return plain, tensors


def _rebuild_panel(plain: dict[str, Any], tensors: dict[str, Tensor], roles: Roles) -> Panel:
    """Undo :func:`_describe_panel`."""
    values = tensors["tail"].numpy()
    columns = tuple(plain["columns"]) if "columns" in plain else None
    if None not in (columns, roles.target) and columns != roles.target:
        raise ValueError(
            f"the columns {columns} are not the targets {roles.target}: the file is damaged"
        )
    panel = Panel(values, plain["n_targets"], plain["kind"], columns, roles=roles)
    if "items" not in plain:
        if "index" not in plain:
            return panel
        index, freq = rebuild_index(plain["index"], len(values))
        return replace(panel, index=index, freq=freq)
    places, freq = tensors["tail_places"].numpy(), plain["freq"]
    index = pd.Index(places)
    if plain["unit"] is not None:
        index, freq = pd.DatetimeIndex(places.view(f"M8[{plain['unit']}]")), to_offset(freq)
        if plain["zone"] is not None:
            index = index.tz_localize("UTC").tz_convert(plain["zone"])
    items, n_items = plain["items"], len(tensors["tail_offsets"]) - 1
    if len(places) != len(values) or (items is not None and len(items) != n_items):
        raise ValueError(f"{len(values)} rows of {n_items} items have {len(places)} times")
    panel = replace(panel, freq=freq, irregular=plain["irregular"])
    if items is None:
        return replace(panel, index=index.rename(plain["name"]))
    return replace(
        panel,
        index=index,
        offsets=tensors["tail_offsets"].numpy(),
        items=_rebuild_items(items),
        static=pd.DataFrame(dict(plain["static"])) if "static" in plain else None,
    )


def _plain_static(column: pd.Series) -> list[Any]:
    """Convert a static column to numbers, or names of categories, for json; None is missing."""
    convert: Any = float if holds_numbers(column) else category
    return [None if pd.isna(value) else convert(value) for value in column]


def _plain_items(items: pd.Index) -> list[Any]:
    """Convert names to values for json.

    Raises
    ------
    ValueError
        If one is neither text nor a number.
    """
    names = items.tolist()
    for name in names:
        if not (name is None or isinstance(name, (str, int, float))):
            raise ValueError(f"the item {name!r} cannot be saved; use text or whole numbers")
    return names


def _rebuild_items(names: list[Any]) -> pd.Index:
    """Return the names of items of a file.

    Raises
    ------
    ValueError
        If one is neither text nor a number.
    """
    return pd.Index(_plain_items(pd.Index(names, dtype=object)))


def describe_index(index: pd.Index, freq: Any) -> dict[str, Any]:
    """Describe a regular index of a frequency by values for json.

    Raises
    ------
    ValueError
        If pandas cannot create the index again from the name of its frequency.
    """
    description = _describe_index(index, freq)
    try:
        again, named = rebuild_index(description, len(index))
        ahead = continued(again, 3, named)
        faithful = again.equals(index) and ahead.equals(continued(index, 3, freq))
    except ValueError:
        faithful = False
    if not faithful:
        raise ValueError(
            f"the frequency {freq!r} of the index cannot be saved; use one that pandas has a name "
            "for, such as 'D' or 'B'"
        )
    return description


def _describe_index(index: pd.Index, freq: Any) -> dict[str, Any]:
    name = None if index.name is None else str(index.name)
    if isinstance(index, pd.PeriodIndex):
        return {"kind": "period", "start": str(index[0]), "freq": index.freqstr, "name": name}
    if isinstance(index, pd.DatetimeIndex):
        start, _ = local_clock(index, 0, freq)
        return {
            "kind": "time",
            "start": start.isoformat(),
            "freq": freq.freqstr,
            "unit": index.unit,
            "zone": None if index.tz is None else str(index.tz),
            "name": name,
        }
    return {"kind": "number", "start": index.start, "step": index.step, "name": name}


def rebuild_index(description: dict[str, Any], length: int) -> tuple[pd.Index, Any]:
    """Undo :func:`describe_index`: return an index of `length` rows, and its frequency or step."""
    kind, start, name = (description[key] for key in ("kind", "start", "name"))
    if kind == "period":
        periods = pd.period_range(start, periods=length, freq=description["freq"], name=name)
        return periods, periods.freq
    if kind == "time":
        freq, zone = to_offset(description["freq"]), description["zone"]
        stamp = pd.Timestamp(start).as_unit(description.get("unit", "ns"))
        if stamp.tz is not None:
            stamp = stamp.tz_convert(zone)
        return time_range(stamp, freq, zone=zone, periods=length, name=name), freq
    step = description["step"]
    return pd.RangeIndex(start, start + length * step, step, name=name), step
