"""Kill processes at random moments while they save, scan, search and pretrain, and go on.

    python benchmarks/kills.py                    # 50 kills of each job
    python benchmarks/kills.py --kills 5 scan     # fewer, of one job

Every kill (SIGKILL) is in a folder of its own. What is left is checked, and the same call runs again to
its end. Its result must be that of a run without a kill: the same bytes, or the same values. A file or
folder under a final name must be whole at every moment, and nothing may be left beside it at the end. The
moments are uniform over the time of the run without a kill. `--seed` repeats them, but not exactly.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.distributions import FloatDistribution

from titans_ts import TitansClassifier, TitansForecaster, TitansSearch
from titans_ts.datasets import write_track

TINY: dict[str, Any] = {
    "d_model": 16,
    "n_heads": 2,
    "n_layers": 1,
    "max_epochs": 1,
    "random_state": 0,
    "progress_bar": False,
}
WAVE = np.sin(np.arange(120) / 3)
LENGTHS = {"one": 200_000, "two": 50_000}


@dataclass(frozen=True)
class Job:
    """What is run and killed in a folder."""

    prepare: Callable[[Path], None]
    """Write what is there before."""
    run: Callable[[Path], None]
    whole: Callable[[Path], bool]
    """Whether what has a final name after a kill is the former or the new content."""
    result: Callable[[Path], Any]
    """What must be equal with and without a kill, after the run that was not killed."""
    names: frozenset[str]
    """What may be in the folder at the end."""


def forecaster(**changes: Any) -> TitansForecaster:
    settings = {"context_length": 16, "patch_length": 8, "patch_stride": 4, "blend": False}
    return TitansForecaster(4, **TINY | settings | changes)


def digest(path: Path) -> str:
    """Return a hash of a file, or of all files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    parts = [file.name.encode() + file.read_bytes() for file in files if file.is_file()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def saving() -> Job:
    """A model that replaces another one."""
    old, new = forecaster().fit(WAVE), forecaster(random_state=1).fit(WAVE)

    def whole(folder: Path) -> bool:
        found = TitansForecaster.load(folder / "model").predict()
        return any(np.array_equal(found, model.predict()) for model in (old, new))

    return Job(
        lambda folder: old.save(folder / "model"),
        lambda folder: new.save(folder / "model"),
        whole,
        lambda folder: digest(folder / "model"),
        frozenset({"model"}),
    )


def tracks() -> Job:
    """A bedGraph file that replaces another one."""
    start = np.arange(0, 199_000, 10)
    frame = pd.DataFrame({"chrom": "one", "start": start, "end": start + 10, "score": start % 7.0})
    former = b"one\t0\t1\t1\n"

    def whole(folder: Path) -> bool:
        content = (folder / "t.bedgraph").read_bytes()
        return content == former or content.count(b"\n") == len(frame)

    return Job(
        lambda folder: (folder / "t.bedgraph").write_bytes(former) and None,
        lambda folder: write_track(frame, folder / "t.bedgraph", LENGTHS),
        whole,
        lambda folder: digest(folder / "t.bedgraph"),
        frozenset({"t.bedgraph"}),
    )


def write_genome(folder: Path) -> None:
    rng = np.random.default_rng(0)
    records = [f">{name}\n{''.join(rng.choice(list('ACGT'), n))}\n" for name, n in LENGTHS.items()]
    (folder / "genome.fa").write_text("".join(records))


def classifier() -> TitansClassifier:
    return TitansClassifier("nucleotide", stride=4, rc="none", kmer_model=None, **TINY)


def scanning() -> Job:
    """A scan of a genome, whose finished parts are kept."""
    model = classifier().fit(["ACGTTGCA" * 4, "TTTTTTTT" * 4] * 8, ["mixed", "poly-T"] * 8)

    def run(folder: Path) -> None:
        model.scan(folder / "genome.fa", window=50, stride=25, label="mixed", out=folder / "s.bed")

    def whole(folder: Path) -> bool:
        out = folder / "s.bed"
        return not out.exists() or out.read_bytes().count(b"\n") == rows

    with TemporaryDirectory() as folder:
        write_genome(Path(folder))
        run(Path(folder))
        rows = (Path(folder) / "s.bed").read_bytes().count(b"\n")
    return Job(
        write_genome,
        run,
        whole,
        lambda folder: digest(folder / "s.bed"),
        frozenset({"genome.fa", "genome.fa.fai", "s.bed"}),
    )


def searching() -> Job:
    """A search whose study is in SQLite."""

    def search(folder: Path) -> TitansSearch:
        space = {"learning_rate": FloatDistribution(1e-3, 1e-1, log=True)}
        storage = f"sqlite:///{folder / 'study.db'}"
        return TitansSearch(
            forecaster(), space, n_trials=3, random_state=0, progress_bar=False,
            storage=storage, study_name="s",
        )  # fmt: skip

    def result(folder: Path) -> Any:
        found = search(folder).fit(WAVE)  # nothing is left to do but the last fit
        params = [p["learning_rate"] for p in found.cv_results_["params"]]
        scores = found.cv_results_["mean_test_score"].tolist()  # NaN for a trial that was pruned
        return repr((params, scores, found.predict().tolist()))

    return Job(
        lambda folder: None,
        lambda folder: search(folder).fit(WAVE) and None,
        lambda folder: True,
        result,
        frozenset({"study.db"}),
    )


def pretraining() -> Job:
    """A model of letters, whose unfinished training is kept."""

    def run(folder: Path) -> None:
        TitansClassifier(
            "nucleotide", stride=4, rc="none", kmer_model=None, batch_size=64,
            **TINY | {"max_epochs": 3, "training_options": {"max_steps_per_epoch": 5}},
        ).pretrain(folder / "genome.fa", folder / "letters", window=256)  # fmt: skip

    return Job(
        write_genome,
        run,
        lambda folder: not (folder / "letters").exists() or len(digest(folder / "letters")) == 64,
        lambda folder: digest(folder / "letters" / "model.safetensors"),
        frozenset({"genome.fa", "genome.fa.fai", "letters"}),
    )


JOBS = {
    "save": saving,
    "track": tracks,
    "scan": scanning,
    "search": searching,
    "pretrain": pretraining,
}


def started(job: Job, folder: Path) -> int:
    """Run a job in a process of its own, and return its number."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            job.run(folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return process


def finish(job: Job, folder: Path) -> None:
    """Run a job to its end in a process of its own."""
    _, status = os.waitpid(started(job, folder), 0)
    if status:
        raise RuntimeError(f"the job ended with status {status}")


def kill_once(job: Job, moment: float) -> tuple[bool, bool, list[str], Any]:
    """Return whether it was killed in time, whether all was whole, what was left, the result."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        job.prepare(folder)
        process = started(job, folder)
        time.sleep(moment)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        whole = job.whole(folder)
        finish(job, folder)
        left = sorted(p.name for p in folder.iterdir() if p.name not in job.names)
        return os.waitstatus_to_exitcode(status) < 0, whole, left, job.result(folder)


def undisturbed(job: Job) -> tuple[float, Any]:
    """Return the seconds of a job, and its result."""
    with TemporaryDirectory() as name:
        job.prepare(Path(name))
        begin = time.perf_counter()
        finish(job, Path(name))
        return time.perf_counter() - begin, job.result(Path(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "jobs", nargs="*", metavar="job", help=f"of {', '.join(JOBS)} (default: all)"
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(options.seed)
    print("| job | seconds | kills in time | not whole | left beside | other result |")
    print("|---|---|---|---|---|---|")
    for name in options.jobs or JOBS:
        job = JOBS[name]()
        seconds, expected = undisturbed(job)
        found = [kill_once(job, rng.uniform(0, seconds)) for _ in range(options.kills)]
        counts = (
            sum(in_time for in_time, _, _, _ in found),
            sum(not whole for _, whole, _, _ in found),
            sum(bool(left) for _, _, left, _ in found),
            sum(result != expected for *_, result in found),
        )
        print(f"| {name} | {seconds:.2f} | {' | '.join(map(str, counts))} |", flush=True)
        for left in sorted({tuple(left) for _, _, left, _ in found if left}):
            print(f"left beside by {name}: {', '.join(left)}", file=sys.stderr)


if __name__ == "__main__":
    main()
