"""A forecast as one self-contained HTML page."""

from __future__ import annotations

import base64
import math
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from titans_ts.pipelines.forecast import ForecastJob

__all__ = ["forecast_report"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #2b2d42; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem }}
h1 {{ font-size: 1.6rem; margin-bottom: .2rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }}
.lead {{ font-size: 1.1rem }} .good {{ color: #00798c }} .bad {{ color: #d1495b }}
img {{ max-width: 100% }} .scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .25rem .9rem .25rem 0; text-align: right; white-space: nowrap;
          border-bottom: 1px solid #e3e3ea }}
th:first-child, td:first-child {{ text-align: left }} thead th {{ border-bottom-width: 2px }}
small {{ color: #6b6d80 }}
</style></head><body>
<h1>{title}</h1>
<p><small>{subtitle}</small></p>
<p class="lead">{verdict}</p>
<img alt="History, forecast and interval of every variate" src="data:image/png;base64,{picture}">
<h2>Error on the held-out tail</h2>
<p>Mean absolute error of {n_windows} forecasts of {horizon} steps, from every place of the last
{n_test} rows, which training did not see. Seasonal naive repeats the last {season} steps.</p>
<div class="scroll">{errors}</div>
<h2>Forecast</h2>
<div class="scroll">{forecast}</div>
<h2>Model</h2>
<div class="scroll">{model}</div>
</body></html>
"""


def forecast_report(job: ForecastJob, picture: bytes) -> str:
    """Return a page that needs nothing beside itself.

    Parameters
    ----------
    job : ForecastJob
        What :func:`titans_ts.pipelines.run_forecast` returned.
    picture : bytes
        A PNG of what :func:`titans_ts.plots.plot_forecast` drew.
    """
    history, horizon = job.history, len(job.forecast)
    errors = job.errors.assign(change=job.errors["titans"] / job.errors["seasonal naive"] - 1)
    formats = {"titans": "{:.4g}".format, "seasonal naive": "{:.4g}".format}
    model = job.forecaster
    settings = {
        "variant": model.variant.upper(),
        "reads": f"{model.context_length} steps",
        "weights": f"{sum(p.numel() for p in model.model_.parameters()):,}",
        "epochs": len(model.history_),
        "seconds of training": f"{model.history_[-1]['seconds']:.0f}",
    }
    return _PAGE.format(
        title=f"Forecast of {horizon} steps",
        subtitle=escape(
            f"{history.shape[1]} variates, {len(history):,} rows, "
            f"{history.index[0]} to {history.index[-1]}"
        ),
        verdict=_verdict(job.improvement),
        picture=base64.b64encode(picture).decode(),
        n_windows=f"{job.n_windows:,}",
        horizon=horizon,
        n_test=job.n_windows + horizon - 1,
        season=job.season_length,
        errors=_html(errors, formats | {"change": "{:+.1%}".format}),
        forecast=_html(job.forecast.reset_index(), index=False),
        model=_html(pd.DataFrame({"": settings}), header=False),
    )


def _verdict(improvement: float) -> str:
    if math.isnan(improvement):
        return "The seasonal-naive forecast makes no error here; there is nothing to improve on."
    better = improvement > 0
    return (
        f'On average <b class="{"good" if better else "bad"}">{abs(improvement):.1%} '
        f"{'lower' if better else 'higher'}</b> error than the seasonal-naive forecast."
    )


def _html(frame: pd.DataFrame, formats: dict | None = None, **options: bool) -> str:
    return frame.to_html(
        formatters=formats, float_format="{:.4g}".format, border=0, justify="unset", **options
    )
