"""Run the trials of a study, in this process or in several, until none is left or time is up."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep
from typing import Any

import optuna
import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from titans_ts.tuning.objective import Objective
from titans_ts.tuning.results import mean_score
from titans_ts.tuning.shared_study import SharedStudy, last_attempts
from titans_ts.tuning.storage import StorageLike, open_storage

__all__ = ["RunResult", "quiet_optuna", "run_trials"]

_POLL_SECONDS = 1.0
"""Seconds between two checks of the trials of other processes."""


@dataclass(frozen=True)
class RunResult:
    """Trials of a run."""

    n_run: int
    """Number of trials that this call ran."""
    finished: list[FrozenTrial]
    """All trials of the study that have ended; a retried trial counts once."""


def run_trials(
    study: SharedStudy,
    objective: Objective,
    storage: StorageLike,
    *,
    n_trials: int | None,
    timeout: float | None = None,
    n_jobs: int = 1,
    wait: bool = True,
    progress_bar: bool = False,
) -> RunResult:
    """Run the waiting trials of a study. All trials are read once in every pass of the loop.

    Parameters
    ----------
    study : SharedStudy
        The study.
    objective : Objective
        The objective, which a trial computes.
    storage : str, Path, BaseStorage or None
        The storage in which other processes open the study, if `n_jobs` is not 1.
    n_trials : int or None
        Number of trials of the study, for the progress bar. None: add trials until `timeout`.
    timeout : float or None
        Seconds after which no trial starts (default: no limit).
    n_jobs : int
        Number of processes, as in joblib (default 1).
    wait : bool
        Whether to wait for the trials of other processes, and to repeat a trial whose process dies
        (default True).
    progress_bar : bool
        Whether to show a progress bar (default False).

    Raises
    ------
    RuntimeError
        If the first three trials, or more, all failed for the same reason.
    """
    deadline = math.inf if timeout is None else monotonic() + timeout
    endless, n_run = n_trials is None, 0
    trials = study.trials()
    earlier = {trial.number for trial in last_attempts(trials, finished=True)}
    with _Progress(n_trials, shown=progress_bar) as progress:
        while True:
            progress.show(trials)
            if (failure := _repeated_failure(trials, earlier)) is not None:
                raise RuntimeError(failure)
            if monotonic() >= deadline:
                break
            if study.requeue_stale_trials(trials):
                trials = study.trials()
            if n_jobs == 1:
                n_ran = _run_next(study, objective, trials, endless)
            else:
                run = partial(
                    _run_next_elsewhere,
                    objective,
                    study.study.study_name,
                    storage,
                    study.study.pruner,
                    (study.sampler, study.seed),
                    endless,
                    torch.get_num_threads(),
                )
                tasks = _while_waiting(run, study, progress, earlier, deadline, endless)
                n_ran = _run_in_processes(tasks, n_jobs)
            n_run += n_ran
            if not (n_ran or _any(trials, TrialState.WAITING)):  # or another process took it
                if not (wait and _any(trials, TrialState.RUNNING)):
                    break
                sleep(_POLL_SECONDS)
            trials = study.trials()
    return RunResult(n_run, last_attempts(trials, finished=True))


def _run_next(
    study: SharedStudy,
    objective: Objective,
    trials: Sequence[FrozenTrial] | None,
    endless: bool,
) -> int:
    """Run the next waiting trial, or a new one if `endless`; return the number of trials run."""
    trial = study.pop_waiting_trial(trials)
    if trial is None:
        if not endless:
            return 0
        trial = study.add_trial()
    try:
        with study.heartbeat(trial):
            values = objective(trial)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except optuna.exceptions.UpdateFinishedTrialError:
        pass  # it was taken for dead, and another process runs it again
    except Exception as error:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr("reason", f"{type(error).__name__}: {error}".removesuffix(": "))
        study.tell(trial, state=TrialState.FAIL)
    except BaseException:
        study.requeue(trial)
        raise
    else:
        study.tell(trial, values)
    return 1


def _run_next_elsewhere(
    objective: Objective,
    study_name: str,
    storage: StorageLike,
    pruner: optuna.pruners.BasePruner,
    sampler: tuple[Any, int],
    endless: bool,
    n_threads: int,
) -> int:
    """Run the next trial in another process, which opens the study, with at most `n_threads` threads."""
    torch.set_num_threads(min(n_threads, torch.get_num_threads()))
    with quiet_optuna():
        study = optuna.load_study(
            study_name=study_name, storage=open_storage(storage), pruner=pruner
        )
        if isinstance(sampler[0], BaseSampler):
            sampler[0].reseed_rng()  # or all processes would draw the same
        return _run_next(SharedStudy(study, *sampler), objective, None, endless)


def _run_in_processes(tasks: Iterator[Any], n_jobs: int) -> int:
    """Run all tasks; return the number of trials that they ran."""
    n_ran = 0
    with contextlib.suppress(TerminatedWorkerError):  # its trial is enqueued again
        pool = Parallel(
            n_jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1
        )
        for n in pool(tasks):
            n_ran += n
    return n_ran


def _while_waiting(
    run: partial[int],
    study: SharedStudy,
    progress: _Progress,
    earlier: set[int],
    deadline: float,
    endless: bool,
) -> Iterator[Any]:
    """Yield tasks one by one while there may be a trial to run."""
    while monotonic() < deadline:
        trials = study.trials()
        progress.show(trials)
        if not (endless or _any(trials, TrialState.WAITING)):
            return
        if _repeated_failure(trials, earlier) is not None:
            return
        yield delayed(run)()


def _repeated_failure(trials: Sequence[FrozenTrial], earlier: set[int]) -> str | None:
    """Return the reason if all trials but the `earlier` ones failed for the same reason, else None."""
    new = [t for t in last_attempts(trials, finished=True) if t.number not in earlier]
    reasons = {t.user_attrs.get("reason") for t in new}
    if len(new) < 3 or len(reasons) > 1 or any(t.state != TrialState.FAIL for t in new):
        return None
    return f"all of {len(new)} trials failed for the same reason: {reasons.pop()}"


def _any(trials: Sequence[FrozenTrial], state: TrialState) -> bool:
    return any(trial.state == state for trial in trials)


class _Progress:
    """The progress bar of a search: finished trials, the best score so far and the time left."""

    def __init__(self, n_trials: int | None, *, shown: bool) -> None:
        self._bar: tqdm[Any] | None = None
        self._options = {"total": n_trials, "desc": "search", "unit": "trial", "disable": not shown}

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, trials: Sequence[FrozenTrial]) -> None:
        """Show the state of these trials."""
        finished = last_attempts(trials, finished=True)
        if self._bar is None:  # trials of earlier runs do not count for the time left
            self._bar = tqdm(initial=len(finished), **self._options)
        states = [t.state for t in finished]
        scores = [mean_score(t) for t in finished if t.state == TrialState.COMPLETE]
        counts = {
            "pruned": states.count(TrialState.PRUNED),
            "failed": states.count(TrialState.FAIL),
        }
        best = f"{max(scores):.4g}" if scores else "none"
        self._bar.n = len(finished)
        self._bar.set_postfix({"best": best} | {k: n for k, n in counts.items() if n})


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's log, which would break the progress bar."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
