"""Errors of forecasts on a held-out tail, beside those of the best simple forecast of every series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from titans_ts.forecasting.backtest import FEWEST, Backtest
from titans_ts.forecasting.blend import histories, n_rows, simple_forecast
from titans_ts.forecasting.intervals import widen
from titans_ts.forecasting.metrics import coverage

__all__ = ["HeldOut", "band", "held_out", "with_simple"]

Array = NDArray[np.float64]

_NAMES = {"naive": "last value", "seasonal_naive": "seasonal naive", "drift": "drift"}
_TINY = 1e-9
"""An error below this share of a series' mean size is zero."""
_BLOCK = 2**22
"""Number of values of the histories that Theta reads at a time."""


@dataclass(frozen=True)
class HeldOut:
    """Errors of the forecasts of a held-out tail."""

    errors: pd.DataFrame
    """A row per series (variate, item, or both): the mean absolute error of `titans` and of every
    simple forecast, the `best simple` one's name, the `change` of the error against it, the `MASE`, and
    the share of values in the `interval`."""
    simple: tuple[str, ...]
    """Names of the simple forecasts, which are columns of `errors`."""
    n_windows: int
    """Number of forecasts of every series."""
    n_independent: int
    """Number of forecasts that do not overlap, over all items."""
    n_rows: int
    """Number of rows in the tail."""
    horizon: int
    """Number of steps of a forecast."""
    season_length: int
    """Number of steps in the season of the seasonal naive forecast."""
    level: float
    """The share of values that the interval should contain."""
    covered: float
    """The share of held-out values that it contains."""
    calibrated: bool
    """Whether the interval was calibrated."""

    @property
    def zero(self) -> pd.DataFrame:
        """The rows whose best simple forecast makes no error, so that there is no relative one."""
        return self.errors[self.errors["change"].isna() & self.errors["titans"].notna()]

    def change(self, name: str | None = None) -> float:
        """Return the mean relative change of the error against a simple forecast; -0.2 is 20 % lower.

        Parameters
        ----------
        name : str, optional
            One of `simple` (default: the best one of every series).

        Returns
        -------
        float
            From the geometric mean of the ratios. Series whose simple forecast makes no error are left
            out; NaN if no other is left.
        """
        if name is None:
            ratio = 1 + self.errors["change"]
        else:
            ratio = self.errors["titans"] / self.errors[name].where(self.errors["change"].notna())
        ratio = ratio[np.isfinite(ratio)]
        return float(np.exp(np.log(np.maximum(ratio, 1e-3)).mean()) - 1) if len(ratio) else np.nan

    def _against(self, name: str) -> float:
        change = self.change(name)
        return -np.inf if np.isnan(change) else change

    @property
    def too_few(self) -> bool:
        """Whether too few forecasts without overlap were compared."""
        return self.n_independent < FEWEST

    def sentences(self) -> Iterator[str]:
        """Yield what follows from the errors, a sentence at a time."""
        if self.too_few:
            n = self.n_independent
            yield (
                f"too few to tell: {n} forecast{'s' * (n > 1)} without overlap, and {FEWEST} are needed"
            )
        else:
            seasonal = self.simple[1] if "seasonal naive" in self.simple else self.simple[0]
            yield from _compared(self.change(seasonal), seasonal)
            best = max(self.simple, key=self._against)
            if len(self.errors) > 1:
                if best != seasonal:
                    whole = f"{best}, the best simple forecast over all series"
                    yield from _compared(self.change(best), whole)
                best = "the best simple forecast of each series, chosen on the same rows"
            if best != seasonal:
                yield from _compared(self.change(), best)
        zero = self.zero
        if len(zero):
            names = [_name(label) for label in zero.index[:5]] + ["..."] * (len(zero) > 5)
            yield (
                f"not in these averages, because a simple forecast makes no error: {', '.join(names)}"
            )
        kind = "calibrated" if self.calibrated else "not calibrated"
        if not np.isnan(self.covered):
            yield f"{self.covered:.1%} of the values lie in the {self.level:.0%} interval ({kind})"

    def record(self) -> dict[str, object]:
        """Return the numbers for a machine; NaN becomes None."""
        numbers = {
            "change_against_best_simple": self.change(),
            "change_against_seasonal_naive": self.change("seasonal naive")
            if "seasonal naive" in self.simple
            else np.nan,
            "interval": self.level,
            "covered": self.covered,
        }
        return {
            "rows": self.n_rows,
            "forecasts": self.n_windows,
            "independent_forecasts": self.n_independent,
            "too_few_to_tell": self.too_few,
            "season_length": self.season_length,
            **{name: None if np.isnan(value) else value for name, value in numbers.items()},
            "series": [
                {"series": _name(label), **_plain(row)} for label, row in self.errors.iterrows()
            ],
        }


def held_out(
    backtest: Backtest,
    *,
    season_length: int,
    n_rows: int,
    margins: Array | None = None,
    coverage_level: float | None = None,
) -> HeldOut:
    """Compare the forecasts of a backtest with simple ones.

    Parameters
    ----------
    backtest : Backtest
        The forecasts of the tail, with the simple ones, see :func:`with_simple`.
    season_length : int
        Number of steps in a season.
    n_rows : int
        Number of rows in the tail.
    margins : ndarray, optional
        `[I, H, C]`, what is added to both ends between the outermost quantiles (default: nothing).
    coverage_level : float, optional
        The share of values that the widened interval should contain.
    """
    simple = tuple(name for name in backtest.forecasts if name != "titans")
    metrics = backtest.metrics(by=("item", "variate"))
    errors = metrics["mae"].unstack("model")[["titans", *simple]]
    order = metrics.loc["titans"].index
    errors = errors.reindex(order)
    errors["best simple"] = errors[list(simple)].idxmin(axis=1, skipna=True) if len(errors) else ""
    least = errors[list(simple)].min(axis=1)
    size = np.nanmean(np.abs(backtest.actual), axis=(0, 2)).ravel()
    change = errors["titans"] / least.where(least > _TINY * size) - 1
    errors["change"] = change
    errors["MASE"] = metrics.loc["titans"]["mase"]
    low, high = band(backtest, margins)
    errors["interval"] = np.ravel(coverage(backtest.actual, low, high, (0, 2)))
    if backtest.panel.items is None:
        errors = errors.droplevel("item")
    elif backtest.panel.n_targets == 1:
        errors = errors.droplevel("variate")
    levels = backtest.levels
    horizon = backtest.actual.shape[2]
    per_item = (backtest.cutoffs >= 0).any(0).sum() * (n_rows // horizon)
    return HeldOut(
        errors.rename_axis(columns=None),
        simple,
        backtest.n_windows,
        int(per_item),
        n_rows,
        horizon,
        season_length,
        coverage_level or levels[-1] - levels[0],
        float(coverage(backtest.actual, low, high)),
        margins is not None,
    )


def band(backtest: Backtest, margins: Array | None = None) -> tuple[Array, Array]:
    """Return the ends of the interval, `[W, I, H, C]` each; the point forecast lies between them."""
    added = np.zeros(()) if margins is None else margins
    return widen(backtest.quantiles, added, backtest.forecasts["titans"], backtest.least)


def with_simple(backtest: Backtest, season_length: int) -> Backtest:
    """Return a backtest of the median beside the simple forecasts.

    These are last value, seasonal naive, drift and theta. Without a season, seasonal naive is the last
    value and left out.
    """
    forecasts = {"titans": backtest.forecasts["titans"]}
    if 0.5 in backtest.levels:
        forecasts["titans"] = backtest.quantiles[..., backtest.levels.index(0.5)]
    for name, shown in _NAMES.items():
        if season_length > 1 or name != "seasonal_naive":
            forecasts[shown] = backtest.forecasts[name]
    forecasts["theta"] = _theta(backtest, season_length)
    return replace(backtest, forecasts=forecasts)


def _theta(backtest: Backtest, season_length: int) -> Array:
    """Forecast by Theta from the rows before every window, `[W, I, H, C]`."""
    actual, cuts, panel = backtest.actual, backtest.cutoffs, backtest.panel
    W, I, H, C = actual.shape
    length = n_rows(season_length)
    size = max(1, _BLOCK // (length * I * C))
    parts = []
    for start in range(0, W, size):
        rows = cuts[start : start + size]
        past = histories(panel, rows, length).swapaxes(-1, -2)  # [w, I, C, T]
        series = past.reshape(-1, past.shape[-1])  # all NaN without a window
        forecast = simple_forecast("theta", series, H, season_length)
        parts.append(forecast.reshape(len(rows), I, C, H).swapaxes(-1, -2))
    return np.concatenate(parts)


def _compared(change: float, other: str) -> Iterator[str]:
    if not np.isnan(change):
        yield f"on average {abs(change):.1%} {'lower' if change <= 0 else 'higher'} than {other}"


def _name(label: object) -> str:
    return " ".join(map(str, label)) if isinstance(label, tuple) else str(label)


def _plain(row: pd.Series) -> dict[str, object]:
    return {
        str(k): v if isinstance(v, str) else None if pd.isna(v) else float(v)
        for k, v in row.items()
    }
