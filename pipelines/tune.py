"""The command `titans-ts tune`: search for parameters and report the trials."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from titans_ts.config import Options
from titans_ts.datasets.atomic import replace_file
from titans_ts.pipelines.options import (
    ContextLength,
    GroupsColumn,
    Json,
    LabelColumn,
    Labels,
    MaxEpochs,
    Preset,
    Quiet,
    Seed,
    SequenceColumn,
    Threads,
    TimeColumn,
    echo_json,
    note,
    show_progress,
)
from titans_ts.pipelines.series.options import (
    Calendar,
    DateFormat,
    Freq,
    ItemColumn,
    KnownCovariates,
    Missing,
    PastCovariates,
    StaticCovariates,
    Target,
    TimeZone,
    calendar_cycles,
    columns_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from titans_ts.tuning import TitansSearch

__all__ = ["TuneJob", "run_tune", "tune", "write_tune"]


@dataclass(frozen=True)
class TuneJob:
    """The result of a search."""

    search: TitansSearch
    """The fitted search."""
    trials: pd.DataFrame
    """One row per trial: `trial`, `state`, `score`, `seconds`, parameters and the reason of a failure."""
    params: pd.DataFrame
    """The parameters of the same rows."""
    importances: pd.Series
    """Importance by parameter name."""
    snippet: str
    """The best estimator as code."""

    @property
    def best_trial(self) -> int:
        """The number of the best trial."""
        return int(self.trials["trial"].iloc[self.search.best_index_])

    @property
    def own_score(self) -> float | None:
        """The score of the estimator's own parameters, if they were tried."""
        own = self.search.estimator.get_params()
        for params, score in zip(
            self.search.cv_results_["params"], self.trials["score"], strict=True
        ):
            if params and score == score and all(own.get(k) == v for k, v in params.items()):
                return float(score)
        return None


def run_tune(X: Any, y: Any, groups: Any, search: TitansSearch) -> TuneJob:
    """Run a search and collect its results.

    Parameters
    ----------
    X, y, groups
        As for :meth:`titans_ts.TitansSearch.fit`.
    search : TitansSearch
        Not yet fitted.
    """
    import pandas as pd
    from sklearn.base import clone

    search.fit(X, y, groups=groups)
    results = search.cv_results_
    params = pd.DataFrame({k[6:]: results[k] for k in results if k.startswith("param_")})
    columns = {"trial": "trial", "state": "state", "mean_test_score": "score"}
    trials = pd.DataFrame({name: results[key] for key, name in columns.items()})
    trials["seconds"] = (results["mean_fit_time"] + results["mean_score_time"]) * search.n_splits_
    trials = pd.concat([trials, params], axis=1)
    if any(results["reason"]):
        trials["reason"] = results["reason"]
    snippet = _snippet(clone(search.estimator).set_params(**search.best_params_))
    return TuneJob(search, trials, params, search.importances(), snippet)


def write_tune(job: TuneJob, folder: str | Path) -> list[Path]:
    """Write `trials.csv`, `best.py` and the report `search.html`, and return their paths."""
    folder = Path(folder)
    contents = {
        "trials.csv": job.trials.to_csv(index=False).encode(),
        "best.py": job.snippet.encode(),
        "search.html": _page(job).encode(),
    }
    for name, content in contents.items():
        replace_file(folder / name, content)
    return [folder / name for name in contents]


def _page(job: TuneJob) -> str:
    """Return the report of a search as HTML."""
    from titans_ts.reporting.html import Page, Section, Table, render
    from titans_ts.reporting.pages import run_section
    from titans_ts.reporting.plots import search_charts

    search = job.search
    states = job.trials["state"].value_counts()
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    counts = ", ".join(f"{states[s]} {word}" for s, word in words.items() if s in states)
    score = f"score {search.best_score_:.4g}"
    if job.own_score is not None:
        score += f" (the estimator's own parameters: {job.own_score:.4g})"
    front = getattr(search, "pareto_front_", None)
    drawn = None if front is None else front[list(search.objectives)]
    first = 2 + (0 if drawn is None else drawn.shape[1] - 1)
    charts = search_charts(job.trials, job.params, job.importances, drawn)
    sections = [
        Section("Best parameters", code=job.snippet),
        Section("Search", charts=tuple(charts[:first])),
        Section("Parameters", charts=tuple(charts[first:]), picker="Parameter"),
    ]
    if front is not None:
        table = Table("Trials that no other beats", front.reset_index())
        sections.append(Section("Pareto front", tables=(table,)))
    trials = Table("Trials", job.trials, rest="they are in trials.csv")
    sections += [
        Section("Trials", ("Higher scores are better.",), tables=(trials,)),
        run_section({"random_state": search.random_state, "n_trials": search.n_trials}),
    ]
    return render(
        Page(
            f"Search for a {type(search.estimator).__name__}",
            f"{len(job.trials)} trials: {counts}",
            ((f"The best: trial {job.best_trial}, {score}.", ""),),
            tuple(sections),
        )
    )


def tune(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Series as for `forecast`, or sequences as for `classify`."
        ),
    ],
    prediction_length: Annotated[
        int | None,
        typer.Option(help="Steps to forecast. Without it, DATA holds labelled sequences.", min=1),
    ] = None,
    context_length: ContextLength = None,
    target: Target = None,
    time_column: TimeColumn = None,
    item_column: ItemColumn = None,
    past_covariates: PastCovariates = None,
    known_covariates: KnownCovariates = None,
    static_covariates: StaticCovariates = None,
    calendar: Calendar = None,
    freq: Freq = None,
    date_format: DateFormat = None,
    timezone: TimeZone = None,
    missing: Missing = None,
    sequence_column: SequenceColumn = "sequence",
    label_column: LabelColumn = "label",
    labels: Labels = None,
    groups_column: GroupsColumn = None,
    n_trials: Annotated[
        int, typer.Option(help="Number of trials of the study, earlier runs included.", min=1)
    ] = 50,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds after which no trial starts.  [default: no limit]")
    ] = None,
    cv: Annotated[
        int | None,
        typer.Option(help="Number of folds.  [default: one that holds out a fifth]", min=2),
    ] = None,
    scoring: Annotated[
        str | None,
        typer.Option(
            help="Score to maximise, e.g. mse, mae, crps; accuracy.  [default: R2; accuracy]"
        ),
    ] = None,
    objectives: Annotated[
        str, typer.Option(help="Some of score, latency and size, separated by commas.")
    ] = "score",
    storage: Annotated[
        str | None,
        typer.Option(help="URL of a database, or a file, that keeps the study.  [default: memory]"),
    ] = None,
    study_name: Annotated[
        str | None, typer.Option(help="Name of the study in the storage.  [default: the model's]")
    ] = None,
    warm_start_study: Annotated[
        str | None,
        typer.Option(help="An earlier study there, whose best trials are tried first."),
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe or random.")] = "tpe",
    pruner: Annotated[str, typer.Option(help="asha, hyperband, median or none.")] = "asha",
    jobs: Annotated[int, typer.Option(help="Number of processes.", min=1)] = 1,
    worker: Annotated[
        bool,
        typer.Option("--worker", help="Only run trials of a study that another process created."),
    ] = False,
    preset: Preset = "default",
    max_epochs: MaxEpochs = None,
    out: Annotated[
        Path, typer.Option(help="Folder for search.html, trials.csv and best.py.")
    ] = Path("."),
    save: Annotated[Path | None, typer.Option(help="Save the best model to this folder.")] = None,
    json: Json = False,
    seed: Seed = 0,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Search for good parameters of a forecaster or of a DNA classifier.

    With --storage, the same command resumes an interrupted search, and other processes, on any machine,
    run trials of it with the same command and --worker.
    """
    import torch

    from titans_ts.nn.checkpoint import check_replaceable
    from titans_ts.tuning import TitansSearch

    if save is not None:
        check_replaceable(save)
    torch.set_num_threads(threads)
    X: Any
    y = groups = None
    if prediction_length is not None:
        from titans_ts.forecasting import TitansForecaster
        from titans_ts.pipelines.ingest import read_series

        roles = columns_of(
            time_column=time_column,
            item_column=item_column,
            target=target,
            past_covariates=past_covariates,
            known_covariates=known_covariates,
            static_covariates=static_covariates,
            freq=freq,
            date_format=date_format,
            missing=missing,
            timezone=timezone,
        )
        series = read_series(data, roles, say=note)
        note(series.summary())
        X = series.frame
        cycles = calendar_cycles(calendar)
        estimator: Any = TitansForecaster(prediction_length, context_length, calendar=cycles)
        estimator.set_params(preset=preset, **series.parameters)
    else:
        from titans_ts.datasets import read_sequences
        from titans_ts.genomics import TitansClassifier

        frame = read_sequences(
            data, sequence_column=sequence_column, label_column=label_column, labels=labels
        )
        for column in ("label", *([groups_column] if groups_column else [])):
            if column not in frame:
                raise ValueError(
                    f"{data}: there is no column {column!r}; it has {list(frame.columns)} (to tune a "
                    "forecaster, give --prediction-length)"
                )
        X, y = frame["sequence"].to_numpy(), frame["label"].to_numpy()
        groups = None if groups_column is None else frame[groups_column].to_numpy()
        estimator = TitansClassifier()
    options: dict[str, Any] = {
        "objectives": tuple(name.strip() for name in objectives.split(",")),
        "sampler": sampler,
        "pruner": pruner,
    }
    search = TitansSearch(
        estimator.set_params(max_epochs=max_epochs, random_state=seed, progress_bar=False),
        n_trials=n_trials,
        timeout=timeout,
        cv=cv,
        scoring=scoring,
        storage=storage,
        study_name=study_name,
        warm_start_study=warm_start_study,
        n_jobs=jobs,
        random_state=seed,
        progress_bar=show_progress(quiet),
        **options,
    )
    if worker:
        typer.echo(f"ran {search.run_worker(X, y, groups=groups)} trials")
        return
    out.mkdir(parents=True, exist_ok=True)
    job = run_tune(X, y, groups, search)
    if json:
        written = write_tune(job, out)
        if save is not None:
            search.best_estimator_.save(save)
            written.append(save)
        echo_json(
            {
                "best_trial": job.best_trial,
                "score": search.best_score_,
                "params": search.best_params_,
                "trials": job.trials["state"].value_counts().to_dict(),
                "files": [str(path) for path in written],
            }
        )
        return
    states = ", ".join(f"{n} {s.lower()}" for s, n in job.trials["state"].value_counts().items())
    typer.echo(f"\n{len(job.trials)} trials: {states}")
    typer.echo(f"best: trial {job.best_trial}, score {search.best_score_:.4g}")
    if job.own_score is not None:
        typer.echo(f"the estimator's own parameters: {job.own_score:.4g}")
    typer.echo(f"\n{job.snippet}")
    if save is not None:
        search.best_estimator_.save(save)
        typer.echo(f"wrote {save}/")
    for path in write_tune(job, out):
        typer.echo(f"wrote {path}")


def _snippet(estimator: Any) -> str:
    """Return an estimator as code, with the parameters that differ from their defaults."""
    name = type(estimator).__name__
    if not type(estimator).__module__.startswith("titans_ts."):  # a pipeline
        return f"estimator = {estimator!r}\n"
    defaults = inspect.signature(type(estimator)).parameters
    lines = [
        f"    {key}={value!r},"
        for key, value in estimator.get_params(deep=False).items()
        if repr(value) != repr(defaults[key].default)
    ]
    options = [kind.__name__ for kind in Options.__subclasses__()]
    names = {name, *(option for option in options if any(f"{option}(" in line for line in lines))}
    imports = f"from titans_ts import {', '.join(sorted(names))}"
    return "\n".join([imports, "", f"estimator = {name}(", *lines, ")", ""])
