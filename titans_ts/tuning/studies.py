"""A study that several processes work on, and that outlives any of them.

Trials to come lie in the study as waiting slots: a slot is claimed once, whoever asks, and a study ends
with as many trials as it was given slots. A running trial names its owner: the machine, the process, and
a beat that the owner renews. A trial whose process is gone, or whose beat stands still, is marked as
failed, and a slot with its parameters takes its place, which is claimed first. Samplers and pruners see
the study as if there had been no interruption.
"""

from __future__ import annotations

import copy
import os
import platform
import tempfile
import threading
import time
import weakref
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

__all__ = [
    "SAMPLERS",
    "SharedStudy",
    "begun_elsewhere",
    "check_sampler",
    "open_storage",
    "pruner_by_name",
    "shared_journal",
]

SAMPLERS = {"tpe": TPESampler, "random": RandomSampler}
"""Samplers by name."""

_BEAT = 20.0
"""Seconds between two beats of an owner."""

_GRACE = 120.0
"""Seconds a beat may stand still."""

_LOCKED = 60.0
"""Seconds to wait for another process that writes to SQLite."""

_PATIENCE = 10.0
"""Seconds to wait for the first slots of a study that another process began."""

_RETRIES = 2
"""Times that a trial whose process died is tried again."""


def open_storage(storage: Any) -> BaseStorage:
    """Where a study lies: a URL of a database, a file for a journal, or Optuna's own storage.

    Raises
    ------
    ValueError
        If it is none of these, or a URL that cannot be opened.
    """
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if isinstance(storage, BaseStorage):
        return storage
    if not isinstance(storage, (str, Path)):
        raise ValueError(
            f"storage is {storage!r}; give a URL such as 'sqlite:///study.db', or a file for a journal"
        )
    if "://" in str(storage):
        return _database(str(storage))
    # Windows lets few make links, which the usual lock is
    lock = JournalFileOpenLock(str(storage)) if os.name == "nt" else None
    return JournalStorage(JournalFileBackend(str(storage), lock))


def _database(url: str) -> RDBStorage:
    shown = url.partition("://")[0] + "://..."  # what is not read may hold a password
    try:
        shown = make_url(url).render_as_string()
        lite = url.startswith("sqlite")
        storage = RDBStorage(url, {"connect_args": {"timeout": _LOCKED}} if lite else None)
    except (ImportError, ValueError, SQLAlchemyError) as error:
        raise ValueError(f"storage is {shown!r}, which cannot be opened: {error}") from error
    if lite:  # it locks no rows, so that two who read before either writes would claim one slot
        event.listen(storage.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    weakref.finalize(storage, storage.engine.dispose)  # or its connections are left open
    return storage


def pruner_by_name(pruner: Any) -> optuna.pruners.BasePruner:
    """What ends hopeless trials: by name, or Optuna's own.

    Raises
    ------
    ValueError
        If it is neither.
    """
    named = {
        "asha": optuna.pruners.SuccessiveHalvingPruner(min_resource=9, reduction_factor=3),
        "hyperband": optuna.pruners.HyperbandPruner(min_resource=9, max_resource=81),
        "median": optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=9),
        "none": optuna.pruners.NopPruner(),
    }
    if isinstance(pruner, optuna.pruners.BasePruner):
        return pruner
    if not isinstance(pruner, str) or pruner not in named:
        raise ValueError(f"pruner is {pruner!r}; choose one of {list(named)}, or one of Optuna's")
    return named[pruner]


def check_sampler(sampler: Any) -> None:
    """Raise ValueError unless it is a key of :data:`SAMPLERS`, or one of Optuna's."""
    named = isinstance(sampler, str) and sampler in SAMPLERS
    if not named and not isinstance(sampler, BaseSampler):
        raise ValueError(
            f"sampler is {sampler!r}; choose one of {list(SAMPLERS)}, or one of Optuna's"
        )


def begun_elsewhere(study: optuna.Study) -> bool:
    """Wait for the first slots of a study that another process began; whether they came."""
    patience = time.monotonic() + _PATIENCE
    while "slots" not in study.user_attrs:
        if time.monotonic() > patience:
            return False
        time.sleep(0.1)
    return True


class SharedStudy:
    """Slots, owners and beats around an Optuna study.

    Parameters
    ----------
    study : optuna.Study
        The study.
    sampler : str or BaseSampler
        A key of :data:`SAMPLERS`; then every trial draws with a seed of its own, so that what a trial
        tries depends on its number and on the trials before it, and on no interruption.
    seed : int
        For samplers by name.
    """

    def __init__(self, study: optuna.Study, sampler: Any = "tpe", seed: int = 0) -> None:
        self.study, self.sampler, self.seed = study, sampler, seed
        self._storage: BaseStorage = study._storage
        self._whole = _Uninterrupted(study.study_name, study._storage, study.sampler, study.pruner)
        self._seen: dict[int, tuple[Any, float]] = {}
        check_sampler(sampler)
        if isinstance(sampler, BaseSampler):
            self._whole.sampler = sampler

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials in any of these states, as they are now; without, all."""
        found: list[FrozenTrial] = self.study.get_trials(deepcopy=False, states=states or None)
        return found

    def finished(self) -> list[FrozenTrial]:
        """Trials that came to an end, as they were begun; of one that was tried again the last try."""
        return [t for t in _last_tries(self.trials()) if t.state.is_finished()]

    def add_slots(self, n_trials: int, first: list[dict[str, Any]]) -> None:
        """Make it a study of `n_trials` trials, those that were tried again counted once.

        The first slots have parameters that are tried in any case. Only the process that began the study
        may add its first slots (:func:`begun_elsewhere` waits for them).
        """
        known = sum("retry_of" not in t.user_attrs for t in self.trials())
        for number in range(known, n_trials):
            self._add_slot(first[number] if number < len(first) else {}, {})
        self.study.set_user_attr("slots", max(known, n_trials))

    def claim(self) -> Trial | None:
        """The next slot as a running trial of this process; None if there is none."""
        for waiting in sorted(self.trials(TrialState.WAITING), key=_begun_as):
            try:
                if self._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
                    return self._begun(waiting)
            except optuna.exceptions.UpdateFinishedTrialError:
                continue  # another one had it, and has finished
        return None

    def new(self) -> Trial:
        """A running trial of this process, beyond all slots."""
        while (trial := self.claim()) is None:  # another one may be faster
            self._add_slot({}, {})
        return trial

    @contextmanager
    def beating(self, trial: Trial) -> Iterator[None]:
        """Renew a trial's beat while it runs."""
        done = threading.Event()

        def beat() -> None:
            count = 0
            while not done.wait(_BEAT):
                count += 1
                with suppress(Exception):  # it was taken for dead, or the next one gets through
                    self._storage.set_trial_user_attr(trial._trial_id, "beat", count)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def tell(self, trial: Trial, values: Any = None, state: TrialState | None = None) -> None:
        """Note how a trial ended, unless it was taken for dead meanwhile."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._whole.tell(trial, values, state, skip_if_finished=True)

    def give_back(self, trial: Trial) -> None:
        """Let somebody else run a trial that this process cannot finish."""
        self._retire(self._frozen(trial), "interrupted", retries=None)

    def revive(self) -> None:
        """Fail trials whose owner is dead, and put slots with their parameters in their place."""
        running = self.trials(TrialState.RUNNING)
        for trial in running:
            if self._is_dead(trial):
                self._retire(trial, "its process died", retries=_RETRIES)
        alive = {t.number for t in running}
        self._seen = {number: seen for number, seen in self._seen.items() if number in alive}

    def _begun(self, waiting: FrozenTrial) -> Trial:
        self._storage.set_trial_user_attr(waiting._trial_id, "owner", _this_process())
        if not isinstance(self.sampler, BaseSampler):
            self._whole.sampler = SAMPLERS[self.sampler](seed=self.seed + _begun_as(waiting))
        return Trial(self._whole, waiting._trial_id)

    def _add_slot(self, params: dict[str, Any], attributes: dict[str, Any]) -> None:
        if params:
            self.study.enqueue_trial(params, user_attrs=attributes)
        else:
            empty = optuna.create_trial(state=TrialState.WAITING, user_attrs=attributes)
            self.study.add_trial(empty)

    def _retire(self, trial: FrozenTrial, reason: str, retries: int | None) -> None:
        tried = trial.user_attrs.get("tried", 0)
        again = retries is None or tried < retries
        try:
            self._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
            if not self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL):
                return
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # another one did so
        if again:
            tried += retries is not None
            params = trial.system_attrs.get("fixed_params", {}) | trial.params
            attributes = {"retry_of": trial.number, "begun_as": _begun_as(trial), "tried": tried}
            self._add_slot(params, attributes)

    def _is_dead(self, trial: FrozenTrial) -> bool:
        owner: Any = trial.user_attrs.get("owner", {})
        here = owner.get("host") == _this_machine()
        if here and _started(owner["pid"]) != owner["started"]:
            return True
        state, now = trial.user_attrs.get("beat", 0), time.monotonic()
        beat, since = self._seen.get(trial.number, (None, now))
        if beat != state or trial.number not in self._seen:
            self._seen[trial.number] = state, now
            return False
        return now - since > _GRACE

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return next(t for t in self.trials() if t.number == trial.number)


class _Uninterrupted(optuna.Study):
    """What samplers and pruners see: of a trial that was tried again its last try, in its place."""

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = []
        for trial in _last_tries(super()._get_trials(False, None, use_cache)):
            if "begun_as" in trial.user_attrs:
                trial = copy.copy(trial)
                trial.number = _begun_as(trial)
            if states is None or trial.state in states:
                trials.append(copy.deepcopy(trial) if deepcopy else trial)
        return trials

    def stop(self) -> None:
        """Do nothing, where a sampler has tried all there is: the slots say when a study ends."""


def _begun_as(trial: FrozenTrial) -> int:
    """The number of a trial's first try."""
    return int(trial.user_attrs.get("begun_as", trial.number))


def _last_tries(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Trials but for those that were tried again, in the order they were begun."""
    again = {trial.user_attrs.get("retry_of") for trial in trials}
    return sorted((t for t in trials if t.number not in again), key=_begun_as)


def _this_process() -> dict[str, Any]:
    return {"host": _this_machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _this_machine() -> str:
    """Where the numbers of processes are this one's: names alone are given twice, as to containers."""
    told = [platform.node()]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        told.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(told)


def _started(pid: int) -> str | None:
    """When a process of this machine began, so that its number is not taken for a later one's."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # after the name, which may hold anything
            known = file.read().rpartition(")")[2].split()
            return None if known[0] in "ZX" else known[19]  # it has ended, and nobody has noticed
    except OSError:
        pass
    if os.name == "nt":  # where the next line would end it
        return "unknown"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return "unknown"
    return "unknown"


@contextmanager
def shared_journal() -> Iterator[str]:
    """A journal for processes of one run, gone with it."""
    with tempfile.TemporaryDirectory(prefix="titans-ts-") as folder:
        yield str(Path(folder) / "journal")
