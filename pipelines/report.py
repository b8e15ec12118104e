"""The pages of series: forecasts, backtests and anomalies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_ts.datasets import check_frame
from titans_ts.forecasting.anomalies import anomaly_charts
from titans_ts.forecasting.drawing import Band, backtest_charts, forecast_charts, quantile_bands
from titans_ts.reporting.charts import Chart, Mark
from titans_ts.reporting.evaluation import (
    error_charts,
    leaderboard,
    level_chart,
    residual_charts,
    training_chart,
)
from titans_ts.reporting.html import Page, Section, Table, render
from titans_ts.reporting.pages import changed_settings, memory_section, run_section

if TYPE_CHECKING:
    from titans_ts.forecasting import TitansForecaster
    from titans_ts.forecasting.backtest import Backtest
    from titans_ts.forecasting.panel import Panel
    from titans_ts.pipelines.forecast import ForecastJob
    from titans_ts.pipelines.heldout import HeldOut
    from titans_ts.pipelines.outcome import Outcome

__all__ = [
    "MOST_SERIES",
    "anomaly_page",
    "backtest_page",
    "forecast_page",
    "job_charts",
]

MOST_SERIES = 60
"""Number of series that can be picked in a page at most."""
_MOST_POINTS = 60_000
"""Number of history values in a page, over all series, about."""
_MOST_CHECKED = 1000
"""Number of series of a long frame that are checked for problems at most."""
_MEMORY_ROWS = 400
"""Rows that a memory is measured on in the report of a forecast, over a forecast's own."""


def forecast_page(job: ForecastJob, notes: Sequence[str] = ()) -> str:
    """Return the report of a forecast as HTML.

    Parameters
    ----------
    job : ForecastJob
        The result of :func:`titans_ts.pipelines.run_forecast`.
    notes : sequence of str
        What was said while the file was read (default: nothing).
    """
    held_out, model = job.held_out, job.forecaster
    charts, left_out = job_charts(job, MOST_SERIES)
    text = ["The line is the median, and the area its interval."]
    if left_out:
        text.append(f"{left_out:,} more series are in forecast.csv.")
    table = job.outcome.table()
    sections = [
        Section("Forecast", tuple(text), tuple(charts), picker="Series"),
        *_held_out_sections(held_out, job.backtest),
        _surprise_section(job),
        _model_section(model),
        _memory_of(job),
        _data_section(job.history, model, notes),
        Section(
            "Values of the forecast",
            tables=(Table("Forecast", table, rest="they are in forecast.csv"),),
        ),
        run_section(changed_settings(model)),
    ]
    title = f"Forecast of {held_out.horizon} step" + "s" * (held_out.horizon > 1)
    return _page(title, job.summary, held_out, sections)


def backtest_page(
    backtest: Backtest,
    compared: HeldOut,
    model: TitansForecaster,
    summary: str,
    notes: Sequence[str] = (),
) -> str:
    """Return the report of a backtest as HTML.

    Parameters
    ----------
    backtest : Backtest
        With the simple forecasts.
    compared : HeldOut
        Its errors beside theirs.
    model : TitansForecaster
        The model.
    summary : str
        The size of the series in a line.
    notes : sequence of str
        What was said while the file was read (default: nothing).
    """
    sections = [
        *_held_out_sections(compared, backtest),
        *(
            [_model_section(model)] if hasattr(model, "model_") else []
        ),  # not of a copy that was refitted
        run_section(changed_settings(model)),
    ]
    if notes:
        sections.insert(-1, Section("What was read", tuple(notes)))
    title = f"Backtest: {backtest.n_windows} forecasts of {compared.horizon} steps"
    return _page(title, summary, compared, sections)


def anomaly_page(
    table: pd.DataFrame, model: TitansForecaster, summary: str, notes: Sequence[str] = ()
) -> str:
    """Return the report of anomalies as HTML.

    Parameters
    ----------
    table : DataFrame
        All values with their scores, see :meth:`titans_ts.TitansForecaster.detect_anomalies`.
    model : TitansForecaster
        The model.
    summary : str
        The size of the series in a line.
    notes : sequence of str
        What was said while the file was read (default: nothing).
    """
    found = table[table["anomaly"]]
    roles = model.roles
    keys = [key for key in (roles.item_id, "variate") if key in table]
    groups = list(table.groupby(keys, sort=False, dropna=False))
    # those with anomalies first
    groups.sort(key=lambda group: -int(group[1]["anomaly"].sum()))
    charts: list[Chart] = []
    for names, part in groups[:MOST_SERIES]:
        charts += anomaly_charts(names, part, roles.timestamp)
    n = int(table["score"].notna().sum())
    text = [f"{len(groups) - MOST_SERIES:,} more series are not shown."] * (
        len(groups) > MOST_SERIES
    )
    rest = "they are in the table that the command writes"
    sections = [
        Section("Values", tuple(text), tuple(charts[::2]), picker="Series"),
        Section(
            "Scores",
            ("A value is an anomaly if its score is above the threshold.",),
            tuple(charts[1::2]),
            picker="Series",
        ),
        Section("Anomalies", tables=(Table("Anomalies", found, rest=rest),)),
        *([Section("What was read", tuple(notes))] if notes else []),
        run_section(changed_settings(model)),
    ]
    verdict = ((f"{len(found):,} anomalies among {n:,} values.", ""),)
    return render(Page("Anomalies", summary, verdict, tuple(sections)))


def job_charts(job: ForecastJob, most: int, whole: bool = True) -> tuple[list[Chart], int]:
    """Return a chart of the history and the forecast of each series, and how many are left out.

    Parameters
    ----------
    job : ForecastJob
        The result of :func:`titans_ts.pipelines.run_forecast`.
    most : int
        Number of series at most.
    whole : bool
        Whether the charts have all of the history that a page has room for, of which the last rows are
        shown first (default True), or only these last rows.
    """
    panel, outcome = job.panel, job.outcome
    I, H, C = panel.n_items, outcome.horizon, len(outcome.variates)
    shape = (I, H, C)
    shown = _shown_rows(job)
    n_rows = max(shown, _MOST_POINTS // min(most, I * C)) if whole else shown
    point = outcome.points.to_numpy(float).reshape(shape)
    bands = _outcome_bands(outcome, shape)
    charts: list[Chart] = []
    times = panel.future(H)
    for place in range(I):
        if len(charts) >= most:
            break
        drawn = forecast_charts(
            panel,
            point,
            bands,
            place,
            n_history=n_rows,
            max_variates=most - len(charts),
            earlier=_earlier(job, place),
            times=times,
        )
        for chart in drawn:
            if whole:
                chart = _zoomed(chart, shown)
            charts.append(_named(chart, panel, place))
    return charts, I * C - len(charts)


def _shown_rows(job: ForecastJob) -> int:
    """Return the number of rows of the history that are shown first."""
    shown = job.forecaster.model_.config.context_length
    if not job.forecaster.history_:  # the pretrained model reads all rows
        shown = 4 * max(job.held_out.season_length, job.outcome.horizon)
    return max(shown, 2 * job.outcome.horizon)


def _zoomed(chart: Chart, shown: int) -> Chart:
    """Return a chart that first shows the last rows of the history, and the forecast."""
    before, after = chart.marks[0].x, chart.marks[-1].x
    if len(before) <= shown:
        return chart
    values = [chart.marks[0].y[-shown:]]
    for mark in chart.marks[1:]:
        values += [mark.y, mark.y if mark.low is None else mark.low]
    seen = np.concatenate(values)
    if not np.isfinite(seen).any():
        return chart
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    room = 0.05 * (high - low) or 1.0
    window = before[-shown], after[-1]
    return replace(chart, window=window, y_range=(low - room, high + room))


def _named(chart: Chart, panel: Panel, place: int) -> Chart:
    """Return a chart with the name of its item in its title."""
    if panel.items is None:
        return chart
    item = str(panel.items[place])
    title = item if panel.n_targets == 1 else f"{item} {chart.title}"
    return replace(chart, title=title)


def _outcome_bands(outcome: Outcome, shape: tuple[int, int, int]) -> list[Band]:
    """Return the interval, and the quantiles within it, `[I, H, C]` each."""
    band = outcome.band()
    if band is None:
        return []
    levels = tuple(band[outcome.variates[0]].columns)
    ends = [
        band.xs(level, axis=1, level=1)[outcome.variates].to_numpy(float).reshape(shape)
        for level in levels
    ]
    quantiles = outcome.quantiles
    inner = [q for q in quantiles[outcome.variates[0]].columns if levels[0] < q < levels[1]]
    values = [quantiles.xs(q, axis=1, level=1)[outcome.variates].to_numpy(float) for q in inner]
    stacked = np.stack(values, -1).reshape(*shape, len(inner)) if inner else np.empty((*shape, 0))
    return [((levels[0], levels[1]), ends[0], ends[1]), *quantile_bands(stacked, inner)]


def _earlier(job: ForecastJob, place: int) -> tuple[Any, list[Band]] | None:
    """Return the last held-out forecast of an item in the shape of a forecast of all of them."""
    backtest = job.backtest
    row = place
    if backtest.panel.items is not None:
        items = backtest.panel.items.tolist()
        name = job.panel.items[place]  # type: ignore[index]
        if name not in items:
            return None
        row = items.index(name)
    full = (job.panel.n_items, *backtest.actual.shape[2:])
    point = np.broadcast_to(backtest.forecasts["titans"][-1, row], full)
    bands = [
        (levels, np.broadcast_to(low[-1, row], full), np.broadcast_to(high[-1, row], full))
        for levels, low, high in quantile_bands(backtest.quantiles, backtest.levels)[:1]
    ]
    return point, bands


def _held_out_sections(held_out: HeldOut, backtest: Backtest) -> Iterable[Section]:
    """Return the sections on the held-out tail: tables, errors, calibration, forecasts."""
    formats = {"change": "{:+.1%}".format, "interval": "{:.0%}".format}
    errors = held_out.errors.reset_index()
    errors = errors.rename(columns={"best simple": "best simple forecast"})
    board, words = leaderboard(backtest)
    n, n_free = held_out.n_windows, held_out.n_independent
    text = (
        f"{n:,} forecasts of {held_out.horizon} steps of every series in the last {held_out.n_rows:,} "
        f"rows. Without overlap, there are {n_free:,} in all. The one named titans is the median of the "
        f"model; seasonal naive repeats the last {held_out.season_length} steps.",
        words,
        "In the second table, the change is against the best simple forecast of each series, chosen on "
        f"the same rows; interval is the share of values in the {held_out.level:.0%} interval.",
    )
    yield Section(
        "Error on held-out rows",
        text,
        tables=(
            Table("Leaderboard", board, {"coverage": "{:.1%}".format}),
            Table("Mean absolute error of every series", errors, formats, "they are in errors.csv"),
        ),
    )
    level = level_chart(backtest)
    charts = [*error_charts(backtest), *([] if level is None else [level])]
    yield Section("Where the errors are", charts=(*charts, *residual_charts(backtest)))
    yield Section(
        "Held-out forecasts",
        ("The last forecasts that do not overlap, over what was observed.",),
        tuple(_window_charts(backtest)),
        picker="Series",
    )


def _window_charts(backtest: Backtest, n_windows: int = 30) -> Iterable[Chart]:
    panel, left = backtest.panel, MOST_SERIES
    bands = quantile_bands(backtest.quantiles, backtest.levels)
    point = backtest.forecasts["titans"]
    for place in np.flatnonzero((backtest.cutoffs >= 0).any(0)).tolist():
        item = place if panel.items is None else panel.items.tolist()[place]
        if left <= 0:
            return
        n = max(1, n_windows // min(MOST_SERIES, panel.n_items))
        for chart in backtest_charts(panel, backtest.cutoffs, point, bands, item, n, left):
            yield _named(_joined(chart), panel, place)
            left -= 1


def _joined(chart: Chart) -> Chart:
    """Return a chart with the marks of one name joined, a gap between them: few traces are fast."""
    groups: dict[tuple[str, str], list[Mark]] = {}
    for mark in chart.marks:
        groups.setdefault((mark.kind, mark.name), []).append(mark)
    marks = []
    for parts in groups.values():
        if parts[0].kind in ("band", "range") or len(parts) == 1:
            marks += parts
            continue
        x, y = parts[0].x, [parts[0].y]
        for part in parts[1:]:
            x = x.append(part.x[:1]).append(part.x)
            y += [np.array([np.nan]), part.y]
        marks.append(replace(parts[0], x=x, y=np.concatenate(y)))
    return replace(chart, marks=tuple(marks))


def _surprise_section(job: ForecastJob) -> Section:
    """Return the surprise of a memory that reads the series as it is."""
    panel, model = job.panel, job.forecaster
    roles = model.roles
    charts: list[Chart] = []
    history = job.history
    if panel.items is not None:
        names = panel.items[: max(1, MOST_SERIES // panel.n_targets)]
        history = history[history[roles.item_id].isin(names)]
    try:
        surprise = model.surprise(history)
    except ValueError:  # too few rows to read
        return Section("Surprise")
    if panel.items is None:
        parts = [("", surprise)]
    else:
        parts = [
            (str(item), part.set_index(roles.timestamp))
            for item, part in surprise.groupby(roles.item_id, sort=False)
        ]
    for item, part in parts:
        for variate in job.outcome.variates:
            title = " ".join(str(n) for n in (item, variate) if n != "")
            values = part[variate].to_numpy(float)
            mark = Mark("line", "surprise", part.index, values, role="past")
            charts.append(Chart(title, (mark,), y_title="usual errors"))
    text = (
        "How unexpected every value was to a memory that reads the series as it is: 1 is usual, 6 is six "
        "times as much."
    )
    return Section("Surprise", (text,), tuple(charts[:MOST_SERIES]), picker="Series")


def _model_section(model: TitansForecaster) -> Section:
    """Return what the forecast is made of, and its training."""
    blend = model.blend_
    rows: dict[str, Any] = {"model": "pretrained, not fitted"}
    if model.history_:
        last, config = model.history_[-1], model.model_.config
        backbone = config.backbone
        blocks = f"{backbone.n_layers} {backbone.variant.upper()}" if backbone.n_layers else "none"
        rows = {
            "blocks": blocks,
            "steps that a forecast reads": str(config.context_length),
            "weights": f"{sum(p.numel() for p in model.model_.parameters()):,}",
            "epochs": str(len(model.history_)),
            "seconds of training": f"{last['seconds']:.0f}",
        }
        if "memory_change" in last:
            change = f"{last['memory_change']:.1%}"
            rows["change of the outputs without the memory's writing"] = change
    tables = [Table("Model", pd.DataFrame({"part": list(rows), "value": list(rows.values())}))]
    text: tuple[str, ...] = ()
    if len(blend):
        text = (
            "The forecast is a weighted mean of those of the network (titans), the pretrained model and "
            "simple ones. The losses are those on the validation rows.",
        )
        shown = blend.sort_values("weight", ascending=False, kind="stable").reset_index()
        tables.append(Table("Parts of the forecast", shown, {"weight": "{:.3f}".format}))
    chart = training_chart(model.history_)
    return Section("Model", text, () if chart is None else (chart,), tables=tuple(tables))


def _memory_of(job: ForecastJob) -> Section:
    """Return the use of the memory on the last rows of a series."""
    model = job.forecaster
    history = job.history
    if job.panel.items is not None:
        item = job.panel.items[0]
        history = history[history[model.roles.item_id] == item]
    config = model.model_.config
    rows = config.context_length + config.prediction_length + _MEMORY_ROWS
    try:
        section = memory_section(model.memory_report(history.iloc[-rows:]))
    except ValueError:  # a series that is too short to be measured on
        section = None
    return Section("Memory") if section is None else section


def _data_section(frame: pd.DataFrame, model: TitansForecaster, notes: Sequence[str]) -> Section:
    """Return what was said while the file was read, and what `check_frame` finds."""
    roles = model.roles
    text = [f"{note[0].upper()}{note[1:]}." for note in notes if note]
    if roles.item_id in frame:
        items = frame[roles.item_id].unique()
        if len(items) > _MOST_CHECKED:
            text.append(f"Only the first {_MOST_CHECKED:,} of {len(items):,} series were checked.")
            frame = frame[frame[roles.item_id].isin(items[:_MOST_CHECKED])]
    found = check_frame(frame, item_id=roles.item_id, timestamp=roles.timestamp)
    if not len(found):
        text.append(
            "No problem was found: no gap, repeated time, sentinel, constant or text column."
        )
        return Section("Data check", tuple(text))
    return Section("Data check", tuple(text), tables=(Table("Findings", found),))


def _page(title: str, summary: str, held_out: HeldOut, sections: Sequence[Section]) -> str:
    kept = [s for s in sections if s.text or s.charts or s.tables or s.code]
    return render(Page(title, summary, tuple(_verdict(held_out)), tuple(kept)))


def _verdict(held_out: HeldOut) -> Iterable[tuple[str, str]]:
    for line in held_out.sentences():
        kind = ""
        if line.startswith("on average"):
            kind = "good" if " lower than " in line else "bad"
        yield f"{line[0].upper()}{line[1:]}.", kind
