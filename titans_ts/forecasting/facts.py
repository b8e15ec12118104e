"""What a fitted forecaster is, in short lines."""

from __future__ import annotations

import pandas as pd

from titans_ts.config import ForecasterConfig
from titans_ts.forecasting.blend import ZERO_SHOT
from titans_ts.forecasting.panel import Panel

__all__ = ["facts"]


def facts(
    tail: Panel, config: ForecasterConfig, blend: pd.DataFrame, *, fitted: bool
) -> dict[str, str]:
    """Describe a forecaster in lines, by their names.

    Parameters
    ----------
    tail : Panel
        The last rows of the series that forecasts follow.
    config : ForecasterConfig
        The configuration of the network.
    blend : DataFrame
        See :attr:`TitansForecaster.blend_`.
    fitted : bool
        Whether a network was trained.
    """
    names = [str(name) for name in tail.columns or range(tail.n_targets)]
    shown = ", ".join(names[:4]) + ", ..." * (len(names) > 4)
    parts = [f"{len(names)} variate{'s' * (len(names) > 1)} ({shown})"]
    if tail.items is not None:
        parts.insert(0, f"{len(tail.items):,} items")
    if tail.index is not None:
        freq = getattr(tail.freq, "freqstr", tail.freq)
        parts.append(f"frequency {freq}, up to {max(tail.index[tail.starts[1:] - 1])}")
    if not fitted:
        return {"follows": "; ".join(parts), "network": "pretrained; nothing was fitted"}
    blocks = config.backbone.n_layers
    layers = f"{blocks} {config.backbone.variant.upper()} blocks" if blocks else "no blocks"
    lines = {
        "fitted to": "; ".join(parts),
        "network": f"{layers}, width {config.backbone.d_model}; reads {config.context_length} steps, "
        f"{config.patch_length} in a token",
    }
    if len(blend):
        used = blend["weight"][blend["weight"] >= 0.005].sort_values(ascending=False)
        lines["forecasts"] = ", ".join(f"{name} {w:.2f}" for name, w in used.items())
        others = blend["loss"].drop(index=["titans", ZERO_SHOT], errors="ignore").dropna()
        if len(others):
            change = 1 / others.min() - 1
            lines["validation"] = (
                f"quantile loss {abs(change):.1%} {'lower' if change < 0 else 'higher'} than that of "
                f"{others.idxmin()}, the best simple forecast"
            )
    return lines
