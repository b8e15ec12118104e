"""The folder of an unfinished training: its checkpoints, and a note of what is trained.

A fit compares the parameters of its estimator, and hashes of its data, with those of the note.
"""

from __future__ import annotations

import hashlib
import json
import numbers
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from titans_ts.datasets.atomic import ASIDE, replace_file
from titans_ts.training.fit import LAST_CHECKPOINT

__all__ = ["UnfinishedRun", "begin_fit"]

_NOTE = "run.json"
_OWN = re.compile(rf"{re.escape(_NOTE)}|{re.escape(LAST_CHECKPOINT)}|network-\d+|{ASIDE}.*")


class UnfinishedRun:
    """A folder that holds what an interrupted training needs to continue.

    The note is written before the first checkpoint and removed after the last one, so a checkpoint
    without a note is what is left of a run that had ended.

    Parameters
    ----------
    folder : Path
        The folder. It may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def seed(self) -> int | None:
        """Return the seed of the run, or None without one.

        Raises
        ------
        ValueError
            If the note is damaged.
        """
        note = self.folder / _NOTE
        return int(_read(note)["seed"]) if note.is_file() else None

    def network(self, number: int) -> Path:
        """Return the folder for the checkpoint of one of several networks."""
        return self.folder / f"network-{number}"

    def begin(self, request: dict[str, Any]) -> None:
        """Write the note, or compare it with that of the run to resume.

        Parameters
        ----------
        request : dict
            All that the result depends on, and the `seed`, as values for json.

        Raises
        ------
        ValueError
            If the folder has an unfinished run with another request, or something else.
        """
        folder, note = self.folder, self.folder / _NOTE
        text = json.dumps(request, indent=1, sort_keys=True)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{str(folder)!r} is a file; it must be free for the unfinished run")
        if folder.is_dir():
            other = sorted(p.name for p in folder.iterdir() if not _OWN.fullmatch(p.name))
            if other:
                raise ValueError(
                    f"{str(folder)!r} has {other[0]!r}, which is of no unfinished run; give a folder of "
                    "its own"
                )
        trained = any(folder.rglob(LAST_CHECKPOINT))
        if trained and not note.exists():
            self._remove_checkpoints()
        elif trained and note.read_text() != text:
            before, now = _read(note), json.loads(text)
            other = [name for name in now if before.get(name) != now[name]]
            raise ValueError(
                f"{str(folder)!r} has an unfinished run, from which this one differs in: "
                f"{', '.join(other)}; delete the folder, or give another path"
            )
        replace_file(note, text.encode())

    def end(self) -> None:
        """Remove the folder; one that cannot be removed, such as a link, is left without checkpoints."""
        self._remove_checkpoints()
        (self.folder / _NOTE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # of several processes, each comes here

    def _remove_checkpoints(self) -> None:
        for checkpoint in list(self.folder.rglob(LAST_CHECKPOINT)):
            checkpoint.unlink(missing_ok=True)


def begin_fit(estimator: Any, **data: Any) -> UnfinishedRun | None:
    """Open the folder of `training_options["resume"]` for a fit.

    Parameters
    ----------
    estimator : TitansEstimator
        The estimator, whose parameters are compared with those of the run to resume.
    **data : array, str, None, or a list of them
        What is fitted, by the name that an error shows.

    Returns
    -------
    UnfinishedRun or None
        The run; its seed takes the place of `random_state`. None if no folder is set.

    Raises
    ------
    ValueError
        As :meth:`UnfinishedRun.begin`.
    """
    folder = estimator.options("training_options").resume
    if folder is None:
        return None
    run, seed = UnfinishedRun(Path(folder)), estimator.random_state
    if not isinstance(seed, numbers.Integral):
        known = run.seed()
        seed = check_random_state(seed).randint(2**31 - 1) if known is None else known
    free = {"random_state", "progress_bar", "device", "training_options", "model_options"}
    params = {
        name: repr(value)
        for name, value in estimator.get_params().items()
        if name not in free and name.rpartition("__")[2] not in ("trainer_kwargs", "resume")
    }
    run.begin(params | {name: _hash(part) for name, part in data.items()} | {"seed": int(seed)})
    return run


def _hash(value: Any) -> str:
    """Return a hash of an array, of text, or of a list of them."""
    digest = hashlib.sha256()
    for part in value if isinstance(value, list) else [value]:
        array = np.asarray(part)
        content = array.tobytes() if array.dtype != object else repr(array.tolist()).encode()
        digest.update(f"{array.shape} {array.dtype}".encode() + content)
    return digest.hexdigest()


def _read(note: Path) -> dict[str, Any]:
    try:
        request: dict[str, Any] = json.loads(note.read_text())
        int(request["seed"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(
            f"{str(note)!r} of an unfinished run is damaged ({error}); delete its folder"
        ) from error
    return request
