"""Kill processes at random moments while they fit, search, scan and save, and go on.

    python benchmarks/kills.py                        # 50 kills of each job
    python benchmarks/kills.py --times 5 scan save    # fewer, of some jobs

Every kill (SIGKILL) is in a folder of its own. What is left is checked, and the same call runs again to
its end. Its result must be that of a run without a kill: the same bytes, or the same values. A file or
folder under a final name must be whole at every moment, and nothing may be left beside it at the end. The
moments are uniform over the time of the run without a kill; a job that ends before its kill is run again,
until `--times` of them were killed. `--seed` repeats the moments, but not exactly what runs at them.

The processes are copies of one that has imported and compiled everything and has no threads, so a run
takes as long as its work. "tune-postgresql" begins a server of its own, and is left out where PostgreSQL
is not installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
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

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.postgresql import NoServer, server
from tests.support import small_settings

TINY: dict[str, Any] = small_settings()
WAVE = np.sin(np.arange(120) / 3)
LENGTHS = {"one": 40_000, "two": 10_000}
MOST = 4
"""Number of runs for each kill that is wanted, at most: a job may end before its kill."""


@dataclass(frozen=True)
class Job:
    """What is run and killed in a folder."""

    run: Callable[[Path], Any]
    """Return what must be equal with and without a kill."""
    names: frozenset[str]
    """What may be in the folder at the end."""
    prepare: Callable[[Path], object] = lambda folder: None
    """Write what is there before."""
    whole: Callable[[Path], bool] = lambda folder: True
    """Whether what has a final name after a kill is the former or the new content."""


def forecaster(**changes: Any) -> TitansForecaster:
    settings = {"context_length": 16, "patch_length": 8, "patch_stride": 4, "blend": False}
    return TitansForecaster(4, **TINY | settings | changes)


def classifier(**changes: Any) -> TitansClassifier:
    settings = {"stride": 4, "rc": "none", "kmer_model": None}
    return TitansClassifier("nucleotide", **TINY | settings | changes)


def fitted_classifier() -> TitansClassifier:
    return classifier().fit(["ACGTTGCA" * 4, "TTTTTTTT" * 4] * 8, ["mixed", "poly-T"] * 8)


def digest(path: Path) -> str:
    """Return a hash of a file, or of all files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    parts = [file.name.encode() + file.read_bytes() for file in files if file.is_file()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def fitting() -> Job:
    """A fit of a forecaster with two networks and a blend, whose checkpoints are kept in a folder."""

    def run(folder: Path) -> str:
        model = forecaster(
            n_layers=None, preset="best", max_epochs=4, blend=True,
            training_options={"resume": folder / "run", "max_steps_per_epoch": 4},
        ).fit(WAVE)  # fmt: skip
        return repr((model.predict_quantiles().tolist(), model.predict_interval().tolist()))

    return Job(run, frozenset())


def fitting_sequences() -> Job:
    """A fit of a classifier of sequences with a k-mer model, whose checkpoints are kept in a folder."""
    rng = np.random.default_rng(0)
    X = [
        "".join(rng.choice(list("ACGT"), 40, p=p)) for p in ([0.4, 0.1, 0.1, 0.4], [0.25] * 4) * 40
    ]

    def run(folder: Path) -> str:
        options = {"resume": folder / "run"}
        model = classifier(max_epochs=4, kmer_model=2, rc="auto", training_options=options)
        return repr(model.fit(X, ["rich", "even"] * 40).predict_proba(X).tolist())

    return Job(run, frozenset())


def saving() -> Job:
    """A model that replaces another one."""
    old, new = forecaster().fit(WAVE), forecaster(random_state=1).fit(WAVE)

    def run(folder: Path) -> str:
        new.save(folder / "model")
        return digest(folder / "model")

    def whole(folder: Path) -> bool:
        found = TitansForecaster.load(folder / "model").predict()
        return any(np.array_equal(found, model.predict()) for model in (old, new))

    names = frozenset({"model"})
    return Job(run, names, lambda folder: old.save(folder / "model"), whole)


def writing() -> Job:
    """A bedGraph file that replaces another one."""
    start = np.arange(0, 39_000, 10)
    frame = pd.DataFrame({"chrom": "one", "start": start, "end": start + 10, "score": start % 7.0})
    former = b"one\t0\t1\t1\n"
    rows = len(frame)

    def run(folder: Path) -> str:
        write_track(frame, folder / "t.bedgraph", LENGTHS)
        return digest(folder / "t.bedgraph")

    def whole(folder: Path) -> bool:
        content = (folder / "t.bedgraph").read_bytes()
        return content == former or content.count(b"\n") == rows

    return Job(
        run,
        frozenset({"t.bedgraph"}),
        lambda folder: (folder / "t.bedgraph").write_bytes(former),
        whole,
    )


def write_genome(folder: Path) -> None:
    rng = np.random.default_rng(0)
    records = [f">{name}\n{''.join(rng.choice(list('ACGT'), n))}\n" for name, n in LENGTHS.items()]
    (folder / "genome.fa").write_text("".join(records))


def of_genome(run: Callable[[Path], object], out: str) -> Job:
    """Return the job of a call that reads `genome.fa` and writes the file `out`."""

    def result(folder: Path) -> str:
        run(folder)
        return digest(folder / out)

    with TemporaryDirectory() as name:
        write_genome(Path(name))
        expected = in_child(result, Path(name))

    def whole(folder: Path) -> bool:
        return not (folder / out).exists() or digest(folder / out) == expected

    return Job(result, frozenset({"genome.fa", "genome.fa.fai", out}), write_genome, whole)


def scanning() -> Job:
    """A scan of a genome, whose finished parts are kept."""
    model = fitted_classifier()
    # parts of 400 windows instead of 21 000, or a genome with several would have millions of letters
    importlib.import_module("titans_ts.genomics.scan").MAX_LETTERS = 20_000

    def run(folder: Path) -> None:
        model.scan(folder / "genome.fa", window=50, stride=25, label="mixed", out=folder / "s.bed")

    return of_genome(run, "s.bed")


def surprising() -> Job:
    """The surprise of a memory along a genome."""
    model = fitted_classifier()
    return of_genome(
        lambda folder: model.surprise(folder / "genome.fa", bin=100, out=folder / "s.bedgraph"),
        "s.bedgraph",
    )


def variants() -> Job:
    """The command `titans-ts variants`."""
    from titans_ts.pipelines.dna.variants import variants as command

    model = fitted_classifier()
    alleles = [f"one\t{position}\t.\tN\t{'ACGT'[position % 4]}" for position in range(50, 9000, 10)]

    def run(folder: Path) -> None:
        if not (folder / "genome.fa.model").exists():
            model.save(folder / "genome.fa.model")
        (folder / "x.vcf").write_text("\n".join(["##fileformat=VCFv4.2", *alleles]) + "\n")
        command(
            folder / "genome.fa", folder / "x.vcf", model=folder / "genome.fa.model",
            out=folder / "effects.csv", window=50, label="mixed", quiet=True,
        )  # fmt: skip

    job = of_genome(run, "effects.csv")
    names = job.names | {"x.vcf", "genome.fa.model"}
    return Job(job.run, names, job.prepare, job.whole)


def searching(storage: Callable[[Path], str], *names: str) -> Job:
    """A search that its storage lets continue."""

    def run(folder: Path) -> Any:
        found = TitansSearch(
            forecaster(),
            {"learning_rate": FloatDistribution(1e-3, 1e-1, log=True)},
            n_trials=3,
            cv=2,
            random_state=0,
            progress_bar=False,
            storage=storage(folder),
            study_name=folder.name,
        ).fit(WAVE)
        trials = [
            (params["learning_rate"], score, str(state))
            for params, score, state in zip(
                *(found.cv_results_[name] for name in ("params", "mean_test_score", "state")),
                strict=True,
            )
        ]
        return repr((trials, found.predict().tolist()))  # as text, because NaN is not NaN

    return Job(run, frozenset(names))


def pretraining() -> Job:
    """A model of letters, whose unfinished training is kept."""
    model = classifier(batch_size=64, max_epochs=3, training_options={"max_steps_per_epoch": 5})

    def run(folder: Path) -> str:
        model.pretrain(folder / "genome.fa", folder / "letters", window=256)
        return digest(folder / "letters")

    return Job(
        run,
        frozenset({"genome.fa", "genome.fa.fai", "letters"}),
        write_genome,
        lambda folder: not (folder / "letters").exists() or model_loads(folder / "letters"),
    )


def model_loads(path: Path) -> bool:
    """Return whether a model directory is whole: its hash is right."""
    from titans_ts.nn.checkpoint import load_directory

    return bool(load_directory(path))


JOBS: dict[str, Callable[[], Job]] = {
    "fit": fitting,
    "fit-sequences": fitting_sequences,
    "save": saving,
    "track": writing,
    "scan": scanning,
    "variants": variants,
    "surprise": surprising,
    "pretrain": pretraining,
    "tune-sqlite": partial(searching, lambda folder: f"sqlite:///{folder}/study.db", "study.db"),
    "tune-journal": partial(searching, lambda folder: f"{folder}/journal", "journal"),
}


def begin(work: Callable[[], Any]) -> tuple[int, int]:
    """Work in a process of its own; return its number, and a pipe: a byte when it begins, its result."""
    read, write = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.close(read)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.write(write, b".")
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(work(), pipe)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    os.read(read, 1)
    return process, read


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, and return its result."""
    return end(*begin(partial(function, *arguments)))


def end(process: int, pipe: int) -> Any:
    """Wait for a process of :func:`begin`, and return its result."""
    with os.fdopen(pipe, "rb") as file:
        content = file.read()
    _, status = os.waitpid(process, 0)
    if status:
        raise RuntimeError(f"a job ended with status {status}")
    return pickle.loads(content)


def kill_once(job: Job, moment: float) -> tuple[bool, bool, list[str], Any]:
    """Return whether it was killed in time, whether all was whole, what was left, the result."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        job.prepare(folder)
        process, pipe = begin(partial(job.run, folder))
        time.sleep(moment)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        os.close(pipe)
        try:
            whole = in_child(job.whole, folder)
        except RuntimeError:
            whole = False
        result = in_child(job.run, folder)
        left = sorted(p.name for p in folder.iterdir() if p.name not in job.names)
        return os.waitstatus_to_exitcode(status) < 0, whole, left, result


def undisturbed(job: Job) -> tuple[float, Any]:
    """Return the seconds of a job, and its result."""
    with TemporaryDirectory() as name:
        job.prepare(Path(name))
        process, pipe = begin(partial(job.run, Path(name)))
        began = time.perf_counter()
        result = end(process, pipe)
        return time.perf_counter() - began, result


def kill(name: str, job: Job, times: int, minutes: float, rng: np.random.Generator) -> str:
    """Kill a job `times` times, for `minutes` at most, and return its row of the table."""
    seconds, expected = min((undisturbed(job) for _ in range(2)), key=lambda one: one[0])
    found: list[tuple[bool, list[str], Any]] = []
    n_runs, begun = 0, time.perf_counter()
    until = begun + 60 * minutes
    while len(found) < times and n_runs < MOST * times and time.perf_counter() < until:
        in_time, *rest = kill_once(job, rng.uniform(0, seconds))
        n_runs += 1
        if in_time or rest[0] is False:
            found.append(tuple(rest))
    counts = (
        len(found),
        sum(not whole for whole, _, _ in found),
        sum(bool(left) for _, left, _ in found),
        sum(result != expected for *_, result in found),
    )
    for left in sorted({tuple(left) for _, left, _ in found if left}):
        print(f"left beside by {name}: {', '.join(left)}", file=sys.stderr)
    spent = (time.perf_counter() - begun) / 60
    return f"| {name} | {seconds:.2f} | {' | '.join(map(str, counts))} | {spent:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choices = [*JOBS, "tune-postgresql"]
    parser.add_argument(
        "jobs", nargs="*", metavar="job", help=f"of {', '.join(choices)} (default: all)"
    )
    parser.add_argument("--times", type=int, default=50, help="kills of each job (default 50)")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="most for each job (default: no limit)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(options.seed)
    with ExitStack() as stack:
        wanted = options.jobs or choices
        if "tune-postgresql" in wanted:
            try:
                url = stack.enter_context(server())
                JOBS["tune-postgresql"] = partial(searching, lambda folder: url)
            except NoServer as error:
                print(f"tune-postgresql is left out: {error}", file=sys.stderr)
                wanted = [name for name in wanted if name != "tune-postgresql"]
        print("| job | seconds | kills | not whole | left beside | other result | minutes |")
        print("|---|---|---|---|---|---|---|")
        for name in wanted:
            print(kill(name, JOBS[name](), options.times, options.minutes, rng), flush=True)


if __name__ == "__main__":
    main()
