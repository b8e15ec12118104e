"""Results as self-contained HTML pages."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from titans_ts.pipelines.forecast import ForecastJob
    from titans_ts.pipelines.heldout import HeldOut
    from titans_ts.pipelines.tune import TuneJob

__all__ = ["forecast_report", "search_report"]

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
small {{ color: #6b6d80 }} pre {{ background: #f4f4f8; padding: .8rem 1rem; overflow-x: auto }}
</style></head><body>
<h1>{title}</h1>
<p><small>{subtitle}</small></p>
<p class="lead">{verdict}</p>
<img alt="{caption}" src="data:image/png;base64,{picture}">
{body}
</body></html>
"""

_FORECAST = """<h2>Error on the held-out tail</h2>
<p>Mean absolute error of {n_windows} forecasts (the median) of {horizon} steps in the last {n_test}
rows, which were not used for training; {n_independent} of them do not overlap. Seasonal naive repeats
the last {season} steps. The change is against the best simple forecast of each series, chosen on the
same rows. The MASE is the error in mean seasonal differences of the rows before, and the last column is
the share of values in the {level:.0%} interval.</p>
<div class="scroll">{errors}</div>{more}
<h2>Forecast</h2>
<div class="scroll">{forecast}</div>
<h2>Model</h2>
<div class="scroll">{model}</div>
"""
_SHOWN = 200
"""Number of rows of a table on a page."""

_SEARCH = """<h2>Best parameters</h2>
<pre>{snippet}</pre>
<h2>Trials</h2>
<p>Higher scores are better. Pruned and failed trials have none.</p>
<div class="scroll">{trials}</div>
"""


def forecast_report(job: ForecastJob, picture: bytes) -> str:
    """Return a self-contained HTML page.

    Parameters
    ----------
    job : ForecastJob
        The result of :func:`titans_ts.pipelines.run_forecast`.
    picture : bytes
        A PNG file of the figure of :func:`titans_ts.reporting.plots.plot_forecast`.
    """
    held_out = job.held_out
    formats: dict[str, Any] = {"change": "{:+.1%}".format, "interval": "{:.0%}".format}
    names = {"best simple": "best simple forecast"}
    errors = held_out.errors.reset_index().rename(columns=names)
    left_out = len(errors) - _SHOWN
    model = job.forecaster
    settings = {"model": "pretrained, not fitted"}
    if model.history_:
        last, config = model.history_[-1], model.model_.config
        settings = {
            "blocks": f"{config.backbone.n_layers} {config.backbone.variant.upper()}"
            if config.backbone.n_layers
            else "none",
            "reads": f"{config.context_length} steps",
            "weights": f"{sum(p.numel() for p in model.model_.parameters()):,}",
            "epochs": f"{len(model.history_)}",
            "seconds of training": f"{last['seconds']:.0f}",
        }
        if "memory_change" in last:
            change = f"{last['memory_change']:.1%}"
            settings["change of the outputs without the memory's writing"] = change
    table = job.outcome.table()
    body = _FORECAST.format(
        n_windows=f"{held_out.n_windows:,}",
        n_independent=f"{held_out.n_independent:,}",
        horizon=held_out.horizon,
        n_test=held_out.n_rows,
        season=held_out.season_length,
        level=held_out.level,
        errors=_html(errors.head(_SHOWN), formats, index=False, na_rep="-"),
        more=f"<p>{left_out:,} more series are in errors.csv.</p>" if left_out > 0 else "",
        forecast=_html(table.head(_SHOWN), index=False)
        + (
            f"<p>{len(table) - _SHOWN:,} more rows are in forecast.csv.</p>" * (len(table) > _SHOWN)
        ),
        model=_html(pd.DataFrame({"": settings}), header=False),
    )
    return _page(
        f"Forecast of {held_out.horizon} steps",
        job.summary,
        _verdict(job.held_out),
        "History, forecast and interval of every series",
        picture,
        body,
    )


def search_report(job: TuneJob, picture: bytes) -> str:
    """Return a self-contained HTML page.

    Parameters
    ----------
    job : TuneJob
        The result of :func:`titans_ts.pipelines.tune.run_tune`.
    picture : bytes
        A PNG file of the figure of :func:`titans_ts.reporting.plots.plot_search`.
    """
    states = job.trials["state"].value_counts()
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    counts = ", ".join(f"{states[s]} {word}" for s, word in words.items() if s in states)
    score = f"score {job.search.best_score_:.4g}"
    if job.own_score is not None:
        score += f" (the estimator's own parameters: {job.own_score:.4g})"
    front = getattr(job.search, "pareto_front_", None)
    trials = _html(job.trials, index=False, na_rep="")
    body = _SEARCH.format(snippet=escape(job.snippet), trials=trials)
    if front is not None:
        table = _html(front.reset_index(), index=False)
        body = f'<h2>Pareto front</h2><div class="scroll">{table}</div>{body}'
    return _page(
        f"Search for a {type(job.search.estimator).__name__}",
        f"{len(job.trials)} trials: {counts}",
        f"The best: trial {job.best_trial}, {score}.",
        "History of the search, importances, and parameters with their scores",
        picture,
        body,
    )


def _page(title: str, subtitle: str, verdict: str, caption: str, picture: bytes, body: str) -> str:
    return _PAGE.format(
        title=escape(title),
        subtitle=escape(subtitle),
        verdict=verdict,
        caption=caption,
        picture=base64.b64encode(picture).decode(),
        body=body,
    )


def _verdict(held_out: HeldOut) -> str:
    sentences = []
    for line in held_out.sentences():
        sentence = escape(f"{line[0].upper()}{line[1:]}.")
        if line.startswith("on average"):
            kind = "good" if " lower than " in line else "bad"
            sentence = f'<b class="{kind}">{sentence}</b>'
        sentences.append(sentence)
    return " ".join(sentences)


def _html(frame: pd.DataFrame, formats: dict[str, Any] | None = None, **options: Any) -> str:
    return frame.to_html(
        formatters=formats, float_format="{:.4g}".format, border=0, justify="unset", **options
    )
