"""Synthetic series with known components, for examples, tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["make_series"]

_AR_COEFFICIENT = 0.7  # correlation of the noise with that of the previous row
_AR_MEMORY = 64  # rows; 0.7**64 is 1e-10, below float32 rounding
_REGIME_LEVEL = 1.0  # standard deviation of a regime's level
_REGIME_LOG_AMPLITUDE = 0.4  # standard deviation of the logarithm of its amplitude


def make_series(
    n_rows: int,
    n_variates: int = 2,
    *,
    freq: str = "h",
    seasons: Sequence[float] = (24, 168),
    trend: float = 1.0,
    regime_changes: int = 2,
    noise: float = 0.3,
    missing: float = 0.0,
    random_state: int | np.random.Generator | None = 0,
    start: str | pd.Timestamp = "2024-01-01",
) -> pd.DataFrame:
    """Generate a multivariate series of trend, seasons, regimes and autocorrelated noise.

    Variate c is ``level + slope * t / T + amplitude * sum_k sin(2 pi t / m_k + phase_k) / (k + 1)
    + e``. Slopes and phases differ between variates; level and amplitude are piecewise constant
    and change for all variates at the same random rows (a regime change); e is a stationary
    AR(1) process with coefficient 0.7.

    Parameters
    ----------
    n_rows
        Rows T, at least 1.
    n_variates
        Columns C, at least 1 (default 2); they are named ``y0``, ``y1``, ...
    freq
        pandas offset alias of the time step (default "h").
    seasons
        Season lengths m in rows, the strongest first (default 24 and 168); may be empty.
    trend
        Largest rise or fall over the whole series (default 1); each variate draws a random one up to it.
    regime_changes
        Number of rows (fewer than `n_rows`, default 2) at which level and amplitude change.
    noise
        Standard deviation of e, at least 0, in units of the strongest season's amplitude (default 0.3).
    missing
        Probability, at least 0 and below 1, that a value is missing (NaN); default 0.
    random_state
        Seed or generator (default 0); the same seed gives the same series.
    start
        First time stamp (default 2024-01-01).

    Returns
    -------
    pandas.DataFrame
        float64 ``[T, C]`` with a `DatetimeIndex` named ``date``.

    Raises
    ------
    ValueError
        If an argument is outside its range.

    Examples
    --------
    >>> frame = make_series(48, n_variates=3, random_state=7)
    >>> frame.shape, list(frame.columns)
    ((48, 3), ['y0', 'y1', 'y2'])
    >>> frame.equals(make_series(48, n_variates=3, random_state=7))
    True
    """
    _check_sizes(n_rows, n_variates, regime_changes)
    _check_amounts(seasons, trend, noise, missing)
    rng = np.random.default_rng(random_state)
    shape = (n_rows, n_variates)
    level, amplitude = _regimes(rng, shape, regime_changes)
    slope = rng.uniform(-trend, trend, n_variates)
    values = level + slope * np.linspace(0.0, 1.0, n_rows)[:, None]  # [T, C]
    values += amplitude * _seasonal(rng, shape, seasons)
    values += noise * _autoregressive(rng, shape)
    values[rng.random(shape) < missing] = np.nan
    index = pd.date_range(start, periods=n_rows, freq=freq, name="date")
    return pd.DataFrame(values, index=index, columns=[f"y{c}" for c in range(n_variates)])


def _regimes(
    rng: np.random.Generator, shape: tuple[int, int], changes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return piecewise constant level and amplitude, both [T, C]."""
    rows, variates = shape
    borders = np.sort(rng.choice(np.arange(1, rows), size=changes, replace=False))
    regime = np.searchsorted(borders, np.arange(rows), side="right")  # [T]
    level = rng.normal(0.0, _REGIME_LEVEL, (changes + 1, variates))
    amplitude = np.exp(rng.normal(0.0, _REGIME_LOG_AMPLITUDE, (changes + 1, variates)))
    return level[regime], amplitude[regime]


def _seasonal(
    rng: np.random.Generator, shape: tuple[int, int], seasons: Sequence[float]
) -> npt.NDArray[np.float64]:
    rows, variates = shape
    time = np.arange(rows)[:, None]
    total = np.zeros(shape)
    for rank, length in enumerate(seasons):
        phase = rng.uniform(0.0, 2.0 * np.pi, variates)
        total += np.sin(2.0 * np.pi * time / length + phase) / (rank + 1)
    return total


def _autoregressive(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return AR(1) noise of unit variance, stationary from the first row on."""
    rows, variates = shape
    shocks = rng.standard_normal((rows + _AR_MEMORY - 1, variates))
    # A convolution with the truncated impulse response avoids a Python loop over rows.
    response = np.sqrt(1.0 - _AR_COEFFICIENT**2) * _AR_COEFFICIENT ** np.arange(_AR_MEMORY)
    return np.stack([np.convolve(column, response, "valid") for column in shocks.T], axis=1)


def _check_sizes(n_rows: int, n_variates: int, regime_changes: int) -> None:
    for argument, value in {"n_rows": n_rows, "n_variates": n_variates}.items():
        if value < 1:
            raise ValueError(f"{argument}={value} is too small; give at least 1.")
    if not 0 <= regime_changes < n_rows:
        raise ValueError(
            f"regime_changes={regime_changes} does not fit; give 0 to n_rows - 1 = {n_rows - 1}."
        )


def _check_amounts(seasons: Sequence[float], trend: float, noise: float, missing: float) -> None:
    for length in seasons:
        if not 1 < length < np.inf:
            raise ValueError(f"seasons={seasons!r} holds {length}; give lengths above 1 row.")
    for argument, value in {"trend": trend, "noise": noise}.items():
        if not 0 <= value < np.inf:
            raise ValueError(f"{argument}={value} is out of range; give a finite number >= 0.")
    if not 0 <= missing < 1:
        raise ValueError(f"missing={missing} is not a probability below 1; give 0 <= missing < 1.")
