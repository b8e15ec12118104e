"""A study that several processes work on, and that continues after the end of any of them.

Trials that have not run yet are in the study as waiting trials. A process takes one with
:meth:`SharedStudy.pop_waiting_trial`; no other process can then take the same trial. A study ends with as
many trials as were enqueued. A running trial records its owner (machine and process) and has a heartbeat
that the owner renews. If the process has ended, or the heartbeat is not renewed, the trial is marked as
failed, and a waiting trial with its parameters is added, which is taken before all others. Samplers and
pruners get the trials as if there had been no interruption.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from titans_ts.tuning.owners import is_gone, this_process
from titans_ts.tuning.strategies import SAMPLERS, SamplerName, check_sampler

__all__ = [
    "HEARTBEAT_SECONDS",
    "INITIALISATION_SECONDS",
    "STALE_SECONDS",
    "SharedStudy",
    "first_number",
    "last_attempts",
    "wait_until_initialised",
]

HEARTBEAT_SECONDS = 20.0
"""Seconds between two heartbeats."""

STALE_SECONDS = 120.0
"""Seconds without a heartbeat after which a trial's process is considered dead."""

INITIALISATION_SECONDS = 10.0
"""Seconds to wait for the first trials of a study that another process created."""

_RETRIES = 2
"""Number of times that a trial whose process died is tried again."""


def wait_until_initialised(study: optuna.Study) -> None:
    """Wait until the process that created a study has enqueued its first trials.

    The wait ends after :data:`INITIALISATION_SECONDS`.
    """
    deadline = monotonic() + INITIALISATION_SECONDS
    while "n_trials" not in study.user_attrs and monotonic() <= deadline:
        sleep(0.1)


_TAKER = "taker "
"""Prefix of an attribute of a trial: a process that tried to take it."""


class SharedStudy:
    """Waiting trials, owners and heartbeats around an Optuna study.

    A method with an argument `trials` takes the list that :meth:`trials` returned, and does not read the
    storage again. So a loop reads all trials only once in every pass.

    Parameters
    ----------
    study : optuna.Study
        The study.
    sampler : {"tpe", "random"} or BaseSampler
        The sampler (default "tpe"). If it is given by name, every trial draws with its own seed: its
        parameters depend on its number and on the trials before it, and not on interruptions.
    seed : int
        Seed of a sampler that is given by name (default 0).
    """

    def __init__(
        self, study: optuna.Study, sampler: SamplerName | BaseSampler = "tpe", seed: int = 0
    ) -> None:
        self.study, self.sampler, self.seed = study, sampler, seed
        self._storage: BaseStorage = study._storage
        self._view = _RetryView(study.study_name, study._storage, study.sampler, study.pruner)
        self._heartbeats: dict[int, tuple[Any, float]] = {}
        check_sampler(sampler)
        if isinstance(sampler, BaseSampler):
            self._view.sampler = sampler

    def trials(self) -> list[FrozenTrial]:
        """Read all trials from the storage."""
        trials: list[FrozenTrial] = self.study.get_trials(deepcopy=False)
        return trials

    def enqueue_trials(self, n_trials: int, first: Sequence[dict[str, Any]] = ()) -> None:
        """Add waiting trials until the study has `n_trials`; a retried trial counts once.

        The first trials get the parameters in `first` (default: none). Only the process that creates a
        study may enqueue its first trials; the others call :func:`wait_until_initialised`.
        """
        n_known = sum("retry_of" not in t.user_attrs for t in self.trials())
        for number in range(n_known, n_trials):
            self._enqueue(first[number] if number < len(first) else {}, {})
        self.study.set_user_attr("n_trials", max(n_known, n_trials))

    def pop_waiting_trial(self, trials: Sequence[FrozenTrial] | None = None) -> Trial | None:
        """Take the next waiting trial of `trials` for this process; return None if there is none.

        `trials` may be out of date: a trial that another process has taken since then is skipped. By
        default the trials are read from the storage.
        """
        self._view.turn = trials = self.trials() if trials is None else trials
        for waiting in sorted(_in_state(trials, TrialState.WAITING), key=first_number):
            note = self._storage.set_trial_user_attr
            try:
                # before it is taken, so that it has a name if this process dies in between
                note(waiting._trial_id, _TAKER + _me(), this_process())
                if self._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
                    return self._begin(waiting)
                note(waiting._trial_id, _TAKER + _me(), None)  # another process has it
            except optuna.exceptions.UpdateFinishedTrialError:
                continue  # another process has taken it, and has finished
        return None

    def add_trial(self) -> Trial:
        """Add a trial to those that were enqueued, and take it."""
        while (trial := self.pop_waiting_trial()) is None:  # another process may take what we add
            self._enqueue({}, {})
        return trial

    @contextmanager
    def heartbeat(self, trial: Trial) -> Iterator[None]:
        """Renew the heartbeat of a trial while it runs."""
        stop = threading.Event()

        def beat() -> None:
            count = 0
            while not stop.wait(HEARTBEAT_SECONDS):
                count += 1
                with suppress(Exception):  # the trial was taken for dead, or the storage was away
                    self._storage.set_trial_user_attr(trial._trial_id, "heartbeat", count)

        thread = threading.Thread(target=beat, name="titans-ts heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def tell(
        self, trial: Trial, values: Sequence[float] | None = None, state: TrialState | None = None
    ) -> None:
        """Record how a trial ended, unless it was marked as failed meanwhile."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._view.tell(trial, values, state, skip_if_finished=True)

    def requeue(self, trial: Trial) -> None:
        """Enqueue again a trial that this process cannot finish."""
        self._retire(self._storage.get_trial(trial._trial_id), "interrupted", retries=None)

    def requeue_stale_trials(self, trials: Sequence[FrozenTrial] | None = None) -> bool:
        """Mark the trials whose process is dead as failed, and enqueue their parameters again.

        By default the trials are read from the storage.

        Returns
        -------
        bool
            Whether a trial was marked as failed; `trials` is then out of date.
        """
        running = _in_state(self.trials() if trials is None else trials, TrialState.RUNNING)
        stale = [trial for trial in running if self._is_stale(trial)]
        for trial in stale:
            self._retire(trial, "its process died", retries=_RETRIES)
        numbers = {t.number for t in running}
        self._heartbeats = {n: seen for n, seen in self._heartbeats.items() if n in numbers}
        return bool(stale)

    def _begin(self, waiting: FrozenTrial) -> Trial:
        self._storage.set_trial_user_attr(waiting._trial_id, "owner", this_process())
        if not isinstance(self.sampler, BaseSampler):
            self._view.sampler = SAMPLERS[self.sampler](seed=self.seed + first_number(waiting))
        return Trial(self._view, waiting._trial_id)

    def _enqueue(self, params: dict[str, Any], attributes: dict[str, Any]) -> None:
        if params:
            self.study.enqueue_trial(params, user_attrs=attributes)
        else:
            empty = optuna.create_trial(state=TrialState.WAITING, user_attrs=attributes)
            self.study.add_trial(empty)

    def _retire(self, trial: FrozenTrial, reason: str, retries: int | None) -> None:
        n_retries = trial.user_attrs.get("n_retries", 0)
        try:
            self._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
            if not self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL):
                return
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # another process was faster
        if retries is None or n_retries < retries:
            n_retries += retries is not None
            params = trial.system_attrs.get("fixed_params", {}) | trial.params
            attributes = {
                "retry_of": trial.number,
                "first_number": first_number(trial),
                "n_retries": n_retries,
            }
            self._enqueue(params, attributes)

    def _is_stale(self, trial: FrozenTrial) -> bool:
        if "owner" in trial.user_attrs:
            if is_gone(trial.user_attrs["owner"]):
                return True
        else:  # one of those that tried to take it has it, and has not written so yet
            takers = [v for k, v in trial.user_attrs.items() if k.startswith(_TAKER) and v]
            if takers and all(map(is_gone, takers)):
                return True
        count, now = trial.user_attrs.get("heartbeat", 0), monotonic()
        last, since = self._heartbeats.get(trial.number, (None, now))
        if last != count or trial.number not in self._heartbeats:
            self._heartbeats[trial.number] = count, now
            return False
        return now - since > STALE_SECONDS


class _RetryView(optuna.Study):
    """View of the study that shows a retried trial once, by its last attempt."""

    turn: Sequence[FrozenTrial] | None = None
    """The trials of this pass of the loop, for samplers that accept a list that may be out of date."""

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = []
        current = self.turn if use_cache else None
        if current is None:
            current = super()._get_trials(deepcopy=False)
        for trial in last_attempts(current):
            if "first_number" in trial.user_attrs:
                trial = copy.copy(trial)
                trial.number = first_number(trial)
            if states is None or trial.state in states:
                trials.append(copy.deepcopy(trial) if deepcopy else trial)
        return trials

    def stop(self) -> None:
        """Do nothing if a sampler has tried every value: a study ends after its enqueued trials."""


def _me() -> str:
    owner = this_process()
    return f"{owner['pid']} {owner['started']}"


def first_number(trial: FrozenTrial) -> int:
    """Return the number of a trial's first attempt."""
    return int(trial.user_attrs.get("first_number", trial.number))


def last_attempts(trials: Sequence[FrozenTrial], *, finished: bool = False) -> list[FrozenTrial]:
    """Return the trials in the order of their first attempts, without those that were retried.

    With `finished`, only trials that have ended are returned (default: all).
    """
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    last = (t for t in trials if t.number not in retried)
    return sorted((t for t in last if t.state.is_finished() or not finished), key=first_number)


def _in_state(trials: Sequence[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == state]
