"""Titans in GluonTS: an estimator that trains on its data sets, and a predictor for its evaluation.

A :class:`titans_ts.TitansForecaster` is fitted to the entries of a data set. `target` has the variates,
`feat_dynamic_real` the known covariates, `past_feat_dynamic_real` the past covariates, and
`feat_static_cat` and `feat_static_real` the static covariates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting import TitansForecaster
from titans_ts.forecasting.columns import column_names
from titans_ts.forecasting.covariates import with_times
from titans_ts.forecasting.panel import Panel, Roles, category
from titans_ts.forecasting.parse import read_panel
from titans_ts.forecasting.scaling import StaticEncoder
from titans_ts.forecasting.stateful import STREAMS

try:
    from gluonts.model import Estimator, Forecast, Predictor
    from gluonts.model.forecast import QuantileForecast
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"titans_ts.forecasting.gluonts needs GluonTS ({error}): pip install 'titans-ts[gluonts]'"
    ) from error

__all__ = ["TitansEstimator", "TitansPredictor", "to_dataset"]

Entry = dict[str, Any]
_DYNAMIC = {
    "past_covariates": "past_feat_dynamic_real",
    "known_covariates": "feat_dynamic_real",
}
_ROLES = ("target", "past_covariates", "known_covariates", "static_covariates")
_STATIC = {"static_cat": "feat_static_cat", "static_real": "feat_static_real"}


class TitansEstimator(Estimator):
    """Train a Titans forecaster on a GluonTS data set.

    The covariates of the model follow from the fields of an entry.

    Parameters
    ----------
    prediction_length : int
        H, number of steps to forecast.
    **params
        Other parameters of :class:`titans_ts.TitansForecaster`, for instance `context_length`, `calendar`
        or `max_epochs`. The default of `quantile_levels` is the nine deciles. The default of
        `context_length` follows from the frequency and lengths of the entries.

    Examples
    --------
    >>> from gluonts.dataset.common import ListDataset
    >>> data = ListDataset(
    ...     [{"start": "2024-01-01", "target": np.sin(np.arange(80) / 3)} for _ in range(3)], freq="D"
    ... )
    >>> estimator = TitansEstimator(
    ...     prediction_length=4, context_length=16, d_model=16, n_heads=2, n_layers=1, max_epochs=1,
    ...     random_state=0, progress_bar=False,
    ... )
    >>> forecast = next(iter(estimator.train(data).predict(data)))
    >>> forecast.mean.shape, forecast.quantile(0.9).shape, str(forecast.start_date)
    ((4,), (4,), '2024-03-21')
    """

    def __init__(self, prediction_length: int, **params: Any) -> None:
        super().__init__()
        self.prediction_length = prediction_length
        for name in (
            "target",
            "past_covariates",
            "known_covariates",
            "static_covariates",
            "item_id",
            "timestamp",
            "freq",
        ):
            if name in params:
                raise ValueError(
                    f"{name} is {params[name]!r}, but the fields of a GluonTS data set have fixed "
                    "roles; leave it out"
                )
        levels = params.pop("quantile_levels", tuple(np.arange(1, 10) / 10))
        self.forecaster = TitansForecaster(prediction_length, quantile_levels=levels, **params)

    @classmethod
    def from_hyperparameters(cls, **hyperparameters: Any) -> TitansEstimator:
        """Create the estimator, as the constructor does."""
        return cls(**hyperparameters)

    def train(
        self, training_data: Iterable[Entry], validation_data: Iterable[Entry] | None = None
    ) -> TitansPredictor:
        """Fit, and return the predictor.

        Parameters
        ----------
        training_data : Dataset
            Its last rows (`validation_fraction`) are held out, unless `validation_data` is given.
        validation_data : Dataset, optional
            The last `prediction_length` rows of each of its entries choose the best epoch.

        Raises
        ------
        ValueError
            If there is no entry, or entries differ in frequency or fields.
        """
        entries = list(training_data)
        roles = _roles(entries, self.forecaster.roles)
        validation = None if validation_data is None else _panel(list(validation_data), roles)
        # a new one for every call: what was trained before stays as it was
        forecaster = TitansForecaster(**self.forecaster.get_params(deep=False))
        forecaster.fit_panel(_panel(entries, roles), validation)
        return TitansPredictor(forecaster)


class TitansPredictor(Predictor):
    """Forecast the entries of a GluonTS data set with a fitted forecaster.

    Parameters
    ----------
    forecaster : TitansForecaster
        A fitted forecaster. Its covariates are read from the fields of an entry, in the order in which
        they were named.
    """

    def __init__(self, forecaster: TitansForecaster) -> None:
        super().__init__(prediction_length=forecaster.model_.config.prediction_length)
        self.forecaster = forecaster

    def predict(
        self, dataset: Iterable[Entry], num_samples: int | None = None, **kwargs: Any
    ) -> Iterator[Forecast]:
        """Yield quantile forecasts in the order of the data set.

        Parameters
        ----------
        dataset : Dataset
            The entries. With known covariates, their `feat_dynamic_real` also has the H steps to
            forecast.
        num_samples : int, optional
            Ignored, because forecasts are quantiles and not samples.
        """
        predictor = self.forecaster.predictor
        roles, config = predictor.roles, predictor.config
        keys = ["mean", *(f"{q:g}" for q in config.quantile_levels)]
        entries = iter(dataset)
        while batch := list(islice(entries, max(1, STREAMS // config.n_variates))):
            panel = _panel(batch, roles, self.forecaster.freq_)
            future = _future(batch, self.prediction_length, len(roles.known_covariates))
            known = predictor.read_known(future, panel)
            state, _ = predictor.consume(panel)
            point, quantiles = predictor.forecast(panel, known, state)
            arrays = np.concatenate([point[..., None], quantiles], -1)  # [n, H, C, 1 + Q]
            for entry, values in zip(batch, np.moveaxis(arrays, -1, 1), strict=True):
                target = np.asarray(entry["target"])
                yield QuantileForecast(
                    forecast_arrays=values if target.ndim > 1 else values[..., 0],
                    start_date=entry["start"] + target.shape[-1],
                    forecast_keys=keys,
                    item_id=entry.get("item_id"),
                    info=entry.get("info"),
                )

    def serialize(self, path: Path) -> None:
        """Write the predictor to a folder: the saved forecaster, and GluonTS' record of the class."""
        super().serialize(Path(path))
        self.forecaster.save(Path(path) / "forecaster")

    @classmethod
    def deserialize(cls, path: Path, device: str | None = None, **kwargs: Any) -> TitansPredictor:
        """Read a predictor that :meth:`serialize` wrote."""
        return cls(TitansForecaster.load(Path(path) / "forecaster", device=device))


def to_dataset(
    X: Any,
    *,
    target: Any = None,
    past_covariates: Any = (),
    known_covariates: Any = (),
    static_covariates: Any = (),
    item_id: str = "item_id",
    timestamp: str = "timestamp",
) -> list[Entry]:
    """Convert a frame to a GluonTS data set.

    Frequencies such as "ME", which GluonTS' own data sets do not accept, are possible, too.

    Parameters
    ----------
    X : Series, wide or long DataFrame
        As for :meth:`titans_ts.TitansForecaster.fit`. Every target of a wide frame becomes an entry.
    target, past_covariates, known_covariates, static_covariates, item_id, timestamp : optional
        As for :class:`titans_ts.TitansForecaster`. Static covariates that are not numbers become codes.

    Returns
    -------
    list of dict
        The entries. Their `feat_dynamic_real` ends with the last row of X.
    """
    roles = Roles(
        target=None if target is None else column_names(target),
        past_covariates=column_names(past_covariates),
        known_covariates=column_names(known_covariates),
        static_covariates=column_names(static_covariates),
        item_id=item_id,
        timestamp=timestamp,
    )
    panel = read_panel(X, roles, min_rows=1)
    if panel.index is None or panel.columns is None:
        raise TypeError("X is an array, which has no times; give a frame")
    encoder = None if panel.static is None else StaticEncoder.fit(panel.static)
    codes, numbers = (None, None) if encoder is None else encoder(panel.static, panel.n_items)
    n_past = len(roles.past_covariates)
    entries = []
    for item, (first, end) in enumerate(panel.spans):
        start = panel.index[first]
        if not isinstance(start, pd.Period):
            start = pd.DatetimeIndex(panel.index[first : first + 1], freq=panel.freq).to_period()[0]
        rows = panel.values[first:end].astype(np.float32)  # what GluonTS' own data sets have
        covariates = rows[:, panel.n_targets :].T
        shared: Entry = {"start": start}
        if n_past:
            shared["past_feat_dynamic_real"] = covariates[:n_past]
        if roles.known_covariates:
            shared["feat_dynamic_real"] = covariates[n_past:]
        if codes is not None and codes.shape[1]:
            shared["feat_static_cat"] = codes[item]
        if numbers is not None and numbers.shape[1]:
            shared["feat_static_real"] = numbers[item]
        for i, column in enumerate(panel.columns):
            name = column if panel.items is None else panel.items[item]
            if panel.items is not None and len(panel.columns) > 1:
                name = f"{name}/{column}"
            entries.append({"item_id": name, "target": rows[:, i], **shared})
    return entries


def _roles(entries: list[Entry], like: Roles) -> Roles:
    """Return the columns of the first entry, with the calendar and the season of `like`."""
    if not entries:
        raise ValueError("the data set has no entry; there is nothing to learn from")
    first = entries[0]
    names: dict[str, Any] = {}
    for name, key in _DYNAMIC.items():
        names[name] = tuple(f"{name}_{i}" for i in range(len(first.get(key, ()))))
    static = [
        f"{name}_{i}" for name, key in _STATIC.items() for i in range(len(first.get(key, ())))
    ]
    target = np.atleast_2d(first["target"])
    return Roles(
        tuple(f"target_{i}" for i in range(len(target))),
        static_covariates=tuple(static),
        calendar=like.calendar,
        season_length=like.season_length,
        **names,
    )


def _panel(entries: list[Entry], roles: Roles, fitted: Any = None) -> Panel:
    """Convert entries to a panel, with times of the fitted frequency (None: that of the entries)."""
    freq = entries[0]["start"].freq
    step = _stamping(entries[0]["start"], fitted)
    rows, indices, static = [], [], []
    n_targets = None if roles.target is None else len(roles.target)
    for number, entry in enumerate(entries):
        start = entry["start"]
        what = f"entry {number} ({entry.get('item_id', 'without item_id')})"
        if start.freq != freq:
            raise ValueError(f"{what} has frequency {start.freqstr!r}, the first {freq.freqstr!r}")
        target = np.atleast_2d(np.asarray(entry["target"], dtype=np.float64))  # [C, T]
        if n_targets is not None and len(target) != n_targets:
            raise ValueError(f"{what} has {len(target)} variates, {n_targets} are expected")
        length = target.shape[1]
        if length == 0:
            raise ValueError(f"{what} has an empty target; drop it")
        columns = [target]
        for name, key in _DYNAMIC.items():
            n_columns = len(getattr(roles, name))
            values = np.asarray(entry.get(key, np.empty((0, length))), dtype=np.float64)
            if n_columns and (
                values.ndim != 2 or len(values) < n_columns or values.shape[1] < length
            ):
                raise ValueError(
                    f"{what} has {key} of shape {values.shape}; give [{n_columns}, {length}]"
                )
            columns.append(values[:n_columns, :length])
            if np.isinf(columns[-1]).any():
                raise ValueError(f"{what} has an infinite value in {key}; replace it by NaN")
        if np.isinf(target).any():
            raise ValueError(f"{what} has an infinite value in target; replace it by NaN")
        rows.append(np.concatenate(columns).T)
        first = step.rollforward(start.start_time)
        indices.append(pd.date_range(first, periods=length, freq=step))
        constant: list[Any] = [category(x) for x in entry.get("feat_static_cat", ())]
        static.append(constant + [float(x) for x in entry.get("feat_static_real", ())])
    panel = Panel(
        np.concatenate(rows),
        len(np.atleast_2d(entries[0]["target"])),
        "panel",
        roles.target,
        indices[0].append(indices[1:]),
        np.concatenate([[0], np.cumsum([len(r) for r in rows])]),
        _names(entries),
        step,
        _static_frame(static, roles) if roles.static_covariates else None,
        roles=roles,
    )
    return with_times(panel)


def _stamping(start: pd.Period, fitted: Any) -> Any:
    """Return the offset of times that stand for periods: `fitted` if it fits, else of their starts."""
    if isinstance(fitted, pd.offsets.BaseOffset):
        first = fitted.rollforward(start.start_time)
        if (
            first.to_period(start.freq) == start
            and (first + fitted).to_period(start.freq) == start + 1
        ):
            return fitted
    return pd.period_range(start, periods=5, freq=start.freq).to_timestamp().freq


def _names(entries: list[Entry]) -> pd.Index:
    """Return a name for each entry, which selects its fitted scale.

    An entry without a unique name becomes a new item.
    """
    ids = [entry.get("item_id") for entry in entries]
    known = pd.Index(ids, dtype=object)
    unique = ~known.duplicated(keep=False) & ~known.isna()
    return pd.Index(
        [
            str(name) if ok else f"\0{i}"
            for i, (name, ok) in enumerate(zip(ids, unique, strict=True))
        ]
    )


def _static_frame(static: list[list[Any]], roles: Roles) -> pd.DataFrame:
    for number, values in enumerate(static):
        if len(values) != len(roles.static_covariates):
            raise ValueError(
                f"entry {number} has {len(values)} static features; expected "
                f"{len(roles.static_covariates)}"
            )
    return pd.DataFrame(static, columns=list(roles.static_covariates))


def _future(entries: list[Entry], steps: int, n_known: int) -> NDArray[np.float64] | None:
    """Return the known covariates of the steps to forecast, `[n, H, K]`; None without any."""
    if n_known == 0:
        return None
    future = []
    for number, entry in enumerate(entries):
        length = np.asarray(entry["target"]).shape[-1]
        values = np.asarray(entry["feat_dynamic_real"], dtype=np.float64)[:n_known]
        if values.shape[1] < length + steps:
            raise ValueError(
                f"entry {number} has feat_dynamic_real up to step {values.shape[1]}; "
                f"a forecast needs it up to {length + steps}"
            )
        future.append(values[:, length : length + steps].T)
    return np.stack(future)
